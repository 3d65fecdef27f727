"""Attention as one operator: the standard one, and onnxruntime's fused forms.

``y = softmax(scale * q k' + bias) v`` for every head on its own, so heads are free: the product over the dims of a
head is a contraction, exact where q or k is zeroed; the softmax runs over positions, which stay. Several query heads
may read one key head (grouped queries): then whole key/value groups go. The default scale, 1 / sqrt(head size), is
made explicit when dims inside heads go.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onnxprune.graph import Node
from onnxprune.ops.attention_gradients import expand_fused, expand_grouped, expand_multi_head, expand_standard
from onnxprune.ops.cutting import Cutter
from onnxprune.ops.heads import POSITIONS, Heads, keep_scale, left, place, positions, tie_head_axis, tie_past
from onnxprune.ops.matmul import contract
from onnxprune.ops.rotary import tie_pairs
from onnxprune.ops.rule import Role, Rule, Shapes, zero_keeps
from onnxprune.ops.ties import Ties
from onnxprune.values import Ints

MS = "com.microsoft"
ALIGNED = 8


# -- Attention with a fused projection ------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Fused:
    """Input positions of an operator that projects q, k and v itself."""

    bias: int
    past: int
    extra: int | None  # bias of the scores
    columns: tuple[int, ...] = ()  # a value per column of the weight: scale and zero point of a quantised one


FLOAT = _Fused(bias=2, past=4, extra=5)
QUANTISED = _Fused(bias=2, past=8, extra=None, columns=(4, 7))
FUSED = {"Attention": FLOAT, "QAttention": QUANTISED}


def _sizes(node: Node, width: int) -> tuple[int, int, int]:
    """Widths of q, k and v in the fused projection."""
    given = node.attrs.get("qkv_hidden_sizes")
    q, k, v = given or (width // 3,) * 3
    return int(q), int(k), int(v)


def couple_fused(node: Node, t: Ties) -> None:
    """x (batch, positions, in), w (in, q | k | v), bias (q | k | v) -> y (batch, positions, v)."""
    form = FUSED[node.op]
    x, w, bias, y = node.input(0), node.input(1), node.input(form.bias), node.output(0)
    heads = node.attrs["num_heads"]
    q, k, v = _sizes(node, t.graph.shapes[w][1])
    if q != k or q % heads or v % heads:
        t.freeze_node(node, f"the widths of {node} are not those of {heads} heads")
        return
    contract(t, x, 2, w, 0)
    t.tie(x, 0, y, 0, 0)
    positions(t, x)
    h = Heads.declare(t, heads, heads, q // heads, v // heads)
    t.attends.add((w, 1))
    for tensor, axis in ((w, 1), (bias, 0)):
        if tensor:
            _three_parts(t, t.el(tensor, axis), h)
    for table in (node.input(i) for i in form.columns):
        if table and t.shape(table) == (q + k + v,):
            t.tie(w, 1, table, 0, None)
    _scores(node, t, h, form.extra)
    _freeze_others(node, t, {0, 1, form.bias, form.past, form.extra, *form.columns})
    for cache, into in ((node.input(form.past), False), (node.output(1), True)):
        if cache and t.shape(cache) is not None:
            _joint_cache(t, cache, h, into=into)
    if node.attrs.get("do_rotary", 0):
        t.freeze_ids(h.dims, f"{node} rotates pairs of it")
    place(t, y, h.query, h.values, into=True)


def _three_parts(t: Ties, ids: Ints, h: Heads) -> None:
    """q | k | v end to end on one axis."""
    width = h.groups.size * h.dims.size
    for part, dims in ((ids[:width], h.dims), (ids[width : 2 * width], h.keys), (ids[2 * width :], h.values)):
        t.merge(part, [h.groups, dims], into=False, last=True)


def _joint_cache(t: Ties, cache: str, h: Heads, *, into: bool) -> None:
    """(2, batch, heads, positions, dims): keys and values in one tensor, so that they lose the same dims."""
    for axis in (0, 1, 3):
        t.freeze(cache, axis, POSITIONS if axis == 3 else "keys, values and samples of a batch stay together")
    tie_head_axis(t, cache, 2, h.key, into=into)
    for dims in (h.keys, h.values):
        source, target = (dims, t.el(cache, 4)) if into else (t.el(cache, 4), dims)
        t.tie_ids(source, target)


def cut_fused(node: Node, c: Cutter) -> None:
    """The number of heads, and the widths of q, k and v where they are no longer equal."""
    w, y = node.input(1), node.output(0)
    heads = node.attrs["num_heads"]
    q = _sizes(node, c.old_shape(w)[1])[0]
    if not c.changed(w, 1):
        return
    now, dims = left(c, w, 1, (heads, q // heads))
    c.set_attr(node, "num_heads", now)
    if "qkv_hidden_sizes" in node.attrs or now * dims != c.size(y, 2):
        c.set_attr(node, "qkv_hidden_sizes", [now * dims, now * dims, c.size(y, 2)])
    keep_scale(node, c, q // heads, dims)


# -- q, k and v from outside ----------------------------------------------------------------------------------------


def couple_multi_head(node: Node, t: Ties) -> None:
    """q (batch, positions, heads x dims), k, v the same or (batch, heads, positions, dims); or packed into one."""
    q, key, v, bias, y = (*(node.input(k) for k in range(4)), node.output(0))
    heads = node.attrs["num_heads"]
    packed = t.rank(q) == 5
    dims = t.graph.shapes[q][4] if packed else t.graph.shapes[q][2] // heads
    values = t.graph.shapes[y][2] // heads
    if node.input(9):
        t.freeze_node(node, f"{node} reads a cache of beams")
        return
    h = Heads.declare(t, heads, heads, dims, values)
    t.tie(q, 0, y, 0, 0)
    if packed:
        _packed(node, t, 0, h, (h.dims, h.keys, h.values))
    else:
        place(t, q, h.query, h.dims, into=False, k=0)
        if key and t.rank(key) == 5:
            _packed(node, t, 1, h, (h.keys, h.values))
        else:
            place(t, key, h.key, h.keys, into=False, k=1)
            place(t, v, h.key, h.values, into=False, k=2)
    if bias:
        _three_parts(t, t.el(bias, 0), h)
    _scores(node, t, h, 5)
    _freeze_others(node, t, {0, 1, 2, 3, 5, 6, 7})
    _caches(node, t, h, (6, 7))
    place(t, y, h.query, h.values, into=True)


def _packed(node: Node, t: Ties, k: int, h: Heads, dims: tuple[Ints, ...]) -> None:
    """(batch, positions, heads, 3 or 2, dims): q, k and v, or k and v, in one tensor."""
    tensor = node.input(k)
    positions(t, tensor)
    t.freeze(tensor, 3, f"{node} reads q, k and v from it")
    t.tie_ids(t.el(tensor, 2), h.groups, k)
    for size in dims:
        t.tie_ids(t.el(tensor, 4), size, k)


def cut_multi_head(node: Node, c: Cutter) -> None:
    """The number of heads; the scale where the heads became smaller."""
    q, y = node.input(0), node.output(0)
    heads = node.attrs["num_heads"]
    values = c.old_shape(y)[2] // heads
    now, _ = left(c, y, 2, (heads, values))
    c.set_attr(node, "num_heads", now)
    if len(c.old_shape(q)) == 5:
        keep_scale(node, c, c.old_shape(q)[4], c.size(q, 4))
    else:
        dims = c.old_shape(q)[2] // heads
        keep_scale(node, c, dims, left(c, q, 2, (heads, dims))[1])


def couple_grouped(node: Node, t: Ties) -> None:
    """q (batch, positions, kv heads x query heads of each x dims), k and v (batch, positions, kv heads x dims)."""
    q, key, v, y = node.input(0), node.input(1), node.input(2), node.output(0)
    groups, queries = node.attrs["kv_num_heads"], node.attrs["num_heads"]
    dims = t.graph.shapes[y][2] // queries
    h = Heads.declare(t, groups, queries, dims)
    t.tie(q, 0, y, 0, 0)
    if key:
        place(t, q, h.query, h.dims, into=False, k=0)
        place(t, key, h.key, h.keys, into=False, k=1)
        place(t, v, h.key, h.values, into=False, k=2)
    else:
        positions(t, q)
        t.attends.add((q, 2))
        ids, first, second = t.el(q, 2), queries * dims, (queries + groups) * dims
        t.merge(ids[:first], [*h.query, h.dims], into=False, last=True)
        for part, size in ((ids[first:second], h.keys), (ids[second:], h.values)):
            t.merge(part, [h.groups, size], into=False, last=True)
    _scores(node, t, h, 10)
    if node.input(11):
        tie_head_axis(t, node.input(11), 0, h.query, into=False)
    rotates, interleaved = (bool(node.attrs.get(name, 0)) for name in ("do_rotary", "rotary_interleaved"))
    if rotates:
        for turned in (h.dims, h.keys):
            tie_pairs(t, turned, node.input(7), node.input(8), interleaved=interleaved)
    _keep_aligned(t, h, 2 * ALIGNED if rotates and interleaved else ALIGNED)
    if any(node.input(k) for k in range(12, 16)):
        t.freeze_ids(h.dims, f"{node} scales the dims of a head")
    _freeze_others(node, t, {0, 1, 2, 3, 4, 10, 11, *((7, 8) if rotates else ())})
    _caches(node, t, h, (3, 4))
    place(t, y, h.query, h.values, into=True)


def _keep_aligned(t: Ties, h: Heads, block: int) -> None:
    """onnxruntime takes head sizes that are multiples of 8, or of 16 where they rotate: so many dims go together."""
    if h.dims.size % block == 0:
        t.tie_ids(np.repeat(h.dims[::block], block), h.dims, None)


def cut_grouped(node: Node, c: Cutter) -> None:
    """Both numbers of heads; the scale where the heads became smaller."""
    y = node.output(0)
    groups, queries = node.attrs["kv_num_heads"], node.attrs["num_heads"]
    dims = c.old_shape(y)[2] // queries
    kept, repeat, size = left(c, y, 2, (groups, queries // groups, dims))
    c.set_attr(node, "num_heads", kept * repeat)
    c.set_attr(node, "kv_num_heads", kept)
    keep_scale(node, c, dims, size)


def couple_standard(node: Node, t: Ties) -> None:
    """q, k, v of rank 3 with their numbers of heads as attributes, or of rank 4 (batch, heads, positions, dims)."""
    q, key, v, y = node.input(0), node.input(1), node.input(2), node.output(0)
    queries, groups = _standard_heads(node, t.graph.shapes)
    dims, values = (_head_size(t.graph.shapes[x], n) for x, n in ((q, queries), (v, groups)))
    h = Heads.declare(t, groups, queries, dims, values)
    t.tie(q, 0, y, 0, 0)
    place(t, q, h.query, h.dims, into=False, k=0)
    place(t, key, h.key, h.keys, into=False, k=1)
    place(t, v, h.key, h.values, into=False, k=2)
    _scores(node, t, h, 3)
    _freeze_others(node, t, {0, 1, 2, 3, 4, 5})
    _caches(node, t, h, (4, 5))
    place(t, y, h.query, h.values, into=True)


def _standard_heads(node: Node, shapes: Shapes) -> tuple[int, int]:
    """Numbers of query heads and of key heads."""
    q, key = shapes[node.input(0)], shapes[node.input(1)]
    if len(q) == 4:
        return q[1], key[1]
    return int(node.attrs["q_num_heads"]), int(node.attrs["kv_num_heads"])


def _head_size(shape: tuple[int, ...], heads: int) -> int:
    return shape[3] if len(shape) == 4 else shape[2] // heads


def cut_standard(node: Node, c: Cutter) -> None:
    """Both numbers of heads, which only inputs of rank 3 need; the scale where the heads became smaller."""
    q = node.input(0)
    if len(c.old_shape(q)) == 4:
        keep_scale(node, c, c.old_shape(q)[3], c.size(q, 3))
        return
    queries, groups = int(node.attrs["q_num_heads"]), int(node.attrs["kv_num_heads"])
    dims = c.old_shape(q)[2] // queries
    kept, repeat, size = left(c, q, 2, (groups, queries // groups, dims))
    c.set_attr(node, "q_num_heads", kept * repeat)
    c.set_attr(node, "kv_num_heads", kept)
    keep_scale(node, c, dims, size)


# -- what they share ------------------------------------------------------------------------------------------------


def _scores(node: Node, t: Ties, h: Heads, extra: int | None) -> None:
    """q k' sums over the dims. A bias of the scores, (batch, heads, positions, positions), may have a part per head."""
    t.contracts(h.dims, h.keys)
    tensor = node.input(extra) if extra is not None else ""
    if not tensor:
        return
    rank = t.rank(tensor)
    for axis in range(rank):
        if axis == rank - 3:
            tie_head_axis(t, tensor, axis, h.query, into=False)
        else:
            t.freeze(tensor, axis, POSITIONS)


def _caches(node: Node, t: Ties, h: Heads, past: tuple[int, int]) -> None:
    """Past and present keys and values, and the scores where the node gives them out."""
    for k, tensor, dims in zip(past, (node.input(i) for i in past), (h.keys, h.values), strict=True):
        tie_past(t, tensor, h, dims, into=False, k=k)
    tie_past(t, node.output(1), h, h.keys, into=True)
    tie_past(t, node.output(2), h, h.values, into=True)
    scores = node.output(3)
    if scores and t.shape(scores) is not None:
        tie_head_axis(t, scores, 1, h.query, into=True)
        for axis in (2, 3):
            t.freeze(scores, axis, POSITIONS)


def _freeze_others(node: Node, t: Ties, known: set[int | None]) -> None:
    """Masks, lengths and positions stay as they are."""
    for k, tensor in enumerate(node.inputs):
        if tensor and k not in known:
            t.freeze_all(tensor, f"{node} reads positions from it")


# -- costs ----------------------------------------------------------------------------------------------------------


def macs_fused(node: Node, shapes: Shapes) -> int:
    """Projection, scores and weighted sum."""
    batch, length, width = shapes[node.input(0)]
    columns, values = shapes[node.input(1)][1], shapes[node.output(0)][2]
    return batch * length * (width * columns + length * ((columns - values) // 2 + values))


def macs_scores(node: Node, shapes: Shapes) -> int:
    """Positions x positions x (dims of q + dims of v), over all heads."""
    q, y = shapes[node.input(0)], shapes[node.output(0)]
    wide = int(np.prod(y))
    if len(q) == 5 or not node.input(1):
        return 2 * wide * q[1]
    key = shapes[node.input(1)]
    length = key[2] if len(key) == 4 else key[1]
    present = shapes.get(node.output(1)) if node.output(1) else None
    if present is not None and len(present) == 4:
        length = present[2]
    return length * (int(np.prod(q)) + wide)


D, L, I = Role.DATA, Role.LINEAR, Role.INDEX  # noqa: E741
RULES = (
    Rule("Attention", couple_fused, (D, L, L, Role.CONDITION, D, D, I), zero_keeps, cut_fused, macs_fused, MS,
         expand=expand_fused),
    Rule(
        "QAttention",
        couple_fused,
        (D, L, L, Role.SCALE, Role.SCALE, Role.CONDITION, Role.ZERO_POINT, Role.ZERO_POINT, D),
        zero_keeps,
        cut_fused,
        macs_fused,
        MS,
    ),
    Rule("MultiHeadAttention", couple_multi_head, (D, D, D, L, Role.CONDITION, D, D, D, I), zero_keeps, cut_multi_head,
         macs_scores, MS, expand=expand_multi_head),
    Rule("GroupQueryAttention", couple_grouped, (D, D, D, D, D, I, I, Role.TABLE, Role.TABLE, I, D, D), zero_keeps,
         cut_grouped, macs_scores, MS, expand=expand_grouped),
    Rule("Attention", couple_standard, (D, D, D, D, D, D, I), zero_keeps, cut_standard, macs_scores,
         expand=expand_standard),
)  # fmt: skip
