"""``train``: a model, data and settings in; the best epoch, its history and the reason to stop out."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.data import Dataset, fit
from onnxprune.errors import DataError, OptionError
from onnxprune.losses import Loss, Objective, choose_objective
from onnxprune.model import Model
from onnxprune.runtime import model_inputs
from onnxprune.train.batches import Augment, Feeder
from onnxprune.train.checkpoint import Checkpoint, load_checkpoint
from onnxprune.train.history import EpochRow, History
from onnxprune.train.judge import Judge
from onnxprune.train.masks import HASH, kept_zeros
from onnxprune.train.optimizers import Optimizer
from onnxprune.train.running import Log, Loop, Progress, Saving
from onnxprune.train.schedules import Schedule, parse_schedule
from onnxprune.train.settings import BATCHNORMS, Settings, data_print, masks_print
from onnxprune.train.settings import differences as settings_differences
from onnxprune.train.step import Step
from onnxprune.train.stops import CANCELLED, DELTA, DIVERGED, EPOCHS, TARGET, TIME, Stops

__all__ = ["DECAY", "KEEP_ZEROS", "MASKED", "RATES", "Trained", "train"]

Array = NDArray[Any]
KEEP_ZEROS, MASKED = "zeros", "plan"
RATES = {"adam": 5e-3, "adamw": 5e-3, "sgd": 5e-2}  # where none is given
DECAY = 0.01  # of the weights, with adamw
STEPS, FEWEST, MOST = 2500, 5, 60  # by default as many epochs as make so many steps, within these limits
ROWS = 20  # of the history in each epoch, where it is not said
SMALLER = 5  # times: the learning rate that is suggested after a divergence
WORDS = {
    EPOCHS: "all epochs are done",
    DELTA: "the loss goes down no further",
    TARGET: "the target is reached",
    TIME: "the time is over",
    CANCELLED: "it was interrupted",
    DIVERGED: "the loss diverged",
}


@dataclass(frozen=True, eq=False)
class Trained:
    """What came of a training. ``model``: with the weights of ``best_epoch``; 0 is the model as it was.

    ``stopped``: "max epochs", "delta loss", "target accuracy", "time limit", "cancelled" or "diverged". ``words``: what
    was trained for, and why it ended; ``notes``: what a person should know beside that. ``kept``: the weights of the
    epochs that were asked for. ``resumed``: the number of steps that a checkpoint brought, None without one.
    """

    model: Model
    history: History
    best_epoch: int
    stopped: str
    seconds: float
    words: str
    notes: tuple[str, ...] = ()
    kept: Mapping[int, Mapping[str, Array]] = field(default_factory=dict, repr=False)
    resumed: int | None = None

    @property
    def best(self) -> EpochRow | None:
        """The row of the best epoch; None where the model as it was is delivered and was not measured."""
        return next((row for row in self.history.epochs if row.epoch == self.best_epoch), None)


def train(  # noqa: PLR0913 - every option of the command is an argument
    model: Model,
    dataset: Dataset,
    *,
    validation: Dataset | None = None,
    losses: str | Sequence[Loss] | None = None,
    teacher: Model | None = None,
    optimizer: Optimizer | None = None,
    rate: float | None = None,
    schedule: Schedule | str = "one-cycle",
    batch: int = 32,
    epochs: int | None = None,
    delta_loss: float | None = None,
    patience: int = 3,
    target: tuple[str, float] | None = None,
    time_limit: float | None = None,
    seed: int = 0,
    augment: Augment | None = None,
    freeze: Sequence[str] = (),
    masks: Mapping[str, NDArray[np.bool_]] | str | None = MASKED,
    batchnorm: str | None = None,
    clip: float | None = None,
    samples: int | None = None,
    metric: str | None = None,
    ignore_label: int | None = None,
    every: int | None = None,
    checkpoint: Path | None = None,
    checkpoint_seconds: float = 60.0,
    resume: bool = False,
    keep_epochs: Collection[int] = (),
    provider: str = "auto",
    threads: int | None = None,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Trained:
    """Train a model, and deliver its best epoch.

    ``validation``: what metrics are measured on; the best epoch is the one with the best ``metric`` there (the task's
    first by default), without it the one with the lowest training loss. ``losses``: by default what the labels call for
    (`choose_objective`), or, with a ``teacher``, distillation, which needs no labels. ``ignore_label``: positions with
    it do not count. ``optimizer``: by default AdamW. ``rate``: the highest learning rate, by default one that suits the
    optimizer (`RATES`). ``batch``: samples at a time; ``samples``: of the data at most so many. ``epochs`` (by default
    as many as make 2500 steps, 5 to 60), ``delta_loss``, ``patience``, ``target``, ``time_limit``: when to stop
    (`Stops`). ``augment``: is called with (feeds, labels, generator) for each batch and returns (feeds, labels).
    ``freeze``: weights that stay, by name or pattern. ``masks``: weights that stay zero, "plan" for those that the plan
    in the model's metadata masked, "zeros" for all zeros, or name -> True where a weight stays zero. ``batchnorm``:
    "frozen" or "batch" (default). ``clip``: the largest norm of all gradients together. ``every``: steps for each row
    of the history.

    ``checkpoint``: a file that is written at the end of each epoch and every ``checkpoint_seconds``; with ``resume``
    the training goes on from it (or begins, where there is none) and ends with the same weights as one that was not
    interrupted. ``keep_epochs``: epochs whose weights are kept (0: before the first step), for `weights_at`.
    ``progress`` is told of the steps; ``cancelled`` is asked after each whether to stop.

    Raises OptionError, DataError, ModelError as its parts do.
    """
    optimizer = optimizer or Optimizer("adamw", weight_decay=DECAY)
    schedule = parse_schedule(schedule) if isinstance(schedule, str) else schedule
    data = fit(dataset if samples is None else dataset.subset(samples, seed), model_inputs(model))
    if validation is not None:
        fit(validation, model_inputs(model))
    feeder = Feeder(data, batch, seed, augment)
    epochs = min(max(math.ceil(STEPS / len(feeder)), FEWEST), MOST) if epochs is None else epochs
    stops = Stops(epochs, delta_loss, patience, target, time_limit)
    _check(every, checkpoint_seconds, keep_epochs, stops)
    if losses is None and teacher is not None:
        losses = (Loss("distillation"),)
    objective = choose_objective(
        model, data, losses, teacher=teacher, ignore_label=ignore_label, provider=provider, threads=threads
    )
    zeros = _masks(model, masks)
    settings = Settings(
        data=data_print(data), loss=_loss_words(objective, ignore_label),
        teacher="" if objective.teacher is None else objective.teacher.hash,
        optimizer=dataclasses.asdict(optimizer), rate=RATES[optimizer.kind] if rate is None else rate,
        schedule=schedule, batch=feeder.size, epochs=epochs, seed=seed, augment=_name(augment), freeze=tuple(freeze),
        masks=masks_print(zeros), batchnorm=batchnorm or BATCHNORMS[1], clip=clip, metric=metric or "",
    )  # fmt: skip
    found = _checkpoint(checkpoint, resume, model, settings)
    step = Step(
        model, objective, optimizer, freeze=freeze, masks=zeros, batchnorm=settings.batchnorm, clip=clip, seed=seed,
        provider=provider, threads=threads,
    )  # fmt: skip
    loop = Loop(
        model.hash,
        step=step,
        feeder=feeder,
        feeds=lambda b: {**b.feeds, **objective.feeds(b)},
        settings=settings,
        stops=stops,
        judge=Judge(validation, teacher, metric or (target[0] if target else None), ignore_label, provider, threads),
        saving=Saving(checkpoint, checkpoint_seconds, keep_epochs),
        log=Log(every or max(1, len(feeder) // ROWS), progress, cancelled),
    )
    if found is None:
        loop.begin()
    else:
        loop.go_on(found)
    reason = loop.run()
    return _trained(step, loop, reason, objective, None if found is None else found.position.step)


def _check(every: int | None, seconds: float, keep: Collection[int], stops: Stops) -> None:
    if every is not None and every < 1:
        raise OptionError(f"every: got {every}, expected at least 1 step", "Leave it out.")
    if not seconds > 0:
        raise OptionError(f"checkpoint seconds: got {seconds}, expected more than 0", "Leave it out.")
    if any(not 0 <= epoch <= stops.epochs for epoch in keep):
        raise OptionError(
            f"keep epochs: got {', '.join(map(str, keep))}, expected 0 to {stops.epochs}", "0 is before the first step."
        )


def _masks(model: Model, masks: Mapping[str, NDArray[np.bool_]] | str | None) -> Mapping[str, NDArray[np.bool_]]:
    if masks is None or isinstance(masks, Mapping):
        return masks or {}
    if masks not in (KEEP_ZEROS, MASKED):
        raise OptionError(f"masks: got {masks!r}, expected {MASKED!r} or {KEEP_ZEROS!r}", "Or give the masks.")
    return kept_zeros(model, everything=masks == KEEP_ZEROS)


def _loss_words(objective: Objective, ignore_label: int | None) -> str:
    words = " + ".join(map(str, objective.losses))
    return words if ignore_label is None else f"{words} without label {ignore_label}"


def _name(augment: Augment | None) -> str:
    if augment is None:
        return ""
    return f"{getattr(augment, '__module__', '')}.{getattr(augment, '__qualname__', type(augment).__name__)}"


def _checkpoint(path: Path | None, resume: bool, model: Model, settings: Settings) -> Checkpoint | None:
    """The checkpoint to go on from. Raises OptionError and DataError where there is one of something else."""
    if path is None:
        if resume:
            raise OptionError("resume, but no checkpoint is named", "Give its file: --checkpoint FILE.")
        return None
    if not path.exists():
        return None
    if not resume:
        raise OptionError(
            f"{path} is there already, a checkpoint that would be lost", "Go on from it with --resume, or delete it."
        )
    found = load_checkpoint(path)
    if found.model_hash != model.hash:
        raise DataError(
            f"{path}: a checkpoint of another model ({found.model_hash[:12]}, this one is {model.hash[:12]})",
            f"Train the model that it was made for, or name another file: {model.label} has to start anew.",
        )
    different = list(settings_differences(settings.as_dict(), found.settings))
    if different:
        raise DataError(
            f"{path}: a checkpoint of a training with another {', another '.join(different)}",
            "Use the same settings to go on, or name another file to start anew.",
        )
    return found


def _trained(step: Step, loop: Loop, reason: str, objective: Objective, resumed: int | None) -> Trained:
    epoch, weights = loop.best
    step.load({**step.state(), **weights})
    notes = []
    if reason == DIVERGED:
        at, rate = loop.position, loop.settings.rate
        better = min(rate / SMALLER, RATES[loop.settings.optimizer["kind"]])
        notes.append(
            f"The loss diverged in epoch {at.epoch} (step {at.step}). Try a smaller learning rate: {better:.1g}"
            f" instead of {rate:g}."
        )
    if loop.unsaved:
        notes.append(f"The last checkpoint is an old one: {loop.unsaved}.")
    if epoch == 0:
        notes.append("No epoch was better than the model as it was, so that is what is delivered.")
    elif not loop.judge.usable:
        notes.append("There is nothing to measure on: the best epoch is the one with the lowest training loss.")
    words = f"{objective.words}; stopped since {WORDS[reason]}"
    return Trained(
        _renamed(step.model()), loop.history, epoch, reason, loop.seconds, words, tuple(notes), loop.kept, resumed
    )


def _renamed(model: Model) -> Model:
    """With its own hash, where its metadata have one."""
    if HASH not in model.metadata:
        return model
    editor = model.edit()
    editor.set_metadata(HASH, model.hash)
    return editor.build()
