"""CroP: weights that the gradient flow depends on, in whichever direction.

As `grasp`, but the flow g'g is to be kept as it is, not to grow: what changes it most is kept. Rachwan et al.,
arXiv:2206.10451, apply it at any time in training::

    crop(w)    = |w (H g)|                          for a single weight
    crop(unit) = |sum over the unit's parameters of w (H g)|

The score of a unit is the change when all of its parameters shrink together.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from onnxprune.criteria.base import Criterion, Settings, UnitScores, WeightScores
from onnxprune.criteria.gradient_scores import per_unit, per_weight
from onnxprune.criteria.grasp import flows
from onnxprune.criteria.slices import linear_weights
from onnxprune.model import Model
from onnxprune.values import Coupling

__all__ = ["CRITERIA"]


def crop_of_units(model: Model, coupling: Coupling, settings: Settings) -> UnitScores:
    """The absolute value of w (H g) summed over the parameters of every unit."""
    found, flow = flows(model, coupling, settings)
    scores = per_unit(model, coupling, settings, found, flow.ran, np.abs)
    return replace(scores, warnings=(*flow.warnings, *scores.warnings))


def crop_of_weights(model: Model, coupling: Coupling, settings: Settings) -> WeightScores:
    """|w (H g)| of every single weight."""
    found, flow = flows(model, coupling, settings)
    sizes = {name: np.abs(values) for name, values in found.items()}
    scores = per_weight(model, coupling, linear_weights(coupling.graph), sizes, flow.ran)
    return replace(scores, warnings=(*flow.warnings, *scores.warnings))


CRITERIA = (
    Criterion(
        "crop",
        "|w (H g)|; of a unit the absolute value of the sum over its parameters",
        crop_of_units,
        crop_of_weights,
        needs=("data", "gradients"),
        paper="arXiv:2206.10451",
        cost="two passes over the samples, the second with gradients of gradients",
    ),
)
