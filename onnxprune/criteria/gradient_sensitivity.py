"""Sensitivity: how much the loss changes, to first order, when a unit is removed.

With a the activation of unit f where it is read, and L_n the loss of example n, of N examples::

    s(f) = 1/N sum over n of | sum over positions of a_n * dL_n/da_n |

which is |L(f removed) - L| in the first-order Taylor expansion around f, example by example: Molchanov et al.,
arXiv:1611.06440, and *Sensitivity* of CNNPruner (its equation 3). The contributions of all read points add up before
the absolute value is taken (`gradient_gates`). By default the scores of each group are then divided by their L2 norm,
since the size of a * dL/da differs between layers; ``normalise="model"`` divides by the norm over all units,
``normalise="none"`` leaves the estimate of |dL| itself.

A recurrent cell is seen where later layers read it, not in its own recurrence.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from onnxprune.criteria.base import Criterion, Settings, UnitScores
from onnxprune.criteria.gradient_runs import of_units
from onnxprune.criteria.gradient_scores import units_completed
from onnxprune.criteria.scale import rescaled
from onnxprune.model import Model
from onnxprune.ops.emitter import Value
from onnxprune.ops.tape import Tape
from onnxprune.values import Coupling

__all__ = ["CRITERIA", "absolute", "sensitivity_of_units"]

Floats = NDArray[np.float64]


def sensitivity_of_units(model: Model, coupling: Coupling, settings: Settings) -> UnitScores:
    """Mean over examples of the absolute contribution of every unit."""
    ran = of_units(model, coupling, settings, absolute)
    totals: dict[str, Floats] = {}
    count = 0
    for samples, sums in ran.run(settings):
        count += samples
        for name, values in sums.items():
            totals[name] = totals.get(name, 0.0) + values.astype(np.float64)
    means = {name: total / max(count, 1) for name, total in totals.items()}
    scores = units_completed(model, coupling, settings, means, ran)
    return rescaled(scores, "layer") if settings.normalise is True else scores  # `score` sees to what is asked for


def absolute(tape: Tape, values: Value) -> Value:
    """(examples, units) -> (units,): the sum of absolute values."""
    return tape.reduce("ReduceL1", values, [0])


CRITERIA = (
    Criterion(
        "sensitivity",
        "mean over examples of |sum of a dL/da over the unit's activations|, over the L2 norm of the layer",
        sensitivity_of_units,
        needs=("data", "gradients"),
        paper="arXiv:1611.06440",
        cost="one forward and backward pass over the dataset",
    ),
)
