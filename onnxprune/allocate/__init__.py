"""From scores and a budget to a plan, whole units or single weights; what was asked and what was reached."""

from __future__ import annotations

from onnxprune.allocate.budget import Budget, Reached
from onnxprune.allocate.units import allocate_units
from onnxprune.allocate.weights import allocate_weights, prunable_weights
from onnxprune.criteria.base import Scores, UnitScores
from onnxprune.plan import Plan
from onnxprune.values import Coupling

__all__ = ["Budget", "Reached", "allocate", "allocate_units", "allocate_weights", "prunable_weights"]


def allocate(coupling: Coupling, scores: Scores, budget: Budget) -> tuple[Plan, Reached]:
    """Choose what goes: the lowest scores within the budget, ties by position. The kind of scores decides the kind.

    Raises OptionError (GroupNotFound for a name), BudgetError where a target is out of reach, and NothingToPrune,
    with the reasons, where nothing can go.
    """
    if isinstance(scores, UnitScores):
        return allocate_units(coupling, scores, budget)
    return allocate_weights(coupling, scores, budget)
