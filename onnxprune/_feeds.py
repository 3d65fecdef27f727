"""What a model takes, and whether given arrays fit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from onnxprune._model import Model
from onnxprune.errors import DataError
from onnxprune.weights import dtype_of

__all__ = ["TensorInfo", "check_feeds", "model_inputs"]

Size = int | str | None


@dataclass(frozen=True)
class TensorInfo:
    """What a graph input takes. A size in ``shape`` is a number, a symbolic name, or None where nothing is known.

    ``ranked`` is False where not even the number of axes is known (``shape`` is empty then). Strings, sequences and
    maps have the NumPy type ``object``.
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[Size, ...]
    ranked: bool = True


def model_inputs(model: Model) -> tuple[TensorInfo, ...]:
    """The inputs that a caller has to give, in the model's order (initializers that are inputs as well are not)."""
    return tuple(_info(value) for value in model.proto.graph.input if value.name not in model.weights)


def check_feeds(label: str, inputs: Iterable[TensorInfo], defaults: set[str], feeds: Mapping[str, Any]) -> None:
    """Compare names, types and shapes; ``defaults`` are names that may be given. Raises DataError with both sides."""
    known = {info.name: info for info in inputs}
    if known.keys() - feeds.keys() or feeds.keys() - known.keys() - defaults:
        raise DataError(
            f"{label} takes {_listed(known)}; given: {_listed(feeds)}", "Name the arrays after the model's inputs."
        )
    for name, info in known.items():
        value = feeds[name]
        if isinstance(value, np.ndarray | np.generic):
            _check_one(label, info, np.asarray(value))


def _check_one(label: str, info: TensorInfo, value: NDArray[Any]) -> None:
    given = f"{value.dtype} {list(value.shape)}"
    wanted = f"{info.dtype} [{', '.join('?' if size is None else str(size) for size in info.shape)}]"
    text = info.dtype == np.dtype(object) and value.dtype.kind in "USO"
    if value.dtype != info.dtype and not text:
        raise DataError(f"{label}: input `{info.name}` takes {wanted}, given {given}", f"Cast it to {info.dtype}.")
    fits = len(value.shape) == len(info.shape) and all(
        not isinstance(size, int) or size == actual for size, actual in zip(info.shape, value.shape, strict=True)
    )
    if info.ranked and not fits:
        raise DataError(f"{label}: input `{info.name}` takes {wanted}, given {given}", "Change the array's shape.")


def _info(value: onnx.ValueInfoProto) -> TensorInfo:
    if not value.type.HasField("tensor_type"):
        return TensorInfo(value.name, np.dtype(object), (), ranked=False)
    tensor = value.type.tensor_type
    return TensorInfo(
        value.name, dtype_of(tensor.elem_type), tuple(map(_size, tensor.shape.dim)), tensor.HasField("shape")
    )


def _size(dim: onnx.TensorShapeProto.Dimension) -> Size:
    """Zero and negative sizes are some exporters' way of saying "any"."""
    if dim.HasField("dim_value") and dim.dim_value > 0:
        return int(dim.dim_value)
    return dim.dim_param or None


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names) or "nothing"
