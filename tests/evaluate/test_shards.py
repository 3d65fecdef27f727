"""Shards summed up in their order: what one pass finds, and to the last bit the same whoever measures them."""

from __future__ import annotations

import pickle
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import fields
from typing import Any

import numpy as np
import pytest

from onnxprune.data import Dataset
from onnxprune.errors import DataError, ModelError, OnnxPruneError
from onnxprune.evaluate import Evaluation, Meter, evaluate, evaluate_pair, run
from onnxprune.evaluate import shards as module
from onnxprune.evaluate.curves import collector
from onnxprune.evaluate.layout import Layout
from onnxprune.evaluate.tally import Tally
from tests.evaluate.models import dataset, deciding, passing, softmax

RNG = np.random.default_rng(0)
N = 53
LOGITS = RNG.standard_normal((N, 7))
CLASSES = RNG.integers(0, 7, N)
PIXELS = RNG.integers(0, 3, (N, 4, 5))
PIXELS[RNG.random(PIXELS.shape) < 0.3] = -100


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SAMPLES", 10)


CASES: dict[str, tuple[Any, Dataset, dict[str, Any]]] = {
    "logits": (passing(7), dataset(LOGITS, CLASSES), {"curves": "exact"}),
    "probabilities": (passing(7), dataset(softmax(LOGITS), CLASSES), {"curves": "exact"}),
    "bins": (passing(7), dataset(LOGITS, CLASSES), {"curves": "binned"}),
    "late logits": (
        passing(7),
        dataset(np.concatenate([softmax(LOGITS[:25]), LOGITS[25:]]), CLASSES),
        {"curves": "exact"},
    ),
    "decided": (deciding(), dataset(CLASSES.astype(np.float32), np.roll(CLASSES, 3)), {}),
    "binary": (passing(1), dataset(LOGITS[:, :1], CLASSES % 2), {}),
    "multi-label": (passing(7), dataset(LOGITS, (LOGITS > 0.5).astype(np.int64)), {"task": "multi-label"}),
    "segmentation": (passing(3, 4, 5), dataset(RNG.standard_normal((N, 3, 4, 5)), PIXELS), {}),
    "regression": (passing(7), dataset(LOGITS, LOGITS.astype(np.float32) * 1.1 + 1000), {}),
    "fidelity": (passing(7), dataset(LOGITS), {"original": passing(7, op="Sigmoid")}),
    "both": (passing(7), dataset(LOGITS, CLASSES), {"original": passing(7, op="Tanh")}),
}


class Backwards(Executor):
    """Runs what it is given when somebody asks for a result, the last first."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Future[Any], Any, Any]] = []

    def submit(self, fn: Any, /, *args: Any, **_: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.waiting.append((future, fn, args))
        if len(self.waiting) == -(-N // 10):
            for each, function, given in reversed(self.waiting):
                each.set_result(function(*given))
        return future


def same(one: Evaluation, other: Evaluation) -> None:
    """To the last bit."""
    for f in fields(one):
        a, b = getattr(one, f.name), getattr(other, f.name)
        if f.name == "curves":
            a, b = (
                [v for c in curves for v in (c.precision, c.recall, c.thresholds, c.average_precision)]
                for curves in (a, b)
            )
            assert len(a) == len(b)
            for x, y in zip(a, b, strict=True):
                np.testing.assert_array_equal(x, y)
        elif isinstance(a, np.ndarray):
            np.testing.assert_array_equal(a, b)
        else:
            assert repr(a) == repr(b), f.name  # NaN is NaN here


@pytest.mark.parametrize("case", CASES)
def test_the_same_in_any_order(case: str) -> None:
    model, data, options = CASES[case]
    alone = evaluate(model, data, size=5, **options)
    same(evaluate(model, data, size=5, executor=Backwards(), **options), alone)
    same(evaluate(model, data, size=5, executor=Backwards(), share=lambda check: check, **options), alone)


@pytest.mark.parametrize("case", CASES)
def test_one_pass_finds_it_too(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, data, options = CASES[case]
    parts = evaluate(model, data, size=5, **options)
    monkeypatch.setattr(module, "SAMPLES", 1000)
    whole = evaluate(model, data, size=5, **options)
    assert [m.name for m in parts] == [m.name for m in whole]
    np.testing.assert_allclose([m.value for m in parts], [m.value for m in whole], rtol=1e-12)
    assert repr(parts.per_class) == repr(whole.per_class)
    assert parts.samples == whole.samples == N
    assert parts.task == whole.task
    for name in ("confusion", "labels", "predictions", "right"):
        np.testing.assert_array_equal(getattr(parts, name), getattr(whole, name))
    for one, other in zip(parts.curves, whole.curves, strict=True):
        np.testing.assert_array_equal(one.precision, other.precision)


@pytest.mark.parametrize("case", CASES)
def test_meters_travel(case: str) -> None:
    model, data, options = CASES[case]
    there = lambda check, shard: pickle.loads(pickle.dumps(module.measure(check, shard)))  # noqa: E731, S301 - our own
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "measure", there)
        found = evaluate(model, data, size=5, executor=Backwards(), share=lambda check: check, **options)
    same(found, evaluate(model, data, size=5, **options))


def test_large_matrices_travel_small() -> None:
    tally = Tally(1000)
    tally.add(np.arange(500), np.arange(500)[::-1])
    assert len(pickle.dumps(tally)) < 50_000
    binned = collector("binned", 1, 500)
    assert len(pickle.dumps(binned)) < 1000


def test_two_models() -> None:
    arguments = (passing(7), passing(7, op="Tanh"), dataset(LOGITS, CLASSES))
    with ThreadPoolExecutor(2) as pool:
        found = evaluate_pair(*arguments, size=5, executor=pool)
    for one, other in zip(found, evaluate_pair(*arguments, size=5), strict=True):
        same(one, other)


def test_a_limit_and_progress() -> None:
    told: list[tuple[str, int, int]] = []
    pool = ThreadPoolExecutor(1)
    with pool:
        found = evaluate(
            passing(7), dataset(LOGITS, CLASSES), size=5, limit=24, executor=pool, progress=lambda *a: told.append(a)
        )
    assert found.samples == 24
    assert told == [("evaluating", 10, 24), ("evaluating", 20, 24), ("evaluating", 24, 24)]


class TestBoundaries:
    def test_whole_batches(self) -> None:
        data = dataset(LOGITS, CLASSES)
        assert [(s.start, s.stop) for s in module.shards(data, 53, 4)] == [(a, min(a + 8, 53)) for a in range(0, 53, 8)]
        assert [s.start for s in module.shards(data, 53, 30)] == [0, 30]

    def test_large_samples(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "BYTES", 6 * 28)
        assert module.length(dataset(LOGITS), 2) == 6
        assert module.length(dataset(LOGITS), 64) == 64
        monkeypatch.setattr(module, "FLIGHT", 6 * 28 * 5)
        assert module.in_flight(dataset(LOGITS), 2, 64) == 5
        assert module.in_flight(dataset(LOGITS), 2, 4) == 4

    def test_the_same_with_and_without_batches(self) -> None:
        data = dataset(LOGITS, CLASSES)
        for shard in module.shards(data, 53, 5, whole=True):
            assert shard.batches is not None
            feeds = np.concatenate([batch.feeds["x"] for batch in shard.batches])
            np.testing.assert_array_equal(feeds, LOGITS[shard.start : shard.stop].astype(np.float32))


class TestErrors:
    """They name the row in the whole of the data."""

    @pytest.mark.parametrize("share", [None, lambda check: check])
    def test_rows(self, share: Any) -> None:
        logits = LOGITS.copy()
        logits[37, 2] = np.nan
        with ThreadPoolExecutor(2) as pool, pytest.raises(ModelError, match="NaN in row 37"):
            evaluate(passing(7), dataset(logits, CLASSES), size=5, executor=pool, share=share)
        strange = np.where(np.arange(N) == 41, 9, CLASSES)
        with ThreadPoolExecutor(2) as pool, pytest.raises(DataError, match="label 9 in row 41"):
            evaluate(passing(7), dataset(LOGITS, strange), size=5, executor=pool, share=share)
        data = Dataset({"x": logits.astype(np.float32)}, CLASSES)
        with ThreadPoolExecutor(2) as pool, pytest.raises(DataError, match="in 1 rows of the 5 from row 35 on: 37"):
            evaluate(passing(7), data, size=5, executor=pool, share=share)

    def test_a_batch_of_none(self) -> None:
        with pytest.raises(OnnxPruneError, match="batch size: got 0"):
            evaluate(passing(7), dataset(LOGITS, CLASSES), size=0)

    def test_labels_read_in_two_ways(self) -> None:
        one, other = Meter(samples=2), Meter(samples=2, start=1)
        one.layout, other.layout = Layout("binary", "y"), Layout("regression", "y")
        with pytest.raises(DataError, match=r"row 1 on are of the task `regression`.* those before of the task `b"):
            one.merge(other)
