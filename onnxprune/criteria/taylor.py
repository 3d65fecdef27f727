"""Taylor expansion on parameters: the squared change of the loss, to first order, when they are set to zero.

With g the gradient of the mean loss of a mini-batch with respect to the parameters w (Molchanov et al.,
arXiv:1906.10771), on average over the mini-batches of ``Settings.batch`` samples::

    taylor(w)         = (g w)^2                                    for a single weight
    taylor(unit)      = sum over the unit's parameters of (g w)^2
    taylor-gate(unit) = (sum over the unit's activations of a dL/da)^2

The gate is a factor of 1 on the unit where it is read (`gradient_gates`); its gradient is the sum of g w over the
weights that read the unit, squared after the sum instead of before. At a minimum the gradient of all data is zero and
that of a mini-batch is not: that is why it is squared batch by batch, and why scores depend on the batch size.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.criteria.base import Criterion, Settings, UnitScores, WeightScores
from onnxprune.criteria.gradient_runs import Differentiated, of_units, of_weights, trainable
from onnxprune.criteria.gradient_scores import finite_array, per_unit, per_weight, units_completed
from onnxprune.criteria.slices import linear_weights
from onnxprune.model import Model
from onnxprune.ops.emitter import Value
from onnxprune.ops.tape import Tape
from onnxprune.values import Coupling

__all__ = ["CRITERIA"]

Array = NDArray[Any]
Floats = NDArray[np.float64]


def taylor_of_units(model: Model, coupling: Coupling, settings: Settings) -> UnitScores:
    """(g w)^2 summed over the parameters of every unit."""
    found, ran = _squares(model, coupling, settings)
    return per_unit(model, coupling, settings, found, ran)


def taylor_of_weights(model: Model, coupling: Coupling, settings: Settings) -> WeightScores:
    """(g w)^2 of every single weight."""
    found, ran = _squares(model, coupling, settings)
    return per_weight(model, coupling, linear_weights(coupling.graph), found, ran)


def gate_of_units(model: Model, coupling: Coupling, settings: Settings) -> UnitScores:
    """Squared gradient of a gate on every unit."""
    ran = of_units(model, coupling, settings, _summed)
    totals: dict[str, Floats] = {}
    count = 0
    for samples, sums in ran.run(settings):
        count += 1
        for name, values in sums.items():
            totals[name] = totals.get(name, 0.0) + (values.astype(np.float64) / samples) ** 2
    return units_completed(model, coupling, settings, {name: t / count for name, t in totals.items()}, ran)


def _squares(model: Model, coupling: Coupling, settings: Settings) -> tuple[dict[str, Array], Differentiated]:
    """Constant -> mean over mini-batches of (g w)^2."""
    ran = of_weights(model, settings, trainable(coupling))
    totals: dict[str, Array] = {}
    count = 0
    for samples, gradients in ran.run(settings):
        count += 1
        for name, gradient in gradients.items():
            part = np.square(gradient.astype(np.float32) / np.float32(samples))
            totals[name] = totals[name] + part if name in totals else part
    sizes = {name: finite_array(model, coupling.graph, name) for name in totals}
    return {name: total * np.square(sizes[name]) / np.float32(count) for name, total in totals.items()}, ran


def _summed(tape: Tape, values: Value) -> Value:
    """(examples, units) -> (units,)."""
    return tape.sum(values, [0])


CRITERIA = (
    Criterion(
        "taylor",
        "mean over mini-batches of (g w)^2, summed over the unit's parameters",
        taylor_of_units,
        taylor_of_weights,
        needs=("data", "gradients"),
        paper="arXiv:1906.10771",
        cost="one forward and backward pass over the dataset",
    ),
    Criterion(
        "taylor-gate",
        "mean over mini-batches of (dL/dz)^2 for a gate z = 1 on the unit",
        gate_of_units,
        needs=("data", "gradients"),
        paper="arXiv:1906.10771",
        cost="one forward and backward pass over the dataset",
    ),
)
