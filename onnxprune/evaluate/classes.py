"""Tasks whose labels are class numbers: one class for each sample, position of a sequence, or pixel.

Whether scores are probabilities or logits is known for certain only at the end: a batch of logits may look like
probabilities by chance. So both readings are counted until a batch refutes the first.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.errors import DataError, ModelError, OptionError
from onnxprune.evaluate.curves import collector
from onnxprune.evaluate.layout import PLACES, Asked, Layout
from onnxprune.evaluate.metric import Metric, measured
from onnxprune.evaluate.result import ClassReport, Curve, Evaluation
from onnxprune.evaluate.scores import are_probabilities, check_numbers, chunks, log_odds, log_probabilities, ranks
from onnxprune.evaluate.tally import MANY, Tally, mean_of, summary
from onnxprune.values import Ints

__all__ = ["Decided", "Scored"]

Array = NDArray[Any]
Bools = NDArray[np.bool_]
TOP_K = 5
LARGEST = 1_000_000  # a class number beyond it is taken for something else


class _Instances:
    """What became of each sample: its label and prediction where it has one, and the share of labels met."""

    def __init__(self) -> None:
        self.labels: list[NDArray[np.int32]] = []
        self.predictions: list[NDArray[np.int32]] = []
        self.right: list[NDArray[np.float32]] = []

    def add(self, labels: Ints, predictions: Ints, counted: Bools) -> None:
        """All of shape (samples, positions)."""
        total = counted.sum(axis=1)
        met = ((labels == predictions) & counted).sum(axis=1)
        self.right.append(np.where(total > 0, met / np.maximum(total, 1), math.nan).astype(np.float32))
        if labels.shape[1] == 1:
            self.labels.append(np.where(counted, labels, -1)[:, 0].astype(np.int32))
            self.predictions.append(predictions[:, 0].astype(np.int32))

    def merge(self, after: _Instances) -> None:
        self.labels += after.labels
        self.predictions += after.predictions
        self.right += after.right

    def told(self) -> dict[str, Any]:
        """The fields of an Evaluation."""
        single = len(self.labels) == len(self.right)
        return {
            "right": np.concatenate(self.right),
            "labels": np.concatenate(self.labels) if single else None,
            "predictions": np.concatenate(self.predictions) if single else None,
        }


class _Reading:
    """Counts under one reading of the scores: as probabilities (``probable``), or as logits."""

    def __init__(self, probable: bool, layout: Layout, top: int | None, how: str, samples: int) -> None:
        self.probable, self.top = probable, top
        self.tally = Tally(layout.classes)
        self.instances = _Instances()
        self.collector = collector(how, samples, layout.classes)
        self.loss, self.near = 0.0, 0

    def add(self, scores: Array, labels: Ints, counted: Bools) -> None:
        """``scores`` (samples * positions, classes or 1); ``labels``, ``counted`` (samples, positions)."""
        flat, keep = labels.reshape(-1), counted.reshape(-1)
        predictions = np.empty_like(flat)
        for rows in chunks(flat.size, scores.shape[1]):
            predictions[rows] = self._count(scores[rows].astype(np.float64), flat[rows], keep[rows])
        self.tally.add(flat[keep], predictions[keep])
        self.instances.add(labels, predictions.reshape(labels.shape), counted)

    def merge(self, after: _Reading) -> None:
        self.tally.merge(after.tally)
        self.instances.merge(after.instances)
        if self.collector is not None and after.collector is not None:
            self.collector.merge(after.collector)
        self.loss += after.loss
        self.near += after.near

    def _count(self, scores: NDArray[np.float64], labels: Ints, counted: Bools) -> Ints:
        logs = log_probabilities(scores, self.probable)
        kept, own = logs[counted], labels[counted]
        self.loss -= float(np.take_along_axis(kept, own[:, None], axis=1).sum())
        if self.top is not None:
            self.near += int((ranks(scores[counted], own) < self.top).sum())
        if self.collector is not None:
            self.collector.add(log_odds(scores[counted], self.probable), own[:, None] == np.arange(logs.shape[1]))
        return np.asarray(logs.argmax(axis=1))


class Scored:
    """Accuracy, top-k, cross-entropy in nats, per class precision, recall, F1 and IoU, confusion, and curves."""

    def __init__(self, layout: Layout, asked: Asked, class_names: Sequence[str], samples: int) -> None:
        self.layout, self.names = layout, tuple(class_names)
        self.top = _top(layout, asked)
        how = "none" if asked.curves == "auto" and layout.task in PLACES else asked.curves
        self.readings = {probable: _Reading(probable, layout, self.top, how, samples) for probable in (True, False)}

    def add(self, outputs: Mapping[str, Array], labels: Array, start: int) -> None:
        """``start``: number of the first sample."""
        output = outputs[self.layout.output]
        check_numbers(output, f"output `{self.layout.output}`", start, infinite=True)
        numbers, counted = self.layout.class_numbers(labels, start)
        scores = output.reshape(-1, 1) if self.layout.axis == -1 else _last(output, self.layout.axis)
        if True in self.readings and not _probable(scores):
            del self.readings[True]
        for reading in self.readings.values():
            reading.add(scores, numbers, counted)

    def merge(self, after: Scored) -> None:
        """Add what was counted on the samples that follow; a reading that one of both refuted is refuted."""
        self.readings = {how: reading for how, reading in self.readings.items() if how in after.readings}
        for how, reading in self.readings.items():
            reading.merge(after.readings[how])

    def finish(self) -> Evaluation:
        """Raises DataError where no label counted."""
        reading = self.readings.get(True) or self.readings[False]
        total = _total(reading.tally, self.layout)
        names = self.names or tuple(str(i) for i in range(self.layout.classes))
        curves = reading.collector.curves(names) if reading.collector else ()
        reports = reading.tally.reports(names, [c.average_precision for c in curves] or None)
        loss = reading.loss / total
        extra = [measured("loss", loss)]
        if self.top is not None:
            extra.insert(0, measured(f"top_{self.top}", reading.near / total))
        if self.layout.task == "sequence":
            extra.append(measured("perplexity", math.exp(min(loss, 700))))
        return _evaluation(self.layout, reading.tally, reading.instances, reports, names, extra, curves)


class Decided:
    """The same without scores: the model puts out class numbers. There may be more classes than are known."""

    def __init__(self, layout: Layout, asked: Asked, class_names: Sequence[str]) -> None:
        _top(layout, asked)
        self.layout, self.names = layout, tuple(class_names)
        self.tally, self.instances = Tally(layout.classes), _Instances()

    def add(self, outputs: Mapping[str, Array], labels: Array, start: int) -> None:
        """``start``: number of the first sample."""
        numbers, counted = self.layout.class_numbers(labels, start)
        predictions = outputs[self.layout.output].reshape(numbers.shape).astype(np.int64)
        for what, values in (("label", numbers), (f"output `{self.layout.output}` class", predictions)):
            _check_classes(what, values, self.layout, start)
        self.tally.add(numbers[counted], predictions[counted])
        self.instances.add(numbers, predictions, counted)

    def merge(self, after: Decided) -> None:
        """Add what was counted on the samples that follow."""
        self.tally.merge(after.tally)
        self.instances.merge(after.instances)

    def finish(self) -> Evaluation:
        """Raises DataError where no label counted."""
        _total(self.tally, self.layout)
        names = self.names or tuple(str(i) for i in range(self.tally.classes))
        reports = self.tally.reports(names)
        return _evaluation(self.layout, self.tally, self.instances, reports, names, [], ())


def _last(output: Array, axis: int | None) -> Array:
    """The scores as (labels, classes)."""
    return np.moveaxis(output, axis or 0, -1).reshape(-1, output.shape[axis or 0])


def _probable(scores: Array) -> bool:
    return all(are_probabilities(scores[rows].astype(np.float64)) for rows in chunks(*scores.shape))


def _check_classes(what: str, values: Ints, layout: Layout, start: int) -> None:
    """Class numbers of a model whose classes nobody counted."""
    limit = layout.classes or LARGEST
    bad = (values < 0) | (values >= limit)
    if bad.any():
        row, column = np.argwhere(bad)[0]
        error = DataError if what == "label" else ModelError
        raise error(
            f"{layout.name}: {what} {values[row, column]} in row {start + int(row)} is no class number below {limit}",
            "Number the classes from 0, as many as there are class names.",
        )


def _top(layout: Layout, asked: Asked) -> int | None:
    """The k of top-k, None for none. Raises OptionError where the k that was asked for says nothing."""
    if asked.top_k is None:
        wanted = layout.classes > TOP_K and layout.task != "segmentation" and not layout.decided
        return TOP_K if wanted else None
    if layout.decided or asked.top_k >= layout.classes:
        told = "puts out classes and no scores" if layout.decided else f"has {layout.classes} classes"
        raise OptionError(
            f"top-{asked.top_k} accuracy: the output `{layout.output}` {told}",
            "Leave it out." if layout.classes < 3 or layout.decided else f"Ask for 1 to {layout.classes - 1}.",
        )
    return asked.top_k


def _total(tally: Tally, layout: Layout) -> int:
    total = int(tally.counts[0].sum())
    if not total:
        raise DataError(
            f"{layout.name}: every label is {layout.ignored}, which does not count",
            "Name another label to ignore, or none.",
        )
    return total


def _evaluation(
    layout: Layout,
    tally: Tally,
    instances: _Instances,
    reports: tuple[ClassReport, ...],
    names: tuple[str, ...],
    extra: list[Metric],
    curves: tuple[Curve, ...],
) -> Evaluation:
    told = instances.told()
    metrics = [measured("accuracy", tally.counts[2].sum() / tally.counts[0].sum()), *extra]
    if layout.task == "sequence":
        metrics.insert(1, measured("exact_match", mean_of((told["right"] == 1)[~np.isnan(told["right"])])))
    if layout.task == "segmentation":
        metrics.insert(1, measured("mean_iou", mean_of([r.iou for r in reports])))
    metrics += summary(reports)
    if curves:
        metrics.append(measured("mean_average_precision", mean_of([c.average_precision for c in curves])))
    return Evaluation(
        layout.task,
        len(told["right"]),
        tuple(metrics),
        reports,
        tally.confusion,
        curves,
        class_names=names,
        notes=tuple(_notes(layout, reports, curves)),
        **told,
    )


def _notes(layout: Layout, reports: Sequence[ClassReport], curves: Sequence[Curve]) -> Iterator[str]:
    there = [report.name for report in reports if report.support]
    if len(there) == 1:
        yield f"only class {there[0]} occurs in the labels: average precision is not defined"
    if curves and not curves[0].exact:
        yield "precision-recall curves are made of scores in bins: there are too many to keep them all"
    if layout.classes > MANY:
        yield f"{layout.classes} classes: no confusion matrix and no curves beyond {MANY}"
