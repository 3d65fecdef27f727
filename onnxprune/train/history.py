"""What happened in a training: a row per epoch and a row per few steps, as values that go to JSON and back."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from onnxprune._atomic import replacing
from onnxprune.errors import DataError
from onnxprune.evaluate import Metric

__all__ = ["EpochRow", "History", "StepRow", "load_history"]

FORMAT = 1
AGAIN = "Train again with --history, or name another file."


@dataclass(frozen=True)
class StepRow:
    """Some steps: ``step``: how many there have been since the start; ``loss``: the mean since the row before."""

    step: int
    epoch: int
    loss: float
    rate: float
    seconds: float


@dataclass(frozen=True)
class EpochRow:
    """One epoch. Epoch 0 is the model before the training; its ``loss`` is NaN.

    ``step``: steps since the start. ``loss``: the mean training loss of the epoch. ``rate``: the last learning rate.
    ``metrics``: measured on the validation data after the epoch. ``seconds``: since the start of the training.
    ``whole``: False for an epoch that was left before its end.
    """

    epoch: int
    step: int
    loss: float
    rate: float
    metrics: tuple[Metric, ...] = ()
    seconds: float = 0.0
    whole: bool = True

    def metric(self, name: str) -> Metric | None:
        """A metric by name; None where it was not measured."""
        return next((metric for metric in self.metrics if metric.name == name), None)


@dataclass(frozen=True)
class History:
    """A training, row by row. ``chosen``: the name of the metric that the best epoch is chosen by, "" for the loss.

    ``model_hash``: of the model before the training. Figures are derived from it in ``recovery``.
    """

    epochs: tuple[EpochRow, ...] = ()
    steps: tuple[StepRow, ...] = ()
    chosen: str = ""
    model_hash: str = ""

    def with_epoch(self, row: EpochRow) -> History:
        """The history with one more epoch."""
        return replace(self, epochs=(*self.epochs, row))

    def with_step(self, row: StepRow) -> History:
        """The history with one more row of steps."""
        return replace(self, steps=(*self.steps, row))

    @property
    def trained(self) -> tuple[EpochRow, ...]:
        """The epochs after the start."""
        return tuple(row for row in self.epochs if row.epoch > 0)

    @property
    def before(self) -> EpochRow | None:
        """What was measured before the first step; None where nothing was."""
        return next((row for row in self.epochs if row.epoch == 0), None)

    def of(self, epoch: int) -> EpochRow:
        """The row of an epoch. Raises DataError where there is none."""
        for row in self.epochs:
            if row.epoch == epoch:
                return row
        there = ", ".join(str(row.epoch) for row in self.epochs) or "none"
        raise DataError(f"the history has no epoch {epoch}", f"There are: {there}.")

    def values(self, name: str) -> tuple[tuple[int, float], ...]:
        """(epoch, value) of a metric, or of "loss" where that was not measured on validation data (training loss)."""
        found = [(row.epoch, metric.value) for row in self.epochs if (metric := row.metric(name)) is not None]
        if not found and name == "loss":
            found = [(row.epoch, row.loss) for row in self.trained]
        return tuple(found)

    def as_dict(self) -> dict[str, Any]:
        """For JSON; what is not a finite number is None."""
        plain: dict[str, Any] = _plain({"onnxprune_history": FORMAT, **asdict(self)})
        return plain

    def to_json(self) -> str:
        """The history as text; `load_history` reads it."""
        return json.dumps(self.as_dict(), indent=1, allow_nan=False)

    def save(self, path: str | Path) -> None:
        """Write the history to a file, wholly or not at all; raises DataError."""
        try:
            with replacing(Path(path)) as file:
                file.write(self.to_json().encode("utf-8", "backslashreplace"))
        except OSError as error:
            reason = error.strerror or str(error)
            raise DataError(f"{path}: cannot write the history: {reason}", "Choose another place for it.") from error

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> History:
        """What `as_dict` gave. Raises KeyError, TypeError or ValueError for something else."""
        values = dict(content)
        if values.pop("onnxprune_history") != FORMAT:
            raise ValueError("written by another version")
        steps = tuple(StepRow(**_numbers(row, "loss", "rate", "seconds")) for row in values.pop("steps"))
        epochs = tuple(
            EpochRow(**{**_numbers(row, "loss", "rate", "seconds"), "metrics": tuple(map(_metric, row["metrics"]))})
            for row in values.pop("epochs")
        )
        return cls(epochs, steps, **values)


def load_history(path: str | Path) -> History:
    """Read a history. Raises DataError for a file that is none."""
    try:
        return History.from_dict(json.loads(Path(path).read_text(encoding="utf-8")))
    except OSError as error:
        raise DataError(f"{path}: cannot read the history: {error.strerror or error}", AGAIN) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: not the history of a training: {error}", AGAIN) from error


def _metric(content: Mapping[str, Any]) -> Metric:
    return Metric(**_numbers(content, "value"))


def _numbers(content: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """None back to NaN."""
    return {key: math.nan if value is None and key in names else value for key, value in content.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
