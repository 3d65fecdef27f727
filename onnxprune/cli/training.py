"""What ``finetune`` and ``train`` do: files checked, a training run, its best epoch written and told."""

from __future__ import annotations

import math
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import typer
from rich.table import Table

from onnxprune.cli.console import emit_json, progress, say, show, table
from onnxprune.cli.measures import check_plot, draw
from onnxprune.cli.training_options import check_files
from onnxprune.data import Dataset
from onnxprune.errors import DataError
from onnxprune.evaluate import Metric
from onnxprune.losses import parse_loss
from onnxprune.model import Model, load, save
from onnxprune.train import (
    EpochRow,
    Saving,
    Trained,
    divided,
    initialise,
    loss_fluctuation,
    plan_of,
    recovery_capability,
    recovery_cost,
    train,
)
from onnxprune.train.judge import Judge
from onnxprune.training_charts import training_charts

__all__ = ["Job", "run_job"]

INTERRUPTED = 130
CANCELLED = "cancelled"


@dataclass(frozen=True)
class Job:
    """One call of a command. ``options``: those of `train.train` that need no file."""

    command: str
    model: Path
    out: Path
    data: Path
    validation: str | None
    teacher: Path | None
    loss: str | None
    saving: Saving
    resume: bool
    history: Path | None
    plot: Path | None
    options: Mapping[str, Any]
    fresh: bool = False

    @property
    def seed(self) -> int:
        """For everything that is drawn."""
        return int(self.options["seed"])


@dataclass(frozen=True)
class Tested:
    """Metrics on the test part before and after, which nothing was chosen by; () where there is none."""

    samples: int
    before: tuple[Metric, ...]
    after: tuple[Metric, ...]

    @property
    def words(self) -> str:
        """One line; "" where nothing was measured."""
        if not self.before or not self.after:
            return ""
        label = f"{self.after[0].label[:1].upper()}{self.after[0].label[1:]}"
        how = f"{self.samples:,} samples, which nothing was chosen by"
        return f"{label} on the test part ({how}): {self.before[0]} before, {self.after[0]} after."

    def as_dict(self) -> dict[str, Any] | None:
        """For JSON."""
        if not self.after:
            return None
        sides = {"before": self.before, "after": self.after}
        return {"samples": self.samples} | {side: {m.name: m.value for m in found} for side, found in sides.items()}


def run_job(job: Job, *, verbose: bool, json: bool) -> None:
    """Train, write the best epoch, and tell about it. Raises typer.Exit(130) after an interruption."""
    check_plot(job.plot)
    losses = None if job.loss is None else parse_loss(job.loss)
    division = divided(job.data, job.validation, job.seed)
    training, test, remark = division.training, division.test, division.words
    with interrupts() as cancelled, progress("reading", remaining=True) as report:
        model = load(job.model)
        teacher = None if job.teacher is None else load(job.teacher)
        inputs = (model,) if teacher is None else (model, teacher)
        check_files(inputs, job.data, job.out, job.saving, job.resume, job.history, job.plot)
        _check_labels(job, model, training)
        left: tuple[str, ...] = ()
        if job.fresh:
            report("drawing fresh weights", 0, 0)
            model, left = initialise(model, job.seed)
        try:
            trained = train(
                model, training, validation=division.validation, losses=losses, teacher=teacher,
                checkpoint=job.saving.path, checkpoint_seconds=job.saving.seconds, keep_epochs=job.saving.keep,
                resume=job.resume, progress=report, cancelled=cancelled, **job.options,
            )  # fmt: skip
        except KeyboardInterrupt:
            say(f"Interrupted before the end; {job.out} is not written. {_how_to_go_on(job)}", "yellow")
            raise typer.Exit(INTERRUPTED) from None
        report("measuring on the test part", 0, 0)
        judge = Judge(
            test, teacher, trained.history.chosen or None, ignore_label=job.options["ignore_label"],
            provider=job.options["provider"], threads=job.options["threads"],
        )  # fmt: skip
        tested = Tested(0 if test is None else len(test), judge.measure(model), judge.measure(trained.model))
        report("writing", 0, 0)
        save(trained.model, job.out)
        if job.history is not None:
            trained.history.save(job.history)
    draw(training_charts(trained.history, trained.best_epoch), job.plot)
    if json:
        emit_json(_document(job, trained, tested, remark))
    else:
        _tell(job, trained, [*_left(left), remark, tested.words], verbose=verbose)
    if trained.stopped == CANCELLED:
        say(f"Interrupted: {job.out} holds the best so far. {_how_to_go_on(job)}", "yellow")
        raise typer.Exit(INTERRUPTED)


@contextmanager
def interrupts() -> Iterator[Callable[[], bool]]:
    """Ctrl-C sets a flag, which the function tells; a second one raises KeyboardInterrupt."""
    asked: list[int] = []

    def note(number: int, frame: Any) -> None:
        if asked:
            signal.default_int_handler(number, frame)
        asked.append(number)

    main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGINT) if main else signal.SIG_IGN
    if before == signal.SIG_IGN:  # started in the background by a shell: Ctrl-C is not meant for this process
        yield lambda: False
        return
    signal.signal(signal.SIGINT, note)
    try:
        yield lambda: bool(asked)
    finally:
        signal.signal(signal.SIGINT, before)


def _check_labels(job: Job, model: Model, training: Dataset) -> None:
    """Without labels a teacher is needed; the metadata of a pruned model tell which would do."""
    if training.labels is not None or job.teacher is not None:
        return
    plan = plan_of(model)
    original = plan.model_name if plan is not None else ""
    teacher = (
        f"--teacher {original}: the model that this one was pruned from" if original else "--teacher ORIGINAL.onnx"
    )
    raise DataError(
        f"{training.name}: it has no labels, and there is no model to learn from",
        f"Give `y` in the dataset, or learn from the original's outputs, which need no labels: {teacher}.",
    )


def _how_to_go_on(job: Job) -> str:
    if job.saving.path is None:
        return "With --checkpoint FILE a training can go on where it was stopped."
    return f"The same command with --resume goes on from {job.saving.path}."


def _left(names: tuple[str, ...]) -> list[str]:
    if not names:
        return []
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return [f"Not drawn anew, since nobody knows how they begin: {', '.join(names[:3])}{more}."]


# -- what is told -----------------------------------------------------------------------------------------------------


def _tell(job: Job, trained: Trained, remarks: list[str], *, verbose: bool) -> None:
    if trained.resumed is not None:
        show(f"Gone on after step {trained.resumed}, from {job.saving.path}.")
    if verbose:
        show(_epochs_table(trained))
        show("")
    show(_table(trained))
    show("")
    show(f"Trained for {trained.words[:1].lower()}{trained.words[1:]}.")
    last = trained.history.epochs[-1] if trained.history.epochs else None
    epochs, steps = len(trained.history.trained), last.step if last else 0
    show(f"{_count(epochs, 'epoch')}, {_count(steps, 'step')}, {trained.seconds:.1f} s.")
    for line in (*_recovery(trained), *trained.notes, *filter(None, remarks)):
        show(line)
    best = "as it was" if trained.best_epoch == 0 else f"after epoch {trained.best_epoch}"
    show(f"{job.out} written: the model {best}.")


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _table(trained: Trained) -> Table:
    """Before, best and last: every metric, and the training loss."""
    rows = {"before": trained.history.before, f"best (epoch {trained.best_epoch})": trained.best}
    if trained.history.trained:
        last = trained.history.trained[-1]
        rows[f"last (epoch {last.epoch})"] = last
    there = {name: row for name, row in rows.items() if row is not None}
    metrics = next((row.metrics for row in there.values() if row.metrics), ())
    cells = [(metric.label, *(_metric(row, metric.name) for row in there.values())) for metric in metrics]
    cells.append(("training loss", *(_number(row.loss) for row in there.values())))
    return table("What came of it", ("", *there), cells, right=range(1, len(there) + 1))


def _epochs_table(trained: Trained) -> Table:
    rows = trained.history.epochs
    metrics = next((row.metrics for row in rows if row.metrics), ())[:4]
    cells = [
        (
            f"{row.epoch}{' *' if row.epoch == trained.best_epoch else ''}{'' if row.whole else ' (part)'}",
            _number(row.loss),
            *(_metric(row, metric.name) for metric in metrics),
            f"{row.rate:.3g}",
            f"{row.seconds:.1f}",
        )
        for row in rows
    ]
    columns = ("epoch", "training loss", *(metric.label for metric in metrics), "rate", "seconds")
    return table("Epoch by epoch, * the best", columns, cells, right=range(1, len(columns)))


def _metric(row: EpochRow, name: str) -> str:
    metric = row.metric(name)
    return "-" if metric is None else str(metric)


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.4g}"


def _recovery(trained: Trained) -> Iterator[str]:
    """How far it came back, and how soon."""
    history = trained.history
    if history.before is None or not history.trained or trained.best is None or trained.best_epoch == 0:
        return
    cost = recovery_cost(history)
    best = trained.best.metrics[0]
    yield (
        f"{best.label[:1].upper()}{best.label[1:]} from {_metric(history.before, best.name)} to {best}; nearly there"
        f" after {_count(cost.until_epoch, 'epoch')} ({cost.until_seconds:.1f} s)."
    )


def _document(job: Job, trained: Trained, tested: Tested, remark: str) -> dict[str, Any]:
    history = trained.history
    return {
        "model": str(job.model),
        "out": str(job.out),
        "hash": trained.model.hash,
        "data": str(job.data),
        "teacher": None if job.teacher is None else str(job.teacher),
        "checkpoint": None if job.saving.path is None else str(job.saving.path),
        "trained_for": trained.words,
        "stopped": trained.stopped,
        "best_epoch": trained.best_epoch,
        "epochs": len(history.trained),
        "steps": history.epochs[-1].step if history.epochs else 0,
        "seconds": trained.seconds,
        "resumed_at_step": trained.resumed,
        "chosen_by": history.chosen or "loss",
        "before": None if history.before is None else _values(history.before),
        "best": None if trained.best is None else _values(trained.best),
        "last": _values(history.trained[-1]) if history.trained else None,
        "test": tested.as_dict(),
        "recovery": _figures(trained),
        "history": history.as_dict(),
        "notes": [*trained.notes, *filter(None, [remark])],
    }


def _values(row: EpochRow) -> dict[str, Any]:
    return {"epoch": row.epoch, "loss": row.loss, **{metric.name: metric.value for metric in row.metrics}}


def _figures(trained: Trained) -> dict[str, Any] | None:
    if not trained.history.trained:
        return None
    capability = recovery_capability(trained.history)
    fluctuation = asdict(loss_fluctuation(trained.history))
    return {
        "capability": {**asdict(capability), "damage": capability.damage},
        "fluctuation": {key: value for key, value in fluctuation.items() if key not in {"steps", "losses"}},
        "cost": asdict(recovery_cost(trained.history)),
    }
