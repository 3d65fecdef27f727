"""A float32 copy of a model in a narrower type: one with few kernels (bfloat16), or too coarse to be trained in."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import AttributeProto, TensorProto, numpy_helper

from onnxprune.model import Model, Weight

__all__ = ["NARROW", "float32_copy", "uses_bfloat16"]

BFLOAT16, FLOAT = int(TensorProto.BFLOAT16), int(TensorProto.FLOAT)
NARROW = frozenset({BFLOAT16, int(TensorProto.FLOAT16)})
TYPE_ATTRIBUTES = frozenset({"to", "dtype", "output_dtype", "stash_type"})


class Widened:
    """A constant of 16 bits read as float32."""

    onnx_type = FLOAT
    dtype: np.dtype[Any] = np.dtype(np.float32)

    def __init__(self, base: Weight) -> None:
        self.base = base
        self.shape = tuple(base.shape)

    @property
    def nbytes(self) -> int:
        return 2 * self.base.nbytes

    def array(self) -> NDArray[Any]:
        return self.base.array().astype(np.float32)


def uses_bfloat16(model: Model) -> bool:
    """Whether any constant or input of the model has that type."""
    typed = any(v.type.tensor_type.elem_type == BFLOAT16 for v in model.proto.graph.input)
    return typed or any(w.onnx_type == BFLOAT16 for w in model.weights.values())


def float32_copy(model: Model, types: Collection[int] = (BFLOAT16,)) -> Model:
    """The same model with every tensor, attribute and declared type of these ``types`` (16 bits wide) as float32."""
    editor = model.edit()
    for name, weight in model.weights.items():
        if weight.onnx_type in types:
            editor.set_weight(name, Widened(weight))
    _widen_graph(editor.proto.graph, types)
    return editor.build()


def _widen_graph(graph: onnx.GraphProto, types: Collection[int]) -> None:
    for value in (*graph.input, *graph.output, *graph.value_info):
        if value.type.tensor_type.elem_type in types:
            value.type.tensor_type.elem_type = FLOAT
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.name in TYPE_ATTRIBUTES and attribute.type == AttributeProto.INT and attribute.i in types:
                attribute.i = FLOAT
            elif attribute.type == AttributeProto.TENSOR:
                _widen_tensor(attribute.t, types)
            elif attribute.type == AttributeProto.GRAPH:
                for tensor in attribute.g.initializer:
                    _widen_tensor(tensor, types)
                _widen_graph(attribute.g, types)


def _widen_tensor(tensor: onnx.TensorProto, types: Collection[int]) -> None:
    """Tensors inside nodes; a constant whose data is elsewhere is widened as a weight."""
    if tensor.data_type in types and tensor.data_location != TensorProto.EXTERNAL:
        wide = numpy_helper.to_array(tensor).astype(np.float32)
        tensor.CopyFrom(numpy_helper.from_array(wide, tensor.name))
