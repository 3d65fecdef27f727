"""When a training ends: after so many epochs, at a target, when the loss stands still, after a time, or diverging.

The first three are those of CNNPruner. All but the divergence are functions of the history and the time, so that a
training that goes on from a checkpoint stops where an uninterrupted one does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from onnxprune.errors import OptionError
from onnxprune.evaluate import KINDS, Metric, kind_of
from onnxprune.train.history import History

__all__ = ["CANCELLED", "DELTA", "DIVERGED", "EPOCHS", "TARGET", "TIME", "Stops", "Watch", "reaches"]

EPOCHS, DELTA, TARGET = "max epochs", "delta loss", "target accuracy"
TIME, CANCELLED, DIVERGED = "time limit", "cancelled", "diverged"

SMOOTH = 0.98  # of the average that divergence is judged by: about fifty steps
TIMES = 10.0  # times the best smoothed loss
SHARE = 0.5  # of the first loss: below that a loss is not called diverged, since small losses jump
LEAST = 1.0  # nor below this: what knows its training data by heart begins at almost nothing


@dataclass(frozen=True)
class Stops:
    """When to stop, at whatever comes first.

    ``epochs``: at most so many. ``delta_loss``: when the training loss of an epoch was lower than the lowest before by
    less than this share, ``patience`` epochs in a row. ``target``: a metric and the value at which it is good enough.
    ``time_limit``: seconds. Raises OptionError.
    """

    epochs: int = 20
    delta_loss: float | None = None
    patience: int = 3
    target: tuple[str, float] | None = None
    time_limit: float | None = None

    def __post_init__(self) -> None:
        for name in ("epochs", "patience"):
            if getattr(self, name) < 1:
                raise OptionError(f"{name}: got {getattr(self, name)}, expected at least 1", "For example 10.")
        if self.delta_loss is not None and not 0 <= self.delta_loss < 1:
            raise OptionError(
                f"delta loss: got {self.delta_loss}, expected a share from 0 to 1",
                "0.01 stops when an epoch lowers the loss by less than one percent.",
            )
        if self.time_limit is not None and not 0 < self.time_limit < math.inf:
            raise OptionError(f"time limit: got {self.time_limit} seconds, expected more than 0", "For example 60.")
        if self.target is not None:
            _check_target(*self.target)

    def reason(self, history: History, seconds: float) -> str | None:
        """Why to stop after the last epoch of the history; None to go on."""
        if self.target is not None and history.epochs:
            metric = history.epochs[-1].metric(self.target[0])
            if metric is not None and reaches(metric, self.target[1]):
                return TARGET
        if self.delta_loss is not None and _stands_still(history, self.delta_loss, self.patience):
            return DELTA
        if len(history.trained) >= self.epochs:
            return EPOCHS
        return TIME if self.late(seconds) else None

    def late(self, seconds: float) -> bool:
        """Whether the time is over."""
        return self.time_limit is not None and seconds >= self.time_limit


def reaches(metric: Metric, value: float) -> bool:
    """Whether a metric is at least as good as a value."""
    return metric.value <= value if metric.direction == "lower" else metric.value >= value


def _check_target(name: str, value: float) -> None:
    kind = kind_of(name)
    if kind is None or not kind.direction or kind.needs == "" or kind.per_class:
        usable = [k.name for k in KINDS.values() if k.direction and k.needs and not k.per_class]
        raise OptionError(f"target: {name!r} is no metric to train towards", f"Metrics: {', '.join(usable)}.")
    if not math.isfinite(value):
        raise OptionError(f"target: {name} = {value} is not a number", "For example accuracy=0.985.")


def _stands_still(history: History, share: float, patience: int) -> bool:
    losses = [row.loss for row in history.trained]
    if len(losses) <= patience:
        return False
    for k in range(len(losses) - patience, len(losses)):
        lowest = min(losses[:k])
        if lowest - losses[k] >= share * abs(lowest) and lowest != losses[k]:
            return False
    return True


@dataclass(frozen=True)
class Watch:
    """Looks for divergence: a loss that is no number, or whose running average is far above its best.

    Far: more than ten times the best, more than half of the first loss, and more than 1.
    """

    first: float = math.nan
    best: float = math.inf
    total: float = 0.0
    weight: float = 0.0

    def seen(self, loss: float) -> Watch:
        """After one more step."""
        total, weight = SMOOTH * self.total + (1 - SMOOTH) * loss, SMOOTH * self.weight + 1 - SMOOTH
        first = loss if math.isnan(self.first) else self.first
        now = replace(self, first=first, total=total, weight=weight)
        return replace(now, best=min(self.best, now.average))

    @property
    def average(self) -> float:
        """The running average of the loss, without a bias towards the start."""
        return self.total / self.weight if self.weight else math.nan

    @property
    def diverged(self) -> bool:
        """Whether to stop; also where the average is no number."""
        if not self.weight:
            return False
        return not math.isfinite(self.average) or self.average > max(TIMES * self.best, SHARE * self.first, LEAST)

    def as_dict(self) -> dict[str, float | None]:
        """For JSON, which has no infinity."""
        return {key: value if math.isfinite(value) else None for key, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Watch:
        """What `as_dict` gave."""
        return cls(**{key: getattr(cls, key) if value is None else value for key, value in content.items()})
