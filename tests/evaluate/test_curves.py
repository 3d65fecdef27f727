"""Precision-recall curves: exact from all scores, close from bins, and memory that does not grow."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from onnxprune.evaluate import Asked, Meter, curves
from tests.evaluate.models import measure, passing, softmax

RNG = np.random.default_rng(3)
LOGITS, LABELS = RNG.standard_normal((400, 3)), RNG.integers(0, 3, 400)
LOGITS[np.arange(400), LABELS] += 1


@pytest.mark.parametrize("op", ["Identity", "Softmax"])
def test_a_curve_against_scikit_learn(op: str) -> None:
    found = measure(passing(3, op=op), LOGITS, LABELS).curves[1]
    precision, recall, thresholds = metrics.precision_recall_curve(LABELS == 1, softmax(LOGITS)[:, 1])
    assert found.exact
    corners = [  # all other points lie on a line from the one before to the one after, straight up
        i for i, r in enumerate(recall) if i in (0, recall.size - 1) or not recall[i - 1] == r == recall[i + 1]
    ]
    assert 3 < len(corners) < recall.size
    assert found.precision == pytest.approx(precision[corners], rel=1e-6)
    assert found.recall == pytest.approx(recall[corners], rel=1e-6)
    assert found.thresholds == pytest.approx(thresholds[corners[:-1]], rel=1e-4)
    assert found.average_precision == pytest.approx(metrics.average_precision_score(LABELS == 1, softmax(LOGITS)[:, 1]))


def test_a_rare_class_has_a_short_curve() -> None:
    """However many samples of other classes there are."""
    labels = np.where(np.arange(400) < 4, 2, LABELS % 2)
    found = measure(passing(3), LOGITS, labels).curves[2]
    assert found.recall.size <= 2 * 4 + 2
    assert found.recall[[0, -1]].tolist() == [1, 0]
    wanted = metrics.average_precision_score(labels == 2, softmax(LOGITS)[:, 2])
    assert found.average_precision == pytest.approx(wanted)
    area = -np.sum(np.diff(found.recall.astype(np.float64)) * found.precision[:-1])
    assert area == pytest.approx(wanted, rel=1e-6)


def test_long_curves_are_thinned_out_but_not_their_area(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = measure(passing(3), LOGITS, LABELS).curves[0]
    monkeypatch.setattr(curves, "POINTS", 50)
    thin = measure(passing(3), LOGITS, LABELS).curves[0]
    assert (thin.recall.size, thin.precision.size, thin.thresholds.size) == (50, 50, 49)
    assert thin.average_precision == whole.average_precision
    assert set(zip(thin.recall, thin.precision, strict=True)) <= set(zip(whole.recall, whole.precision, strict=True))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 9999), st.floats(0.1, 30), st.lists(st.integers(1, 100), min_size=1, max_size=5))
def test_bins_give_the_curve_of_rounded_scores(seed: int, scale: float, sizes: list[int]) -> None:
    rng = np.random.default_rng(seed)
    count, ends = sum(sizes), np.cumsum(sizes)
    logits, labels = scale * rng.standard_normal((count, 3)), rng.integers(0, 3, count)
    meter = Meter(Asked(curves="binned"), samples=count)
    for start, end in zip(ends - sizes, ends, strict=True):
        meter.add({"y": logits[start:end]}, labels[start:end], int(end - start))
    p = softmax(logits)
    odds = np.log(np.maximum(p, 1e-300)) - np.log(np.maximum(1 - p, 1e-300))
    bins = np.floor(np.clip((odds + curves.BOUND) * curves.BINS / (2 * curves.BOUND), 0, curves.BINS - 1))
    for c, curve in enumerate(meter.finish().curves):
        if 0 < (labels == c).sum() < count:
            wanted = metrics.average_precision_score(labels == c, bins[:, c])
            assert curve.average_precision == pytest.approx(wanted)
        else:
            assert np.isnan(curve.average_precision)


def test_bins_are_close_to_all_scores() -> None:
    exact, binned = (measure(passing(3), LOGITS, LABELS, curves=how) for how in ("exact", "binned"))
    for one, other in zip(exact.curves, binned.curves, strict=True):
        assert (one.exact, other.exact) == (True, False)
        assert other.average_precision == pytest.approx(one.average_precision, abs=0.005)
    assert "curves are made of scores in bins" in binned.notes[-1]


def test_many_scores_go_into_bins_by_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    assert measure(passing(3), LOGITS, LABELS).curves[0].exact
    monkeypatch.setattr(curves, "LIMIT", 3 * 400 - 1)
    found = measure(passing(3), LOGITS, LABELS)
    assert not found.curves[0].exact
    assert measure(passing(3), LOGITS, LABELS, curves="exact").curves[0].exact
    assert measure(passing(3), LOGITS, LABELS, curves="none").curves == ()


def test_memory_does_not_grow_with_the_data() -> None:
    """Of batches of 4 MB of scores each, what is kept are some bytes for each sample."""
    meter = Meter(Asked(curves="binned"), samples=1_000_000)
    scores, labels = RNG.standard_normal((10_000, 100)).astype(np.float32), np.arange(10_000) % 100
    meter.add({"y": scores}, labels, 10_000)
    tracemalloc.start()
    for _ in range(5):
        meter.add({"y": scores}, labels, 10_000)
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 5 * 10_000 * 16


def test_a_vocabulary_has_no_matrix_and_no_curves() -> None:
    scores, labels = RNG.standard_normal((20, 2500)), RNG.integers(0, 2500, 20)
    found = measure(passing(2500), scores, labels)
    assert (found.confusion, found.curves) == (None, ())
    assert found.value("accuracy") == pytest.approx((scores.argmax(1) == labels).mean())
    assert found.value("recall", cls=int(labels[0])) >= 0
    assert "2500 classes: no confusion matrix" in found.notes[-1]
