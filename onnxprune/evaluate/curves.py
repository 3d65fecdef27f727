"""Precision over recall, class against rest: from all scores where they are few, else from counts in bins.

A score is the log-odds of a class, float32. All are kept up to ``LIMIT`` numbers; beyond that they are counted in
``BINS`` equal bins of log-odds between -BOUND and BOUND, so that memory does not grow with the data. scikit-learn makes
the curve of both, of bins with the counts as weights. Average precision is the sum of (R_n - R_{n-1}) P_n.

Between two labels of the class a higher threshold only raises the precision: the curve goes straight up. What is handed
on are its corners, 2 points at most for each label of the class, whose drawing and area are those of the whole curve.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from onnxprune.evaluate.result import Curve
from onnxprune.evaluate.scores import probability
from onnxprune.evaluate.tally import MANY, Packed, packed, unpacked

__all__ = ["BINS", "LIMIT", "Collector", "collector"]

LIMIT = 20_000_000  # scores kept as they are: 80 MB
BINS = 2048
BOUND = 16.0  # log-odds; 1e-7 and 1 - 1e-7 as probabilities
POINTS = 1000  # of a curve that is handed on

Odds = NDArray[np.float64]
Marks = NDArray[np.bool_]


class Collector(Protocol):
    """Takes scores batch by batch, then tells a curve for each class."""

    def add(self, odds: Odds, truth: Marks) -> None:
        """``odds``, ``truth`` (rows, classes): log-odds, and whether the label is of that class."""

    def merge(self, after: Self) -> None:
        """Add the scores of the part of the data that follows."""

    def curves(self, names: Sequence[str]) -> tuple[Curve, ...]: ...


def collector(how: str, samples: int, classes: int) -> Collector | None:
    """What ``how`` asks for ("exact", "binned", "auto", "none") with so many rows of scores; None for no curves."""
    if how == "none" or classes > MANY:
        return None
    exact = how == "exact" or (how == "auto" and samples * classes <= LIMIT)
    return _Kept() if exact else _Binned(classes)


class _Kept:
    """All scores."""

    def __init__(self) -> None:
        self.odds: list[NDArray[np.float32]] = []
        self.truth: list[Marks] = []

    def add(self, odds: Odds, truth: Marks) -> None:
        self.odds.append(odds.astype(np.float32))
        self.truth.append(truth)

    def merge(self, after: _Kept) -> None:
        self.odds += after.odds
        self.truth += after.truth

    def curves(self, names: Sequence[str]) -> tuple[Curve, ...]:
        odds, truth = np.concatenate(self.odds), np.concatenate(self.truth)
        return tuple(_curve(name, truth[:, i], odds[:, i], None) for i, name in enumerate(names))


class _Binned:
    """How many scores of each class fell into each bin, by whether the label is of the class."""

    def __init__(self, classes: int) -> None:
        self.counts = np.zeros((classes, 2, BINS), np.int64)

    def add(self, odds: Odds, truth: Marks) -> None:
        bins = np.clip((odds + BOUND) * (BINS / (2 * BOUND)), 0, BINS - 1).astype(np.int64)
        places = (2 * np.arange(odds.shape[1]) + truth) * BINS + bins
        np.add.at(self.counts.reshape(-1), places.reshape(-1), 1)

    def __getstate__(self) -> Packed:
        return packed(self.counts)

    def __setstate__(self, state: Packed) -> None:
        self.counts = unpacked(state)

    def merge(self, after: _Binned) -> None:
        self.counts += after.counts

    def curves(self, names: Sequence[str]) -> tuple[Curve, ...]:
        lowest = np.tile(np.arange(BINS) * (2 * BOUND / BINS) - BOUND, 2)
        truth = np.repeat([False, True], BINS)
        return tuple(_curve(name, truth, lowest, self.counts[i].reshape(-1)) for i, name in enumerate(names))


def _curve(name: str, truth: Marks, odds: NDArray[Any], weights: NDArray[np.int64] | None) -> Curve:
    """One class. ``weights``: how many samples stand behind each score (default: one)."""
    from sklearn.metrics import precision_recall_curve  # noqa: PLC0415 - slow to import

    if weights is not None:
        truth, odds, weights = truth[weights > 0], odds[weights > 0], weights[weights > 0]
    nothing = np.zeros(0, np.float32)
    if truth.all() or not truth.any():
        return Curve(name, nothing, nothing, nothing, math.nan, weights is None)
    precision, recall, thresholds = precision_recall_curve(truth, odds, sample_weight=weights)
    average = float(-np.sum(np.diff(recall) * precision[:-1]))
    corners = _corners(recall)
    chosen = corners[np.unique(np.linspace(0, corners.size - 1, min(corners.size, POINTS)).astype(np.int64))]
    return Curve(
        name,
        precision[chosen].astype(np.float32),
        recall[chosen].astype(np.float32),
        probability(thresholds[chosen[:-1]]),
        average,
        weights is None,
    )


def _corners(recall: NDArray[np.float64]) -> NDArray[np.int64]:
    """The first and the last place of each recall."""
    changes = recall[1:] != recall[:-1]
    return np.flatnonzero(np.append(True, changes) | np.append(changes, True))
