"""The latency table: what it adds up, what it remembers, and whether the estimates are any good."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from onnxprune import latency_table as module
from onnxprune.alignment import cache_file
from onnxprune.allocate import Budget, allocate
from onnxprune.cost import CostModel, cost, example_graph
from onnxprune.coupling import couple
from onnxprune.errors import OptionError
from onnxprune.latency_table import LatencyTable, latency_table, measurer
from onnxprune.model import Model, from_proto
from onnxprune.surgery import remove
from onnxprune.values import Coupling, Options
from tests.allocate.nets import chain, mlp, unit_scores
from tests.nets.handmade import HANDMADE

MODEL = chain((16, 24, 32, 16), size=12)
COUPLING = couple(MODEL)
UNITS = {g.name: np.arange(g.units // 2) for g in COUPLING.groups}


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ONNXPRUNE_CACHE", str(tmp_path))
    monkeypatch.delenv("ONNXPRUNE_NO_MEASURE", raising=False)


@pytest.fixture
def by_size(monkeypatch: pytest.MonkeyPatch) -> list[Model]:
    """Every node takes a microsecond per thousand of its MACs; which models were timed."""
    timed: list[Model] = []

    def alone(model: Model, feeds: Mapping[str, np.ndarray], threads: int | None, device: str) -> float:
        timed.append(model)
        assert device == "cpu"
        assert threads is None or threads == 1
        assert feeds
        return cost(model).macs / 1e6

    monkeypatch.setattr(module, "_alone", alone)
    return timed


def table(multiplying: float = 0.8, moving: float = 0.15, model: Model = MODEL, **options: object) -> LatencyTable:
    coupling = COUPLING if model is MODEL else couple(model)
    costs = CostModel(coupling, example_graph(model))
    return LatencyTable(coupling, costs, 10.0, (multiplying, moving), None, "cpu", **options)  # type: ignore[arg-type]


def test_layers_by_their_times_the_rest_by_its_activations_and_some_of_it_fixed(by_size: list[Model]) -> None:
    found = table()
    assert found({}) == pytest.approx(10.0)
    small = remove(MODEL, COUPLING, allocate(COUPLING, unit_scores(MODEL, COUPLING), Budget(ratio=0.5, round_to=1))[0])
    numbers = [sum(np.prod(shape) for shape in shapes(m)) for m in (MODEL, small)]
    layers = cost(small).macs / cost(MODEL).macs
    assert found(UNITS) == pytest.approx(10 * (0.8 * layers + 0.15 * numbers[1] / numbers[0] + 0.05))
    assert len(by_size) == 10


def shapes(model: Model) -> list[tuple[int, ...]]:
    """Of the input and of everything that is computed, views left out."""
    graph = example_graph(model)
    return [graph.shapes["x"], *(graph.shapes[n.output(0)] for n in graph.nodes if n.op != "Flatten")]


def test_every_size_is_timed_once_and_remembered(by_size: list[Model]) -> None:
    first = table()
    estimates = [first({}), first(UNITS), first(UNITS)]
    timed = len(by_size)
    assert timed == 10  # five layers, whole and cut
    again = table()
    assert [again({}), again(UNITS), again(UNITS)] == estimates
    assert len(by_size) == timed
    content = json.loads(cache_file().with_name("latency.json").read_text())
    assert [len(times) for times in content.values()] == [timed]


def test_another_number_of_threads_is_another_table(by_size: list[Model]) -> None:
    costs = CostModel(COUPLING, example_graph(MODEL))
    for threads in (None, 1):
        LatencyTable(COUPLING, costs, 10.0, (1.0, 0.0), threads, "cpu")
    assert len(by_size) == 10
    assert len(json.loads(cache_file().with_name("latency.json").read_text())) == 2


@pytest.mark.parametrize("content", ["", "no json", "[1]", '{"x": {"y": "z"}}'])
def test_a_file_that_makes_no_sense_is_replaced(by_size: list[Model], content: str) -> None:
    path = cache_file().with_name("latency.json")
    path.write_text(content)
    table()
    assert len(json.loads(path.read_text())) == 1
    assert len(by_size) == 5


def test_a_folder_that_cannot_be_written(by_size: list[Model], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ONNXPRUNE_CACHE", str(tmp_path / "file" / "below"))
    assert table()({}) == pytest.approx(10.0)
    assert len(by_size) == 5


def test_rates_are_milliseconds_per_mac(by_size: list[Model]) -> None:
    found = table()
    rates = found.rates
    counted = found.model.table.counted
    assert set(rates) == {node.number for node in counted}
    total = sum(rates[n.number] * macs for n, macs in zip(counted, found.model.table.macs, strict=True))
    assert total == pytest.approx(8.0)
    assert by_size


def test_the_staircase_of_a_group(by_size: list[Model]) -> None:
    found = table()
    group = COUPLING.groups[1]
    stairs = found.of_group(group.name, (24, 16, 8))
    assert [k for k, _ in stairs] == [24, 16, 8]
    assert stairs[0][1] == pytest.approx(10.0)
    assert [ms for _, ms in stairs] == sorted((ms for _, ms in stairs), reverse=True)
    assert stairs[2][1] == pytest.approx(found({group.name: np.arange(8, 24)}))
    assert by_size


def test_nodes_that_cannot_be_timed_follow_their_macs(monkeypatch: pytest.MonkeyPatch) -> None:
    found = table(1.0, 0.0, model=from_proto(HANDMADE["loop"].build()))
    assert found({}) == pytest.approx(10.0)
    monkeypatch.setattr(module, "one_node", lambda *_: None)
    costs = CostModel(COUPLING)
    plain = table(1.0, 0.0)
    assert plain(UNITS) == pytest.approx(10 * costs.after(UNITS).macs / costs.before.macs)


def test_progress_counts_what_is_timed(by_size: list[Model]) -> None:
    told: list[tuple[str, int, int]] = []
    found = table(progress=lambda *a: told.append(a))
    found(UNITS)
    assert {words for words, _, _ in told} == {"timing layers"}
    assert len(told) == len(by_size)


def test_measuring_can_be_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONNXPRUNE_NO_MEASURE", "1")
    with pytest.raises(OptionError, match=r"a latency budget needs measuring, which ONNXPRUNE_NO_MEASURE turns off"):
        latency_table(MODEL, COUPLING)


# -- for real ---------------------------------------------------------------------------------------------------------


def test_a_table_of_real_times() -> None:
    found = latency_table(MODEL, COUPLING, threads=1)
    assert found.whole > 0
    assert 0 < found.multiplying <= 1
    assert 0 <= found.moving < 1
    assert found({}) == pytest.approx(found.whole)
    nearly_all = {g.name: np.arange(g.units - 1) for g in COUPLING.groups}
    assert found(nearly_all) < found.whole


def test_plans_are_carried_out_and_timed() -> None:
    model = mlp((256, 1024, 1024, 8))
    coupling = couple(model)
    plan, _ = allocate(coupling, unit_scores(model, coupling), Budget(ratio=0.9, round_to=1))
    before, after = measurer(model, coupling, threads=1)(plan)
    assert 0 < after < 0.6 * before


def test_inputs_that_are_cut_are_fed_in_their_new_size() -> None:
    coupling: Coupling = couple(model := mlp((12, 20, 8)), Options(allow_io=("x",)))
    group = next(g for g in coupling.groups if any(m.tensor == "x" for m in g.members))
    plan, _ = allocate(coupling, unit_scores(model, coupling), Budget(group_ratios={group.name: 0.5}, round_to=1))
    before, after = measurer(model, coupling, threads=1)(plan)
    assert min(before, after) > 0


def test_a_latency_budget_from_table_to_measurement() -> None:
    model = mlp((256, 1024, 1024, 8))
    coupling = couple(model)
    estimate, measure = latency_table(model, coupling, threads=1), measurer(model, coupling, threads=1)
    budget = Budget(target_latency=0.6, round_to=8)
    plan, reached = allocate(coupling, unit_scores(model, coupling), budget, latency=estimate, measure=measure)
    found = reached.targets[0]
    assert found.how == "measured"
    assert found.share <= 1.1 * found.limit
    assert plan.removed_units
