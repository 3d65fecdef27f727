"""What the units put out: how often they are zero, how large they are, how much they vary.

Over all samples and positions at which a unit is read (behind norm and activation function, in front of the weights
that multiply it)::

    apoz(unit)                = share of activations that are not zero
    activation-mean(unit)     = mean |a|
    activation-variance(unit) = mean (a - mean a)^2

averaged over the positions that belong to the unit (the channels of a head) and over its read points. ``apoz`` is one
less the average percentage of zeros of Hu et al., arXiv:1607.03250; mean and variance were compared as criteria by
Molchanov et al., arXiv:1611.06440. Zeros come from Relu and its like: of a group without a single one (tanh, GELU) apoz
says nothing, and mean |a| over the largest of the group stands in, with a warning.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.activations import Moments
from onnxprune.criteria.base import Criterion, Settings, UnitScores
from onnxprune.criteria.measuring import at_read_points, completed, listed
from onnxprune.model import Model
from onnxprune.values import Coupling

__all__ = ["CRITERIA"]

Array = NDArray[Any]
Floats = NDArray[np.float64]

UNSEEN = "the activations of these groups cannot be measured"


class Sizes:
    """For each position of one axis, over all other axes: how many values are not zero, and the sum of |a|."""

    def __init__(self, axis: int) -> None:
        self.axis = axis
        self.count = 0
        self._firing: Floats = np.zeros(1)
        self._sum: Floats = np.zeros(1)

    def add(self, values: Array) -> None:
        others = tuple(a for a in range(values.ndim) if a != self.axis)
        self.count += values.size // max(values.shape[self.axis], 1)
        self._firing = self._firing + np.count_nonzero(values, axis=others)
        self._sum = self._sum + np.abs(values).sum(axis=others, dtype=np.float64)

    @property
    def firing(self) -> Floats:
        """Share of values that are not zero."""
        return self._firing / max(self.count, 1)

    @property
    def mean(self) -> Floats:
        """Mean of |a|."""
        return self._sum / max(self.count, 1)


def apoz_of_units(model: Model, coupling: Coupling, settings: Settings) -> UnitScores:
    """Share of activations other than zero."""
    firing, mean = at_read_points(model, coupling, settings, Sizes, lambda s: s.firing, lambda s: s.mean)
    blind = [name for name, share in firing.items() if share.size and share.min() == 1]
    for name in blind:
        firing[name] = mean[name] / max(mean[name].max(), np.finfo(np.float64).tiny)
    scores = completed(model, coupling, settings, firing, UNSEEN)
    if not blind:
        return scores
    warning = f"no activation is ever zero in {listed(blind)}: apoz takes mean |a| over the largest of the group there"
    return replace(scores, warnings=(*scores.warnings, warning))


def mean_of_activations(model: Model, coupling: Coupling, settings: Settings) -> UnitScores:
    """Mean |a|."""
    (mean,) = at_read_points(model, coupling, settings, Sizes, lambda s: s.mean)
    return completed(model, coupling, settings, mean, UNSEEN)


def variance_of_activations(model: Model, coupling: Coupling, settings: Settings) -> UnitScores:
    """Variance of the activations."""
    (variance,) = at_read_points(model, coupling, settings, Moments, lambda m: m.variance)
    return completed(model, coupling, settings, variance, UNSEEN)


def _criterion(
    name: str, formula: str, units: Callable[[Model, Coupling, Settings], UnitScores], paper: str
) -> Criterion:
    cost = "one run over the dataset"
    return Criterion(name, formula, units, needs=("data",), paper=paper, cost=cost)


CRITERIA = (
    _criterion("apoz", "share of the unit's activations that are not zero", apoz_of_units, "arXiv:1607.03250"),
    _criterion("activation-mean", "mean |a| of the unit's activations", mean_of_activations, "arXiv:1611.06440"),
    _criterion(
        "activation-variance", "variance of the unit's activations", variance_of_activations, "arXiv:1611.06440"
    ),
)
