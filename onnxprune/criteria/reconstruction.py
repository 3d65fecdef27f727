"""Weights by what the layer's output loses with them: OBC and SparseGPT as scores.

Both ask how much the squared error of the layer's own output grows when a weight goes and the others of its row make up
for it (see `reconstruction_trace`). With ``normalise`` (the default) that is told as a share of the mean square of the
layer's output, so that layers can be compared.

``obc`` follows each row's own order of removal. A weight scores what it costs in its turn, but no less than those that
went before it: the lowest scores of a row are always the first steps of its order, and over rows and layers the
cheapest next step goes first. Layers too large for that (all together about a minute) score as ``sparsegpt`` costs.

``sparsegpt`` passes once over the columns, in blocks of 128. The method needs to know how much goes while it
works: ``settings.ratios`` says so, otherwise half of every block is taken to go. A weight scores its place among the
weights of its block by what they cost when the block's turn comes, so that every block loses the same share, as in the
paper. A pattern (2:4) then chooses by these scores.

Neither changes weights: what stays is to be fitted afterwards, which ``recover = "least-squares"`` asks for; for a
given mask that is the optimum of which both methods' own updates are steps. Weights whose inputs cannot be measured
score w^2, those of layers with more than 8192 columns w^2 mean x^2.

Frantar, Singh and Alistarh, arXiv:2208.11580; Frantar and Alistarh, arXiv:2301.00774.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.criteria.base import Criterion, Settings, WeightScores
from onnxprune.criteria.inputs import Inputs, inputs_of, unmeasured
from onnxprune.criteria.measuring import listed
from onnxprune.criteria.readers import measurable
from onnxprune.criteria.reconstruction_trace import energy, exact_trace, in_turn, places, sequential
from onnxprune.criteria.slices import broken, linear_weights, real_array
from onnxprune.graph import Graph
from onnxprune.model import Model
from onnxprune.values import Coupling

__all__ = ["CRITERIA"]

Array = NDArray[Any]
Floats = NDArray[np.float64]

EXACT = 4e10  # rows x columns^3 of all layers that are traced exactly: about a minute
HALF = 0.5  # what goes, where nothing is said
TINY = float(np.finfo(np.float64).tiny)

# (name, the layer's matrix (groups, rows, columns), its inputs) -> a score for each entry of the matrix
Score = Callable[[str, Floats, Inputs], Floats]


def obc_of_weights(model: Model, coupling: Coupling, settings: Settings) -> WeightScores:
    """What each weight costs in its turn."""
    graph: Graph = coupling.graph
    exact = _traced(graph)
    passed: list[str] = []

    def score(name: str, w: Floats, inputs: Inputs) -> Floats:
        if inputs.h is None:
            return alone(w**2 * inputs.second[:, None])
        scale = energy(w, inputs.h) if settings.normalise else 1.0
        if name not in exact:
            passed.append(name)
            return sequential(w, inputs.h, _ratio(settings, name))[0] / scale
        order, costs = exact_trace(w, inputs.h)
        result = np.empty_like(costs)
        np.put_along_axis(result, order, in_turn(costs / scale), axis=2)
        return result

    def alone(costs: Floats) -> Floats:
        total = costs.sum(where=np.isfinite(costs)) if settings.normalise else 1.0
        return np.asarray(costs / max(total, TINY))

    scores, warnings = _scored(model, graph, settings, score, alone)
    if passed:
        warnings.append(f"too large for an exact trace, scored as by sparsegpt: {listed(passed)}")
    return WeightScores(tuple(scores), scores.__getitem__, warnings=tuple(warnings))


def sparsegpt_of_weights(model: Model, coupling: Coupling, settings: Settings) -> WeightScores:
    """The place of each weight in its block of columns, by what it costs when the block's turn comes."""

    def score(name: str, w: Floats, inputs: Inputs) -> Floats:
        if inputs.h is None:
            return alone(w**2 * inputs.second[:, None])
        costs, taken = sequential(w, inputs.h, _ratio(settings, name))
        return (taken if settings.normalise else costs).astype(np.float32)

    def alone(costs: Floats) -> Floats:
        return (places(costs) if settings.normalise else costs).astype(np.float32)

    scores, warnings = _scored(model, coupling.graph, settings, score, alone)
    return WeightScores(tuple(scores), scores.__getitem__, warnings=tuple(warnings))


def _scored(
    model: Model, graph: Graph, settings: Settings, score: Score, alone: Callable[[Floats], Floats]
) -> tuple[dict[str, Floats], list[str]]:
    """The scores of all weights in their stored shape, and the warnings; ``alone`` scores squares without inputs."""
    names = linear_weights(graph)
    found: dict[str, Floats] = {}
    for name, inputs in inputs_of(model, graph, names, settings):
        if settings.progress:
            settings.progress("scoring weights", len(found), len(names))
        values = real_array(model, graph, name)
        if np.isfinite(values).all():
            matrix = score(name, inputs.layer.matrix(values).astype(np.float64), inputs)
            found[name] = np.ascontiguousarray(inputs.layer.stored(matrix, values.shape))
    missing = unmeasured(graph, names, found)
    scores = {}
    for name in names:
        if name not in found:
            squares = np.square(real_array(model, graph, name), dtype=np.float64)
            found[name] = alone(np.nan_to_num(squares, nan=0.0, posinf=np.inf))
        scores[name] = found[name]
    warnings = [f"the inputs of these weights cannot be measured, w^2 is their cost: {missing}"] if missing else []
    return scores, [*broken(model, graph, names), *warnings]


def _ratio(settings: Settings, name: str) -> float:
    return HALF if settings.ratios is None else settings.ratio_of(name)


def _traced(graph: Graph) -> set[str]:
    """The weights that are traced exactly: the cheapest ones, as many as there is time for."""
    work = {}
    for name, layers in measurable(graph).items():
        shape = graph.weights[name].shape
        work[name] = float(prod(shape)) * layers[0].width(shape) ** 2
    names = sorted(work, key=lambda name: work[name])
    return {name for name, total in zip(names, np.cumsum([work[n] for n in names]), strict=True) if total <= EXACT}


CRITERIA = (
    Criterion(
        "obc",
        "growth of the layer's squared output error when the weight goes in its turn, the others making up for it",
        None,
        obc_of_weights,
        needs=("data",),
        paper="arXiv:2208.11580",
        cost="one run over some hundred samples, and rows x columns^3 for each layer",
        recover="least-squares",
    ),
    Criterion(
        "sparsegpt",
        "place in its block of columns by w^2 / [H^-1]_jj when the block's turn comes",
        None,
        sparsegpt_of_weights,
        needs=("data",),
        paper="arXiv:2301.00774",
        cost="one run over some hundred samples, and columns^3 for each layer",
        recover="least-squares",
    ),
)
