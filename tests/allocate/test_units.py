"""Allocation of units: ratios, thresholds, rounding, targets, constraints, and why nothing goes."""

from __future__ import annotations

from itertools import product
from math import floor
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from onnxprune.allocate import Budget, Reached, allocate
from onnxprune.allocate.balance import Cluster, Limit, Steps, cells_of, fit
from onnxprune.allocate.quantities import share, target
from onnxprune.cost import CostModel, cost
from onnxprune.coupling import couple
from onnxprune.criteria import Settings, UnitScores, score
from onnxprune.errors import BudgetError, DataError, GroupNotFound, NothingToPrune, OptionError
from onnxprune.model import Model, from_proto
from onnxprune.plan import Plan, check_coupling
from onnxprune.surgery import remove
from onnxprune.values import Coupling
from tests.nets import export
from tests.nets.handmade import HANDMADE
from tests.random_graphs import build, steps

PICKS = st.lists(st.integers(0, len(steps) - 1), min_size=1, max_size=6)
FREE = [i for i, step in enumerate(steps) if step.__name__ not in {"step_groups", "step_shuffle"}]
UNCONSTRAINED = st.lists(st.sampled_from(FREE), min_size=1, max_size=6)
unhurried = settings(max_examples=40, derandomize=True, suppress_health_check=[HealthCheck.too_slow])


def case(picks: list[int], seed: int = 0) -> tuple[Model, Coupling, UnitScores]:
    model = from_proto(build(picks))
    coupling = couple(model)
    return model, coupling, score(model, coupling, "random", Settings(seed=seed))


def chosen(coupling: Coupling, scores: UnitScores, **options: Any) -> tuple[Plan, Reached]:
    plan, reached = allocate(coupling, scores, Budget(**{"round_to": 1, **options}))
    check_coupling(plan, coupling)
    assert reached.removed == plan.removed_units
    assert reached.groups == {g.name: (len(plan.units.get(g.name, ())), g.units) for g in coupling.groups}
    assert all(removed < units for removed, units in reached.groups.values())
    return plan, reached


def lowest_first(scores: UnitScores) -> list[tuple[float, int, int, str]]:
    """(score, group, unit, name), lowest first, the best of each group left out."""
    result = []
    for number, (name, values) in enumerate(scores.items()):
        units = sorted((float(v), number, unit, name) for unit, v in enumerate(values))
        result += units[:-1]
    return sorted(result)


# -- ratios -----------------------------------------------------------------------------------------------------------


@unhurried
@given(UNCONSTRAINED, st.floats(0.05, 1), st.integers(0, 9))
def test_local_takes_the_lowest_of_each_group(picks: list[int], ratio: float, seed: int) -> None:
    _, coupling, scores = case(picks, seed)
    assume(any(floor(ratio * g.units) and g.units > 1 for g in coupling.groups))
    plan, reached = chosen(coupling, scores, ratio=ratio)
    for group in coupling.groups:
        count = min(floor(ratio * group.units + 1e-9), group.units - 1)
        expected = sorted(range(group.units), key=lambda u, name=group.name: (scores[name][u], u))[:count]
        assert plan.units.get(group.name, np.zeros(0)).tolist() == sorted(expected)
    assert reached.ratio == reached.removed / coupling.units


@unhurried
@given(UNCONSTRAINED, st.floats(0.05, 1), st.integers(0, 9))
def test_global_takes_the_lowest_of_all(picks: list[int], ratio: float, seed: int) -> None:
    _, coupling, scores = case(picks, seed)
    count = floor(ratio * coupling.units + 1e-9)
    assume(count)
    plan, reached = chosen(coupling, scores, ratio=ratio, scope="global")
    expected = lowest_first(scores)[:count]
    assert {(name, unit) for _, _, unit, name in expected} == {(n, int(u)) for n, us in plan.units.items() for u in us}
    assert reached.removed == min(count, coupling.units - len(coupling.groups))


@pytest.mark.parametrize(("ratio", "count", "expected"), [(0.29, 100, 29), (0.3, 10, 3), (0.5, 7, 3), (1, 4, 4)])
def test_binary_fractions_do_not_take_a_unit_away(ratio: float, count: int, expected: int) -> None:
    assert share(ratio, count) == expected


def test_ties_go_by_position() -> None:
    _, coupling, _ = case([0])
    flat = UnitScores({g.name: np.ones(g.units) for g in coupling.groups})
    for scope in ("local", "global"):
        plan, _ = chosen(coupling, flat, ratio=0.5, scope=scope)
        for units in plan.units.values():
            assert units.tolist() == list(range(units.size))


def test_ratios_of_single_groups_and_groups_to_skip() -> None:
    _, coupling, scores = case([0, 1, 3])
    first, second, third = (g.name for g in coupling.groups[:3])
    sizes = {g.name: g.units for g in coupling.groups}
    for scope in ("local", "global"):
        plan, _ = chosen(coupling, scores, ratio=0.5, scope=scope, group_ratios={first: 0.7}, skip=(second,))
        assert plan.units[first].size == floor(0.7 * sizes[first])
        assert second not in plan.units
    free = [n for n in sizes if n not in {first, second}]
    assert sum(plan.units[n].size for n in free if n in plan.units) == floor(0.5 * sum(sizes[n] for n in free))
    only, _ = chosen(coupling, scores, group_ratios={third: 0.5})
    assert list(only.units) == [third]


def test_the_plan_says_where_it_comes_from() -> None:
    model, coupling, scores = case([0, 1])
    plan, reached = chosen(coupling, scores, ratio=0.5, scope="global", skip=(coupling.groups[1].name,))
    assert plan.model_hash == model.hash
    assert plan.options == coupling.options
    assert dict(plan.group_sizes) == {g.name: g.units for g in coupling.groups}
    assert plan.recipe == {
        "operation": "allocate", "criterion": "random", "ratio": 0.5, "scope": "global", "round_to": 1,
        "skip": [coupling.groups[1].name],
    }  # fmt: skip
    assert reached.as_dict()["asked"] == {
        "ratio": 0.5,
        "scope": "global",
        "skip": (coupling.groups[1].name,),
        "round_to": 1,
    }
    assert reached.before is not None
    assert reached.as_dict()["reached"]["params"] == reached.after.parameters / reached.before.parameters


# -- rounding ---------------------------------------------------------------------------------------------------------


@unhurried
@given(UNCONSTRAINED, st.sampled_from([2, 3, 4, 8]), st.sampled_from(["local", "global"]), st.integers(0, 9))
def test_channels_kept_are_rounded_up(picks: list[int], step: int, scope: str, seed: int) -> None:
    _, coupling, scores = case(picks, seed)
    _, exact = chosen(coupling, scores, ratio=0.5, scope=scope)
    try:
        _, reached = chosen(coupling, scores, ratio=0.5, scope=scope, round_to=step)
    except NothingToPrune:
        assume(False)
    for group in coupling.groups:
        wanted, kept = ((group.units - r.groups[group.name][0]) * group.channels for r in (exact, reached))
        allowed = [k * group.channels for k in range(group.units) if k * group.channels % step == 0]
        assert kept == min((k for k in allowed if k >= wanted), default=group.units * group.channels)
    assert reached.round_to == step


def test_a_head_counts_as_its_channels() -> None:
    model = from_proto(export("fused_qkv", "torchscript"))  # three heads of 18 = 3 x 6 channels
    coupling = couple(model)
    scores = score(model, coupling)
    heads = next(g for g in coupling.groups if g.kind == "heads")
    assert (heads.units, heads.channels) == (3, 18)
    for step, kept in ((1, 2), (9, 2), (36, 2), (4, 2), (8, 3)):
        budget = Budget(group_ratios={heads.name: 0.4, "into": 0.2}, round_to=step)
        plan, _ = allocate(coupling, scores, budget)
        assert heads.units - len(plan.units.get(heads.name, ())) == kept


@pytest.mark.parametrize("units", range(1, 14))
@pytest.mark.parametrize("channels", [1, 2, 6])
@pytest.mark.parametrize("step", [1, 2, 4, 5, 8])
def test_steps_are_those_of_the_definition(units: int, channels: int, step: int) -> None:
    steps = Steps.of(units, channels, step)
    allowed = [r for r in range(units) if r == 0 or (units - r) * channels % step == 0]
    assert [r for r in range(units + 1) if steps.allows(r)] == allowed
    assert steps.table().tolist() == [max(a for a in allowed if a <= r) for r in range(units + 1)]


# -- targets ----------------------------------------------------------------------------------------------------------


@unhurried
@given(
    UNCONSTRAINED, st.sampled_from(["target_params", "target_macs"]), st.floats(0.3, 0.95), st.sampled_from([1, 4]),
    st.integers(0, 9),
)  # fmt: skip
def test_targets_are_met_with_the_fewest_units(
    picks: list[int], option: str, part: float, step: int, seed: int
) -> None:
    _, coupling, scores = case(picks, seed)
    field = {"target_params": "parameters", "target_macs": "macs"}[option]
    costs = CostModel(coupling)
    try:
        plan, reached = chosen(coupling, scores, **{option: part}, round_to=step, distribution="global")
    except BudgetError:
        with pytest.raises(BudgetError, match=option):
            chosen(coupling, scores, **{option: part}, round_to=step)
        everything = {g.name: Steps.of(g.units, g.channels, step).table()[-1] for g in coupling.groups}
        most = {n: np.argsort(scores[n], kind="stable")[:count] for n, count in everything.items()}
        assert getattr(costs.after(most), field) > part * getattr(costs.before, field)
        return
    assert getattr(reached.after, field) <= part * getattr(costs.before, field)
    assert costs.after(plan.units) == reached.after
    last = max((v, g, u, n) for v, g, u, n in lowest_first(scores) if u in plan.units.get(n, ()))[3]
    group = coupling.groups[coupling.by_name[last]]
    table = Steps.of(group.units, group.channels, step).table()
    fewer = int(table[plan.units[last].size - 1])  # one block less of the group whose turn came last
    less = {**plan.units, last: np.argsort(scores[last], kind="stable")[:fewer]}
    assert getattr(costs.after(less), field) > part * getattr(costs.before, field)


def test_both_targets_hold() -> None:
    _, coupling, scores = case([0, 2, 3])
    _, one = chosen(coupling, scores, target_params=0.6)
    _, both = chosen(coupling, scores, target_params=0.6, target_macs=0.3)
    assert one.macs > 0.3
    assert both.macs <= 0.3
    assert both.params <= 0.6


@pytest.mark.parametrize(("option", "field"), [("target_params", "parameters"), ("target_macs", "macs")])
def test_absolute_targets_are_per_example(option: str, field: str) -> None:
    model, coupling, scores = case([0, 2, 3])
    most = getattr(cost(model), field) * 2 // 3
    plan, _ = chosen(coupling, scores, **{option: str(most)})
    found = getattr(cost(remove(model, coupling, plan)), field)
    assert 0.6 * most < found <= most


def test_a_target_with_fixed_groups() -> None:
    _, coupling, scores = case([0, 2, 3])
    first, second = (g.name for g in coupling.groups[:2])
    plan, reached = chosen(coupling, scores, target_params=0.5, group_ratios={first: 0.5}, skip=(second,))
    assert plan.units[first].size == coupling.groups[0].units // 2
    assert second not in plan.units
    assert reached.params <= 0.5


def test_a_target_out_of_reach_names_the_best() -> None:
    _, coupling, scores = case([0, 2])
    with pytest.raises(
        BudgetError, match=r"target_params: 0.0001 of the original is out of reach.* 0\.\d+ remains"
    ) as e:
        chosen(coupling, scores, target_params=1e-4)
    best = float(e.value.message.split()[-2])
    chosen(coupling, scores, target_params=best * 1.001)


def test_a_target_that_is_met_already() -> None:
    _, coupling, scores = case([0, 2])
    with pytest.raises(NothingToPrune, match=r"within the target already"):
        chosen(coupling, scores, target_params="1G")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, (None, None)), (0.5, (0.5, None)), ("0.25", (0.25, None)), (".5", (0.5, None)),
        ("2.5M", (None, 2_500_000)),
        ("3k", (None, 3000)), ("1G", (None, 10**9)), (5000, (None, 5000)), ("1e6", (None, 10**6)),
        ("0.5K", (None, 500)),
    ],
)  # fmt: skip
def test_targets_as_written(value: Any, expected: tuple[float | None, int | None]) -> None:
    assert target("target_params", value) == expected


# -- constraints ------------------------------------------------------------------------------------------------------


@unhurried
@given(PICKS, st.floats(0.1, 0.9), st.sampled_from(["local", "global"]), st.sampled_from([1, 4]), st.integers(0, 9))
def test_constraints_hold(picks: list[int], ratio: float, scope: str, step: int, seed: int) -> None:
    model, coupling, scores = case([8, *picks, 9], seed)
    try:
        plan, reached = chosen(coupling, scores, ratio=ratio, scope=scope, round_to=step)
    except NothingToPrune:
        return
    remove(model, coupling, plan)
    if scope == "local":
        assert all(removed <= floor(ratio * units + 1e-9) for removed, units in reached.groups.values())
    else:
        assert reached.removed <= floor(ratio * coupling.units + 1e-9)


@pytest.mark.parametrize("name", ["shufflenet_v1", "grouped_conv"])
def test_halves_of_constrained_nets_are_halves(name: str) -> None:
    model = from_proto(export(name, "torchscript"))
    coupling = couple(model)
    assert coupling.constraints
    for scope in ("local", "global"):
        plan, reached = chosen(coupling, score(model, coupling), ratio=0.5, scope=scope)
        assert 0.47 <= reached.ratio <= 0.5
        remove(model, coupling, plan)
    plan, reached = chosen(coupling, score(model, coupling), target_params=0.5)
    assert reached.params <= 0.5
    remove(model, coupling, plan)


def test_cells_are_units_of_one_group_that_stand_in_the_same_blocks() -> None:
    coupling = couple(from_proto(export("shufflenet_v1", "torchscript")))
    cells = cells_of(coupling)
    starts = np.cumsum([0, *(g.units for g in coupling.groups)])
    places: dict[int, list[tuple[int, int]]] = {u: [] for u in range(coupling.units)}
    for c, constraint in enumerate(coupling.constraints):
        for b, rows in enumerate(constraint.blocks):
            for group, unit in rows.tolist():
                places[int(starts[group]) + unit].append((c, b))
    owner = np.repeat(np.arange(len(coupling.groups)), np.diff(starts))
    kinds = {u: (int(owner[u]), tuple(sorted(where))) for u, where in places.items()}
    for u, v in product(range(0, coupling.units, 3), repeat=2):
        assert (cells.cell[u] == cells.cell[v]) == (kinds[u] == kinds[v])
    assert cells.size.sum() == coupling.units
    assert len(np.concatenate([c.cells for c in cells.clusters])) == len(
        set(np.concatenate([c.cells for c in cells.clusters]))
    )


def cluster_of(groups: list[int], size: list[int], *blocks: list[list[int]]) -> Cluster:
    numbers = tuple(sorted(set(groups)))
    arrays = tuple(np.array(b, np.int64) for b in blocks)
    return Cluster(numbers, np.arange(len(size)), np.array(groups), np.array(size), arrays)


def best_by_trying(cluster: Cluster, wanted: np.ndarray, limits: list[Limit], steps: list[Steps]) -> float:
    best = -float(wanted.sum())
    for x in product(*(range(s + 1) for s in cluster.size)):
        lost = np.array(x)
        holds = all(np.ptp(b @ lost) == 0 and (b @ lost < b @ cluster.size).all() for b in cluster.blocks)
        holds = holds and all(s.allows(int(lost[cluster.group == g].sum())) for g, s in enumerate(steps))
        if holds and all(lost[limit.where].sum() <= limit.most for limit in limits):
            best = max(best, 2.0 * lost.sum() - np.abs(lost - wanted).sum())
    return best


CLUSTERS = {
    "a grouped convolution": cluster_of([0, 0], [4, 4], [[1, 0], [0, 1]]),
    "behind a shuffle": cluster_of([0] * 4, [2, 3, 3, 2], [[1, 1, 0, 0], [0, 0, 1, 1]], [[1, 0, 1, 0], [0, 1, 0, 1]]),
    "two groups in one concat": cluster_of([0, 0, 1], [2, 3, 4], [[1, 1, 0], [0, 0, 1]]),
    "units that count twice": cluster_of([0, 1], [5, 4], [[2, 0], [0, 1]]),
    "three blocks, two of them alike": cluster_of([0, 0, 0], [4, 3, 4], [[1, 0, 0], [0, 1, 0], [0, 0, 1]]),
}


@pytest.mark.parametrize("name", CLUSTERS)
@pytest.mark.parametrize("step", [1, 2, 3])
def test_fit_is_as_good_as_trying_everything(name: str, step: int) -> None:
    cluster = CLUSTERS[name]
    rng = np.random.default_rng(step)
    counts = [int(cluster.size[cluster.group == g].sum()) for g in range(len(cluster.groups))]
    rounding = [Steps.of(n, 1, step) for n in counts]
    for _ in range(12):
        wanted = rng.integers(0, cluster.size + 1)
        limits = [Limit(np.ones(wanted.size, np.bool_), int(wanted.sum()))]
        found = fit(cluster, wanted, limits, rounding)
        value = 2.0 * found.sum() - np.abs(found - wanted).sum()
        assert value == best_by_trying(cluster, wanted, limits, rounding)


# -- what cannot be ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ratio": 1.5}, r"ratio: got 1.5, expected a number from 0 to 1"),
        ({"ratio": -0.1}, r"ratio: got -0.1"),
        ({"ratio": float("nan")}, r"ratio: got nan"),
        ({"group_ratios": {"a": 2.0}}, r"ratio of 'a': got 2.0"),
        ({"ratio": 0.5, "scope": "both"}, r"scope: got 'both', expected local or global"),
        ({"ratio": 0.5, "round_to": 0}, r"round_to: got 0, expected 1 or more"),
        ({"ratio": 0.5, "target_macs": 0.5}, r"both a ratio and a target"),
        ({}, r"no ratio and no target"),
        ({"target_params": 0}, r"target_params: got 0, expected a share between 0 and 1"),
        ({"target_params": 1}, r"target_params: got 1"),
        ({"target_macs": "-3M"}, r"target_macs: got -3M"),
        ({"target_macs": "2X"}, r"target_macs: got 2X"),
        ({"target_macs": float("nan")}, r"target_macs: got nan"),
        ({"target_params": "0.0001K"}, r"target_params: got 0.0001K"),
    ],
)
def test_budgets_that_make_no_sense(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        Budget(**options)


def test_unknown_groups_get_the_nearest_names() -> None:
    _, coupling, scores = case([0])
    name = coupling.groups[0].name
    for options in ({"skip": (f"{name}x",)}, {"group_ratios": {f"{name}x": 0.5}}):
        with pytest.raises(GroupNotFound, match=rf"no group '{name}x'\nNearest: .*{name}"):
            chosen(coupling, scores, ratio=0.5, **options)
    with pytest.raises(GroupNotFound, match=r"no group '@@@@'\n`onnxprune inspect` lists"):
        chosen(coupling, scores, ratio=0.5, skip=("@@@@",))


def test_scores_of_another_model() -> None:
    _, coupling, scores = case([0])
    name = coupling.groups[0].name
    for values, got in ((None, "none"), (np.ones(3), r"shape \(3,\)"), (scores[name] * np.nan, "NaN among them")):
        other = {n: v for n, v in {**scores, name: values}.items() if v is not None}
        with pytest.raises(DataError, match=rf"the scores of group '{name}': got {got}, expected"):
            chosen(coupling, UnitScores(other), ratio=0.5)


def test_nothing_to_prune_says_why() -> None:
    model, coupling, scores = case([0])
    with pytest.raises(NothingToPrune, match=r"2 groups: too small for the ratio"):
        chosen(coupling, scores, ratio=0.01)
    with pytest.raises(NothingToPrune, match=r"2 groups: all units stay when the channels kept are rounded up"):
        chosen(coupling, scores, ratio=0.5, round_to=64)
    with pytest.raises(NothingToPrune, match=r"2 groups: to be skipped"):
        chosen(coupling, scores, ratio=0.5, skip=tuple(coupling.by_name))
    with pytest.raises(NothingToPrune, match=r"2 groups: above the threshold"):
        chosen(coupling, scores, ratio=0.01, scope="global")
    model = from_proto(HANDMADE["unknown_operator"].build())
    coupling = couple(model)
    if not coupling.groups:
        with pytest.raises(NothingToPrune, match=r"(?s)No unit of this model.*no rule for operator"):
            chosen(coupling, UnitScores({}), ratio=0.5)


def test_the_default_step_is_the_measured_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONNXPRUNE_NO_MEASURE", "1")
    _, coupling, scores = case([1])
    plan, reached = allocate(coupling, scores, Budget(ratio=0.4))
    assert reached.round_to == 8
    assert plan.recipe["round_to"] == 8


def test_a_target_without_a_threshold_shrinks_all_groups_at_the_same_pace() -> None:
    _, coupling, scores = case([0, 2, 3])
    plan, _ = chosen(coupling, scores, target_params=0.5, scope="local", round_to=1)
    for group in coupling.groups:
        gone = plan.units[group.name]
        assert np.array_equal(gone, np.sort(np.argsort(scores[group.name], kind="stable")[: gone.size]))
    shares = [plan.units[g.name].size / g.units for g in coupling.groups]
    assert max(shares) - min(shares) <= max(1 / g.units for g in coupling.groups) + 1e-9
