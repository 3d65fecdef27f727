"""A latency target met by measuring: estimates say where to look, measurements how far they are to be believed.

The number of units that go is known to be too small (what was measured there is above the limit) and large enough
(within it). Between the two ends estimates are mapped to milliseconds by a straight line, and the number is tried next
at which that line meets the limit; where estimates do not tell anything between the ends apart, the middle is.

Every plan is measured twice. Where the two disagree, other work on the machine makes measurements worth less than the
estimates: the median of some then scales the estimates, by no more than a quarter. The search ends with the plan that
these point to, unless the machine is quiet again and that plan is not near the limit.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from onnxprune.allocate.choice import Choice
from onnxprune.allocate.goals import LATENCY, Estimate, Goals
from onnxprune.allocate.reached import TargetReached
from onnxprune.errors import BudgetError, NothingToPrune
from onnxprune.plan import Plan

__all__ = ["Measure", "MeasuredSearch"]

Bools = NDArray[np.bool_]

# Milliseconds of the whole model and of what a plan leaves of it, timed in turns.
Measure = Callable[[Plan], tuple[float, float]]

ROUNDS = 9  # plans that are measured at most
AIM = 0.97  # of the limit: where a measured latency should come to lie
NEAR = 0.93  # of the limit: what is measured between there and the limit is taken
DISTURBED = 0.1  # by which two measurements of one plan differ where something else disturbs them
MORE = 3  # measurements of a plan where that is so
TRUST = 1.25  # factor by which measurements that were disturbed may correct the estimates
WITHIN = 1.1  # times the limit: what still counts as met where nothing better was found, as measurements scatter


class MeasuredSearch:
    """The search for one allocation. What was measured is told as a share of the limit, since machines drift.

    ``found``: (share of the limit, what goes, what was reached) so far.
    """

    def __init__(
        self, choice: Choice, goals: Goals, estimate: Estimate, measure: Callable[[Bools], tuple[float, float]]
    ):
        self.choice, self.goals, self.estimate, self.time = choice, goals, estimate, measure
        self.found: list[tuple[float, Bools, TargetReached]] = []
        goal = goals.goals[LATENCY]
        self.whole = goal.before / goal.most  # of the limit, that the model takes as it is
        self._draws: tuple[float, ...] = (0.0,)
        self._estimates: dict[bytes, float] = {}

    def run(self, *, fill: bool) -> tuple[Bools, TargetReached]:
        """What goes, and its latency. ``fill``: give back blocks of channels where there is room left.

        Raises BudgetError where a target is out of reach, NothingToPrune where all are met as it is.
        """
        slow, fast = self._least() - 1, self.choice.order.size
        ends: dict[int, float] = {}  # number of units that go -> share of the limit
        number: int | None = self._first(slow, fast, self.goals.goals[LATENCY].most)
        sides: list[bool] = []
        for _ in range(ROUNDS):
            if number is None:
                break
            used = ends[number] = self._measured(self.choice.gone(number))
            if NEAR <= used <= 1 or (used > 1 and number == self.choice.order.size):
                break
            if self._disturbed():
                number, used = self._by_estimate(number, used, slow)
                if self._disturbed() or NEAR <= used <= 1 or not slow < number < fast:
                    break
                ends = {number: used}
            slow, fast = (slow, number) if used <= 1 else (number, fast)
            sides.append(used <= 1)
            number = self._next(slow, fast, ends, number, halve=sides[-2:] in ([True] * 2, [False] * 2))
        if fill:
            self._fill()
        return self._best()

    def _least(self) -> int:
        """The smallest number with which all other targets are met."""
        low, high = -1, self.choice.order.size
        if self.goals.missed(self.choice.gone(high), latency=False):
            raise self.goals.out_of_reach(self.choice.gone(high))
        while high - low > 1:
            middle = (low + high) // 2
            missed = self.goals.missed(self.choice.gone(middle), latency=False)
            low, high = (middle, high) if missed else (low, middle)
        return high

    def _first(self, slow: int, fast: int, most: float) -> int:
        """The smallest number above ``slow`` with an estimate of ``most`` or less; ``fast`` where there is none."""
        while fast - slow > 1:
            middle = (slow + fast) // 2
            slow, fast = (slow, middle) if self._estimated(middle) <= most else (middle, fast)
        return fast

    def _estimated(self, number: int) -> float:
        gone = self.choice.gone(number)
        key = gone.tobytes()
        if key not in self._estimates:
            self._estimates[key] = self.estimate(self.goals.units(gone))
        return self._estimates[key]

    def _measured(self, gone: Bools) -> float:
        """Share of the limit that a removal takes."""
        before, *draws = self._once(gone)
        draws.append(self._once(gone)[1])
        self._draws = tuple(draws)
        if self._disturbed():
            draws += [self._once(gone)[1] for _ in range(MORE)]
        used = float(np.median(draws))
        if not self.goals.missed(gone, latency=False):
            self.found.append((used, gone, self.goals.measured(before, used * self.goals.allowed(before))))
        return used

    def _disturbed(self) -> bool:
        """Whether the last plan took different times when it was measured again."""
        return max(self._draws) > (1 + DISTURBED) * min(self._draws)

    def _by_estimate(self, number: int, used: float, slow: int) -> tuple[int, float]:
        """One more plan, by estimates that a disturbed measurement corrects: its number, and its share of the limit."""
        expected = self._estimated(number) / self.goals.goals[LATENCY].most
        scale = float(np.clip(used / expected, 1 / TRUST, TRUST)) / self.goals.goals[LATENCY].most
        other = self._first(slow, self.choice.order.size, AIM / scale)
        if np.array_equal(self.choice.gone(other), self.choice.gone(number)):
            return number, used
        return other, self._measured(self.choice.gone(other))

    def _once(self, gone: Bools) -> tuple[float, float]:
        """Milliseconds of the whole model, and the share of the limit that the removal takes."""
        before, after = self.time(gone)
        limit = self.goals.allowed(before)
        self.whole = before / limit
        if before <= limit and not self.goals.missed(self.choice.gone(0), latency=False):
            raise NothingToPrune(
                f"The model takes {before:.4g} ms, which is within the target already.", "Ask for a smaller number."
            )
        return before, after / limit

    def _next(self, slow: int, fast: int, ends: dict[int, float], last: int, *, halve: bool) -> int | None:
        """A number between the ends that removes something else than they do; None where there is none.

        ``halve``: the line led to the same side twice, and is left for the middle.
        """
        scale = ends[last] / self._estimated(last)
        wanted = AIM / scale
        if slow in ends or slow < 0:
            high, from_ = ends.get(slow, self.whole), self._estimated(max(slow, 0))
            low, to = ends.get(fast, scale * self._estimated(fast)), self._estimated(fast)
            if high > AIM > low:
                wanted = from_ + (to - from_) * (high - AIM) / (high - low)
        number = (slow + fast) // 2 if halve else self._first(slow, fast, wanted)
        tried = {self.choice.gone(n).tobytes() for n in ends}
        while self.choice.gone(number).tobytes() in tried:
            if fast - slow <= 1:
                return None
            number = (slow + fast) // 2
            if slow >= 0 and np.array_equal(self.choice.gone(number), self.choice.gone(slow)):
                slow = number
            else:
                fast = number
        return number

    def _fill(self) -> None:
        """Blocks come back by their estimates, scaled to what was measured."""
        within = [f for f in self.found if f[0] <= 1]
        if not within or max(used for used, _, _ in within) >= NEAR:
            return
        used, best, _ = max(within, key=lambda f: f[0])
        most = AIM / used * self.estimate(self.goals.units(best))

        def meets(gone: Bools) -> bool:
            return self.estimate(self.goals.units(gone)) <= most and not self.goals.missed(gone, latency=False)

        filled = self.choice.filled(best, meets)
        if not np.array_equal(filled, best):
            self._measured(filled)

    def _best(self) -> tuple[Bools, TargetReached]:
        """What was measured within the limit and nearest to it; where nothing was, the nearest up to 10% above."""
        if not self.found:
            raise self.goals.out_of_reach(self.choice.gone(self.choice.order.size))
        within = [f for f in self.found if f[0] <= 1]
        used, gone, reached = max(within, key=lambda f: f[0]) if within else min(self.found, key=lambda f: f[0])
        if used > WITHIN:
            raise BudgetError(
                f"{LATENCY}: {reached.limit:.4g} of the original's {reached.before:.4g} ms is out of reach: "
                f"{reached.share:.4g} ({reached.after:.4g} ms) was the best that was measured",
                f"Ask for {reached.share:.4g} or more, skip fewer groups, or choose another distribution.",
            )
        return gone, reached
