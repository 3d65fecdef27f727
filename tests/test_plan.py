from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given

from onnxprune.errors import GroupNotFound, PlanError, PlanMismatch
from onnxprune.plan import Plan, check_coupling, check_model, diff, invert, merge
from onnxprune.values import Coupling, EqualCount, Group, Options
from tests.plan_cases import MODEL, OPTIONS, SAME_MODEL, SIZES, plans, small


def deep() -> list[Any]:
    tree: list[Any] = []
    for _ in range(100_000):
        tree = [tree]
    return tree


def selection(plan: Plan) -> dict[str, Any]:
    return {"units": {k: v.tolist() for k, v in plan.units.items()}, **{k: v.tolist() for k, v in plan.weights.items()}}


class TestValue:
    def test_lists_are_sorted_and_copied(self) -> None:
        given_units, given_mask = np.array([5, 1]), np.zeros(4, np.bool_)
        plan = Plan(MODEL, {"g": given_units}, {"g": 6}, {"w": given_mask})
        given_units[0], given_mask[0] = 2, True
        assert plan.units["g"].tolist() == [1, 5]
        assert not plan.weights["w"].any()

    def test_nothing_in_a_plan_can_be_changed(self) -> None:
        plan = small()
        with pytest.raises(ValueError, match="read-only"):
            plan.units["conv1"][0] = 1
        with pytest.raises(ValueError, match="read-only"):
            plan.weights["w"][0, 0] = False
        with pytest.raises(TypeError, match="does not support item assignment"):
            plan.units["conv1"] = np.zeros(1, np.int64)  # type: ignore[index]

    def test_a_mask_that_nobody_can_change_is_not_copied(self) -> None:
        mask = np.zeros(4, np.bool_)
        mask.setflags(write=False)
        assert Plan(MODEL, weights={"w": mask}).weights["w"] is mask

    def test_groups_that_lose_nothing_are_left_out_of_units_but_keep_their_size(self) -> None:
        plan = Plan(MODEL, {"a": [], "b": [0]}, {"a": 3, "b": 2})
        assert list(plan.units) == ["b"]
        assert plan.group_sizes == {"a": 3, "b": 2}

    def test_counts(self) -> None:
        assert (small().removed_units, small().removed_weights) == (4, 3)

    @given(plans())
    def test_pickle_and_deepcopy_give_an_equal_plan(self, plan: Plan) -> None:
        for other in (pickle.loads(pickle.dumps(plan)), copy.deepcopy(plan)):  # noqa: S301 - our own bytes
            assert other == plan
            assert hash(other) == hash(plan)

    def test_each_field_counts_for_equality(self) -> None:
        base = small()
        fields = {name: getattr(base, name) for name in base.__dataclass_fields__}
        changes: dict[str, Any] = {
            "model_hash": "other", "units": {"conv1": [0]}, "group_sizes": {"conv1": 10, "fc": 2}, "weights": {},
            "options": Options(), "recipe": {}, "model_name": "",
        }  # fmt: skip
        assert base == Plan(**fields)
        assert all(base != Plan(**{**fields, name: value}) for name, value in changes.items())
        assert base != "a plan"

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"units": {"g": [6]}, "group_sizes": {"g": 6}}, r'groups\["g"\]\.removed\[0\]: unit 6 is out of range'),
            ({"units": {"g": [0, -1]}, "group_sizes": {"g": 6}}, r"removed\[1\]: unit -1 is out of range"),
            ({"units": {"g": [2**80]}, "group_sizes": {"g": 6}}, r"removed\[0\]: unit \d+ is out of range"),
            ({"units": {"g": [1, 4, 1]}, "group_sizes": {"g": 6}}, "unit 1 is there twice"),
            ({"units": {"g": [True]}, "group_sizes": {"g": 6}}, "got 1-D bool, expected a list of whole numbers"),
            ({"units": {"g": [0.5]}, "group_sizes": {"g": 6}}, "got 1-D float64, expected a list of whole numbers"),
            ({"units": {"g": [None]}, "group_sizes": {"g": 6}}, "got 1-D object, expected a list of whole numbers"),
            ({"units": {"g": [[1]]}, "group_sizes": {"g": 6}}, "got 2-D int64, expected a list of whole numbers"),
            ({"units": {"g": [1]}}, r'groups\["g"\]: no size given'),
            ({"group_sizes": {"g": 0}}, r'groups\["g"\]\.units: got 0, expected 1 or more'),
            ({"group_sizes": {"g": 2.5}}, "got 2.5, expected 1 or more"),
            ({"weights": {"w": np.zeros(2)}}, r'weights\["w"\]: the mask is float64, not boolean'),
            ({"model_hash": ""}, "hash: empty"),
            ({"recipe": {"ratio": float("nan")}}, "recipe: .*not JSON compliant"),
            ({"recipe": {"tree": deep()}}, "recipe: nested too deeply"),
            ({"recipe": {"scores": np.zeros(2)}}, "recipe: ndarray cannot be written as JSON"),
            ({"options": Options(shapes=(("x", (1,)), ("x", (2,))))}, "an input is named twice"),
        ],
    )
    def test_bad_fields_are_refused(self, change: dict[str, Any], message: str) -> None:
        with pytest.raises(PlanError, match=message):
            Plan(**{"model_hash": MODEL, **change})


class TestDiff:
    @given(SAME_MODEL, SAME_MODEL)
    def test_the_three_parts_make_up_both_plans(self, a: Plan, b: Plan) -> None:
        result = diff(a, b)
        for name in SIZES:
            part = next((group for group in result.groups if group.group == name), None)
            both, only_a, only_b = (part.both, part.only_a, part.only_b) if part else ([], [], [])
            assert sorted([*both, *only_a]) == a.units.get(name, np.zeros(0)).tolist()
            assert sorted([*both, *only_b]) == b.units.get(name, np.zeros(0)).tolist()
            assert not set(only_a) & set(only_b)
        assert sum(m.both + m.only_a for m in result.weights) == a.removed_weights
        assert sum(m.both + m.only_b for m in result.weights) == b.removed_weights
        assert result.same == (selection(a) == selection(b))

    @given(SAME_MODEL, SAME_MODEL)
    def test_the_other_way_round_only_a_and_only_b_change_places(self, a: Plan, b: Plan) -> None:
        there = {g.group: (g.only_a.tolist(), g.only_b.tolist(), g.both.tolist()) for g in diff(a, b).groups}
        back = {g.group: (g.only_b.tolist(), g.only_a.tolist(), g.both.tolist()) for g in diff(b, a).groups}
        assert there == back

    def test_a_mask_that_only_one_plan_has(self) -> None:
        (only,) = diff(small(), Plan(MODEL)).weights
        assert (only.weight, only.both, only.only_a, only.only_b) == ("w", 0, 3, 0)

    def test_plans_of_two_models(self) -> None:
        other = Plan("2e" * 32, model_name="other.onnx")
        with pytest.raises(PlanMismatch, match=f"net.onnx .hash {MODEL}.* and other.onnx .hash {'2e' * 32}"):
            diff(small(), other)

    def test_a_group_of_two_sizes(self) -> None:
        with pytest.raises(PlanError, match=r'groups\["fc"\]: 2 units in one plan, 3 in the other'):
            diff(small(), Plan(MODEL, group_sizes={"fc": 3}))

    def test_a_mask_of_two_shapes(self) -> None:
        with pytest.raises(PlanError, match=r'weights\["w"\]: shape \(2, 3\) in one plan, \(6,\) in the other'):
            diff(small(), Plan(MODEL, weights={"w": np.zeros(6, np.bool_)}))


class TestMerge:
    @given(SAME_MODEL, SAME_MODEL, SAME_MODEL)
    def test_it_is_a_union(self, a: Plan, b: Plan, c: Plan) -> None:
        union = merge(a, b)
        assert not any(g.only_a.size for g in diff(a, union).groups)
        assert not any(m.only_a for m in diff(b, union).weights)
        assert merge(a, a) == a
        assert selection(merge(a, b)) == selection(merge(b, a))
        assert selection(merge(merge(a, b), c)) == selection(merge(a, merge(b, c)))
        assert selection(merge(a, Plan(MODEL, options=OPTIONS))) == selection(a)

    def test_the_recipe_names_both(self) -> None:
        other = Plan(MODEL, options=OPTIONS, recipe={"manual": True})
        merged = merge(small(), other)
        assert merged.recipe["operation"] == "merge"
        assert merged.recipe["of"] == [dict(small().recipe), {"manual": True}]
        assert merged.model_name == "net.onnx"

    def test_other_options(self) -> None:
        with pytest.raises(PlanError, match=r"different options: .*attention='dims'.* and .*attention='heads'"):
            merge(small(), Plan(MODEL))

    def test_another_model(self) -> None:
        with pytest.raises(PlanMismatch, match="belong to different models"):
            merge(small(), Plan("2e" * 32, options=OPTIONS))


class TestInvert:
    @given(SAME_MODEL)
    def test_twice_gives_the_plan_back(self, plan: Plan) -> None:
        assert invert(invert(plan)) == plan
        assert invert(invert(plan, SIZES), SIZES) == plan

    @given(SAME_MODEL)
    def test_what_was_kept_is_removed(self, plan: Plan) -> None:
        inverse = invert(plan)
        assert not any(group.both.size for group in diff(plan, inverse).groups)
        assert plan.removed_units + inverse.removed_units == sum(SIZES.values())
        assert plan.removed_weights + inverse.removed_weights == 16

    def test_groups_that_the_plan_does_not_know_are_taken_from_the_sizes(self) -> None:
        assert invert(small(), {"fc": 2, "new": 3}).units["new"].tolist() == [0, 1, 2]

    def test_sizes_that_do_not_fit(self) -> None:
        with pytest.raises(PlanError, match=r'groups\["fc"\]: 2 units in the plan, 5 in the sizes given'):
            invert(small(), {"fc": 5})


class TestAgainstTheModel:
    def test_the_right_model(self) -> None:
        check_model(small(), MODEL, "renamed.onnx")

    def test_another_model_names_both(self) -> None:
        with pytest.raises(PlanMismatch, match=f"net.onnx .hash {MODEL}., not for b.onnx .hash {'00' * 32}"):
            check_model(small(), "00" * 32, "b.onnx")

    def coupling(self, sizes: dict[str, int] | None = None, **changes: Any) -> Coupling:
        groups = tuple(Group(name, size, ()) for name, size in (sizes or {"conv1": 9, "fc": 2}).items())
        values: dict[str, Any] = {
            "model_hash": MODEL, "groups": groups, "frozen": (), "unknown_ops": {}, "constraints": (),
            "options": OPTIONS, "shapes": {},
        }  # fmt: skip
        return Coupling(**{**values, **changes})

    def test_a_plan_that_fits(self) -> None:
        check_coupling(small(), self.coupling())
        check_coupling(small(), self.coupling({"conv1": 9, "fc": 2, "more": 5}))

    def test_a_group_that_is_not_there_offers_the_nearest(self) -> None:
        with pytest.raises(GroupNotFound, match="no group 'conv1'\nNearest: conv_1, conv2"):
            check_coupling(small(), self.coupling({"fc": 2, "conv_1": 9, "conv2": 4}))
        with pytest.raises(GroupNotFound, match="no group 'conv1'\n`onnxprune inspect` lists the groups"):
            check_coupling(small(), self.coupling({"fc": 2}))

    def test_a_group_of_another_size(self) -> None:
        with pytest.raises(PlanError, match=r'groups\["fc"\]: 2 units in the plan, 7 in the model'):
            check_coupling(small(), self.coupling({"conv1": 9, "fc": 7}))

    def test_other_options(self) -> None:
        with pytest.raises(
            PlanError, match=r"the plan was made with .*attention='dims'.*found with .*attention='heads'"
        ):
            check_coupling(small(), self.coupling(options=Options()))

    def test_another_model(self) -> None:
        with pytest.raises(PlanMismatch, match="not for a model"):
            check_coupling(small(), self.coupling(model_hash="00"))

    def test_blocks_must_lose_equal_counts(self) -> None:
        """conv1 loses 0, 3 and 7, fc loses 1: by hand, block 0 counts unit 0 of conv1 twice, block 1 units 3 and 1."""
        rows = (np.array([[0, 0], [0, 0], [0, 1]]), np.array([[0, 3], [1, 1], [0, 8]]))
        check_coupling(small(), self.coupling(constraints=(EqualCount(rows, "Conv 'g'"),)))
        uneven = EqualCount((rows[0], np.array([[1, 0], [0, 7], [0, 8]])), "Conv 'g'")
        with pytest.raises(PlanError, match=r"Conv 'g': the blocks must lose the same number .* but lose \[2, 1\]"):
            check_coupling(small(), self.coupling(constraints=(uneven,)))
