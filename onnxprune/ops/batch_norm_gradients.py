"""BatchNormalization: its gradients with frozen statistics and with those of the batch, and its form in training.

``y = (x - mean) rstd scale + bias`` for every channel. While training, ``train_batch_norm`` computes mean and variance
with nodes of their own, which every execution provider has; the operator itself does the rest. What is the same affine
map of a channel everywhere is written as a BatchNormalization as well: onnxruntime runs one in a single pass, two to
four times as fast as Mul and Add where space is small.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from onnxprune.graph import Node
from onnxprune.ops.emitter import Value
from onnxprune.ops.normalization_gradients import DOUBLE, FLOAT, count, rstd_of
from onnxprune.ops.tape import Tape

__all__ = ["train_batch_norm", "vjp_batch_norm"]

Cotangents = Sequence[Value | None]


@dataclass(frozen=True)
class _Batch:
    """Statistics of a batch. ``centred``: x less a mean that is ``rest`` off, which is its rounding error."""

    centred: Value
    rest: Value
    mean: Value
    variance: Value  # of the population


def vjp_batch_norm(node: Node, t: Tape) -> Cotangents:
    """Cotangents of x, scale, bias, mean and variance."""
    own = _of_batch(node, t)
    return _frozen(node, t) if own is None else _through_batch(node, t, own)


def _frozen(node: Node, t: Tape) -> Cotangents:
    """dx = dy scale rstd: the operator itself, applied to dy without mean and bias."""
    x, scale, _, mean, variance = _inputs(node, t)
    dy, zero = t.cast(t.dy(node), x.dtype), _constant(t, scale, 0.0)
    epsilon = _epsilon(node)
    dx = dscale = dmean = dvariance = None
    if t.needs(node, 0):
        dx = t.op("BatchNormalization", dy, scale, zero, zero, variance, sizes=x.sizes, epsilon=epsilon)
    rstd, total = rstd_of(t, variance, epsilon), t.sum(dy, _others(x))
    if t.needs(node, 1) or t.needs(node, 4):
        known = t.constant(node, 3) if epsilon == 0 else None  # no layer has that, only affine maps: their mean stays 0
        centred = _affine(t, x, _constant(t, scale, 1.0), -mean) if known is None or known.any() else x
        dscale = t.sum(dy * centred, _others(x)) * rstd
        dvariance = dscale * scale * rstd * rstd * -0.5 if t.needs(node, 4) else None
    if t.needs(node, 3):
        dmean = -(total * scale * rstd)
    return dx, dscale, total, dmean, dvariance


def _through_batch(node: Node, t: Tape, own: _Batch) -> Cotangents:
    """dx = scale rstd (dy - mean(dy) - xhat mean(dy xhat)), as one affine map of dy and one of x - mean."""
    x, scale, _, _, _ = _inputs(node, t)
    dy, axes = t.cast(t.dy(node), x.dtype), _others(x)
    rstd = rstd_of(t, own.variance, _epsilon(node))
    total = t.sum(dy, axes)
    dscale = (t.sum(dy * own.centred, axes) - own.rest * total) * rstd
    if not t.needs(node, 0):
        return None, dscale, total, None, None
    number, slope = count(t, x, axes), scale * rstd
    pull, push = slope * rstd * dscale / number, slope * total / number
    momentum = float(node.attrs.get("momentum", 0.9))
    new_mean, new_variance = (
        None if new is None else t.cast(new, x.dtype) for new in map(t.known_dy, (node,) * 2, (1, 2))
    )
    if new_mean is not None:
        push = push - new_mean * (1.0 - momentum) / number
    if new_variance is not None:
        pull = pull - new_variance * (2.0 * (1.0 - momentum)) / number
    dx = _affine(t, dy, slope, own.rest * pull - push) - _affine(t, own.centred, pull, _constant(t, scale, 0.0))
    kept = (None if new is None else new * momentum for new in (new_mean, new_variance))
    return dx, dscale, total, *kept


def train_batch_norm(node: Node, t: Tape) -> Cotangents:
    """The operator on the statistics of its batch; the running ones are updated as PyTorch does.

    new = momentum old + (1 - momentum) batch, with the unbiased variance of the batch.
    """
    x, scale, bias, mean, variance = _inputs(node, t)
    own = _statistics(t, x)
    y = t.op(
        "BatchNormalization", x, scale, bias, own.mean, own.variance, sizes=x.sizes, epsilon=_epsilon(node),
    )  # fmt: skip
    keep = float(node.attrs.get("momentum", 0.9))
    number = t.op("Max", *_numbers(t, count(t, x, _others(x)), 2.0, x.dtype), sizes=())
    unbiased = own.variance * (number / (number - 1.0))
    for k, new in ((3, own.mean), (4, unbiased)):
        name = t.reads(node)[k]
        if name in t.graph.weights:
            kind, before = t.tensor(name).dtype, t.updates.get(name)  # by a layer that shares them
            old = t.tensor(name) if before is None else Value(t, before, new.sizes, kind)
            t.updates[name] = _blend(old, t.cast(new, kind), keep).name
    return t.cast(y, t.output(node).dtype), *(
        t.cast(_blend(old, new, keep), t.output(node, k).dtype) if node.output(k) else None
        for k, old, new in ((1, mean, own.mean), (2, variance, own.variance))
    )


def _blend(old: Value, new: Value, keep: float) -> Value:
    return old * keep + new * (1.0 - keep)


def _numbers(t: Tape, a: Value | float, b: float, dtype: int) -> tuple[Value, Value]:
    return a if isinstance(a, Value) else t.const(a, dtype), t.const(b, dtype)


def _statistics(t: Tape, x: Value) -> _Batch:
    """Twice the mean: the second time of what is left, which is small, so that it is exact where the mean is large."""
    axes = _others(x)
    first = t.mean(x, axes)
    centred = _affine(t, x, _constant(t, first, 1.0), -first)
    rest = t.mean(centred, axes)
    return _Batch(centred, rest, first + rest, t.mean(centred * centred, axes))


def _of_batch(node: Node, t: Tape) -> _Batch | None:
    """Statistics of the batch where the node uses those: by itself, or because `train_batch_norm` made it do so."""
    if int(node.attrs.get("training_mode", 0)):
        return _statistics(t, _inputs(node, t)[0])
    mean, variance = (t.graph.producer.get(node.input(k)) for k in (3, 4))
    if mean is None or variance is None or (mean.op, variance.op) != ("Add", "ReduceMean"):
        return None
    square = t.graph.producer.get(variance.input(0))
    if square is None or square.op != "Mul" or square.input(0) != square.input(1):
        return None
    centre = t.graph.producer.get(square.input(0))
    if centre is None or centre.op != "BatchNormalization" or centre.input(0) != node.input(0):
        return None
    return _Batch(*(t.tensor(name) for name in (square.inputs[0], mean.inputs[1], *node.inputs[3:5])))


def _affine(t: Tape, x: Value, slope: Value, shift: Value) -> Value:
    """slope x + shift for every channel: exact, as mean 0 and variance 1 with epsilon 0 are."""
    zero, one = _constant(t, slope, 0.0), _constant(t, slope, 1.0)
    return t.op("BatchNormalization", x, slope, shift, zero, one, sizes=x.sizes, epsilon=0.0)


def _constant(t: Tape, like: Value, value: float) -> Value:
    return t.const(np.full(like.known, value), like.dtype)


def _inputs(node: Node, t: Tape) -> tuple[Value, Value, Value, Value, Value]:
    """x, scale, bias, mean and variance, in float32 or wider."""
    kind = DOUBLE if t.input(node, 0).dtype == DOUBLE else FLOAT
    x, scale, bias, mean, variance = (t.cast(t.input(node, k), kind) for k in range(5))
    return x, scale, bias, mean, variance


def _others(x: Value) -> list[int]:
    """All axes but the channels."""
    return [axis for axis in range(x.rank) if axis != 1]


def _epsilon(node: Node) -> float:
    return float(node.attrs.get("epsilon", np.float32(1e-5)))
