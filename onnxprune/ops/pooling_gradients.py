"""Gradients of pooling.

A maximum sends its cotangent to the position that won, as the operator itself reports it; a mean and a norm spread
theirs over the window. Spreading is the transpose of summing over windows: every channel of every example is a map of
its own, on which a kernel of ones is laid by ConvTranspose.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod

import numpy as np
from onnx import TensorProto

from onnxprune.graph import Node
from onnxprune.ops.conv_gradients import cut_to, spread
from onnxprune.ops.emitter import Emitter, Value
from onnxprune.ops.tape import Tape
from onnxprune.ops.window_gradients import Windows, conv_windows, pad_map, pool_windows

Cotangents = Sequence[Value | None]
INT64 = int(TensorProto.INT64)


def vjp_max_pool(node: Node, t: Tape) -> Cotangents:
    """dx is zero but where ``Indices`` point: they count through the whole tensor. Ties go where the operator says.

    Behind Relu, what won is 0 where the pooled value is: Relu's own gradient is taken here, on the smaller tensor.
    """
    dy, x = t.dy(node), t.input(node, 0)
    maker = t.graph.producer.get(node.input(0))
    rectified = maker is not None and maker.op == "Relu" and not maker.domain and not t.guided and bool(node.output(0))
    if rectified:
        dy = t.gate(dy, t.output(node) > 0.0)
    windows = pool_windows(node, x.known[2:], t.output(node).known[2:])
    if node.attrs.get("storage_order", 0) or (node.output(1) and not node.output(0)):
        attrs = {key: value for key, value in node.attrs.items() if key != "storage_order"}
        where = t.ops("MaxPool", x, sizes=(dy.sizes, dy.sizes), dtypes=(None, INT64), **attrs)[1]
    else:
        where = t.ask(node, 1, t.output(node), dtype=INT64)
    all_x = [t.dim(x, axis) for axis in range(x.rank)]
    all_y = [t.dim(dy, axis) for axis in range(dy.rank)]
    zeros = t.expand_to(t.const(np.zeros(1), x.dtype), [t.product(all_x)])
    apart = all(s >= r for s, r in zip(windows.strides, windows.reach, strict=True))
    flat = [t.reshape(value, [t.product(all_y)]) for value in (where, dy)]
    found = t.op("ScatterElements", zeros, *flat, sizes=zeros.sizes, axis=0, reduction=None if apart else "add")
    dx = t.reshape(found, all_x)
    if rectified:
        t.vanishing[dx.name] = x.name
    return (dx,)


def vjp_average_pool(node: Node, t: Tape) -> Cotangents:
    """y = sum over the window / number of its positions, with or without those in the padding."""
    dy, x = t.dy(node), t.input(node, 0)
    windows = pool_windows(node, x.known[2:], dy.known[2:])
    return (spread_sum(t, dy / _positions(node, t, windows), windows, x),)


def vjp_lp_pool(node: Node, t: Tape) -> Cotangents:
    """y = (sum of |x|^p)^(1/p): dx = sign(x) |x|^(p-1) times the sum over its windows of dy y^(1-p)."""
    dy, x, y = t.dy(node), t.input(node, 0), t.output(node)
    windows = pool_windows(node, x.known[2:], dy.known[2:])
    p = float(node.attrs.get("p", 2))
    return (spread_sum(t, _norm_cotangent(t, dy, y, p), windows, x) * _norm_slope(t, x, p),)


def vjp_global_average_pool(node: Node, t: Tape) -> Cotangents:
    """y is the mean over space."""
    dy, x = t.dy(node), t.input(node, 0)
    count = t.product([t.dim(x, axis) for axis in range(2, x.rank)])
    scaled = dy / float(count) if isinstance(count, int) else dy / t.cast(count.value, dy.dtype)
    return (t.expand(scaled, x),)


def vjp_global_max_pool(node: Node, t: Tape) -> Cotangents:
    """The first position of the maximum gets all."""
    dy, x = t.dy(node), t.input(node, 0)
    rows = t.product([t.dim(x, 0), t.dim(x, 1)])
    flat = t.reshape(x, [rows, t.product([t.dim(x, axis) for axis in range(2, x.rank)])])
    where = t.op("ArgMax", flat, sizes=(flat.known[0], 1), dtype=INT64, axis=1, keepdims=1)
    found = t.op("ScatterElements", t.zeros_like(flat), where, t.reshape(dy, [rows, 1]), sizes=flat.sizes, axis=1)
    return (t.reshape_like(found, x),)


def vjp_global_lp_pool(node: Node, t: Tape) -> Cotangents:
    """As `vjp_lp_pool` with one window."""
    x, p = t.input(node, 0), float(node.attrs.get("p", 2))
    return (_norm_cotangent(t, t.dy(node), t.output(node), p) * _norm_slope(t, x, p),)


def _norm_cotangent(t: Emitter, dy: Value, y: Value, p: float) -> Value:
    """dy y^(1-p), 0 where y is."""
    if p == 1:
        return dy
    return t.where(y > 0.0, dy / (y if p == 2 else y ** (p - 1)), 0.0)


def _norm_slope(t: Emitter, x: Value, p: float) -> Value:
    """sign(x) |x|^(p-1)."""
    if p == 2:
        return x
    sign = t.unary("Sign", x)
    return sign if p == 1 else sign * t.unary("Abs", x) ** (p - 1)


def spread_sum(t: Emitter, dy: Value, windows: Windows, x: Value) -> Value:
    """The transpose of summing over windows: (N, C, small) -> (N, C, big), shaped as ``x``."""
    fixed = all(size >= 0 for size in (*x.known[2:], *dy.known[2:]))
    if windows.strides == windows.kernel and not windows.padded and set(windows.dilations) == {1} and fixed:
        return _repeated(t, dy, windows, x)
    maps = t.product([t.dim(x, 0), t.dim(x, 1)])
    alone = t.reshape(dy, [maps, 1, *(t.dim(dy, axis) for axis in range(2, dy.rank))])
    big = [t.dim(x, axis) for axis in range(2, x.rank)]
    like = Value(t, x.name, (alone.known[0], 1, *x.known[2:]), x.dtype)
    ones = t.const(np.ones((1, 1, *windows.kernel)), dy.dtype)
    found = spread(t, alone, ones, windows, 1, like)
    return t.reshape(found, [t.dim(x, 0), t.dim(x, 1), *big])


def _repeated(t: Emitter, dy: Value, windows: Windows, x: Value) -> Value:
    """Windows side by side: every cotangent is repeated, and what no window reaches gets 0."""
    lead = [t.dim(dy, 0), t.dim(dy, 1)]
    spots, kernel = dy.known[2:], windows.kernel
    thin = t.reshape(dy, [*lead, *(n for size in spots for n in (size, 1))])
    wide = t.expand_to(thin, [*lead, *(n for pair in zip(spots, kernel, strict=True) for n in pair)])
    covered = [a * b for a, b in zip(spots, kernel, strict=True)]
    found = t.reshape(wide, [*lead, *covered])
    over = [0, 0, *(n - m for n, m in zip(x.known[2:], covered, strict=True))]
    return t.op("Pad", found, t.ints(*[0] * x.rank, *over), sizes=x.sizes) if any(over) else found


def _positions(node: Node, t: Tape, windows: Windows) -> Value | float:
    """How many positions each window has: a number, or a map (1, 1, small)."""
    x, y = t.input(node, 0), t.output(node)
    own = conv_windows(node, windows.kernel, x.known[2:])  # without what ceil_mode adds, which never counts
    with_padding = bool(node.attrs.get("count_include_pad", 0))
    fixed = all(size >= 0 for size in (*x.known[2:], *y.known[2:]))
    ceil = windows != own if fixed else bool(node.attrs.get("ceil_mode", 0))
    if not ceil and (with_padding or not windows.padded):
        return float(prod(windows.kernel))
    if not fixed:
        return _counted(t, own, x, y, with_padding=with_padding)
    count = np.ones(())
    for axis, size in enumerate(x.known[2:]):
        low, high = (-own.begin[axis], size + own.end[axis]) if with_padding else (0, size)
        first = np.arange(y.known[2 + axis]) * own.strides[axis] - own.begin[axis]
        at = first[:, None] + np.arange(own.kernel[axis]) * own.dilations[axis]
        count = count[..., None] * ((at >= low) & (at < high)).sum(axis=1)
    return t.const(count[None, None], x.dtype)


def _counted(t: Emitter, own: Windows, x: Value, y: Value, *, with_padding: bool) -> Value:
    """The same for sizes that are not known yet: a convolution of ones with ones."""
    one = t.const(np.ones((1,) * x.rank), x.dtype)
    ones = t.expand_to(one, [1, 1, *(t.dim(x, axis) for axis in range(2, x.rank))])
    if with_padding:
        ones, own = pad_map(t, ones, own, value=1.0), replace(own, begin=(0,) * own.rank, end=(0,) * own.rank)
    own = replace(own, end=tuple(e + s - 1 for e, s in zip(own.end, own.strides, strict=True)))
    found = t.op(
        "Conv",
        ones,
        t.const(np.ones((1, 1, *own.kernel)), x.dtype),
        sizes=(1, 1, *y.known[2:]),
        strides=list(own.strides),
        dilations=list(own.dilations),
        pads=own.pads,
    )
    return cut_to(t, found, y)
