"""The loop of a training: epochs of steps, rows of the history, the best weights, checkpoints, and when to end."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from onnxprune.data import Batch
from onnxprune.errors import DataError, ModelError
from onnxprune.model import Model
from onnxprune.train.batches import Feeder
from onnxprune.train.checkpoint import Checkpoint, Position
from onnxprune.train.history import EpochRow, History, StepRow
from onnxprune.train.judge import Judge, is_better
from onnxprune.train.settings import Settings
from onnxprune.train.stops import CANCELLED, DIVERGED, TIME, Stops, Watch
from onnxprune.values import Ints

__all__ = ["Log", "Loop", "Progress", "Saving"]

Array = NDArray[Any]
Weights = Mapping[str, Array]
Progress = Callable[[str, int, int], None]
PAUSE = 0.1  # seconds between two calls of ``progress``


class Steps(Protocol):
    """What the loop needs of `step.Step`."""

    def run(self, feeds: Mapping[str, Array], rate: float) -> float: ...
    def weights(self) -> dict[str, Array]: ...
    def state(self) -> dict[str, Array]: ...
    def load(self, state: Mapping[str, Array]) -> None: ...
    def model(self) -> Model: ...


@dataclass(frozen=True)
class Saving:
    """Where checkpoints go (None: nowhere), after how many seconds beside the ends of epochs, which epochs are kept."""

    path: Path | None = None
    seconds: float = 60.0
    keep: Collection[int] = ()


@dataclass(frozen=True)
class Log:
    """A row of steps every ``every`` steps; ``progress`` is told of steps, ``cancelled`` asked between them."""

    every: int
    progress: Progress | None = None
    cancelled: Callable[[], bool] | None = None


class Loop:
    """A training that is under way. ``feeds``: a batch as the step takes it."""

    def __init__(  # noqa: PLR0913 - each is one part of a training
        self,
        model_hash: str,
        *,
        step: Steps,
        feeder: Feeder,
        feeds: Callable[[Batch], dict[str, Array]],
        settings: Settings,
        stops: Stops,
        judge: Judge,
        saving: Saving,
        log: Log,
    ) -> None:
        self.step, self.feeder, self.feeds, self.settings = step, feeder, feeds, settings
        self.stops, self.judge, self.saving, self.log = stops, judge, saving, log
        self.history = History(model_hash=model_hash)
        self.position, self.watch = Position(), Watch()
        self.best: tuple[int, Weights] = (0, {})
        self.kept: dict[int, Weights] = {}
        self.unsaved = ""  # why the last checkpoint could not be written
        self.total = stops.epochs * len(feeder)
        self._start = self._saved = self._told = time.monotonic()
        self._seconds = 0.0  # of the part of the training before a resume
        self._shown = ""  # the last metric, for a person

    # -- the whole ----------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Measure the model as it is: epoch 0."""
        self._tell("measuring the model as it is")
        metrics = self.judge.measure(self.step.model()) if self.judge.usable else ()
        if metrics:
            self.history = replace(self.history, chosen=metrics[0].name)
            row = EpochRow(0, 0, math.nan, 0.0, metrics, self.seconds)
            self.history = self.history.with_epoch(row)
            self._shown = f", {metrics[0].label} {metrics[0]}"
        self.best = (0, self.step.weights())
        self._keep(0)
        self.save()

    def go_on(self, found: Checkpoint) -> None:
        """Take up the training where a checkpoint left it."""
        self.step.load(found.state)
        self.history, self.position, self.watch = found.history, found.position, found.watch
        self.best, self.kept = found.best, dict(found.kept)
        self._seconds = found.position.seconds
        self._start = time.monotonic()

    def run(self) -> str:
        """Train until there is a reason to stop, and return it."""
        while (reason := self.stops.reason(self.history, self.seconds)) is None:
            reason = self._epoch()
            if reason is not None:
                break
        if reason in (CANCELLED, TIME) and self.position.batch:
            self.save()  # before the rest of the epoch is counted as one, so that a resume does not see that
            reason = reason if self._close(whole=False) else DIVERGED
        self._row()
        return reason

    @property
    def seconds(self) -> float:
        """Spent on this training, parts before a resume included."""
        return self._seconds + time.monotonic() - self._start

    @property
    def best_row(self) -> EpochRow | None:
        """The row of the epoch that is delivered; None where that is the model as it was, unmeasured."""
        return next((row for row in self.history.epochs if row.epoch == self.best[0]), None)

    def save(self) -> None:
        """Write a checkpoint, where one is wanted."""
        self._saved = time.monotonic()
        if self.saving.path is None:
            return
        position = replace(self.position, seconds=self.seconds)
        checkpoint = Checkpoint(
            self.history.model_hash, self.settings.as_dict(), position, self.history, self.watch, self.step.state(),
            self.best, self.kept,
        )  # fmt: skip
        try:
            checkpoint.save(self.saving.path)
        except DataError as error:
            if not self.position.step:
                raise
            self.unsaved = error.message  # a full disk must not end what has been going on for hours
        else:
            self.unsaved = ""

    # -- one epoch ----------------------------------------------------------------------------------------------------

    def _epoch(self) -> str | None:
        """Train to the end of the epoch; returns why it was left before."""
        order = self.feeder.order(self.position.epoch)
        for number in range(self.position.batch, len(order)):
            if self.log.cancelled is not None and self.log.cancelled():
                return CANCELLED
            if self.stops.late(self.seconds):
                return TIME
            self._step(order[number], number)
            if self.watch.diverged:
                return DIVERGED
            if time.monotonic() > self._saved + self.saving.seconds:
                self.save()
        if not self._close(whole=True):
            return DIVERGED
        self.save()
        return None

    def _step(self, rows: Ints, number: int) -> None:
        at = self.position
        batch = self.feeder.batch(rows, at.epoch, number)
        loss = self.step.run(self.feeds(batch), self._rate(at.step))
        self.watch = self.watch.seen(loss)
        self.position = replace(
            at, batch=number + 1, step=at.step + 1, loss=at.loss + loss * batch.count, samples=at.samples + batch.count,
            row_loss=at.row_loss + loss, row_steps=at.row_steps + 1,
        )  # fmt: skip
        if self.position.row_steps >= self.log.every:
            self._row()
        self._tell(f"epoch {at.epoch} of {self.stops.epochs}, loss {self.watch.average:.4g}{self._shown}", every=PAUSE)

    def _rate(self, step: int) -> float:
        return self.settings.rate * self.settings.schedule.factor(step, self.total)

    def _row(self) -> None:
        """A row of the steps since the last one."""
        at = self.position
        if at.row_steps:
            loss, rate = at.row_loss / at.row_steps, self._rate(at.step - 1)
            self.history = self.history.with_step(StepRow(at.step, at.epoch, loss, rate, self.seconds))
            self.position = replace(at, row_loss=0.0, row_steps=0)

    def _close(self, *, whole: bool) -> bool:
        """Measure, and keep the weights if they are the best so far. False where the outputs are no numbers."""
        at = self.position
        self._tell(f"measuring after epoch {at.epoch} of {self.stops.epochs}")
        try:
            metrics = self.judge.measure(self.step.model()) if self.judge.usable else ()
        except ModelError:  # only the weights are others than when the model was measured as it was
            return False
        if metrics:
            self._shown = f", {metrics[0].label} {metrics[0]}"
        row = EpochRow(at.epoch, at.step, at.loss / at.samples, self._rate(at.step - 1), metrics, self.seconds, whole)
        best = self.best_row
        self.history = self.history.with_epoch(row)
        if best is None or is_better(row, best):
            self.best = (at.epoch, self.step.weights())
        self._keep(at.epoch)
        self.position = replace(at, epoch=at.epoch + 1, batch=0, loss=0.0, samples=0)
        return True

    def _keep(self, epoch: int) -> None:
        if epoch in self.saving.keep:
            self.kept[epoch] = self.step.weights()

    def _tell(self, words: str, every: float = 0.0) -> None:
        now = time.monotonic()
        if self.log.progress is not None and now >= self._told + every:
            self._told = now
            self.log.progress(words, self.position.step, self.total)
