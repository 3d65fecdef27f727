"""Shape arithmetic: the operators between a Shape node and the Reshape that reads it, evaluated with NumPy.

Each entry takes a node (with ``attrs``, ``outputs``, ``version``) and its input arrays (None where absent) and
returns the output arrays. Only small tensors pass through here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

__all__ = ["FOLDS", "Array"]

Array = NDArray[Any]
Fold = Callable[[Any, Sequence[Any]], Sequence[Array]]


def _unary(fn: Callable[[Array], Array]) -> Fold:
    return lambda node, x: [np.asarray(fn(x[0])).astype(x[0].dtype, copy=False)]


def _binary(fn: Callable[[Array, Array], Array]) -> Fold:
    return lambda node, x: [np.asarray(fn(x[0], x[1])).astype(x[0].dtype, copy=False)]


def _compare(fn: Callable[[Array, Array], Array]) -> Fold:
    return lambda node, x: [np.asarray(fn(x[0], x[1]))]


def _variadic(fn: Callable[[Array, Array], Array]) -> Fold:
    def run(node: Any, x: Sequence[Any]) -> Sequence[Array]:
        result = x[0]
        for other in x[1:]:
            result = fn(result, other)
        return [np.asarray(result)]

    return run


def _divide(node: Any, x: Sequence[Any]) -> Sequence[Array]:
    a, b = x
    if np.issubdtype(a.dtype, np.integer):
        return [np.asarray(np.trunc(a / np.where(b == 0, 1, b))).astype(a.dtype)]
    return [np.asarray(a / b).astype(a.dtype, copy=False)]


def _cast(node: Any, x: Sequence[Any]) -> Sequence[Array]:
    return [np.asarray(x[0]).astype(onnx.helper.tensor_dtype_to_np_dtype(node.attrs["to"]))]


def _axes(node: Any, x: Sequence[Any], k: int = 1) -> tuple[int, ...] | None:
    if len(x) > k and x[k] is not None:
        return tuple(int(a) for a in np.atleast_1d(x[k]))
    axes = node.attrs.get("axes")
    return None if axes is None else tuple(axes)


def _reduce(fn: Callable[..., Array]) -> Fold:
    def run(node: Any, x: Sequence[Any]) -> Sequence[Array]:
        axes = _axes(node, x)
        return [np.asarray(fn(x[0], axis=axes, keepdims=bool(node.attrs.get("keepdims", 1)))).astype(x[0].dtype)]

    return run


def _squeeze(node: Any, x: Sequence[Any]) -> Sequence[Array]:
    return [np.squeeze(x[0], _axes(node, x))]


def _unsqueeze(node: Any, x: Sequence[Any]) -> Sequence[Array]:
    return [np.expand_dims(x[0], _axes(node, x) or ())]


def _slice(node: Any, x: Sequence[Any]) -> Sequence[Array]:
    if "starts" in node.attrs:
        starts, ends = node.attrs["starts"], node.attrs["ends"]
        axes, steps = node.attrs.get("axes", range(len(starts))), [1] * len(starts)
    else:
        starts, ends = x[1], x[2]
        axes = x[3] if len(x) > 3 and x[3] is not None else range(len(starts))
        steps = x[4] if len(x) > 4 and x[4] is not None else [1] * len(starts)
    index = [slice(None)] * x[0].ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        size = x[0].shape[int(axis)]
        stop: int | None = int(end)
        if step < 0 and stop is not None and stop < -size:
            stop = None
        index[int(axis)] = slice(int(start), stop, int(step))
    return [x[0][tuple(index)]]


def _gather(node: Any, x: Sequence[Any]) -> Sequence[Array]:
    return [np.take(x[0], x[1], axis=node.attrs.get("axis", 0))]


def _concat(node: Any, x: Sequence[Any]) -> Sequence[Array]:
    return [np.concatenate(x, axis=node.attrs["axis"])]


def _reshape(node: Any, x: Sequence[Any]) -> Sequence[Array]:
    target = [int(d) for d in x[1]]
    if not node.attrs.get("allowzero", 0):
        target = [x[0].shape[i] if d == 0 else d for i, d in enumerate(target)]
    return [x[0].reshape(target)]


def _constant_of_shape(node: Any, x: Sequence[Any]) -> Sequence[Array]:
    fill = np.zeros(1, np.float32)
    if "value" in node.attrs:
        fill = onnx.numpy_helper.to_array(node.attrs["value"])
    if np.prod(x[0]) > 4096:
        return []
    return [np.full(tuple(int(d) for d in x[0]), fill.reshape(-1)[0], fill.dtype)]


def _split(node: Any, x: Sequence[Any]) -> Sequence[Array]:
    axis = node.attrs.get("axis", 0)
    sizes = x[1] if len(x) > 1 and x[1] is not None else node.attrs.get("split")
    if sizes is None:
        return list(np.array_split(x[0], len(node.outputs), axis))
    return list(np.split(x[0], np.cumsum(sizes)[:-1], axis))


def _range(node: Any, x: Sequence[Any]) -> Sequence[Array]:
    if abs((x[1].item() - x[0].item()) / (x[2].item() or 1)) > 4096:
        return []
    return [np.arange(x[0].item(), x[1].item(), x[2].item(), dtype=x[0].dtype)]


def _expand(node: Any, x: Sequence[Any]) -> Sequence[Array]:
    shape = np.broadcast_shapes(x[0].shape, tuple(int(d) for d in x[1]))
    return [] if np.prod(shape) > 4096 else [np.broadcast_to(x[0], shape)]


def _transpose(node: Any, x: Sequence[Any]) -> Sequence[Array]:
    return [np.transpose(x[0], node.attrs.get("perm"))]


FOLDS: dict[str, Fold] = {
    "Identity": lambda node, x: [x[0]],
    "Cast": _cast,
    "Add": _binary(np.add),
    "Sub": _binary(np.subtract),
    "Mul": _binary(np.multiply),
    "Div": _divide,
    "Mod": _binary(np.mod),
    "Pow": _binary(np.power),
    "Max": _variadic(np.maximum),
    "Min": _variadic(np.minimum),
    "Neg": _unary(np.negative),
    "Abs": _unary(np.abs),
    "Sqrt": _unary(np.sqrt),
    "Reciprocal": _unary(lambda a: 1 / a),
    "Floor": _unary(np.floor),
    "Ceil": _unary(np.ceil),
    "Not": lambda node, x: [np.logical_not(x[0])],
    "And": _compare(np.logical_and),
    "Or": _compare(np.logical_or),
    "Equal": _compare(np.equal),
    "Greater": _compare(np.greater),
    "GreaterOrEqual": _compare(np.greater_equal),
    "Less": _compare(np.less),
    "LessOrEqual": _compare(np.less_equal),
    "Where": lambda node, x: [np.asarray(np.where(x[0], x[1], x[2]))],
    "ReduceProd": _reduce(np.prod),
    "ReduceSum": _reduce(np.sum),
    "ReduceMax": _reduce(np.max),
    "ReduceMin": _reduce(np.min),
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Slice": _slice,
    "Gather": _gather,
    "Concat": _concat,
    "Reshape": _reshape,
    "ConstantOfShape": _constant_of_shape,
    "Split": _split,
    "Range": _range,
    "Expand": _expand,
    "Transpose": _transpose,
    "Tile": lambda node, x: [] if np.prod(x[1]) * x[0].size > 4096 else [np.tile(x[0], x[1])],
}
