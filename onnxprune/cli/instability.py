"""``onnxprune instability``: how sure the order is in which units would go."""

from __future__ import annotations

from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.table import Table

from onnxprune.cli.console import emit_json, progress, say, show, table, warn
from onnxprune.cli.measures import PlotOption, SplitOption, check_plot, draw
from onnxprune.cli.notices import check_environment
from onnxprune.cli.options import (
    AllowIoOption,
    Attention,
    AttentionOption,
    GradientsOfOption,
    InexactOption,
    JsonOption,
    ModelArgument,
    NormaliseOption,
    NormGroups,
    NormGroupsOption,
    Provider,
    ProviderOption,
    Scale,
    SeedOption,
    ShapeOption,
    ThreadsOption,
    coupling_options,
    examples,
    keep_input,
    losses_of,
    writable,
)
from onnxprune.cli.workers import SchedulerOption, WorkersOption, check_workers, workplace
from onnxprune.data import open_calibration, open_dataset
from onnxprune.errors import OptionError
from onnxprune.experiment import analyse
from onnxprune.instability import RUNS, Instability, Training, instability
from onnxprune.instability_charts import instability_charts
from onnxprune.model import load

__all__ = ["register"]

SAMPLES = 4096
SHOWN = 20  # units that are listed
DEFAULT = Training()
EXAMPLES = examples(
    "onnxprune instability model.onnx --data digits.npz",
    "onnxprune instability model.onnx --data photos/ --runs 10 --rate 0.01 --plot ranks.html -o ranks.json",
    "onnxprune instability model.onnx --data digits.npz --within layer --workers 4",
)


class Within(StrEnum):
    """What ranks count over."""

    MODEL = "model"
    LAYER = "layer"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(name="instability", epilog=EXAMPLES)(rank_units)


def rank_units(
    model: ModelArgument,
    data: Annotated[
        Path,
        typer.Option(
            "--data",
            metavar="PATH",
            help="A dataset to train on: .npz, .npy, a folder of images or arrays (docs/datasets.md).",
            show_default=False,
        ),
    ],
    split: SplitOption = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="Write all ranks there, as JSON.", show_default=False),
    ] = None,
    runs: Annotated[int, typer.Option("--runs", metavar="N", help="Times that all units are ranked.")] = RUNS,
    within: Annotated[
        Within,
        typer.Option("--within", metavar="model|layer", help="Rank all units of the model, or those of a layer."),
    ] = Within.MODEL,
    normalise: NormaliseOption = Scale.LAYER,
    loss: GradientsOfOption = None,
    rate: Annotated[float, typer.Option("--rate", metavar="X", help="Learning rate of SGD.")] = DEFAULT.rate,
    momentum: Annotated[float, typer.Option("--momentum", metavar="X", help="Momentum of SGD.")] = DEFAULT.momentum,
    batch: Annotated[int, typer.Option("--batch", metavar="N", help="Samples in a step.")] = DEFAULT.batch,
    steps: Annotated[
        int | None,
        typer.Option("--steps", metavar="N", help="Steps of each run. One epoch by default.", show_default=False),
    ] = None,
    samples: Annotated[
        int,
        typer.Option("--samples", metavar="N", help="At most so many samples, drawn with the shares of their classes."),
    ] = SAMPLES,
    include_inexact: InexactOption = False,
    attention: AttentionOption = Attention.HEADS,
    norm_groups: NormGroupsOption = NormGroups.WHOLE,
    allow_io: AllowIoOption = None,
    shape: ShapeOption = None,
    seed: SeedOption = 0,
    workers: WorkersOption = 1,
    scheduler: SchedulerOption = None,
    provider: ProviderOption = Provider.AUTO,
    threads: ThreadsOption = None,
    plot: PlotOption = None,
    json: JsonOption = False,
) -> None:
    """Rank units by sensitivity in several short trainings, each in its own order, and see how far ranks spread."""
    check_environment(provider, threads)
    check_workers(workers, scheduler)
    options = coupling_options(include_inexact, attention, norm_groups, allow_io, shape)
    training = Training(rate, momentum, batch, steps)
    losses = losses_of(loss)
    if samples < 1:
        raise OptionError(f"--samples {samples}: expected at least 1", "Leave it out.")
    check_plot(plot)
    if out is not None:
        writable(out)
    whole = open_calibration(data) if split is None else open_dataset(data, split)
    dataset = whole.subset(samples, seed)
    with progress("reading", remaining=True) as report:
        loaded = load(model)
        if out is not None:
            keep_input(loaded, out)
        report("looking for groups", 0, 0)
        inlined, coupling = analyse(loaded, options, provider=provider, threads=threads)
        with workplace(workers, scheduler, threads) as place:
            found = instability(
                inlined, coupling, dataset, runs=runs, within=within.value, training=training, losses=losses,
                normalise=normalise.value, seed=seed, provider=provider, threads=place.threads,
                executor=place.executor, share=place.share, progress=report,
            )  # fmt: skip
    for warning in found.warnings:
        warn(warning)
    if out is not None:
        found.save(out)
    draw(instability_charts(found), plot)
    if json:
        emit_json(_document(model, data, out, found))
        return
    show(_groups(found))
    show(_units(found))
    show(
        f"{found.runs} runs of {found.steps} steps (SGD, rate {found.rate:g}) on {dataset.name}, by"
        f" {found.goal}. Ranks count within the {found.within}, 1 goes first; instability is the mean"
        " absolute deviation of a unit's rank."
    )
    if out is not None:
        say(f"{out} written")


def _groups(found: Instability) -> Table:
    """One line for each group."""
    rows = []
    for group in found.groups:
        sensitivity, spread = np.asarray(group.sensitivity), np.asarray(group.instability)
        rows.append(
            (
                group.name,
                str(len(sensitivity)),
                f"{sensitivity.min():.4g}",
                f"{np.median(sensitivity):.4g}",
                f"{sensitivity.max():.4g}",
                f"{spread.mean():.1f}",
                f"{spread.max():.1f}",
            )
        )
    columns = ("group", "units", "lowest", "median", "highest sensitivity", "mean", "highest instability")
    return table("Sensitivity and instability", columns, rows, right=range(1, len(columns)))


def _units(found: Instability) -> Table:
    """The units that would go first."""
    listed = sorted(
        (rank, group.name, unit, group.sensitivity[unit], group.instability[unit])
        for group in found.groups
        for unit, rank in enumerate(group.mean_rank)
    )
    rows = [
        (name, str(unit), f"{rank:.1f}", f"{sensitivity:.4g}", f"{spread:.1f}")
        for rank, name, unit, sensitivity, spread in listed[:SHOWN]
    ]
    columns = ("group", "unit", "mean rank", "sensitivity", "instability")
    title = f"The {len(rows)} of {found.units} units that go first"
    return table(title, columns, rows, right=range(1, len(columns)))


def _document(model: Path, data: Path, out: Path | None, found: Instability) -> dict[str, Any]:
    groups = [
        {**asdict(group), "mean_rank": group.mean_rank, "instability": group.instability} for group in found.groups
    ]
    about = {"model": str(model), "data": str(data), "out": None if out is None else str(out)}
    return {**about, **asdict(found), "groups": groups}
