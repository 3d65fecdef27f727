"""What the tree says about its steps without reading a model: units that are left, whether a training converged.

Both follow from documents that never change, so that whoever draws a tree reads those of a step once.

Units: a plan names the groups of the model that it was made for and the units that go; what a step has left is what its
parent had, less what its plan removes. An original has what an analysis found, or what the plans below it name.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.errors import OnnxPruneError
from onnxprune.train.stops import DELTA, TARGET
from onnxprune.workspace.values import Step
from onnxprune.workspace.workspace import Workspace

__all__ = ["Fact", "Removal", "converged", "fact_of", "proof_words", "units_left"]

Alive = Mapping[str, NDArray[np.bool_]]
STILL = 0.2  # of the epochs: with the best one so far before the last one, a training has nothing more to give
STILL_EPOCHS = 2


@dataclass(frozen=True)
class Removal:
    """What a plan removes. ``sizes``: units of each group of the model before; ``removed``: numbers of those that go.

    ``masked``: they are zeroed, and stay where they are.
    """

    sizes: Mapping[str, int]
    removed: Mapping[str, Sequence[int]]
    masked: bool = False


@dataclass(frozen=True)
class Fact:
    """What the documents of a step tell. ``removal``: None without a plan. ``converged``: None without a training.

    ``epochs``: of the training. ``stopped``: why it ended. ``proof``: what was proven of a removal, in words.
    """

    removal: Removal | None = None
    converged: bool | None = None
    epochs: int = 0
    stopped: str = ""
    proof: str = ""


def fact_of(workspace: Workspace, step: Step) -> Fact:
    """Read the plan and the report of a step; what is damaged tells nothing."""
    report = _read(workspace, workspace.steps.documents(step.number).get("report"))
    removal = None if step.plan is None else _removal(_read(workspace, step.plan), step)
    if "best_epoch" not in report:
        return Fact(removal, proof=proof_words(report))
    return Fact(removal, converged(report), int(report.get("epochs") or 0), str(report.get("stopped", "")))


def converged(report: Mapping[str, Any]) -> bool:
    """Whether a training had nothing more to give, by its report (``stopped``, ``best_epoch``, ``epochs``).

    True where it stopped because the loss stood still or the target was met, and where the best epoch lies at least a
    fifth of all epochs, and two, before the last one. A training that ran out of epochs or time while it still got
    better, or that diverged, did not converge.
    """
    if report.get("stopped") in (DELTA, TARGET):
        return True
    epochs, best = int(report.get("epochs") or 0), report.get("best_epoch")
    return best is not None and epochs - int(best) >= max(STILL_EPOCHS, STILL * epochs)


def proof_words(report: Mapping[str, Any]) -> str:
    """What a step's report says of its proof; "" where nothing was proven."""
    words = []
    proof, zeroed = report.get("proof"), report.get("zeroed")
    if proof and proof.get("ok"):
        how = f"to {proof['error']:.1e}" if proof.get("error") else "exactly"
        words.append(f"proven: masked and removed agree {how}")
    if zeroed:
        went = zeroed["named"] - zeroed["left"]
        along = f", {went:,} went with their unit" if went else ""
        words.append(f"{zeroed['left']:,} single weights are zero as planned{along}, all others are what they were")
    return "; ".join(words)


def units_left(
    steps: Iterable[Step], facts: Mapping[int, Fact], counted: Mapping[str, Mapping[str, int]] | None = None
) -> dict[int, dict[str, int] | None]:
    """Units by group that each step has left, None where nothing tells.

    ``steps``: in the order of making, parents included. ``counted``: hash of a model -> units by group, of an analysis.
    """
    listed = list(steps)
    named = _named_below(listed, facts)
    alive: dict[int, Alive] = {}
    for step in listed:
        removal = facts[step.number].removal if step.number in facts else None
        above = alive.get(step.parent) if step.parent is not None else None
        if above is None or (step.kind == "import" and removal is None):
            sizes = {**(counted or {}).get(step.model_hash, {}), **named[step.number]}
            alive[step.number] = {name: np.ones(size, np.bool_) for name, size in sizes.items()}
        else:
            alive[step.number] = above if removal is None else _less(above, removal)
    return {
        number: {name: int(there.sum()) for name, there in groups.items()} or None for number, groups in alive.items()
    }


def _named_below(steps: Sequence[Step], facts: Mapping[int, Fact]) -> dict[int, dict[str, int]]:
    """Groups of each step's model, as the plans of its descendants name them."""
    named: dict[int, dict[str, int]] = {step.number: {} for step in steps}
    for step in reversed(steps):
        removal = facts[step.number].removal if step.number in facts else None
        if step.parent not in named or (step.kind == "import" and removal is None):
            continue
        above = named[step.parent]
        for name, size in (removal.sizes if removal is not None else {}).items():
            above[name] = size
        for name, size in named[step.number].items():
            above.setdefault(name, size)
    return named


def _less(above: Alive, removal: Removal) -> Alive:
    """Units after a removal; a group of another size than expected counts as whole before it."""
    found = dict(above)
    for name, removed in removal.removed.items():
        there = found.get(name)
        if there is None or there.size != removal.sizes[name]:
            there = np.ones(removal.sizes[name], np.bool_)
        gone = np.asarray(removed, np.int64)
        if removal.masked:
            there = there.copy()
            there[gone] = False
        else:
            there = np.delete(there, gone)
        found[name] = there
    return found


def _removal(plan: Mapping[str, Any], step: Step) -> Removal:
    groups = plan.get("groups") or {}
    return Removal(
        {name: int(entry["units"]) for name, entry in groups.items()},
        {name: entry["removed"] for name, entry in groups.items() if entry["removed"]},
        "mode=mask" in step.command,
    )


def _read(workspace: Workspace, blob: str | None) -> dict[str, Any]:
    """An object of JSON; an empty one where there is none that could be read."""
    if blob is None:
        return {}
    try:
        found = json.loads(workspace.blobs.read(blob))
    except (OnnxPruneError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
