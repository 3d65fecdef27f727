"""Two evaluations on the same data side by side: what changed, for all, for each class, for each instance.

An instance is *degenerated* when it was right before and is wrong after, *improved* the other way round; where a
sample has several labels (pixels, tokens, 0/1 classes), when the share of its labels that are met went down or up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from onnxprune.errors import DataError
from onnxprune.evaluate.metric import Metric, better, delta
from onnxprune.evaluate.result import ClassReport, Evaluation
from onnxprune.values import Ints

__all__ = ["Change", "ClassChange", "Comparison", "compare"]

SAME_DATA = "Evaluate both models on the same dataset, split and limit."


@dataclass(frozen=True)
class Change:
    """One metric before and after."""

    before: Metric
    after: Metric

    @property
    def delta(self) -> float:
        """after - before; NaN where one is not defined."""
        return self.after.value - self.before.value

    @property
    def text(self) -> str:
        """The change in words."""
        return delta(self.before, self.after)

    @property
    def verdict(self) -> str:
        """The word "better" or "worse", or "" for neither."""
        return "better" if better(self.after, self.before) else "worse" if better(self.before, self.after) else ""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        values = {"before": self.before.value, "after": self.after.value, "delta": self.delta}
        own = {key: value for key, value in self.before.as_dict().items() if key != "value"}
        return own | values | {"verdict": self.verdict}


@dataclass(frozen=True)
class ClassChange:
    """One class: its metrics, and how many of its instances degenerated and improved.

    The counts are None where a sample has several labels, and so no class of its own.
    """

    name: str
    support: int
    changes: tuple[Change, ...]
    degenerated: int | None = None
    improved: int | None = None

    def change(self, metric: str) -> Change:
        """The change of one metric of the class. Raises KeyError."""
        return {change.before.name: change for change in self.changes}[metric]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "name": self.name,
            "support": self.support,
            "degenerated": self.degenerated,
            "improved": self.improved,
            "changes": [change.as_dict() for change in self.changes],
        }


@dataclass(frozen=True, eq=False)
class Comparison:
    """``changes``: metrics that both have. ``fidelity``: those that only the second has, against the first.

    ``degenerated``, ``improved``: numbers of the instances, in the order of the data; None for tasks without right and
    wrong. ``moved``: instances whose class changed, right or wrong; None where nothing is known of it. ``confusion``:
    after - before.
    """

    before: Evaluation
    after: Evaluation
    changes: tuple[Change, ...]
    fidelity: tuple[Metric, ...]
    per_class: tuple[ClassChange, ...]
    degenerated: Ints | None
    improved: Ints | None
    moved: Ints | None
    confusion: Ints | None

    def change(self, metric: str) -> Change:
        """The change of one metric. Raises KeyError."""
        return {change.before.name: change for change in self.changes}[metric]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "task": self.after.task,
            "samples": self.after.samples,
            "metrics": [change.as_dict() for change in self.changes],
            "fidelity": [metric.as_dict() for metric in self.fidelity],
            "degenerated": self.degenerated,
            "improved": self.improved,
            "moved": self.moved,
            "classes": [cls.as_dict() for cls in self.per_class],
            "confusion": self.confusion,
            "notes": tuple(dict.fromkeys(self.before.notes + self.after.notes)),
        }


def compare(before: Evaluation, after: Evaluation) -> Comparison:
    """What changed from ``before`` to ``after``. Raises DataError where they were not measured on the same thing."""
    _check(before, after)
    told = {metric.name: metric for metric in before}
    changes = tuple(Change(told[metric.name], metric) for metric in after if metric.name in told)
    fidelity = tuple(metric for metric in after if metric.name not in told)
    degenerated = improved = None
    if before.right is not None and after.right is not None:
        degenerated = np.flatnonzero(after.right < before.right)
        improved = np.flatnonzero(after.right > before.right)
    moved = None
    if before.predictions is not None and after.predictions is not None:
        moved = np.flatnonzero(before.predictions != after.predictions)
    confusion = None
    if before.confusion is not None and after.confusion is not None:
        confusion = _padded(after.confusion, before) - _padded(before.confusion, after)
    classes = _classes(before, after, degenerated, improved)
    return Comparison(before, after, changes, fidelity, classes, degenerated, improved, moved, confusion)


def _classes(
    before: Evaluation, after: Evaluation, degenerated: Ints | None, improved: Ints | None
) -> tuple[ClassChange, ...]:
    count = min(len(before.per_class), len(after.per_class))
    lost, won = (_by_class(before, rows, count) for rows in (degenerated, improved))
    return tuple(
        ClassChange(
            new.name,
            new.support,
            _changes(old, new),
            None if lost is None else int(lost[i]),
            None if won is None else int(won[i]),
        )
        for i, (old, new) in enumerate(zip(before.per_class, after.per_class, strict=False))
    )


def _changes(old: ClassReport, new: ClassReport) -> tuple[Change, ...]:
    pairs = zip(old.metrics(), new.metrics(), strict=True)
    return tuple(Change(a, b) for a, b in pairs if a.name != "support")


def _by_class(evaluation: Evaluation, rows: Ints | None, classes: int) -> Ints | None:
    if rows is None or evaluation.labels is None:
        return None
    labels = evaluation.labels[rows]
    return np.bincount(labels[labels >= 0], minlength=classes)


def _padded(confusion: Ints, other: Evaluation) -> Ints:
    """As large as the other's: a model that puts out classes may name more of them than another."""
    size = len(other.confusion) if other.confusion is not None else 0
    more = max(0, size - len(confusion))
    return np.pad(confusion, ((0, more), (0, more)))


def _check(before: Evaluation, after: Evaluation) -> None:
    if before.task != after.task:
        raise DataError(
            f"two tasks cannot be compared: {before.task} and {after.task}", "Name one with the option `task`."
        )
    if before.samples != after.samples:
        raise DataError(f"measured on {before.samples} and on {after.samples} samples", SAME_DATA)
    if _known(before) and _known(after) and before.class_names != after.class_names:
        raise DataError(
            f"the models have different classes: {_some(before.class_names)} and {_some(after.class_names)}",
            "Compare models that tell the same classes apart.",
        )
    if before.labels is not None and after.labels is not None and not np.array_equal(before.labels, after.labels):
        row = int(np.argmax(before.labels != after.labels))
        raise DataError(
            f"the labels differ: in row {row} {before.labels[row]} and {after.labels[row]}",
            SAME_DATA,
        )


def _known(evaluation: Evaluation) -> bool:
    """Whether the classes are the model's own, and not those that happened to turn up."""
    return bool(evaluation.class_names) and any(name.name == "loss" for name in evaluation.metrics)


def _some(names: Sequence[str]) -> str:
    return f"{len(names)} ({', '.join(names[:5])}{', ...' if len(names) > 5 else ''})"
