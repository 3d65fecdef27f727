"""Schedules on the digits nets: what is gone only grows, tickets are rewound, floors end it, rounds can be resumed."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from onnxprune.allocate import Floor
from onnxprune.data import Dataset, open_dataset
from onnxprune.errors import BudgetError, DataError, ModelError, OptionError
from onnxprune.evaluate import evaluate
from onnxprune.experiment import analyse
from onnxprune.figures import Chart
from onnxprune.graph import build_graph
from onnxprune.model import Model, load, save
from onnxprune.plan import diff
from onnxprune.schedule import (
    Course,
    Journal,
    Scheduled,
    earlier,
    run_schedule,
    schedule_charts,
    with_weights,
)
from onnxprune.schedule import run as running
from onnxprune.train import train

ROOT = Path(__file__).parents[2]
DATA = ROOT / "onnxprune" / "demo_data" / "digits.npz"
FAST = {"epochs": 1, "batch": 128, "rate": 1e-4}
EXACT = {"round_to": 1}


@pytest.fixture(scope="module")
def mlp() -> Model:
    return load(ROOT / "examples" / "nets" / "mlp.onnx")


@pytest.fixture(scope="module")
def cnn() -> Model:
    return load(ROOT / "onnxprune" / "demo_data" / "digits_cnn.onnx")


@pytest.fixture(scope="module")
def data() -> tuple[Dataset, Dataset]:
    return open_dataset(DATA, "train").subset(512), open_dataset(DATA, "test").subset(200)


def go(model: Model, data: tuple[Dataset, Dataset], course: Course, **options: Any) -> Scheduled:
    options = {"validation": data[1], "training": FAST, **options}
    if course.granularity == "unit":
        options.setdefault("budget", EXACT)
    return run_schedule(model, data[0], course, **options)


def weights(model: Model) -> dict[str, NDArray[Any]]:
    return {name: weight.array() for name, weight in build_graph(model).weights.items()}


class TestUnits:
    def test_gradual_shrinks_and_is_proven(self, cnn: Model, data: tuple[Dataset, Dataset], tmp_path: Path) -> None:
        found = go(cnn, data, Course("gradual", sparsity=0.6, rounds=3), folder=tmp_path)
        rows = found.rounds
        assert [row.number for row in rows] == [0, 1, 2, 3]
        assert (found.delivered, found.stopped) == (3, "all rounds")
        for row in rows[1:]:
            assert row.asked - 0.03 < row.reached <= row.asked + 1e-9
            assert row.proof_error is not None
            assert row.proof_error < 1e-5
            assert row.epochs == 1
            assert row.before[0].name == row.after[0].name == "accuracy"
        assert sorted((row.parameters, row.macs) for row in rows)[::-1] == [(row.parameters, row.macs) for row in rows]
        assert found.model.hash == load(tmp_path / "round-03.onnx").hash
        assert evaluate(found.model, data[1], curves="none").value("accuracy") == rows[3].after[0].value

    def test_what_is_gone_is_told_in_the_numbers_of_the_original(
        self, mlp: Model, data: tuple[Dataset, Dataset], tmp_path: Path
    ) -> None:
        """Rounds on a smaller and smaller model, but one plan for the original that only grows."""
        go(mlp, data, Course("iterative", ratio=0.4, rounds=3), folder=tmp_path)
        journal = Journal.open(tmp_path, mlp.hash, {}, resume=True)
        plans = [journal.plan(number) for number in range(4)]
        for one, other in pairwise(plans):
            change = diff(one, other)
            assert all(not group.only_a.size for group in change.groups)
            assert any(group.only_b.size for group in change.groups)
        assert plans[3].model_hash == mlp.hash
        sizes = {group.name: group.units for group in analyse(mlp)[1].groups}
        assert dict(plans[3].group_sizes) == sizes
        left = {name: size - plans[3].units[name].size for name, size in sizes.items()}
        small = journal.model(3)
        assert {name: weight.shape for name, weight in small.weights.items()}["layers.1.bias"] == (left["layers.1"],)

    def test_tickets_have_the_earlier_weights(
        self, mlp: Model, data: tuple[Dataset, Dataset], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        begun: list[Model] = []
        monkeypatch.setattr(running, "train", lambda model, *a, **k: (begun.append(model), train(model, *a, **k))[1])
        found = go(mlp, data, Course("lottery", ratio=0.5, rounds=2))
        assert len(begun) == 3  # the first of them is the model that is trained whole
        assert begun[0].hash == mlp.hash
        names = list(found.plan.units)
        bias = mlp.weights["layers.1.bias"].array()
        kept = np.setdiff1d(np.arange(bias.size), found.plan.units["layers.1"])
        np.testing.assert_array_equal(begun[2].weights["layers.1.bias"].array(), bias[kept])
        assert set(names) == {"layers.1", "layers.4", "layers.7"}
        matrix = mlp.weights["layers.4.weight"].array()
        rows = np.setdiff1d(np.arange(matrix.shape[0]), found.plan.units["layers.4"])
        np.testing.assert_array_equal(begun[2].weights["layers.4.weight"].array(), matrix[np.ix_(rows, kept)])


class TestWeights:
    @pytest.mark.parametrize("criterion", ["l1", "random"])
    def test_masks_only_grow_and_stay_zero(
        self, criterion: str, mlp: Model, data: tuple[Dataset, Dataset], tmp_path: Path
    ) -> None:
        course = Course("iterative", "weight", ratio=0.4, rounds=3)
        found = go(mlp, data, course, criterion=criterion, folder=tmp_path)
        journal = Journal.open(tmp_path, mlp.hash, {}, resume=True)
        before: dict[str, NDArray[np.bool_]] = {}
        for row in found.rounds[1:]:
            assert abs(row.reached - row.asked) < 1e-3
            assert row.parameters == found.rounds[0].parameters
            assert row.nonzero < found.rounds[row.number - 1].nonzero
            masks, arrays = journal.plan(row.number).weights, weights(journal.model(row.number))
            for name, mask in masks.items():
                assert not (before.get(name, np.zeros(mask.shape, np.bool_)) & ~mask).any()
                assert not arrays[name][mask].any()
                assert arrays[name][~mask].any()
            before = dict(masks)

    @pytest.mark.parametrize("epoch", [0, 1])
    def test_tickets_have_the_earlier_weights(
        self, epoch: int, mlp: Model, data: tuple[Dataset, Dataset], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        begun: list[Model] = []
        done: list[Any] = []

        def spy(model: Model, *arguments: Any, **options: Any) -> Any:
            begun.append(model)
            done.append(train(model, *arguments, **options))
            return done[-1]

        monkeypatch.setattr(running, "train", spy)
        found = go(mlp, data, Course("lottery", "weight", ratio=0.5, rounds=2), rewind_epoch=epoch)
        start = weights(mlp) if epoch == 0 else done[0].kept[1]
        now = weights(begun[2])
        moved = weights(done[1].model)
        for name, mask in found.plan.weights.items():
            np.testing.assert_array_equal(now[name], np.where(mask, 0, start[name]))
            assert not np.array_equal(moved[name], now[name])
        assert abs(np.mean([mask.mean() for mask in found.plan.weights.values()]) - 0.75) < 0.01

    def test_rewinding_to_a_file(
        self, mlp: Model, data: tuple[Dataset, Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        begun: list[Model] = []
        monkeypatch.setattr(running, "train", lambda model, *a, **k: (begun.append(model), train(model, *a, **k))[1])
        rng = np.random.default_rng(0)
        fresh = {
            n: rng.standard_normal(w.shape).astype(np.float32) for n, w in mlp.weights.items() if len(w.shape) == 2
        }
        path = tmp_path / "fresh.onnx"
        save(with_weights(mlp, fresh), path)
        found = go(mlp, data, Course("lottery", "weight", ratio=0.5, rounds=1), rewind_to=earlier(mlp, path))
        assert len(begun) == 1  # nothing is trained before the first round
        for name, mask in found.plan.weights.items():
            np.testing.assert_array_equal(weights(begun[0])[name], np.where(mask, 0, fresh[name]))

    def test_one_shot(self, mlp: Model, data: tuple[Dataset, Dataset]) -> None:
        found = go(mlp, data, Course("one-shot", "weight", sparsity=0.8))
        assert len(found.rounds) == 2
        assert abs(found.rounds[1].reached - 0.8) < 1e-3


class TestEnds:
    def test_a_floor_ends_it_and_the_last_that_held_is_delivered(
        self, mlp: Model, data: tuple[Dataset, Dataset], tmp_path: Path
    ) -> None:
        course = Course("iterative", ratio=0.6, rounds=6)
        for folder in (None, tmp_path):
            found = go(mlp, data, course, floors=(Floor("accuracy", 0.85),), folder=folder)
            assert found.stopped == "floor"
            assert [row.held for row in found.rounds] == [True] * (len(found.rounds) - 1) + [False]
            assert found.delivered == len(found.rounds) - 2 < 6
            assert evaluate(found.model, data[1], curves="none").value("accuracy") >= 0.85
            assert found.plan.removed_units / sum(found.plan.group_sizes.values()) == pytest.approx(
                found.rounds[found.delivered].reached
            )
        again = go(mlp, data, course, floors=(Floor("accuracy", 0.85),), folder=tmp_path, resume=True)
        assert (again.stopped, again.rounds) == ("floor", found.rounds)

    def test_a_floor_that_the_start_misses(self, mlp: Model, data: tuple[Dataset, Dataset]) -> None:
        with pytest.raises(BudgetError, match=r"at the start already misses a floor: accuracy >= 0\.999"):
            go(mlp, data, Course("one-shot", sparsity=0.5), floors=(Floor("accuracy", 0.999),))

    def test_cancelling_loses_the_round_under_way_alone(
        self, mlp: Model, data: tuple[Dataset, Dataset], tmp_path: Path
    ) -> None:
        course = Course("iterative", ratio=0.3, rounds=3)
        whole = go(mlp, data, course, folder=tmp_path / "whole")
        asked: list[int] = []

        def cancelled() -> bool:
            asked.append(1)
            return len(asked) > 8

        part = go(mlp, data, course, folder=tmp_path / "part", cancelled=cancelled)
        assert part.stopped == "cancelled"
        assert 1 < len(part.rounds) < 4
        rest = go(mlp, data, course, folder=tmp_path / "part", resume=True)
        assert rest.model.hash == whole.model.hash
        assert [row.after for row in rest.rounds] == [row.after for row in whole.rounds]


class TestFolder:
    def test_another_schedule(self, mlp: Model, cnn: Model, data: tuple[Dataset, Dataset], tmp_path: Path) -> None:
        course = Course("one-shot", sparsity=0.5)
        first = go(mlp, data, course, folder=tmp_path)
        with pytest.raises(OptionError, match=r"is there already(.|\n)*--resume"):
            go(mlp, data, course, folder=tmp_path)
        with pytest.raises(DataError, match="a schedule of another model"):
            go(cnn, data, course, folder=tmp_path, resume=True)
        with pytest.raises(OptionError, match=r"other settings: levels \(\[0.4\], was \[0.5\]\)"):
            go(mlp, data, Course("one-shot", sparsity=0.4), folder=tmp_path, resume=True)
        with pytest.raises(OptionError, match="other settings: training"):
            go(mlp, data, course, folder=tmp_path, resume=True, training={**FAST, "epochs": 2})
        again = go(mlp, data, course, folder=tmp_path, resume=True)
        assert (again.rounds, again.model.hash) == (first.rounds, first.model.hash)
        assert not list(tmp_path.glob("*.ckpt"))

    def test_a_broken_file(self, mlp: Model, data: tuple[Dataset, Dataset], tmp_path: Path) -> None:
        (tmp_path / "schedule.json").write_text("{}")
        with pytest.raises(DataError, match="not a schedule"):
            go(mlp, data, Course("one-shot", sparsity=0.5), folder=tmp_path, resume=True)

    def test_resume_without_a_folder(self, mlp: Model, data: tuple[Dataset, Dataset]) -> None:
        with pytest.raises(OptionError, match="no folder is named"):
            go(mlp, data, Course("one-shot", sparsity=0.5), resume=True)


class TestRefused:
    def test_an_epoch_that_was_never_reached(self, mlp: Model, data: tuple[Dataset, Dataset]) -> None:
        """Steps this large break a trained model at once."""
        with pytest.raises(OptionError, match=r"rewind epoch: 1, but the first training ended in epoch 0 \(diverged\)"):
            go(mlp, data, Course("lottery", rounds=1), rewind_epoch=1, training={**FAST, "rate": 10.0})

    def test_options(self, mlp: Model, data: tuple[Dataset, Dataset]) -> None:
        course = Course("one-shot", sparsity=0.5)
        with pytest.raises(OptionError, match="Rewinding belongs to lottery tickets"):
            go(mlp, data, course, rewind_to=mlp)
        with pytest.raises(OptionError, match="floors need data"):
            go(mlp, data, course, floors=(Floor("accuracy", 0.5),), validation=None)
        with pytest.raises(OptionError, match="training: masks, seed is up to the schedule"):
            go(mlp, data, course, training={"seed": 1, "masks": None})

    def test_rewinding_to_something_else(
        self, mlp: Model, cnn: Model, data: tuple[Dataset, Dataset], tmp_path: Path
    ) -> None:
        save(cnn, tmp_path / "cnn.onnx")
        with pytest.raises(DataError, match="not the same architecture"):
            earlier(mlp, tmp_path / "cnn.onnx")
        with pytest.raises(OptionError, match="has no epochs"):
            earlier(cnn, tmp_path / "cnn.onnx", 2)
        with pytest.raises(DataError, match=r"hold `layers.1.bias` \(3,\), which is \(160,\) in the model"):
            with_weights(mlp, {"layers.1.bias": np.zeros(3, np.float32)})
        with pytest.raises(DataError, match="which it does not have"):
            with_weights(mlp, {"nothing": np.zeros(3, np.float32)})
        with pytest.raises(ModelError, match="not the same architecture"):
            go(mlp, data, Course("lottery", rounds=1), rewind_to=cnn)

    def test_rewinding_to_an_epoch_of_a_training(
        self, mlp: Model, data: tuple[Dataset, Dataset], tmp_path: Path
    ) -> None:
        path = tmp_path / "t.ckpt"
        trained = train(mlp, data[0], epochs=2, batch=128, rate=1e-4, checkpoint=path, keep_epochs=(1,))
        found = weights(earlier(mlp, path, 1))
        for name, array in trained.kept[1].items():
            np.testing.assert_array_equal(found[name], array)
        with pytest.raises(DataError, match="the weights of epoch 0 are not in it"):
            earlier(mlp, path)


def test_charts(mlp: Model, data: tuple[Dataset, Dataset]) -> None:
    found = go(mlp, data, Course("iterative", ratio=0.4, rounds=2))
    first, second = schedule_charts(found)
    assert isinstance(first, Chart)
    assert isinstance(second, Chart)
    assert first.title == "Accuracy over sparsity"
    assert list(first.series[0].x) == [row.reached for row in found.rounds]
    assert list(first.series[0].y) == [row.after[0].value for row in found.rounds]
    assert second.series[1].y[0] == 1.0
    bare = schedule_charts(go(mlp, data, Course("one-shot", sparsity=0.3), validation=None))
    assert [chart.title for chart in bare] == ["What is left"]
