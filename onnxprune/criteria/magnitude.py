"""Magnitude: how large the parameters of a unit, or a single weight, are.

Over all entries w of the linear parameter slices of a unit, n of them::

    l1(unit)   = sum |w| / n               (not normalised: sum |w|)
    l2(unit)   = sqrt(sum w^2 / n)         (not normalised: sqrt(sum w^2))
    linf(unit) = max |w|

and for a single weight |w| (l1, linf) or w^2 (l2). Filters by their L1 norm: Li et al., arXiv:1608.08710; single
weights by magnitude: Han et al., arXiv:1506.02626. A unit without linear parameters scores 0. NaN counts as 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.criteria.base import Criterion, Pieces, Settings, UnitScores, WeightScores, streamed
from onnxprune.criteria.slices import (
    Place,
    axes_of,
    broken,
    linear_weights,
    pieces_of,
    positions,
    scored_members,
    slice_size,
    tables,
)
from onnxprune.graph import Graph
from onnxprune.model import Model
from onnxprune.stored import numbers_per_entry
from onnxprune.values import Coupling

__all__ = ["CRITERIA", "magnitude_of_units", "magnitude_of_weights"]

Array = NDArray[Any]
Floats = NDArray[np.float64]


def magnitude_of_units(norm: str, model: Model, coupling: Coupling, settings: Settings) -> UnitScores:
    """The norm of every unit, tensor by tensor."""
    graph: Graph = coupling.graph
    totals, counts = unit_totals(norm, model, coupling, settings.sides)
    result = {}
    for group, total, count in zip(coupling.groups, totals, counts, strict=True):
        mean = total / np.maximum(count, 1) if settings.normalise and norm != "linf" else total
        result[group.name] = np.sqrt(mean) if norm == "l2" else mean
    return UnitScores(result, warnings=broken(model, graph, scored_members(coupling, settings.sides)))


def unit_totals(norm: str, model: Model, coupling: Coupling, sides: str) -> tuple[list[Floats], list[Floats]]:
    """Per group: the sum of |w| or w^2 (linf: the maximum of |w|) over each unit's entries, and their number."""
    graph: Graph = coupling.graph
    collect = np.maximum if norm == "linf" else np.add
    totals = [np.zeros(g.units) for g in coupling.groups]
    counts = [np.zeros(g.units) for g in coupling.groups]
    for tensor, members in scored_members(coupling, sides).items():
        shape = scored_shape(graph, tensor)
        keep = {axes_of(member) for _, member in members}
        found = tables(_magnitudes(norm, model, graph, tensor), shape, keep, collect)
        for number, member in members:
            collect.at(totals[number], member.unit, positions(found[axes_of(member)], member, collect))
            counts[number] += slice_size(shape, member) * np.bincount(member.unit, minlength=counts[number].size)
    return totals, counts


def scored_shape(graph: Graph, tensor: str) -> tuple[int, ...]:
    """The shape of the real values: one axis more where several are packed into one entry."""
    packed = numbers_per_entry(graph, tensor)
    shape = tuple(graph.weights[tensor].shape)
    return shape if packed == 1 else (*shape, packed)


def magnitude_of_weights(norm: str, model: Model, coupling: Coupling, settings: Settings) -> WeightScores:
    """The magnitude of every single weight, computed when asked for."""
    graph: Graph = coupling.graph
    names = linear_weights(graph)

    def stream(name: str) -> Pieces:
        wide = np.dtype(np.float64 if graph.weights[name].dtype == np.float64 else np.float32)
        parts = (piece for _, piece in _magnitudes(norm, model, graph, name))
        return Pieces(tuple(graph.weights[name].shape), wide, parts)

    return streamed(names, stream, broken(model, graph, names))


def _magnitudes(norm: str, model: Model, graph: Graph, tensor: str) -> Iterator[tuple[Place, Array]]:
    """|w| or w^2 of every entry."""
    measure = np.square if norm == "l2" else np.abs
    for place, piece in pieces_of(model, graph, tensor):
        with np.errstate(over="ignore"):  # a weight of 1e20 is as good as infinite
            found = measure(piece)
        yield place, found


def _criterion(name: str, formula: str, paper: str = "arXiv:1608.08710") -> Criterion:
    units: Callable[[Model, Coupling, Settings], UnitScores] = partial(magnitude_of_units, name)
    weights: Callable[[Model, Coupling, Settings], WeightScores] = partial(magnitude_of_weights, name)
    return Criterion(name, formula, units, weights, paper=paper)


CRITERIA = (
    _criterion("l1", "mean of |w| over the unit's parameters; |w| of a single weight"),
    _criterion("l2", "root mean square of the unit's parameters; w^2 of a single weight"),
    _criterion("linf", "largest |w| of the unit's parameters; |w| of a single weight", "arXiv:1506.02626"),
)
