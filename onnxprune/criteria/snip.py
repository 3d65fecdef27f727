"""SNIP: how much the loss depends on a connection being there.

With a gate c = 1 on every weight, and g the gradient of the mean loss over the samples::

    snip(w)    = |dL/dc| = |g w|                    for a single weight
    snip(unit) = sum over the unit's parameters of |g w|

Lee et al., arXiv:1810.02340, divide by the sum over all weights, which changes no order. Made for pruning before
training, on one batch: ``samples`` says how large it is. In a network at a minimum g is small, and `taylor` or
`fisher`, which do not let gradients of different samples cancel, say more.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.criteria.base import Criterion, Settings, UnitScores, WeightScores
from onnxprune.criteria.gradient_runs import Differentiated, mean_gradients, of_weights, trainable
from onnxprune.criteria.gradient_scores import finite_array, per_unit, per_weight
from onnxprune.criteria.slices import linear_weights
from onnxprune.model import Model
from onnxprune.values import Coupling

__all__ = ["CRITERIA"]

Array = NDArray[Any]


def snip_of_units(model: Model, coupling: Coupling, settings: Settings) -> UnitScores:
    """|g w| summed over the parameters of every unit."""
    found, ran = _products(model, coupling, settings)
    return per_unit(model, coupling, settings, found, ran)


def snip_of_weights(model: Model, coupling: Coupling, settings: Settings) -> WeightScores:
    """|g w| of every single weight."""
    found, ran = _products(model, coupling, settings)
    return per_weight(model, coupling, linear_weights(coupling.graph), found, ran)


def _products(model: Model, coupling: Coupling, settings: Settings) -> tuple[dict[str, Array], Differentiated]:
    """Constant -> |g w|."""
    ran = of_weights(model, settings, trainable(coupling))
    means = mean_gradients(ran, settings)
    return {name: np.abs(g * finite_array(model, coupling.graph, name)) for name, g in means.items()}, ran


CRITERIA = (
    Criterion(
        "snip",
        "|g w|, summed over the unit's parameters; g: gradient of the mean loss",
        snip_of_units,
        snip_of_weights,
        needs=("data", "gradients"),
        paper="arXiv:1810.02340",
        cost="one forward and backward pass over the samples",
    ),
)
