"""A float64 copy of a model, and what runs it: onnxruntime where it has the kernels, else onnx's reference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import AttributeProto, TensorProto, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from onnxprune.model import Model, from_proto
from tests.ops.doubles import DOUBLES
from tests.ops.doubles_maps import MAPS
from tests.ops.recurrent_kernels import RECURRENT
from tests.oracle import Array, Feeds

__all__ = ["Runner", "double", "double_feeds"]

FLOAT, DOUBLE = TensorProto.FLOAT, TensorProto.DOUBLE
SINGLE_INSIDE = {"Shrink", "GroupNormalization"}  # onnxruntime has a kernel for float64 that calculates in float32
REFUSES = {"LSTM", "GRU", "RNN"}  # onnxruntime takes these in float64, but does not run them
NO_KERNEL = ("NOT_IMPLEMENTED", "Could not find an implementation", "Type 'tensor(double)' of input parameter")
ROUNDED = (FLOAT, TensorProto.FLOAT16)  # rounding to half precision would hide small steps
TYPES = {"to", "dtype", "output_dtype", "output_datatype", "stash_type"}
ALWAYS_SINGLE = {"LabelEncoder", "OneHotEncoder", "Binarizer"}
# Operator -> the attribute that is its type, float32 where it is absent
BY_DEFAULT = {
    **dict.fromkeys(("RandomNormal", "RandomUniform"), "dtype"),
    **dict.fromkeys(("HannWindow", "HammingWindow", "BlackmanWindow", "MelWeightMatrix"), "output_datatype"),
}


def double(model: Model) -> Model:
    """Every float32 tensor, declared type and type attribute as float64."""
    proto = model.to_proto()
    _graph(proto.graph)
    return from_proto(proto)


def double_feeds(feeds: Feeds) -> dict[str, Array]:
    """The same feeds with float32 arrays as float64."""
    return {
        name: np.asarray(a).astype(np.float64) if np.asarray(a).dtype == np.float32 else a for name, a in feeds.items()
    }


class Runner:
    """Runs one model: ``runner(feeds)`` gives its outputs by name. Random numbers are the same in every run."""

    def __init__(self, model: Model, kernels: Sequence[type[OpRun]] = ()) -> None:
        self.names = [output.name for output in model.proto.graph.output]
        self.proto, self.kernels = model.to_proto(), kernels
        self.draws = any(node.op_type.startswith("Random") for node in self.proto.graph.node)
        self.run = self._runs()

    def _runs(self) -> Any:
        proto = self.proto
        operators = {node.op_type for node in proto.graph.node}
        wide = any(value.type.tensor_type.elem_type == DOUBLE for value in proto.graph.input)
        if not self.kernels and SINGLE_INSIDE.isdisjoint(operators) and not (wide and REFUSES & operators):
            options = onnxruntime.SessionOptions()
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
            options.log_severity_level = 4
            options.intra_op_num_threads = options.inter_op_num_threads = 1
            try:
                return onnxruntime.InferenceSession(proto.SerializeToString(), options, ["CPUExecutionProvider"]).run
            except Exception as error:
                if not any(words in str(error) for words in NO_KERNEL):
                    raise
        return ReferenceEvaluator(proto, new_ops=[*self.kernels, *DOUBLES, *MAPS, *RECURRENT]).run

    def __call__(self, feeds: Feeds) -> dict[str, Array]:
        if self.draws:
            self.run = self._runs()  # a session of its own begins with the seed
        taken = {value.name for value in self.proto.graph.input}
        given = {name: np.asarray(array) for name, array in feeds.items() if name in taken}
        return dict(zip(self.names, self.run(None, given), strict=True))


def _graph(graph: onnx.GraphProto) -> None:
    for value in (*graph.input, *graph.output, *graph.value_info):
        _type(value.type)
    factors = {node.input[2] for node in graph.node if node.op_type == "Resize" and len(node.input) > 2}
    for tensor in graph.initializer:
        if tensor.name not in factors:  # Resize takes them in float32 only
            _tensor(tensor)
    for node in list(graph.node):
        if node.op_type in ALWAYS_SINGLE and node.domain == "ai.onnx.ml":
            _cast_result(graph, node)
        _attributes(node)
    _single_factors(graph)


def _attributes(node: onnx.NodeProto) -> None:
    """Types and tensors that are attributes, those that are left to their default among them."""
    if node.op_type == "ConstantOfShape" and not node.attribute:
        node.attribute.append(onnx.helper.make_attribute("value", numpy_helper.from_array(np.zeros(1, np.float32))))
    kind = BY_DEFAULT.get(node.op_type)
    if kind and all(attribute.name != kind for attribute in node.attribute):
        node.attribute.append(onnx.helper.make_attribute(kind, FLOAT))
    for attribute in node.attribute:
        if attribute.name in TYPES and attribute.type == AttributeProto.INT and attribute.i in ROUNDED:
            attribute.i = DOUBLE
        elif attribute.type == AttributeProto.TENSOR:
            _tensor(attribute.t)
        elif attribute.type == AttributeProto.GRAPH:
            _graph(attribute.g)
        elif node.op_type == "Constant" and attribute.name in ("value_float", "value_floats"):
            values = np.asarray(onnx.helper.get_attribute_value(attribute), np.float64)
            attribute.CopyFrom(onnx.helper.make_attribute("value", numpy_helper.from_array(values)))


def _single_factors(graph: onnx.GraphProto) -> None:
    """Factors of Resize that are computed, in float32 again."""
    stored = {tensor.name for tensor in graph.initializer}
    for at in reversed(range(len(graph.node))):
        node = graph.node[at]
        if node.op_type == "Resize" and len(node.input) > 2 and node.input[2] and node.input[2] not in stored:
            name = f"{node.output[0]}_factors"
            graph.node.insert(at, onnx.helper.make_node("Cast", [node.input[2]], [name], to=FLOAT))
            graph.node[at + 1].input[2] = name


def _cast_result(graph: onnx.GraphProto, node: onnx.NodeProto) -> None:
    """float32 whatever goes in: cast behind it."""
    name = node.output[0]
    node.output[0] = f"{name}_single"
    place = next(k for k, other in enumerate(graph.node) if other.output[0] == node.output[0])
    graph.node.insert(place + 1, onnx.helper.make_node("Cast", [node.output[0]], [name], to=DOUBLE))


def _type(kind: onnx.TypeProto) -> None:
    if kind.HasField("tensor_type") and kind.tensor_type.elem_type == FLOAT:
        kind.tensor_type.elem_type = DOUBLE
    elif kind.HasField("sequence_type"):
        _type(kind.sequence_type.elem_type)
    elif kind.HasField("optional_type"):
        _type(kind.optional_type.elem_type)


def _tensor(tensor: onnx.TensorProto) -> None:
    if tensor.data_type == FLOAT:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float64), tensor.name))
