"""Whole units: the lowest scores go, by a ratio per group, by one threshold, or until a target is met."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from onnxprune.alignment import default_step
from onnxprune.allocate.balance import Limit, Steps, cells_of, fit
from onnxprune.allocate.budget import Budget, Reached, check_names, share, target
from onnxprune.cost import Cost, CostModel, cost
from onnxprune.criteria.base import UnitScores
from onnxprune.errors import BudgetError, DataError, NothingToPrune
from onnxprune.plan import Plan
from onnxprune.values import Coupling, Ints

__all__ = ["allocate_units"]

Bools = NDArray[np.bool_]


def allocate_units(coupling: Coupling, scores: UnitScores, budget: Budget) -> tuple[Plan, Reached]:
    """Remove the units with the lowest scores, within the budget. See `allocate`."""
    check_names((*budget.group_ratios, *budget.skip), coupling.by_name)
    if not coupling.groups:
        raise NothingToPrune(f"No unit of this model can be removed.{_frozen(coupling)}", "See `onnxprune inspect`.")
    step = budget.round_to if budget.round_to is not None else default_step()
    choice = _Choice(coupling, scores, budget, step)
    model = CostModel(coupling)
    if budget.has_target:
        gone = _reach(choice, model, _wanted(coupling, model, budget))
    else:
        gone = choice.gone(choice.nearest(share(budget.ratio or 0.0, int(choice.free.sum()))))
    if not gone.any():
        raise NothingToPrune(f"No unit goes.{_why(coupling, budget, choice)}", _HINT)
    parts = np.split(gone, choice.starts[1:-1])
    units = {g.name: np.flatnonzero(part) for g, part in zip(coupling.groups, parts, strict=True)}
    reached = Reached(
        asked=budget.as_dict(),
        removed=int(gone.sum()),
        total=gone.size,
        groups={g.name: (int(units[g.name].size), g.units) for g in coupling.groups},
        round_to=step,
        before=model.before,
        after=model.after_mask(gone),
    )
    return _plan(coupling, units, scores, budget, step), reached


_HINT = "Ask for more, or for less rounding (round_to=1)."


class _Choice:
    """All units in one row, in the order in which they go, and what the constraints make of it."""

    def __init__(self, coupling: Coupling, scores: UnitScores, budget: Budget, round_to: int) -> None:
        self.coupling = coupling
        self.sizes = np.array([g.units for g in coupling.groups], np.int64)
        self.starts = np.cumsum([0, *self.sizes])
        self.group = np.repeat(np.arange(self.sizes.size), self.sizes)
        self.scores = np.concatenate([_checked(scores, g.name, g.units) for g in coupling.groups])
        self.local = budget.scope == "local"
        self.cells = cells_of(coupling)
        self.rank = _rank(self.group, self.scores)  # 0 goes first
        self.rank_in_cell = _rank(self.cells.cell, self.scores)
        self.steps = [Steps.of(g.units, g.channels, round_to) for g in coupling.groups]
        ratios = [budget.ratio_of(g.name) for g in coupling.groups]
        self.open = np.array([r is None for r in ratios], np.bool_)  # groups that compete with each other
        asked = np.array([share(r or 0.0, n) for r, n in zip(ratios, self.sizes.tolist(), strict=True)], np.int64)
        self.asked = self.rank < np.minimum(asked, self.sizes - 1)[self.group]
        self.free = self.open[self.group]
        self._fitted: dict[tuple[int, bool, bytes], Ints] = {}

    @cached_property
    def order(self) -> Ints:
        """The units that compete, in the order in which they go; the best of each group is not among them.

        With one threshold over all groups (``global``) the lowest score goes first. With ``local`` every group
        shrinks at the same pace: the unit goes first that comes earliest in its own group, relative to its size.
        """
        candidates = np.flatnonzero(self.free & (self.rank < self.sizes[self.group] - 1))
        pace = (
            (self.rank[candidates] + 1) / self.sizes[self.group[candidates]] if self.local else self.scores[candidates]
        )
        return candidates[np.lexsort((self.scores[candidates], pace))]

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


def _rank(part: Ints, scores: NDArray[np.float64]) -> Ints:
    """Position of every unit among those of its part, lowest score first, ties by position."""
    order = np.lexsort((scores, part))
    counts = np.bincount(part)
    rank = np.empty(part.size, np.int64)
    rank[order] = np.arange(part.size) - np.repeat(np.cumsum(counts) - counts, counts)
    return rank


def _checked(scores: UnitScores, group: str, units: int) -> NDArray[np.float64]:
    values = scores.get(group)
    if values is None or values.shape != (units,) or np.isnan(values).any():
        got = "none" if values is None else "NaN among them" if values.shape == (units,) else f"shape {values.shape}"
        raise DataError(
            f"the scores of group {group!r}: got {got}, expected {units} numbers",
            "Score this model again, with the options that its groups were found with.",
        )
    return values


def _wanted(coupling: Coupling, model: CostModel, budget: Budget) -> dict[str, tuple[float, int]]:
    """Per target what was asked, as a share, and the number that must not be passed in the analysis' sizes."""
    result = {}
    for option, attribute in (("target_params", "parameters"), ("target_macs", "macs")):
        part, absolute = target(option, getattr(budget, option))
        now = getattr(model.before, attribute)
        if absolute is not None:
            fixed = dict(coupling.options.shapes)
            whole = cost(coupling.graph.model, shapes=fixed, count_nonzero=False)
            part = absolute / max(getattr(whole, attribute), 1)
        if part is not None:
            result[option] = (part, int(part * now + 1e-6))
    return result


def _reach(choice: _Choice, model: CostModel, wanted: Mapping[str, tuple[float, int]]) -> Bools:
    """The fewest units whose removal meets every target, found by bisection on their number."""

    def meets(gone: Bools) -> bool:
        return not _missed(model.after_mask(gone), wanted)

    low, high = 0, choice.order.size
    best = choice.gone(high)
    if meets(choice.gone(0)):
        raise NothingToPrune("The model is within the target already.", "Ask for a smaller one.")
    if not meets(best):
        raise _out_of_reach(model.before, model.after_mask(best), wanted)
    while high - low > 1:
        middle = (low + high) // 2
        gone = choice.gone(middle)
        if meets(gone):
            high, best = middle, gone
        else:
            low = middle
    return best


_FIELD: dict[str, Callable[[Cost], int]] = {"target_params": lambda c: c.parameters, "target_macs": lambda c: c.macs}


def _missed(now: Cost, wanted: Mapping[str, tuple[float, int]]) -> list[str]:
    return [option for option, (_, most) in wanted.items() if _FIELD[option](now) > most]


def _out_of_reach(before: Cost, best: Cost, wanted: Mapping[str, tuple[float, int]]) -> BudgetError:
    option = _missed(best, wanted)[0]
    reachable = _FIELD[option](best) / _FIELD[option](before)
    return BudgetError(
        f"{option}: {wanted[option][0]:.4g} of the original is out of reach: with one unit (or one block of channels)"
        f" left in every group that may be pruned, {reachable:.4g} remains",
        f"Ask for {reachable:.4g} or more, skip fewer groups, or round less (round_to=1).",
    )


def _plan(coupling: Coupling, units: Mapping[str, Ints], scores: UnitScores, budget: Budget, step: int) -> Plan:
    path = coupling.graph.model.path if coupling.graph is not None else None
    return Plan(
        model_hash=coupling.model_hash,
        units=units,
        group_sizes={g.name: g.units for g in coupling.groups},
        options=coupling.options,
        recipe={"operation": "allocate", "criterion": scores.criterion, **budget.as_dict(), "round_to": step},
        model_name=path.name if path else "",
    )


def _frozen(coupling: Coupling) -> str:
    """Why axes are frozen, the most frequent reasons first."""
    reasons = Counter(f.reason for f in coupling.frozen).most_common(8)
    unknown = [f"no rule for operator {op}: {n} nodes" for op, n in coupling.unknown_ops.items()]
    return _listed([*(f"{reason}: {n} axes" for reason, n in reasons), *unknown])


def _why(coupling: Coupling, budget: Budget, choice: _Choice) -> str:
    """Why no unit of the groups goes, group by group, summed up."""
    counts: Counter[str] = Counter()
    for number, group in enumerate(coupling.groups):
        asked = int(choice.asked[choice.group == number].sum())
        if group.units == 1:
            counts["only one unit, and one is always kept"] += 1
        elif group.name in budget.skip:
            counts["to be skipped"] += 1
        elif not asked and not choice.open[number]:
            counts["too small for the ratio: less than one unit would go"] += 1
        elif not choice.steps[number].table()[-1 if choice.open[number] else asked]:
            counts["all units stay when the channels kept are rounded up"] += 1
        else:
            counts["above the threshold, or tied to groups that must lose equally many, after rounding"] += 1
    return _listed([f"{n} {'group' if n == 1 else 'groups'}: {reason}" for reason, n in counts.most_common()])


def _listed(reasons: list[str]) -> str:
    return "".join(f"\n  {reason}" for reason in reasons)
