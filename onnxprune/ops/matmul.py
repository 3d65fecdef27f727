"""MatMul, Gemm, Einsum and their fused forms: contracted axes tie to each other, free axes to the output.

Either side may be a constant or computed (attention multiplies two computed tensors), so nothing here asks which.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from onnxprune.graph import Node
from onnxprune.ops.emitter import Value
from onnxprune.ops.rule import Role, Rule, Shapes, Zeros, zero_any, zero_keeps, zero_lost
from onnxprune.ops.tape import Tape
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
    terms, output = _parse(node.attrs["equation"], [t.rank(i) for i in node.inputs])
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


def _parse(equation: str, ranks: list[int]) -> tuple[list[str], str]:
    """Letters per operand and of the output; an ellipsis becomes capital letters from the end of a private alphabet."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    operands = left.split(",")
    widest = max((rank - len(term.replace("...", ""))) for term, rank in zip(operands, ranks, strict=True))
    alphabet = [chr(0x2460 + i) for i in range(max(widest, 0))]
    terms = []
    for term, rank in zip(operands, ranks, strict=True):
        extra = rank - len(term.replace("...", ""))
        terms.append(term.replace("...", "".join(alphabet[len(alphabet) - extra :])))
    if not arrow:
        joined = "".join(terms)
        letters = sorted(x for x in set(joined) if joined.count(x) == 1 and x not in alphabet)
        return terms, "".join(alphabet) * ("..." in left) + "".join(letters)
    return terms, right.replace("...", "".join(alphabet))


def macs_matmul(node: Node, shapes: Shapes) -> int:
    """Output elements x contracted size."""
    a = shapes[node.input(0)]
    k = a[-2] if node.attrs.get("transA", 0) and len(a) > 1 else a[-1]
    return int(np.prod(shapes[node.output(0)], dtype=np.int64)) * k


def macs_einsum(node: Node, shapes: Shapes) -> int:
    """The product of all letters' sizes: the cost of the direct sum."""
    terms, _ = _parse(node.attrs["equation"], [len(shapes[i]) for i in node.inputs])
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


def vjp_matmul(node: Node, t: Tape) -> Sequence[Value | None]:
    """y = a b: da = dy b', db = a' dy. A matrix beside a stack of rows is reached by one product of matrices."""
    dy, a, b = t.dy(node), t.input(node, 0), t.input(node, 1)
    if a.rank == 1 or b.rank == 1:
        return _vjp_vectors(node, t)
    da = t.matmul(dy, t.swap(b)) if t.needs(node, 0) else None
    db = None
    if t.needs(node, 1):
        if b.rank == 2 and a.rank > 2:
            rows = t.product([t.dim(a, axis) for axis in range(a.rank - 1)])
            flat_a = t.reshape(a, [rows, t.dim(a, -1)])
            db = t.gemm(flat_a, t.reshape(dy, [rows, t.dim(dy, -1)]), trans_a=True)
        else:
            db = t.matmul(t.swap(a), dy)
    return da, db


def _vjp_vectors(node: Node, t: Tape) -> Sequence[Value | None]:
    """An operand of one axis is a row (left) or a column (right)."""
    dy, a, b = t.dy(node), t.input(node, 0), t.input(node, 1)
    row, column = a.rank == 1, b.rank == 1
    a2, b2 = t.unsqueeze(a, [0]) if row else a, t.unsqueeze(b, [1]) if column else b
    if column:
        dy = t.unsqueeze(dy, [-1])
    if row:
        dy = t.unsqueeze(dy, [-2])
    da, db = t.matmul(dy, t.swap(b2)), t.matmul(t.swap(a2), dy)
    return t.squeeze(da, [-2]) if row else da, t.squeeze(db, [-1]) if column else db


def vjp_gemm(node: Node, t: Tape) -> Sequence[Value | None]:
    """y = alpha a b + beta c, a and b transposed where asked."""
    dy, a, b = t.dy(node), t.input(node, 0), t.input(node, 1)
    alpha, beta = node.attrs.get("alpha", 1.0), node.attrs.get("beta", 1.0)
    trans_a, trans_b = bool(node.attrs.get("transA", 0)), bool(node.attrs.get("transB", 0))
    scaled = dy if alpha == 1 else dy * alpha
    da = db = dc = None
    if t.needs(node, 0):
        da = t.gemm(b, scaled, trans_a=trans_b, trans_b=True) if trans_a else t.gemm(scaled, b, trans_b=not trans_b)
    if t.needs(node, 1):
        db = t.gemm(scaled, a, trans_a=True, trans_b=trans_a) if trans_b else t.gemm(a, scaled, trans_a=not trans_a)
    if t.needs(node, 2):
        dc = dy if beta == 1 else dy * beta
    return da, db, dc


MS = "com.microsoft"
RULES = (
    Rule("MatMul", couple_matmul, (Role.LINEAR,), zero_any, macs=macs_matmul, vjp=vjp_matmul),
    Rule("FusedMatMul", couple_matmul, (Role.LINEAR,), zero_any, macs=macs_matmul, domain=MS),
    Rule("Gemm", couple_gemm, (Role.LINEAR,), zero_gemm, macs=macs_matmul, vjp=vjp_gemm),
    Rule("FusedGemm", couple_gemm, (Role.LINEAR,), zero_lost, macs=macs_matmul, domain=MS),
    Rule("Einsum", couple_einsum, (Role.LINEAR,), zero_any, macs=macs_einsum),
)
