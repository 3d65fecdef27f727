"""``onnxprune evaluate``: how good a model is on a dataset, and how fast here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from onnxprune.cli.console import emit_json, progress, show, table
from onnxprune.cli.notices import check_environment
from onnxprune.cli.options import JsonOption, ModelArgument, examples
from onnxprune.data import Dataset, batches, fit, open_dataset
from onnxprune.evaluate import Metric, evaluate
from onnxprune.model import Model, load
from onnxprune.runtime import Latency, measure_latency, model_inputs

__all__ = ["latency_of", "register"]

EXAMPLES = examples(
    "onnxprune evaluate model.onnx --data digits.npz --split test",
    "onnxprune evaluate small.onnx --data images.npz --original model.onnx",
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(name="evaluate", epilog=EXAMPLES)(evaluate_model)


def evaluate_model(
    model: ModelArgument,
    data: Annotated[
        Path,
        typer.Option("--data", metavar="FILE.npz", help="The dataset: x and y, or x_test, ...", show_default=False),
    ],
    split: Annotated[
        str | None,
        typer.Option("--split", metavar="NAME", help="Part of a dataset with splits: train, test.", show_default=False),
    ] = None,
    original: Annotated[
        Path | None,
        typer.Option(
            "--original",
            metavar="MODEL",
            help="Compare with this model, too; labels are not needed then.",
            show_default=False,
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Measure accuracy and loss (or the error of a regression), and latency on this machine."""
    check_environment()
    dataset = open_dataset(data, split)
    with progress("reading") as report:
        loaded = load(model)
        base = None if original is None else load(original)
        found = evaluate(loaded, dataset, original=base, progress=lambda done, total: report("evaluating", done, total))
        report("measuring latency", 0, 0)
        latency = latency_of(loaded, dataset)
    if json:
        emit_json(
            {
                "model": str(model),
                "data": str(data),
                "split": split,
                "samples": len(dataset),
                "metrics": [_metric(m) for m in found],
                "latency": _latency(latency),
            }
        )
        return
    rows = [(m.name, str(m), {"": "", "higher": "higher is better"}.get(m.direction, "lower is better")) for m in found]
    rows.append(("latency (measured)", describe(latency), "lower is better"))
    show(table(f"{model} on {dataset.name}, {len(dataset)} samples", ("metric", "value", ""), rows))


def latency_of(model: Model, dataset: Dataset) -> Latency:
    """Time of one sample (or of the batch that the model insists on) on this machine."""
    first = next(batches(fit(dataset, model_inputs(model)), size=1))
    return measure_latency(model, first.feeds)


def describe(latency: Latency) -> str:
    """The median, how far it scatters, and under which conditions."""
    return (
        f"{latency.median_ms:.3g} ms ({latency.p10_ms:.3g} to {latency.p90_ms:.3g} in 8 of 10 of {latency.runs} runs,"
        f" batch {latency.batch}, {latency.provider}, {latency.threads or 'all'} threads)"
    )


def _metric(metric: Metric) -> dict[str, object]:
    return {"name": metric.name, "value": metric.value, "unit": metric.unit, "direction": metric.direction}


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
