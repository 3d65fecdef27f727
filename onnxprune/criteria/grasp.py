"""GraSP: weights without which the gradient flow would shrink.

Removing w changes the squared norm of the gradient, g'g, to first order by ``-2 w (H g)``. Wang et al.,
arXiv:2002.07376, call ``-w (H g)`` the score of a weight and remove what scores highest; here, where higher = keep::

    grasp(w)    = w (H g)                           for a single weight
    grasp(unit) = sum over the unit's parameters of w (H g)

so that a negative score marks what holds training back. g and H belong to the mean loss over the samples. Made for
pruning before training; the paper also divides the logits by 200, which is left out here: it belongs to the loss.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from numpy.typing import NDArray

from onnxprune.criteria.base import Criterion, Settings, UnitScores, WeightScores
from onnxprune.criteria.gradient_flow import Flow, gradient_flow
from onnxprune.criteria.gradient_runs import trainable
from onnxprune.criteria.gradient_scores import finite_array, per_unit, per_weight
from onnxprune.criteria.slices import linear_weights
from onnxprune.model import Model
from onnxprune.values import Coupling

__all__ = ["CRITERIA", "flows"]

Array = NDArray[Any]


def grasp_of_units(model: Model, coupling: Coupling, settings: Settings) -> UnitScores:
    """w (H g) summed over the parameters of every unit."""
    found, flow = flows(model, coupling, settings)
    scores = per_unit(model, coupling, settings, found, flow.ran)
    return replace(scores, warnings=(*flow.warnings, *scores.warnings))


def grasp_of_weights(model: Model, coupling: Coupling, settings: Settings) -> WeightScores:
    """w (H g) of every single weight."""
    found, flow = flows(model, coupling, settings)
    scores = per_weight(model, coupling, linear_weights(coupling.graph), found, flow.ran)
    return replace(scores, warnings=(*flow.warnings, *scores.warnings))


def flows(model: Model, coupling: Coupling, settings: Settings) -> tuple[dict[str, Array], Flow]:
    """Constant -> w (H g)."""
    flow = gradient_flow(model, settings, trainable(coupling))
    return {name: hg * finite_array(model, coupling.graph, name) for name, hg in flow.product.items()}, flow


CRITERIA = (
    Criterion(
        "grasp",
        "w (H g), summed over the unit's parameters; g and H: gradient and Hessian of the mean loss",
        grasp_of_units,
        grasp_of_weights,
        needs=("data", "gradients"),
        paper="arXiv:2002.07376",
        cost="two passes over the samples, the second with gradients of gradients",
    ),
)
