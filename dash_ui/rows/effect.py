"""What settings would come to, estimated before anything is done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from dash_ui.desk import Desk
from onnxprune.allocate import Budget, allocate
from onnxprune.cost import CostModel
from onnxprune.criteria import score_weights
from onnxprune.errors import OnnxPruneError
from onnxprune.guidance import is_quick, kept_scores, score_now
from onnxprune.values import Coupling
from onnxprune.workspace.values import Step
from onnxprune.workspace.workspace import Workspace

__all__ = ["Effect", "effect_of", "group_rows"]

BUDGET = {field.name for field in fields(Budget)}


@dataclass(frozen=True)
class Effect:
    """What would go. Shares are of what the step has now; ``problem`` tells why there is no estimate.

    ``exact``: the counts hold; otherwise they are what a removal by count would take, for want of scores.
    """

    units: int = 0
    of: int = 0
    parameters_left: float | None = None
    macs_left: float | None = None
    groups: Mapping[str, int] | None = None
    exact: bool = True
    problem: str = ""
    hint: str = ""


def effect_of(desk: Desk, workspace: Workspace, step: Step, given: Mapping[str, Any]) -> Effect:
    """The effect of a pruning with these options of ``ws prune``; what it measures (floors, latency) is left out."""
    if given.get("target_latency") is not None:
        return Effect(problem="A latency target is measured while pruning.", hint="Nothing can be said beforehand.")
    criterion = str(given.get("criterion", "l2"))
    try:
        _, coupling = desk.analysis(workspace, step)
        budget = Budget(**{"round_to": 1, **{name: value for name, value in given.items() if name in BUDGET}})
        if given.get("granularity", "weight" if given.get("pattern") else "unit") == "weight":
            return _of_weights(desk, workspace, step, criterion, budget)
        found = score_now(workspace, step.number, criterion) if is_quick(criterion) else kept_scores(
            workspace, step.number, criterion
        )  # fmt: skip
        known = found is not None
        scores = score_now(workspace, step.number) if found is None else found
        plan, _ = allocate(coupling, scores, budget)
    except OnnxPruneError as error:
        return Effect(problem=error.message, hint=error.hint)
    costs = desk.kept.get(("cost model", step.model_hash), lambda: CostModel(coupling))
    before, after = costs.before, costs.after(plan.units)
    counts = {name: len(gone) for name, gone in plan.units.items()}
    return Effect(
        sum(counts.values()), sum(group.units for group in coupling.groups), after.parameters / before.parameters,
        after.macs / before.macs if before.macs else None, counts, known or budget.spread == "uniform",
    )  # fmt: skip


def _of_weights(desk: Desk, workspace: Workspace, step: Step, criterion: str, budget: Budget) -> Effect:
    """Of single weights only the non-zero ones grow fewer."""
    model, coupling = desk.analysis(workspace, step)
    if not is_quick(criterion):
        return Effect(problem=f"{criterion} scores single weights on data.", hint="Nothing can be said beforehand.")
    plan, _ = allocate(coupling, score_weights(model, coupling, criterion), budget)
    gone = sum(int(mask.sum()) for mask in plan.weights.values())
    whole = sum(mask.size for mask in plan.weights.values())
    return Effect(gone, whole, 1.0, 1.0, None)


def group_rows(coupling: Coupling, costs: CostModel) -> list[dict[str, Any]]:
    """A row for each group: name, units and their word, and what share of the parameters and MACs lies in it."""
    before = costs.before
    return [
        {
            "group": group.name,
            "units": group.units,
            "kind": group.kind,
            "parameters": found.parameters / max(before.parameters, 1),
            "macs": found.macs / max(before.macs, 1),
            "ratio": None,
            "locked": False,
        }
        for group, found in zip(coupling.groups, costs.groups, strict=True)
    ]
