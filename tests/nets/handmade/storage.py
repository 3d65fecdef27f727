"""The ways a file may hold its weights: Constant nodes, sparse, float16, bfloat16, typed fields, external files."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import convert_model_to_external_data

from tests.nets._spec import Input, image
from tests.nets.handmade._build import Build, Handmade

__all__ = ["MODELS", "save_external"]


def _cnn(b: Build) -> onnx.ModelProto:
    x = b.op("Relu", b.conv("x", 3, 10))
    b.classify(b.op("Relu", b.conv(x, 10, 12)), 12)
    return b.model(_IMAGE, {"y": ("batch", 5)})


def _constant_nodes() -> onnx.ModelProto:
    """Every initializer becomes a Constant node; a vector as value_floats, a number as value_float."""
    b = Build(1)
    x = b.op("Relu", b.conv("x", 3, 10))
    x = b.op("Mul", x, b.const("factor", 0.7))
    x = b.op("Add", x, b.bias("shift", 10, 1, 1))
    b.classify(b.op("Relu", b.conv(x, 10, 12)), 12)
    model = b.model(_IMAGE, {"y": ("batch", 5)})
    nodes = []
    for tensor in model.graph.initializer:
        value = numpy_helper.to_array(tensor)
        if value.ndim == 0:
            nodes.append(helper.make_node("Constant", [], [tensor.name], value_float=float(value)))
        elif value.ndim == 1:
            nodes.append(helper.make_node("Constant", [], [tensor.name], value_floats=value.tolist()))
        else:
            nodes.append(helper.make_node("Constant", [], [tensor.name], value=tensor))
    nodes += model.graph.node
    del model.graph.initializer[:], model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def _sparse() -> onnx.ModelProto:
    """The middle matrix of an MLP is sparse, one in three numbers kept."""
    b = Build(2)
    x = b.op("Relu", b.linear("x", 9, 16))
    x = b.op("Relu", b.op("Add", b.op("MatMul", x, "sparse"), b.bias("shift", 14)))
    b.op("MatMul", x, b.matrix("last", 14, 4), out="y")
    model = b.model(_ROW, {"y": ("batch", 4)})
    dense = b.rng.normal(0, 0.4, (16, 14)).astype(np.float32)
    dense[b.rng.random(dense.shape) > 1 / 3] = 0
    places = np.flatnonzero(dense).astype(np.int64)
    model.graph.sparse_initializer.append(
        helper.make_sparse_tensor(
            numpy_helper.from_array(dense.ravel()[places], "sparse"), numpy_helper.from_array(places), dense.shape
        )
    )
    return model


def _mlp(dtype: type, element: int) -> onnx.ModelProto:
    b = Build(3)
    x = "x"
    for i, (inputs, outputs) in enumerate([(9, 24), (24, 16), (16, 4)]):
        x = b.op("MatMul", x, b.matrix(f"w{i}", inputs, outputs, dtype))
        x = b.op("Add", x, b.bias(f"b{i}", outputs, dtype=dtype), out="y" if i == 2 else None)
        x = b.op("Relu", x) if i < 2 else x
    return b.model(_ROW, {"y": ("batch", 4)}, element=element)


def _float16() -> onnx.ModelProto:
    """A small CNN whose weights, input and output are float16."""
    model = _cnn(Build(4))
    for tensor in model.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = TensorProto.FLOAT16
    return model


def _bfloat16() -> onnx.ModelProto:
    return _mlp(ml_dtypes.bfloat16, TensorProto.BFLOAT16)


def _typed_fields() -> onnx.ModelProto:
    """Weights in float_data and int64_data instead of raw_data; inputs repeat the initializers, as IR 3 asked."""
    model = _cnn(Build(5))
    for tensor in model.graph.initializer:
        value = numpy_helper.to_array(tensor)
        tensor.CopyFrom(helper.make_tensor(tensor.name, tensor.data_type, value.shape, value.ravel().tolist()))
        model.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, value.shape))
    return model


def _odd_names() -> onnx.ModelProto:
    """Nodes without names, tensors with blanks, slashes, dots and letters of other scripts."""
    model = _cnn(Build(6))
    renamed: dict[str, str] = {}
    for i, node in enumerate(model.graph.node[:-1]):
        node.name = ""
        renamed[node.output[0]] = (" ", "ветка/0", "a b", "::", "x.1#2")[i % 5] + str(i)
    for i, tensor in enumerate(model.graph.initializer):
        renamed[tensor.name] = f"重み/{i} [{i}]"
        tensor.name = renamed[tensor.name]
    for node in model.graph.node:
        node.input[:] = [renamed.get(n, n) for n in node.input]
        node.output[:] = [renamed.get(n, n) for n in node.output]
    return model


def save_external(model: onnx.ModelProto, path: Path, *, one_file: bool = True, threshold: int = 64) -> list[Path]:
    """Write ``path`` with its tensors of ``threshold`` bytes and more in files beside it; those are returned."""
    before = set(path.parent.iterdir())
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    convert_model_to_external_data(
        copy, all_tensors_to_one_file=one_file, location=f"{path.stem}.weights" if one_file else None,
        size_threshold=threshold, convert_attribute=False,
    )  # fmt: skip
    onnx.save(copy, path)
    return sorted(set(path.parent.iterdir()) - before - {path})


_IMAGE = (image(3, 8, 8),)
_HALF = (Input("x", ("batch", 3, 8, 8), "half"),)
_ROW = (Input("x", ("batch", 9)),)

MODELS = (
    Handmade("constant_nodes", _constant_nodes, _IMAGE),
    Handmade("sparse_initializer", _sparse, _ROW),
    Handmade("float16", _float16, _HALF),
    Handmade("bfloat16", _bfloat16, _ROW, runs=False, notes="onnxruntime has no CPU kernels for it"),
    Handmade("typed_fields", _typed_fields, _IMAGE),
    Handmade("odd_names", _odd_names, _IMAGE),
)
