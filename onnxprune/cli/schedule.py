"""``onnxprune schedule``: prune and train in rounds, into a folder, until enough is gone or a floor fails."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from onnxprune.cli.console import count, emit_json, progress, say, show, table
from onnxprune.cli.measures import IgnoreLabelOption, PlotOption, check_plot, draw
from onnxprune.cli.notices import check_environment
from onnxprune.cli.options import (
    AllowIoOption,
    Attention,
    AttentionOption,
    CriterionOption,
    Granularity,
    InexactOption,
    JsonOption,
    ModelArgument,
    NormGroups,
    NormGroupsOption,
    Provider,
    ProviderOption,
    SeedOption,
    ShapeOption,
    ThreadsOption,
    coupling_options,
    examples,
    keep_input,
)
from onnxprune.cli.prune import floors_of
from onnxprune.cli.training import interrupts
from onnxprune.cli.training_options import (
    AugmentOption,
    BatchNormOption,
    BatchOption,
    ClipOption,
    DeltaLossOption,
    EpochsOption,
    FreezeOption,
    LossOption,
    MetricOption,
    MomentumOption,
    OptimizerOption,
    PatienceOption,
    RateOption,
    SamplesOption,
    ScheduleOption,
    TeacherOption,
    TrainingDataOption,
    ValidationOption,
    WeightDecayOption,
    augmentation,
    optimizer_of,
)
from onnxprune.data import splits_of
from onnxprune.errors import OptionError
from onnxprune.losses import parse_loss
from onnxprune.model import load, save
from onnxprune.schedule import (
    CANCELLED,
    KINDS,
    Course,
    Round,
    Scheduled,
    earlier,
    run_schedule,
    schedule_charts,
)
from onnxprune.train import divided
from onnxprune.train.stops import DIVERGED

__all__ = ["register"]

INTERRUPTED = 130
DELIVERED = "delivered.onnx"
EXAMPLES = examples(
    "onnxprune schedule model.onnx --data digits.npz --kind gradual --target-sparsity 0.8 --rounds 5 -o rounds/",
    "onnxprune schedule model.onnx --data digits.npz --kind iterative --ratio 0.2 --rounds 8 --min accuracy=0.95 "
    "-o rounds/",
    "onnxprune schedule fresh.onnx --data digits.npz --kind lottery --granularity weight --rounds 10 -o tickets/",
    "onnxprune schedule model.onnx --data digits.npz --kind lottery --rewind-to t.ckpt --rewind-epoch 2 -o tickets/",
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(name="schedule", epilog=EXAMPLES)(schedule_rounds)


def schedule_rounds(
    model: ModelArgument,
    data: TrainingDataOption,
    out: Annotated[
        Path,
        typer.Option("--out", "-o", metavar="FOLDER", help="Where a model for each round goes.", show_default=False),
    ],
    kind: Annotated[str, typer.Option("--kind", metavar="NAME", help=f"{', '.join(KINDS)}.")] = "gradual",
    target_sparsity: Annotated[
        float | None,
        typer.Option(
            "--target-sparsity", metavar="S", help="Share of the original that is gone in the end.", show_default=False
        ),
    ] = None,
    ratio: Annotated[
        float | None,
        typer.Option(
            "--ratio",
            metavar="R",
            help="Share of what is left that goes in each round; 0.2 for lottery tickets.",
            show_default=False,
        ),
    ] = None,
    rounds: Annotated[
        int | None,
        typer.Option("--rounds", metavar="N", help="Rounds of pruning and training; 5 by default.", show_default=False),
    ] = None,
    granularity: Annotated[
        Granularity,
        typer.Option(
            "--granularity", metavar="unit|weight", help="Whole units, which are removed, or single weights: masked."
        ),
    ] = Granularity.UNIT,
    criterion: CriterionOption = "l2",
    rewind_to: Annotated[
        Path | None,
        typer.Option(
            "--rewind-to",
            metavar="FILE",
            help="Lottery tickets begin each round with these weights: an .onnx, or the checkpoint of a training. "
            "Without it the model is trained first, and rewound.",
            show_default=False,
        ),
    ] = None,
    rewind_epoch: Annotated[
        int | None,
        typer.Option(
            "--rewind-epoch",
            metavar="N",
            help="The epoch of that training; 0 is before its first step.",
            show_default=False,
        ),
    ] = None,
    minimum: Annotated[
        list[str] | None,
        typer.Option(
            "--min",
            metavar="METRIC=V",
            help="Stop when a metric is worse than this after a round (accuracy=0.95). May be repeated.",
            show_default=False,
        ),
    ] = None,
    distribution: Annotated[
        str | None,
        typer.Option(
            "--distribution", metavar="NAME", help="Who gives how much: uniform, global, ...", show_default=False
        ),
    ] = None,
    skip: Annotated[
        list[str] | None,
        typer.Option("--skip", metavar="NAME", help="A group to leave whole. May be repeated.", show_default=False),
    ] = None,
    round_to: Annotated[
        int | None,
        typer.Option("--round-to", metavar="N", help="Keep a multiple of N channels.", show_default=False),
    ] = None,
    include_inexact: InexactOption = False,
    attention: AttentionOption = Attention.HEADS,
    norm_groups: NormGroupsOption = NormGroups.WHOLE,
    allow_io: AllowIoOption = None,
    shape: ShapeOption = None,
    validation: ValidationOption = None,
    teacher: TeacherOption = None,
    loss: LossOption = None,
    epochs: EpochsOption = 10,
    batch: BatchOption = 32,
    rate: RateOption = None,
    optimizer: OptimizerOption = "adam",
    momentum: MomentumOption = 0.9,
    weight_decay: WeightDecayOption = 0.0,
    schedule: ScheduleOption = "cosine",
    clip: ClipOption = None,
    freeze: FreezeOption = None,
    batchnorm: BatchNormOption = "batch",
    delta_loss: DeltaLossOption = None,
    patience: PatienceOption = 3,
    metric: MetricOption = None,
    ignore_label: IgnoreLabelOption = None,
    samples: SamplesOption = None,
    augment: AugmentOption = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on after the last finished round of the folder.")
    ] = False,
    seed: SeedOption = 0,
    provider: ProviderOption = Provider.AUTO,
    threads: ThreadsOption = None,
    plot: PlotOption = None,
    json: JsonOption = False,
) -> None:
    """Prune and train in rounds: at once, gradually, iteratively, or with lottery tickets."""
    check_environment(provider, threads)
    check_plot(plot)
    course = Course(kind, granularity.value, target_sparsity, ratio, rounds)
    floors = floors_of(minimum)
    options = coupling_options(include_inexact, attention, norm_groups, allow_io, shape)
    budget = {"distribution": distribution, "skip": tuple(skip or ()), "round_to": round_to}
    budget = {name: value for name, value in budget.items() if value not in (None, ())}
    training: dict[str, Any] = {
        "epochs": epochs, "batch": batch, "rate": rate, "optimizer": optimizer_of(optimizer, momentum, weight_decay),
        "schedule": schedule, "clip": clip, "freeze": tuple(freeze or ()), "batchnorm": batchnorm,
        "delta_loss": delta_loss, "patience": patience, "metric": metric, "ignore_label": ignore_label,
        "samples": samples, "augment": augmentation(augment), "losses": None if loss is None else parse_loss(loss),
    }  # fmt: skip
    _check_rewinding(course, rewind_to, rewind_epoch)
    if out.exists() and not out.is_dir():
        raise OptionError(f"{out} is a file", "Name a folder.")
    division = divided(data, validation or _measured_part(data), seed)
    with interrupts() as cancelled, progress("reading", remaining=True) as report:
        loaded = load(model)
        keep_input(loaded, out / DELIVERED)
        training["teacher"] = None if teacher is None else load(teacher)
        base = None if rewind_to is None else earlier(loaded, rewind_to, rewind_epoch)
        try:
            found = run_schedule(
                loaded, division.training, course, validation=division.validation, criterion=criterion, budget=budget,
                options=options, training=training, floors=floors, rewind_to=base,
                rewind_epoch=0 if rewind_to is not None else rewind_epoch or 0, folder=out, resume=resume, seed=seed,
                provider=provider, threads=threads, progress=report, cancelled=cancelled,
            )  # fmt: skip
        except KeyboardInterrupt:
            say(f"Interrupted; {_how_to_go_on(out)}", "yellow")
            raise typer.Exit(INTERRUPTED) from None
        if found.rounds:
            save(found.model, out / DELIVERED)
    draw(schedule_charts(found), plot)
    if json:
        emit_json(_document(model, data, out, course, found))
    else:
        _tell(found, out, division.words)
    if found.stopped == CANCELLED:
        say(f"Interrupted; {_how_to_go_on(out)}", "yellow")
        raise typer.Exit(INTERRUPTED)


def _measured_part(data: Path) -> str | None:
    """The part that floors are measured on by default: the test part, or else the one for validation."""
    splits = splits_of(data)
    return next((name for name in splits if name != "train"), None) if "train" in splits else None


def _check_rewinding(course: Course, path: Path | None, epoch: int | None) -> None:
    for name, value in (("--rewind-to", path), ("--rewind-epoch", epoch)):
        if value is not None and not course.rewinds:
            raise OptionError(f"{name} is for lottery tickets; {course.kind} keeps its weights", "Use --kind lottery.")
    if epoch is not None and epoch < 0:
        raise OptionError(f"--rewind-epoch {epoch}: expected 0 or more", "0 is before the first step.")


def _how_to_go_on(out: Path) -> str:
    return f"the same command with --resume goes on from {out}."


def _tell(found: Scheduled, out: Path, remark: str) -> None:
    if not found.rounds:
        return
    show(_table(found))
    if found.stopped == "floor":
        show(f"Stopped: after round {found.rounds[-1].number} a floor fails.")
    diverged = [str(row.number) for row in found.rounds if row.stopped == DIVERGED]
    if diverged:
        show(f"The loss diverged in round {', '.join(diverged)}: try a smaller --rate.")
    if remark:
        show(remark)
    which = "the model at the start" if found.delivered == 0 else f"that of round {found.delivered}"
    show(f"{out / DELIVERED} written: {which}, the smallest that holds.")


def _table(found: Scheduled) -> Table:
    measured = next((row.after[0] for row in found.rounds if row.after), None)
    label = measured.label if measured else "metric"
    rows = [
        (
            f"{row.number}{' *' if row.number == found.delivered else ''}",
            f"{row.asked:.1%}",
            f"{row.reached:.1%}",
            count(row.parameters),
            count(row.nonzero),
            count(row.macs),
            _first(row, "before"),
            _first(row, "after") + ("" if row.held else " (fails)"),
            f"{row.best_epoch} of {row.epochs}" if row.epochs else "-",
            f"{row.seconds:.1f}",
        )
        for row in found.rounds
    ]
    columns = (
        "round", "asked", "gone", "parameters", "not zero", "MACs", f"{label} pruned", "trained", "best epoch",
        "seconds",
    )  # fmt: skip
    return table("Round by round, * delivered", columns, rows, right=range(len(columns)))


def _first(row: Round, when: str) -> str:
    metrics = getattr(row, when)
    return str(metrics[0]) if metrics else "-"


def _document(model: Path, data: Path, out: Path, course: Course, found: Scheduled) -> Mapping[str, Any]:
    return {
        "model": str(model),
        "data": str(data),
        "out": str(out),
        "kind": course.kind,
        "granularity": course.granularity,
        "levels": course.levels(),
        "delivered": found.delivered,
        "stopped": found.stopped,
        "hash": found.model.hash,
        "rounds": [_row(row) for row in found.rounds],
    }


def _row(row: Round) -> dict[str, Any]:
    figures = {metric.name: metric.value for metric in row.before}
    after = {metric.name: metric.value for metric in row.after}
    clean = {name: None if math.isnan(value) else value for name, value in after.items()}
    return {**asdict(row), "before": figures, "after": clean}
