"""Plans to test surgery with: about half of every group, balanced where blocks must lose equally many."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from onnxprune.plan import Plan
from onnxprune.values import Coupling, Ints

__all__ = ["half"]


def half(coupling: Coupling, seed: int = 0, ratio: float = 0.5) -> Plan:
    """Remove about ``ratio`` of the units of every group, at random, at least one kept everywhere."""
    rng = np.random.default_rng(seed)
    starts = np.cumsum([0, *(g.units for g in coupling.groups)])
    counts = _counts(coupling, starts)
    gone = np.zeros(starts[-1], np.bool_)
    budget = [int(g.units * ratio) if g.units > 1 else 0 for g in coupling.groups]
    for number, group in enumerate(coupling.groups):
        mine = starts[number] + rng.permutation(group.units)
        for unit in mine:
            if gone[starts[number] : starts[number + 1]].sum() >= budget[number]:
                break
            if gone[unit]:
                continue
            bundle = _balanced(counts, gone, int(unit), rng)
            if bundle is not None and _leaves_some(starts, gone, bundle):
                gone[bundle] = True
    units = {g.name: np.flatnonzero(gone[a:b]) for g, a, b in zip(coupling.groups, starts, starts[1:], strict=False)}
    return Plan(
        model_hash=coupling.model_hash,
        units=units,
        group_sizes={g.name: g.units for g in coupling.groups},
        options=coupling.options,
    )


def _counts(coupling: Coupling, starts: Ints) -> list[Ints]:
    """Per constraint: elements that each unit has in each block, shape (blocks, units)."""
    result = []
    for constraint in coupling.constraints:
        table = np.zeros((len(constraint.blocks), int(starts[-1])), np.int64)
        for row, block in zip(table, constraint.blocks, strict=True):
            np.add.at(row, starts[block[:, 0]] + block[:, 1], 1)
        result.append(table)
    return result


def _balanced(counts: list[Ints], gone: np.ndarray, first: int, rng: np.random.Generator) -> Ints | None:
    """``first`` and as few others as it takes for every constraint to hold; None where that does not work out."""
    bundle = [first]
    for _ in range(64):
        worst = None
        for table in counts:
            lost = table[:, bundle].sum(axis=1)
            if lost.max() > lost.min():
                worst = table, int(lost.argmin())
                break
        if worst is None:
            return np.array(bundle)
        table, block = worst
        free = np.flatnonzero((table[block] > 0) & ~gone)
        free = np.setdiff1d(free, bundle)
        if not free.size:
            return None
        score = [sum(np.ptp(t[:, [*bundle, int(u)]].sum(axis=1)) for t in counts) for u in free]
        best = free[np.asarray(score) == min(score)]
        bundle.append(int(rng.choice(best)))
    return None


def _leaves_some(starts: Ints, gone: np.ndarray, bundle: Ints) -> bool:
    after = gone.copy()
    after[bundle] = True
    return all(not after[a:b].all() for a, b in pairwise(starts))
