"""Magnitude: how large the parameters of a unit, or a single weight, are.

Over all entries w of the linear parameter slices of a unit, n of them::

    l1(unit)   = sum |w| / n               (not normalised: sum |w|)
    l2(unit)   = sqrt(sum w^2 / n)         (not normalised: sqrt(sum w^2))
    linf(unit) = max |w|

and for a single weight |w| (l1, linf) or w^2 (l2). Filters by their L1 norm: Li et al., arXiv:1608.08710; single
weights by magnitude: Han et al., arXiv:1506.02626. A unit without linear parameters scores 0. NaN counts as 0.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.criteria.base import Criterion, Settings, UnitScores, WeightScores
from onnxprune.criteria.slices import finite_values, linear_weights, positions, scored_members, weight_of
from onnxprune.graph import Graph
from onnxprune.model import Model
from onnxprune.values import Coupling

__all__ = ["CRITERIA"]

Array = NDArray[Any]


def magnitude_of_units(norm: str, model: Model, coupling: Coupling, settings: Settings) -> UnitScores:
    """The norm of every unit, tensor by tensor."""
    reduce, collect = (np.maximum.reduce, np.maximum.at) if norm == "linf" else (np.add.reduce, np.add.at)
    sums = [np.zeros(g.units) for g in coupling.groups]
    counts = [np.zeros(g.units) for g in coupling.groups]
    warnings = []
    for tensor, members in scored_members(coupling, settings.sides).items():
        entries, bad = _entries(norm, model, coupling.graph, tensor)
        if bad:
            warnings.append(not_finite(tensor, bad))
        for number, member in members:
            collect(sums[number], member.unit, positions(entries, member, reduce))
            slice_size = entries.size / (entries.shape[member.axis] * member.blocks)
            counts[number] += slice_size * np.bincount(member.unit, minlength=counts[number].size)
        del entries  # before the next one is there
    result = {}
    for group, total, count in zip(coupling.groups, sums, counts, strict=True):
        mean = total / np.maximum(count, 1) if settings.normalise and norm != "linf" else total
        result[group.name] = np.sqrt(mean) if norm == "l2" else mean
    return UnitScores(result, warnings=tuple(warnings))


def magnitude_of_weights(norm: str, model: Model, coupling: Coupling, settings: Settings) -> WeightScores:
    """The magnitude of every single weight, computed when asked for."""
    graph: Graph = coupling.graph
    names = linear_weights(graph)
    bad = {name: _entries(norm, model, graph, name)[1] for name in names}
    warnings = tuple(not_finite(name, count) for name, count in bad.items() if count)
    return WeightScores(names, lambda name: _entries(norm, model, graph, name)[0], warnings=warnings)


def _entries(norm: str, model: Model, graph: Graph, tensor: str) -> tuple[Array, int]:
    """|w| or w^2 of every entry, and how many were not finite."""
    values, bad = finite_values(graph, tensor, weight_of(model, graph, tensor).array())
    return (np.square(values) if norm == "l2" else np.abs(values)), bad


def not_finite(tensor: str, count: int) -> str:
    """The warning about a weight with NaN or Inf in it."""
    return f"weight `{tensor}` has {count} entries that are NaN or Inf (NaN is scored as 0)"


def _criterion(name: str, formula: str) -> Criterion:
    units: Callable[[Model, Coupling, Settings], UnitScores] = partial(magnitude_of_units, name)
    weights: Callable[[Model, Coupling, Settings], WeightScores] = partial(magnitude_of_weights, name)
    return Criterion(name, formula, units, weights)


CRITERIA = (
    _criterion("l1", "mean of |w| over the unit's parameters; |w| of a single weight (arXiv:1608.08710)"),
    _criterion("l2", "root mean square of the unit's parameters; w^2 of a single weight (arXiv:1608.08710)"),
    _criterion("linf", "largest |w| of the unit's parameters; |w| of a single weight"),
)
