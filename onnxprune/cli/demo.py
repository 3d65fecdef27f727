"""``onnxprune demo``: the whole way on a small model that comes with the package."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated

import typer

from onnxprune.cli.console import change, progress, show, table
from onnxprune.cli.evaluate import describe, latency_of
from onnxprune.cli.notices import check_environment
from onnxprune.cli.options import Provider, ProviderOption, ThreadsOption, examples
from onnxprune.cli.pruned import costs_table, file_bytes, proof_text
from onnxprune.cli.report import Section, write_report
from onnxprune.data import open_dataset
from onnxprune.errors import ModelSaveError
from onnxprune.experiment import Pruned, prune
from onnxprune.model import load, save
from onnxprune.runtime import Latency

__all__ = ["register"]

MODEL, DATA, SMALL, PLAN, REPORT = "digits_cnn.onnx", "digits.npz", "digits_half.onnx", "plan.json", "report.md"
RATIO, REPAIR = 0.5, "least-squares"
REPAIRED = (
    "Nothing was trained. The repair fits the layers that are left to the outputs of the original's, by least squares"
    " on training images without their labels."
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(name="demo", epilog=examples("onnxprune demo", "onnxprune demo --out results"))(run_demo)


def run_demo(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the results go.")] = Path("demo-output"),
    provider: ProviderOption = Provider.AUTO,
    threads: ThreadsOption = None,
) -> None:
    """Prune half the channels of a CNN for handwritten digits, prove it, repair it, measure it, write a report."""
    check_environment(provider, threads)
    _unpack(out)
    original, data = load(out / MODEL), open_dataset(out / DATA, "test")
    show(f"A small CNN for scikit-learn's handwritten digits: {out / MODEL}, {len(data)} test images in {out / DATA}")
    with progress("pruning") as report:
        pruned = prune(
            original, ratio=RATIO, round_to=1, recover=REPAIR, evaluate=True, data=out / DATA,
            provider=provider, threads=threads, progress=report,
        )  # fmt: skip
        save(pruned.model, out / SMALL)
        pruned.plan.save(out / PLAN)
        report("measuring", 0, 0)
        before, after = (latency_of(model, data, provider, threads) for model in (original, pruned.model))
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


def _sections(out: Path, pruned: Pruned, before: Latency, after: Latency) -> tuple[Section, ...]:
    groups = [
        (group.name, group.kind, str(units), str(units - gone), change(units, units - gone))
        for group, (gone, units) in zip(pruned.coupling.groups, pruned.reached.groups.values(), strict=True)
    ]
    files = (file_bytes(out / MODEL), file_bytes(out / SMALL))
    costs: list[Sequence[str]] = list(costs_table(pruned.before, pruned.after, files, (before, after)))
    repaired = f"--recover {REPAIR} --data {out / DATA}"
    lines = zip(*pruned.evaluations.values(), strict=True)
    quality = [(line[0].label, *(str(metric) for metric in line), "measured") for line in lines]
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
            (f"Latency before: {describe(before)}; after: {describe(after)}.",),
        ),
        Section(
            "How good it is",
            ("", *pruned.evaluations, ""),
            quality,
            (1, 2, 3),
            (REPAIRED,),
        ),
        Section(
            "What to try next",
            text=(
                f"onnxprune inspect {out / SMALL}",
                f"onnxprune plan show {out / PLAN}",
                f"onnxprune prune {out / MODEL} -o {out / 'quarter.onnx'} --ratio 0.25 --scope global",
                f"onnxprune compare {out / MODEL} {out / SMALL} --data {out / DATA}",
                f"onnxprune sensitivity {out / MODEL} --data {out / DATA} -o {out / 'scan.json'}",
                f"onnxprune prune {out / MODEL} -o {out / 'tiny.onnx'} --ratio 0.9 --min accuracy=0.97 {repaired}",
                f"The report is in {out / REPORT}.",
            ),
        ),
    )


def _frozen(pruned: Pruned) -> list[tuple[str, str]]:
    return [(f"{f.tensor}[{f.axis}]", f.reason) for f in pruned.coupling.frozen]
