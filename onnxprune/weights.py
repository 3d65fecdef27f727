"""Constant tensors, read when they are asked for.

A *weight* knows its shape and type at once and its values on demand, so that a model larger than the memory can be
scored, cut and written one tensor at a time. Four kinds, one signature: in memory, bytes of a file, a TensorProto,
and a function of another weight.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from math import prod
from typing import Any, Protocol

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from onnxprune._datafile import DataFile, MemoryFile
from onnxprune.errors import ModelError

__all__ = [
    "ArrayWeight",
    "DerivedWeight",
    "MappedWeight",
    "TensorWeight",
    "Weight",
    "dtype_of",
    "nbytes_of",
    "packed",
    "texts",
    "type_of",
]

Array = NDArray[Any]

STRING = int(TensorProto.STRING)
# Bits per element where several elements share a byte; older releases of onnx lack some of the types.
PACKED_BITS = {
    number: 2 if name.endswith("INT2") else 6 if name.startswith("FLOAT6") else 4
    for name, number in TensorProto.DataType.items()
    if name in {"INT2", "UINT2", "INT4", "UINT4", "FLOAT4E2M1", "FLOAT6E2M3", "FLOAT6E3M2"}
}


class Weight(Protocol):
    """One constant tensor. ``nbytes`` is its size in an ONNX file (4-bit types are packed there)."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...
    @property
    def onnx_type(self) -> int: ...
    @property
    def nbytes(self) -> int: ...
    def array(self) -> Array:
        """The values, read-only, of ``shape`` and ``dtype``."""
        ...


class _Sized:
    """What follows from shape and type."""

    shape: tuple[int, ...]
    onnx_type: int

    @property
    def dtype(self) -> np.dtype[Any]:
        return dtype_of(self.onnx_type)

    @property
    def nbytes(self) -> int:
        return nbytes_of(self.onnx_type, self.shape)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.dtype}{list(self.shape)})"


class ArrayWeight(_Sized):
    """Values in memory. The array is not copied where it is contiguous: do not write to it afterwards."""

    def __init__(self, values: Array, onnx_type: int | None = None) -> None:
        self.onnx_type = type_of(values.dtype) if onnx_type is None else int(onnx_type)
        kept = np.asarray(values, dtype=dtype_of(self.onnx_type), order="C").view()
        kept.flags.writeable = False
        self.shape = kept.shape
        self._values: Array = kept

    @property
    def nbytes(self) -> int:
        if self.onnx_type == STRING:
            return sum(map(len, texts(self)))
        return nbytes_of(self.onnx_type, self.shape)

    def array(self) -> Array:
        return self._values


class MappedWeight(_Sized):
    """``nbytes`` bytes of a file from ``offset``: mapped where they are many, read otherwise."""

    def __init__(self, file: DataFile | MemoryFile, offset: int, shape: tuple[int, ...], onnx_type: int) -> None:
        self.file, self.offset, self.shape, self.onnx_type = file, offset, shape, int(onnx_type)

    def array(self) -> Array:
        return from_bytes(self.file.bytes_at(self.offset, self.nbytes), self.shape, self.onnx_type)


class TensorWeight(_Sized):
    """The values inside a TensorProto, in whichever of its fields they are."""

    def __init__(self, tensor: onnx.TensorProto) -> None:
        self.tensor, self.shape, self.onnx_type = tensor, tuple(tensor.dims), int(tensor.data_type)

    @property
    def nbytes(self) -> int:
        if self.onnx_type == STRING:
            return sum(len(text) for text in self.tensor.string_data)
        return nbytes_of(self.onnx_type, self.shape)

    def array(self) -> Array:
        if self.onnx_type == STRING:
            texts = [text.decode("utf-8", "surrogateescape") for text in self.tensor.string_data]
            return _read_only(np.array(texts, dtype=object).reshape(self.shape))
        return _read_only(np.ascontiguousarray(numpy_helper.to_array(self.tensor)).reshape(self.shape))


class DerivedWeight(_Sized):
    """``fn(base.array())``, of the given shape and of ``base``'s type, computed anew at each call."""

    def __init__(self, base: Weight, shape: tuple[int, ...], fn: Callable[[Array], Array]) -> None:
        self.base, self.shape, self.onnx_type, self.fn = base, tuple(shape), base.onnx_type, fn

    @property
    def nbytes(self) -> int:
        if self.onnx_type == STRING:
            return ArrayWeight(self.array(), STRING).nbytes
        return nbytes_of(self.onnx_type, self.shape)

    def array(self) -> Array:
        values = np.asarray(self.fn(self.base.array()), dtype=self.dtype, order="C")
        if values.shape != self.shape:
            raise ModelError(f"a derived weight came out as {list(values.shape)}, expected {list(self.shape)}")
        return _read_only(values.view())


def dtype_of(onnx_type: int) -> np.dtype[Any]:
    """The NumPy type of a TensorProto.DataType; ml_dtypes has those that NumPy lacks. Raises ModelError."""
    try:
        return np.dtype(helper.tensor_dtype_to_np_dtype(onnx_type))
    except (KeyError, ValueError, TypeError):
        raise ModelError(
            f"element type {onnx_type} is not known to onnx {onnx.__version__}",
            "Update the onnx package, or export the model with another type.",
        ) from None


def type_of(dtype: np.dtype[Any]) -> int:
    """The TensorProto.DataType of a NumPy type. Raises ModelError where ONNX has none."""
    try:
        return int(helper.np_dtype_to_tensor_dtype(dtype.newbyteorder("=")))
    except (KeyError, ValueError, TypeError):
        raise ModelError(f"NumPy type {dtype} has no ONNX counterpart", "Convert the array first.") from None


def nbytes_of(onnx_type: int, shape: tuple[int, ...]) -> int:
    """Bytes of a tensor in an ONNX file; 0 for strings, which have no fixed size."""
    if onnx_type == STRING:
        return 0
    bits = PACKED_BITS.get(onnx_type) or 8 * dtype_of(onnx_type).itemsize
    return (prod(shape) * bits + 7) // 8


def texts(weight: Weight) -> list[bytes]:
    """The values of a tensor of strings, as an ONNX file holds them."""
    found = weight.array().reshape(-1)
    return [t if isinstance(t, bytes) else str(t).encode("utf-8", "surrogateescape") for t in found]


def packed(weight: Weight) -> memoryview:
    """The values of any other tensor as an ONNX file holds them: little-endian bytes in C order."""
    if isinstance(weight, MappedWeight) and weight.onnx_type not in PACKED_BITS:
        return weight.file.bytes_at(weight.offset, weight.nbytes).data
    values = weight.array()
    if weight.onnx_type in PACKED_BITS:
        return memoryview(numpy_helper.from_array(values).raw_data)
    flat = np.ascontiguousarray(values).reshape(-1)
    if sys.byteorder == "big":
        flat = flat.byteswap()
    return flat.view(np.uint8).data


def from_bytes(raw: NDArray[np.uint8], shape: tuple[int, ...], onnx_type: int) -> Array:
    """The array whose ``packed`` bytes these are; a view of them wherever that is possible."""
    if onnx_type in PACKED_BITS or sys.byteorder == "big":
        tensor = onnx.TensorProto(data_type=onnx_type, dims=shape, raw_data=raw.tobytes())
        return _read_only(numpy_helper.to_array(tensor).reshape(shape))
    return _read_only(np.require(raw.view(dtype_of(onnx_type)), requirements="A").reshape(shape))


def _read_only(values: Array) -> Array:
    values.flags.writeable = False
    return values
