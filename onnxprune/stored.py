"""What the stored values of a constant stand for: plain numbers, quantised ones, several packed into one byte.

Quantised values lose their zero point and are multiplied by their scale, where a reader of the constant tells both.
Weights of MatMulNBits, stored (rows, blocks, bytes), get one more axis: the numbers in each byte.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.graph import Graph
from onnxprune.nodes import Node
from onnxprune.ops.quantized import MOVES, ZERO_POINTS, stored_zero
from onnxprune.weights import Weight

__all__ = ["is_float", "is_quantised", "nonzero", "numbers_per_entry", "real_values"]

Array = NDArray[Any]

PACKED = "MatMulNBits"
# How far before its zero point the scale of a quantised input stands, where that is not 1
SCALE_BEFORE = {"MatMulIntegerToFloat": 2, "QAttention": 3}
CHUNK = 1 << 22  # elements looked at in one go


def is_float(weight: Weight) -> bool:
    """Whether the values are floating point, bfloat16 and 8-bit floats included."""
    return weight.dtype.kind == "f" or (weight.dtype.kind == "V" and "float" in weight.dtype.name)


def is_quantised(graph: Graph, tensor: str) -> bool:
    """Whether a reader takes the constant for quantised numbers (integers used as plain numbers are not)."""
    return any(node.op in ZERO_POINTS or node.op == PACKED for node, _ in _readers(graph, tensor))


def numbers_per_entry(graph: Graph, tensor: str) -> int:
    """Numbers in one stored entry: 1, or as many as are packed into a byte."""
    node = _unpacker(graph, tensor)
    return 1 if node is None else 8 // int(node.attrs.get("bits", 4))


def real_values(graph: Graph, tensor: str, stored: Array) -> Array:
    """The numbers that the stored values stand for, float32 (float64 stays), of the same shape.

    Packed ones have an axis more. May be ``stored`` itself.
    """
    wide = np.float64 if stored.dtype == np.float64 else np.float32
    node = _unpacker(graph, tensor)
    if node is not None:
        scale = graph.weights[node.input(2)].array().reshape(*stored.shape[:2], 1, 1)
        return np.asarray(_fields(graph, tensor, stored).astype(wide) * scale.astype(wide))
    values = stored.astype(wide) if stored.dtype != wide else stored
    if not is_quantised(graph, tensor):
        return values
    return np.asarray((values - np.asarray(stored_zero(graph, tensor)).astype(wide)) * _scale(graph, tensor))


def nonzero(graph: Graph, tensor: str, stored: Array) -> int:
    """How many of the numbers are not zero, looked at piece by piece."""
    if _unpacker(graph, tensor) is not None:
        return int(np.count_nonzero(_fields(graph, tensor, stored)))
    zero = np.asarray(stored_zero(graph, tensor))
    if zero.size > 1:
        fill = np.broadcast_to(zero.astype(stored.dtype), stored.shape)
        return sum(int(np.count_nonzero(row != other)) for row, other in zip(stored, fill, strict=True))
    flat, value = stored.reshape(-1), zero.reshape(-1)[0].astype(stored.dtype)
    return sum(int(np.count_nonzero(flat[i : i + CHUNK] != value)) for i in range(0, flat.size, CHUNK))


def _readers(graph: Graph, tensor: str) -> Iterator[tuple[Node, int]]:
    """The nodes that work with a constant, seen through those that only move it, and at which input."""
    for node, k in graph.consumers.get(tensor, ()):
        if node.op in MOVES and k == 0:
            for output in node.outputs:
                yield from _readers(graph, output)
        else:
            yield node, k


def _unpacker(graph: Graph, tensor: str) -> Node | None:
    return next((n for n, k in graph.consumers.get(tensor, ()) if n.op == PACKED and k == 1), None)


def _fields(graph: Graph, tensor: str, stored: Array) -> NDArray[np.int16]:
    """The packed numbers, their zero taken off: (rows, blocks, bytes, numbers in a byte)."""
    bits = 8 // numbers_per_entry(graph, tensor)
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    zero = np.asarray(stored_zero(graph, tensor))
    mine, zeros = ((x[..., None] >> shifts & ((1 << bits) - 1)).astype(np.int16) for x in (stored, zero))
    return np.asarray(mine - zeros, np.int16)


def _scale(graph: Graph, tensor: str) -> Array:
    """The scale of a quantised constant, broadcastable to it; 1 where it is not a constant, or behind a move."""
    for node, k in graph.consumers.get(tensor, ()):
        position = ZERO_POINTS.get(node.op, {}).get(k)
        if position is None or node.op.endswith("Integer"):
            continue
        name = node.input(position - SCALE_BEFORE.get(node.op, 1))
        if name in graph.weights:
            return _spread(node, k, graph.weights[name].array(), graph.shapes[tensor])
    return np.ones((), np.float32)


def _spread(node: Node, k: int, scale: Array, shape: tuple[int, ...]) -> Array:
    """One scale per tensor, per entry of an axis, or per block of it."""
    if scale.size == 1:
        return scale.reshape(()).astype(np.float32)
    axis = -2 if node.attrs.get("transB", 0) and k else -1
    if node.op == "DequantizeLinear":
        axis = node.attrs.get("axis", 1)
    elif "Conv" in node.op:
        axis = 0
    axis %= len(shape)
    if scale.ndim == len(shape) > 1:
        scale = np.repeat(scale, node.attrs.get("block_size") or 1, axis)
        return np.take(scale, np.arange(shape[axis]), axis).astype(np.float32)
    view = [1] * len(shape)
    view[axis] = scale.size
    return scale.reshape(view).astype(np.float32)
