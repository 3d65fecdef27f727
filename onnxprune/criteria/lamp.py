"""LAMP: how much of what is still there of its layer a weight is.

For a weight w of a layer, over all weights v of the same constant::

    lamp(w) = w^2 / sum of v^2 over all v with |v| >= |w|

The largest weight of every layer scores 1, so one threshold over all layers leaves something in each; weights of equal
size score the same. For a unit the same is done with its squared norm (the sum of the squares of its parameters, not
divided by their number) among the units of its group. Lee et al., arXiv:2010.07611. Only zeros score 0. Memory: three
times the largest constant.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.criteria.base import Criterion, Settings, UnitScores, WeightScores
from onnxprune.criteria.magnitude import unit_totals
from onnxprune.criteria.slices import PIECE, broken, linear_weights, pieces_of, scored_members
from onnxprune.graph import Graph
from onnxprune.model import Model
from onnxprune.values import Coupling

__all__ = ["CRITERIA"]

Array = NDArray[Any]

POSITION = 32  # bits for the position in a layer


def lamp_of_units(model: Model, coupling: Coupling, settings: Settings) -> UnitScores:
    """Squared norm of every unit over the sum of those of its group that are not smaller."""
    squares, _ = unit_totals("l2", model, coupling, settings.sides)
    scores = {g.name: lamp(s) for g, s in zip(coupling.groups, squares, strict=True)}
    return UnitScores(scores, warnings=broken(model, coupling.graph, scored_members(coupling, settings.sides)))


def lamp_of_weights(model: Model, coupling: Coupling, settings: Settings) -> WeightScores:
    """Square of every weight over the sum of those of its constant that are not smaller, computed when asked for."""
    graph: Graph = coupling.graph
    names = linear_weights(graph)
    return WeightScores(names, lambda name: _of_weight(model, graph, name), warnings=broken(model, graph, names))


def _of_weight(model: Model, graph: Graph, tensor: str) -> Array:
    shape, dtype = tuple(graph.weights[tensor].shape), graph.weights[tensor].dtype
    squares = np.empty(prod(shape), np.float64 if dtype == np.float64 else np.float32)
    start = 0
    for _, piece in pieces_of(model, graph, tensor):
        with np.errstate(over="ignore", under="ignore"):
            np.square(piece.reshape(-1), out=squares[start : start + piece.size])
        start += piece.size
    return lamp(squares).reshape(shape)


def lamp(squares: Array) -> Array:
    """Each number (0 or more) over the sum of those that are not smaller; written over the array that is given."""
    order = _ascending(squares)
    total, stop = 0.0, squares.size
    while stop and squares[order[stop - 1]]:
        least = squares[order[max(stop - PIECE, 0)]]
        find = bisect_left if least else bisect_right  # equal ones stay together, zeros are as they should be
        start = find(range(stop), least, key=lambda i: squares[order[i]])
        here = order[start:stop]
        found = squares[here].astype(np.float64)
        tails = np.cumsum(found[::-1])[::-1] + total
        total = float(tails[0])
        first = np.flatnonzero(np.r_[True, np.diff(found) > 0])
        sizes = np.diff(np.r_[first, found.size])
        with np.errstate(invalid="ignore"):
            squares[here] = np.where(np.isinf(found), 1.0, found / np.repeat(tails[first], sizes))
        stop = start
    return squares


def _ascending(squares: Array) -> NDArray[np.unsignedinteger[Any]]:
    """Positions of the numbers, the lowest first: bits of float32 numbers and positions sorted as one integer."""
    if squares.dtype != np.float32 or squares.size >= 1 << POSITION:
        return np.argsort(squares).astype(np.uint64)
    keys = squares.view(np.uint32).astype(np.uint64)
    keys <<= np.uint64(POSITION)
    keys |= np.arange(squares.size, dtype=np.uint32)
    keys.sort()
    keys &= np.uint64((1 << POSITION) - 1)
    return keys


CRITERIA = (
    Criterion(
        "lamp",
        "w^2 / sum of the squares of the layer's weights that are not smaller; of a unit: the same with its squared "
        "norm in its group",
        lamp_of_units,
        lamp_of_weights,
        paper="arXiv:2010.07611",
        cost="sorting the weights of each layer",
    ),
)
