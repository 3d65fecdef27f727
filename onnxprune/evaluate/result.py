"""What an evaluation found, as a value: metrics, classes, confusion, curves, and what became of each instance."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.errors import OptionError
from onnxprune.evaluate.metric import KINDS, Metric, measured
from onnxprune.values import Ints

__all__ = ["ClassReport", "Curve", "Evaluation"]

Floats = NDArray[np.float32]
ALIASES = {"accuracy": "recall"}  # of one class: the share of its own labels that are met


@dataclass(frozen=True)
class ClassReport:
    """One class: ``support`` labels are of it. NaN: not defined, as all is of a class that does not occur.

    Of a class that occurs and is never predicted the precision is 0. ``average_precision`` also asks for labels of
    other classes, and for scores.
    """

    index: int
    name: str
    support: int
    precision: float
    recall: float
    f1: float
    iou: float
    average_precision: float = math.nan

    def metrics(self) -> tuple[Metric, ...]:
        """The figures as metrics, support last."""
        return tuple(measured(kind.name, getattr(self, kind.name)) for kind in KINDS.values() if kind.per_class)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"index": self.index, "name": self.name} | {metric.name: metric.value for metric in self.metrics()}


@dataclass(frozen=True, eq=False)
class Curve:
    """Precision over recall of one class against the rest, from the lowest threshold to the highest.

    ``thresholds`` are probabilities; the last point (precision 1, recall 0) has none. Of the points at one recall only
    the first and the last are held, and long curves are thinned out to some points; ``average_precision`` is that of
    the whole curve. Empty, and NaN, where only one side occurs.
    ``exact``: made of every score, and not of bins of scores.
    """

    name: str
    precision: Floats
    recall: Floats
    thresholds: Floats
    average_precision: float
    exact: bool = True

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "name": self.name,
            "average_precision": self.average_precision,
            "exact": self.exact,
            "precision": self.precision,
            "recall": self.recall,
            "thresholds": self.thresholds,
        }


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Everything measured on one model with one dataset. Iterating gives the metrics.

    ``confusion[i, j]``: labels of class i that the model took for class j. ``labels`` and ``predictions``: class
    numbers, one for each sample, where a sample has one. ``right``: for each sample the share of its labels that are
    met (0 or 1 where it has one, NaN where all are ignored); None for regression and without labels. ``notes``: what a
    person should know to read the figures.
    """

    task: str
    samples: int
    metrics: tuple[Metric, ...]
    per_class: tuple[ClassReport, ...] = ()
    confusion: Ints | None = None
    curves: tuple[Curve, ...] = ()
    labels: NDArray[np.int32] | None = None
    predictions: NDArray[np.int32] | None = None
    right: Floats | None = None
    class_names: tuple[str, ...] = ()
    provider: str = ""
    notes: tuple[str, ...] = field(default=())

    def __iter__(self) -> Iterator[Metric]:
        return iter(self.metrics)

    def metric(self, name: str, cls: str | int | None = None) -> Metric:
        """A metric by name; of one class with ``cls``, its name or number (its "accuracy" is its recall).

        Raises OptionError, which lists what there is.
        """
        metrics = self.metrics if cls is None else self._report(cls).metrics()
        wanted = name if cls is None else ALIASES.get(name, name)
        for metric in metrics:
            if wanted in (metric.name, metric.label):
                return metric
        there = ", ".join(m.name for m in metrics) or "none"
        of = "" if cls is None else f" of class {cls!r}"
        hint = f"There are: {there}."
        if cls is None and wanted in KINDS and KINDS[wanted].per_class and self.per_class:
            hint += " This one is told class by class: name a class."
        raise OptionError(f"no metric {name!r}{of} was measured (task: {self.task})", hint)

    def value(self, name: str, cls: str | int | None = None) -> float:
        """The value of ``metric``: ``value("accuracy")``, ``value("recall", cls="buildings")``. Raises as it does."""
        return self.metric(name, cls).value

    def _report(self, cls: str | int) -> ClassReport:
        found = [r for r in self.per_class if cls == r.name] or [r for r in self.per_class if str(cls) == str(r.index)]
        if found:
            return found[0]
        names = ", ".join(r.name for r in self.per_class)
        raise OptionError(
            f"there is no class {cls!r} (task: {self.task})",
            f"Classes: {names}." if names else "Figures per class need labels that are classes.",
        )

    def as_dict(self) -> dict[str, Any]:
        """For JSON: all but the arrays with an entry for each sample."""
        return {
            "task": self.task,
            "samples": self.samples,
            "provider": self.provider,
            "metrics": [metric.as_dict() for metric in self.metrics],
            "classes": [report.as_dict() for report in self.per_class],
            "confusion": self.confusion,
            "curves": [curve.as_dict() for curve in self.curves],
            "notes": self.notes,
        }
