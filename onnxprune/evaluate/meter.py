"""Measuring outputs as they come: batch by batch, wherever they are from (a whole model, or the rest of a cut one)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from onnxprune.errors import DataError
from onnxprune.evaluate.classes import Decided, Scored
from onnxprune.evaluate.fidelity import Fidelity, decisions
from onnxprune.evaluate.layout import Asked, Layout, recognise
from onnxprune.evaluate.multilabel import MultiLabel
from onnxprune.evaluate.regression import Regression
from onnxprune.evaluate.result import Evaluation

__all__ = ["Meter"]

Array = NDArray[Any]


class _Part(Protocol):
    """One task: sums up how outputs stand to labels, then tells what it found."""

    def add(self, outputs: Mapping[str, Array], labels: Array, start: int) -> None: ...

    def merge(self, after: Self) -> None: ...

    def finish(self) -> Evaluation: ...


class Meter:
    """Takes outputs and labels in batches and gives one Evaluation; memory does not grow with the data.

    (But for 4 to 12 bytes for each sample, and the scores of curves where they are few; see `evaluate.curves`.)
    ``samples``: how many will come in all. ``name``: of the data, for messages. ``start``: number of the first sample,
    where this one takes a part of the data and is merged with the meter of the part before it.
    """

    def __init__(
        self,
        asked: Asked | None = None,
        *,
        samples: int,
        class_names: Sequence[str] = (),
        name: str = "the dataset",
        start: int = 0,
    ) -> None:
        self.asked = asked or Asked()
        self.expected, self.class_names, self.name = samples, tuple(class_names), name
        self.start = self.done = start
        self.layout: Layout | None = None
        self.part: _Part | None = None
        self.fidelity: Fidelity | None = None
        self.decided: list[NDArray[np.int32] | None] = []

    def add(
        self,
        outputs: Mapping[str, Array],
        labels: Array | None,
        count: int,
        reference: Mapping[str, Array] | None = None,
    ) -> None:
        """The outputs of the next ``count`` samples, their labels, and the original's outputs.

        Raises DataError where labels and outputs do not fit, ModelError where an output is not a number.
        """
        if labels is not None and self.asked.task != "fidelity":
            if self.part is None:
                self.layout = recognise(outputs, labels, self.asked, self.class_names, self.name)
                self.part = self._part(self.layout, labels)
            self.part.add(outputs, labels, self.done)
        else:
            self.decided.append(decisions(outputs))
        if reference is not None:
            self.fidelity = self.fidelity or Fidelity(outputs, reference, self.layout)
            self.fidelity.add(outputs, reference, count, self.done)
        self.done += count

    def merge(self, after: Meter) -> None:
        """Add what another meter found on the samples that follow; it is not to be used any more.

        Raises DataError where the labels were read in another way there.
        """
        if self.layout != after.layout:
            raise DataError(
                f"{self.name}: labels from row {after.start} on are {_told(after.layout)}, those before"
                f" {_told(self.layout)}",
                "Say how to read them: give the task.",
            )
        if self.part is not None and after.part is not None:
            self.part.merge(after.part)
        if self.fidelity is not None and after.fidelity is not None:
            self.fidelity.merge(after.fidelity)
        self.decided += after.decided
        self.done = after.done

    def _part(self, layout: Layout, labels: Array) -> _Part:
        if layout.task == "regression":
            return Regression(layout, self.asked)
        if layout.task == "multi-label":
            return MultiLabel(layout, self.asked, self.class_names, self.expected)
        if layout.decided:
            return Decided(layout, self.asked, self.class_names)
        positions = 1 if layout.one_hot else labels.size // len(labels)
        return Scored(layout, self.asked, self.class_names, self.expected * positions)

    def finish(self, provider: str = "") -> Evaluation:
        """What was found. Raises DataError where there was nothing to measure."""
        if self.done == self.start:
            raise DataError(f"{self.name}: there are no samples to measure on", "Give at least one.")
        found = self.part.finish() if self.part else self._unlabelled()
        fidelity = self.fidelity.metrics() if self.fidelity else ()
        return replace(found, metrics=found.metrics + fidelity, provider=provider)

    def _unlabelled(self) -> Evaluation:
        known = [d for d in self.decided if d is not None]
        predictions = np.concatenate(known) if known and len(known) == len(self.decided) else None
        return Evaluation("fidelity", self.done - self.start, (), predictions=predictions, class_names=self.class_names)


def _told(layout: Layout | None) -> str:
    return "none" if layout is None else f"of the task `{layout.task}` for the output `{layout.output}`"
