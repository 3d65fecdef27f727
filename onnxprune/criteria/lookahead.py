"""Lookahead: a weight counts for what it passes on, from the weights in front of it to those behind it.

For a weight w of a layer, from input channel j to output channel k::

    lap(w) = w^2 P_j N_k        lfp(w) = w^2 N_k        lbp(w) = w^2 P_j

P_j is the sum of the squares of all weights that produce channel j, N_k of all weights that read channel k. Park et
al., arXiv:2002.04809: up to the square, the distortion of the product of three neighbouring linear maps when w becomes
0. Neighbours are those in the graph:

- several predecessors and several successors add up; an identity skip adds 1; where there is no neighbour (inputs and
  outputs of the model, operators that cannot be followed, weights that are quantised or of an unknown layout) it
  counts 1; a channel that is cut off and never read has N = 0
- a BatchNorm on the way multiplies by gamma^2 / (var + epsilon), other norms by the square of their scale, constants
  with one number per channel by its square; activation functions, pooling and plain numbers count for nothing
- from a convolution to a fully connected layer, N_k sums the columns of all positions of channel k, P_j is the same
  for all of them; split, concatenated, reordered and repeated channels keep their own neighbours
- depthwise and grouped convolutions, look-up tables (P = 1) and recurrent layers (which also read themselves) are
  layers; in attention q and k are each other's neighbours, v is followed through (`lookahead_walk`)
- a weight that several layers share scores the sum over its uses; a bias or the scale of a norm scores w^2 N_k

Sequential variants take the neighbours as they will be: ``lap-sequential`` and ``lbp-sequential`` go from the first
layer to the last and compute P from weights of which the share ``Settings.ratios`` with the lowest scores is already
gone; ``lfp-sequential`` goes backwards and does so for N. ``lap-act`` first multiplies the weights of every layer but
the last by the root of how often its output channel fires on the data (is above 0 in front of a rectifier; 1 without).

Units score the mean (not normalised: the sum) of the scores of the weights that produce them, whatever ``sides`` says.
Memory: two numbers per channel, and one stretch of a weight at a time; sequential variants: two weights and a half.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from functools import partial

import numpy as np

from onnxprune.criteria.base import Criterion, Pieces, Settings, UnitScores, WeightScores, streamed
from onnxprune.criteria.lookahead_layers import find_layers
from onnxprune.criteria.lookahead_neighbours import Variant, neighbours, weighed
from onnxprune.criteria.magnitude import scored_shape
from onnxprune.criteria.slices import axes_of, broken, linear_weights, positions, slice_size, tables
from onnxprune.graph import Graph
from onnxprune.model import Model
from onnxprune.values import Coupling, Group, Member

__all__ = ["CRITERIA"]


def lookahead_of_weights(variant: Variant, model: Model, coupling: Coupling, settings: Settings) -> WeightScores:
    """w^2 P N of every single weight, computed when asked for from sums that are there from the beginning."""
    graph: Graph = coupling.graph
    names = linear_weights(graph)
    found = neighbours(model, coupling, variant, settings)

    def stream(name: str) -> Pieces:
        wide = np.dtype(np.float64 if graph.weights[name].dtype == np.float64 else np.float32)
        parts = (piece for _, piece in weighed(model, graph, name, found.get(name, ())))
        return Pieces(tuple(graph.weights[name].shape), wide, parts)

    return streamed(names, stream, broken(model, graph, names))


def lookahead_of_units(variant: Variant, model: Model, coupling: Coupling, settings: Settings) -> UnitScores:
    """The mean of w^2 P N over the weights that produce a unit."""
    graph: Graph = coupling.graph
    found = neighbours(model, coupling, variant, settings)
    layers = frozenset(block.weight for layer in find_layers(graph) for block in layer.blocks)
    by_tensor: dict[str, list[tuple[int, Member]]] = defaultdict(list)
    for number, group in enumerate(coupling.groups):
        for member in _producing(group, layers):
            by_tensor[member.tensor].append((number, member))
    totals = [np.zeros(g.units) for g in coupling.groups]
    counts = [np.zeros(g.units) for g in coupling.groups]
    for tensor, members in by_tensor.items():
        shape = scored_shape(graph, tensor)
        scored = weighed(model, graph, tensor, found.get(tensor, ()))
        sums = tables(scored, shape, {axes_of(member) for _, member in members}, np.add)
        for number, member in members:
            np.add.at(totals[number], member.unit, positions(sums[axes_of(member)], member, np.add))
            counts[number] += slice_size(shape, member) * np.bincount(member.unit, minlength=counts[number].size)
    means = [t / np.maximum(c, 1) if settings.normalise else t for t, c in zip(totals, counts, strict=True)]
    scores = {group.name: mean for group, mean in zip(coupling.groups, means, strict=True)}
    return UnitScores(scores, warnings=broken(model, graph, by_tensor))


def _producing(group: Group, layers: frozenset[str]) -> list[Member]:
    """The members on layers' weights that make the units; where there is none, all that do, or all that there are."""
    linear = [m for m in group.weights if m.linear]
    producing = [m for m in linear if not m.consumes]
    return [m for m in producing if m.tensor in layers] or producing or linear


def _criterion(name: str, formula: str, variant: Variant, cost: str, needs: tuple[str, ...] = ()) -> Criterion:
    units: Callable[[Model, Coupling, Settings], UnitScores] = partial(lookahead_of_units, variant)
    weights: Callable[[Model, Coupling, Settings], WeightScores] = partial(lookahead_of_weights, variant)
    return Criterion(name, formula, units, weights, needs, "arXiv:2002.04809", cost)


TWICE, SORTED = "two passes over the weights", "three passes over the weights, and sorting each"
CRITERIA = (
    _criterion("lap", "w^2 P N: squares of what produces the input channel (P) and reads the output channel (N); of a "
               "unit: mean over the weights that produce it", Variant(), TWICE),
    _criterion("lfp", "w^2 N: lap, looking forwards only", Variant(front=False), TWICE),
    _criterion("lbp", "w^2 P: lap, looking backwards only", Variant(behind=False), TWICE),
    _criterion("lap-sequential", "lap, layer by layer from the first: P of what the layers before keep at the ratio",
               Variant(sequential="forward"), SORTED, ("ratios",)),
    _criterion("lbp-sequential", "lbp, layer by layer from the first: P of what the layers before keep at the ratio",
               Variant(behind=False, sequential="forward"), SORTED, ("ratios",)),
    _criterion("lfp-sequential", "lfp, layer by layer from the last: N of what the layers behind keep at the ratio",
               Variant(front=False, sequential="backward"), SORTED, ("ratios",)),
    _criterion("lap-act", "lap of weights times the root of their output's firing rate (not the last layer's)",
               Variant(firing=True), "one run over the data and two passes over the weights", ("data",)),
)  # fmt: skip
