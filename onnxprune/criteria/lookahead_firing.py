"""Firing rates: how often the output of a layer gets through its rectifier, measured on data.

The rate of output channel k is the share of its values above 0 in front of the rectifier (behind it, the share that is
not silenced), over all samples and positions. Between layer and rectifier there may be biases, norms, pooling and
residual sums. A layer without a rectifier, and one behind which there is no other layer, has rate 1 for all channels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from onnxprune.activations import Firing, reduce
from onnxprune.criteria.base import Settings
from onnxprune.criteria.lookahead_fields import Field
from onnxprune.criteria.lookahead_layers import Layer
from onnxprune.criteria.lookahead_roads import NORMS, Roads
from onnxprune.model import Model
from onnxprune.nodes import Node

__all__ = ["firing_rates"]

Floats = NDArray[np.float64]

RECTIFIERS = frozenset(
    "Relu LeakyRelu PRelu ThresholdedRelu Clip Elu Celu Selu Gelu FastGelu QuickGelu HardSwish Swish Mish".split()
)
STRAIGHT = frozenset((*NORMS, *"Add Sub Sum Mul Div Identity Cast Dropout MaxPool AveragePool Transpose".split()))


def firing_rates(
    model: Model, roads: Roads, layers: Sequence[Layer], fields: Mapping[str, Field], settings: Settings
) -> dict[int, Floats]:
    """Node number of a layer -> rate of every output, shaped like the rows of its weight. Needs ``settings.data``."""
    places = dict(_places(roads, layers, fields))
    meters = {place: Firing(place[1]) for place in places.values()}
    by_tensor: dict[str, list[Firing]] = {}
    for (tensor, _), meter in meters.items():
        by_tensor.setdefault(tensor, []).append(meter)
    if by_tensor and settings.data is not None:
        reduce(
            model, settings.data, by_tensor, size=settings.batch, limit=settings.samples,
            provider=settings.provider, threads=settings.threads, progress=settings.progress,
        )  # fmt: skip
    sizes = {layer.node.number: layer.blocks[0].row_sizes() for layer in layers}
    return {number: meters[place].share.reshape(sizes[number]) for number, place in places.items()}


def _places(
    roads: Roads, layers: Sequence[Layer], fields: Mapping[str, Field]
) -> Iterator[tuple[int, tuple[str, int]]]:
    """Node number of a layer -> the tensor in front of its rectifier, and the axis of its channels there."""
    last = _without_layer_behind(roads, layers)
    for layer in layers:
        if layer.recurrent or layer.node.number in last or len(layer.node.where) > 1:
            continue
        ((tensor, (axis,)),) = layer.targets
        found = _rectified(roads, tensor, axis)
        if found is not None:
            yield layer.node.number, found


def _without_layer_behind(roads: Roads, layers: Sequence[Layer]) -> set[int]:
    """Numbers of the layers whose output reaches no other layer."""
    stops = {layer.node.number for layer in layers}
    needed: set[str] = set()
    last = set()
    for node in reversed(roads.graph.nodes):
        behind = any(y in needed for y in node.outputs)
        if node.number in stops and not behind:
            last.add(node.number)
        if node.number in stops or behind:
            needed.update(node.inputs)
    return last


def _rectified(roads: Roads, tensor: str, axis: int) -> tuple[str, int] | None:
    """The tensor that a rectifier reads, followed from a layer's output, and the axis of the channels."""
    while tensor not in roads.graph.outputs:
        readers = roads.graph.consumers.get(tensor, ())
        if any(_rectifies(roads, node, k) for node, k in readers):
            return tensor, axis
        if len(readers) != 1 or readers[0][0].op not in STRAIGHT:
            return None
        node, k = readers[0]
        step = next((m for m in roads.maps(node, k, node.output(0)) if m.source_axis == axis and m.whole), None)
        if step is None:
            return None
        tensor, axis = node.output(0), step.target_axis
    return None


def _rectifies(roads: Roads, node: Node, k: int) -> bool:
    """Whether the node silences what is below 0: by its kind, or because it multiplies a tensor by a function of it."""
    if node.op in RECTIFIERS:
        return k == 0
    operands = roads.operands(node)
    return node.op == "Mul" and not roads.repeats(node, k) and any(roads.repeats(node, j) for j in operands)
