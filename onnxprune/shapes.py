"""Concrete shapes of every tensor under one assignment of the dynamic dimensions.

onnx's own shape inference does the work on a copy of the graph whose inputs have fixed sizes; where it is silent
(contrib operators, data-dependent shapes), value_info that the exporter left is used, and after that one run on
onnxruntime (``graph.py`` asks for it).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import onnx
from onnx import numpy_helper

from onnxprune.folding import Array
from onnxprune.model import Model

__all__ = ["concrete_shapes", "dim_name", "infer_node"]

Shapes = dict[str, tuple[int, ...]]


def dim_name(value: onnx.ValueInfoProto, axis: int) -> str:
    """The name by which a symbolic dimension of a graph input is known."""
    return value.type.tensor_type.shape.dim[axis].dim_param or f"{value.name}[{axis}]"


def concrete_shapes(
    model: Model,
    sizes: Mapping[str, int],
    fixed: Mapping[str, tuple[int, ...]],
    prefixes: Mapping[tuple[int | str, ...], str],
) -> tuple[Shapes, dict[str, int]]:
    """Shapes and element types per tensor; ``prefixes`` names the bodies inside control flow by their location."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model.proto)
    hints = _hints(copy.graph, sizes)
    _fix_inputs(copy.graph, sizes, fixed)
    _forget_shapes(copy.graph)
    inferred = _infer(copy)
    shapes, dtypes = _collect(inferred.graph, prefixes)
    missing = [v for v in hints if v.name not in shapes]
    if missing:
        copy.graph.value_info.extend(missing)
        shapes, dtypes = _collect(_infer(copy).graph, prefixes)
    return shapes, dtypes


def _infer(model: onnx.ModelProto) -> onnx.ModelProto:
    try:
        return onnx.shape_inference.infer_shapes(model, check_type=False, strict_mode=False, data_prop=True)
    except Exception:  # noqa: BLE001 - onnx raises RuntimeError, InferenceError or ValueError, by version and by operator
        return model


def _fix_inputs(graph: onnx.GraphProto, sizes: Mapping[str, int], fixed: Mapping[str, tuple[int, ...]]) -> None:
    for value in graph.input:
        if not value.type.HasField("tensor_type"):
            continue
        shape = value.type.tensor_type.shape
        if value.name in fixed:
            del shape.dim[:]
            for size in fixed[value.name]:
                shape.dim.add().dim_value = size
        for axis, dim in enumerate(shape.dim):
            if not dim.HasField("dim_value") or dim.dim_value <= 0:
                name = dim_name(value, axis)
                if name in sizes:
                    dim.dim_value = sizes[name]


def _hints(graph: onnx.GraphProto, sizes: Mapping[str, int]) -> list[onnx.ValueInfoProto]:
    """The exporter's own value_info with symbolic dimensions filled in, where that is possible."""
    kept = []
    for value in graph.value_info:
        if not value.type.HasField("tensor_type") or not value.type.tensor_type.HasField("shape"):
            continue
        hint = onnx.ValueInfoProto()
        hint.CopyFrom(value)
        for dim in hint.type.tensor_type.shape.dim:
            if dim.dim_param in sizes and not dim.HasField("dim_value"):
                dim.dim_value = sizes[dim.dim_param]
        if all(d.HasField("dim_value") for d in hint.type.tensor_type.shape.dim):
            kept.append(hint)
    return kept


def _forget_shapes(graph: onnx.GraphProto) -> None:
    del graph.value_info[:]
    for value in graph.output:
        if value.type.HasField("tensor_type"):
            value.type.tensor_type.ClearField("shape")
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                _forget_shapes(attribute.g)


def _collect(graph: onnx.GraphProto, prefixes: Mapping[tuple[int | str, ...], str]) -> tuple[Shapes, dict[str, int]]:
    shapes: Shapes = {}
    dtypes: dict[str, int] = {}
    for body, where in _bodies(graph, ()):
        prefix = prefixes.get(where, "")
        if where and not prefix:
            continue
        for value in (*body.input, *body.value_info, *body.output):
            if not value.type.HasField("tensor_type"):
                continue
            tensor = value.type.tensor_type
            if tensor.elem_type:
                dtypes[prefix + value.name] = tensor.elem_type
            if tensor.HasField("shape") and all(d.HasField("dim_value") for d in tensor.shape.dim):
                shapes[prefix + value.name] = tuple(d.dim_value for d in tensor.shape.dim)
    return shapes, dtypes


def _bodies(
    graph: onnx.GraphProto, where: tuple[int | str, ...]
) -> Iterator[tuple[onnx.GraphProto, tuple[int | str, ...]]]:
    yield graph, where
    for index, node in enumerate(graph.node):
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from _bodies(attribute.g, (*where, index, attribute.name))


def infer_node(
    node: onnx.NodeProto,
    types: Mapping[str, tuple[tuple[int, ...], int]],
    values: Mapping[str, Array],
    model: onnx.ModelProto,
) -> dict[str, tuple[tuple[int, ...] | None, int]]:
    """Shape (None where unknown) and element type of the outputs of one node; empty where onnx has no answer."""
    version = next(
        (o.version for o in model.opset_import if o.domain in (node.domain, "ai.onnx" * (not node.domain))), 1
    )
    try:
        schema = onnx.defs.get_schema(node.op_type, version, node.domain)
        found = onnx.shape_inference.infer_node_outputs(
            schema,
            node,
            {name: onnx.helper.make_tensor_type_proto(dtype, shape) for name, (shape, dtype) in types.items()},
            {name: numpy_helper.from_array(np.array(value, order="C")) for name, value in values.items()},
            opset_imports=list(model.opset_import),
            ir_version=model.ir_version,
        )
    except Exception:  # noqa: BLE001 - no schema (contrib operators), or a shape that onnx refuses: the caller has other means
        return {}
    result: dict[str, tuple[tuple[int, ...] | None, int]] = {}
    for name, answer in found.items():
        tensor = answer.tensor_type
        known = tensor.HasField("shape") and all(d.HasField("dim_value") for d in tensor.shape.dim)
        result[name] = (tuple(d.dim_value for d in tensor.shape.dim) if known else None, tensor.elem_type)
    return result
