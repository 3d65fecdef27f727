"""``onnxprune demo``: the whole way on a small model that comes with the package."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Annotated

import typer

from onnxprune.cli.console import change, progress, show, table
from onnxprune.cli.evaluate import describe, latency_of
from onnxprune.cli.notices import check_environment
from onnxprune.cli.options import examples
from onnxprune.cli.prune import costs_table, file_bytes, proof_text
from onnxprune.cli.report import Section, write_report
from onnxprune.data import Dataset, open_dataset
from onnxprune.errors import ModelSaveError
from onnxprune.evaluate import Metric, evaluate
from onnxprune.experiment import Pruned, prune
from onnxprune.model import Model, load, save
from onnxprune.runtime import Latency

__all__ = ["register"]

MODEL, DATA, SMALL, PLAN, REPORT = "digits_cnn.onnx", "digits.npz", "digits_half.onnx", "plan.json", "report.md"
RATIO = 0.5


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(name="demo", epilog=examples("onnxprune demo", "onnxprune demo --out results"))(run_demo)


@dataclass(frozen=True)
class _Measured:
    """One model on the test images."""

    metrics: tuple[Metric, ...]
    latency: Latency


def run_demo(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the results go.")] = Path("demo-output"),
) -> None:
    """Prune half the channels of a CNN for handwritten digits, prove it, measure it, and write a report."""
    check_environment()
    _unpack(out)
    original, data = load(out / MODEL), open_dataset(out / DATA, "test")
    show(f"A small CNN for scikit-learn's handwritten digits: {out / MODEL}, {len(data)} test images in {out / DATA}")
    with progress("pruning") as report:
        pruned = prune(original, ratio=RATIO, round_to=1, data=data, progress=report)
        save(pruned.model, out / SMALL)
        pruned.plan.save(out / PLAN)
        report("measuring", 0, 0)
        before, after = _measure(original, data), _measure(pruned.model, data)
    sections = _sections(out, pruned, before, after)
    write_report(out / REPORT, "onnxprune demo", sections)
    for section in sections:
        show("")
        if section.rows:
            show(table(section.title, section.columns, section.rows, right=section.right))
        else:
            show(section.title, style="bold")
        for line in section.text:
            show(line)


def _unpack(out: Path) -> None:
    """Put the packaged files into the folder, so that other commands can be tried on them."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name in (MODEL, DATA):
            with (
                resources.files("onnxprune").joinpath("demo_data", name).open("rb") as source,
                (out / name).open("wb") as copy,
            ):
                shutil.copyfileobj(source, copy)
    except OSError as error:
        raise ModelSaveError(
            f"{out}: the demo cannot write there: {error.strerror or error}", "Name another folder with --out."
        ) from error


def _measure(model: Model, data: Dataset) -> _Measured:
    return _Measured(evaluate(model, data), latency_of(model, data))


def _sections(out: Path, pruned: Pruned, before: _Measured, after: _Measured) -> tuple[Section, ...]:
    groups = [
        (group.name, group.kind, str(units), str(units - gone), change(units, units - gone))
        for group, (gone, units) in zip(pruned.coupling.groups, pruned.reached.groups.values(), strict=True)
    ]
    files = (file_bytes(out / MODEL), file_bytes(out / SMALL))
    costs: list[Sequence[str]] = list(costs_table(pruned.before, pruned.after, files, (before.latency, after.latency)))
    quality = [(b.name, str(b), str(a), "measured") for b, a in zip(before.metrics, after.metrics, strict=True)]
    return (
        Section(
            "What was removed",
            ("group", "units are", "before", "after", "left"),
            groups,
            (2, 3, 4),
            (f"Half of each group, lowest L2 norm first: {pruned.reached.removed} of {pruned.reached.total} units.",),
        ),
        Section("What cannot go", ("axis", "reason"), _frozen(pruned), (), ()),
        Section("The proof", text=(proof_text(pruned.proof),)),
        Section(
            "What it costs",
            ("", "before", "after", "left", ""),
            costs,
            (1, 2, 3),
            (f"Latency before: {describe(before.latency)}; after: {describe(after.latency)}.",),
        ),
        Section(
            "How good it is",
            ("", "before", "after", ""),
            quality,
            (1, 2),
            ("Nothing was trained after the removal: accuracy comes back with fine-tuning, or with a smaller ratio.",),
        ),
        Section(
            "What to try next",
            text=(
                f"onnxprune inspect {out / SMALL}",
                f"onnxprune plan show {out / PLAN}",
                f"onnxprune prune {out / MODEL} -o {out / 'quarter.onnx'} --ratio 0.25 --scope global",
                f"onnxprune evaluate {out / 'quarter.onnx'} --data {out / DATA} --split test",
                f"The report is in {out / REPORT}.",
            ),
        ),
    )


def _frozen(pruned: Pruned) -> list[tuple[str, str]]:
    return [(f"{f.tensor}[{f.axis}]", f.reason) for f in pruned.coupling.frozen]
