"""Cells and clusters: how many units may go from where, so that every equal-count constraint holds exactly.

A *cell* is the units of one group that stand in the same blocks equally often: how many of a cell go matters to the
constraints, which ones does not. A *cluster* is groups that constraints connect. ``fit`` finds, for one cluster, the
numbers per cell that remove the most units within given limits, and among those the nearest to what scores want::

    maximise  2 sum(x) - sum |x - wanted|   over integers 0 <= x <= size, where
    every block of a constraint loses equally many and keeps one, every group keeps one unit,
    the limits hold, and every group keeps a number of channels that rounding allows

Where the constraints leave one direction only (all cells lose equally many: an ordinary grouped convolution) it is
found by counting, otherwise by ``scipy.optimize.milp``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import gcd
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, hstack, vstack
from scipy.sparse.csgraph import connected_components

from onnxprune.values import Coupling, Ints

__all__ = ["Cells", "Cluster", "Limit", "Steps", "cells_of", "fit"]

Bools = NDArray[np.bool_]

RANK_UP_TO = 300  # cells; the rank of a larger system is not looked at
SECONDS = 5.0  # for one cluster; what is not solved by then stays whole


@dataclass(frozen=True)
class Steps:
    """Numbers of units that a group may lose: 0, and first + k * step below ``units``; ``first`` 0: nothing else."""

    units: int
    first: int
    step: int

    @classmethod
    def of(cls, units: int, channels: int, round_to: int) -> Steps:
        """So that the channels kept are a multiple of ``round_to``."""
        step = round_to // gcd(channels, round_to)
        first = units % step or step
        return cls(units, first if first < units else 0, step)

    def allows(self, removed: int) -> bool:
        return removed == 0 or (0 < self.first <= removed < self.units and (removed - self.first) % self.step == 0)

    def table(self) -> Ints:
        """The largest number allowed for every number from 0 to ``units``."""
        wanted = np.arange(self.units + 1)
        if not self.first:
            return np.zeros_like(wanted)
        rounded = self.first + (np.minimum(wanted, self.units - 1) - self.first) // self.step * self.step
        return np.where(rounded < self.first, 0, rounded)


@dataclass(frozen=True, eq=False)
class Cluster:
    """Groups that constraints connect. ``group``: number of the group per cell, among ``groups``.

    ``blocks``: per constraint an array (blocks, cells), how often a unit of the cell stands in the block.
    """

    groups: tuple[int, ...]
    cells: Ints  # numbers of its cells among all
    group: Ints
    size: Ints
    blocks: tuple[Ints, ...]

    @cached_property
    def uniform(self) -> bool:
        """Whether the constraints force every cell to lose the same number."""
        differences = np.concatenate([b[1:] - b[:1] for b in self.blocks])
        if differences.sum(axis=1).any() or self.size.size > RANK_UP_TO:
            return False
        return int(np.linalg.matrix_rank(differences.astype(np.float64))) == self.size.size - 1


@dataclass(frozen=True, eq=False)
class Cells:
    """All cells of a coupling: the cell of every unit (numbered over all groups), their groups, their clusters."""

    cell: Ints
    group: Ints
    size: Ints
    clusters: tuple[Cluster, ...]  # only those with constraints


@dataclass(frozen=True, eq=False)
class Limit:
    """The cells where ``where`` lose at most ``most`` units together."""

    where: Bools
    most: int


def cells_of(coupling: Coupling) -> Cells:
    """Units by the blocks that they stand in."""
    sizes = np.array([g.units for g in coupling.groups], np.int64)
    starts = np.cumsum([0, *sizes])
    owner = np.repeat(np.arange(sizes.size), sizes)
    rows = [
        (c, b, starts[r[:, 0]] + r[:, 1]) for c, k in enumerate(coupling.constraints) for b, r in enumerate(k.blocks)
    ]
    keys = np.random.default_rng(0).integers(1, 2**63, len(rows), dtype=np.uint64)
    signature = np.zeros(owner.size, np.uint64)
    for key, (_, _, units) in zip(keys, rows, strict=True):
        np.add.at(signature, units, key)
    _, first, cell = np.unique(
        np.stack([owner.astype(np.uint64), signature]), axis=1, return_index=True, return_inverse=True
    )
    cell = cell.reshape(-1).astype(np.int64)
    group, size = owner[first], np.bincount(cell, minlength=first.size)
    blocks: list[list[Ints]] = [[] for _ in coupling.constraints]
    for c, _, units in rows:
        blocks[c].append(np.bincount(cell[units], minlength=first.size) // np.maximum(size, 1))
    tables = [np.stack(b) for b in blocks]
    return Cells(cell, group, size, tuple(_clusters(sizes.size, group, size, tables)))


def _clusters(count: int, group: Ints, size: Ints, tables: Sequence[Ints]) -> list[Cluster]:
    if not tables:
        return []
    touched = [np.unique(group[t.any(axis=0)]) for t in tables]
    row = np.concatenate([np.full(t.size, c + count) for c, t in enumerate(touched)])
    links = coo_array((np.ones(row.size), (row, np.concatenate(touched))), (count + len(tables),) * 2)
    _, label = connected_components(links, directed=False)
    result = []
    for one in np.unique(label[count:]):
        groups = np.flatnonzero(label[:count] == one)
        cells = np.flatnonzero(np.isin(group, groups))
        mine = tuple(t[:, cells] for c, t in enumerate(tables) if label[count + c] == one)
        if cells.size:
            result.append(
                Cluster(tuple(groups.tolist()), cells, np.searchsorted(groups, group[cells]), size[cells], mine)
            )
    return result


def fit(cluster: Cluster, wanted: Ints, limits: Sequence[Limit], steps: Sequence[Steps]) -> Ints:
    """Units to remove per cell of the cluster. ``steps``: of each of its groups. All zeros always fits."""
    if not wanted.any():
        return np.zeros_like(wanted)
    if cluster.uniform:
        return _count_down(cluster, limits, steps)
    return _solve(cluster, wanted, limits, steps)


def _count_down(cluster: Cluster, limits: Sequence[Limit], steps: Sequence[Steps]) -> Ints:
    for each in range(int(cluster.size.min()), 0, -1):
        x = np.full(cluster.size.size, each)
        if _fits(cluster, x, limits, steps):
            return x
    return np.zeros(cluster.size.size, np.int64)


def _fits(cluster: Cluster, x: Ints, limits: Sequence[Limit], steps: Sequence[Steps]) -> bool:
    lost = [b @ x for b in cluster.blocks]
    whole = [b @ cluster.size for b in cluster.blocks]
    return (
        all(np.ptp(loss) == 0 and (loss < np.maximum(full, 1)).all() for loss, full in zip(lost, whole, strict=True))
        and all(s.allows(int(x[cluster.group == g].sum())) for g, s in enumerate(steps))
        and all(int(x[limit.where].sum()) <= limit.most for limit in limits)
        and bool(((x >= 0) & (x <= cluster.size)).all())
    )


def _solve(cluster: Cluster, wanted: Ints, limits: Sequence[Limit], steps: Sequence[Steps]) -> Ints:
    """Variables: x per cell, its distance from what is wanted, then per group: anything lost, and number of steps.

    All of them are whole numbers: HiGHS has its own, noisy way with a rest that is not.
    """
    n, g = cluster.size.size, len(steps)
    eye, none = coo_array(np.eye(n)), coo_array((n, 2 * g))
    rows: list[Any] = [hstack([eye, -eye, none]), hstack([-eye, -eye, none])]
    low: list[NDArray[Any]] = [np.full(2 * n, -np.inf)]
    high: list[NDArray[Any]] = [np.concatenate([wanted, -wanted])]

    def add(x: NDArray[Any], least: float, most: NDArray[Any] | float, tail: NDArray[Any] | None = None) -> None:
        x = np.atleast_2d(x)
        tail = np.zeros((len(x), 2 * g)) if tail is None else tail
        rows.append(coo_array(np.concatenate([x, np.zeros((len(x), n)), tail], axis=1)))
        low.append(np.full(len(x), least))
        high.append(np.broadcast_to(most, len(x)))

    for blocks in cluster.blocks:
        add(blocks[1:] - blocks[:1], 0, 0)
        add(blocks, 0, np.maximum(blocks @ cluster.size - 1, 0))
    for limit in limits:
        add(limit.where, 0, limit.most)
    for k, step in enumerate(steps):
        mine = cluster.group == k
        add(mine, 0, step.units - 1)
        tail = np.zeros((2, 2 * g))
        tail[:, k], tail[:, g + k] = (-step.first, -step.units), (-step.step, 1)
        add(mine.astype(float), 0, 0, tail[:1])
        add(np.zeros(n), -np.inf, 0, tail[1:])
    upper = np.concatenate([cluster.size, np.full(n, np.inf), [s.first > 0 for s in steps], [s.units for s in steps]])
    from scipy.optimize import Bounds, LinearConstraint, milp  # noqa: PLC0415 - a tenth of the time to start, rarely needed

    found = milp(
        np.concatenate([np.full(n, -2.0), np.ones(n), np.zeros(2 * g)]),
        integrality=np.ones(2 * (n + g)),
        bounds=Bounds(0, upper),
        constraints=LinearConstraint(vstack(rows).tocsc(), np.concatenate(low), np.concatenate(high)),
        options={"time_limit": SECONDS},
    )
    if found.x is None:
        return np.zeros(n, np.int64)
    x = np.rint(found.x[:n]).astype(np.int64)
    return x if _fits(cluster, x, limits, steps) else np.zeros(n, np.int64)
