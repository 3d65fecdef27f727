"""What a fine-tuning says about the pruning before it: CNNPruner's three figures, from one history each.

recovery capability  how far the metric fell, how far it came back, and how its values spread over the epochs
loss fluctuation     the training loss step by step, and how much it moves
recovery cost        epochs, steps and seconds until the model was as good as it got
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from onnxprune.errors import DataError
from onnxprune.evaluate import Metric, better, measured
from onnxprune.train.history import History

__all__ = [
    "LossFluctuation",
    "RecoveryCapability",
    "RecoveryCost",
    "loss_fluctuation",
    "recovery_capability",
    "recovery_cost",
]

NEAR = 0.01  # of the distance that was made up: this close to the best value counts as recovered


@dataclass(frozen=True)
class RecoveryCapability:
    """A metric over a fine-tuning. ``values``: one for each epoch, the start first.

    ``low`` to ``high`` is the stripe of CNNPruner: its length is the damage that the epochs had to repair. ``share``:
    (best - before) / (original - before), 1 where all came back; NaN where the original's value is not known or
    nothing was lost.
    """

    metric: str
    before: float
    best: float
    last: float
    low: float
    high: float
    values: tuple[float, ...]
    share: float = math.nan

    @property
    def damage(self) -> float:
        """Length of the stripe."""
        return self.high - self.low


@dataclass(frozen=True)
class LossFluctuation:
    """The training loss over the steps. ``span``: highest less lowest.

    ``roughness``: the mean change from one row to the next, as a share of the mean loss; 0 for a flat line.
    """

    steps: tuple[int, ...]
    losses: tuple[float, ...]
    first: float
    last: float
    lowest: float
    span: float
    roughness: float


@dataclass(frozen=True)
class RecoveryCost:
    """What the fine-tuning took: in all, and until the metric had made up 99% of the way to its best value."""

    epochs: int
    steps: int
    seconds: float
    until_epoch: int
    until_step: int
    until_seconds: float


def recovery_capability(
    history: History, metric: str | None = None, original: float | None = None
) -> RecoveryCapability:
    """How well the model came back. ``metric``: by default the one that the best epoch was chosen by.

    ``original``: the metric of the model before it was pruned. Raises DataError where the metric was not measured.
    """
    name, found = _values(history, metric)
    best = _best([measured(name, value) for _, value in found])
    values = tuple(value for _, value in found)
    before = values[0] if history.before is not None and found[0][0] == 0 else math.nan
    share = math.nan
    if original is not None and original != before:
        share = (best - before) / (original - before)
    return RecoveryCapability(name, before, best, values[-1], min(values), max(values), values, share)


def loss_fluctuation(history: History) -> LossFluctuation:
    """How the training loss moved. Raises DataError for a history without a step."""
    rows = [(row.step, row.loss) for row in history.steps] or [(row.step, row.loss) for row in history.trained]
    if not rows:
        raise DataError("the history has no steps, so there is no loss to look at", "Train for at least one epoch.")
    losses = np.array([loss for _, loss in rows])
    moves = float(np.abs(np.diff(losses)).mean()) if len(losses) > 1 else 0.0
    mean = float(np.abs(losses).mean())
    return LossFluctuation(
        tuple(step for step, _ in rows), tuple(losses.tolist()), float(losses[0]), float(losses[-1]),
        float(losses.min()), float(losses.max() - losses.min()), moves / mean if mean else 0.0,
    )  # fmt: skip


def recovery_cost(history: History, metric: str | None = None) -> RecoveryCost:
    """How much training there was, and how much of it was needed. Raises DataError as `recovery_capability` does."""
    name, found = _values(history, metric)
    best = _best([measured(name, value) for _, value in found])
    start = found[0][1]
    near = NEAR * abs(best - start)
    until = history.of(next(epoch for epoch, value in found if abs(value - best) <= near))
    last = history.epochs[-1]
    return RecoveryCost(len(history.trained), last.step, last.seconds, until.epoch, until.step, until.seconds)


def _values(history: History, metric: str | None) -> tuple[str, tuple[tuple[int, float], ...]]:
    name = metric or history.chosen or "loss"
    found = history.values(name)
    if not found:
        known = sorted({m.name for row in history.epochs for m in row.metrics})
        raise DataError(f"the history has no values of {name!r}", f"It has: {', '.join(known) or 'none'}.")
    return name, found


def _best(metrics: list[Metric]) -> float:
    best = metrics[0]
    for metric in metrics[1:]:
        if better(metric, best):
            best = metric
    return best.value
