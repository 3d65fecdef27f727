"""What the commands of a workspace share: its folder, a step by number or name, and a step in words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from onnxprune.cli.console import count, megabytes
from onnxprune.evaluate import kind_of, measured
from onnxprune.workspace.values import Step
from onnxprune.workspace.workspace import Workspace

__all__ = ["FolderOption", "StepArgument", "describe", "document", "figure", "opened"]

FolderOption = Annotated[
    Path, typer.Option("--folder", metavar="DIR", help="The workspace: the folder with the models.")
]
StepArgument = Annotated[
    str, typer.Argument(metavar="STEP", help="The step, by its number or name.", show_default=False)
]


@contextmanager
def opened(folder: Path, *, scan: bool = False) -> Iterator[Workspace]:
    """The workspace of a folder; ``scan``: with what came, changed or went since it was opened the last time."""
    with Workspace.open(folder, scan=scan) as workspace:
        yield workspace


def document(step: Step) -> dict[str, Any]:
    """A step, for ``--json``."""
    return dict(vars(step))


def figure(step: Step, metric: str | None) -> str:
    """A metric of a step as a person reads it; "-" where it was not measured."""
    value = None if metric is None else step.metrics.get(metric)
    if metric is None or value is None:
        return "-"
    if metric.endswith("_bytes"):
        return megabytes(value)
    if metric in ("parameters", "nonzero", "macs"):
        return count(value)
    return str(measured(metric, value)) if kind_of(metric) is not None else f"{value:.4g}"


def describe(step: Step, root: Step | None, metric: str | None) -> str:
    """One line: ``#3 prune half, accuracy 98.20%, 25.8% of the parameters``."""
    words = [" ".join(filter(None, (f"#{step.number}", step.kind, step.name)))]
    if metric is not None and metric in step.metrics:
        words.append(f"{metric} {figure(step, metric)}")
    here, whole = step.metrics.get("parameters"), None if root is None else root.metrics.get("parameters")
    if here is not None and whole and root is not step:
        words.append(f"{here / whole:.1%} of the parameters")
    elif here is not None:
        words.append(f"{count(here)} parameters")
    marks = {"baseline": step.pinned, "in the trash": step.trashed, "DAMAGED": bool(step.damaged)}
    return ", ".join([*words, *(mark for mark, there in marks.items() if there)])
