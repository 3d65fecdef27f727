"""Gradients of products of matrices: MatMul, Gemm, Einsum, and fused forms taken apart."""

from __future__ import annotations

from collections.abc import Sequence
from string import ascii_letters

from onnxprune.graph import Node
from onnxprune.ops.emitter import BOOL, INT64, Dim, Value
from onnxprune.ops.tape import Tape

__all__ = ["expand_fused_gemm", "expand_fused_matmul", "parse_einsum", "vjp_einsum", "vjp_gemm", "vjp_matmul"]


def parse_einsum(equation: str, ranks: list[int]) -> tuple[list[str], str]:
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


# -- Einsum ---------------------------------------------------------------------------------------------------------


def vjp_einsum(node: Node, t: Tape) -> Sequence[Value | None]:
    """y = einsum(a, b, ...): da is the einsum of dy and the other operands, put out under the letters of a.

    A letter that only a has comes from a plain sum: its gradient is the same everywhere along it. A letter that a has
    twice picks a diagonal: its gradient is 0 beside it.
    """
    terms, output = parse_einsum(str(node.attrs["equation"]), [t.input(node, k).rank for k in range(len(node.inputs))])
    letters = _plain(dict.fromkeys("".join([*terms, output])))
    terms, output = ["".join(letters[x] for x in term) for term in terms], "".join(letters[x] for x in output)
    return [_operand(node, t, k, terms, output) if t.needs(node, k) else None for k in range(len(terms))]


def _plain(letters: dict[str, None]) -> dict[str, str]:
    """Ordinary letters for those that stand for an ellipsis."""
    free = iter(x for x in ascii_letters if x not in letters)
    return {x: x if x in ascii_letters else next(free) for x in letters}


def _operand(node: Node, t: Tape, k: int, terms: Sequence[str], output: str) -> Value:
    """The cotangent of operand ``k``; axes of size 1 stand for a broadcast."""
    others = [j for j in range(len(terms)) if j != k]
    there = set(output).union(*(terms[j] for j in others))
    wanted = "".join(dict.fromkeys(x for x in terms[k] if x in there))
    operands = [t.dy(node), *(t.input(node, j) for j in others)]
    equation = ",".join([output, *(terms[j] for j in others)]) + "->" + wanted
    sizes: dict[str, int] = {}
    for value, term in zip(operands, [output, *(terms[j] for j in others)], strict=True):
        for letter, size in zip(term, value.known, strict=True):
            sizes[letter] = size if sizes.get(letter, 1) == 1 else sizes[letter]
    found = operands[0]
    if len(operands) > 1 or wanted != output:
        found = t.op("Einsum", *operands, sizes=tuple(sizes[x] for x in wanted), equation=equation)
    gaps = [axis for axis, x in enumerate(terms[k]) if x not in there or terms[k].index(x) < axis]
    found = t.unsqueeze(found, gaps)
    for axis, letter in enumerate(terms[k]):
        first = terms[k].index(letter)
        if first < axis:
            found = t.where(_diagonal(t, t.input(node, k), first, axis), found, 0.0)
    return found


def _diagonal(t: Tape, x: Value, a: int, b: int) -> Value:
    """True where the positions along two axes of x are the same."""
    positions = _count(t, t.dim(x, a))
    left, right = ([i for i in range(x.rank) if i != axis] for axis in (a, b))
    return t.binary("Equal", t.unsqueeze(positions, left), t.unsqueeze(positions, right), dtype=BOOL)


def _count(t: Tape, size: int | Dim) -> Value:
    """0, 1, 2 ... as int64."""
    if isinstance(size, int):
        return t.ints(*range(size))
    end = t.squeeze(size.value, [0])
    return t.op("Range", t.const(0, INT64), end, t.const(1, INT64), sizes=(size.size,))


# -- fused forms ----------------------------------------------------------------------------------------------------


def expand_fused_matmul(node: Node, t: Tape) -> Sequence[Value | None]:
    """alpha a' b', where ``transBatch`` moves the first axis behind the batch axes and ``trans`` swaps the last two."""
    a, b = (_turned(node, t, k, side) for k, side in enumerate("AB"))
    y, alpha = t.matmul(a, b), float(node.attrs.get("alpha", 1.0))
    return (y if alpha == 1 else y * alpha,)


def _turned(node: Node, t: Tape, k: int, side: str) -> Value:
    x = t.input(node, k)
    if x.rank < 2:
        return x
    order = list(range(x.rank))
    if node.attrs.get(f"transBatch{side}", 0):
        order = [*order[1:-1], 0, order[-1]]
    if node.attrs.get(f"trans{side}", 0):
        order = [*order[:-2], order[-1], order[-2]]
    return t.transpose(x, order)


def expand_fused_gemm(node: Node, t: Tape) -> Sequence[Value | None]:
    """Gemm, then the activation that is named."""
    operands = [t.optional(node, k) for k in range(3)]
    plain = {key: node.attrs[key] for key in ("alpha", "beta", "transA", "transB") if key in node.attrs}
    y = t.op("Gemm", *operands, sizes=t.output(node).sizes, **plain)
    more = {
        key: node.attrs[f"activation_{key}"] for key in ("alpha", "beta", "gamma") if f"activation_{key}" in node.attrs
    }
    name = node.attrs.get("activation", "")
    return (t.unary(name, y, **more) if name else y,)
