"""Measuring a model between epochs, and which of two epochs is the better one."""

from __future__ import annotations

from dataclasses import dataclass

from onnxprune.data import Dataset
from onnxprune.evaluate import Metric, better, evaluate
from onnxprune.model import Model
from onnxprune.train.history import EpochRow

__all__ = ["Judge", "is_better"]

SAME_CLASS = "agreement"  # decides where there are no labels, but classes


@dataclass(frozen=True, eq=False)
class Judge:
    """``dataset``: what is measured on; None to go by the training loss. ``metric``: decides; None for the first.

    Without labels, outputs are compared with those of the ``teacher``.
    """

    dataset: Dataset | None
    teacher: Model | None = None
    metric: str | None = None
    ignore_label: int | None = None
    provider: str = "auto"
    threads: int | None = None

    @property
    def usable(self) -> bool:
        """Whether there is something to measure on, and something to compare with."""
        return self.dataset is not None and (self.dataset.labels is not None or self.teacher is not None)

    def measure(self, model: Model) -> tuple[Metric, ...]:
        """The metrics, the deciding one first; () where nothing can be measured. Raises as `evaluate` does."""
        if self.dataset is None or not self.usable:
            return ()
        found = evaluate(
            model, self.dataset, original=self.teacher if self.dataset.labels is None else None, curves="none",
            ignore_label=self.ignore_label, provider=self.provider, threads=self.threads,
        )  # fmt: skip
        wanted = self.metric or next((m.name for m in found if m.name == SAME_CLASS), "")
        first = found.metric(wanted) if wanted else next((m for m in found if m.direction), None)
        if first is None:
            return ()
        return (first, *(m for m in found if m is not first))


def is_better(row: EpochRow, best: EpochRow) -> bool:
    """By the first metric, then by the loss on the validation data, then by the training loss."""
    if not row.metrics or not best.metrics:
        return not best.metrics and row.loss < best.loss
    for a, b in _pairs(row, best):
        if better(a, b):
            return True
        if better(b, a):
            return False
    return False


def _pairs(row: EpochRow, best: EpochRow) -> list[tuple[Metric, Metric]]:
    names = dict.fromkeys((row.metrics[0].name, "loss", "kl"))
    both = [(row.metric(name), best.metric(name)) for name in names]
    return [(a, b) for a, b in both if a is not None and b is not None]
