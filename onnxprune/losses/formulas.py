"""The losses and their gradients, as nodes.

Each function gets scores ``z``, what they should be, and returns a ``Part``: the loss of each sample, its gradient with
respect to ``z`` for each sample on its own, and what the sum over samples is divided by for the mean. Where a sample
has many labels (pixels, words, columns) its loss is the mean over them; labels that do not count are left out of the
numerator and of the divisor, as torch does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from onnx import TensorProto

from onnxprune.ops.emitter import Dim, Emitter, Value

__all__ = ["Part", "binary_cross_entropy", "binary_divergence", "cross_entropy", "divergence", "huber", "squares"]

FLOAT, INT64 = int(TensorProto.FLOAT), int(TensorProto.INT64)


@dataclass(frozen=True)
class Part:
    """``per_sample``: (N,); ``gradient``: of the shape of the scores; ``count``: a scalar."""

    per_sample: Value
    gradient: Value
    count: Value


def cross_entropy(
    t: Emitter,
    z: Value,
    axis: int,
    labels: Value,
    classes: int,
    *,
    class_weights: Sequence[float] | None = None,
    smoothing: float = 0.0,
) -> Part:
    """``-sum_c t_c log softmax(z)_c`` with ``t = (1 - s) w_y onehot(y) + s w / C``, gradient ``sum(t) softmax(z) - t``.

    ``labels``: (N, positions) class numbers y, negative where they do not count. Divided by the sum of ``w_y``.
    """
    axis %= z.rank
    rest = [t.dim(z, a) for a in range(z.rank) if a != axis]
    given = t.reshape(labels, rest)
    y = t.binary("Max", given, 0)
    counts = _over(t, t.cast(given >= 0, z.dtype), t.product(rest[1:]))
    weight = counts
    table = None if class_weights is None else t.const(np.asarray(class_weights), z.dtype)
    if table is not None:
        weight = t.op("Gather", table, y, sizes=y.sizes) * counts
    log_p = t.unary("LogSoftmax", z, axis=axis)
    picked = t.op("GatherElements", log_p, t.unsqueeze(y, [axis]), sizes=_at(z, axis, 1), axis=axis)
    off_on = t.const(np.array([0, 1], np.float32))
    one_hot = t.cast(t.op("OneHot", y, t.ints(classes), off_on, sizes=z.sizes, dtype=FLOAT, axis=axis), z.dtype)
    wide, loss = t.unsqueeze(weight, [axis]), -t.squeeze(picked, [axis]) * weight
    if smoothing:
        across = t.const(np.asarray(class_weights or [1.0] * classes), z.dtype)
        across = t.reshape(across, [classes if a == axis else 1 for a in range(z.rank)]) * (smoothing / classes)
        valid = t.unsqueeze(counts, [axis])
        target = one_hot * (wide * (1 - smoothing)) + across * valid
        mass = wide * (1 - smoothing) + t.sum(across, [axis], keep=True) * valid
        gradient = t.unary("Exp", log_p) * mass - target
        loss = -t.sum(target * log_p, [axis])
    else:
        gradient = (t.unary("Exp", log_p) - one_hot) * wide
    return Part(_rows(t, loss), gradient, t.sum(weight))


def binary_cross_entropy(t: Emitter, z: Value, targets: Value) -> Part:
    """``max(z, 0) - z y + log(1 + exp(-|z|))``, gradient ``sigmoid(z) - y``.

    ``targets``: (N, scores), from 0 to 1, negative where they do not count.
    """
    y = t.reshape_like(targets, z)
    counts = _over(t, t.cast(y >= 0.0, z.dtype), _width(t, z))
    loss = (_softplus(t, z) - z * y) * counts
    return Part(_rows(t, loss), (t.unary("Sigmoid", z) - y) * counts, t.sum(counts))


def squares(t: Emitter, z: Value, targets: Value, rows: Value) -> Part:
    """Mean over the columns of ``(z - y)^2``, gradient ``2 (z - y)`` over their number.

    ``rows``: (N,), 1, or 0 for padding.
    """
    away, counts = _away(t, z, targets, rows)
    return Part(_rows(t, away * away * counts), away * (counts * 2.0), t.sum(rows))


def huber(t: Emitter, z: Value, targets: Value, rows: Value, delta: float) -> Part:
    """With ``d = z - y``: ``d^2 / 2`` up to delta, ``delta (|d| - delta / 2)`` beyond; gradient ``clip(d)``.

    Huber, *Robust estimation of a location parameter*, 1964.
    """
    away, counts = _away(t, z, targets, rows)
    near = t.op("Clip", away, t.const(-delta, z.dtype), t.const(delta, z.dtype), sizes=z.sizes)
    return Part(_rows(t, near * (away - near * 0.5) * counts), near * counts, t.sum(rows))


def divergence(t: Emitter, z: Value, axis: int, teacher: Value, rows: Value, temperature: float) -> Part:
    """``T^2 KL(softmax(teacher / T) || softmax(z / T))``, gradient ``T (softmax(z / T) - softmax(teacher / T))``.

    ``teacher``: (N, scores), logits. Hinton et al., arXiv:1503.02531.
    """
    log_p = t.unary("LogSoftmax", z * (1 / temperature), axis=axis)
    log_q = t.unary("LogSoftmax", t.reshape_like(teacher, z) * (1 / temperature), axis=axis)
    p, q = t.unary("Exp", log_p), t.unary("Exp", log_q)
    positions = t.product([t.dim(z, a) for a in range(1, z.rank) if a != axis % z.rank])
    counts = _over(t, _column(t, rows, z), positions)
    loss = t.sum(q * (log_q - log_p), [axis], keep=True) * (counts * temperature**2)
    return Part(_rows(t, loss), (p - q) * (counts * temperature), t.sum(rows))


def binary_divergence(t: Emitter, z: Value, teacher: Value, rows: Value, temperature: float) -> Part:
    """The same where every score is a class of its own: sigmoid for softmax, and the mean over the scores."""
    u, v = z * (1 / temperature), t.reshape_like(teacher, z) * (1 / temperature)
    q = t.unary("Sigmoid", v)
    counts = _over(t, _column(t, rows, z), _width(t, z))
    loss = (_softplus(t, u) - _softplus(t, v) - q * (u - v)) * (counts * temperature**2)
    return Part(_rows(t, loss), (t.unary("Sigmoid", u) - q) * (counts * temperature), t.sum(rows))


def _away(t: Emitter, z: Value, targets: Value, rows: Value) -> tuple[Value, Value]:
    """z - y, and the weight of each number in it: 1 / columns, 0 for padding."""
    return z - t.reshape_like(targets, z), _over(t, _column(t, rows, z), _width(t, z))


def _softplus(t: Emitter, x: Value) -> Value:
    """log(1 + exp(x)), without overflow."""
    return t.unary("Relu", x) + t.unary("Log", t.unary("Exp", -t.unary("Abs", x)) + 1.0)


def _rows(t: Emitter, x: Value) -> Value:
    """Sum over all axes but the first."""
    return t.sum(x, range(1, x.rank))


def _column(t: Emitter, rows: Value, z: Value) -> Value:
    """(N,) as (N, 1, ...), of the type and rank of ``z``."""
    return t.cast(t.unsqueeze(rows, range(1, z.rank)), z.dtype)


def _width(t: Emitter, z: Value) -> int | Dim:
    return t.product([t.dim(z, axis) for axis in range(1, z.rank)])


def _over(t: Emitter, x: Value, number: int | Dim) -> Value:
    """x / number."""
    if isinstance(number, int):
        return x if number == 1 else x * (1 / number)
    return x / t.cast(number.value, x.dtype)


def _at(z: Value, axis: int, size: int) -> tuple[int, ...]:
    return (*z.known[:axis], size, *z.known[axis + 1 :])
