"""Whole units: the lowest scores go, by a ratio, by one threshold, or until every target is met."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
from numpy.typing import NDArray

from onnxprune.alignment import default_step
from onnxprune.allocate.budget import Budget, check_names
from onnxprune.allocate.choice import Choice
from onnxprune.allocate.goals import BYTES, LATENCY, Estimate, Goals
from onnxprune.allocate.knapsack import Slopes
from onnxprune.allocate.measured import Measure, MeasuredSearch
from onnxprune.allocate.quantities import share
from onnxprune.allocate.reached import Reached, TargetReached
from onnxprune.cost import CostModel
from onnxprune.criteria.base import UnitScores
from onnxprune.errors import NothingToPrune, OptionError
from onnxprune.plan import Plan
from onnxprune.values import Coupling, Ints

__all__ = ["allocate_units"]

Bools = NDArray[np.bool_]

TRIES = 4  # removals that are made for a target on bytes
HINT = "Ask for more, or for less rounding (round_to=1)."


def allocate_units(
    coupling: Coupling,
    scores: UnitScores,
    budget: Budget,
    *,
    latency: Estimate | None = None,
    measure: Measure | None = None,
) -> tuple[Plan, Reached]:
    """Remove the units with the lowest scores, within the budget. See `allocate`."""
    check_names((*budget.group_ratios, *budget.skip), coupling.by_name)
    if budget.pattern is not None or budget.include_biases:
        raise OptionError("patterns and biases are for single weights, not for whole units", "Leave them out.")
    if not coupling.groups:
        raise NothingToPrune(f"No unit of this model can be removed.{_frozen(coupling)}", "See `onnxprune inspect`.")
    work = _Work(coupling, scores, budget, latency)
    if not budget.has_target:
        choice = work.choice
        gone = choice.gone(choice.nearest(share(budget.ratio or 0.0, int(choice.free.sum()))))
    elif measure is None or latency is None or LATENCY not in work.goals.goals:
        gone = work.within_bytes(work.reach)
    else:
        gone = work.within_bytes(partial(work.reach_measured, latency, measure))
    if not gone.any():
        raise NothingToPrune(f"No unit goes.{_why(coupling, budget, work.choice)}", HINT)
    return work.plan(work.goals.units(gone)), work.result(gone)


class _Work:
    """One allocation: the order of the units, what they cost, and how many of them have to go."""

    def __init__(self, coupling: Coupling, scores: UnitScores, budget: Budget, latency: Estimate | None) -> None:
        self.coupling, self.budget, self.criterion = coupling, budget, scores.criterion
        self.step = budget.round_to if budget.round_to is not None else default_step()
        self.model = CostModel(coupling)
        self.goals = Goals(coupling, self.model, budget, latency, self.plan)
        slopes = None
        if budget.spread == "knapsack":
            slopes = Slopes(self.model, getattr(latency, "rates", None))
        wanted = {name: goal.share for name, goal in self.goals.goals.items()}
        self.choice = Choice(coupling, scores, budget, self.step, slopes=slopes, wanted=wanted)
        self.seen: dict[str, TargetReached] = {}

    def plan(self, units: Mapping[str, Ints]) -> Plan:
        path = self.coupling.graph.model.path if self.coupling.graph is not None else None
        recipe = {"operation": "allocate", "criterion": self.criterion, **self.budget.as_dict(), "round_to": self.step}
        return Plan(
            model_hash=self.coupling.model_hash,
            units=units,
            group_sizes={g.name: g.units for g in self.coupling.groups},
            options=self.coupling.options,
            recipe=recipe,
            model_name=path.name if path else "",
        )

    def result(self, gone: Bools) -> Reached:
        units = self.goals.units(gone)
        return Reached(
            asked=self.budget.as_dict(),
            removed=int(gone.sum()),
            total=gone.size,
            groups={g.name: (int(units[g.name].size), g.units) for g in self.coupling.groups},
            round_to=self.step,
            before=self.model.before,
            after=self.model.after_mask(gone),
            targets=tuple(self.seen.get(r.name, r) for r in self.goals.reached(gone)),
        )

    def within_bytes(self, reach: Callable[[], Bools]) -> Bools:
        """What ``reach`` finds; with a target on bytes, asked again until the file that was made is small enough."""
        if BYTES not in self.goals.goals:
            return reach()
        most = self.goals.goals[BYTES].most
        self.goals.carry_out(self.choice.gone(self.choice.order.size))
        for _ in range(TRIES):
            gone = reach()
            if self.goals.carry_out(gone) <= most:
                return gone
        raise self.goals.out_of_reach(gone)

    def reach(self) -> Bools:
        """The fewest units whose removal meets every target."""
        if self.goals.missed(self.choice.gone(0)) is None:
            raise NothingToPrune("The model is within the target already.", "Ask for a smaller one.")
        best = self.fewest()
        if self.goals.missed(best) is not None:
            raise self.goals.out_of_reach(best)
        return best

    def fewest(self) -> Bools:
        """Found by bisection on the number of units; the most that can go, where even that misses a target.

        In a knapsack, what room is left is filled with blocks of channels that still fit.
        """
        low, high = 0, self.choice.order.size
        best = self.choice.gone(high)
        if self.goals.missed(best) is not None:
            return best
        while high - low > 1:
            middle = (low + high) // 2
            gone = self.choice.gone(middle)
            if self.goals.missed(gone) is None:
                high, best = middle, gone
            else:
                low = middle
        if self.budget.spread == "knapsack":
            return self.choice.filled(best, lambda gone: self.goals.missed(gone) is None)
        return best

    def reach_measured(self, estimate: Estimate, measure: Measure) -> Bools:
        """As ``reach``, with a measured latency."""
        search = MeasuredSearch(
            self.choice, self.goals, estimate, lambda gone: measure(self.plan(self.goals.units(gone)))
        )
        gone, reached = search.run(fill=self.budget.spread == "knapsack")
        self.seen[reached.name] = reached
        return gone


def _frozen(coupling: Coupling) -> str:
    """Why axes are frozen, the most frequent reasons first."""
    reasons = Counter(f.reason for f in coupling.frozen).most_common(8)
    unknown = [f"no rule for operator {op}: {n} nodes" for op, n in coupling.unknown_ops.items()]
    return _listed([*(f"{reason}: {n} axes" for reason, n in reasons), *unknown])


def _why(coupling: Coupling, budget: Budget, choice: Choice) -> str:
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
