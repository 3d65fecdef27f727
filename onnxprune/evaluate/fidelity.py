"""Fidelity: how close the outputs are to the original's; needs no labels.

Of the first float output of both models: the mean cosine of the samples' outputs, the largest absolute difference, and
where the output holds score vectors KL(original || model) in nats and the share of equal top classes, both as means
over vectors. Infinities that both have are no difference.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.errors import DataError
from onnxprune.evaluate.layout import Layout
from onnxprune.evaluate.metric import Metric, measured
from onnxprune.evaluate.scores import are_probabilities, check_numbers, chunks, is_float, log_probabilities

__all__ = ["Fidelity", "decisions", "score_axis"]

Array = NDArray[Any]
Floats = NDArray[np.float64]


class Fidelity:
    """Sums up over batches how one model's outputs stand to another's."""

    def __init__(self, outputs: Mapping[str, Array], reference: Mapping[str, Array], layout: Layout | None) -> None:
        both = [n for n, o in outputs.items() if is_float(o) and n in reference and reference[n].shape == o.shape]
        if not both:
            raise DataError(
                "The model and the original have no float output of one name and shape in common:"
                f" {_shapes(outputs)}; {_shapes(reference)}",
                "Compare a model with the one that it was made from, with the same classes.",
            )
        known = layout is not None and layout.output in both
        self.output = layout.output if known and layout else both[0]
        self.axis = layout.axis if known and layout else score_axis(outputs[self.output].shape)
        self.samples = self.vectors = self.agree = 0
        self.cosine = self.divergence = self.worst = 0.0

    def add(self, outputs: Mapping[str, Array], reference: Mapping[str, Array], count: int, start: int) -> None:
        """Outputs of ``count`` samples; ``start``: number of the first one."""
        for what, found in (("", outputs), ("the original's ", reference)):
            check_numbers(found[self.output], f"{what}output `{self.output}`", start, infinite=True)
        ours, theirs = (o[self.output] for o in (outputs, reference))
        self.samples += count
        flat = ours.reshape(count, -1), theirs.reshape(count, -1)
        for rows in chunks(*flat[0].shape):
            self._measure(*(part[rows].astype(np.float64) for part in flat))
        if self.axis is not None:
            vectors = [_vectors(array, self.axis) for array in (ours, theirs)]
            for rows in chunks(*vectors[0].shape):
                self._compare(*(part[rows].astype(np.float64) for part in vectors))

    def merge(self, after: Fidelity) -> None:
        """Add what was summed up over the samples that follow."""
        self.samples += after.samples
        self.vectors += after.vectors
        self.agree += after.agree
        self.cosine += after.cosine
        self.divergence += after.divergence
        self.worst = max(self.worst, after.worst)

    def _measure(self, ours: Floats, theirs: Floats) -> None:
        same = (ours == theirs) & np.isinf(ours)
        ours, theirs = np.where(same, 0, ours), np.where(same, 0, theirs)
        self.worst = max(self.worst, float(np.abs(ours - theirs).max(initial=0.0)))
        with np.errstate(invalid="ignore"):  # an infinity in one of both has no angle
            lengths = np.linalg.norm(ours, axis=1), np.linalg.norm(theirs, axis=1)
            product = lengths[0] * lengths[1]
            cosine = (ours * theirs).sum(axis=1) / np.where(product > 0, product, 1)
        self.cosine += float(np.where((lengths[0] == 0) & (lengths[1] == 0), 1, cosine).sum())

    def _compare(self, ours: Floats, theirs: Floats) -> None:
        probable = are_probabilities(theirs)
        p, q = log_probabilities(theirs, probable), log_probabilities(ours, probable)
        mass = np.exp(p)
        with np.errstate(invalid="ignore"):  # 0 * inf, which is 0 here
            self.divergence += float(np.where(mass > 0, mass * (p - q), 0).sum())
        self.agree += int((p.argmax(axis=1) == q.argmax(axis=1)).sum())
        self.vectors += len(p)

    def metrics(self) -> tuple[Metric, ...]:
        result = [measured("cosine", self.cosine / self.samples), measured("largest_difference", self.worst)]
        if self.vectors:
            result.append(measured("kl", self.divergence / self.vectors))
            result.append(measured("agreement", self.agree / self.vectors))
        return tuple(result)


def score_axis(shape: tuple[int, ...]) -> int | None:
    """Where an output of this shape would hold class scores; None where it holds none."""
    axis = {0: None, 1: None, 2: 1, 3: 2}.get(len(shape), 1)
    return axis if axis is not None and shape[axis] > 1 else None


def decisions(outputs: Mapping[str, Array]) -> NDArray[np.int32] | None:
    """The top class of each sample, without labels to say where it stands; None where samples have none."""
    for output in outputs.values():
        if is_float(output):
            scores = output.ndim == 2 and output.shape[1] > 1
            return output.argmax(axis=1).astype(np.int32) if scores else None
    return None


def _vectors(output: Array, axis: int) -> Array:
    """Score vectors as (vectors, classes)."""
    if axis < 0:
        return output.reshape(-1, 1)
    return np.moveaxis(output, axis, -1).reshape(-1, output.shape[axis])


def _shapes(outputs: Mapping[str, Array]) -> str:
    return ", ".join(f"`{name}` {array.shape}" for name, array in outputs.items()) or "none"
