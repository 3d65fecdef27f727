"""Attention taken apart: MatMul, Softmax and Transpose, which have gradients and which onnxruntime fuses again.

``y = softmax(scale q k' + bias) v``, q (batch, heads, positions, dims), k and v (batch, key heads, positions, dims).
Query heads that share a key head are rows of one product. What must not be attended to gets the lowest number as its
bias rather than minus infinity, so that nothing becomes NaN.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from onnxprune.errors import UnsupportedModel
from onnxprune.graph import Node
from onnxprune.ops.emitter import BOOL, INT64, Dim, Value
from onnxprune.ops.rotary_gradients import rows_of, turn
from onnxprune.ops.tape import Tape
from onnxprune.weights import dtype_of

__all__ = ["expand_fused", "expand_grouped", "expand_multi_head", "expand_standard"]

Cotangents = Sequence[Value | None]


@dataclass(frozen=True)
class _Scores:
    """What is done to q k' before and in the softmax.

    ``bias``: added; ``allowed``: booleans, all of which must hold; ``cap``: scores become cap tanh(scores / cap);
    ``sink``: a further score per head that takes part in the softmax and has no value. ``strict``: rows in which
    nothing is allowed give 0.
    """

    scale: float
    bias: Sequence[Value] = ()
    allowed: Sequence[Value] = field(default=())
    cap: float = 0.0
    sink: Value | None = None
    strict: bool = False


def _attend(t: Tape, q: Value, k: Value, v: Value, how: _Scores) -> tuple[Value, tuple[Value, Value, Value, Value]]:
    """y (batch, heads, positions, dims of v), and the scores: scaled, capped, with their bias, after the softmax."""
    batch, heads, rows = (t.dim(q, axis) for axis in range(3))
    groups, length = t.dim(k, 1), t.dim(k, 2)
    shared = q.known[1] != k.known[1]
    stacked = t.product([rows, q.known[1] // k.known[1]])
    scaled = q * how.scale if how.scale != 1 else q
    if shared:
        scaled = t.reshape(scaled, [batch, groups, stacked, t.dim(q, 3)])
    raw = t.matmul(scaled, t.swap(k))
    if shared:
        raw = t.reshape(raw, [batch, heads, rows, length])
    capped = t.unary("Tanh", raw / how.cap) * how.cap if how.cap else raw
    final = capped
    bias = _total_bias(t, how, q.dtype)
    if bias is not None:
        final = final + bias
    weights = _softmax(t, final, how)
    if how.strict and bias is not None:
        reached = t.reduce("ReduceMax", bias, (-1,), keep=True) > _lowest(q.dtype)
        weights = t.where(reached, weights, 0.0)
    whole = t.reshape(weights, [batch, groups, stacked, length]) if shared else weights
    y = t.matmul(whole, v)
    return t.reshape(y, [batch, heads, rows, t.dim(v, 3)]) if shared else y, (raw, capped, final, weights)


def _total_bias(t: Tape, how: _Scores, dtype: int) -> Value | None:
    bias = None
    for part in how.bias:
        bias = part if bias is None else bias + part
    if not how.allowed:
        return bias
    allowed = how.allowed[0]
    for part in how.allowed[1:]:
        allowed = t.binary("And", allowed, part)
    return t.where(allowed, t.const(0.0, dtype) if bias is None else bias, _lowest(dtype))


def _softmax(t: Tape, scores: Value, how: _Scores) -> Value:
    if how.sink is None:
        return t.unary("Softmax", scores, axis=-1)
    column = t.expand_to(
        t.reshape(how.sink, [1, how.sink.known[0], 1, 1]), [*(t.dim(scores, axis) for axis in range(3)), 1]
    )
    weights = t.unary("Softmax", t.concat([scores, column], -1), axis=-1)
    return t.op("Slice", weights, t.ints(0), t.ints(-1), t.ints(3), sizes=scores.sizes)


def _lowest(dtype: int) -> float:
    return float(np.finfo(dtype_of(dtype)).min)


def _split(t: Tape, x: Value, heads: int) -> Value:
    """(batch, positions, heads x dims) -> (batch, heads, positions, dims), which other tensors have already."""
    if x.rank == 4:
        return x
    parts = t.reshape(x, [t.dim(x, 0), t.dim(x, 1), heads, x.known[2] // heads])
    return t.transpose(parts, [0, 2, 1, 3])


def _join(t: Tape, y: Value) -> Value:
    """(batch, heads, positions, dims) -> (batch, positions, heads x dims)."""
    return t.reshape(t.transpose(y, [0, 2, 1, 3]), [t.dim(y, 0), t.dim(y, 2), y.known[1] * y.known[3]])


def _causal(t: Tape, rows: int | Dim, columns: int | Dim, past: Value | None, axis: int) -> Value:
    """Whether row i may attend to column j: j <= i + length of the past, which is ``axis`` of its tensor."""
    down = t.unsqueeze(t.count_up(rows), [1])
    if past is not None:
        down = down + t.shape_vector([t.dim(past, axis)])
    return t.unsqueeze(t.count_up(columns), [0]) <= down


def _size(part: int | Dim) -> int:
    return part if isinstance(part, int) else part.size


def _given_scale(node: Node, dims: int) -> float:
    return float(node.attrs.get("scale", 0.0)) or float(1 / np.sqrt(np.float64(dims)))


@dataclass(frozen=True)
class _Places:
    """Input positions of an operator of onnxruntime. ``axis``: of the past, the one that counts its rows."""

    mask: int
    bias: int
    past: int
    axis: int


FUSED = _Places(mask=3, bias=5, past=4, axis=3)
MULTI = _Places(mask=4, bias=5, past=6, axis=2)


# -- com.microsoft --------------------------------------------------------------------------------------------------


def expand_fused(node: Node, t: Tape) -> Cotangents:
    """Attention: x w + bias is q | k | v; outputs y and present."""
    if t.has(node, 6) or int(node.attrs.get("do_rotary", 0)):
        raise _unsupported(node, "a cache in place or rotation inside")
    x, w, heads = t.input(node, 0), t.input(node, 1), int(node.attrs["num_heads"])
    projected, bias = t.matmul(x, w), t.optional(node, 2)
    if bias is not None:
        projected = projected + bias
    given = node.attrs.get("qkv_hidden_sizes") or (w.known[1] // 3,) * 3
    q, k, v = (_split(t, part, heads) for part in _parts(t, projected, given))
    past = t.optional(node, 4)
    if past is not None:
        old = [t.squeeze(t.slice(past, 0, half, half + 1), [0]) for half in (0, 1)]
        k, v = (t.concat([before, now], 2) for before, now in zip(old, (k, v), strict=True))
    present = t.concat([t.unsqueeze(k, [0]), t.unsqueeze(v, [0])], 0) if node.output(1) else None
    y, _ = _attend(t, q, k, v, _contrib(node, t, q, k, FUSED))
    return _join(t, y), present


def _parts(t: Tape, x: Value, sizes: Sequence[int]) -> list[Value]:
    """Stretches of the last axis."""
    starts = np.concatenate(([0], np.cumsum(sizes)))
    return [t.slice(x, -1, int(a), int(b)) for a, b in pairwise(starts)]


def _contrib(node: Node, t: Tape, q: Value, k: Value, places: _Places) -> _Scores:
    """Mask, bias of the scores and causality as onnxruntime's operators have them."""
    rows, columns = t.dim(q, 2), t.dim(k, 2)
    given = _padding(node, t, places.mask, columns, q.dtype), t.optional(node, places.bias)
    bias = [value for value in given if value is not None]
    allowed = []
    if int(node.attrs.get("unidirectional", 0)):
        allowed.append(_causal(t, rows, columns, t.optional(node, places.past), places.axis))
    return _Scores(_given_scale(node, q.known[3]), bias, allowed)


def _padding(node: Node, t: Tape, k: int, columns: int | Dim, dtype: int) -> Value | None:
    """``mask_filter_value`` where a mask says that a key is padding.

    (batch): lengths; (2 x batch): ends and starts; (batch, keys) or (batch, rows, keys): whether to attend.
    """
    mask = t.optional(node, k)
    if mask is None:
        return None
    if mask.rank == 1:
        attended = _between(node, t, mask, columns)
    elif mask.rank in (2, 3):
        attended = t.unsqueeze(mask, [1, 2] if mask.rank == 2 else [1]) > 0
    else:
        raise _unsupported(node, f"a mask with {mask.rank} axes")
    return t.where(attended, t.const(0.0, dtype), float(node.attrs.get("mask_filter_value", -10000.0)))


def _between(node: Node, t: Tape, mask: Value, columns: int | Dim) -> Value:
    batch, length = t.tensor(node.inputs[0]).known[0], mask.known[0]
    where = t.unsqueeze(t.count_up(columns), [0])
    if length == batch:
        return t.unsqueeze(where < t.unsqueeze(t.cast(mask, INT64), [1]), [1, 2])
    if abs(length) != 2 * abs(batch):
        raise _unsupported(node, "a mask of cumulated lengths")
    pairs = t.reshape(t.cast(mask, INT64), [2, t.dim(t.tensor(node.inputs[0]), 0)])
    ends, starts = (t.unsqueeze(t.squeeze(t.slice(pairs, 0, i, i + 1), [0]), [1]) for i in (0, 1))
    return t.unsqueeze(t.binary("And", where < ends, where >= starts), [1, 2])


def expand_multi_head(node: Node, t: Tape) -> Cotangents:
    """MultiHeadAttention: outputs y, present keys, present values, scores after the softmax."""
    if t.has(node, 8) or t.has(node, 9):
        raise _unsupported(node, "a cache in place or of beams")
    heads = int(node.attrs["num_heads"])
    parts = _given(node, t)
    bias = t.optional(node, 3)
    if bias is not None:
        widths = [part.known[-1] * (heads if part.rank == 4 else 1) for part in parts]
        parts = [_biased(t, *pair, heads) for pair in zip(parts, _parts(t, bias, widths), strict=True)]
    q, k, v = (_split(t, part, heads) for part in parts)
    if t.has(node, 6):
        k, v = (t.concat([t.input(node, i), now], 2) for i, now in ((6, k), (7, v)))
    y, scores = _attend(t, q, k, v, _contrib(node, t, q, k, MULTI))
    return _join(t, y), k, v, scores[3]


def _given(node: Node, t: Tape) -> list[Value]:
    """q, k and v; packed ones (batch, positions, heads, 3 or 2, dims) as (batch, heads, positions, dims)."""
    q = t.input(node, 0)
    if q.rank == 5:
        return _unpacked(t, q)
    k = t.input(node, 1)
    return [q, *_unpacked(t, k)] if k.rank == 5 else [q, k, t.input(node, 2)]


def _unpacked(t: Tape, x: Value) -> list[Value]:
    parts = (t.squeeze(t.slice(x, 3, i, i + 1), [3]) for i in range(x.known[3]))
    return [t.transpose(part, [0, 2, 1, 3]) for part in parts]


def _biased(t: Tape, x: Value, bias: Value, heads: int) -> Value:
    """Keys and values that come as (batch, heads, positions, dims) take their bias per head."""
    return x + (bias if x.rank == 3 else t.reshape(bias, [heads, 1, x.known[3]]))


def expand_grouped(node: Node, t: Tape) -> Cotangents:
    """GroupQueryAttention, causal: outputs y, present keys and present values.

    Row i of sample b stands at position past[b] + i, where past[b] = seqlens_k[b] + 1 - rows.
    """
    if any(t.has(node, k) for k in range(12, 16)):
        raise _unsupported(node, "quantised caches or norms inside")
    heads = int(node.attrs["num_heads"])
    q, k, v = _grouped_inputs(node, t, heads, int(node.attrs["kv_num_heads"]))
    rows = t.dim(q, 2)
    past = t.cast(t.input(node, 5), INT64) + 1 - t.shape_vector([rows])
    past = t.reshape(t.binary("Max", past, t.ints(0)), [t.dim(q, 0), 1])
    where = past + t.unsqueeze(t.count_up(rows), [0])
    if int(node.attrs.get("do_rotary", 0)):
        given = t.optional(node, 9)
        at = where if given is None else t.cast(given, INT64)
        tables = [rows_of(t, t.input(node, i), at) for i in (7, 8)]
        interleaved = bool(node.attrs.get("rotary_interleaved", 0))
        q, k = (turn(t, value, *tables, axis=2, interleaved=interleaved) for value in (q, k))
    if t.has(node, 3):
        k, v = (_behind_past(node, t, t.input(node, i), now, past) for i, now in ((3, k), (4, v)))
    columns, here = t.count_up(t.dim(k, 2)), t.unsqueeze(where, [1, 3])
    allowed, window = [columns <= here], int(node.attrs.get("local_window_size", -1))
    if window > 0:
        allowed.append(columns > here - window)
    bias, sink = t.optional(node, 10), t.optional(node, 11)
    if sink is None and int(node.attrs.get("smooth_softmax", 0)) == 1:
        sink = t.const(np.zeros(heads), q.dtype)
    scale, cap = _given_scale(node, q.known[3]), float(node.attrs.get("softcap", 0.0))
    y, _ = _attend(t, q, k, v, _Scores(scale, [] if bias is None else [bias], allowed, cap, sink))
    return _join(t, y), k, v


def _grouped_inputs(node: Node, t: Tape, heads: int, groups: int) -> list[Value]:
    """q, k and v, which may come in one tensor."""
    parts = [value for value in (t.optional(node, k) for k in range(3)) if value is not None]
    if len(parts) == 1:
        dims = parts[0].known[2] // (heads + 2 * groups)
        parts = _parts(t, parts[0], [heads * dims, groups * dims, groups * dims])
    return [_split(t, part, n) for part, n in zip(parts, (heads, groups, groups), strict=True)]


def _behind_past(node: Node, t: Tape, cache: Value, now: Value, past: Value) -> Value:
    """The first ``past`` (batch, 1) rows of the cache and the new ones, in a tensor that holds ``total`` at least."""
    total, room = t.constant(node, 6), t.dim(cache, 2)
    if total is None or isinstance(room, Dim):
        raise _unsupported(node, "a cache of a size that is not fixed")
    length = max(int(total.reshape(-1)[0]), room)
    at = t.const(np.arange(length, dtype=np.int64)[None])
    fresh = t.binary("Min", at - past + room, t.shape_vector([t.dim(now, 2)]) + (room - 1))
    index = t.where(at < past, t.binary("Min", at, t.ints(room - 1)), fresh)
    index = t.expand_to(t.unsqueeze(index, [1, 3]), [t.dim(now, 0), t.dim(now, 1), length, t.dim(now, 3)])
    return t.op("GatherElements", t.concat([cache, now], 2), index, sizes=index.sizes, axis=2)


# -- the standard operator ------------------------------------------------------------------------------------------


def expand_standard(node: Node, t: Tape) -> Cotangents:
    """Attention: outputs y, present keys, present values, scores of the stage that the node asks for."""
    q, k, v = (t.input(node, i) for i in range(3))
    flat = q.rank == 3
    heads = int(node.attrs["q_num_heads"]) if flat else q.known[1]
    groups = int(node.attrs["kv_num_heads"]) if flat else k.known[1]
    q, k, v = _split(t, q, heads), _split(t, k, groups), _split(t, v, groups)
    if t.has(node, 4):
        k, v = (t.concat([t.input(node, i), now], 2) for i, now in ((4, k), (5, v)))
    rows, columns = t.dim(q, 2), t.dim(k, 2)
    bias, allowed = _standard_mask(t, t.optional(node, 3), columns, q.dtype)
    if int(node.attrs.get("is_causal", 0)):
        allowed.append(_causal(t, rows, columns, t.optional(node, 4), 2))
    lengths = t.optional(node, 6)
    if lengths is not None:
        allowed.append(t.count_up(columns) < t.unsqueeze(lengths, [1, 2, 3]))
    scale, cap = _given_scale(node, q.known[3]), float(node.attrs.get("softcap", 0.0))
    how = _Scores(scale, bias, allowed, cap, strict=t.has(node, 3) or t.has(node, 6))
    y, scores = _attend(t, q, k, v, how)
    mode = int(node.attrs.get("qk_matmul_output_mode", 0))
    return _join(t, y) if flat else y, k, v, scores[mode]


def _standard_mask(t: Tape, mask: Value | None, columns: int | Dim, dtype: int) -> tuple[list[Value], list[Value]]:
    """A mask of booleans or of numbers; where it is shorter than the keys, nobody attends to the others."""
    if mask is None:
        return [], []
    if mask.known[-1] == _size(columns):
        return ([], [mask]) if mask.dtype == BOOL else ([t.binary("Max", mask, _lowest(dtype))], [])
    if mask.dtype == BOOL:
        mask = t.where(mask, t.const(0.0, dtype), _lowest(dtype))
    missing = t.shape_vector([columns]) - t.shape_vector([t.dim(mask, -1)])
    pads = t.concat([t.ints(0), missing], 0)
    sizes = (*mask.known[:-1], _size(columns))
    return [t.op("Pad", mask, pads, t.const(_lowest(dtype), dtype), t.ints(-1), sizes=sizes)], []


def _unsupported(node: Node, what: str) -> UnsupportedModel:
    return UnsupportedModel(
        f"{node} has {what}, which gradients are not written for", "Export the model without a cache to train it."
    )
