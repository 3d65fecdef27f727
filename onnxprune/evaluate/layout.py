"""What kind of task the labels and the outputs make together, and the labels in one form.

Integer labels are classes: one for each sample with a vector of scores (classification) or a single score (binary);
one for each position of a sequence (n, t) or of a picture (n, h, w), the classes on axis 1 or on the last one. An
integer matrix of the output's own shape holds 0 and 1 for each class (multi-label). Float labels of an output's shape
are targets of a regression. A model may also put out class numbers instead of scores. ``task=`` overrules all this
where the shapes allow it: numbers as targets, a one-hot matrix as classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.errors import DataError, OptionError
from onnxprune.evaluate.scores import is_float

__all__ = ["CURVES", "IGNORED", "TASKS", "Asked", "Layout", "class_axis", "recognise"]

Array = NDArray[Any]
TASKS = ("classification", "binary", "multi-label", "segmentation", "sequence", "regression", "fidelity")
PLACES = ("segmentation", "sequence")  # tasks with many labels for one sample
CURVES = ("auto", "exact", "binned", "none")
IGNORED = -100  # the label of positions that do not count, as most frameworks have it


@dataclass(frozen=True)
class Asked:
    """What is wanted beside the data.

    ``task``: one of TASKS, None to recognise it. ``top_k``: also count labels among the k highest scores (default: 5
    where there are more classes, but for pixels). ``ignore_label``: positions with it do not count (default:
    -100 in segmentations and sequences). ``curves``: "auto" (from all scores where they are few, else from bins; none
    for segmentations and sequences), "exact", "binned", "none". Raises OptionError.
    """

    task: str | None = None
    top_k: int | None = None
    ignore_label: int | None = None
    curves: str = "auto"

    def __post_init__(self) -> None:
        for name, known in (("task", (None, *TASKS)), ("curves", CURVES)):
            if getattr(self, name) not in known:
                words = ", ".join(word for word in known if word)
                raise OptionError(f"{name}: got {getattr(self, name)!r}, expected one of {words}", "Leave it out.")
        if self.top_k is not None and self.top_k < 1:
            raise OptionError(f"top_k: got {self.top_k}, expected a number from 1 up", "Leave it out.")


@dataclass(frozen=True)
class Layout:
    """How the labels stand to one output.

    ``axis`` of the output holds the class scores; -1: one score for each label, None: no class scores. ``classes``: 0
    where only the data can tell. ``decided``: the output holds class numbers. ``one_hot``: the labels are a matrix
    with a single 1 in each row. ``ignored``: the label that does not count.
    """

    task: str
    output: str
    axis: int | None = None
    classes: int = 0
    decided: bool = False
    one_hot: bool = False
    ignored: int | None = None
    name: str = "the dataset"

    def class_numbers(self, labels: Array, start: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Labels as (rows, positions), and which of them count. ``start``: number of the first row.

        Raises DataError for a label that is no class, with its value and row.
        """
        if self.one_hot:
            return self._from_one_hot(labels, start), np.ones((len(labels), 1), np.bool_)
        numbers = labels.reshape(len(labels), -1)
        whole = numbers.astype(np.int64)
        counts = np.ones(whole.shape, np.bool_) if self.ignored is None else whole != self.ignored
        last = self.classes - 1 if self.classes else np.iinfo(np.int32).max
        bad = (counts & ((whole < 0) | (whole > last))) | (whole != numbers)
        if bad.any():
            row, column = np.argwhere(bad)[0]
            self._refuse(numbers[row, column].item(), start + int(row))
        return np.where(counts, whole, 0), counts

    def _refuse(self, label: Any, row: int) -> None:
        if self.classes:
            told = f"the output `{self.output}` has {self.classes} classes (0 to {self.classes - 1})"
        else:
            told = "classes are numbered from 0"
        hint = "Number the classes so."
        if self.axis == -1:
            hint = "Number the classes so, or say that the labels are targets: task `regression`."
        elif self.task in PLACES:
            hint = "Number the classes so; ignore_label (--ignore-label) is the label of what does not count."
        raise DataError(f"{self.name}: label {label} in row {row}, but {told}", hint)

    def marks(self, labels: Array, start: int) -> NDArray[np.bool_]:
        """Labels of a multi-label task as (rows, classes). Raises DataError for what is neither 0 nor 1."""
        bad = (labels != 0) & (labels != 1)
        if bad.any():
            row = int(np.argmax(bad.reshape(len(bad), -1).any(axis=1)))
            raise DataError(
                f"{self.name}: label {labels[bad].reshape(-1)[0]} in row {start + row}, but the labels of a multi-label"
                " task are 0 or 1",
                "One column for each class: 1 where the sample has it.",
            )
        return np.asarray(labels.reshape(len(labels), -1) == 1)

    def _from_one_hot(self, labels: Array, start: int) -> NDArray[np.int64]:
        marks = self.marks(labels, start)
        odd = marks.sum(axis=1) != 1
        if odd.any():
            row = int(np.argmax(odd))
            raise DataError(
                f"{self.name}: row {start + row} has {int(marks[row].sum())} ones, a one-hot label has one",
                "Several classes for one sample: task `multi-label`.",
            )
        return np.asarray(marks.argmax(axis=1)[:, None], np.int64)


def recognise(
    outputs: Mapping[str, Array], labels: Array, asked: Asked, class_names: Sequence[str], name: str
) -> Layout:
    """The first output that the labels fit, scores before ready-made classes. Raises DataError where none does."""
    found = _find(outputs, labels, asked, len(class_names), name)
    if found is None:
        held = ", ".join(f"`{n}` {o.dtype.name} {o.shape}" for n, o in outputs.items())
        fit = f"do not make a task `{asked.task}`" if asked.task else "fit no output"
        raise DataError(
            f"{name}: the labels `y` are {labels.dtype.name} {labels.shape} for one batch, the outputs are {held}:"
            f" they {fit}",
            "Integer labels are class numbers, one for each score vector; float labels have the shape of an output.",
        )
    if class_names and found.classes and len(class_names) != found.classes and found.task != "regression":
        raise DataError(
            f"{name}: {len(class_names)} class names, but the output `{found.output}` has {found.classes} classes",
            "Give one name for each class, or leave the names out.",
        )
    return found


def _find(outputs: Mapping[str, Array], labels: Array, asked: Asked, names: int, where: str) -> Layout | None:
    floats = [(name, output) for name, output in outputs.items() if is_float(output)]
    task = asked.task
    if task == "regression" or (task is None and is_float(labels)):
        like = (n for n, o in floats if _squeeze(o.shape) == _squeeze(labels.shape) and labels.dtype.kind in "fiub")
        return next((Layout("regression", n, name=where) for n in like), None)
    if labels.dtype.kind not in ("iub" if task is None else "iubf"):
        return None
    for name, output in floats:
        if task in ("multi-label", "classification") and labels.ndim == 2 and labels.shape[1] > 1:
            if output.shape == labels.shape:
                one_hot = task == "classification"
                return Layout(str(task), name, 1 if one_hot else -1, output.shape[1], one_hot=one_hot, name=where)
            continue
        axis = class_axis(output.shape, labels.shape)
        if axis is not None:
            layout = _scored(name, output, labels, axis, asked, where)
            if task in (None, layout.task):
                return layout
    for name, output in outputs.items():
        if output.dtype.kind in "iu" and _squeeze(output.shape) == _squeeze(labels.shape):
            kind = _task_of(_squeeze(labels.shape))
            if task in (None, kind):
                return Layout(kind, name, None, names, True, ignored=_ignored(kind, asked), name=where)
    return None


def _scored(name: str, output: Array, labels: Array, axis: int, asked: Asked, where: str) -> Layout:
    shape = _squeeze(labels.shape)
    kind = _task_of(shape)
    if axis < 0 and len(shape) == 2:
        return Layout("multi-label", name, -1, shape[1], name=where)
    classes = 2 if axis < 0 else output.shape[axis]
    if kind == "classification" and (axis < 0 or (classes == 2 and asked.task == "binary")):
        kind = "binary"
    return Layout(kind, name, axis, classes, ignored=_ignored(kind, asked), name=where)


def _ignored(task: str, asked: Asked) -> int | None:
    return IGNORED if asked.ignore_label is None and task in PLACES else asked.ignore_label


def _task_of(shape: tuple[int, ...]) -> str:
    return {1: "classification", 2: "sequence"}.get(len(shape), "segmentation")


def _squeeze(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape without axes of size 1 behind the first."""
    return shape[:1] + tuple(size for size in shape[1:] if size != 1)


def class_axis(output: tuple[int, ...], labels: tuple[int, ...]) -> int | None:
    """The axis of the class scores: (n, classes, *rest) or (n, *rest, classes) for labels (n, *rest).

    One score for each label, (n, 1) or (n,), is a binary classifier; its axis is given as -1. Where both places fit,
    a sequence has its classes last, a picture has them first.
    """
    axes = (len(output) - 1, 1) if len(output) == 3 else (1, len(output) - 1)
    for shape in (labels, _squeeze(labels)):
        for axis in axes:
            if 0 < axis < len(output) and output[:axis] + output[axis + 1 :] == shape:
                return axis if output[axis] > 1 else -1
    return -1 if _squeeze(output) == _squeeze(labels) else None
