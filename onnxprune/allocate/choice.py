"""All units in one row, in the order in which they go, and what rounding and constraints make of a beginning of it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from onnxprune.allocate.balance import Limit, Steps, cells_of, fit
from onnxprune.allocate.budget import Budget
from onnxprune.allocate.knapsack import Slopes, knapsack_order
from onnxprune.allocate.layers import producers
from onnxprune.allocate.levels import Levels, erk_levels, preset_levels, sensitivity_levels, uniform_levels
from onnxprune.allocate.presets import group_rates, suggest_ratios
from onnxprune.allocate.quantities import share
from onnxprune.allocate.scaling import lamp, matrices, normalised
from onnxprune.criteria.base import UnitScores
from onnxprune.errors import DataError
from onnxprune.values import Coupling, Ints

__all__ = ["Choice"]

Bools = NDArray[np.bool_]

BLOCKS = 2  # that a group has at least, where the step is the machine's
Floats = NDArray[np.float64]


class Choice:
    """Which units go when so many of those that compete with each other are wanted.

    ``asked``: what goes by a ratio of its own. ``free``: the units that compete. ``slopes`` and ``wanted`` (target ->
    share kept): needed for a knapsack.
    """

    def __init__(
        self,
        coupling: Coupling,
        scores: UnitScores,
        budget: Budget,
        round_to: int,
        *,
        slopes: Slopes | None = None,
        wanted: dict[str, float] | None = None,
    ) -> None:
        self.coupling, self.budget, self.slopes, self.wanted = coupling, budget, slopes, wanted or {}
        self.sizes = np.array([g.units for g in coupling.groups], np.int64)
        self.starts = np.cumsum([0, *self.sizes])
        self.group = np.repeat(np.arange(self.sizes.size), self.sizes)
        self.scores = np.concatenate([_checked(scores, g.name, g.units) for g in coupling.groups])
        self.cells = cells_of(coupling)
        self.rank = _rank(self.group, self.scores)  # 0 goes first
        self.rank_in_cell = _rank(self.cells.cell, self.scores)
        by_default = budget.round_to is None
        self.steps = [
            Steps.of(g.units, g.channels, narrowed(g.units * g.channels, round_to) if by_default else round_to)
            for g in coupling.groups
        ]
        ratios = _ratios(coupling, budget)
        self.open = np.array([r is None for r in ratios], np.bool_)  # groups that compete with each other
        asked = np.array([share(r or 0.0, n) for r, n in zip(ratios, self.sizes.tolist(), strict=True)], np.int64)
        self.asked = self.rank < np.minimum(asked, self.sizes - 1)[self.group]
        self.free = self.open[self.group]
        self._fitted: dict[tuple[int, bool, bytes], Ints] = {}

    @cached_property
    def order(self) -> Ints:
        """The units that compete, in the order in which they go; the best of each group is not among them."""
        candidates = np.flatnonzero(self.free & (self.rank < self.sizes[self.group] - 1))
        if self.budget.spread == "knapsack" and self.slopes is not None:
            return knapsack_order(self.slopes, self.wanted, self._worth(), self.group, self.asked, candidates)
        key = self._keys()[candidates]
        candidates, key = candidates[np.isfinite(key)], key[np.isfinite(key)]
        return candidates[np.lexsort((self.scores[candidates], key))]

    def _worth(self) -> Floats:
        """What a unit is worth in a knapsack: its share of what is left of its group, times its matrices."""
        parts = np.split(self.scores, self.starts[1:-1])
        counts = matrices(self.coupling)
        return np.concatenate([count * lamp(part) for part, count in zip(parts, counts, strict=True)])

    def _keys(self) -> Floats:
        """Per unit of all groups: the smaller, the earlier; infinite for what never goes."""
        spread = self.budget.spread
        parts = np.split(self.scores, self.starts[1:-1])
        if spread == "global":
            return np.asarray(np.minimum(self.scores, np.finfo(np.float64).max))
        if spread == "lamp":
            return np.concatenate([lamp(part) for part in parts])
        if spread == "normalised-global":
            return np.concatenate([normalised(part) for part in parts])
        levels = self._levels()
        return levels(self.group, (self.rank + 1) / self.sizes[self.group])

    def _levels(self) -> Levels:
        names, budget = [g.name for g in self.coupling.groups], self.budget
        if budget.spread == "erk":
            shapes = self.coupling.graph.weights
            made_by = producers(self.coupling)
            return erk_levels([[shapes[t].shape for t in made_by[name]] for name in names])
        if budget.spread == "preset":
            rates = group_rates(self.coupling, budget.preset)
            return preset_levels([rates[name] for name in names])
        if budget.spread == "sensitivity" and budget.sensitivity is not None:
            needed = (self.open & (self.sizes > 1)).tolist()
            return sensitivity_levels(budget.sensitivity, names, needed)
        return uniform_levels()

    @cached_property
    def _tables(self) -> tuple[Ints, Ints]:
        """Rounded number for every number of units of every group, one after the other, and where each begins."""
        tables = [s.table() for s in self.steps]
        return np.concatenate(tables), np.cumsum([0, *(t.size for t in tables)])

    def nearest(self, count: int) -> int:
        """How many to want so that up to ``count`` go, where constraints take some of them back (before rounding)."""
        low, high = count, self.order.size + 1
        while self.cells.clusters and high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._taken(middle) <= count else (low, middle)
        return low

    def _taken(self, count: int) -> int:
        return int((self.gone(count, rounded=False) & self.free).sum())

    def gone(self, count: int, *, rounded: bool = True) -> Bools:
        """The units that go when ``count`` of those that compete are wanted: rounded, balanced, lowest first."""
        selected = self.asked.copy()
        selected[self.order[:count]] = True
        wanted = np.bincount(self.cells.cell[selected], minlength=self.cells.size.size)
        table, begins = self._tables
        x = table[begins[self.cells.group] + wanted] if rounded else wanted.copy()
        for number, cluster in enumerate(self.cells.clusters):
            x[cluster.cells] = self._fit(number, wanted[cluster.cells], rounded=rounded)
        return np.asarray(self.rank_in_cell < x[self.cells.cell])

    def filled(self, gone: Bools, meets: Callable[[Bools], bool]) -> Bools:
        """Fewer units than these, where targets leave room: blocks come back, those that went last before others.

        Groups with constraints stay as they are.
        """
        tied = {group for cluster in self.cells.clusters for group in cluster.groups}
        last = np.full(self.sizes.size, -1)  # place in the order of the last unit that went, by group
        taken = np.flatnonzero(gone[self.order])
        np.maximum.at(last, self.group[self.order[taken]], taken)
        for group in np.argsort(-last, kind="stable")[: int((last >= 0).sum())].tolist():
            removed = int(gone[self.group == group].sum())
            allowed = [] if group in tied else [n for n in range(removed) if self.steps[group].allows(n)]
            for fewer in reversed(allowed):
                trial = gone & ~((self.group == group) & (self.rank >= fewer))
                if not meets(trial):
                    break
                gone = trial
        return gone

    def _fit(self, number: int, wanted: Ints, *, rounded: bool) -> Ints:
        """Groups that compete share one limit, the others have their own."""
        key = (number, rounded, wanted.tobytes())
        if key not in self._fitted:
            cluster = self.cells.clusters[number]
            competes = self.open[np.array(cluster.groups)][cluster.group]
            limits = [Limit(competes, int(wanted[competes].sum()))]
            for k, group in enumerate(cluster.groups):
                if not self.open[group]:
                    mine = cluster.group == k
                    limits.append(Limit(mine, int(wanted[mine].sum())))
            steps = [self.steps[g] if rounded else Steps(int(self.sizes[g]), 1, 1) for g in cluster.groups]
            self._fitted[key] = fit(cluster, wanted, limits, steps)
        return self._fitted[key]


def _ratios(coupling: Coupling, budget: Budget) -> list[float | None]:
    """The ratio that is set for each group; None where the groups compete."""
    ratios = [budget.ratio_of(g.name) for g in coupling.groups]
    if budget.spread == "preset" and budget.ratio is None and not budget.has_target:
        preset = suggest_ratios(coupling, budget.preset, budget.preset_step)
        ratios = [preset[g.name] if r is None else r for g, r in zip(coupling.groups, ratios, strict=True)]
    return ratios


def _rank(part: Ints, scores: Floats) -> Ints:
    """Position of every unit among those of its part, lowest score first, ties by position."""
    order = np.lexsort((scores, part))
    counts = np.bincount(part)
    rank = np.empty(part.size, np.int64)
    rank[order] = np.arange(part.size) - np.repeat(np.cumsum(counts) - counts, counts)
    return rank


def narrowed(channels: int, step: int) -> int:
    """The machine's step for a group of so many channels: halved until the group has two blocks of it.

    Otherwise rounding would keep narrow groups whole, whatever ratio is asked.
    """
    while step > 1 and channels < BLOCKS * step:
        step //= 2
    return step


def _checked(scores: UnitScores, group: str, units: int) -> Floats:
    values = scores.get(group)
    if values is None or values.shape != (units,) or np.isnan(values).any():
        got = "none" if values is None else "NaN among them" if values.shape == (units,) else f"shape {values.shape}"
        raise DataError(
            f"the scores of group {group!r}: got {got}, expected {units} numbers",
            "Score this model again, with the options that its groups were found with.",
        )
    return values
