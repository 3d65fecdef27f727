"""Importance criteria: each gives every unit, or every single weight, a score; higher = keep.

A criterion is one small file that ends in an explicit ``CRITERIA`` tuple. The built-in ones and those of other
packages (entry points ``onnxprune.criteria``, each naming a module with such a tuple) are found by the same hook.
"""

from __future__ import annotations

from onnxprune.criteria.base import Criterion, Scores, Settings, UnitScores, WeightScores
from onnxprune.criteria.files import load_scores, save_scores
from onnxprune.criteria.registry import criteria, find, score, score_weights

__all__ = [
    "Criterion",
    "Scores",
    "Settings",
    "UnitScores",
    "WeightScores",
    "criteria",
    "find",
    "load_scores",
    "save_scores",
    "score",
    "score_weights",
]
