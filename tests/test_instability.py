"""Ranks of several runs: by hand, by a loop in torch, the same here and in other processes; files; bad input."""

from __future__ import annotations

from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from onnxprune import ops
from onnxprune.criteria import Settings, score
from onnxprune.data import Dataset
from onnxprune.errors import DataError, OptionError, UnsupportedModel
from onnxprune.figures import Chart
from onnxprune.instability import Instability, Training, instability, load_instability, ranked
from onnxprune.instability.run import Desk, Work
from onnxprune.instability_charts import instability_charts
from onnxprune.model import Model
from onnxprune.values import Coupling
from tests.criteria.gradients_torch import cnn, contributions_by_hooks, dataset, exported, loss, mlp
from tests.criteria.measured import finish
from tests.nets.handmade._build import Build

DATA = dataset(6, count=20)
FAST = Training(rate=0.05, momentum=0.5, batch=8)


@pytest.fixture(scope="module")
def net() -> tuple[Model, Coupling]:
    return exported(mlp(), 6)


@pytest.fixture(scope="module")
def found(net: tuple[Model, Coupling]) -> Instability:
    return instability(*net, DATA, training=FAST, threads=1)


class TestRanks:
    """Two groups in three runs, worked out by hand."""

    RUNS = (
        {"a": np.array([0.1, 0.5]), "b": np.array([0.3, 0.7, 0.9])},
        {"a": np.array([0.6, 0.5]), "b": np.array([0.3, 0.7, 0.9])},
        {"a": np.array([0.3, 0.5]), "b": np.array([0.3, 0.7, 0.9])},
    )

    def test_over_the_model(self) -> None:
        a, b = ranked(self.RUNS)
        assert a.ranks == ((1, 3), (3, 2), (1.5, 3))
        assert b.ranks == ((2, 4, 5), (1, 4, 5), (1.5, 4, 5))
        assert a.mean_rank == pytest.approx((5.5 / 3, 8 / 3))
        assert a.instability == pytest.approx(((2.5 / 3 + 3.5 / 3 + 1 / 3) / 3, (1 / 3 + 2 / 3 + 1 / 3) / 3))
        assert b.instability == pytest.approx(((0.5 + 0.5 + 0) / 3, 0, 0))
        assert a.sensitivity == pytest.approx((1 / 3, 0.5))

    def test_within_layers(self) -> None:
        a, b = ranked(self.RUNS, "layer")
        assert a.ranks == ((1, 2), (2, 1), (1, 2))
        assert b.instability == (0, 0, 0)

    def test_unknown(self) -> None:
        with pytest.raises(OptionError, match="within: got 'group', expected one of model, layer"):
            ranked(self.RUNS, "group")


def test_a_run_is_that_of_a_training_loop() -> None:
    module = cnn()
    model, coupling = exported(module, 3, 8, 8)
    data = dataset(3, 8, 8, count=11)
    how = Training(rate=0.05, momentum=0.9, batch=4)
    got = Desk(Work(model, coupling.options, data, how, normalise="none", seed=5)).run(2)
    module = module.double()
    momenta = [torch.zeros_like(w) for w in module.parameters()]
    parts: list[list[np.ndarray]] = []
    order = np.random.default_rng((5, 2)).permutation(11)
    for start in range(0, 11, 4):
        batch = data.select(order[start : start + 4])
        each = contributions_by_hooks(module, [module[2], module[6], module[10]], batch)
        parts.append([np.abs(values).sum(axis=0) for values in each])
        module = module.double()
        g = torch.autograd.grad(loss(module, batch).mean(), list(module.parameters()))
        with torch.no_grad():
            for w, v, part in zip(module.parameters(), momenta, g, strict=True):
                v.mul_(0.9).add_(part)
                w.sub_(0.05 * v)
    totals = [sum(values) for values in zip(*parts, strict=True)]
    for total, values in zip(totals, got.values(), strict=True):
        np.testing.assert_allclose(values, total / 11, rtol=2e-4)


def test_without_learning_all_runs_agree(net: tuple[Model, Coupling]) -> None:
    still = instability(*net, DATA, runs=3, training=Training(rate=1e-12), normalise="layer")
    assert all(max(group.instability) == 0 for group in still.groups)
    scores = score(*net, "sensitivity", Settings(data=DATA))
    for group in still.groups:
        np.testing.assert_allclose(group.sensitivity, scores[group.name], rtol=1e-4)


def test_learning_moves_ranks_and_the_seed_decides_how(net: tuple[Model, Coupling], found: Instability) -> None:
    assert any(max(group.instability) > 0 for group in found.groups)
    assert (found.runs, found.steps, found.samples, found.units) == (5, 3, 20, 16)
    assert sorted(rank for group in found.groups for rank in group.ranks[0]) == list(range(1, 17))
    assert instability(*net, DATA, training=FAST, threads=1) == found
    assert instability(*net, DATA, training=FAST, threads=1, seed=1).groups != found.groups


def test_the_model_is_left_as_it_was(net: tuple[Model, Coupling]) -> None:
    model, coupling = net
    before = {name: np.array(weight.array()) for name, weight in model.weights.items()}
    instability(model, coupling, DATA, runs=2, training=FAST)
    assert all(np.array_equal(model.weights[name].array(), values) for name, values in before.items())


def test_steps_go_round_the_data_again(net: tuple[Model, Coupling]) -> None:
    seen: list[tuple[str, int, int]] = []
    instability(*net, DATA, runs=2, training=replace(FAST, steps=5), progress=lambda *args: seen.append(args))
    assert seen[0] == ("run 1 of 2", 0, 10)
    assert seen[-1] == ("training", 2, 2)
    assert len(seen) == 11


def test_executors_give_the_same(net: tuple[Model, Coupling], found: Instability) -> None:
    seen: list[tuple[str, int, int]] = []
    with ThreadPoolExecutor(2) as pool:
        spread = instability(
            *net, DATA, training=FAST, threads=1, executor=pool, progress=lambda *args: seen.append(args)
        )
        handed = instability(*net, DATA, training=FAST, threads=1, executor=pool, share=lambda work: work)
    assert spread == found == handed
    assert [done for _, done, _ in seen] == [1, 2, 3, 4, 5, 5]


class Interrupted(Executor):
    """Runs the first task, and the person gives up while it waits for the second."""

    def __init__(self) -> None:
        self.futures: list[Future[Any]] = []

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.futures.append(Future())
        if len(self.futures) == 1:
            self.futures[0].set_result(fn(*args, **kwargs))
        return self.futures[-1]


def test_interrupting_cancels_what_has_not_begun(net: tuple[Model, Coupling]) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    pool = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        instability(*net, DATA, training=FAST, executor=pool, progress=interrupt)
    assert [future.cancelled() for future in pool.futures] == [False, True, True, True, True]


def test_files(found: Instability, tmp_path: Path) -> None:
    path = tmp_path / "ranks.json"
    found.save(path)
    assert load_instability(path) == found
    path.write_text("{}")
    with pytest.raises(DataError, match="no ranks of `onnxprune instability`"):
        load_instability(path)
    path.write_text('{"onnxprune_instability": 7}')
    with pytest.raises(DataError, match="of another version"):
        load_instability(path)
    with pytest.raises(DataError, match="cannot read the ranks"):
        load_instability(tmp_path / "absent.json")
    with pytest.raises(DataError, match="cannot write the ranks"):
        found.save(tmp_path / "no" / "folder.json")


def test_a_group_by_name(found: Instability) -> None:
    assert found.of(found.groups[1].name) is found.groups[1]
    with pytest.raises(OptionError, match="no group 'head' in these ranks"):
        found.of("head")


def test_charts_hold_a_bubble_for_every_unit(found: Instability) -> None:
    bubbles, spread = instability_charts(found)
    assert isinstance(bubbles, Chart)
    for series, group in zip(bubbles.series, found.groups, strict=True):
        assert (series.name, series.x, series.sizes) == (group.name, group.sensitivity, group.instability)
        assert set(series.y) == {group.name}
        assert series.labels[1] == "unit 1"
    assert spread.series[0].y == found.groups[0].instability
    assert bubbles.x.label == "sensitivity, over the norm of the layer"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"runs": 1}, "runs: got 1, expected at least 2"),
        ({"within": "unit"}, "within: got 'unit'"),
        ({"normalise": "all"}, "normalise: got 'all'"),
    ],
)
def test_bad_options(net: tuple[Model, Coupling], wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        instability(*net, DATA, **wrong)


@pytest.mark.parametrize("wrong", [{"rate": 0}, {"momentum": 1}, {"batch": 0}, {"steps": 0}])
def test_bad_training(wrong: dict[str, Any]) -> None:
    (name,) = wrong
    with pytest.raises(OptionError, match=f"{name}: got {wrong[name]}, expected"):
        Training(**wrong)


@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid value")
def test_a_loss_that_diverges() -> None:
    b = Build(2)
    y = b.op("MatMul", b.op("MatMul", "x", b.matrix("w1", 6, 8)), b.matrix("w2", 8, 1))
    model, coupling = finish(b, y, "batch", 6)
    numbers = Dataset(DATA.inputs, np.random.default_rng(0).standard_normal((20, 1)).astype(np.float32))
    with pytest.raises(OptionError, match=r"(?s)diverged in run 1 at learning rate 1000.*lower rate, 100 "):
        instability(model, coupling, numbers, training=Training(rate=1e3, batch=1, steps=60))


def test_no_group_with_a_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ops.RULES, ("", "Softsign"), replace(ops.RULES["", "Softsign"], vjp=None, expand=None))
    b = Build(2)
    y = b.op("MatMul", b.op("MatMul", "x", b.matrix("w1", 6, 8)), b.matrix("w2", 8, 4))
    model, coupling = finish(b, b.op("Softsign", y), "batch", 6)
    with pytest.raises(UnsupportedModel, match=r"no group of .* has a gradient: Softsign node"):
        instability(model, coupling, DATA)


def test_groups_without_gradients_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ops.RULES, ("", "Softsign"), replace(ops.RULES["", "Softsign"], vjp=None, expand=None))
    b = Build(2)
    y = b.op("MatMul", b.op("Tanh", b.op("MatMul", "x", b.matrix("w1", 6, 8))), b.matrix("w2", 8, 5))
    model, coupling = finish(b, b.op("MatMul", b.op("Softsign", y), b.matrix("w3", 5, 4)), "batch", 6)
    left = instability(model, coupling, DATA, runs=2, training=FAST)
    assert [group.name for group in left.groups] == [coupling.groups[1].name]
    assert left.warnings[0].startswith(f"no gradient says anything about {coupling.groups[0].name} (Softsign node")
