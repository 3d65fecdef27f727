"""Operators that jump: rounding noise in front of them can become a whole step behind them.

Two correct models may decide differently at a tie (TopK, ArgMax, Round, a comparison, a quantised number). So the
masked and the removed model are compared at the tensors in front of each such operator, and for what lies behind it
the removed model takes over the decisions of the masked one: they become inputs of it. Its own decisions are compared
as well, and counted as flips where they differ.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import onnx
from onnx import TensorProto

from onnxprune._graphs import refill, used_names
from onnxprune.graph import Graph, Node
from onnxprune.model import Model

__all__ = ["FLOATS", "Decision", "bypass", "decisions", "force"]

FLOATS = frozenset(int(t) for t in (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE))
JUMPS = frozenset(
    "NonMaxSuppression ArgMax ArgMin Round Floor Ceil Sign Equal Greater GreaterOrEqual Less LessOrEqual Hardmax "
    "NonZero Mod QuantizeLinear DynamicQuantizeLinear".split()
)
JUMPS_IN_PART = frozenset("TopK MaxPool Unique".split())  # their indices do, their values do not
RANDOM = frozenset("RandomNormal RandomNormalLike RandomUniform RandomUniformLike Bernoulli Multinomial".split())
QUANTISES = ("QuantizeLinear", "DynamicQuantizeLinear", "QLinear", "QGemm", "QAttention")


@dataclass(frozen=True, eq=False)
class Decision:
    """One such operator of the main graph.

    ``front``: the floating tensors that it reads and that the removal reaches; ``outputs``: what it decides;
    ``quantised``: a decision is a quantised number, which may differ by one step at most.
    """

    node: Node
    front: tuple[str, ...]
    outputs: tuple[str, ...]
    quantised: bool


def decisions(graph: Graph, reached: Collection[str]) -> tuple[Decision, ...]:
    """The operators of the main graph that jump on something that the removal reaches, or at random."""
    found = []
    for node in graph.nodes:
        if len(node.where) > 1 or all(o in graph.values for o in node.outputs if o):
            continue
        outputs = _decided(graph, node)
        front = tuple(i for i in dict.fromkeys(node.inputs) if i in reached and graph.dtypes.get(i) in FLOATS)
        quantised = node.op.startswith(QUANTISES)
        wanted = bool(front) or (quantised and any(i in reached for i in node.inputs)) or node.op in RANDOM
        if outputs and wanted:
            found.append(Decision(node, front, outputs, quantised))
    return tuple(found)


def _decided(graph: Graph, node: Node) -> tuple[str, ...]:
    outputs = tuple(o for o in node.outputs if o)
    if node.op in JUMPS or node.op in RANDOM or node.op.startswith(QUANTISES):
        return outputs
    if node.op in JUMPS_IN_PART or node.op == "Cast":
        return tuple(o for o in outputs if graph.dtypes.get(o, int(TensorProto.INT64)) not in FLOATS)
    return ()


def force(model: Model, types: Mapping[str, int]) -> tuple[Model, dict[str, str]]:
    """Make tensors inputs of the model, to be taken over from outside.

    ``types``: name -> element type. What the model itself computes for them goes on under another name, which is
    returned per tensor; its outputs of these names give that.
    """
    editor = model.edit()
    graph = editor.proto.graph
    own: dict[str, str] = {}
    for node in graph.node:
        for k, name in enumerate(node.output):
            if name in types:
                own[name] = node.output[k] = editor.fresh(f"{name}.own")
    for name in own:
        graph.input.append(onnx.helper.make_tensor_value_info(name, types[name], None))
    for value in graph.output:
        value.name = own.get(value.name, value.name)
    refill(graph.value_info, [v for v in graph.value_info if v.name not in own])
    return editor.build(), own


def bypass(model: Model) -> tuple[Model, frozenset[str]]:
    """The model without its pairs QuantizeLinear - DequantizeLinear, and the quantised tensors that went with them."""
    editor = model.edit()
    graph = editor.proto.graph
    readers: dict[str, list[str]] = defaultdict(list)
    for node in graph.node:
        for name in set(node.input):
            readers[name].append(node.op_type)
    inside = set(used_names(graph)) - readers.keys()  # graph outputs, and what bodies take from outside
    gone = frozenset(
        node.output[0]
        for node in graph.node
        if node.op_type == "QuantizeLinear"
        and node.output[0] not in inside
        and readers[node.output[0]]
        and set(readers[node.output[0]]) == {"DequantizeLinear"}
    )
    for node in graph.node:
        quantises = node.op_type == "QuantizeLinear" and node.output[0] in gone
        restores = node.op_type == "DequantizeLinear" and node.input[0] in gone
        if quantises or restores:
            node.op_type, node.domain = "Identity", ""
            del node.input[1:]
            del node.attribute[:]
    refill(graph.value_info, [v for v in graph.value_info if v.name not in gone])
    return editor.build(), gone
