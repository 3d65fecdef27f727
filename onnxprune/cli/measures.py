"""What ``evaluate`` and ``compare`` share: their options, and evaluations as tables."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.table import Table

from onnxprune.cli.console import say, table, warn
from onnxprune.cli.options import writable
from onnxprune.evaluate import TASKS, ClassChange, Comparison, Evaluation
from onnxprune.figures import Figure, check_path, write
from onnxprune.values import Ints

__all__ = [
    "IgnoreLabelOption",
    "LimitOption",
    "PlotOption",
    "SplitOption",
    "TaskOption",
    "TopKOption",
    "change_rows",
    "check_plot",
    "class_changes_table",
    "class_table",
    "confusion_table",
    "draw",
    "instance_lines",
    "metric_rows",
]

SHOWN = 20  # classes of a table; of more classes the most frequent mistakes, or the largest losses, are listed
NUMBERS = 10  # instances that are named in a line
BETTER = {"": "", "higher": "higher is better", "lower": "lower is better"}

SplitOption = Annotated[
    str | None,
    typer.Option("--split", metavar="NAME", help="Part of a dataset with splits: train, test.", show_default=False),
]
LimitOption = Annotated[
    int | None,
    typer.Option("--limit", metavar="N", help="Only the first N samples.", show_default=False),
]
PlotOption = Annotated[
    Path | None,
    typer.Option("--plot", metavar="FILE", help="Draw it there: .html, .png, .svg or .pdf.", show_default=False),
]
TaskOption = Annotated[
    str | None,
    typer.Option(
        "--task",
        metavar="NAME",
        help=f"Read labels and outputs as this task: {', '.join(TASKS)}. Recognised by default.",
        show_default=False,
    ),
]
TopKOption = Annotated[
    int | None,
    typer.Option(
        "--top-k",
        metavar="K",
        help="Also count labels among the K highest scores (5 where there are more classes).",
        show_default=False,
    ),
]
IgnoreLabelOption = Annotated[
    int | None,
    typer.Option(
        "--ignore-label",
        metavar="N",
        help="Positions with this label do not count (-100 in sequences and segmentations).",
        show_default=False,
    ),
]


def check_plot(plot: Path | None) -> None:
    """Find out before the work that a chart could not be drawn: raises OptionError or ModelSaveError."""
    if plot is not None:
        check_path(plot)
        writable(plot)


def draw(charts: Sequence[Figure], plot: Path | None) -> None:
    """Write the charts, or say that there are none."""
    if plot is None:
        return
    if not charts:
        warn(f"{plot} is not written: there is nothing to draw for this task")
        return
    write(charts, plot)
    say(f"{plot} written")


def metric_rows(found: Evaluation) -> list[tuple[str, str, str]]:
    """Every metric: label, value, which way is better."""
    return [(metric.label, str(metric), BETTER[metric.direction]) for metric in found]


def class_table(found: Evaluation) -> Table:
    """The metrics of every class, without columns that are not defined for any."""
    columns = [
        [metric for metric in line if metric.name != "iou" or found.task == "segmentation"]
        for line in zip(*(report.metrics() for report in found.per_class), strict=True)
    ]
    kept = [line for line in columns if line and not all(math.isnan(metric.value) for metric in line)]
    rows = [(report.name, *(str(line[i]) for line in kept)) for i, report in enumerate(found.per_class)]
    labels = [line[0].label for line in kept]
    return table("Class by class", ("class", *labels), rows, right=range(1, len(kept) + 1))


def confusion_table(names: Sequence[str], confusion: Ints) -> Table:
    """The matrix, rows are labels and columns predictions; of many classes the most frequent mistakes."""
    if len(names) <= SHOWN:
        rows = [(name, *(str(n) for n in line)) for name, line in zip(names, confusion.tolist(), strict=True)]
        return table("Confusion", ("label \\ taken for", *names), rows, right=range(1, len(names) + 1))
    wrong = confusion * ~np.eye(len(names), dtype=bool)
    most = np.argsort(-wrong, axis=None, kind="stable")[:SHOWN]
    pairs = zip(*(index.tolist() for index in np.unravel_index(most, wrong.shape)), strict=True)
    rows = [(names[i], names[j], str(wrong[i, j])) for i, j in pairs if wrong[i, j]]
    return table("Most frequent mistakes", ("label", "taken for", "times"), rows, right=(2,))


def change_rows(found: Comparison) -> list[tuple[str, str, str, str, str]]:
    """Every metric that both models have: label, before, after, change, verdict."""
    return [(c.before.label, str(c.before), str(c.after), c.text, c.verdict) for c in found.changes]


def class_changes_table(found: Comparison) -> Table:
    """Class by class: support, recall and precision before and after, degenerated and improved instances.

    Of many classes those whose recall fell most.
    """
    fallen = np.argsort([np.nan_to_num(cls.change("recall").delta) for cls in found.per_class], kind="stable")
    many = len(found.per_class) > SHOWN
    shown = [found.per_class[i] for i in fallen[:SHOWN]] if many else found.per_class
    counted = any(cls.degenerated is not None for cls in found.per_class)
    last = ("degenerated", "improved") if counted else ()
    columns = ("class", "support", "recall", "after", "change", "precision", "after", "change", *last)
    rows = [
        (
            cls.name,
            str(cls.support),
            *_both(cls, "recall"),
            *_both(cls, "precision"),
            *((str(cls.degenerated), str(cls.improved)) if counted else ()),
        )
        for cls in shown
    ]
    title = f"The {SHOWN} of {len(found.per_class)} classes whose recall fell most" if many else "Class by class"
    return table(title, columns, rows, right=range(1, len(columns)))


def _both(cls: ClassChange, metric: str) -> tuple[str, str, str]:
    change = cls.change(metric)
    return str(change.before), str(change.after), change.text


def instance_lines(found: Comparison) -> Iterator[str]:
    """How many instances degenerated, improved and changed their class, and the first of them."""
    several = found.after.predictions is None
    told = (
        (
            "degenerated",
            "a smaller share right than before" if several else "right before, wrong after",
            found.degenerated,
        ),
        ("improved", "a larger share right than before" if several else "wrong before, right after", found.improved),
        ("changed their class", "right or wrong", found.moved),
    )
    for what, meaning, rows in told:
        if rows is not None:
            some = ", ".join(str(row) for row in rows[:NUMBERS]) + (", ..." if rows.size > NUMBERS else "")
            share = f"{rows.size / found.after.samples:.1%}"
            yield f"{rows.size} instances ({share}) {what} ({meaning})" + (f": {some}" if rows.size else "")
