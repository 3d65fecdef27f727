"""Quantised storage: scales and zero points follow the channel that they belong to; zero is the zero point.

``y = (x - zero) * scale``. A scale and a zero point are one number, one per entry of an axis, or one per block of it
(then whole blocks go). They are cut with their channel and never zeroed. In a quantised tensor an element *is zero*
where it is stored as the zero point; whoever reads it with another zero point sees something else, and then nothing is
taken for zero. A scale found at run time is found over a range that holds 0, so elements that are 0 do not move it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.graph import Graph, Node
from onnxprune.ops.quantized_gradients import RANGES, vjp_dequantize, vjp_quantize
from onnxprune.ops.rule import Role, Rule, Zeros, zero_keeps
from onnxprune.ops.ties import Ties

__all__ = ["agree", "carries_quantised", "depends_on_range", "per_entry", "stored_zero", "zero_unless_misread"]

Array = NDArray[Any]
MS = "com.microsoft"

# Operator -> input position of a quantised tensor -> input position of its zero point
ZERO_POINTS: dict[str, dict[int, int]] = {
    "DequantizeLinear": {0: 2},
    "QLinearConv": {0: 2, 3: 5},
    "QLinearMatMul": {0: 2, 3: 5},
    "ConvInteger": {0: 2, 1: 3},
    "MatMulInteger": {0: 2, 1: 3},
    "MatMulIntegerToFloat": {0: 4, 1: 5},
    "DynamicQuantizeMatMul": {1: 3},
    "QAttention": {0: 6, 1: 7},
    "QGemm": {0: 2, 3: 5},
    **{op: {0: 2, 3: 5} for op in ("QLinearAdd", "QLinearMul")},
    **{f"QLinear{op}": {0: 2} for op in ("Sigmoid", "LeakyRelu", "Softmax", "GlobalAveragePool", "AveragePool")},
    "QLinearConcat": {k: k + 2 for k in range(2, 3 * 64, 3)},
}
# Operator -> input position of the zero point of its first output
RESULT_ZERO = {
    "QuantizeLinear": 2,
    "QLinearConv": 7,
    "QLinearMatMul": 7,
    "QLinearAdd": 7,
    "QLinearMul": 7,
    "QGemm": 8,
    "QLinearConcat": 1,
    **{f"QLinear{op}": 4 for op in ("Sigmoid", "LeakyRelu", "Softmax", "GlobalAveragePool", "AveragePool")},
}
REGROUP = frozenset("Identity Reshape Flatten Squeeze Unsqueeze".split())
MOVES = REGROUP | frozenset("Transpose Slice Gather Split Expand Tile Concat MaxPool DepthToSpace SpaceToDepth".split())


# -- which stored value is zero -------------------------------------------------------------------------------------


def stored_zero(graph: Graph, tensor: str) -> Array | int:
    """The stored value that means zero in this constant, broadcastable to its shape; 0 unless quantised."""
    shape = graph.shapes[tensor]
    for node, k in graph.consumers.get(tensor, ()):
        if node.op in REGROUP | {"Transpose"} and k == 0:
            zero = stored_zero(graph, node.output(0))
            if isinstance(zero, np.ndarray):
                return _undo(node, zero, shape, graph.shapes[node.output(0)])
        elif node.op == "MatMulNBits" and k == 1:
            return packed_zero(graph, node)
        else:
            position = ZERO_POINTS.get(node.op, {}).get(k)
            weight = graph.weights.get(node.input(position)) if position is not None else None
            if weight is not None:
                return _spread(node, k, weight.array(), shape)
    return 0


def _undo(node: Node, zero: Array, before: tuple[int, ...], after: tuple[int, ...]) -> Array:
    """The zeros as they lie in the input of an operator that only moves elements."""
    if zero.size == 1:
        return zero.reshape(())
    full = np.broadcast_to(zero, after)
    if node.op == "Transpose":
        return full.transpose(np.argsort(node.attrs.get("perm", tuple(range(len(after)))[::-1])))
    return full.reshape(before)


def _spread(node: Node, k: int, zero: Array, shape: tuple[int, ...]) -> Array:
    """One zero point per tensor, per entry of an axis, or per block of it."""
    if zero.size == 1:
        return zero.reshape(())
    axis = _zero_axis(node, k) % len(shape)
    if zero.ndim == len(shape) > 1:
        return np.repeat(zero, node.attrs.get("block_size") or 1, axis)[tuple(slice(n) for n in shape)]
    view = [1] * len(shape)
    view[axis] = zero.size
    return zero.reshape(view)


def _zero_axis(node: Node, k: int) -> int:
    if node.op == "DequantizeLinear":
        return int(node.attrs.get("axis", 1))
    if "Conv" in node.op:
        return 0
    return -2 if node.attrs.get("transB", 0) and k else -1


def packed_zero(graph: Graph, node: Node) -> Array:
    """Bytes of packed weights (rows, blocks, bytes) that mean zero: by default half of the range, in every field."""
    bits = node.attrs.get("bits", 4)
    rows, blocks, _ = graph.shapes[node.input(1)]
    fields = sum(1 << shift for shift in range(0, 8, bits))
    if not node.input(3):
        return np.array(fields << (bits - 1), np.uint8)
    packed = graph.weights[node.input(3)].array().reshape(rows, -1)
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    zeros = (packed[..., None] >> shifts & ((1 << bits) - 1)).reshape(rows, -1)[:, :blocks]
    return np.asarray(zeros * fields, np.uint8)[..., None]


# -- who understands it ---------------------------------------------------------------------------------------------


def agree(graph: Graph, tensor: str, zero: str) -> bool:
    """Everyone who reads the quantised tensor holds the same stored value for zero.

    ``zero``: name of its zero point. Where that is 0 there is nothing to misread.
    """
    if _is_stored_0(graph, zero):
        return True
    stack, seen = [tensor], {tensor}
    while stack:
        for node, k in graph.consumers.get(stack.pop(), ()):
            if node.op in MOVES and (k == 0 or node.op == "Concat"):
                stack += [o for o in node.outputs if o and o not in seen]
                seen.update(node.outputs)
                continue
            position = ZERO_POINTS.get(node.op, {}).get(k)
            if position is None or not _same(graph, node.input(position), zero):
                return False
    return True


def _written_as(graph: Graph, tensor: str, zero: str) -> bool:
    """The tensor was made by operators that store zero as this zero point."""
    if _is_stored_0(graph, zero):
        return True
    stack, seen = [tensor], {tensor}
    while stack:
        name = stack.pop()
        node = graph.producer.get(name)
        if node is None:
            continue
        if node.op in MOVES:
            sources = node.inputs if node.op == "Concat" else node.inputs[:1]
            stack += [i for i in sources if i not in seen]
            seen.update(sources)
        elif node.op == "DynamicQuantizeLinear":
            if zero != node.output(2):
                return False
        elif node.op not in RESULT_ZERO or not _same(graph, node.input(RESULT_ZERO[node.op]), zero):
            return False
    return True


def _is_stored_0(graph: Graph, zero: str) -> bool:
    return not zero or (zero in graph.weights and not graph.weights[zero].array().astype(np.int64).any())


def _same(graph: Graph, a: str, b: str) -> bool:
    a, b = graph.origin.get(a, a), graph.origin.get(b, b)
    if a == b:
        return True
    x, y = graph.weights.get(a), graph.weights.get(b)
    return x is not None and y is not None and np.array_equal(x.array(), y.array())


def zero_unless_misread(node: Node, z: Zeros) -> None:
    """Take back what was said about the output where a reader would not see zeros."""
    zero = node.output(2) if node.op == "DynamicQuantizeLinear" else node.input(RESULT_ZERO[node.op])
    if not agree(z.graph, node.output(0), zero):
        z.set(z.outputs(node), False)


def carries_quantised(node: Node, kind: int) -> bool:
    """Whether an output of this type (ONNX's number) holds quantised real numbers, which have gradients."""
    return kind in RANGES and (node.op in RESULT_ZERO or node.op in MOVES)


# -- the rules ------------------------------------------------------------------------------------------------------


def per_entry(t: Ties, tensor: str, axis: int, table: str) -> None:
    """A scale or zero point with one number per entry of an axis follows it; a single number has nothing to follow."""
    shape = t.shape(table) if table else None
    if shape is None or np.prod(shape) == 1:
        return
    axis = axis % t.rank(tensor)
    if shape == ((t.shape(tensor) or ())[axis],):
        t.tie(tensor, axis, table, 0, None)
    else:
        t.freeze_all(table, "a scale of an unusual shape")
        t.freeze_all(tensor, "its scale has an unusual shape")


def couple_linear(node: Node, t: Ties) -> None:
    """QuantizeLinear and DequantizeLinear: every element for itself; tables along ``axis``, or per block of it."""
    x, y = node.input(0), node.output(0)
    _declare_blocks(node, t)
    t.tie_like(x, y, [(a, a) for a in range(t.rank(x))], 0)
    axis, block = node.attrs.get("axis", 1), node.attrs.get("block_size", 0)
    for table in (node.input(1), node.input(2)):
        if not table or not block:
            per_entry(t, y, axis, table)
            continue
        for a in range(t.rank(y)):
            if a == axis % t.rank(y):
                ids = t.el(y, a)
                t.tie_ids(ids, np.repeat(t.el(table, a), block)[: ids.size], None)
            else:
                t.tie(y, a, table, a, None)


def _declare_blocks(node: Node, t: Ties) -> None:
    """The kernel of a grouped convolution is ragged before it is de-quantised, too."""
    for reader, k in t.graph.consumers.get(node.output(0), ()):
        groups = reader.attrs.get("group", 1)
        if k == 1 and reader.op in ("Conv", "ConvTranspose") and groups > 1 and t.graph.shapes[node.output(0)][1] > 1:
            for tensor in (node.input(0), node.output(0)):
                t.blocks_of(tensor, 1, 0, groups)


def couple_dynamic(node: Node, t: Ties) -> None:
    """y = x / scale + zero, both found from the smallest and largest element (and 0); zeros do not move them."""
    x, y = node.input(0), node.output(0)
    t.tie_like(x, y, [(a, a) for a in range(t.rank(x))], 0)
    depends_on_range(node, t, x)


def depends_on_range(node: Node, t: Ties, x: str) -> None:
    """The node looks for the smallest and largest element of the whole tensor."""
    for axis in range(t.rank(x)):
        if (x, axis) not in t.ragged:
            t.contracts(t.el(x, axis), what=f"{node} takes its scale from it, and removed elements are not zero there")
        else:
            t.contracts(t.ragged[x, axis].ids.reshape(-1), what=f"{node} takes its scale from it")


def zero_quantize(node: Node, z: Zeros) -> None:
    """0 is stored as the zero point, which is zero to those who know it."""
    zero_keeps(node, z)
    zero_unless_misread(node, z)


def zero_dequantize(node: Node, z: Zeros) -> None:
    """What is stored as the zero point is 0."""
    zero_keeps(node, z)
    if not _written_as(z.graph, node.input(0), node.input(2)):
        z.set(z.outputs(node), False)


LINEAR = (Role.PASS, Role.SCALE, Role.ZERO_POINT)
RULES = (
    *(Rule("QuantizeLinear", couple_linear, LINEAR, zero_quantize, domain=d, vjp=vjp_quantize) for d in ("", MS)),
    *(Rule("DequantizeLinear", couple_linear, LINEAR, zero_dequantize, domain=d, vjp=vjp_dequantize) for d in ("", MS)),
    Rule("DynamicQuantizeLinear", couple_dynamic, (Role.DATA,), zero_quantize),
)
