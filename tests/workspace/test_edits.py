"""Drafts: what entries come to, and in which order they matter."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from onnxprune import Model
from onnxprune.coupling import couple
from onnxprune.criteria import score
from onnxprune.errors import DataError, GroupNotFound, OptionError
from onnxprune.experiment import prune
from onnxprune.model import from_proto
from onnxprune.values import Coupling
from onnxprune.workspace.drafting import SCALES, DraftState, draft_state, on_scale
from onnxprune.workspace.edits import check_edit, draft_plan, edit_words, kept_or_computed
from onnxprune.workspace.workspace import Workspace
from tests.cli.conftest import cnn, weight

SCORES = {"conv1": np.arange(8.0), "conv2": np.arange(16.0) / 2}


@pytest.fixture(scope="module")
def net() -> tuple[Model, Coupling]:
    model = from_proto(cnn())
    return model, couple(model)


def state(net: tuple[Model, Coupling], *edits: dict[str, Any]) -> DraftState:
    return draft_state(*net, edits, lambda _: SCORES)


def gone(net: tuple[Model, Coupling], *edits: dict[str, Any]) -> dict[str, list[int]]:
    found = state(net, *edits).gone
    return {name: np.flatnonzero(mask).tolist() for name, mask in found.items() if mask.any()}


def at(threshold: float, **more: Any) -> dict[str, Any]:
    return {"criterion": "any", "threshold": threshold, **more}


class TestThresholds:
    def test_the_last_one_counts_so_that_units_come_back(self, net: tuple[Model, Coupling]) -> None:
        assert gone(net, at(6), at(2)) == {"conv1": [0, 1], "conv2": [0, 1, 2, 3]}
        assert gone(net, at(6), at(0)) == {}

    def test_equal_stays(self, net: tuple[Model, Coupling]) -> None:
        assert gone(net, at(1.0))["conv1"] == [0]
        assert gone(net, at(np.nextafter(1.0, 2)))["conv1"] == [0, 1]

    def test_by_hand_stays_on_top_whichever_came_first(self, net: tuple[Model, Coupling]) -> None:
        by_hand = [{"group": "conv1", "restore": [0]}, {"group": "conv1", "remove": [7]}]
        assert gone(net, *by_hand, at(2))["conv1"] == gone(net, at(2), *by_hand)["conv1"] == [1, 7]
        assert gone(net, *by_hand, at(2), at(3), at(1))["conv1"] == [7]

    def test_one_for_a_group_leaves_the_others(self, net: tuple[Model, Coupling]) -> None:
        assert gone(net, at(2), at(1, group="conv1")) == {"conv1": [0], "conv2": [0, 1, 2, 3]}
        assert state(net, at(2), at(1, group="conv1")).threshold == at(2)

    def test_a_ratio_adds_and_takes_what_was_brought_back_before_it(self, net: tuple[Model, Coupling]) -> None:
        quarter = {"criterion": "any", "ratio": 0.25, "group": "conv1"}
        back = {"group": "conv1", "restore": [0]}
        assert gone(net, at(1), quarter, at(0)) == {"conv1": [0, 1]}
        assert gone(net, quarter, back) == {"conv1": [1]}
        assert gone(net, back, quarter) == {"conv1": [0, 1]}

    def test_a_share_of_its_own_until_it_is_lifted(self, net: tuple[Model, Coupling]) -> None:
        half = {"criterion": "any", "group": "conv1", "share": 0.5}
        lift = {"group": "conv1", "share": None}
        assert gone(net, half, at(100))["conv1"] == [0, 1, 2, 3]
        assert state(net, half).shares == {"conv1": 0.5}
        assert gone(net, at(1), half, lift)["conv1"] == [0]
        assert gone(net, half, {**half, "share": 0.25})["conv1"] == [0, 1]

    def test_a_lock_leaves_a_group_to_the_hand(self, net: tuple[Model, Coupling]) -> None:
        lock = {"group": "conv1", "lock": True}
        ratio = {"criterion": "any", "ratio": 0.5}
        found = state(net, at(2), ratio, lock, {"group": "conv1", "remove": [5]})
        assert np.flatnonzero(found.gone["conv1"]).tolist() == [5]
        assert found.locked == {"conv1"}
        assert gone(net, at(2), lock, {"group": "conv1", "lock": False})["conv1"] == [0, 1]

    def test_clear_forgets_all_before_it(self, net: tuple[Model, Coupling]) -> None:
        edits = [at(5), {"group": "conv1", "lock": True}, {"group": "conv2", "remove": [3]}, {"clear": True}]
        assert state(net, *edits).empty
        assert gone(net, *edits, {"group": "conv2", "remove": [4]}) == {"conv2": [4]}

    def test_a_group_keeps_the_unit_that_scores_highest(self, net: tuple[Model, Coupling]) -> None:
        found = state(net, at(1e9))
        assert np.flatnonzero(~found.gone["conv1"]).tolist() == [7]
        assert found.notes[0] == "conv1: the last of its filters stays"
        assert found.kept["conv1"].sum() == 1
        by_hand = state(net, {"group": "conv1", "remove": list(range(7))}, at(1e9))
        assert np.flatnonzero(~by_hand.gone["conv1"]).tolist() == [7]

    def test_masks_say_why(self, net: tuple[Model, Coupling]) -> None:
        found = state(net, at(2), {"group": "conv1", "restore": [0]}, {"group": "conv2", "remove": [15]})
        assert np.flatnonzero(found.automatic["conv1"]).tolist() == [0, 1]
        assert np.flatnonzero(found.restored["conv1"]).tolist() == [0]
        assert np.flatnonzero(found.by_hand["conv2"]).tolist() == [15]
        assert found.units == 1 + 5


class TestScales:
    def test_what_a_number_is_compared_with(self) -> None:
        scores = {"a": np.array([3.0, 4.0]), "b": np.array([0.0, 10.0, 0.0, 5.0])}
        found = {scale: on_scale(scores, scale) for scale in SCALES}
        assert found["layer"]["a"].tolist() == [0.6, 0.8]
        assert found["largest"]["b"].tolist() == [0, 1, 0, 0.5]
        assert found["rank"]["b"].tolist() == [0.125, 0.875, 0.375, 0.625]
        places = np.concatenate(list(found["model-rank"].values()))
        assert (places * 6).tolist() == pytest.approx([2.5, 3.5, 0.5, 5.5, 1.5, 4.5])
        assert found["score"]["a"].tolist() == [3, 4]

    def test_a_rank_below_a_share_takes_that_share(self, net: tuple[Model, Coupling]) -> None:
        found = gone(net, at(0.25, scale="rank"))
        assert {name: len(units) for name, units in found.items()} == {"conv1": 2, "conv2": 4}

    def test_zero_scores_divide_nothing(self) -> None:
        zeros = {"a": np.zeros(3)}
        assert all(np.isfinite(on_scale(zeros, scale)["a"]).all() for scale in SCALES)

    def test_an_unknown_one(self) -> None:
        with pytest.raises(OptionError, match="scale: got 'depth'"):
            on_scale(SCORES, "depth")


def test_scores_of_another_size_are_refused(net: tuple[Model, Coupling]) -> None:
    with pytest.raises(DataError, match=r"the scores of group 'conv1': got 3, expected 8"):
        draft_state(*net, [at(1)], lambda _: {"conv1": np.arange(3.0)})


def test_units_without_a_score_stay(net: tuple[Model, Coupling]) -> None:
    found = draft_state(*net, [at(1e9)], lambda _: {"conv1": SCORES["conv1"]})
    assert not found.gone["conv2"].any()


def grouped() -> Model:
    """A grouped convolution: both halves of its 8 channels, in and out, must lose equally many."""
    nodes = [
        helper.make_node("Conv", ["x", "a.weight"], ["h"], name="a", kernel_shape=[1, 1]),
        helper.make_node("Conv", ["h", "b.weight"], ["g"], name="b", kernel_shape=[1, 1], group=2),
        helper.make_node("Conv", ["g", "c.weight"], ["y"], name="c", kernel_shape=[1, 1]),
    ]
    graph = helper.make_graph(
        nodes, "grouped",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 5, 4, 4])],
        [weight("a.weight", 8, 3, 1, 1), weight("b.weight", 8, 4, 1, 1), weight("c.weight", 5, 8, 1, 1)],
    )  # fmt: skip
    return from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))


@pytest.fixture(scope="module")
def tied() -> tuple[Model, Coupling]:
    model = grouped()
    return model, couple(model)


class TestEqualCounts:
    def halves(self, found: DraftState) -> list[tuple[int, int]]:
        return [(int(mask[:4].sum()), int(mask[4:].sum())) for mask in found.gone.values()]

    def test_a_threshold_takes_equally_many(self, tied: tuple[Model, Coupling]) -> None:
        scores = {group.name: np.arange(8.0) for group in tied[1].groups}
        found = draft_state(*tied, [at(4)], lambda _: scores)
        assert all(one == two for one, two in self.halves(found))
        assert found.units <= sum(4 for _ in tied[1].groups)
        assert all("lose equally many" in note for note in found.notes)
        assert found.notes

    def test_what_goes_by_hand_takes_others_along(self, tied: tuple[Model, Coupling]) -> None:
        name = tied[1].groups[0].name
        edits = [{"group": name, "remove": [1]}]
        found = draft_state(*tied, edits)
        assert found.gone[name][1]
        assert found.gone[name][4:].sum() == 1
        assert found.added[name].sum() == 1
        assert any(note.startswith(f"{name}: 1 more") for note in found.notes)
        assert prune(tied[0], plan=draft_plan(*tied, edits)).plan.removed_units == found.units

    def test_what_was_brought_back_stays_in_its_half(self, tied: tuple[Model, Coupling]) -> None:
        name = tied[1].groups[0].name
        scores = {group.name: np.arange(8.0) for group in tied[1].groups}
        back = {"group": name, "restore": [4, 5, 6, 7]}
        found = draft_state(*tied, [at(6), back], lambda _: scores)
        assert not found.gone[name].any()

    def test_never_a_whole_half(self, tied: tuple[Model, Coupling]) -> None:
        scores = {group.name: np.arange(8.0) for group in tied[1].groups}
        found = draft_state(*tied, [at(1e9)], lambda _: scores)
        assert all(one == two == 3 for one, two in self.halves(found))


class TestEntries:
    @pytest.mark.parametrize(
        ("edit", "words"),
        [
            ({"group": "conv1", "remove": [3]}, "remove 1 unit of conv1"),
            ({"weight": "fc.weight", "restore": [3, 4]}, "restore 2 weights of fc.weight"),
            ({"criterion": "l2", "ratio": 0.25}, "remove the lowest 25% by l2"),
            ({"criterion": "l2", "threshold": 0.125, "scale": "rank"}, "remove what l2 puts below 0.125"),
            ({"criterion": "l2", "group": "conv1", "share": 0.5}, "remove the lowest 50% by l2 in conv1"),
            ({"group": "conv1", "share": None}, "no share of its own for conv1"),
            ({"group": "conv1", "lock": True}, "leave conv1 alone"),
            ({"group": "conv1", "lock": False}, "conv1 is no longer left alone"),
            ({"clear": True}, "empty the plan"),
        ],
    )
    def test_each_form_is_an_edit_and_has_words(self, edit: dict[str, Any], words: str) -> None:
        check_edit(edit)
        assert edit_words(edit) == words

    @pytest.mark.parametrize(
        ("edit", "words"),
        [
            ({"lock": True}, "lock: an edit names the group"),
            ({"group": "conv1", "lock": 1}, "lock: got 1, expected true or false"),
            ({"clear": False}, "clear: got False, expected true"),
            ({"criterion": "l2", "share": 0.5}, "share: an edit names the group"),
            ({"group": "conv1", "share": 0.5}, "share needs a criterion"),
            ({"group": "conv1", "criterion": "l2", "share": 1.5}, "share: got 1.5, expected 0 to 1"),
            ({"criterion": "l2", "threshold": 1, "scale": "feet"}, "scale: got 'feet'"),
            ({"criterion": "l2", "threshold": 1, "lock": True}, "says one thing, this one 2"),
            ({"criterion": "l2", "threshold": float("nan")}, "expected a number"),
        ],
    )
    def test_bad_ones(self, edit: dict[str, Any], words: str) -> None:
        with pytest.raises(OptionError, match=words):
            check_edit(edit)

    def test_a_group_that_is_not_there(self, net: tuple[Model, Coupling]) -> None:
        with pytest.raises(GroupNotFound, match="there is no group 'conv9'"):
            state(net, {"group": "conv9", "lock": True})


def test_the_plan_is_the_state(net: tuple[Model, Coupling]) -> None:
    edits = [
        at(0.3, criterion="l2", scale="layer"),
        {"group": "conv1", "restore": [0]},
        {"group": "conv1", "remove": [5]},
    ]
    plan = draft_plan(*net, edits)
    found = draft_state(*net, edits)
    assert {name: units.tolist() for name, units in plan.units.items()} == {
        name: np.flatnonzero(mask).tolist() for name, mask in found.gone.items() if mask.any()
    }
    normal = score(*net, "l2")["conv1"]
    expected = set(np.flatnonzero(normal / np.linalg.norm(normal) < 0.3).tolist()) - {0} | {5}
    assert set(plan.units["conv1"].tolist()) == expected
    assert list(plan.recipe["edits"]) == edits


class TestKeptScores:
    def test_an_entry_that_names_some_takes_those(self, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
        asked: list[Any] = []

        def kept(_: Workspace, step: int, criterion: str, **options: Any) -> Any:
            asked.append((step, criterion, options))
            return SCORES

        monkeypatch.setattr("onnxprune.guidance.scores.kept_scores", kept)
        source = kept_or_computed(workspace, 1, lambda _: {})
        assert source(at(1)) == {}
        assert source(at(1, scores={"data": "data/bright.npz"})) is SCORES
        assert asked == [(1, "any", {"data": "data/bright.npz"})]

    def test_they_may_be_gone(self, workspace: Workspace) -> None:
        source = kept_or_computed(workspace, 1, lambda _: {})
        with pytest.raises(DataError, match="scores by sensitivity that are not kept any longer"):
            source(at(1, criterion="sensitivity", scores={"data": "data/bright.npz"}))
