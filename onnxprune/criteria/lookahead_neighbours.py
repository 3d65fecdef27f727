"""P and N of every weight of a model, in the variants of lookahead: as they are, or as they will be when pruned."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import floor, prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.criteria.base import Settings
from onnxprune.criteria.lookahead_firing import firing_rates
from onnxprune.criteria.lookahead_layers import Block, Layer, cut, find_layers, sums
from onnxprune.criteria.lookahead_roads import Roads
from onnxprune.criteria.lookahead_walk import Neighbours, backward, forward
from onnxprune.criteria.slices import Place, pieces_of
from onnxprune.graph import Graph
from onnxprune.model import Model
from onnxprune.values import Coupling

__all__ = ["Factors", "Variant", "neighbours", "weighed"]

Array = NDArray[Any]
Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Variant:
    """Which neighbours count: those in ``front`` (P), those ``behind`` (N).

    ``sequential``: P ("forward") or N ("backward") is that of weights which have been pruned before. ``firing``:
    weights are first scaled by the root of the firing rate of their output.
    """

    front: bool = True
    behind: bool = True
    sequential: str = ""
    firing: bool = False


@dataclass(frozen=True, eq=False)
class Factors:
    """P and N of a weight where it is used once, as arrays that broadcast to it."""

    front: Floats
    behind: Floats

    def at(self, place: Place, dtype: np.dtype[Any]) -> tuple[Array, Array]:
        """Both, for one stretch of the weight."""
        with np.errstate(over="ignore"):
            return cut(self.front, place).astype(dtype), cut(self.behind, place).astype(dtype)


def weighed(model: Model, graph: Graph, tensor: str, uses: Sequence[Factors]) -> Iterator[tuple[Place, Array]]:
    """w^2 P N of a weight, stretch by stretch, added up over its uses; w^2 where there are none. Never NaN."""
    for place, piece in pieces_of(model, graph, tensor):
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            found = np.square(piece)
            if len(uses) == 1:
                for factor in uses[0].at(place, found.dtype):
                    found *= factor
            elif uses:
                pairs = (use.at(place, found.dtype) for use in uses)
                found *= sum(front * behind for front, behind in pairs)
        yield place, found if np.isfinite(found).all() else np.nan_to_num(found, nan=0.0, posinf=np.inf)


def neighbours(
    model: Model, coupling: Coupling, variant: Variant, settings: Settings
) -> dict[str, tuple[Factors, ...]]:
    """P and N of every weight of a layer, once per use, and N of biases and scales of norms."""
    study = _Study(model, coupling, variant, settings)
    return {**study.of_vectors(), **study.of_layers()}


class _Study:
    """The walks over one model and the sums that they stop for."""

    def __init__(self, model: Model, coupling: Coupling, variant: Variant, settings: Settings) -> None:
        self.model, self.graph, self.variant, self.settings = model, coupling.graph, variant, settings
        self.layers = find_layers(self.graph)
        stops = frozenset(layer.node.number for layer in self.layers)
        self.roads = Roads(model, self.graph, coupling.options, stops)
        self.uses = Counter(block.weight for layer in self.layers for block in layer.blocks)
        self.masks: dict[str, Bools] = {}  # of weights that are used more than once
        self.sums: dict[tuple[int, int], tuple[Floats, Floats]] = {}
        self.rates: Mapping[int, Floats] = {}
        plain = forward(self.roads, self.layers, lambda layer, number, _: self.plain(layer, number)[0])
        if variant.firing:
            self.rates = firing_rates(model, self.roads, self.layers, plain.fields, settings)
            self.sums.clear()
            plain = forward(self.roads, self.layers, lambda layer, number, _: self.plain(layer, number)[0])
        self.front, self.behind = self._walk(plain)

    def _walk(self, front: Neighbours) -> tuple[Neighbours, Neighbours]:
        if self.variant.sequential == "backward":
            return front, backward(
                self.roads, self.layers, front.fields,
                lambda layer, number, behind: self.pruned(layer, number, None, behind)[1],
            )  # fmt: skip
        behind = backward(self.roads, self.layers, front.fields, lambda layer, number, _: self.plain(layer, number)[1])
        if self.variant.sequential == "forward":
            front = forward(
                self.roads, self.layers,
                lambda layer, number, p: self.pruned(layer, number, p, behind.values[layer.node.number][number])[0],
            )  # fmt: skip
        return front, behind

    def plain(self, layer: Layer, number: int) -> tuple[Floats, Floats]:
        """Sums of squares over rows and columns of a block, each weight looked at once."""
        key = (layer.node.number, number)
        if key not in self.sums:
            if self.settings.progress:
                self.settings.progress("adding up weights", len(self.sums), sum(self.uses.values()))
            self.sums[key] = self._sums(layer, layer.blocks[number], None)
        return self.sums[key]

    def pruned(self, layer: Layer, number: int, front: Floats | None, behind: Floats) -> tuple[Floats, Floats]:
        """The same after the weights with the lowest scores have gone."""
        block = layer.blocks[number]
        ratio = self.settings.ratio_of(block.weight)
        if not ratio:
            return self.plain(layer, number)
        keep = self.masks.get(block.weight)
        if keep is None:
            keep = self._keep(block.weight, self._factors(layer, block, front, behind), ratio)
            if self.uses[block.weight] > 1:
                self.masks[block.weight] = keep
        return self._sums(layer, block, keep.reshape(block.view))

    def _sums(self, layer: Layer, block: Block, keep: Bools | None) -> tuple[Floats, Floats]:
        pieces = pieces_of(self.model, self.graph, block.weight, block.view)
        if keep is not None:
            pieces = ((place, np.where(keep[place], piece, 0)) for place, piece in pieces)
        squares = ((place, _square(piece)) for place, piece in pieces)
        return sums(block, squares, self.rates.get(layer.node.number))

    def _keep(self, weight: str, factors: Factors, ratio: float) -> Bools:
        """False for the share of the weight with the lowest scores; ties go by position."""
        scores = np.empty(prod(self.graph.weights[weight].shape), np.float32)
        start = 0
        for _, piece in weighed(self.model, self.graph, weight, (factors,)):
            scores[start : start + piece.size] = piece.reshape(-1)
            start += piece.size
        count = floor(ratio * scores.size + 1e-9)
        if not count:
            return np.ones(scores.size, np.bool_)
        limit = np.partition(scores, count - 1)[count - 1]
        keep = np.asarray(scores >= limit)
        ties = count - (scores.size - int(np.count_nonzero(keep)))
        keep[np.flatnonzero(scores == limit)[:ties]] = False
        return keep

    def _factors(self, layer: Layer, block: Block, front: Floats | None, behind: Floats) -> Factors:
        """What counts in this variant, and the firing rate of the layer's own output."""
        p = front if front is not None and self.variant.front else np.ones(block.col_sizes())
        n = behind if self.variant.behind else np.ones(block.row_sizes())
        rate = self.rates.get(layer.node.number)
        return Factors(block.spread(p, block.cols), block.spread(n if rate is None else n * rate, block.rows))

    def of_layers(self) -> dict[str, tuple[Factors, ...]]:
        found: dict[str, tuple[Factors, ...]] = {}
        for layer in self.layers:
            key = layer.node.number
            for block, p, n in zip(layer.blocks, self.front.values[key], self.behind.values[key], strict=True):
                found[block.weight] = (*found.get(block.weight, ()), self._factors(layer, block, p, n))
        return found

    def of_vectors(self) -> dict[str, tuple[Factors, ...]]:
        """Biases and scales: N alone."""
        if not self.variant.behind:
            return {}
        found = {t: f for t, f in self.behind.fields.items() if t in self.graph.weights}
        return {t: (Factors(np.ones((1,) * len(f.shape)), f.table(range(len(f.shape)))),) for t, f in found.items()}


def _square(piece: Array) -> Array:
    with np.errstate(over="ignore", under="ignore"):
        return np.asarray(np.square(piece))
