"""Decisions counted class by class, and what follows from the counts.

With TP labels of a class that were met, FN that were missed and FP taken for it wrongly: precision = TP / (TP + FP),
recall = TP / (TP + FN), F1 = 2 TP / (2 TP + FP + FN), IoU = TP / (TP + FP + FN). scikit-learn computes them from the
counts as weights. A class without labels is left out of all means but that of IoU, which leaves out only classes
that occur neither in the labels nor in the predictions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.evaluate.metric import Metric, measured
from onnxprune.evaluate.result import ClassReport
from onnxprune.values import Ints

__all__ = ["MANY", "Packed", "Tally", "mean_of", "packed", "summary", "unpacked"]

Packed = tuple[tuple[int, ...], Ints, Ints]

MANY = 2000  # classes; beyond it there is neither a confusion matrix nor a curve for each class


class Tally:
    """Counts of labels, predictions and hits for each class, and who was taken for whom.

    ``classes``: how many there are; the arrays grow where a larger class number turns up.
    """

    def __init__(self, classes: int = 0) -> None:
        self.counts = np.zeros((3, classes), np.int64)  # labels, predictions, hits
        self.confusion: Ints | None = np.zeros((classes, classes), np.int64) if classes <= MANY else None

    @property
    def classes(self) -> int:
        return int(self.counts.shape[1])

    def add(self, labels: Ints, predictions: Ints) -> None:
        """Count decisions: class numbers, one label and one prediction each."""
        self._grow(1 + max(int(labels.max(initial=-1)), int(predictions.max(initial=-1))))
        for row, numbers in enumerate((labels, predictions, labels[labels == predictions])):
            self.counts[row] += np.bincount(numbers, minlength=self.classes)
        if self.confusion is not None:
            np.add.at(self.confusion.reshape(-1), labels * self.classes + predictions, 1)

    def add_matrix(self, labels: NDArray[np.bool_], predictions: NDArray[np.bool_]) -> None:
        """Count decisions of which any number is right for one sample: (rows, classes); no confusion comes of it."""
        self.confusion = None
        for row, marks in enumerate((labels, predictions, labels & predictions)):
            self.counts[row] += marks.sum(axis=0)

    def merge(self, after: Tally) -> None:
        """Add the counts of another part of the data."""
        classes = max(self.classes, after.classes)
        self._grow(classes)
        after._grow(classes)
        self.counts += after.counts
        if self.confusion is None or after.confusion is None:
            self.confusion = None
        else:
            self.confusion += after.confusion

    def __getstate__(self) -> dict[str, Any]:
        """Tallies come from workers: a shard fills few cells of a large matrix."""
        return {"counts": self.counts, "confusion": None if self.confusion is None else packed(self.confusion)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.counts = state["counts"]
        self.confusion = None if state["confusion"] is None else unpacked(state["confusion"])

    def _grow(self, classes: int) -> None:
        more = classes - self.classes
        if more > 0:
            self.counts = np.pad(self.counts, ((0, 0), (0, more)))
            if self.confusion is not None:
                self.confusion = np.pad(self.confusion, ((0, more), (0, more))) if classes <= MANY else None

    def reports(self, names: Sequence[str], precisions: Sequence[float] | None = None) -> tuple[ClassReport, ...]:
        """One report for each class. ``precisions``: the classes' average precision."""
        from sklearn.metrics import precision_recall_fscore_support  # noqa: PLC0415 - slow to import

        support, predicted, hits = self.counts
        cells = _cells(support, predicted, hits)
        kwargs: dict[str, Any] = {"labels": np.arange(self.classes), "average": None, "zero_division": 0}
        precision, recall, f1, _ = precision_recall_fscore_support(*cells[:2], sample_weight=cells[2], **kwargs)
        union = support + predicted - hits
        iou = np.where(union > 0, hits / np.maximum(union, 1), math.nan)
        average = [math.nan] * self.classes if precisions is None else precisions
        shown = np.where(support > 0, np.stack([precision, recall, f1]), math.nan)
        columns = zip(names, support.tolist(), *shown.tolist(), iou.tolist(), average, strict=True)
        return tuple(ClassReport(i, *values) for i, values in enumerate(columns))


def packed(counts: Ints) -> Packed:
    """Counts that are nearly all 0: the shape, the places that are not, and what is there."""
    places = np.flatnonzero(counts)
    return counts.shape, places, counts.reshape(-1)[places]


def unpacked(parts: Packed) -> Ints:
    """The counts again."""
    shape, places, values = parts
    counts = np.zeros(shape, np.int64)
    counts.reshape(-1)[places] = values
    return counts


def _cells(support: Ints, predicted: Ints, hits: Ints) -> tuple[Ints, Ints, Ints]:
    """The counts as weighted decisions: label, prediction, weight. A class number too many stands for "another"."""
    classes = np.arange(support.size)
    other = np.full(support.size, support.size)
    weights = np.concatenate([hits, support - hits, predicted - hits])
    labels, predictions = np.concatenate([classes, classes, other]), np.concatenate([classes, other, classes])
    return labels, predictions, weights


def summary(reports: Sequence[ClassReport]) -> tuple[Metric, ...]:
    """Means over the classes that occur: plain, and weighted by support."""
    there = [report for report in reports if report.support]
    weights = [report.support for report in there]
    return tuple(
        measured(f"{word}_{name}", mean_of([getattr(report, name) for report in there], by))
        for word, by in (("macro", None), ("weighted", weights))
        for name in ("precision", "recall", "f1")
    )


def mean_of(values: Sequence[float], weights: Sequence[float] | None = None) -> float:
    """The mean of what is defined; NaN where nothing is."""
    array = np.asarray(values, np.float64)
    defined = ~np.isnan(array)
    if not defined.any():
        return math.nan
    return float(np.average(array[defined], weights=None if weights is None else np.asarray(weights)[defined]))
