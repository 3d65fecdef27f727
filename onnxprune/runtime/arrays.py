"""NumPy arrays to onnxruntime's values and back, with types that NumPy lacks (bfloat16, 8-bit floats)."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from onnxprune.weights import dtype_of, type_of

__all__ = ["Array", "call_of", "gives_odd", "to_numpy", "to_ort"]

Array = NDArray[Any]


def call_of(
    made: ort.InferenceSession, names: Sequence[str], feeds: Mapping[str, Array], *, odd: bool
) -> Callable[[], list[Any]]:
    """A function that runs these feeds: NumPy arrays come of it, or onnxruntime's values where NumPy lacks a type.

    ``odd``: an output has such a type (see ``gives_odd``).
    """
    if odd or any(is_odd(np.asarray(value).dtype) for value in feeds.values()):
        values = {name: to_ort(np.asarray(value)) for name, value in feeds.items()}
        return lambda: list(made.run_with_ort_values(names, values))
    given = dict(feeds)
    return lambda: list(made.run(names, given))


def gives_odd(made: ort.InferenceSession) -> bool:
    """Whether an output has a type that NumPy lacks."""
    return any("float8" in output.type or "bfloat16" in output.type for output in made.get_outputs())


def is_odd(dtype: np.dtype[Any]) -> bool:
    """A type of ml_dtypes."""
    return dtype.kind == "V"


def to_ort(values: Array) -> ort.OrtValue:
    """A tensor that shares the array's memory and keeps it alive."""
    values = np.ascontiguousarray(values).reshape(values.shape)
    if not is_odd(values.dtype):
        return ort.OrtValue.ortvalue_from_numpy(values)
    plain = values.view(np.dtype(f"u{values.dtype.itemsize}"))
    return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(plain, type_of(values.dtype))


def to_numpy(value: ort.OrtValue | Array) -> Array:
    """A copy of a tensor, of types that NumPy lacks as well; what is no value of onnxruntime stays as it is."""
    if not isinstance(value, ort.OrtValue):
        return value
    dtype = dtype_of(value.element_type())
    if not is_odd(dtype):
        return np.asarray(value.numpy())
    shape = tuple(value.shape())
    raw = ctypes.string_at(value.data_ptr(), prod(shape) * dtype.itemsize)
    return np.frombuffer(bytearray(raw), dtype).reshape(shape)
