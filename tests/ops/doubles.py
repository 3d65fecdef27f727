"""Kernels in float64 for onnx's reference evaluator, where neither it nor onnxruntime has one that is exact."""

from __future__ import annotations

from math import erf

import numpy as np
from onnx.reference.op_run import OpRun

from tests.oracle import Array

__all__ = ["DOUBLES"]


def gauss_error(x: Array) -> Array:
    """The error function in the type of x."""
    return np.vectorize(erf, otypes=[x.dtype])(x)


def gelu(x: Array) -> Array:
    return x * (1 + gauss_error(x / np.sqrt(x.dtype.type(2)))) / 2


def tanh_gelu(x: Array) -> Array:
    return x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


class Erf(OpRun):
    """onnx's own rounds to float32."""

    def _run(self, x: Array) -> tuple[Array]:
        return (gauss_error(x),)


class Mean(OpRun):
    """onnx's own does not broadcast its first operand."""

    def _run(self, *operands: Array) -> tuple[Array]:
        return (sum(operands[1:], operands[0]) / operands[0].dtype.type(len(operands)),)


class Gelu(OpRun):
    """onnx's own rounds to float32."""

    def _run(self, x: Array, approximate: str = "none") -> tuple[Array]:
        return (tanh_gelu(x) if approximate == "tanh" else gelu(x),)


class BiasGelu(OpRun):
    op_domain = "com.microsoft"

    def _run(self, x: Array, bias: Array) -> tuple[Array]:
        return (gelu(x + bias),)


class QuickGelu(OpRun):
    op_domain = "com.microsoft"

    def _run(self, x: Array, alpha: float = 1.702) -> tuple[Array]:
        return (x / (1 + np.exp(-alpha * x)),)


class FastGelu(OpRun):
    op_domain = "com.microsoft"

    def _run(self, x: Array, bias: Array | None = None) -> tuple[Array]:
        x = x if bias is None else x + bias
        return (tanh_gelu(x),)


class LRN(OpRun):
    """onnx's own counts channels along the batch."""

    def _run(self, x: Array, alpha: float = 1e-4, beta: float = 0.75, bias: float = 1.0, size: int = 1) -> tuple[Array]:
        total = np.zeros_like(x)
        for step in range(-((size - 1) // 2), size // 2 + 1):
            into = [slice(None), slice(max(0, -step), x.shape[1] - max(0, step))]
            read = [slice(None), slice(max(0, step), x.shape[1] - max(0, -step))]
            total[tuple(into)] += x[tuple(read)] ** 2
        return (x / (bias + alpha / size * total) ** beta,)


class MeanVarianceNormalization(OpRun):
    """onnx's own has constants of float32."""

    def _run(self, x: Array, axes: tuple[int, ...] = (0, 2, 3)) -> tuple[Array]:
        centred = x - x.mean(tuple(axes), keepdims=True)
        return (centred / (np.sqrt((centred**2).mean(tuple(axes), keepdims=True)) + 1e-9),)


class LpNormalization(OpRun):
    """onnx's own sums up x, not its absolute value."""

    def _run(self, x: Array, axis: int = -1, p: int = 2) -> tuple[Array]:
        norm = (np.abs(x) ** p).sum(axis, keepdims=True) ** (1 / p)
        return (x / np.where(norm == 0, 1, norm),)


class GroupNormalization(OpRun):
    """onnx's own, and so onnxruntime's, rounds to float32. Scale and bias are per group or per channel."""

    def _run(
        self, x: Array, scale: Array, bias: Array, epsilon: float = 1e-5, num_groups: int = 1, **_: object
    ) -> tuple[Array]:
        parts = x.reshape(x.shape[0], num_groups, -1, *x.shape[2:])
        axes = tuple(range(2, parts.ndim))
        centred = parts - parts.mean(axes, keepdims=True)
        xhat = centred / np.sqrt((centred**2).mean(axes, keepdims=True) + epsilon)
        shape = 1, num_groups, scale.size // num_groups, *[1] * (x.ndim - 2)
        return ((xhat * scale.reshape(shape) + bias.reshape(shape)).reshape(x.shape),)


CONTRIB_GELU = type("Gelu", (Gelu,), {"op_domain": "com.microsoft"})
DOUBLES: tuple[type[OpRun], ...] = (
    Erf,
    Mean,
    Gelu,
    CONTRIB_GELU,
    BiasGelu,
    QuickGelu,
    FastGelu,
    LRN,
    MeanVarianceNormalization,
    GroupNormalization,
    LpNormalization,
)
