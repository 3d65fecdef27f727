"""Fisher information: the second-order estimate of the loss when something is set to zero.

Where the gradient is zero, removing w changes the loss by w^2 H_ww / 2 (Optimal Brain Damage), and the diagonal of the
Fisher information, the mean over examples of squared gradients, stands for that of the Hessian::

    fisher(w)    = w^2 / 2 * mean over examples of (dL_n/dw)^2
    fisher(unit) = 1/2 * mean over examples of (sum over the unit's activations of a_n dL_n/da_n)^2

A unit is scored by its gate (`gradient_gates`), as Theis et al. (arXiv:1801.05787) have it, in one pass: the gradient
with respect to an activation holds that of every example of a batch. The gradient with respect to a weight does not,
so that single weights take one run for each example, by default of at most 256.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.criteria.base import Criterion, Settings, UnitScores, WeightScores
from onnxprune.criteria.gradient_runs import of_units, of_weights, trainable
from onnxprune.criteria.gradient_scores import finite_array, per_weight, units_completed
from onnxprune.criteria.slices import linear_weights
from onnxprune.model import Model
from onnxprune.ops.emitter import Value
from onnxprune.ops.tape import Tape
from onnxprune.values import Coupling

__all__ = ["CRITERIA"]

Array = NDArray[Any]
Floats = NDArray[np.float64]

EXAMPLES = 256  # of single runs, unless the settings say


def fisher_of_units(model: Model, coupling: Coupling, settings: Settings) -> UnitScores:
    """Half the mean over examples of the squared contribution of every unit."""
    ran = of_units(model, coupling, settings, _squared)
    totals: dict[str, Floats] = {}
    count = 0
    for samples, sums in ran.run(settings):
        count += samples
        for name, values in sums.items():
            totals[name] = totals.get(name, 0.0) + values.astype(np.float64)
    return units_completed(
        model, coupling, settings, {name: t / (2 * max(count, 1)) for name, t in totals.items()}, ran
    )


def fisher_of_weights(model: Model, coupling: Coupling, settings: Settings) -> WeightScores:
    """w^2 / 2 times the mean over examples of the squared gradient."""
    ran = of_weights(model, settings, trainable(coupling), EXAMPLES)
    totals: dict[str, Array] = {}
    count = 0
    for samples, gradients in ran.run(settings, alone=True):
        count += samples
        for name, gradient in gradients.items():
            part = np.square(gradient.astype(np.float32))
            totals[name] = totals[name] + part if name in totals else part
    sizes = {name: finite_array(model, coupling.graph, name) for name in totals}
    found = {name: t * np.square(sizes[name]) / np.float32(2 * max(count, 1)) for name, t in totals.items()}
    return per_weight(model, coupling, linear_weights(coupling.graph), found, ran)


def _squared(tape: Tape, values: Value) -> Value:
    """(examples, units) -> (units,): the sum of squares."""
    return tape.reduce("ReduceSumSquare", values, [0])


CRITERIA = (
    Criterion(
        "fisher",
        "half the mean over examples of (sum of a dL/da)^2 over a unit, of (w dL/dw)^2 for a single weight",
        fisher_of_units,
        fisher_of_weights,
        needs=("data", "gradients"),
        paper="arXiv:1801.05787",
        cost="one forward and backward pass over the dataset; for weights one run for each of 256 examples",
    ),
)
