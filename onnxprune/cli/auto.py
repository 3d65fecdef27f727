"""``onnxprune auto``: prune and fine-tune a step of a workspace for as long as the result holds what is required."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from onnxprune.automatic import STRATEGIES, auto, compare_strategies, contenders, run_rows, settings_of, try_rows
from onnxprune.automatic.action import new_run
from onnxprune.cli.console import count, emit_json, progress, say, show, table
from onnxprune.cli.notices import check_environment
from onnxprune.cli.options import JsonOption, examples
from onnxprune.cli.training import interrupts
from onnxprune.cli.ws_actions import settings
from onnxprune.cli.ws_options import FolderOption, StepArgument, opened
from onnxprune.errors import OptionError
from onnxprune.evaluate import kind_of, measured
from onnxprune.workspace.jobs import Jobs
from onnxprune.workspace.values import Cancelled
from onnxprune.workspace.workspace import Workspace

__all__ = ["figure_of", "least_of", "register"]

INTERRUPTED = 130
EXAMPLES = examples(
    "onnxprune auto 1 --min accuracy=0.985",
    "onnxprune auto 1 --ratio 1/2 --max-loss 0.005 --strategy auto+estimator --name small",
    "onnxprune auto 1 --units 84,48,30 --strategy manual --min recall:7=0.95",
    "onnxprune auto 1 --budget parameters=0.1 --prune scope=global --tune optimizer=sgd",
    "onnxprune auto 1 --min accuracy=-0.5% --compare",
)
COLUMNS = ("try", "step", "of", "units", "parameters", "MACs", "", "verdict", "epochs")
RUNS = ("plan", "result", "units", "parameters", "MACs", "", "tries", "epochs", "epochs per unit gone", "seconds")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(name="auto", epilog=EXAMPLES)(run_auto)


def run_auto(
    step: StepArgument,
    ratio: Annotated[
        str | None,
        typer.Option("--ratio", metavar="R", help="Share of the units left that go each time.", show_default="1/3"),
    ] = None,
    strategy: Annotated[
        str | None,
        typer.Option("--strategy", metavar="NAME", help=f"{', '.join(STRATEGIES)}.", show_default="auto"),
    ] = None,
    minimum: Annotated[
        list[str] | None,
        typer.Option(
            "--min",
            metavar="METRIC[:CLASS]=VALUE",
            help="What has to hold; -0.5% is relative to the original. May be repeated.",
            show_default=False,
        ),
    ] = None,
    max_loss: Annotated[
        float | None,
        typer.Option(
            "--max-loss", metavar="X", help="What the main metric may lose: 0.005 is half a point.", show_default=False
        ),
    ] = None,
    budget: Annotated[
        list[str] | None,
        typer.Option(
            "--budget",
            metavar="NAME=VALUE",
            help="Small enough: units, parameters, macs or bytes, as a share or an amount. May be repeated.",
            show_default=False,
        ),
    ] = None,
    units: Annotated[
        str | None,
        typer.Option("--units", metavar="N,N", help="Units left after each try, for manual.", show_default=False),
    ] = None,
    ratios: Annotated[
        str | None,
        typer.Option("--ratios", metavar="R,R", help="A ratio for each try, for manual.", show_default=False),
    ] = None,
    iterations: Annotated[
        int | None, typer.Option("--iterations", metavar="N", help="At most so many tries.", show_default=False)
    ] = None,
    criterion: Annotated[
        str | None,
        typer.Option("--criterion", metavar="NAME", help="How importance is scored.", show_default="l2"),
    ] = None,
    recover: Annotated[
        str | None,
        typer.Option("--recover", metavar="METHOD", help="Repair before fine-tuning.", show_default=False),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option("--epochs", metavar="N", help="Of each fine-tuning at most; 0 for none.", show_default="20"),
    ] = None,
    delta_loss: Annotated[
        float | None,
        typer.Option(
            "--delta-loss", metavar="S", help="Stop it when the loss falls by less than this.", show_default=False
        ),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option("--target", metavar="METRIC=VALUE", help="Stop it when this is reached.", show_default=False),
    ] = None,
    tolerance: Annotated[
        int | None,
        typer.Option(
            "--tolerance",
            metavar="N",
            help="Units between holding and failing at which estimator and bisect end; one in fifty by default.",
            show_default=False,
        ),
    ] = None,
    tries: Annotated[
        int | None,
        typer.Option("--tries", metavar="N", help="Of the estimator (3) or bisect (8) at most.", show_default=False),
    ] = None,
    pruning: Annotated[
        list[str] | None,
        typer.Option(
            "--prune", metavar="NAME=VALUE", help="An option of `ws prune`. May be repeated.", show_default=False
        ),
    ] = None,
    tuning: Annotated[
        list[str] | None,
        typer.Option(
            "--tune", metavar="NAME=VALUE", help="An option of `ws finetune`. May be repeated.", show_default=False
        ),
    ] = None,
    data: Annotated[
        str | None, typer.Option("--data", metavar="NAME", help="Data of the folder.", show_default=False)
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", metavar="N", help="For all of it.", show_default="0")] = None,
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="A name for the result.", show_default=False)
    ] = None,
    pin: Annotated[bool, typer.Option("--pin", help="Make the result the baseline of its tree.")] = False,
    run: Annotated[
        str | None,
        typer.Option("--run", metavar="KEY", help="Go on with a run that broke off.", show_default=False),
    ] = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="Run the strategies one after the other, and show them side by side.")
    ] = False,
    queue: Annotated[bool, typer.Option("--queue", help="Queue it as a job, and start a worker.")] = False,
    folder: FolderOption = Path(),
    json: JsonOption = False,
) -> None:
    """Prune and fine-tune again and again, until what is required does not hold or the model is small enough.

    The smallest step that holds is the result; every try is recorded, those that fail as well.
    """
    given = {
        "ratio": ratio, "strategy": strategy, "require": least_of(minimum), "max_loss": max_loss,
        "budget": _pairs("--budget", budget), "units": units, "ratios": ratios, "iterations": iterations,
        "criterion": criterion, "recover": recover, "epochs": epochs, "delta_loss": delta_loss, "target": target,
        "tolerance": tolerance, "tries": tries, "prune": settings(pruning), "finetune": settings(tuning),
        "data": data, "seed": seed, "name": name, "pin": pin or None, "run": run,
    }  # fmt: skip
    options = {key: value for key, value in given.items() if value not in (None, {})}
    if compare and (queue or run or strategy):
        raise OptionError("--compare runs several strategies", "Leave out --strategy, --run and --queue.")
    plans = contenders(options) if compare else {"": options}
    for plan in plans.values():
        settings_of(plan)
    check_environment("auto", None)
    with opened(folder, scan=True) as workspace:
        number = workspace.find(step).number
        if queue:
            _queue(workspace, number, options, json)
        elif compare:
            _compare(workspace, number, plans, json)
        else:
            _run(workspace, number, {"run": new_run(), **options}, json)


def _run(workspace: Workspace, number: int, options: dict[str, Any], json: bool) -> None:
    root, key = workspace.steps.get(number).root, str(options["run"])
    with interrupts() as cancelled, progress("auto", remaining=True) as report:
        try:
            result: int | None = auto(workspace, number, options, report, cancelled).number
        except Cancelled:
            result = None
    rows = try_rows(workspace, root, key)
    if json:
        summary = next((row for row in run_rows(workspace, root) if row["run"] == key), None)
        emit_json({"run": key, "result": result, "interrupted": result is None, "tries": rows, "summary": summary})
    else:
        if rows:
            show(_tries(rows))
        show(_outcome(rows, number, result, key))
    if result is None:
        raise typer.Exit(INTERRUPTED)


def _outcome(rows: Sequence[Mapping[str, Any]], number: int, result: int | None, key: str) -> str:
    if result is None:
        return f"Interrupted; {len(rows)} tries are recorded, and `--run {key}` with the same options goes on."
    best = next((row for row in rows if row["step"] == result), None)
    if best is None:
        why = rows[-1]["verdict"] if rows else "no unit could go"
        return f"Nothing smaller than step {number} holds: {why}."
    left = "" if best["parameters_left"] is None else f", {best['parameters_left']:.1%} of the parameters"
    small = ", and is small enough" if best["reached"] else ""
    return (
        f"Step {result} holds{small}: {best['units']} units{left}, {sum(row['epochs'] for row in rows)} epochs in all."
    )


def _tries(rows: Sequence[Mapping[str, Any]]) -> Table:
    lines = [
        (
            f"{row['try'] + 1} {row['phase']}",
            str(row["step"]),
            str(row["parent"]),
            f"{row['units']}",
            share(row["parameters_left"]),
            share(row["macs_left"]),
            figure_of(row["metric"], row["value"]),
            row["verdict"],
            str(row["epochs"]),
        )
        for row in rows
    ]
    columns = [name or str(rows[0]["metric"] or "metric") for name in COLUMNS]
    return table(f"Run {rows[0]['run']}", columns, lines, right=(1, 2, 3, 4, 5, 6, 8))


def _compare(workspace: Workspace, number: int, plans: Mapping[str, Mapping[str, Any]], json: bool) -> None:
    with interrupts() as cancelled, progress("compare", remaining=True) as report:
        try:
            rows = compare_strategies(workspace, number, plans, report, cancelled)
        except Cancelled:
            say("Interrupted; the same command goes on where it was.", "yellow")
            raise typer.Exit(INTERRUPTED) from None
    if json:
        emit_json({"step": number, "strategies": rows})
        return
    lines = [
        (
            row["plan"],
            "-" if row["result"] is None else str(row["result"]),
            "-" if row["units"] is None else str(row["units"]),
            share(row["parameters_left"]),
            share(row["macs_left"]),
            figure_of(row["metric"], row["value"]),
            str(row["tries"]),
            str(row["epochs"]),
            "-" if row["epochs_per_unit"] is None else f"{row['epochs_per_unit']:.2f}",
            f"{row['seconds']:.0f}",
        )
        for row in rows
    ]
    metric = next((str(row["metric"]) for row in rows if row["metric"]), "metric")
    show(table(f"Strategies from step {number}", [name or metric for name in RUNS], lines, right=range(1, len(RUNS))))


def _queue(workspace: Workspace, number: int, options: Mapping[str, Any], json: bool) -> None:
    workspace.check_writable()
    jobs = Jobs(workspace.database)
    job = jobs.add("auto", number, options)
    worker = jobs.start_worker(workspace.folder)
    if json:
        emit_json({"job": job.number, "worker": worker})
    else:
        show(f"Job {job.number} is queued: auto of step {number}; worker {worker} does it; `onnxprune jobs wait`.")


def share(value: float | None) -> str:
    """``4.4%``."""
    return "-" if value is None else f"{value:.1%}"


def figure_of(metric: str | None, value: float | None) -> str:
    """A value of a metric as a person reads it; that of a class, "recall:7", as well."""
    if metric is None or value is None:
        return "-"
    name = metric.partition(":")[0]
    return count(value) if kind_of(name) is None else str(measured(name, value))


def least_of(texts: Sequence[str] | None) -> dict[str, str]:
    """``accuracy=0.98`` or ``recall:cat=-1%`` ... A class may have ``:`` and ``=`` in its name."""
    return _pairs("--min", texts)


def _pairs(option: str, texts: Sequence[str] | None) -> dict[str, str]:
    found = {}
    for text in texts or ():
        name, equals, value = text.rpartition("=")
        if not (name and equals and value):
            raise OptionError(f"{option} {text}: expected NAME=VALUE", "For example --min accuracy=0.98.")
        found[name] = value
    return found
