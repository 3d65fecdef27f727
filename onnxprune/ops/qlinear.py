"""Operators that calculate with quantised tensors: onnx's QLinear* and *Integer, onnxruntime's fused forms.

Each couples as its plain counterpart does, seen through `plain`: the same node with the scales and zero points left
out. These follow the output channels of the weight, as in `quantized`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from onnxprune.graph import Node
from onnxprune.ops.conv import couple_conv, cut_conv, macs_conv
from onnxprune.ops.cutting import Cutter
from onnxprune.ops.elementwise import couple_elementwise, couple_first_input
from onnxprune.ops.join import couple_concat
from onnxprune.ops.matmul import couple_gemm, couple_matmul, macs_matmul, zero_gemm
from onnxprune.ops.pooling import SPATIAL, couple_pool
from onnxprune.ops.quantized import depends_on_range, per_entry, zero_unless_misread
from onnxprune.ops.reduction import couple_along_axis
from onnxprune.ops.rule import Role, Rule, Shapes, Zeros, zero_any, zero_by_inputs, zero_keeps, zero_lost
from onnxprune.ops.ties import Ties

MS = "com.microsoft"

# Operator -> input positions of its plain counterpart
OPERANDS: dict[str, tuple[int, ...]] = {
    "QLinearConv": (0, 3, 8),
    "ConvInteger": (0, 1),
    "QLinearMatMul": (0, 3),
    "MatMulInteger": (0, 1),
    "MatMulIntegerToFloat": (0, 1, 6),
    "DynamicQuantizeMatMul": (0, 1, 4),
    "QGemm": (0, 3, 6),
    "QLinearAdd": (0, 3),
    "QLinearMul": (0, 3),
}
# Operator -> input positions of the tables of its first and of its second operand
TABLES: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "QLinearConv": ((1, 2), (4, 5)),
    "ConvInteger": ((2,), (3,)),
    "QLinearMatMul": ((1, 2), (4, 5)),
    "MatMulInteger": ((2,), (3,)),
    "MatMulIntegerToFloat": ((2, 4), (3, 5)),
    "DynamicQuantizeMatMul": ((), (2, 3)),
    "QGemm": ((1, 2), (4, 5)),
}


def plain(node: Node) -> Node:
    """The node without its scales and zero points."""
    if node.op == "QLinearConcat":
        return replace(node, inputs=node.inputs[2::3])
    inputs = tuple(node.input(k) for k in OPERANDS.get(node.op, (0,)))
    return replace(node, inputs=inputs, version=node.attrs.get("opset", node.version))


def couple_conv_like(node: Node, t: Ties) -> None:
    """A convolution; tables of the kernel have one entry per output channel."""
    inner = plain(node)
    couple_conv(inner, t)
    _tables(node, t, (inner.input(0), 1), (inner.input(1), 0))


def couple_matmul_like(node: Node, t: Ties) -> None:
    """A matrix product; tables of the right operand have one entry per column, those of the left one per row."""
    inner = plain(node)
    couple_matmul(inner, t)
    _tables(node, t, (inner.input(0), -2), (inner.input(1), -1))
    y = node.output(0)
    if inner.input(2):
        t.tie(inner.input(2), 0, y, t.rank(y) - 1, 2)
    if node.op == "DynamicQuantizeMatMul":
        depends_on_range(node, t, node.input(0))


def couple_gemm_like(node: Node, t: Ties) -> None:
    """alpha * A' B' + C, quantised."""
    inner = plain(node)
    couple_gemm(inner, t)
    rows, columns = int(bool(node.attrs.get("transA", 0))), int(not node.attrs.get("transB", 0))
    _tables(node, t, (inner.input(0), rows), (inner.input(1), columns))


def _tables(node: Node, t: Ties, *operands: tuple[str, int]) -> None:
    for (tensor, axis), tables in zip(operands, TABLES[node.op], strict=True):
        for k in tables:
            if node.input(k):
                per_entry(t, tensor, axis if t.rank(tensor) > 1 else 0, node.input(k))


def through(couple: Callable[[Node, Ties], None]) -> Callable[[Node, Ties], None]:
    """The rule of the plain counterpart."""

    def couple_plain(node: Node, t: Ties) -> None:
        couple(plain(node), t)

    return couple_plain


def couple_pool_like(node: Node, t: Ties) -> None:
    """Pooling, with the channels second or last."""
    if not node.attrs.get("channels_last", 0):
        couple_pool(plain(node), t)
        return
    x, y = node.input(0), node.output(0)
    last = t.rank(x) - 1
    for axis in (0, last):
        t.tie(x, axis, y, axis, 0)
    for axis in range(1, last):
        t.freeze(x, axis, SPATIAL)
        t.freeze(y, axis, SPATIAL)


def zero_through(zero: Callable[[Node, Zeros], None], *, stored: bool = True) -> Callable[[Node, Zeros], None]:
    """Zeros of the plain counterpart; ``stored``: the output is quantised, and must be read as it was written."""

    def zero_plain(node: Node, z: Zeros) -> None:
        zero(plain(node), z)
        if stored:
            zero_unless_misread(node, z)

    return zero_plain


def macs_through(macs: Callable[[Node, Shapes], int]) -> Callable[[Node, Shapes], int]:
    """The cost of the plain counterpart."""
    return lambda node, shapes: macs(plain(node), shapes)


def cut_conv_like(node: Node, c: Cutter) -> None:
    """``group`` of a depthwise convolution follows."""
    cut_conv(plain(node), c)


# -- weights packed into bytes, with a scale per block ----------------------------------------------------------------


def couple_packed(node: Node, t: Ties) -> None:
    """x (..., K), w (N, blocks, bytes), scales (N, blocks), bias (N) -> y (..., N). Of K, whole blocks go."""
    x, w, scales, zeros, y = (*(node.input(k) for k in range(4)), node.output(0))
    if node.attrs.get("weight_prepacked", 0) or (zeros and t.graph.dtypes.get(zeros) != t.graph.dtypes.get(w)):
        t.freeze_node(node, f"the weights of {node} are stored in a way of their own")
        return
    last, (_, blocks, _) = t.rank(x) - 1, t.graph.shapes[w]
    for axis in range(last):
        t.tie(x, axis, y, axis, 0)
    t.tie(w, 0, y, last, 1)
    t.freeze(w, 2, "several weights share its bytes")
    if node.input(5):
        t.tie(node.input(5), 0, y, last, 5)
    t.kinds[y] = "neurons"
    free = not node.input(4) and t.graph.shapes[x][last] == blocks * node.attrs["block_size"]
    for table in (scales, zeros):
        free &= not table or _follow_blocks(t, w, table)
    if not free:
        t.freeze(x, last, f"{node} packs it into blocks")
        t.freeze(w, 1, f"{node} packs it into blocks")
        return
    columns = np.repeat(t.el(w, 1), node.attrs["block_size"])
    t.tie_ids(t.el(x, last), columns, None)
    t.contracts(columns, t.el(x, last))
    t.consumes(w, 1)


def _follow_blocks(t: Ties, w: str, table: str) -> bool:
    """Tie a table to the rows of the packed weight, and to its blocks where each of them has an entry of its own."""
    rows, blocks, _ = t.graph.shapes[w]
    shape = t.graph.shapes[table]
    if len(shape) == 1:
        t.tie_ids(np.repeat(t.el(w, 0), shape[0] // rows), t.el(table, 0), None)
        return False
    t.tie(w, 0, table, 0, None)
    if shape[1] != blocks:
        t.freeze(table, 1, "several zero points share its bytes")
        return False
    t.tie(w, 1, table, 1, None)
    return True


def cut_packed(node: Node, c: Cutter) -> None:
    """N and K are attributes."""
    x = node.input(0)
    c.set_attr(node, "N", c.size(node.input(1), 0))
    c.set_attr(node, "K", c.size(x, len(c.old_shape(x)) - 1))


def macs_packed(node: Node, shapes: Shapes) -> int:
    """Output elements x contracted size."""
    return int(np.prod(shapes[node.output(0)], dtype=np.int64)) * shapes[node.input(0)][-1]


D, L, S, Z = Role.DATA, Role.LINEAR, Role.SCALE, Role.ZERO_POINT
UNARY = (D, S, Z, S, Z)
PRODUCT = (L, S, Z, L, S, Z)
RULES = (
    Rule("QLinearConv", couple_conv_like, (D, S, Z, L, S, Z, S, Z, L), zero_through(zero_by_inputs(1, 2)),
         cut_conv_like, macs_through(macs_conv)),
    Rule("ConvInteger", couple_conv_like, (D, L, Z, Z), zero_through(zero_by_inputs(1), stored=False), cut_conv_like,
         macs_through(macs_conv)),
    Rule("QLinearMatMul", couple_matmul_like, (*PRODUCT, S, Z), zero_through(zero_any),
         macs=macs_through(macs_matmul)),
    Rule("MatMulInteger", couple_matmul_like, (L, L, Z, Z), zero_through(zero_any, stored=False),
         macs=macs_through(macs_matmul)),
    Rule("MatMulIntegerToFloat", couple_matmul_like, (L, L, S, S, Z, Z, L), zero_through(zero_gemm, stored=False),
         macs=macs_through(macs_matmul), domain=MS),
    Rule("DynamicQuantizeMatMul", couple_matmul_like, (D, L, S, Z, L), zero_through(zero_gemm, stored=False),
         macs=macs_through(macs_matmul), domain=MS),
    Rule("QGemm", couple_gemm_like, (*PRODUCT, L, S, Z), zero_through(zero_gemm), macs=macs_through(macs_matmul),
         domain=MS),
    Rule("QLinearAdd", through(couple_elementwise), (*PRODUCT, S, Z), zero_through(zero_by_inputs(0, 1)), domain=MS),
    Rule("QLinearMul", through(couple_elementwise), (*PRODUCT, S, Z), zero_through(zero_any), domain=MS),
    Rule("QLinearSigmoid", through(couple_first_input), UNARY, zero_lost, domain=MS),
    Rule("QLinearLeakyRelu", through(couple_first_input), UNARY, zero_through(zero_keeps), domain=MS),
    Rule("QLinearGlobalAveragePool", couple_pool_like, UNARY, zero_through(zero_keeps), domain=MS),
    Rule("QLinearAveragePool", couple_pool_like, UNARY, zero_through(zero_keeps), domain=MS),
    Rule("QLinearSoftmax", through(couple_along_axis), UNARY, zero_lost, domain=MS),
    Rule("QLinearConcat", through(couple_concat), (S, Z, D, S, Z), zero_through(zero_keeps), domain=MS),
    Rule("MatMulNBits", couple_packed, (D, L, S, Z, Role.INDEX, L), zero_by_inputs(1, 5), cut_packed, macs_packed, MS),
)  # fmt: skip
