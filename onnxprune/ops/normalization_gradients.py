"""Gradients of normalisations: one closed form, with other axes for every operator.

For ``xhat = (x - mean) rstd`` and a cotangent g of xhat, means taken over the axes of the statistics:

    dx = rstd (g - mean(g) - xhat mean(g xhat))

The middle term is missing where no mean is subtracted (root mean square). BatchNormalization is in
``batch_norm_gradients``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import onnx

from onnxprune.graph import Node
from onnxprune.ops.emitter import Dim, Value
from onnxprune.ops.tape import Tape

__all__ = [
    "count",
    "expand_contrib_group_norm",
    "expand_group_norm",
    "expand_simplified",
    "expand_skip_norm",
    "rstd_of",
    "vjp_instance_norm",
    "vjp_layer_norm",
    "vjp_lp_norm",
    "vjp_lrn",
    "vjp_mean_variance",
    "vjp_rms_norm",
]

Cotangents = Sequence[Value | None]
FLOAT, DOUBLE = int(onnx.TensorProto.FLOAT), int(onnx.TensorProto.DOUBLE)


def rstd_of(t: Tape, variance: Value, epsilon: float) -> Value:
    """1 / sqrt(variance + epsilon)."""
    return t.unary("Reciprocal", t.unary("Sqrt", variance + epsilon))


def count(t: Tape, x: Value, axes: Sequence[int]) -> Value | float:
    """How many elements a mean over these axes is taken over."""
    found = t.product([t.dim(x, axis) for axis in axes])
    if isinstance(found, Dim):
        return t.cast(found.value, x.dtype)
    return float(found)


# -- over the last axes -----------------------------------------------------------------------------------------------


def vjp_layer_norm(node: Node, t: Tape) -> Cotangents:
    """y = xhat scale + bias; the forward node puts out mean and rstd, in float32 or wider."""
    x, scale = t.input(node, 0), t.input(node, 1)
    first = int(node.attrs.get("axis", -1)) % x.rank
    axes = range(first, x.rank)
    mean, rstd = _layer_statistics(node, t, x, axes)
    x, dy, scale = (t.cast(value, rstd.dtype) for value in (x, t.dy(node), scale))
    xhat = (x - mean) * rstd
    dx = _through_rows(t, dy, scale, xhat, rstd, axes) if t.needs(node, 0) else None
    if dx is not None:
        dx = _with_statistics(node, t, dx, xhat, rstd, axes)
    return dx, dy * xhat if t.needs(node, 1) else None, dy


def _layer_statistics(node: Node, t: Tape, x: Value, axes: range) -> tuple[Value, Value]:
    """Mean and rstd with axes of size 1. onnxruntime gives them in float32 only: those of float64 are computed here."""
    if x.dtype == DOUBLE:
        mean = t.mean(x, axes, keep=True)
        centred = x - mean
        return mean, rstd_of(t, t.mean(centred * centred, axes, keep=True), _epsilon(node))
    like = replace(x, sizes=(*x.known[: axes.start], *[1] * len(axes)))
    return t.ask(node, 1, like, dtype=FLOAT), t.ask(node, 2, like, dtype=FLOAT)


def _with_statistics(node: Node, t: Tape, dx: Value, xhat: Value, rstd: Value, axes: range) -> Value:
    """What comes back through the outputs mean and rstd, where somebody reads them: d rstd / dx = -rstd^2 xhat / n."""
    total = count(t, xhat, axes)
    mean, other = (t.known_dy(node, k) for k in (1, 2))
    if mean is not None:
        dx = dx + t.cast(mean, dx.dtype) / total
    if other is not None:
        dx = dx - xhat * (t.cast(other, dx.dtype) * rstd * rstd / total)
    return dx


def _through_rows(
    t: Tape, dy: Value, scale: Value, xhat: Value, rstd: Value, axes: range, *, centred: bool = True
) -> Value:
    """dx of the module docstring with g = dy scale.

    Over one axis that the scale spans, means of g are products of matrices with a column, mean(g) = dy (scale / n).
    """
    g, product = dy * scale, dy * xhat
    width = xhat.known[-1]
    if len(axes) == 1 and scale.sizes == (width,) and width > 0:
        column = t.reshape(scale / float(width), [width, 1])
        pull = xhat * t.matmul(product, column)
        return (g - (pull + t.matmul(dy, column) if centred else pull)) * rstd
    pull = xhat * t.mean(product * scale, axes, keep=True)
    return (g - (pull + t.mean(g, axes, keep=True) if centred else pull)) * rstd


def vjp_rms_norm(node: Node, t: Tape) -> Cotangents:
    """y = xhat scale, xhat = x / sqrt(mean(x^2) + epsilon)."""
    x, scale, dy = t.input(node, 0), t.input(node, 1), t.dy(node)
    kind = x.dtype if x.dtype == DOUBLE else FLOAT
    x, scale, dy = (t.cast(value, kind) for value in (x, scale, dy))
    axes = range(int(node.attrs.get("axis", -1)) % x.rank, x.rank)
    rstd = rstd_of(t, t.mean(x * x, axes, keep=True), _epsilon(node))
    xhat = x * rstd
    dx = _through_rows(t, dy, scale, xhat, rstd, axes, centred=False) if t.needs(node, 0) else None
    other = t.known_dy(node, 1)
    if dx is not None and other is not None:
        dx = dx - xhat * (t.cast(other, kind) * rstd * rstd / count(t, x, axes))
    return dx, dy * xhat if t.needs(node, 1) else None


def expand_simplified(node: Node, t: Tape) -> Cotangents:
    """RMS normalisation in operators of any opset; outputs y and rstd."""
    x = t.input(node, 0)
    axes = range(int(node.attrs.get("axis", -1)) % x.rank, x.rank)
    y, rstd = _simplified(t, x, t.input(node, 1), axes, _epsilon(node))
    return y, rstd


def _simplified(t: Tape, x: Value, scale: Value, axes: range, epsilon: float) -> tuple[Value, Value]:
    rstd = rstd_of(t, t.mean(x * x, axes, keep=True), epsilon)
    return x * rstd * scale, rstd


def expand_skip_norm(node: Node, t: Tape) -> Cotangents:
    """Normalisation of x + skip + bias; outputs y, mean, rstd and the sum."""
    simple = node.op == "SkipSimplifiedLayerNormalization"
    total = t.input(node, 0) + t.input(node, 1)
    beta, bias = (None, t.optional(node, 3)) if simple else (t.optional(node, 3), t.optional(node, 4))
    if bias is not None:
        total = total + bias
    epsilon = float(node.attrs.get("epsilon", 1e-12))
    if simple:
        y, rstd = _simplified(t, total, t.input(node, 2), range(total.rank - 1, total.rank), epsilon)
        return y, None, rstd, total
    return *layer_norm(t, total, t.input(node, 2), beta, epsilon, more=any(node.outputs[1:3])), total


def layer_norm(
    t: Tape, x: Value, scale: Value, bias: Value | None, epsilon: float, *, more: bool = False
) -> tuple[Value, Value | None, Value | None]:
    """LayerNormalization over the last axis. ``more``: with the outputs mean and rstd."""
    sizes = (*x.known[:-1], 1)
    kinds = (x.dtype, FLOAT, FLOAT)
    outputs = t.ops(
        "LayerNormalization", x, scale, bias, sizes=(x.sizes, sizes, sizes)[: 3 if more else 1],
        dtypes=kinds[: 3 if more else 1], axis=-1, epsilon=epsilon,
    )  # fmt: skip
    return (outputs[0], outputs[1], outputs[2]) if more else (outputs[0], None, None)


# -- over space, for every channel or group of channels ---------------------------------------------------------------


def vjp_instance_norm(node: Node, t: Tape) -> Cotangents:
    """Statistics over space for every channel of every sample; x is seen as (1, samples x channels, space).

    What is the same affine map of such a row everywhere is written as a BatchNormalization: one pass, however small the
    space is. ``rest`` is what the mean is off by in float32.
    """
    x, scale, dy = t.input(node, 0), t.input(node, 1), t.dy(node)
    kind = x.dtype if x.dtype == DOUBLE else FLOAT
    small = [t.dim(x, 0), t.dim(x, 1)]
    rows = [1, t.product(small), t.product([t.dim(x, axis) for axis in range(2, x.rank)])]
    whole, dy = (t.reshape(t.cast(value, kind), rows) for value in (x, dy))
    centred = _affine(t, whole, None, -t.mean(whole, (0, 2)))
    rest, sums = t.mean(centred, (0, 2)), t.sum(dy, (0, 2))
    rstd = rstd_of(t, t.mean(centred * centred, (0, 2)), _epsilon(node))
    dots = (t.sum(dy * centred, (0, 2)) - rest * sums) * rstd
    dx = None
    if t.needs(node, 0):
        slope = t.reshape(t.expand_to(t.cast(scale, kind), small), rows[1:2]) * rstd
        pull, push = (part * slope / count(t, whole, (2,)) for part in (dots, sums))
        pull = pull * rstd
        dx = t.reshape_like(_affine(t, dy, slope, rest * pull - push) - _affine(t, centred, pull, None), x)
    return dx, *(t.sum(t.reshape(part, small), (0,)) for part in (dots, sums))


def _affine(t: Tape, x: Value, slope: Value | None, shift: Value | None) -> Value:
    """slope x + shift for every row of x (1, rows, space); 1 and 0 where they are missing."""
    zero, one = (t.expand_to(t.const(value, x.dtype), [t.dim(x, 1)]) for value in (0.0, 1.0))
    inputs = one if slope is None else slope, zero if shift is None else shift
    return t.op("BatchNormalization", x, *inputs, zero, one, sizes=x.sizes, epsilon=0.0)


def expand_group_norm(node: Node, t: Tape) -> Cotangents:
    """InstanceNormalization with a group as one channel, then scale and bias where every channel has its own.

    Both are fused kernels; the operator itself is taken apart into many by onnxruntime.
    """
    x, groups = t.input(node, 0), int(node.attrs["num_groups"])
    kind = x.dtype if x.dtype == DOUBLE else FLOAT
    whole, scale, bias = (t.cast(t.input(node, k), kind) for k in range(3))
    one, zero = (t.const(np.full(groups, value), kind) for value in (1.0, 0.0))
    own = (scale, bias) if scale.known[0] == groups else (one, zero)
    inside = t.product([x.known[1] // groups, *(t.dim(x, axis) for axis in range(2, x.rank))])
    rows = t.reshape(whole, [t.dim(x, 0), groups, inside])
    y = t.op("InstanceNormalization", rows, *own, sizes=rows.sizes, epsilon=_epsilon(node))
    y = t.reshape_like(y, whole)
    if scale.known[0] != groups:
        mean, variance = (t.const(np.full(scale.known[0], value), kind) for value in (0.0, 1.0))
        y = t.op("BatchNormalization", y, scale, bias, mean, variance, sizes=x.sizes, epsilon=0.0)
    return (t.cast(y, x.dtype),)


def expand_contrib_group_norm(node: Node, t: Tape) -> Cotangents:
    """x (n, space, channels), or channels before space; SiLU behind it where ``activation`` is 1."""
    x, gamma, beta = (t.input(node, k) for k in range(3))
    groups = int(node.attrs["groups"])
    last = bool(node.attrs.get("channels_last", 1))
    channels = x.known[-1 if last else 1]
    space = t.product([t.dim(x, axis) for axis in (range(1, x.rank - 1) if last else range(2, x.rank))])
    inside = [groups, channels // groups]
    whole = t.reshape(t.cast(x, gamma.dtype), [t.dim(x, 0), *([space, *inside] if last else [*inside, space])])
    axes = (1, 3) if last else (2, 3)
    centred = whole - t.mean(whole, axes, keep=True)
    xhat = centred * rstd_of(t, t.mean(centred * centred, axes, keep=True), float(node.attrs.get("epsilon", 1e-5)))
    scale, shift = (t.reshape(value, inside if last else [*inside, 1]) for value in (gamma, beta))
    y = t.cast(t.reshape_like(xhat * scale + shift, x), x.dtype)
    return (y * t.unary("Sigmoid", y) if node.attrs.get("activation", 0) else y,)


# -- without parameters -----------------------------------------------------------------------------------------------


def vjp_mean_variance(node: Node, t: Tape) -> Cotangents:
    """y = (x - mean) / (std + 1e-9)."""
    x, y, dy = t.input(node, 0), t.output(node), t.dy(node)
    axes = tuple(node.attrs.get("axes", (0, 2, 3)))
    centred = x - t.mean(x, axes, keep=True)
    rstd = 1.0 / (t.unary("Sqrt", t.mean(centred * centred, axes, keep=True)) + 1e-9)
    return ((dy - (y * t.mean(dy * y, axes, keep=True) + t.mean(dy, axes, keep=True))) * rstd,)


def vjp_lp_norm(node: Node, t: Tape) -> Cotangents:
    """y = x / |x|: dx = (dy - y sum(dy y)) / |x| for p = 2, with sign(x) for the first y for p = 1; 0 where |x| is."""
    x, y, dy = t.input(node, 0), t.output(node), t.dy(node)
    axes = (int(node.attrs.get("axis", -1)),)
    one = int(node.attrs.get("p", 2)) == 1
    norm = t.reduce("ReduceL1" if one else "ReduceL2", x, axes, keep=True)
    zero = norm.equals(0.0)
    inverse = t.where(zero, 0.0, 1.0 / t.where(zero, 1.0, norm))
    return ((dy - (t.unary("Sign", x) if one else y) * t.sum(dy * y, axes, keep=True)) * inverse,)


def vjp_lrn(node: Node, t: Tape) -> Cotangents:
    """y = x s^-beta, s = bias + alpha times the mean of x^2 over a window of channels.

    dx = dy s^-beta - 2 alpha beta x m, where m is the mean of dy x s^(-beta - 1) over the mirrored window.
    """
    x, dy = t.input(node, 0), t.dy(node)
    alpha, beta = float(node.attrs.get("alpha", 1e-4)), float(node.attrs.get("beta", 0.75))
    size = int(node.attrs["size"])
    scale = _window(t, x * x, size, mirrored=False) * alpha + float(node.attrs.get("bias", 1.0))
    direct = dy * scale ** (-beta)
    return (direct - x * _window(t, direct * x / scale, size, mirrored=True) * (2.0 * alpha * beta),)


def _window(t: Tape, x: Value, size: int, *, mirrored: bool) -> Value:
    """Mean over ``size`` neighbouring channels; what lies outside counts as 0."""
    before, after = (size - 1) // 2, size // 2
    if mirrored:
        before, after = after, before
    flat = t.reshape(x, [t.dim(x, 0), 1, t.dim(x, 1), t.product([t.dim(x, axis) for axis in range(2, x.rank)])])
    mean = t.op(
        "AveragePool", flat, sizes=flat.sizes, kernel_shape=[size, 1], pads=[before, 0, after, 0], count_include_pad=1
    )
    return t.reshape_like(mean, x)


def _epsilon(node: Node) -> float:
    return float(node.attrs.get("epsilon", np.float32(1e-5)))
