"""Random scores, uniform in [0, 1): the baseline that every criterion has to beat (Mittal et al., arXiv:1801.10447).

The numbers of a group depend on the seed and on the group's name only, so that they stay what they are when other
groups come or go.
"""

from __future__ import annotations

from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from onnxprune.criteria.base import Criterion, Settings, UnitScores, WeightScores
from onnxprune.criteria.slices import linear_weights
from onnxprune.graph import Graph
from onnxprune.model import Model
from onnxprune.values import Coupling

__all__ = ["CRITERIA"]


def random_of_units(model: Model, coupling: Coupling, settings: Settings) -> UnitScores:
    """One uniform number per unit."""
    return UnitScores({g.name: _generator(settings.seed, g.name).random(g.units) for g in coupling.groups})


def random_of_weights(model: Model, coupling: Coupling, settings: Settings) -> WeightScores:
    """One uniform number per weight, drawn when asked for."""
    graph: Graph = coupling.graph

    def compute(tensor: str) -> NDArray[Any]:
        return _generator(settings.seed, tensor).random(graph.weights[tensor].shape, np.float32)

    return WeightScores(linear_weights(graph), compute)


def _generator(seed: int, name: str) -> np.random.Generator:
    return np.random.default_rng([seed, crc32(name.encode("utf-8", "surrogateescape"))])


CRITERIA = (
    Criterion(
        "random",
        "uniform in [0, 1), from the seed",
        random_of_units,
        random_of_weights,
        paper="arXiv:1801.10447",
        cost="nothing is looked at",
    ),
)
