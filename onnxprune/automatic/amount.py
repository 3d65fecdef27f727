"""How many units of which group go when so many go in all.

By default every group loses the same share (local scope): of R units out of N, group g with n of them loses R n / N,
rounded down, and those with the largest remainders one more (the method of Hamilton), so that exactly R go. Every group
keeps one unit. With another scope or distribution `allocate` chooses by the scores, and the ratio says how many.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from onnxprune.allocate.quantities import share
from onnxprune.values import Coupling

__all__ = ["amounts", "free_units", "removal_options", "wanted_after"]


def free_units(coupling: Coupling, skip: tuple[str, ...] = ()) -> dict[str, int]:
    """Group -> its units, of those groups that can lose one."""
    return {g.name: g.units for g in coupling.groups if g.units > 1 and g.name not in skip}


def wanted_after(ratio: float, units: int) -> int:
    """How many are left when a share goes: at least one goes."""
    return units - max(share(ratio, units), 1)


def amounts(sizes: Mapping[str, int], count: int) -> dict[str, int]:
    """Group -> how many go, ``count`` in all, or as many as can go."""
    names = list(sizes)
    total = np.array([sizes[name] for name in names], np.int64)
    count = min(count, int((total - 1).sum()))
    if count <= 0:
        return dict.fromkeys(names, 0)
    asked = count * total / total.sum()
    gone = np.minimum(np.floor(asked + 1e-9).astype(np.int64), total - 1)
    while (left := count - int(gone.sum())) > 0:
        open_ = np.flatnonzero(gone < total - 1)
        order = open_[np.lexsort((open_, gone[open_] - asked[open_]))]
        gone[order[:left]] += 1
    return dict(zip(names, gone.tolist(), strict=True))


def removal_options(coupling: Coupling, count: int, chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Options of ``prune`` by which ``count`` units go; empty where none can. ``chosen``: what a person chose."""
    sizes = free_units(coupling, tuple(chosen.get("skip") or ()))
    if not sizes:
        return {}
    if chosen.get("scope", "local") == "local" and chosen.get("distribution") in (None, "uniform"):
        gone = {name: number for name, number in amounts(sizes, count).items() if number}
        return {"group_ratios": {name: number / sizes[name] for name, number in gone.items()}} if gone else {}
    competing = sum(g.units for g in coupling.groups if g.name not in (chosen.get("skip") or ()))
    return {"ratio": min(count / competing, 1.0)}
