"""``onnxprune score``: how important each unit, or each single weight, is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from onnxprune.cli.console import emit_json, progress, show, table, warn
from onnxprune.cli.notices import check_environment
from onnxprune.cli.options import (
    AllowIoOption,
    Attention,
    AttentionOption,
    CriterionOption,
    DataOption,
    GradientsOfOption,
    Granularity,
    GranularityOption,
    InexactOption,
    JsonOption,
    ModelArgument,
    NormGroups,
    NormGroupsOption,
    OwnNormaliseOption,
    Provider,
    ProviderOption,
    SamplesOption,
    SeedOption,
    ShapeOption,
    ThreadsOption,
    coupling_options,
    examples,
    keep_input,
    losses_of,
    writable,
)
from onnxprune.criteria import Scores, Settings, UnitScores, save_scores, score, score_weights
from onnxprune.data import open_calibration
from onnxprune.errors import OptionError
from onnxprune.experiment import analyse
from onnxprune.model import load

__all__ = ["register"]

EXAMPLES = examples(
    "onnxprune score model.onnx --criterion l2 -o scores.npz",
    "onnxprune score model.onnx --criterion l1 --granularity weight -o weights.npz",
    "onnxprune score model.onnx --criterion taylor --data photos/ --class buildings -o buildings.npz",
)
OutOption = Annotated[
    Path, typer.Option("--out", "-o", metavar="FILE", help="The .npz file to write.", show_default=False)
]

ClassOption = Annotated[
    list[str] | None,
    typer.Option(
        "--class",
        metavar="NAME",
        help="Look at the samples of this class only: what matters for it. May be repeated.",
        show_default=False,
    ),
]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(name="score", epilog=EXAMPLES)(score_model)


def score_model(
    model: ModelArgument,
    out: OutOption,
    criterion: CriterionOption = "l2",
    granularity: GranularityOption = Granularity.UNIT,
    normalise: OwnNormaliseOption = None,
    loss: GradientsOfOption = None,
    include_inexact: InexactOption = False,
    attention: AttentionOption = Attention.HEADS,
    norm_groups: NormGroupsOption = NormGroups.WHOLE,
    allow_io: AllowIoOption = None,
    shape: ShapeOption = None,
    seed: SeedOption = 0,
    data: DataOption = None,
    samples: SamplesOption = None,
    classes: ClassOption = None,
    provider: ProviderOption = Provider.AUTO,
    threads: ThreadsOption = None,
    json: JsonOption = False,
) -> None:
    """Score every unit, or every single weight, and write the scores to a .npz file; higher = keep."""
    check_environment(provider, threads)
    options = coupling_options(include_inexact, attention, norm_groups, allow_io, shape)
    losses = losses_of(loss)
    if classes and data is None:
        raise OptionError("--class: there are no data to look at", "Give them with --data.")
    dataset = None if data is None else open_calibration(data)
    if dataset is not None and classes:
        dataset = dataset.of_classes(classes)
    if dataset is not None and samples is not None:
        dataset = dataset.subset(samples, seed)
    writable(out)
    with progress("reading") as report:
        loaded = load(model)
        keep_input(loaded, out)
        report("looking for groups", 0, 0)
        inlined, coupling = analyse(loaded, options, provider=provider, threads=threads)
        report("scoring", 0, 0)
        settings = Settings(
            normalise=True if normalise is None else normalise.value, seed=seed, data=dataset, samples=samples,
            provider=provider, threads=threads, progress=report, losses=losses,
        )  # fmt: skip
        function = score if granularity is Granularity.UNIT else score_weights
        scores: Scores = function(inlined, coupling, criterion, settings)
        save_scores(scores, out)
    for warning in scores.warnings:
        warn(warning)
    rows = _rows(scores)
    if json:
        names = ("name", "scores", "lowest", "median", "highest")
        listed = [dict(zip(names, row, strict=True)) for row in rows]
        emit_json({"model": str(model), "hash": loaded.hash, "criterion": criterion, "scores": listed, "out": str(out)})
        return
    columns = ("group" if isinstance(scores, UnitScores) else "weight", "scores", "lowest", "median", "highest")
    shown = [(name, str(size), *(f"{value:.4g}" for value in values)) for name, size, *values in rows]
    show(table(f"{criterion}, higher = keep", columns, shown, right=(1, 2, 3, 4)))
    show(f"{out} written")


def _rows(scores: Scores) -> list[tuple[str, int, float, float, float]]:
    """Name, number of scores, and their range, for each group or weight."""
    result = []
    for name in scores:
        values = np.asarray(scores[name], np.float64)
        if values.size:
            low, middle, high = (float(f(values)) for f in (np.min, np.median, np.max))
            result.append((name, int(values.size), low, middle, high))
    return result
