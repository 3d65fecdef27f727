"""``onnxprune evaluate``: how good a model is on a dataset, and how fast here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from onnxprune.charts import evaluation_charts
from onnxprune.cli.console import emit_json, progress, show, table
from onnxprune.cli.measures import (
    IgnoreLabelOption,
    PlotOption,
    SplitOption,
    TaskOption,
    TopKOption,
    check_plot,
    class_table,
    confusion_table,
    draw,
    metric_rows,
)
from onnxprune.cli.notices import check_environment
from onnxprune.cli.options import JsonOption, ModelArgument, Provider, ProviderOption, ThreadsOption, examples
from onnxprune.cli.workers import SchedulerOption, WorkersOption, check_workers, workplace
from onnxprune.data import Dataset, batches, fit, open_dataset
from onnxprune.evaluate import Evaluation, evaluate
from onnxprune.model import Model, load
from onnxprune.runtime import Latency, measure_latency, model_inputs

__all__ = ["latency_of", "register"]

EXAMPLES = examples(
    "onnxprune evaluate model.onnx --data digits.npz --split test",
    "onnxprune evaluate small.onnx --data images.npz --original model.onnx",
    "onnxprune evaluate model.onnx --data photos/ --per-class --confusion --plot classes.html",
    "onnxprune evaluate model.onnx --data big.npz --workers 4",
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(name="evaluate", epilog=EXAMPLES)(evaluate_model)


def evaluate_model(
    model: ModelArgument,
    data: Annotated[
        Path,
        typer.Option(
            "--data",
            metavar="PATH",
            help="The dataset: .npz, .npy, a folder of images or arrays (docs/datasets.md).",
            show_default=False,
        ),
    ],
    split: SplitOption = None,
    original: Annotated[
        Path | None,
        typer.Option(
            "--original",
            metavar="MODEL",
            help="Compare with this model, too; labels are not needed then.",
            show_default=False,
        ),
    ] = None,
    per_class: Annotated[
        bool, typer.Option("--per-class", help="Precision, recall, F1 and average precision of every class.")
    ] = False,
    confusion: Annotated[bool, typer.Option("--confusion", help="Which class was taken for which.")] = False,
    task: TaskOption = None,
    top_k: TopKOption = None,
    ignore_label: IgnoreLabelOption = None,
    workers: WorkersOption = 1,
    scheduler: SchedulerOption = None,
    provider: ProviderOption = Provider.AUTO,
    threads: ThreadsOption = None,
    plot: PlotOption = None,
    json: JsonOption = False,
) -> None:
    """Measure how good a model is: accuracy and loss, or errors, or IoU; and latency on this machine."""
    check_environment(provider, threads)
    check_workers(workers, scheduler)
    check_plot(plot)
    dataset = open_dataset(data, split)
    with progress("reading") as report:
        loaded = load(model)
        base = None if original is None else load(original)
        with workplace(workers, scheduler, threads) as place:
            found = evaluate(
                loaded, dataset, original=base, task=task, top_k=top_k, ignore_label=ignore_label, provider=provider,
                threads=place.threads, executor=place.executor, share=place.share, progress=report,
            )  # fmt: skip
        report("measuring latency", 0, 0)
        latency = latency_of(loaded, dataset, provider, threads)
    if plot is not None:
        draw(evaluation_charts(found), plot)
    if json:
        emit_json(
            {
                "model": str(model),
                "data": str(data),
                "split": split,
                **found.as_dict(),
                "latency": _latency(latency),
            }
        )
        return
    rows = [*metric_rows(found), ("latency (measured)", describe(latency), "lower is better")]
    title = f"{model} on {dataset.name}, {len(dataset)} samples ({found.task})"
    show(table(title, ("metric", "value", ""), rows))
    _print_classes(found, per_class=per_class, confusion=confusion)


def _print_classes(found: Evaluation, *, per_class: bool, confusion: bool) -> None:
    for note in found.notes:
        show(f"Note: {note}.")
    if per_class and found.per_class:
        show("")
        show(class_table(found))
    if confusion and found.confusion is not None:
        show("")
        show(confusion_table(found.class_names, found.confusion))
    if (per_class and not found.per_class) or (confusion and found.confusion is None):
        show(f"There is nothing of that kind to tell class by class (task: {found.task}).")


def latency_of(model: Model, dataset: Dataset, provider: str = "auto", threads: int | None = None) -> Latency:
    """Time of one sample (or of the batch that the model insists on) on this machine."""
    first = next(batches(fit(dataset, model_inputs(model)), size=1))
    return measure_latency(model, first.feeds, provider=provider, threads=threads)


def describe(latency: Latency) -> str:
    """The median, how far it scatters, and under which conditions."""
    return (
        f"{latency.median_ms:.3g} ms ({latency.p10_ms:.3g} to {latency.p90_ms:.3g} in 8 of 10 of {latency.runs} runs,"
        f" batch {latency.batch}, {latency.provider}, {latency.threads or 'all'} threads)"
    )


def _latency(latency: Latency) -> dict[str, object]:
    return {
        "median_ms": latency.median_ms,
        "p10_ms": latency.p10_ms,
        "p90_ms": latency.p90_ms,
        "runs": latency.runs,
        "threads": latency.threads,
        "provider": latency.provider,
        "batch": latency.batch,
    }
