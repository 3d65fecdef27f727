"""What all statistics share: the selected step, the one it is compared with, and what is known of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dash_ui.desk import Desk, Kept
from onnxprune.errors import StoreDamaged
from onnxprune.evaluate import kind_of
from onnxprune.workspace.evaluations import Documents, Head, Keep
from onnxprune.workspace.paths import COSTS, Row
from onnxprune.workspace.values import Step
from onnxprune.workspace.workspace import Workspace

__all__ = [
    "COSTS",
    "Focus",
    "Standing",
    "damaged",
    "focus_of",
    "keep_of",
    "metric_rows",
    "quality_names",
    "standing",
    "step_options",
]

KEPT = 4096  # documents and what was made of them: five for each step of a path, and some curves


def keep_of(desk: Desk) -> Keep:
    """Where documents are kept, by the names of their blobs, which never change."""
    return desk.kept.get(("documents of steps",), lambda: Kept(KEPT)).get


@dataclass(frozen=True)
class Focus:
    """``step``: the selected one; ``other``: the one to compare it with, None for none; ``why``: words for that."""

    step: Step
    other: int | None
    why: str


def focus_of(workspace: Workspace, stored: Mapping[str, Any]) -> Focus:
    """From {"step", "other"} of the page. By default a step is compared with its parent. Raises StepNotFound."""
    path = workspace.steps.path(int(stored["step"]))
    step, wanted = path[-1], stored.get("other")
    if wanted is not None and wanted != step.number:
        known = {other.number for other in workspace.steps.all() if other.root == step.root}
        if wanted in known:
            return Focus(step, wanted, _why(step, wanted))
    return Focus(step, step.parent, _why(step, step.parent))


def _why(step: Step, other: int | None) -> str:
    if other is None:
        return "no step before it"
    word = "its parent" if other == step.parent else "the original" if other == step.root else ""
    return f"{word}, #{other}" if word else f"#{other}"


def step_options(workspace: Workspace, step: Step) -> list[dict[str, Any]]:
    """The steps of the tree to compare one with: its parent and the original first."""
    steps = {other.number: other for other in workspace.steps.all() if other.root == step.root}
    first = [n for n in dict.fromkeys((step.parent, step.root)) if n is not None and n != step.number]
    order = [*first, *(n for n in steps if n not in first and n != step.number)]
    return [{"label": _named(steps[n], step), "value": n} for n in order if n in steps]


def _named(other: Step, step: Step) -> str:
    words = [f"#{other.number}", other.kind if other.number != step.root else "original"]
    if other.name and other.number != step.root:
        words.append(other.name)
    if other.number == step.parent:
        words.append("(parent)")
    if other.pinned:
        words.append("(baseline)")
    return " ".join(words)


@dataclass(frozen=True)
class Standing:
    """What is known of how good a step is.

    ``kind``: "classes" (all views have something to show), "numbers" (a regression), "fidelity" (no labels),
    "original" (no labels, and nothing to compare it with), "none" (not measured), "failed", "no data", "damaged".
    ``text`` and ``hint`` are for the person; ``measurable``: measuring it would help.
    """

    kind: str
    text: str = ""
    hint: str = ""
    measurable: bool = False


METRICS_TAB = "What there is to see is on the tab Metrics."


def standing(workspace: Workspace, documents: Documents, step: Step) -> Standing:
    """How a step stands. Raises StoreDamaged."""
    head, number = documents.head(step.number), step.number
    if head is not None:
        return _measured(head)
    problem = workspace.problem(number)
    if problem:
        able = workspace.dataset_name(number) is not None and not workspace.readonly
        hint = "Mend the data or put others that fit into data/, look again, and measure."
        return Standing("failed", f"Step {number} could not be measured: {problem}", hint, able)
    if workspace.dataset_name(number) is None:
        root = workspace.steps.get(step.root)
        for path, why in workspace.files.misfits(root.model_hash).items():
            return Standing("no data", f"{path} does not fit this model.", why)
        hint = "Put samples with labels into data/: an .npz with x and y, or a folder of images for each class."
        return Standing("no data", "There are no data for this model.", hint)
    if step.parent is None and "original" in _needs(workspace, step):
        return Standing(
            "original", "The data have no labels: steps are compared with this original.", "Select a step made of it."
        )
    return Standing(
        "none", f"Step {number} was not measured.", "Measuring takes one pass over the data.", measurable=True
    )


def damaged(workspace: Workspace, focus: Focus, error: StoreDamaged) -> Standing:
    """How a step stands whose documents cannot be read, or those of a step on the path to it."""
    number = focus.step.number
    if not workspace.lost(number):
        return Standing(
            "damaged", "What is known of a step on this path cannot be read.", f"{error.message}. {error.hint}"
        )
    able = not workspace.readonly and workspace.dataset_name(number) is not None
    hint = f"{error.message}. {'Measuring it again writes it anew.' if able else error.hint}"
    return Standing("damaged", f"What was measured of step {number} cannot be read.", hint, able)


def _measured(head: Head) -> Standing:
    if head.classes:
        return Standing("classes")
    if head.task == "fidelity":
        return Standing("fidelity", "These data have no labels, so there is no right and wrong.", METRICS_TAB)
    return Standing("numbers", f"A {head.task} has no classes to confuse.", METRICS_TAB)


def _needs(workspace: Workspace, step: Step) -> set[str]:
    """What the metrics of a tree need: labels, the original."""
    names = {name for other in workspace.steps.all() if other.root == step.root for name in other.metrics}
    return {kind.needs for name in names if (kind := kind_of(name)) is not None}


def quality_names(rows: list[Row]) -> list[str]:
    """The metrics of `tree_rows` or steps that tell how good a model is, and not how large."""
    names = dict.fromkeys(name for row in rows for name in row)
    return [name for name in names if (kind := kind_of(name)) is not None and (kind.needs or name == "latency")]


def metric_rows(workspace: Workspace, number: int) -> list[Row]:
    """A row for each step from the root on, with all of its metrics. Raises StepNotFound."""
    path = workspace.steps.path(number)
    names = list(dict.fromkeys(name for step in path for name in step.metrics))
    return [
        {"step": step.number, "kind": step.kind, "name": step.name} | {name: step.metrics.get(name) for name in names}
        for step in path
    ]
