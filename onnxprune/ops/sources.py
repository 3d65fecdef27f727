"""Operators that make a tensor out of nothing but sizes: a fill, a range, a unit matrix, random numbers.

Equal fills have no order, so a filled tensor follows whatever it meets. A range, a unit matrix or a draw gives every
position a value of its own: those stay.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from onnx import numpy_helper

from onnxprune.graph import Graph, Node
from onnxprune.ops.contrib import stays
from onnxprune.ops.cutting import Cutter
from onnxprune.ops.emitter import INT64, Value
from onnxprune.ops.rule import Role, Rule, Zeros, zero_lost
from onnxprune.ops.tape import Tape
from onnxprune.ops.ties import Ties

MOVES = frozenset(
    "Cast CastLike Expand Flatten Gather Identity Reshape Slice Split Squeeze Tile Transpose Unsqueeze".split()
)
NOISE = "RandomNormal RandomNormalLike RandomUniform RandomUniformLike".split()  # only the shape of an input counts
SAMPLES = ("Bernoulli", "Multinomial")  # the input is the probability
COUNTS = "every position has a value of its own"
DRAWS = "it draws random numbers"


def couple_fill(node: Node, t: Ties) -> None:
    """y = value everywhere; the sizes come from the input."""
    y = node.output(0)
    if t.graph.value(node.input(0)) is None:
        t.freeze_all(y, f"the sizes of {node} depend on data")
        return
    for axis in range(t.rank(y)):
        t.el(y, axis)


def zero_fill(node: Node, z: Zeros) -> None:
    """0 where the value is 0."""
    z.set(z.outputs(node), fill_value(node) == 0)


def cut_fill(node: Node, c: Cutter) -> None:
    """The sizes follow what became of the output."""
    if c.changed(node.outputs[0]):
        c.want(node, 0, c.new_shape(node.outputs[0]))


def cut_keep_sizes(node: Node, c: Cutter) -> None:
    """What was made from the size of a cut axis keeps its size: it is a number here."""
    for k, tensor in enumerate(node.inputs):
        old = c.graph.value(tensor) if tensor in c.graph.from_shape else None
        if old is not None:
            c.want(node, k, old)


def fill_value(node: Node) -> float:
    """What a ConstantOfShape node fills its output with."""
    value = node.attrs.get("value")
    return 0.0 if value is None else float(numpy_helper.to_array(value).astype(np.float64).reshape(-1)[0])


def is_all_zero(graph: Graph, tensor: str) -> bool:
    """Whether the tensor holds zeros only, of any size: a constant or a fill, moved, repeated, cut or joined."""
    while tensor not in graph.weights:
        node = graph.producer.get(tensor)
        if node is None or node.domain:
            return False
        if node.op == "ConstantOfShape":
            return fill_value(node) == 0
        if node.op == "Concat":
            return all(is_all_zero(graph, i) for i in node.inputs)
        if node.op not in MOVES:
            return False
        tensor = node.inputs[0]
    array = graph.weights[tensor].array()
    return array.dtype != object and not array.any()


def vjp_range(node: Node, t: Tape) -> Sequence[Value | None]:
    """y_i = start + i delta."""
    dy = t.dy(node)
    delta = None
    if t.needs(node, 2):
        steps = t.op("CumSum", t.expand(t.const(1.0, dy.dtype), dy), t.const(0, INT64), sizes=dy.sizes, exclusive=1)
        delta = t.sum(dy * steps)
    return t.sum(dy) if t.needs(node, 0) else None, None, delta


S, D = Role.SHAPE, Role.DATA
RULES = (
    Rule("ConstantOfShape", couple_fill, (S,), zero_fill, cut_fill, flat=True),
    Rule("Constant", stays("a constant of text, or of parts that are mostly empty"), (S,), zero_lost, flat=True),
    Rule("Range", stays(COUNTS), (S,), zero_lost, cut_keep_sizes, vjp=vjp_range),
    Rule("EyeLike", stays(COUNTS), (S,), zero_lost, flat=True),
    *(Rule(op, stays(DRAWS), (D,), zero_lost, flat=True) for op in NOISE),
    *(Rule(op, stays(DRAWS), (D,), zero_lost) for op in SAMPLES),
)
