"""What a model is to make small over a dataset: losses that were held against its outputs and the labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.data import Batch
from onnxprune.errors import DataError
from onnxprune.evaluate.layout import Layout
from onnxprune.losses.loss import Loss
from onnxprune.model import Model
from onnxprune.runtime import Session, session

__all__ = ["ROWS", "Objective", "Term"]

Array = NDArray[Any]
ROWS = ("mse", "huber", "distillation")  # kinds that need to be told which rows are padding
SMALLEST = 1e-38  # of a probability whose logarithm is taken; float32 has few below


@dataclass(frozen=True)
class Term:
    """One loss and where it belongs.

    ``axis`` of the output holds the class scores; -1: each number is a score, None: numbers that are no scores.
    ``probable``: the output holds probabilities. ``feed``: the input that gets the labels, or what the teacher says.
    ``source``: the teacher's output; ``teacher_probable``: it holds probabilities. ``dtype``: of targets.
    """

    loss: Loss
    output: str
    feed: str
    axis: int | None
    layout: Layout | None = None
    probable: bool = False
    source: str = ""
    teacher_probable: bool = False
    dtype: np.dtype[Any] = field(default_factory=lambda: np.dtype(np.float32))


@dataclass(frozen=True, eq=False)
class Objective:
    """Made by ``choose_objective``. ``words`` says it to a person; ``rows`` is the input that marks padding."""

    losses: tuple[Loss, ...]
    words: str
    terms: tuple[Term, ...]
    rows: str
    teacher: Model | None = None
    provider: str = "auto"
    threads: int | None = None

    def feeds(self, batch: Batch) -> dict[str, Array]:
        """What the graph takes beside the model's inputs: labels, outputs of the teacher, which rows count.

        Raises DataError for labels that are missing or no classes.
        """
        size = len(next(iter(batch.feeds.values())))
        found: dict[str, Array] = {}
        said = self._teacher_says(batch) if any(term.source for term in self.terms) else {}
        for term in self.terms:
            if term.source:
                found[term.feed] = _logits(said[term.source], term)
            elif batch.labels is None:
                raise DataError(
                    f"the loss {term.loss.kind} needs labels, and a batch has none",
                    "Give `y` in the dataset, or train by distillation.",
                )
            else:
                found[term.feed] = _padded(_targets(term, batch.labels[: batch.count]), size, term.loss.kind)
        if any(term.loss.kind in ROWS for term in self.terms):
            found[self.rows] = (np.arange(size) < batch.count).astype(np.float32)
        return found

    def _teacher_says(self, batch: Batch) -> Mapping[str, Array]:
        feeds = {info.name: batch.feeds[info.name].astype(info.dtype, copy=False) for info in self._session.inputs}
        return self._session.run(feeds)

    @cached_property
    def _session(self) -> Session:
        if self.teacher is None:
            raise DataError("distillation without a teacher", "Give the model to learn from.")
        names = list(dict.fromkeys(term.source for term in self.terms if term.source))
        return session(self.teacher, outputs=names, provider=self.provider, threads=self.threads)

    def __getstate__(self) -> dict[str, Any]:
        """Without the session, which does not go to another process."""
        return {name: value for name, value in self.__dict__.items() if name != "_session"}


def _targets(term: Term, labels: Array) -> Array:
    """(rows, labels of each): class numbers, marks of 0 and 1, or numbers; -1 where a class does not count."""
    layout = term.layout
    if layout is None or layout.task == "regression":
        return labels.reshape(len(labels), -1).astype(term.dtype)
    if layout.task == "multi-label":
        return layout.marks(labels, 0).astype(term.dtype)
    numbers, counts = layout.class_numbers(labels, 0)
    known = np.where(counts, numbers, -1)
    return known if term.loss.kind == "cross-entropy" else known.astype(term.dtype)


def _padded(targets: Array, size: int, kind: str) -> Array:
    missing = size - len(targets)
    if not missing:
        return targets
    fill = 0 if kind in ROWS else -1
    return np.concatenate([targets, np.full((missing, *targets.shape[1:]), fill, targets.dtype)])


def _logits(output: Array, term: Term) -> Array:
    """What the teacher puts out as (rows, numbers), probabilities as their logits."""
    values = output.reshape(len(output), -1).astype(np.promote_types(term.dtype, np.float32))
    if term.teacher_probable:
        logs = np.log(np.clip(values, SMALLEST, None))
        rest = np.log(np.clip(1 - values, np.finfo(values.dtype).epsneg / 2, None))
        values = logs - rest if term.axis == -1 else logs
    return values.astype(term.dtype)
