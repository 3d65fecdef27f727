"""Operators of onnxruntime that have no kernel on a CPU, for onnx's reference evaluator."""

from __future__ import annotations

from math import erf

import numpy as np
from onnx.reference.op_run import OpRun

from tests.oracle import Array

__all__ = [
    "BiasAdd",
    "BiasSplitGelu",
    "GatedRelativePositionBias",
    "GroupNorm",
    "MultiHeadAttention",
    "RelativePositionBias",
]


class GroupNorm(OpRun):
    """x (n, spatial, channels); mean and variance over every group of channels and all of space."""

    op_domain = "com.microsoft"

    def _run(self, x: Array, gamma: Array, beta: Array, groups: int = 1, **_: object) -> tuple[Array]:
        parts = x.reshape(x.shape[0], -1, groups, x.shape[-1] // groups)
        mean, variance = (f(parts, axis=(1, 3), keepdims=True) for f in (np.mean, np.var))
        normal = ((parts - mean) / np.sqrt(variance + 1e-5)).reshape(x.shape)
        return ((normal * gamma + beta).astype(x.dtype),)


class BiasSplitGelu(OpRun):
    """left * gelu(right) of x + bias."""

    op_domain = "com.microsoft"

    def _run(self, x: Array, bias: Array) -> tuple[Array]:
        left, right = np.split(x + bias, 2, axis=-1)
        return ((left * right * (1 + np.vectorize(erf)(right / np.sqrt(2))) / 2).astype(x.dtype),)


class BiasAdd(OpRun):
    """x + bias + skip."""

    op_domain = "com.microsoft"

    def _run(self, x: Array, bias: Array, skip: Array) -> tuple[Array]:
        return (x + bias + skip,)


class MultiHeadAttention(OpRun):
    """With q, k and v, or k and v, packed into one tensor (n, s, heads, 3 or 2, dims)."""

    op_domain = "com.microsoft"

    def _run(
        self, x: Array, packed: Array | None = None, num_heads: int = 0, scale: float | None = None, **_: object
    ) -> tuple[Array]:
        if packed is None:
            assert x.shape[2] == num_heads
            q, k, v = np.moveaxis(x, 3, 0)
        else:
            k, v = np.moveaxis(packed, 3, 0)
            q = x.reshape(*x.shape[:2], num_heads, -1)
        scores = np.einsum("bshd,bthd->bhst", q, k) * (scale or 1 / np.sqrt(q.shape[-1]))
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        y = np.einsum("bhst,bthd->bshd", weights, v)
        return (y.reshape(*y.shape[:2], -1).astype(x.dtype),)


class RelativePositionBias(OpRun):
    """As T5 has it, one distance at a time."""

    op_domain = "com.microsoft"

    def _run(
        self, table: Array, queries: Array, keys: Array, max_distance: int = 0, is_bidirectional: int = 0
    ) -> tuple[Array]:
        buckets = table.shape[0] // (2 if is_bidirectional else 1)
        y = np.empty((1, table.shape[1], int(queries[0]), int(keys[0])), table.dtype)
        for i, j in np.ndindex(*y.shape[2:]):
            distance = abs(i - j) if is_bidirectional else max(i - j, 0)
            bucket = distance
            if distance >= buckets // 2:
                grown = np.log(distance / (buckets // 2)) / np.log(max_distance / (buckets // 2))
                bucket = min(buckets // 2 + int(grown * (buckets - buckets // 2)), buckets - 1)
            y[0, :, i, j] = table[bucket + (buckets if is_bidirectional and j > i else 0)]
        return (y,)


class GatedRelativePositionBias(OpRun):
    """As WavLM has it."""

    op_domain = "com.microsoft"

    def _run(
        self, query: Array, bias: Array, relative: Array, weight: Array, shift: Array, eco: Array, num_heads: int = 0
    ) -> tuple[Array]:
        heads = (query + bias).reshape(*query.shape[:2], num_heads, -1).transpose(0, 2, 1, 3)
        gates = 1 / (1 + np.exp(-(heads @ weight + shift).reshape(*heads.shape[:3], 2, -1).sum(-1)))
        u, r = gates[..., :1], gates[..., 1:]
        return (((u * (r * eco - 1) + 2) * relative).astype(query.dtype),)
