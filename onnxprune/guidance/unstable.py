"""Units that matter little, in an order that is not sure: low sensitivity and high instability.

Over all units of the model: the mean rank of a unit's sensitivity is among the lowest fifth, and its ranks spread more
than those of half of the units. A unit whose low rank is an accident of the order of training is not needed for sure in
any of them (Li et al., CNNPruner, arXiv:2009.09940).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from onnxprune.guidance.preview import Preview
from onnxprune.guidance.subject import Subject
from onnxprune.guidance.suggestion import Suggestion, made, named

__all__ = ["unstable"]

LOW, MIDDLE = 0.2, 0.5  # shares of all units
MOST = 0.5  # of a group, in one suggestion
SURE = 0.05  # ranks


def unstable(about: Subject, known: Mapping[str, Preview], loss: float) -> Iterator[Suggestion]:
    """One for each group, and one for all of them together."""
    found = about.instability
    if found is None:
        return
    ranks = {g.name: np.asarray(g.mean_rank) for g in found.groups if g.name in about.sizes}
    spread = {g.name: np.asarray(g.instability) for g in found.groups if g.name in about.sizes}
    if not ranks:
        return
    low = float(np.quantile(np.concatenate(list(ranks.values())), LOW))
    middle = float(np.quantile(np.concatenate(list(spread.values())), MIDDLE))
    chosen = {}
    for name, mine in ranks.items():
        gone = np.setdiff1d(np.flatnonzero((mine <= low) & (spread[name] >= middle)), about.drafted.get(name, ()))
        most = int(MOST * about.left(name))
        gone = np.sort(gone[np.argsort(mine[gone], kind="stable")][:most])
        if gone.size:
            chosen[name] = gone
    basis = f"{found.runs} runs on {found.samples} samples"
    for name, gone in chosen.items():
        group = about.coupling.groups[about.coupling.by_name[name]]
        reason = (
            f"{named(group, gone)}: among the least sensitive fifth of the model (mean rank "
            f"{ranks[name][gone].mean():.0f} of {found.units}), {_order(spread[name][gone])} ({basis}): the model does "
            "not rely on them."
        )
        title = f"Remove {gone.size} of {group.units} {group.kind} of {name}"
        one = made(about, Suggestion("unstable", title, reason, 0.6), {name: gone}, known, loss=loss)
        if one is not None:
            yield one
    if len(chosen) > 1:
        count = sum(gone.size for gone in chosen.values())
        reason = (
            f"They rank among the least sensitive fifth of the model, "
            f"{_order(np.concatenate([spread[name][gone] for name, gone in chosen.items()]))} ({basis})."
        )
        title = f"Remove {count} units of {len(chosen)} groups"
        one = made(about, Suggestion("unstable", title, reason, 0.5), chosen, known, loss=loss)
        if one is not None:
            yield one


def _order(spread: NDArray[np.float64]) -> str:
    """How sure the order is. ``spread``: mean absolute deviation of the ranks of each unit over the runs."""
    mean = float(spread.mean())
    return (
        "in the same order in every run"
        if mean < SURE
        else f"in an order that changes by {mean:.1f} ranks between runs"
    )
