"""From scores and a budget to a plan, whole units or single weights; what was asked and what was reached.

=========== =========================================================================================================
budget      what is asked for; quantities.py reads amounts, reached.py says what came of it
units       whole units; choice.py puts them in order, balance.py makes equal counts of it, goals.py knows targets
levels      distributions that follow from the layers (erk, preset, sensitivity); presets.py suggests ratios
knapsack    score per cost, for targets
weights     single weights; lowest.py finds a threshold, patterns.py knows N:M and blocks, layers.py what may go
floors      the largest removal with which metrics stay above their floors
=========== =========================================================================================================
"""

from __future__ import annotations

from onnxprune.allocate.budget import DISTRIBUTIONS, Budget
from onnxprune.allocate.floors import Floor, FloorReport, check_floors, largest_that_holds, require_floors
from onnxprune.allocate.goals import Estimate
from onnxprune.allocate.layers import prunable_weights
from onnxprune.allocate.levels import SensitivityRow
from onnxprune.allocate.measured import Measure
from onnxprune.allocate.patterns import pattern_note
from onnxprune.allocate.presets import family_of, suggest_ratios
from onnxprune.allocate.reached import Reached, TargetReached
from onnxprune.allocate.units import allocate_units
from onnxprune.allocate.weights import allocate_weights
from onnxprune.criteria.base import Scores, UnitScores
from onnxprune.plan import Plan
from onnxprune.values import Coupling

__all__ = [
    "DISTRIBUTIONS",
    "Budget",
    "Estimate",
    "Floor",
    "FloorReport",
    "Measure",
    "Reached",
    "SensitivityRow",
    "TargetReached",
    "allocate",
    "allocate_units",
    "allocate_weights",
    "check_floors",
    "family_of",
    "largest_that_holds",
    "pattern_note",
    "prunable_weights",
    "require_floors",
    "suggest_ratios",
]


def allocate(
    coupling: Coupling,
    scores: Scores,
    budget: Budget,
    *,
    latency: Estimate | None = None,
    measure: Measure | None = None,
) -> tuple[Plan, Reached]:
    """Choose what goes: the lowest scores within the budget, ties by position. The kind of scores decides the kind.

    ``latency``: milliseconds without given units, estimated (a `latency_table.LatencyTable`, or any function);
    needed for a latency target. ``measure``: milliseconds before and after a plan, timed; with it the estimates are
    corrected until what is measured is within the target. Nothing else runs the model.

    Raises OptionError (GroupNotFound for a name), BudgetError where a target is out of reach, and NothingToPrune,
    with the reasons, where nothing can go.
    """
    if isinstance(scores, UnitScores):
        return allocate_units(coupling, scores, budget, latency=latency, measure=measure)
    return allocate_weights(coupling, scores, budget)
