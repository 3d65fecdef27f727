"""Gradient of Resize: the transpose of a linear map that takes every axis on its own.

``y = A_1 x_1 ... A_d x_d`` with a matrix of interpolation weights (out, in) for every axis that changes, hence
``dx = A_1' dy_1 ... A_d' dy_d``. The matrix of an axis is what the operator itself makes of an identity matrix, so that
every mode and rounding is the one of the forward pass. Nearest neighbours at a whole factor are sums over blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
from onnx import TensorProto

from onnxprune.errors import UnsupportedModel
from onnxprune.graph import Node
from onnxprune.ops.emitter import Value
from onnxprune.ops.tape import Tape

Cotangents = Sequence[Value | None]
FLOAT = int(TensorProto.FLOAT)
OWN = ("antialias", "coordinate_transformation_mode", "cubic_coeff_a", "exclude_outside", "mode", "nearest_mode")


@dataclass(frozen=True)
class Axis:
    """An axis that changes. ``place``: where it stands among ``axes``; ``factor``: None where it is not known."""

    number: int
    place: int
    factor: float | None


def vjp_resize(node: Node, t: Tape) -> Cotangents:
    """x -> y; region of interest, scales and sizes get nothing.

    Raises UnsupportedModel for keep_aspect_ratio_policy, which has factors that are not the ratio of the sizes.
    """
    policy = node.attrs.get("keep_aspect_ratio_policy", "stretch")
    if policy not in ("stretch", b"stretch"):
        raise UnsupportedModel(
            f"{node} resizes with keep_aspect_ratio_policy={policy}, which has no gradient rule",
            "Export the model with the sizes that come out of it.",
        )
    dx, x = t.dy(node), t.input(node, 0)
    changed = _changed(node, t)
    blocks = _blocks(node, t, changed)
    if blocks is not None:
        return (_block_sums(t, dx, blocks, x),)
    for axis in sorted(changed, key=lambda a: a.factor or 1.0, reverse=True):
        dx = _along(t, dx, axis.number, _matrix(node, t, axis), x)
    return (dx,)


def vjp_upsample(node: Node, t: Tape) -> Cotangents:
    """The ancestor of Resize, of opset 9: conversion to the opset that gradients need makes a Resize of it.

    Raises UnsupportedModel where it is still there.
    """
    raise UnsupportedModel(
        f"{node} is of an opset that gradients do not know", "Convert the model to opset 18 or later."
    )


def _mode(node: Node, key: str, default: str) -> str:
    mode = node.attrs.get(key, default)
    return mode.decode() if isinstance(mode, bytes) else str(mode)


def _crops(node: Node) -> bool:
    return _mode(node, "coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize"


def _changed(node: Node, t: Tape) -> list[Axis]:
    """Axes whose factor is not 1."""
    x, y = t.input(node, 0), t.output(node)
    axes = [axis % x.rank for axis in node.attrs.get("axes") or range(x.rank)]
    scales = t.constant(node, 2) if t.has(node, 2) else None
    found = []
    for place, number in enumerate(axes):
        before, after = x.known[number], y.known[number]
        if scales is not None and scales.size:
            factor: float | None = float(scales[place])
        elif before == after and (number < 2 or t.has(node, 3)):
            factor = 1.0
        else:
            factor = after / before if before > 0 and after > 0 and t.has(node, 3) else None
        if factor != 1.0 or (_crops(node) and number > 1):
            found.append(Axis(number, place, factor))
    return found


def _matrix(node: Node, t: Tape, axis: Axis) -> Value:
    """The interpolation weights (out, in) of one axis: the operator on an identity matrix."""
    x, y = t.input(node, 0), t.output(node)
    size, after = t.dim(x, axis.number), t.dim(y, axis.number)
    if isinstance(size, int):
        eye = t.const(np.eye(size), x.dtype)
    else:
        square = t.expand_to(t.const(np.zeros((1, 1)), x.dtype), [size, size])
        eye = t.op("EyeLike", square, sizes=square.sizes)
    region = scales = sizes = None
    if _crops(node):
        ends = t.input(node, 1)
        count = len(node.attrs.get("axes") or range(x.rank))
        at = [t.op("Gather", ends, t.ints(place), sizes=(1,)) for place in (axis.place, count + axis.place)]
        region = t.concat([at[0], t.const([0.0], ends.dtype), at[1], t.const([1.0], ends.dtype)], 0)
    if t.has(node, 2) and (given := t.input(node, 2)).sizes != (0,):
        own = t.op("Gather", given, t.ints(axis.place), sizes=(1,))
        scales = t.concat([own, t.const([1.0], FLOAT)], 0)
    else:
        sizes = t.shape_vector([after, size])
    attrs = {key: value for key, value in node.attrs.items() if key in OWN}
    shape = (y.known[axis.number], x.known[axis.number])
    return t.op("Resize", eye, region, scales, sizes, sizes=shape, **attrs)


def _along(t: Tape, dy: Value, axis: int, matrix: Value, x: Value) -> Value:
    """The product with the transposed matrix along one axis."""
    sizes = (*dy.known[:axis], x.known[axis], *dy.known[axis + 1 :])
    if axis == dy.rank - 1:
        return t.op("MatMul", dy, matrix, sizes=sizes)
    if axis == dy.rank - 2:
        return t.op("MatMul", t.swap(matrix), dy, sizes=sizes)
    before = [t.dim(dy, a) for a in range(axis)]
    behind = [t.dim(dy, a) for a in range(axis + 1, dy.rank)]
    flat = t.reshape(dy, [t.product(before), t.dim(dy, axis), t.product(behind)])
    return t.reshape(t.matmul(t.swap(matrix), flat), [*before, t.dim(x, axis), *behind])


def _blocks(node: Node, t: Tape, changed: Sequence[Axis]) -> list[int] | None:
    """Whole factors of all spatial axes where every input position is repeated that often, else None."""
    x = t.input(node, 0)
    if _mode(node, "mode", "nearest") != "nearest" or _crops(node) or not 3 <= x.rank <= 5 or not changed:
        return None
    factors = [1] * x.rank
    for axis in changed:
        if axis.factor is None or axis.factor != round(axis.factor) or axis.number < 2:
            return None
        factors[axis.number] = int(axis.factor)
    where = _mode(node, "coordinate_transformation_mode", "half_pixel")
    rounding = _mode(node, "nearest_mode", "round_prefer_floor")
    return factors[2:] if all(_repeats(factor, where, rounding) for factor in factors[2:]) else None


def _repeats(factor: int, where: str, rounding: str) -> bool:
    """Whether the outputs of a block all read the input of that block."""
    outputs = np.arange(4 * factor)
    if where == "asymmetric":
        position = outputs / factor
    elif where in ("half_pixel", "half_pixel_symmetric", "pytorch_half_pixel"):
        position = (outputs + 0.5) / factor - 0.5
    else:
        return False
    rounded = {
        "floor": np.floor(position),
        "ceil": np.ceil(position),
        "round_prefer_floor": np.ceil(position - 0.5),
        "round_prefer_ceil": np.floor(position + 0.5),
    }[rounding]
    return bool((rounded.clip(0, 3) == outputs // factor).all())


def _block_sums(t: Tape, dy: Value, factors: Sequence[int], x: Value) -> Value:
    """Sums over blocks, as means times their size."""
    means = t.op("AveragePool", dy, sizes=x.sizes, kernel_shape=list(factors), strides=list(factors))
    return means * float(prod(factors))
