"""``onnxprune sensitivity``: how much each group can lose before the metric suffers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from onnxprune.cli.console import count, emit_json, progress, say, show, table, warn
from onnxprune.cli.measures import PlotOption, SplitOption, check_plot, draw
from onnxprune.cli.notices import check_environment
from onnxprune.cli.options import (
    AllowIoOption,
    Attention,
    AttentionOption,
    CriterionOption,
    DataOption,
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
    writable,
)
from onnxprune.cli.workers import SchedulerOption, WorkersOption, check_workers, workplace
from onnxprune.cost import CostModel, example_graph
from onnxprune.criteria import Settings, score
from onnxprune.data import Dataset, fit, open_calibration, open_dataset
from onnxprune.errors import DataError, OptionError
from onnxprune.evaluate import Metric
from onnxprune.experiment import analyse
from onnxprune.model import Model, load
from onnxprune.recover.inputs import made_up
from onnxprune.runtime import model_inputs
from onnxprune.sensitivity import RATIOS, Row, Sensitivity, load_sensitivity, scan
from onnxprune.sensitivity.run import in_order, tied_groups
from onnxprune.sensitivity_charts import amount, sensitivity_charts
from onnxprune.values import Coupling

__all__ = ["register"]

Shares = Mapping[str, tuple[float, float]]

SAMPLES = 1024
GENERATED = 256
LOSS = 0.01
MUCH = 5  # times the loss that is allowed: where yellow ends and red begins
INTERRUPTED = 130
EXAMPLES = examples(
    "onnxprune sensitivity model.onnx --data digits.npz -o scan.json",
    "onnxprune sensitivity model.onnx --data photos/ --ratios 0.25,0.5,0.75 --samples 500 --plot scan.html",
    "onnxprune sensitivity model.onnx --data digits.npz --group conv1 --group conv2 --metric loss --loss 0.05",
    "onnxprune sensitivity model.onnx --data big.npz -o scan.json --workers 8",
    "onnxprune prune model.onnx -o small.onnx --ratio 0.5 --sensitivity scan.json",
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(name="sensitivity", epilog=EXAMPLES)(sensitivity)


def sensitivity(
    model: ModelArgument,
    data: DataOption = None,
    split: SplitOption = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE",
            help="Write the scan there, as JSON, while it is made; a scan that is there goes on.",
            show_default=False,
        ),
    ] = None,
    ratios: Annotated[
        str, typer.Option("--ratios", metavar="R,R", help="Shares of a group's units to remove.")
    ] = ",".join(map(str, RATIOS)),
    group: Annotated[
        list[str] | None,
        typer.Option(
            "--group", metavar="NAME", help="Only this group. May be repeated. All by default.", show_default=False
        ),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(
            "--metric",
            metavar="NAME",
            help="What is measured: accuracy, loss, macro_f1, agreement, kl, ... By default the task's first; without "
            "labels the agreement with the original.",
            show_default=False,
        ),
    ] = None,
    loss: Annotated[
        float,
        typer.Option("--loss", metavar="X", help="How much worse the metric may be for a ratio to count as free."),
    ] = LOSS,
    samples: Annotated[
        int | None,
        typer.Option(
            "--samples",
            metavar="N",
            help=f"At most so many samples, drawn with the shares of their classes. {SAMPLES} by default, {GENERATED} "
            "where there are no data.",
            show_default=False,
        ),
    ] = None,
    criterion: CriterionOption = "l2",
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
    """Remove units of one group at a time, at several ratios, and measure how much worse the model gets."""
    check_environment(provider, threads)
    check_workers(workers, scheduler)
    options = coupling_options(include_inexact, attention, norm_groups, allow_io, shape)
    ladder = _ratios(ratios)
    _check_numbers(loss, samples)
    if split is not None and data is None:
        raise OptionError(f"--split {split}, but there are no data", "Give them with --data.")
    check_plot(plot)
    dataset = None if data is None else open_dataset(data, split).subset(samples or SAMPLES, seed)
    calibration = None if data is None else open_calibration(data)
    if out is not None:
        writable(out)
    try:
        with progress("reading", remaining=True) as report:
            loaded = load(model)
            if out is not None:
                keep_input(loaded, out)
            report("looking for groups", 0, 0)
            inlined, coupling = analyse(loaded, options, provider=provider, threads=threads)
            if dataset is None:
                dataset = made_up(inlined, samples or GENERATED, seed, shapes=dict(options.shapes))
            report("scoring", 0, 0)
            settings = Settings(seed=seed, data=calibration, provider=provider, threads=threads, progress=report)
            scores = score(inlined, coupling, criterion, settings)
            with workplace(workers, scheduler, threads) as place:
                found = scan(
                    inlined, coupling, scores, dataset, ratios=ladder, groups=group, metric=metric, provider=provider,
                    threads=place.threads, memory=place.memory, executor=place.executor, share=place.share, file=out,
                    progress=report,
                )  # fmt: skip
    except KeyboardInterrupt:
        _say_how_to_go_on(out)
        raise typer.Exit(INTERRUPTED) from None
    for warning in scores.warnings:
        warn(warning)
    draw(sensitivity_charts(found, loss), plot)
    shares = _shares(inlined, coupling, dataset, provider, threads)
    if json:
        emit_json(_document(model, data, out, found, loss, shares))
        return
    label = found.baseline.label
    show(f"{label[:1].upper()}{label[1:]}; {found.baseline} with nothing removed", style="bold")
    show(_table(found, shares, loss))
    for line in _remarks(found, coupling, loss, dataset, generated=data is None):
        show(line)
    if out is not None:
        show(f"{out} written; `onnxprune prune {model} --sensitivity {out} --ratio 0.5 -o small.onnx` makes use of it.")


def _ratios(text: str) -> tuple[float, ...]:
    """``0.1,0.3`` -> (0.1, 0.3)."""
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if not values or not all(0 < value < 1 for value in values):
        raise OptionError(f"--ratios {text}: expected numbers between 0 and 1", "Write them as 0.1,0.3,0.5.")
    return values


def _check_numbers(loss: float, samples: int | None) -> None:
    if not math.isfinite(loss) or loss < 0:
        raise OptionError(f"--loss {loss}: expected a number from 0 up", "0.01 is one point of accuracy.")
    if samples is not None and samples < 1:
        raise OptionError(f"--samples {samples}: expected at least 1", "Leave it out.")


def _say_how_to_go_on(out: Path | None) -> None:
    try:
        rows = 0 if out is None else len(load_sensitivity(out).rows)
    except DataError:
        rows = 0
    if rows:
        say(f"Interrupted. {rows} measurements are in {out}; the same command goes on from there.", "yellow")
    else:
        say("Interrupted." + (" With -o FILE a scan can go on where it was stopped." if out is None else ""), "yellow")


def _shares(model: Model, coupling: Coupling, dataset: Dataset, provider: str, threads: int | None) -> Shares:
    """Group -> its part of the parameters and of the MACs for a sample of these data; in the order of the model."""
    fitted = fit(dataset, model_inputs(model))
    shapes = {name: (fitted.fixed or 1, *rows.shape[1:]) for name, rows in fitted.inputs.items()}
    costs = CostModel(coupling, example_graph(model, shapes, provider=provider, threads=threads))
    parameters, macs = max(costs.before.parameters, 1), max(costs.before.macs, 1)
    groups = {group.name: (group.parameters / parameters, group.macs / macs) for group in costs.groups}
    return {name: groups[name] for name in in_order(coupling)}


def _table(found: Sensitivity, shares: Shares, loss: float) -> Table:
    headroom = found.headroom(loss)
    rows = []
    for group, (parameters, macs) in shares.items():
        if group in headroom:
            values = {row.ratio: row for row in found.of(group)}
            cells = [_cell(found.baseline, values.get(ratio), loss) for ratio in found.ratios]
            rows.append((group, f"{parameters:.1%}", f"{macs:.1%}", *cells, f"{headroom[group]:.0%}"))
    columns = ("group", "parameters", "MACs", *(f"{ratio:.0%} gone" for ratio in found.ratios), "headroom")
    return table("", columns, rows, right=range(1, len(columns)))


def _cell(baseline: Metric, row: Row | None, loss: float) -> Text | str:
    """The metric; green where it holds, red where much is lost."""
    if row is None:
        return "-"
    style = "green" if row.within(loss) else "yellow" if row.within(MUCH * loss) else "red"
    return Text(str(replace(baseline, value=row.value)), style)


def _remarks(
    found: Sensitivity, coupling: Coupling, loss: float, dataset: Dataset, *, generated: bool
) -> Iterator[str]:
    """How to read the table, and what could not be measured."""
    label = found.baseline.label
    allowed = amount(found.baseline, loss)
    yield f"Headroom: the largest of these ratios up to which {label} is worse by at most {allowed}."
    if generated:
        yield (
            f"There are no data: {label} was measured on {found.samples} generated inputs. That tells groups apart that"
            " matter from groups that do not, and no more; give data with --data."
        )
    elif found.agreement:
        yield f"There are no labels: {label} says how far the outputs stay those of the original, right or wrong."
    yield f"Measured on {dataset.name}, {count(found.samples)} samples; units go by lowest {found.criterion}."
    for names in tied_groups(coupling):
        if not set(names).isdisjoint(found.groups):
            yield f"Removed together, since they must lose equally many units: {', '.join(names)}."
    for failure in found.failures:
        yield f"Not measured: {failure.group} at {failure.ratio:.0%}: {failure.reason.splitlines()[0]}"


def _document(
    model: Path, data: Path | None, out: Path | None, found: Sensitivity, loss: float, shares: Shares
) -> dict[str, Any]:
    headroom = found.headroom(loss)
    groups = [
        {
            "name": name,
            "parameters": parameters,
            "macs": macs,
            "headroom": headroom[name],
            "rows": [asdict(row) for row in found.of(name)],
        }
        for name, (parameters, macs) in shares.items()
        if name in headroom
    ]
    return {
        "model": str(model),
        "hash": found.model_hash,
        "data": None if data is None else str(data),
        "out": None if out is None else str(out),
        "samples": found.samples,
        "criterion": found.criterion,
        "metric": found.baseline.as_dict(),
        "agreement": found.agreement,
        "generated": data is None,
        "loss": loss,
        "ratios": found.ratios,
        "groups": groups,
        "failures": [asdict(failure) for failure in found.failures],
    }
