"""Targets as numbers that must not be passed, and what a removal leaves of each.

Parameters, MACs and activation memory follow from the sizes of tensors (`cost.CostModel`). The bytes of the file are
those of the constants, of everything else in it, and of the plan that is written into its metadata; what surgery does
to nodes and declared shapes is found out by doing it. Latency comes from whatever estimates it: a function of the units
that go, such as a `latency_table.LatencyTable`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from onnxprune.allocate.budget import Budget
from onnxprune.allocate.quantities import Number, target
from onnxprune.allocate.reached import TargetReached
from onnxprune.cost import Cost, CostModel, cost, is_parameter
from onnxprune.errors import BudgetError, OptionError
from onnxprune.plan import Plan
from onnxprune.surgery import remove
from onnxprune.values import Coupling, Ints

__all__ = ["BYTES", "LATENCY", "Estimate", "Goal", "Goals"]

Bools = NDArray[np.bool_]

# Milliseconds of one run without these units (group name -> unit numbers); of the whole model for none.
Estimate = Callable[[Mapping[str, Ints]], float]

LATENCY = "target_latency"
BYTES = "target_bytes"
METADATA = 300  # bytes of the entries beside the plan, and of what the command adds to the plan's recipe
COUNTED = {"target_params": "parameters", "target_macs": "macs", "target_memory": "activation_bytes"}
WORDS = {"target_params": "counted", "target_bytes": "counted"}  # all others are estimated


@dataclass(frozen=True)
class Goal:
    """One target: ``most`` of ``before`` may be left, in the sizes of the analysis. ``share``: of the original."""

    name: str
    asked: Number
    share: float
    before: float

    @property
    def most(self) -> float:
        return self.share * self.before

    def reached(self, after: float, how: str = "") -> TargetReached:
        """What came out, beside what was asked."""
        share = after / self.before if self.before else 0.0
        return TargetReached(
            self.name, self.asked, self.share, share, self.before, after, how or WORDS.get(self.name, "estimated")
        )


class Goals:
    """The targets of a budget for one coupling. Raises OptionError for a latency without an estimate."""

    def __init__(
        self,
        coupling: Coupling,
        model: CostModel,
        budget: Budget,
        latency: Estimate | None,
        plan_of: Callable[[Mapping[str, Ints]], Plan],
    ) -> None:
        self.coupling, self.model, self.latency, self.plan_of = coupling, model, latency, plan_of
        if LATENCY in budget.targets and latency is None:
            raise OptionError(
                "target_latency needs latencies, and none are given",
                "Give allocate() a `latency_table.LatencyTable`, or any function of the units that go.",
            )
        self.structure = 0.0  # bytes that nodes and declared shapes take more than before, once a plan was carried out
        self.goals = {name: self._goal(name, asked) for name, asked in budget.targets.items()}

    def _goal(self, name: str, asked: Number) -> Goal:
        part, absolute = target(name, asked)
        before = self.amount(name, self.model.before, {})
        if absolute is not None:
            part = absolute / max(self._example(name, before), 1e-30)
        return Goal(name, asked, part or 0.0, before)

    def _example(self, name: str, before: float) -> float:
        """The original's amount for one example, which an absolute number is compared with."""
        if name not in COUNTED:
            return before
        fixed = dict(self.coupling.options.shapes)
        whole = cost(self.coupling.graph.model, shapes=fixed, count_nonzero=False)
        return float(getattr(whole, COUNTED[name]))

    def amount(self, name: str, left: Cost, units: Mapping[str, Ints]) -> float:
        """What is left of one target's amount."""
        if name == LATENCY:
            return self.latency(units) if self.latency is not None else 0.0
        if name == BYTES:
            return self._file(left, units)
        return float(getattr(left, COUNTED[name]))

    def _file(self, left: Cost, units: Mapping[str, Ints]) -> float:
        size, parameters = self._original_file
        if not any(u.size for u in units.values()):
            return float(size)
        plan = len(self.plan_of(units).to_json().encode())
        return size - parameters + left.bytes + plan + METADATA + self.structure

    @cached_property
    def _original_file(self) -> tuple[int, int]:
        """Bytes of the file, and those of its parameters: each once, however many nodes read it."""
        graph = self.coupling.graph
        stored = {graph.origin.get(t, t): graph.weights[t].nbytes for t in graph.weights if is_parameter(graph, t)}
        return graph.model.filled().size, sum(stored.values())

    def carry_out(self, gone: Bools) -> float:
        """Bytes of the file of a removal that is really made; what its structure takes is known from then on."""
        units = self.units(gone)
        plan, model = self.plan_of(units), self.coupling.graph.model
        real = remove(model, self.coupling, plan).filled().size + len(plan.to_json().encode()) + METADATA
        self.structure += real - self._file(self.model.after_mask(gone), units)
        return float(real)

    def missed(self, gone: Bools, *, latency: bool = True) -> str | None:
        """The first target that this removal does not meet; the latency comes last, it may be slow to know.

        ``latency=False`` leaves it out.
        """
        left = self.model.after_mask(gone)
        units = self.units(gone)
        for name in sorted(self.goals, key=lambda name: (name == LATENCY, name)):
            wanted = latency or name != LATENCY
            if wanted and self.amount(name, left, units) > self.goals[name].most * (1 + 1e-12):
                return name
        return None

    def units(self, gone: Bools) -> dict[str, Ints]:
        """Group name -> unit numbers, for flags over all groups."""
        parts = np.split(gone, self.model.starts[1:-1])
        return {g.name: np.flatnonzero(part) for g, part in zip(self.coupling.groups, parts, strict=True)}

    def reached(self, gone: Bools) -> Iterator[TargetReached]:
        """What this removal comes to; latencies as estimated."""
        left, units = self.model.after_mask(gone), self.units(gone)
        for name, goal in self.goals.items():
            yield goal.reached(self.amount(name, left, units))

    def out_of_reach(self, best: Bools) -> BudgetError:
        """The error for a budget that the largest removal does not meet."""
        name = self.missed(best) or next(iter(self.goals))
        found = next(r for r in self.reached(best) if r.name == name)
        unit = " ms" if name == LATENCY else ""
        amount = f" ({found.after:.4g}{unit})" if name in (LATENCY, BYTES) else ""
        return BudgetError(
            f"{name}: {found.limit:.4g} of the original is out of reach: with one unit (or one block of channels) left"
            f" in every group that may be pruned, {found.share:.4g}{amount} remains",
            f"Ask for {found.share:.4g} or more, skip fewer groups, or round less (round_to=1).",
        )

    def allowed(self, before: float) -> float:
        """Milliseconds that may be left of so many."""
        goal = self.goals[LATENCY]
        _, absolute = target(goal.name, goal.asked)
        return goal.share * before if absolute is None else absolute

    def measured(self, before: float, after: float) -> TargetReached:
        """What measured milliseconds come to."""
        goal = replace(self.goals[LATENCY], share=self.allowed(before) / before, before=before)
        return goal.reached(after, "measured")
