"""MatMul, Gemm, Einsum and their fused forms: contracted axes tie to each other, free axes to the output.

Either side may be a constant or computed (attention multiplies two computed tensors), so nothing here asks which.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise

import numpy as np

from onnxprune.graph import Node
from onnxprune.ops.matmul_gradients import (
    expand_fused_gemm,
    expand_fused_matmul,
    parse_einsum,
    vjp_einsum,
    vjp_gemm,
    vjp_matmul,
)
from onnxprune.ops.rule import Role, Rule, Shapes, Zeros, zero_any, zero_keeps, zero_lost
from onnxprune.ops.ties import Ties


def contract(t: Ties, a: str, i: int, b: str, j: int) -> None:
    """Axis ``i`` of ``a`` is summed against axis ``j`` of ``b``; the constant side, if any, reads the unit."""
    t.tie(a, i, b, j, None)
    t.contracts(t.el(a, i), t.el(b, j))
    for tensor, axis, other in ((a, i, b), (b, j, a)):
        if t.is_parameter(tensor) and not t.is_parameter(other):
            t.consumes(tensor, axis)


def couple_matmul(node: Node, t: Ties) -> None:
    """a (..., M, K) @ b (..., K, N) -> y (..., M, N); a vector operand has no M or N; batch axes broadcast."""
    a, b, y = node.input(0), node.input(1), node.output(0)
    ra, rb, ry = t.rank(a), t.rank(b), t.rank(y)
    trans_a, trans_b = (node.attrs.get(k, 0) for k in ("transA", "transB"))
    m, ka = (ra - 2, ra - 1) if not trans_a else (ra - 1, ra - 2)
    kb, n = (rb - 2, rb - 1) if not trans_b else (rb - 1, rb - 2)
    if ra == 1:
        ka = 0
    if rb == 1:
        kb = 0
    contract(t, a, ka, b, kb)
    if ra > 1:
        t.tie(a, m, y, ry - (2 if rb > 1 else 1), 0)
    if rb > 1:
        t.tie(b, n, y, ry - 1, 1)
    lead = ry - (ra > 1) - (rb > 1)
    for k, (tensor, rank) in enumerate(((a, ra), (b, rb))):
        for axis in range(max(rank - 2, 0)):
            target = lead - (rank - 2) + axis
            if t.sizes(tensor)[axis] == t.sizes(y)[target] > 1:
                t.tie(tensor, axis, y, target, k)
    t.kinds[y] = "neurons"


def couple_gemm(node: Node, t: Ties) -> None:
    """alpha * A' B' + beta * C; C broadcasts to (M, N)."""
    a, b, c, y = node.input(0), node.input(1), node.input(2), node.output(0)
    ka, m = (0, 1) if node.attrs.get("transA", 0) else (1, 0)
    kb, n = (1, 0) if node.attrs.get("transB", 0) else (0, 1)
    contract(t, a, ka, b, kb)
    t.tie(a, m, y, 0, 0)
    t.tie(b, n, y, 1, 1)
    if c:
        shape = t.sizes(c)
        for axis, size in enumerate(shape):
            target = 2 - len(shape) + axis
            if size == t.sizes(y)[target] > 1:
                t.tie(c, axis, y, target, 2)
    t.kinds[y] = "neurons"


def couple_einsum(node: Node, t: Ties) -> None:
    """A letter in the output is a free axis; a letter that is only in the operands is summed over."""
    terms, output = parse_einsum(node.attrs["equation"], [t.rank(i) for i in node.inputs])
    places: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for k, letters in enumerate(terms):
        for axis, letter in enumerate(letters):
            places[letter].append((k, axis))
    y = node.output(0)
    for letter, where in places.items():
        largest = max(t.sizes(node.inputs[k])[a] for k, a in where)
        real = [(k, a) for k, a in where if t.sizes(node.inputs[k])[a] == largest]
        if letter in output:
            for k, axis in real:
                t.tie(node.inputs[k], axis, y, output.index(letter), k)
            continue
        for (k, axis), (j, other) in pairwise(real):
            t.tie(node.inputs[k], axis, node.inputs[j], other, None)
        t.contracts(*(t.el(node.inputs[k], a) for k, a in real))
        constants = [(k, a) for k, a in real if t.is_parameter(node.inputs[k])]
        if len(constants) < len(real):
            for k, axis in constants:
                t.consumes(node.inputs[k], axis)
    t.kinds[y] = "neurons"


def macs_matmul(node: Node, shapes: Shapes) -> int:
    """Output elements x contracted size."""
    a = shapes[node.input(0)]
    k = a[-2] if node.attrs.get("transA", 0) and len(a) > 1 else a[-1]
    return int(np.prod(shapes[node.output(0)], dtype=np.int64)) * k


def macs_einsum(node: Node, shapes: Shapes) -> int:
    """The product of all letters' sizes: the cost of the direct sum."""
    terms, _ = parse_einsum(node.attrs["equation"], [len(shapes[i]) for i in node.inputs])
    size: dict[str, int] = {}
    for tensor, letters in zip(node.inputs, terms, strict=True):
        for letter, n in zip(letters, shapes[tensor], strict=True):
            size[letter] = max(size.get(letter, 1), n)
    return int(np.prod(list(size.values()), dtype=np.int64)) if len(terms) > 1 else 0


def zero_gemm(node: Node, z: Zeros) -> None:
    """The product is 0 where its operand is; C must be 0 there as well, so it has to carry the axis."""
    zero_keeps(node, z)
    if node.input(2):
        tied = [target for k, _, target in z.records(node) if k == 2]
        outputs = z.outputs(node)
        z.set(np.setdiff1d(outputs, np.concatenate(tied)) if tied else outputs, False)


MS = "com.microsoft"
RULES = (
    Rule("MatMul", couple_matmul, (Role.LINEAR,), zero_any, macs=macs_matmul, vjp=vjp_matmul),
    Rule(
        "FusedMatMul", couple_matmul, (Role.LINEAR,), zero_any, macs=macs_matmul, domain=MS, expand=expand_fused_matmul
    ),
    Rule("Gemm", couple_gemm, (Role.LINEAR,), zero_gemm, macs=macs_matmul, vjp=vjp_gemm),
    Rule("FusedGemm", couple_gemm, (Role.LINEAR,), zero_lost, macs=macs_matmul, domain=MS, expand=expand_fused_gemm),
    Rule("Einsum", couple_einsum, (Role.LINEAR,), zero_any, macs=macs_einsum, vjp=vjp_einsum),
)
