"""From a parsed proto to a checked ``Model``: structure, versions, and every tensor's data found and measured."""

from __future__ import annotations

from math import inf, prod
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from onnxprune import runtime
from onnxprune._datafile import DataFile, MemoryFile
from onnxprune._external import ExternalFiles
from onnxprune._model import Model
from onnxprune._tensors import Home, constants, inner_tensors, is_constant
from onnxprune.check import problems, sort_nodes
from onnxprune.errors import ModelError, ModelLoadError
from onnxprune.weights import TensorWeight, Weight, dtype_of, nbytes_of

__all__ = ["check_structure", "ingest"]

DENSE_LIMIT = 2**31  # bytes that one sparse tensor may take once it is dense
DAMAGED = "The file is damaged or was written by a faulty exporter: export or download it again."


def check_structure(proto: onnx.ModelProto, label: str, error: type[ModelError]) -> None:
    """Raise ``error`` with the first structural problem."""
    for problem in problems(proto):
        raise error(f"{label}: {problem.message}", problem.hint)


def ingest(proto: onnx.ModelProto, path: Path | None, source: DataFile | MemoryFile | None) -> Model:
    """Check ``proto``, which is changed and kept, and take its bulk out.

    ``source`` is where the bytes of markers are. Raises ModelLoadError and UnsupportedModel.
    """
    label = str(path) if path else f"model `{proto.graph.name}`"
    check_structure(proto, label, ModelLoadError)
    runtime.check_versions(proto, label)
    sort_nodes(proto.graph)
    files = ExternalFiles(path, source)
    try:
        _settle_inner(proto, files)
        _make_dense(proto.graph, files)
        weights = {name: _weight(home, files) for name, home in constants(proto.graph).items()}
    except ModelLoadError as error:
        raise ModelLoadError(f"{label}: {error.message}", error.hint) from error
    return Model(proto, MappingProxyType(weights), path, files.used, files.paths)


def _weight(home: Home, files: ExternalFiles) -> Weight:
    tensor = home.tensor
    if tensor is None:
        return _numbers(home)
    _check_type(home.name, tensor)
    if tensor.data_location != TensorProto.EXTERNAL:
        _check_data(home.name, tensor)
        return home.adopt()
    weight = files.weight(home.name, tensor)
    home.store(weight)
    return TensorWeight(tensor) if tensor.data_location != TensorProto.EXTERNAL else weight


def _numbers(home: Home) -> Weight:
    try:
        return home.weight()
    except (TypeError, ValueError) as error:
        raise ModelLoadError(f"the Constant `{home.name}` holds no numbers: {error}", DAMAGED) from error


def _settle_inner(proto: onnx.ModelProto, files: ExternalFiles) -> None:
    """Tensors in bodies, functions and attributes: checked, and kept inline wherever their data were."""
    for where, tensor in inner_tensors(proto):
        _check_type(where, tensor)
        if tensor.data_location == TensorProto.EXTERNAL:
            Home(where, tensor).store(files.weight(where, tensor), limit=inf)
        _check_data(where, tensor)


def _check_type(name: str, tensor: onnx.TensorProto) -> None:
    if tensor.data_type not in TensorProto.DataType.values() or not tensor.data_type:
        raise ModelLoadError(f"tensor `{name}` has element type {tensor.data_type}, which is unknown", DAMAGED)
    if any(size < 0 for size in tensor.dims):
        raise ModelLoadError(f"tensor `{name}` has a negative dimension: {list(tensor.dims)}", DAMAGED)
    if tensor.HasField("segment"):
        raise ModelLoadError(f"tensor `{name}` is stored in segments, which onnx itself cannot read", DAMAGED)


def _check_data(name: str, tensor: onnx.TensorProto) -> None:
    """The data in the proto are as many as the shape says."""
    shape = tuple(tensor.dims)
    if tensor.data_type == TensorProto.STRING:
        found, expected, unit = len(tensor.string_data), prod(shape), "strings"
    elif tensor.HasField("raw_data"):
        found, expected, unit = len(tensor.raw_data), nbytes_of(tensor.data_type, shape), "bytes"
    else:
        _check_decoded(name, tensor)
        return
    if found != expected:
        raise ModelLoadError(
            f"tensor `{name}` has {found:,} {unit} of data, expected {expected:,} for shape {list(shape)}", DAMAGED
        )


def _check_decoded(name: str, tensor: onnx.TensorProto) -> None:
    try:
        TensorWeight(tensor).array()
    except (ValueError, TypeError, MemoryError) as error:
        raise ModelLoadError(
            f"tensor `{name}` has too few or too many data for shape {list(tensor.dims)}", DAMAGED
        ) from error


def _make_dense(graph: onnx.GraphProto, files: ExternalFiles) -> None:
    """Sparse initializers and sparse Constants become dense ones, in place."""
    for sparse in graph.sparse_initializer:
        name = sparse.values.name
        graph.initializer.append(numpy_helper.from_array(_dense(name, sparse, files), name))
    del graph.sparse_initializer[:]
    for node in graph.node:
        if is_constant(node) and len(node.attribute) == 1 and node.attribute[0].HasField("sparse_tensor"):
            dense = numpy_helper.from_array(_dense(node.output[0], node.attribute[0].sparse_tensor, files))
            del node.attribute[:]
            node.attribute.add(name="value", type=onnx.AttributeProto.TENSOR).t.CopyFrom(dense)


def _dense(name: str, sparse: onnx.SparseTensorProto, files: ExternalFiles) -> NDArray[Any]:
    """Indices are [count] into the flat tensor, or [count, rank]."""
    values, indices = (_values(name, part, files) for part in (sparse.values, sparse.indices))
    shape = tuple(sparse.dims)
    if any(size < 0 for size in shape) or nbytes_of(sparse.values.data_type, shape) > DENSE_LIMIT:
        raise ModelLoadError(f"sparse tensor `{name}` of shape {list(shape)} cannot be made dense", DAMAGED)
    dense = np.zeros(shape, dtype_of(sparse.values.data_type))
    try:
        flat = indices if indices.ndim == 1 else np.ravel_multi_index(tuple(indices.T), shape)
        if flat.size and int(flat.min()) < 0:
            raise IndexError("negative")
        dense.reshape(-1)[flat] = values
    except (IndexError, ValueError) as error:
        raise ModelLoadError(f"sparse tensor `{name}` has indices outside of {list(shape)}", DAMAGED) from error
    return dense


def _values(name: str, tensor: onnx.TensorProto, files: ExternalFiles) -> NDArray[Any]:
    _check_type(name, tensor)
    if tensor.data_location == TensorProto.EXTERNAL:
        return files.weight(name, tensor).array()
    _check_data(name, tensor)
    return TensorWeight(tensor).array()
