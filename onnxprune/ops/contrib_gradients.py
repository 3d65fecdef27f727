"""onnxruntime's fused embeddings and biases, taken apart."""

from __future__ import annotations

from collections.abc import Sequence
from math import log, sqrt

import numpy as np
import onnx

from onnxprune.errors import UnsupportedModel
from onnxprune.graph import Node
from onnxprune.ops.emitter import INT64, Value
from onnxprune.ops.normalization_gradients import layer_norm
from onnxprune.ops.tape import Tape

__all__ = [
    "expand_bias_add",
    "expand_bias_split_gelu",
    "expand_embed_layer_norm",
    "expand_gated_bias",
    "expand_relative_bias",
]

Cotangents = Sequence[Value | None]
FLOAT, INT32 = int(onnx.TensorProto.FLOAT), int(onnx.TensorProto.INT32)


def expand_embed_layer_norm(node: Node, t: Tape) -> Cotangents:
    """Rows of words, positions and segments, added and normalised; outputs y, lengths of the mask, the sum."""
    ids, segments = t.input(node, 0), t.optional(node, 1)
    total = _rows(t, t.input(node, 2), ids) + _rows(t, t.input(node, 3), _positions(node, t, ids))
    if segments is not None and t.has(node, 4):
        total = total + _rows(t, t.input(node, 4), segments)
    epsilon = float(node.attrs.get("epsilon", 1e-12))
    y, _, _ = layer_norm(t, total, t.input(node, 5), t.input(node, 6), epsilon)
    return y, _lengths(node, t, ids) if node.output(1) else None, total


def _rows(t: Tape, table: Value, ids: Value) -> Value:
    return t.op("Gather", table, ids, sizes=(*ids.known, table.known[1]), axis=0)


def _positions(node: Node, t: Tape, ids: Value) -> Value:
    """0, 1, 2, ... of every sample, unless they are given."""
    given = t.optional(node, 8)
    return t.unsqueeze(t.count_up(t.dim(ids, 1)), [0]) if given is None else given


def _lengths(node: Node, t: Tape, ids: Value) -> Value:
    """How many tokens of every sample its mask lets through; 0 without a mask."""
    mask = t.optional(node, 7)
    if mask is not None:
        return t.cast(t.sum(mask, (1,)), INT32)
    return t.expand_to(t.const(0, INT32), [t.dim(ids, 0)])


def expand_bias_add(node: Node, t: Tape) -> Cotangents:
    """x + bias + skip."""
    return (t.input(node, 0) + t.input(node, 1) + t.input(node, 2),)


def expand_bias_split_gelu(node: Node, t: Tape) -> Cotangents:
    """left gelu(right) for the halves of x + bias."""
    whole = t.input(node, 0) + t.input(node, 1)
    width = whole.known[-1]
    left, right = (t.slice(whole, -1, start, start + width // 2) for start in (0, width // 2))
    return (left * right * ((t.unary("Erf", right * sqrt(0.5)) + 1.0) * 0.5),)


def expand_relative_bias(node: Node, t: Tape) -> Cotangents:
    """A row of the table (buckets, heads) for every distance of a key from a query: (1, heads, queries, keys).

    Half of the buckets are for single distances, the others for ranges that grow logarithmically up to ``max_distance``
    (Raffel et al., arXiv:1910.10683).
    """
    table = t.input(node, 0)
    distance = _counted(t, t.input(node, 2), 0) - _counted(t, t.input(node, 1), 1)
    buckets, reach = table.known[0], int(node.attrs["max_distance"])
    start = None
    if int(node.attrs.get("is_bidirectional", 0)):
        buckets //= 2
        start = t.cast(distance > 0, INT64) * buckets
        distance = t.unary("Abs", distance)
    else:
        distance = t.binary("Max", -distance, 0)
    single = buckets // 2
    far = t.binary("Max", t.cast(distance, FLOAT), 1.0) / float(single)
    grown = t.unary("Log", far) * ((buckets - single) / log(reach / single))
    grown = t.binary("Min", t.cast(grown, INT64) + single, buckets - 1)
    index = t.where(distance < single, distance, grown)
    rows = _rows(t, table, index if start is None else index + start)
    return (t.unsqueeze(t.transpose(rows, [2, 0, 1]), [0]),)


def _counted(t: Tape, length: Value, axis: int) -> Value:
    """0, 1, ... up to a number in a tensor of one element, as a row (axis 0) or a column (axis 1)."""
    known = t.graph.value(length.name)
    end = t.cast(t.op("Reshape", length, t.const(np.zeros(0, np.int64)), sizes=()), INT64)
    sizes = None if known is None else (int(known.reshape(-1)[0]),)
    return t.unsqueeze(t.op("Range", t.const(np.int64(0)), end, t.const(np.int64(1)), sizes=sizes), [axis])


def expand_gated_bias(node: Node, t: Tape) -> Cotangents:
    """rel_pos (u (r eco_a - 1) + 2), where the gates u and r come from the queries (Chi et al., arXiv:2111.02735).

    Both are the sigmoid of the sum of one half of (query + bias) weight + bias: (batch, heads, positions, 1).
    """
    if t.has(node, 6):
        raise UnsupportedModel(f"{node} reads rows packed end to end", "Export the model without removed padding.")
    heads = int(node.attrs["num_heads"])
    query, bias, relative, weight, shift, eco = (t.input(node, k) for k in range(6))
    query = query + bias
    parts = [t.dim(query, 0), t.dim(query, 1), heads, query.known[2] // heads]
    gates = t.matmul(t.transpose(t.reshape(query, parts), [0, 2, 1, 3]), weight) + shift
    half = weight.known[1] // 2
    u, r = (t.unary("Sigmoid", t.sum(t.slice(gates, -1, start, start + half), (-1,), keep=True)) for start in (0, half))
    return ((u * (r * eco - 1.0) + 2.0) * relative,)
