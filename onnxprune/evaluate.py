"""Metrics of a model on a dataset: classification, regression, and fidelity to the original model.

Labels decide: integers are classes (accuracy, cross-entropy), floats are targets (mean squared error). Fidelity needs
no labels: it compares the outputs of two models. One pass over the data, whatever is measured.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from onnxprune.data import Batch, Dataset, batches, fit
from onnxprune.errors import DataError
from onnxprune.model import Model
from onnxprune.runtime import session

__all__ = ["Metric", "evaluate"]

Array = NDArray[Any]
Floats = NDArray[np.float64]
TINY = 1e-12  # probabilities are not taken to be smaller, so that one sample cannot make the loss infinite


@dataclass(frozen=True)
class Metric:
    """One figure with all that is needed to show it.

    ``direction``: "higher" or "lower" is better, "" for neither. ``format``: a format specification for ``value``.
    """

    name: str
    value: float
    unit: str = ""
    format: str = ".4g"
    direction: str = ""

    def __str__(self) -> str:
        return f"{self.value:{self.format}}{f' {self.unit}' if self.unit else ''}"


class _Part(Protocol):
    """Sums up over batches how the outputs stand to the labels, then tells its metrics."""

    def add(self, outputs: Mapping[str, Array], labels: Array) -> None: ...

    def metrics(self) -> tuple[Metric, ...]: ...


def evaluate(
    model: Model,
    dataset: Dataset,
    *,
    original: Model | None = None,
    size: int = 64,
    provider: str = "auto",
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Metric, ...]:
    """Run the model over the dataset: metrics against the labels, and against ``original`` where given.

    ``progress`` is called with the samples done and their number. Raises DataError where the dataset does not fit
    the model, the labels fit none of its outputs, or there is neither a label nor an original to compare with.
    """
    if dataset.labels is None and original is None:
        raise DataError(
            f"{dataset.name}: it has no labels",
            "Without labels a model can only be compared with another one: give the original model.",
        )
    run = session(model, provider=provider, threads=threads)
    base = None if original is None else session(original, provider=provider, threads=threads)
    data = fit(dataset, run.inputs)
    labelled: _Part | None = None
    fidelity: _Fidelity | None = None
    done = 0
    for batch in batches(data, size):
        outputs = _trim(run.run(batch.feeds), batch)
        if batch.labels is not None:
            labelled = labelled or _label_part(data, outputs, batch.labels)
            labelled.add(outputs, batch.labels)
        if base is not None:
            reference = _trim(base.run(batch.feeds), batch)
            fidelity = fidelity or _Fidelity(outputs, reference)
            fidelity.add(outputs, reference, batch.count)
        done += batch.count
        if progress:
            progress(done, len(data))
    return (*(labelled.metrics() if labelled else ()), *(fidelity.metrics() if fidelity else ()))


def _trim(outputs: Mapping[str, Array], batch: Batch) -> dict[str, Array]:
    """The outputs without the rows that only fill up a fixed batch."""
    size = len(next(iter(batch.feeds.values())))
    return {
        name: array[: batch.count] if array.ndim and len(array) == size else array for name, array in outputs.items()
    }


def _label_part(data: Dataset, outputs: Mapping[str, Array], labels: Array) -> _Part:
    """The first output that the labels fit, scores before ready-made classes."""
    if labels.dtype.kind == "f":
        for name, output in outputs.items():
            if _is_float(output) and _squeeze(output.shape) == _squeeze(labels.shape):
                return _Regression(name)
    elif labels.dtype.kind in "iub":
        for name, output in outputs.items():
            axis = _class_axis(output.shape, labels.shape) if _is_float(output) else None
            if axis is not None:
                return _Classes(name, axis, data)
        for name, output in outputs.items():
            if output.dtype.kind in "iu" and _squeeze(output.shape) == _squeeze(labels.shape):
                return _Decided(name)
    held = ", ".join(f"`{name}` {o.dtype.name} {o.shape}" for name, o in outputs.items())
    raise DataError(
        f"{data.name}: the labels `y` are {labels.dtype.name} {labels.shape} for one batch, the outputs are {held}",
        "Integer labels are class numbers, one for each score vector; float labels have the shape of an output.",
    )


def _is_float(array: Array) -> bool:
    return array.dtype.kind == "f" or array.dtype.name.startswith(("bfloat", "float"))


def _squeeze(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape without axes of size 1 behind the first."""
    return shape[:1] + tuple(size for size in shape[1:] if size != 1)


def _class_axis(output: tuple[int, ...], labels: tuple[int, ...]) -> int | None:
    """The axis of the class scores: (n, classes, *rest) or (n, *rest, classes) for labels (n, *rest).

    One score for each label, (n, 1) or (n,), is a binary classifier; its axis is given as -1.
    """
    for shape in (labels, _squeeze(labels)):
        for axis in (1, len(output) - 1):
            if 0 < axis < len(output) and output[:axis] + output[axis + 1 :] == shape:
                return axis if output[axis] > 1 else -1
    return -1 if _squeeze(output) == _squeeze(labels) else None


class _Classes:
    """Accuracy, and cross-entropy in nats: of probabilities where every score vector is one, else of logits."""

    def __init__(self, output: str, axis: int, data: Dataset) -> None:
        self.output, self.axis, self.name = output, axis, data.name
        self.count = 0
        self.probabilities = True  # so far every score vector was one
        self.right = {True: 0, False: 0}  # under probabilities, under logits: they differ in the binary case
        self.loss = {True: 0.0, False: 0.0}

    def add(self, outputs: Mapping[str, Array], labels: Array) -> None:
        output = outputs[self.output].astype(np.float64)
        labels = labels.reshape(-1).astype(np.int64)
        scores = output.reshape(-1, 1) if self.axis < 0 else np.moveaxis(output, self.axis, -1)
        scores = scores.reshape(labels.size, -1)
        self._check(labels, scores.shape[1])
        self.count += labels.size
        self.probabilities = self.probabilities and _are_probabilities(scores)
        rows = np.arange(labels.size)
        for probable in (True, False):
            logs = _logs(scores, probable)
            self.loss[probable] -= float(logs[rows, labels].sum())
            self.right[probable] += int((logs.argmax(axis=1) == labels).sum())

    def _check(self, labels: Array, classes: int) -> None:
        classes = max(classes, 2)
        if labels.size and not 0 <= labels.min() <= labels.max() < classes:
            raise DataError(
                f"{self.name}: labels from {labels.min()} to {labels.max()}, but the output `{self.output}` has"
                f" {classes} classes",
                f"Number the classes from 0 to {classes - 1}.",
            )

    def metrics(self) -> tuple[Metric, ...]:
        accuracy = self.right[self.probabilities] / self.count
        loss = self.loss[self.probabilities] / self.count
        return Metric("accuracy", accuracy, "", ".2%", "higher"), Metric("loss", loss, "nats", ".4f", "lower")


def _are_probabilities(scores: Floats) -> bool:
    inside = bool(((scores >= -1e-6) & (scores <= 1 + 1e-6)).all())
    return inside and (scores.shape[1] == 1 or bool(np.allclose(scores.sum(axis=1), 1, atol=1e-2)))


def _logs(scores: Floats, probable: bool) -> Floats:
    """Log-probabilities, shape (rows, classes); one column of scores is the second of two classes."""
    if probable:
        both = np.hstack([1 - scores, scores]) if scores.shape[1] == 1 else scores
        return np.asarray(np.log(np.clip(both, TINY, None)))
    logits = np.hstack([np.zeros_like(scores), scores]) if scores.shape[1] == 1 else scores
    with np.errstate(invalid="ignore", over="ignore"):
        shifted = logits - logits.max(axis=1, keepdims=True)
        result: Floats = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return result


class _Decided:
    """Accuracy of a model that puts out classes instead of scores."""

    def __init__(self, output: str) -> None:
        self.output, self.right, self.count = output, 0, 0

    def add(self, outputs: Mapping[str, Array], labels: Array) -> None:
        self.right += int((outputs[self.output].reshape(-1) == labels.reshape(-1)).sum())
        self.count += labels.size

    def metrics(self) -> tuple[Metric, ...]:
        return (Metric("accuracy", self.right / self.count, "", ".2%", "higher"),)


class _Regression:
    """Mean squared error, over all values."""

    def __init__(self, output: str) -> None:
        self.output, self.total, self.count = output, 0.0, 0

    def add(self, outputs: Mapping[str, Array], labels: Array) -> None:
        error = outputs[self.output].astype(np.float64).reshape(-1) - labels.reshape(-1)
        self.total += float((error**2).sum())
        self.count += labels.size

    def metrics(self) -> tuple[Metric, ...]:
        return (Metric("mean squared error", self.total / self.count, "", ".4g", "lower"),)


class _Fidelity:
    """How close the outputs are to the original's, on the first float output of both.

    Cosine of the angle and KL divergence KL(original || model) in nats, both as means over samples or score vectors;
    the largest absolute difference; for score vectors the share of equal top classes.
    """

    def __init__(self, outputs: Mapping[str, Array], reference: Mapping[str, Array]) -> None:
        both = [n for n, o in outputs.items() if _is_float(o) and n in reference and reference[n].shape == o.shape]
        if not both:
            raise DataError(
                f"The model and the original have no float output in common: {_shapes(outputs)}; {_shapes(reference)}",
                "Compare a model with the one that it was made from.",
            )
        self.output = both[0]
        rank, shape = outputs[self.output].ndim, outputs[self.output].shape
        self.axis = {0: None, 1: None, 2: 1, 3: 2}.get(rank, 1)
        if self.axis is not None and shape[self.axis] < 2:
            self.axis = None
        self.samples = self.vectors = 0
        self.cosine = self.divergence = self.worst = 0.0
        self.agree = 0

    def add(self, outputs: Mapping[str, Array], reference: Mapping[str, Array], count: int) -> None:
        ours, theirs = (o[self.output].astype(np.float64) for o in (outputs, reference))
        self.samples += count
        self.worst = max(self.worst, float(np.abs(ours - theirs).max(initial=0.0)))
        flat = [a.reshape(count, -1) for a in (ours, theirs)]
        norms = np.linalg.norm(flat[0], axis=1) * np.linalg.norm(flat[1], axis=1)
        self.cosine += float(((flat[0] * flat[1]).sum(axis=1) / np.maximum(norms, TINY)).sum())
        if self.axis is not None:
            width = ours.shape[self.axis]
            self._compare(*(np.moveaxis(a, self.axis, -1).reshape(-1, width) for a in (ours, theirs)))

    def _compare(self, ours: Floats, theirs: Floats) -> None:
        probable = _are_probabilities(theirs)
        p, q = _logs(theirs, probable), _logs(ours, probable)
        self.divergence += float((np.exp(p) * (p - q)).sum())
        self.agree += int((p.argmax(axis=1) == q.argmax(axis=1)).sum())
        self.vectors += len(p)

    def metrics(self) -> tuple[Metric, ...]:
        result = [
            Metric("cosine to the original", self.cosine / self.samples, "", ".6f", "higher"),
            Metric("largest difference", self.worst, "", ".3g", "lower"),
        ]
        if self.vectors:
            result.append(Metric("KL to the original", self.divergence / self.vectors, "nats", ".4g", "lower"))
            result.append(Metric("top-1 agreement", self.agree / self.vectors, "", ".2%", "higher"))
        return tuple(result)


def _shapes(outputs: Mapping[str, Array]) -> str:
    return ", ".join(f"`{name}` {array.shape}" for name, array in outputs.items())
