"""How many units the model of every step has left."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from onnxprune.errors import OnnxPruneError
from onnxprune.experiment import analyse
from onnxprune.model import load
from onnxprune.plan import Plan
from onnxprune.workspace.values import Step
from onnxprune.workspace.workspace import Workspace

__all__ = ["units_after", "units_by_step", "units_of"]

KEPT = 1 << 16  # counts that are remembered: those of a blob never change


def units_by_step(workspace: Workspace, steps: Iterable[Step]) -> dict[int, int | None]:
    """Step -> units left, of steps that come after their parents; None where the model cannot be taken apart.

    An original and a model that was imported have the units of the groups that can be pruned by default. A plan takes
    its own away, from the units of the groups that it was made for where it is the first on its path. What is masked
    counts as gone; single weights are no units.
    """
    found: dict[int, int | None] = {}
    planned: set[int] = set()  # steps with a plan on their path
    for step in steps:
        if step.plan is not None:
            total, removed = _counts(workspace.blobs.folder, step.plan)
            before = found.get(step.parent or 0)
            base = before if step.parent in planned and before is not None else total
            found[step.number] = base - removed
            planned.add(step.number)
        elif step.parent in found and step.kind != "import":
            found[step.number] = found[step.parent or 0]
            if step.parent in planned:
                planned.add(step.number)
        else:
            found[step.number] = _analysed(workspace.blobs.folder, step.model)
    return found


def units_of(workspace: Workspace, number: int) -> int | None:
    """Units left in the model of one step. Raises StepNotFound, StoreDamaged."""
    return units_by_step(workspace, workspace.steps.path(number))[number]


def units_after(workspace: Workspace, parent: int, plan: str | None) -> int | None:
    """Units that a child of a step has, of which only the blob of its plan is known."""
    path = workspace.steps.path(parent)
    before = units_by_step(workspace, path)[parent]
    if plan is None:
        return before
    total, removed = _counts(workspace.blobs.folder, plan)
    return total - removed if before is None or not any(step.plan for step in path) else before - removed


@lru_cache(KEPT)
def _counts(folder: Path, blob: str) -> tuple[int, int]:
    """Units of the groups of a plan, and how many of them it removes."""
    plan = Plan.load(folder / blob)
    return sum(plan.group_sizes.values()), sum(len(units) for units in plan.units.values())


@lru_cache(KEPT)
def _analysed(folder: Path, blob: str) -> int | None:
    try:
        _, coupling = analyse(load(folder / blob))
    except OnnxPruneError:
        return None
    return sum(group.units for group in coupling.groups)
