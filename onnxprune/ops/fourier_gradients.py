"""Gradients of Fourier transforms. A transform is linear, so its gradient is its adjoint.

With F the matrix of the transform over L points, ``y = F x`` has ``dx = F* dy``, which is L times the inverse
transform of dy; the inverse transform ``y = F* x / L`` has ``dx = F dy / L``. Real and imaginary parts are numbers of
their own: a real input takes the real part, and a half that was not put out has cotangent 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from onnxprune.errors import UnsupportedModel
from onnxprune.graph import Node
from onnxprune.ops.emitter import INT64, Dim, Value
from onnxprune.ops.tape import Tape

__all__ = ["expand_stft", "vjp_dft"]

AXIS_IS_INPUT = 20  # the opset from which on the axis of DFT is an input


def vjp_dft(node: Node, t: Tape) -> Sequence[Value | None]:
    """x (..., N, ..., 1 or 2) -> y (..., L, ..., 2), or half of it with ``onesided``."""
    x, axis = t.input(node, 0), _axis(node, t)
    inverse, onesided = (bool(node.attrs.get(key, 0)) for key in ("inverse", "onesided"))
    if inverse and onesided:
        return (_real_inverse(node, t, x, axis),)
    length = _length(node, t, x, axis)
    found = _dft(node, t, t.dy(node), axis, length, inverse=not inverse)
    points = t.cast(length, x.dtype)
    found = found / points if inverse else found * points
    if x.known[-1] == 1:
        found = t.op("Slice", found, t.ints(0), t.ints(1), t.ints(-1))
    return (_fit(node, t, found, x, axis),)


def _real_inverse(node: Node, t: Tape, x: Value, axis: int | None) -> Value:
    """Half of a spectrum -> real signal of L points: dx = (1 or 2) / L times half of the spectrum of dy."""
    signal = t.output(node)
    points = None if axis is None else signal.known[axis]
    if axis is None or points is None or points < 0:
        raise UnsupportedModel(
            f"{node} makes a real signal whose length is dynamic, which has no gradient rule",
            "Export the model with a fixed length of the signal.",
        )
    half = points // 2 + 1
    weights = np.full(half, 2 / points)
    weights[0] = 1 / points
    if points % 2 == 0:
        weights[-1] = 1 / points
    length = t.const(np.array(points, np.int64))
    spectrum = _dft(node, t, t.dy(node), axis, length, onesided=True)
    shape = [half if a == axis else 1 for a in range(x.rank)]
    return _fit(node, t, spectrum * t.const(weights.reshape(shape), x.dtype), x, axis)


def _axis(node: Node, t: Tape) -> int | None:
    """The axis from 0, or None where it depends on data."""
    rank = t.input(node, 0).rank
    if node.version < AXIS_IS_INPUT:
        return int(node.attrs.get("axis", 1)) % rank
    if not node.input(2):
        return rank - 2
    value = t.constant(node, 2)
    return None if value is None else int(value.reshape(-1)[0]) % rank


def _length(node: Node, t: Tape, x: Value, axis: int | None) -> Value:
    """How many points are transformed, as a scalar."""
    if node.input(1):
        return t.input(node, 1)
    if axis is None:
        return t.op("Gather", t.shape_of(x), t.input(node, 2), sizes=(), dtype=INT64)
    size = t.dim(x, axis)
    return t.const(np.array(size, np.int64)) if isinstance(size, int) else t.squeeze(size.value, [0])


def _dft(node: Node, t: Tape, x: Value, axis: int | None, length: Value, **attrs: bool) -> Value:
    """A transform in the form that the model's opset has."""
    flags: dict[str, Any] = {key: int(value) for key, value in attrs.items()}
    if node.version < AXIS_IS_INPUT:
        return t.op("DFT", x, length, axis=axis, **flags)
    place = t.input(node, 2) if axis is None else t.const(np.array(axis, np.int64))
    return t.op("DFT", x, length, place, **flags)


def _fit(node: Node, t: Tape, found: Value, x: Value, axis: int | None) -> Value:
    """As many points as x has: those that were cut off get 0, those that were added are left out."""
    if not node.input(1) and not (node.attrs.get("inverse", 0) and node.attrs.get("onesided", 0)):
        return Value(t, found.name, x.sizes, x.dtype)
    if axis is None:
        raise UnsupportedModel(
            f"{node} has a length of its own and an axis that depends on data, which has no gradient rule",
            "Export the model with a constant axis.",
        )
    longer = t.op("Concat", found, t.zeros_like(x), axis=axis)
    size = t.dim(x, axis)
    end = size.value if isinstance(size, Dim) else t.ints(size)
    return t.op("Slice", longer, t.ints(0), end, t.ints(axis), sizes=x.sizes)


def expand_stft(node: Node, t: Tape) -> Sequence[Value | None]:
    """Frames picked out of the signal, times the window, transformed.

    signal (N, S, 1 or 2) -> frames (N, F, length, 1 or 2) -> spectra (N, F, bins, 2). It stays as it is where the step
    or the length of a frame depends on data.
    """
    signal, window = t.input(node, 0), t.optional(node, 2)
    step, length = t.constant(node, 1), _frame_length(node, t)
    if step is None or length is None:
        return (t.output(node),)
    frames = t.op("Gather", signal, _positions(t, t.dim(signal, 1), int(step.reshape(-1)[0]), length), axis=1)
    if window is not None:
        frames = frames * t.reshape(window, [length, 1])
    flags: dict[str, Any] = {"onesided": int(node.attrs.get("onesided", 1))}
    if node.version < AXIS_IS_INPUT:
        return (t.op("DFT", frames, axis=2, **flags),)
    return (t.op("DFT", frames, None, t.const(np.array(2, np.int64)), **flags),)


def _frame_length(node: Node, t: Tape) -> int | None:
    """From the input, the window, or the whole signal."""
    if node.input(3):
        value = t.constant(node, 3)
        return None if value is None else int(value.reshape(-1)[0])
    size = t.input(node, 2).known[0] if node.input(2) else t.input(node, 0).known[1]
    return size if size >= 0 else None


def _positions(t: Tape, size: int | Dim, step: int, length: int) -> Value:
    """Which samples each frame is made of: (frames, length)."""
    within = np.arange(length, dtype=np.int64)
    if isinstance(size, int):
        return t.const(np.arange(0, size - length + 1, step, dtype=np.int64)[:, None] + within)
    end = t.squeeze(size.value - t.ints(length - 1), [0])
    starts = t.op("Range", t.const(0, INT64), end, t.const(step, INT64))
    return t.op("Add", t.op("Unsqueeze", starts, t.ints(1)), t.const(within))
