"""Floors under metrics: the largest removal with which every metric, overall and per class, stays good enough."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from onnxprune.allocate.budget import Budget
from onnxprune.allocate.goals import Estimate
from onnxprune.allocate.measured import Measure
from onnxprune.allocate.reached import Reached
from onnxprune.allocate.units import allocate_units
from onnxprune.allocate.weights import allocate_weights
from onnxprune.criteria.base import Scores, UnitScores
from onnxprune.errors import BudgetError, NothingToPrune, OptionError
from onnxprune.plan import Plan
from onnxprune.values import Coupling

__all__ = ["Floor", "FloorReport", "Holds", "Values", "check_floors", "largest_that_holds", "require_floors"]

# (name of the metric, name of the class or "" for all classes) -> value
Values = Mapping[tuple[str, str], float]

FINENESS = 256  # steps into which a ratio is divided: 8 plans are tried


@dataclass(frozen=True)
class Floor:
    """``metric`` of class ``label`` ("": of all) must be ``least`` or more; with ``higher=False``, at most that."""

    metric: str
    least: float
    label: str = ""
    higher: bool = True

    def __str__(self) -> str:
        where = f" of class {self.label!r}" if self.label else ""
        return f"{self.metric}{where} {'>=' if self.higher else '<='} {self.least:.4g}"

    def value(self, values: Values) -> float:
        """This metric among others. Raises OptionError where it is not there."""
        if (self.metric, self.label) not in values:
            known = sorted({f"{metric} {label!r}" if label else metric for metric, label in values})
            raise OptionError(
                f"the floor {self} needs a metric that was not measured", f"There are: {', '.join(known[:12])}."
            )
        return values[self.metric, self.label]

    def holds(self, values: Values) -> bool:
        """Whether the metric is good enough; NaN is not."""
        value = self.value(values)
        return value >= self.least if self.higher else value <= self.least


@dataclass(frozen=True)
class FloorReport:
    """The floors that do not hold, each with the value that was found; true where there are none."""

    missed: tuple[tuple[Floor, float], ...] = ()

    def __bool__(self) -> bool:
        return not self.missed

    def __str__(self) -> str:
        return "; ".join(f"{floor}: it is {value:.4g}" for floor, value in self.missed) or "all floors hold"


# Says whether the floors hold once a plan has been carried out.
Holds = Callable[[Plan], bool | FloorReport]


def check_floors(floors: Sequence[Floor], values: Values) -> FloorReport:
    """Hold measured values against floors. Raises OptionError for a metric that was not measured."""
    return FloorReport(tuple((f, f.value(values)) for f in floors if not f.holds(values)))


def require_floors(floors: Sequence[Floor], original: Values) -> None:
    """Raise BudgetError, naming metric, class and value, for a floor that the original model already misses."""
    report = check_floors(floors, original)
    if not report:
        raise BudgetError(
            f"the original model already misses {len(report.missed)} of {len(floors)} floors: {report}",
            "Set the floor below what the original reaches.",
        )


def largest_that_holds(
    coupling: Coupling,
    scores: Scores,
    budget: Budget,
    holds: Holds,
    *,
    latency: Estimate | None = None,
    measure: Measure | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> tuple[Plan, Reached, bool | FloorReport]:
    """The largest removal within the budget with which ``holds``, and what ``holds`` said about it.

    A ratio in the budget is the most that may go; the plan is found by bisection on it, to one part in 256, as if
    metrics fell steadily. Targets have to be met, so that with them there is one plan to be tried; where it does not
    hold, the error names what is left after the largest removal that does. ``latency`` and ``measure``: as in
    `allocate`.

    Raises BudgetError where nothing holds, and what `allocate` raises.
    """
    search = _Search(coupling, scores, holds, latency, measure, progress)
    plan, reached = search.allocate(budget)
    verdict = search.ask(plan)
    if verdict:
        return plan, reached, verdict
    best = search.bisect(budget, reached)
    if budget.has_target:
        raise BudgetError(
            f"the targets {_words(reached)} cannot be met: {_why(verdict)}",
            f"Ask for {_left(best[1])}, which is as far as it holds." if best else "No removal holds: lower the floor.",
        )
    if best is None:
        raise BudgetError(f"no removal holds: {_why(search.verdict)}", "Lower the floor, or skip more groups.")
    return best


class _Search:
    """Plans that were tried, and what was said about the last of them."""

    def __init__(
        self,
        coupling: Coupling,
        scores: Scores,
        holds: Holds,
        latency: Estimate | None,
        measure: Measure | None,
        progress: Callable[[str, int, int], None] | None,
    ) -> None:
        self.coupling, self.scores, self.holds = coupling, scores, holds
        self.latency, self.measure, self.progress = latency, measure, progress
        self.verdict: bool | FloorReport = True
        self.asked = 0

    def allocate(self, budget: Budget) -> tuple[Plan, Reached]:
        if isinstance(self.scores, UnitScores):
            return allocate_units(self.coupling, self.scores, budget, latency=self.latency, measure=self.measure)
        return allocate_weights(self.coupling, self.scores, budget)

    def ask(self, plan: Plan) -> bool | FloorReport:
        """What ``holds`` says about a plan."""
        self.asked += 1
        if self.progress:
            self.progress("looking for the largest removal that holds", self.asked, 1 + FINENESS.bit_length())
        self.verdict = self.holds(plan)
        return self.verdict

    def bisect(self, budget: Budget, reached: Reached) -> tuple[Plan, Reached, bool | FloorReport] | None:
        """The largest part of a removal that holds, given that the whole of it does not; None where no part does."""
        best: tuple[Plan, Reached, bool | FloorReport] | None = None
        self.measure = None  # on the way estimates are enough
        low, high = 0, FINENESS
        while high - low > 1 and (part := _part(budget, reached, (low + high) // 2 / FINENESS)) is not None:
            middle = (low + high) // 2
            try:
                plan, now = self.allocate(part)
            except NothingToPrune:
                low = middle
                continue
            if verdict := self.ask(plan):
                low, best = middle, (plan, now, verdict)
            else:
                high = middle
        return best


def _part(budget: Budget, reached: Reached, part: float) -> Budget | None:
    """A budget by which that part of the removal goes; None where the amount is fixed."""
    if budget.has_target:
        shares: dict[str, Any] = {t.name: 1 - part * (1 - t.limit) for t in reached.targets if t.limit < 1}
        return replace(budget, **shares)
    if budget.ratio is not None:
        return replace(budget, ratio=budget.ratio * part)
    if budget.spread == "preset":
        return replace(budget, ratio=reached.ratio * part, preset_step=1)
    return None


def _words(reached: Reached) -> str:
    return ", ".join(f"{t.name}={t.asked}" for t in reached.targets)


def _left(reached: Reached) -> str:
    return ", ".join(f"{t.name}={t.share:.3g}" for t in reached.targets)


def _why(verdict: bool | FloorReport) -> str:
    return str(verdict) if isinstance(verdict, FloorReport) else "a floor is missed"
