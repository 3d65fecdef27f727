"""``onnxprune compare``: two models side by side, in quality, in cost, and instance by instance."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from onnxprune.charts import comparison_charts
from onnxprune.cli.console import emit_json, progress, show, table
from onnxprune.cli.measures import (
    IgnoreLabelOption,
    LimitOption,
    PlotOption,
    SplitOption,
    TaskOption,
    TopKOption,
    change_rows,
    check_plot,
    class_changes_table,
    draw,
    instance_lines,
)
from onnxprune.cli.notices import check_environment
from onnxprune.cli.options import (
    DataOption,
    JsonOption,
    Provider,
    ProviderOption,
    SeedOption,
    ThreadsOption,
    examples,
)
from onnxprune.cli.pruned import costs_table, file_bytes
from onnxprune.cost import Cost, cost
from onnxprune.data import open_dataset
from onnxprune.errors import OptionError
from onnxprune.evaluate import KINDS, Comparison, compare, evaluate_generated, evaluate_pair
from onnxprune.model import inline_functions, load

__all__ = ["register"]

SAMPLES = 256  # generated inputs, where there are no data
EXAMPLES = examples(
    "onnxprune compare model.onnx small.onnx --data digits.npz --split test",
    "onnxprune compare model.onnx small.onnx --data photos/ --json > comparison.json",
    "onnxprune compare model.onnx small.onnx --plot comparison.html",
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(name="compare", epilog=EXAMPLES)(compare_models)


@dataclass(frozen=True)
class _Priced:
    """One model's file and what it costs."""

    path: Path
    cost: Cost
    file_bytes: int


def compare_models(
    before: Annotated[Path, typer.Argument(metavar="A", help="The first ONNX file, the original.", show_default=False)],
    after: Annotated[Path, typer.Argument(metavar="B", help="The second one.", show_default=False)],
    data: DataOption = None,
    split: SplitOption = None,
    limit: LimitOption = None,
    task: TaskOption = None,
    top_k: TopKOption = None,
    ignore_label: IgnoreLabelOption = None,
    seed: SeedOption = 0,
    provider: ProviderOption = Provider.AUTO,
    threads: ThreadsOption = None,
    plot: PlotOption = None,
    json: JsonOption = False,
) -> None:
    """Put two models side by side: metrics, degenerated and improved instances, classes, fidelity, cost.

    Without labels the second model is compared with the first one's outputs; without data on made-up inputs.
    """
    check_environment(provider, threads)
    check_plot(plot)
    if data is None and (split is not None or task is not None or top_k is not None or ignore_label is not None):
        raise OptionError("no data are given to split or to read as a task", "Give them with --data.")
    with progress("reading") as report:
        models = load(before), load(after)
        if data is None:
            samples = SAMPLES if limit is None else limit
            found = evaluate_generated(
                *models, samples=samples, seed=seed, provider=provider, threads=threads, progress=report
            )
        else:
            dataset = open_dataset(data, split)
            found = evaluate_pair(
                *models, dataset, task=task, top_k=top_k, ignore_label=ignore_label, limit=limit,
                provider=provider, threads=threads, progress=report,
            )  # fmt: skip
        report("counting", 0, 0)
        old, new = (
            _Priced(path, cost(inline_functions(model)), file_bytes(path))
            for path, model in zip((before, after), models, strict=True)
        )
    compared = compare(*found)
    if plot is not None:
        draw(comparison_charts(compared, _left(old, new)), plot)
    if json:
        emit_json(_document(old, new, data, split, compared))
    else:
        _print(old, new, "generated inputs" if data is None else dataset.name, compared)


def _document(old: _Priced, new: _Priced, data: Path | None, split: str | None, compared: Comparison) -> dict[str, Any]:
    return {
        "models": [str(old.path), str(new.path)],
        "data": None if data is None else str(data),
        "split": split,
        "costs": [_costs(priced) for priced in (old, new)],
        **compared.as_dict(),
        "evaluations": [compared.before.as_dict(), compared.after.as_dict()],
    }


def _left(old: _Priced, new: _Priced) -> dict[str, float]:
    """What the second model has of each cost, as a share of the first one's."""
    before, after = _costs(old), _costs(new)
    return {
        KINDS[name].label: after[name] / before[name] for name in before if before[name] and after[name] is not None
    }


def _costs(priced: _Priced) -> dict[str, Any]:
    return {
        "parameters": priced.cost.parameters,
        "nonzero": priced.cost.nonzero,
        "macs": priced.cost.macs,
        "activation_bytes": priced.cost.activation_bytes,
        "file_bytes": priced.file_bytes,
    }


def _print(old: _Priced, new: _Priced, data: str, compared: Comparison) -> None:
    show(f"A is {old.path}, B is {new.path}; on {data}, {compared.after.samples} samples ({compared.after.task})")
    for note in compared.as_dict()["notes"]:
        show(f"Note: {note}.")
    if compared.changes:
        show("")
        show(table("How good they are", ("", "A", "B", "change", "B is"), change_rows(compared), right=(1, 2, 3)))
    if compared.fidelity:
        show("")
        show(table("B against A", ("", ""), [(m.label, str(m)) for m in compared.fidelity], right=(1,)))
    lines = list(instance_lines(compared))
    if lines:
        show("")
        for line in lines:
            show(line)
    if compared.per_class:
        show("")
        show(class_changes_table(compared))
    show("")
    rows = costs_table(old.cost, new.cost, (old.file_bytes, new.file_bytes))
    show(table("What they cost", ("", "A", "B", "left", ""), rows, right=(1, 2, 3)))
