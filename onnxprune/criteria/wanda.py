"""WANDA: weights by their size times the size of what they are multiplied by, compared within each output.

For a layer ``y = W x``, with the root mean square of input j over samples and positions::

    wanda(W_ij) = |W_ij| rms(x_j)

Sun et al., arXiv:2306.11695, compare the weights of one output (a row of W) with each other only. So the score of a
weight is its place: how many weights of its row are smaller, as a share of the row, in steps that the size within the
layer decides between rows. The lowest r of a layer are then the lowest r of each row, whatever r is, over one layer
and over all of them. Without ``normalise`` the product itself is the score.

For a unit the products are summed over its parameters (their mean, with ``normalise``); biases, scales and what has
no measured input count as read by an input of size 1. The inputs of recurrent layers are their input and their own
output; a layer in the body of control flow has none, and its weights are compared by |w|.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.criteria.base import Criterion, Settings, UnitScores, WeightScores
from onnxprune.criteria.inputs import Inputs, inputs_of, unmeasured
from onnxprune.criteria.magnitude import scored_shape
from onnxprune.criteria.readers import spread
from onnxprune.criteria.slices import (
    PIECE,
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
from onnxprune.values import Coupling

__all__ = ["CRITERIA"]

Array = NDArray[Any]
Floats = NDArray[np.float64]

BELOW = 0.99  # of a step between two places: how far size may move one


def wanda_of_weights(model: Model, coupling: Coupling, settings: Settings) -> WeightScores:
    """The place of |w| rms(x) in its row, computed when asked for."""
    graph: Graph = coupling.graph
    names = linear_weights(graph)
    inputs = dict(inputs_of(model, graph, names, settings, diagonal=True))

    def compute(name: str) -> Array:
        sizes = np.abs(_whole(model, graph, name))
        mine = inputs.get(name)
        if mine is not None:
            sizes *= _factor(graph, name, mine)
        if not settings.normalise:
            return sizes
        if mine is None:
            return _places(sizes.reshape(1, -1)).reshape(sizes.shape)
        matrix = mine.layer.matrix(sizes)
        return np.asarray(mine.layer.stored(_places(matrix), sizes.shape))

    return WeightScores(names, compute, warnings=_warnings(model, graph, names, inputs))


def wanda_of_units(model: Model, coupling: Coupling, settings: Settings) -> UnitScores:
    """Mean (not normalised: sum) of |w| rms(x) over the parameters of every unit."""
    graph: Graph = coupling.graph
    members = scored_members(coupling, settings.sides)
    inputs = dict(inputs_of(model, graph, tuple(members), settings, diagonal=True))
    totals = [np.zeros(g.units) for g in coupling.groups]
    counts = [np.zeros(g.units) for g in coupling.groups]
    for tensor, mine in members.items():
        shape = scored_shape(graph, tensor)
        factor = np.broadcast_to(_factor(graph, tensor, inputs[tensor]) if tensor in inputs else np.float32(1), shape)
        pieces = ((place, np.abs(piece) * factor[place]) for place, piece in pieces_of(model, graph, tensor))
        found = tables(pieces, shape, {axes_of(member) for _, member in mine}, np.add)
        for number, member in mine:
            np.add.at(totals[number], member.unit, positions(found[axes_of(member)], member, np.add))
            counts[number] += slice_size(shape, member) * np.bincount(member.unit, minlength=counts[number].size)
    scores = {
        group.name: total / np.maximum(count, 1) if settings.normalise else total
        for group, total, count in zip(coupling.groups, totals, counts, strict=True)
    }
    return UnitScores(scores, warnings=_warnings(model, graph, tuple(members), inputs))


def _factor(graph: Graph, name: str, inputs: Inputs) -> Array:
    """The root mean square of what each weight is multiplied by, to be broadcast to the weight."""
    found = spread(inputs.layer, np.sqrt(inputs.second), graph.weights[name].shape)
    return np.asarray(found.astype(np.float32))


def _whole(model: Model, graph: Graph, name: str) -> Array:
    """The real values of a weight, NaN replaced by 0, in an array of their own."""
    result = np.empty(graph.weights[name].shape, np.float32)
    for place, piece in pieces_of(model, graph, name):
        result[place] = piece
    return result


def _places(sizes: Array) -> Array:
    """(..., n) -> the number of smaller ones in the row, plus the size over the largest of all, as a share of n."""
    n = sizes.shape[-1]
    flat = sizes.reshape(-1, n)
    most = max(float(flat.max(initial=0.0, where=np.isfinite(flat))), float(np.finfo(np.float32).tiny))
    result = np.empty(flat.shape, np.float32)
    step = max(PIECE // max(n, 1), 1)
    for start in range(0, len(flat), step):
        piece = flat[start : start + step]
        order = np.argsort(piece, axis=1, kind="stable")
        ranks = np.empty(piece.shape, np.float32)
        np.put_along_axis(ranks, order, np.broadcast_to(np.arange(n, dtype=np.float32), piece.shape), axis=1)
        result[start : start + step] = (ranks + BELOW * np.minimum(piece / most, 1)) / n
    return result.reshape(sizes.shape)


def _warnings(model: Model, graph: Graph, names: tuple[str, ...], inputs: dict[str, Inputs]) -> tuple[str, ...]:
    missing = unmeasured(graph, names, inputs)
    unknown = f"the inputs of these weights cannot be measured, their size alone counts: {missing}"
    return (*broken(model, graph, names), *([unknown] if missing else []))


CRITERIA = (
    Criterion(
        "wanda",
        "|w| times the root mean square of its input: summed over a unit; of a single weight its place in its row",
        wanda_of_units,
        wanda_of_weights,
        needs=("data",),
        paper="arXiv:2306.11695",
        cost="one run over some hundred samples, and one pass over the weights",
    ),
)
