"""``onnxprune estimate``: what a model with so many units is expected to reach, from the steps of a workspace."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from onnxprune.automatic import (
    Estimate,
    estimate,
    estimate_rows,
    estimator_charts,
    path_points,
    suggest_count,
    tree_points,
)
from onnxprune.automatic.curve import METHODS
from onnxprune.cli.auto import figure_of, least_of
from onnxprune.cli.console import count, emit_json, megabytes, show, table
from onnxprune.cli.measures import PlotOption, check_plot, draw
from onnxprune.cli.options import JsonOption, examples
from onnxprune.cli.ws_options import FolderOption, StepArgument, opened
from onnxprune.errors import OptionError
from onnxprune.workspace.paths import main_metric

__all__ = ["register"]

EXAMPLES = examples(
    "onnxprune estimate 8 --units 40",
    "onnxprune estimate 8 --min accuracy=0.985 --safe",
    "onnxprune estimate 1 --over tree --metric recall:7 --plot expected.html",
)
ROWS = 12  # of the curve, where nothing is asked


class Over(StrEnum):
    """Which steps the estimator goes by."""

    PATH = "path"
    TREE = "tree"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(name="estimate", epilog=EXAMPLES)(run_estimate)


def run_estimate(
    step: StepArgument,
    units: Annotated[
        int | None, typer.Option("--units", metavar="N", help="What so many units reach.", show_default=False)
    ] = None,
    minimum: Annotated[
        list[str] | None,
        typer.Option(
            "--min",
            metavar="METRIC[:CLASS]=VALUE",
            help="The fewest units that hold this. May be repeated.",
            show_default=False,
        ),
    ] = None,
    safe: Annotated[bool, typer.Option("--safe", help="The worse edge of the band has to hold it, too.")] = False,
    metric: Annotated[
        str | None,
        typer.Option("--metric", metavar="NAME", help="By default what the steps are judged by.", show_default=False),
    ] = None,
    over: Annotated[
        Over | None,
        typer.Option(
            "--over",
            metavar="path|tree",
            help="The steps down to this one, or all of its tree; of an original the tree.",
            show_default=False,
        ),
    ] = None,
    method: Annotated[
        str, typer.Option("--method", metavar="NAME", help=f"{', '.join(METHODS)}: a cubic from four counts on.")
    ] = "auto",
    confidence: Annotated[float, typer.Option("--confidence", metavar="P", help="Of the band.")] = 0.9,
    plot: PlotOption = None,
    folder: FolderOption = Path(),
    json: JsonOption = False,
) -> None:
    """Estimate metrics between measured steps by the number of units, or the number of units from the metrics."""
    check_plot(plot)
    least = {name: _number(name, value) for name, value in least_of(minimum).items()}
    with opened(folder) as workspace:
        chosen = workspace.find(step)
        tree = over is Over.TREE or (over is None and chosen.parent is None)
        rows = tree_points(workspace, chosen.root) if tree else path_points(workspace, chosen.number)
        metric = metric or next(iter(least), None) or main_metric(workspace.steps.path(chosen.number)) or "accuracy"
    curve = estimate_rows(rows, metric, method=method, confidence=confidence)
    one = None if units is None else estimate(rows, units, metric, method=method, confidence=confidence)
    found = suggest_count(rows, least, edge=safe, method=method, confidence=confidence) if least else None
    line = found.units if found is not None else units
    draw(estimator_charts(rows, curve, metric, least=least.get(metric), units=line), plot)
    if json:
        answer = {"estimate": one and one.as_dict(), "suggestion": found and found.as_dict()}
        emit_json({"step": chosen.number, "metric": metric, "points": rows, "curve": curve, **answer})
        return
    if one is not None:
        show(_line(one, confidence))
    if least:
        _suggested(found, confidence, safe)
    if one is None and not least:
        counts = [row["units"] for row in curve]
        shown = curve if len(curve) <= ROWS else [curve[round(k * (len(curve) - 1) / (ROWS - 1))] for k in range(ROWS)]
        lines = [_cells(row) for row in shown]
        title = f"Expected from {counts[0]} to {counts[-1]} units"
        show(table(title, ("units", metric, "low", "high", "parameters", "MACs", "file"), lines, right=range(7)))


def _suggested(found: Any, confidence: float, safe: bool) -> None:
    if found is None:
        edge = "with its band " if safe else ""
        show(f"Not even the largest measured model is expected {edge}to hold that.")
        return
    least = ", the fewest that were measured" if found.measured else ""
    show(f"{found.units} units are expected to hold it{least}; {found.metric} needs so many.")
    show(_line(found.estimate, confidence))


def _line(one: Estimate, confidence: float) -> str:
    band = f"{figure_of(one.metric, one.low)} to {figure_of(one.metric, one.high)} at {confidence:.0%}"
    costs = one.costs
    parts = [f"{count(costs['parameters'])} parameters"] if "parameters" in costs else []
    parts += [f"{count(costs['macs'])} MACs"] if "macs" in costs else []
    parts += [megabytes(costs["file_bytes"])] if "file_bytes" in costs else []
    where = (
        f"steps {one.between[0]} and {one.between[1]}" if one.between[0] != one.between[1] else f"step {one.between[0]}"
    )
    about = "" if not parts else f"; {', '.join(parts)}"
    return f"{one.units} units: {one.metric} {figure_of(one.metric, one.value)} ({band}; {one.method}, {where}){about}"


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    metric = row["metric"]
    costs = (
        "-" if row.get("parameters") is None else count(row["parameters"]),
        "-" if row.get("macs") is None else count(row["macs"]),
        "-" if row.get("file_bytes") is None else megabytes(row["file_bytes"]),
    )
    return (str(row["units"]), *(figure_of(metric, row[name]) for name in ("value", "low", "high")), *costs)


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise OptionError(f"--min {name}={text}: expected a number", "For example --min accuracy=0.98.") from None
