"""``onnxprune repeat``: the same fine-tuning with several seeds, and whether two plans differ by more than these."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from onnxprune.automatic import compare_spreads, repeat_seeds, spread_rows
from onnxprune.automatic.repeats import seeds_of, target_of
from onnxprune.cli.auto import figure_of
from onnxprune.cli.console import emit_json, progress, say, show, table
from onnxprune.cli.notices import check_environment
from onnxprune.cli.options import JsonOption, examples
from onnxprune.cli.training import interrupts
from onnxprune.cli.workers import SchedulerOption, WorkersOption, check_workers, workplace
from onnxprune.cli.ws_actions import settings
from onnxprune.cli.ws_options import FolderOption, opened
from onnxprune.errors import OptionError
from onnxprune.workspace.values import Cancelled
from onnxprune.workspace.workspace import Workspace

__all__ = ["register"]

INTERRUPTED = 130
EXAMPLES = examples(
    "onnxprune repeat 2 --seeds 10",
    "onnxprune repeat original refined --seeds 10 --tune epochs=5",
    "onnxprune repeat original refined --metric recall:buildings",
    "onnxprune repeat 2 --seeds 0,1,2 --workers 2 --json",
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(name="repeat", epilog=EXAMPLES)(run_repeat)


def run_repeat(
    steps: Annotated[
        list[str],
        typer.Argument(
            metavar="STEP [STEP]", help="A pruned or a fine-tuned step; two to compare them.", show_default=False
        ),
    ],
    seeds: Annotated[str, typer.Option("--seeds", metavar="N|N,N", help="How many, or which.")] = "10",
    tuning: Annotated[
        list[str] | None,
        typer.Option(
            "--tune", metavar="NAME=VALUE", help="An option of `ws finetune`. May be repeated.", show_default=False
        ),
    ] = None,
    run: Annotated[
        str, typer.Option("--run", metavar="KEY", help="Repeats with the same key are not made again.")
    ] = "repeat",
    metric: Annotated[
        str | None,
        typer.Option(
            "--metric",
            metavar="NAME[:CLASS]",
            help="What is compared. By default what the steps are judged by.",
            show_default=False,
        ),
    ] = None,
    workers: WorkersOption = 1,
    scheduler: SchedulerOption = None,
    folder: FolderOption = Path(),
    json: JsonOption = False,
) -> None:
    """Fine-tune a step once for every seed, as steps beside each other, and show how far they spread.

    Of a step that was fine-tuned its own training is done again. With two steps both, and whether they differ.
    """
    if len(steps) > 2 or len(set(steps)) < len(steps):
        raise OptionError(f"{len(steps)} steps are named, expected one, or two different ones", "Name two to compare.")
    wanted, options = seeds_of(seeds), settings(tuning)
    check_workers(workers, scheduler)
    check_environment("auto", None)
    with opened(folder, scan=True) as workspace:
        numbers = [workspace.find(step).number for step in steps]
        targets = [target_of(workspace, number)[0] for number in numbers]
        if len(set(targets)) < len(targets):
            raise OptionError(f"both steps are fine-tunings of step {targets[0]}", "Name two different plans.")
        if metric is not None:
            _check_metric(workspace, targets, metric)
        with interrupts() as cancelled, progress("repeat", remaining=True) as report:
            try:
                with workplace(workers, scheduler, None) as place:
                    made = [
                        repeat_seeds(
                            workspace, number, wanted, run, options,
                            executor=place.executor, progress=report, cancelled=cancelled,
                        )
                        for number in numbers
                    ]  # fmt: skip
            except Cancelled:
                say("Interrupted; the same command goes on where it was.", "yellow")
                raise typer.Exit(INTERRUPTED) from None
        rows = []
        for target, mine in zip(targets, made, strict=True):
            root = workspace.steps.get(target).root
            rows += [row for row in spread_rows(workspace, root, metric, only=mine) if row["of"] == target]
    _tell(rows, json)


def _check_metric(workspace: Workspace, targets: Sequence[int], metric: str) -> None:
    """Raise OptionError, before hours of training, for what was not measured on steps that were measured."""
    for target in targets:
        name, colon, label = metric.partition(":")
        classes = workspace.steps.class_metrics(target)
        known = set(workspace.steps.get(target).metrics) if not colon else {c for n, c in classes if n == name}
        if metric not in known and label not in known:
            there = ", ".join(sorted(known)) or "nothing"
            what = f"classes with {name}" if colon else "metrics"
            raise OptionError(f"--metric {metric}: it was not measured on step {target}", f"Its {what}: {there}.")


def _tell(rows: Sequence[Mapping[str, Any]], json: bool) -> None:
    compared = None
    if len(rows) == 2 and rows[0]["metric"] == rows[1]["metric"] and min(row["runs"] for row in rows) > 1:
        compared = compare_spreads(dict(rows[0]), dict(rows[1]))
    if json:
        emit_json({"steps": list(rows), "difference": compared and compared.as_dict()})
        return
    show(_table(rows))
    for row in rows:
        values = ", ".join(figure_of(row["metric"], value) for value in row["values"])
        show(f"Step {row['of']}: {values}")
    if compared is not None:
        show(compared.words)


def _table(rows: Sequence[Mapping[str, Any]]) -> Table:
    lines = [
        (
            str(row["of"]), row["name"], str(row["units"]), str(row["runs"]),
            *(figure_of(row["metric"], row[name]) for name in ("mean", "std", "low", "high")),
        )
        for row in rows
    ]  # fmt: skip
    columns = ("step", "name", "units", "runs", f"mean {rows[0]['metric'] if rows else ''}", "std", "lowest", "highest")
    return table("Fine-tunings with different seeds", columns, lines, right=(0, 2, 3, 4, 5, 6, 7))
