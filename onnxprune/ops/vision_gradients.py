"""Gradients of what moves positions of a map: crops, blocks, indices and regions."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
from onnx import TensorProto

from onnxprune.errors import UnsupportedModel
from onnxprune.graph import Node
from onnxprune.ops.emitter import Dim, Value
from onnxprune.ops.tape import Tape
from onnxprune.ops.window_gradients import Windows, pad_map, tap, taps

Cotangents = Sequence[Value | None]
INT64 = int(TensorProto.INT64)


def vjp_center_crop_pad(node: Node, t: Tape) -> Cotangents:
    """The same operator back to the shape of x: an odd position more is cut off and added at the end of both."""
    dy, x = t.dy(node), t.input(node, 0)
    axes = node.attrs.get("axes")
    at = [axis % x.rank for axis in axes] if axes else range(x.rank)
    shape = t.shape_vector([t.dim(x, axis) for axis in at])
    return t.op("CenterCropPad", dy, shape, sizes=x.sizes, axes=list(axes) if axes else None), None


def vjp_col2im(node: Node, t: Tape) -> Cotangents:
    """Every block position reads back what it added to. Raises UnsupportedModel for sizes that are not known."""
    dy, x = t.dy(node), t.input(node, 0)
    block = t.constant(node, 2)
    if block is None or min(dy.known[2:]) < 0:
        raise UnsupportedModel(
            f"{node} has no gradient rule where the image or the block has a size that is not known",
            "Give the shape of the model's inputs.",
        )
    kernel = tuple(int(n) for n in block)
    rank = len(kernel)
    strides, dilations = (tuple(node.attrs.get(key) or (1,) * rank) for key in ("strides", "dilations"))
    pads = tuple(node.attrs.get("pads") or (0,) * 2 * rank)
    windows = Windows(kernel, strides, dilations, pads[:rank], pads[rank:])
    counts = windows.count(dy.known[2:])
    padded = pad_map(t, dy, windows)
    lead = [t.dim(dy, 0), t.dim(dy, 1)]
    parts = [t.reshape(tap(t, padded, windows, k, counts), [*lead, 1, prod(counts)]) for k in taps(windows)]
    return t.reshape_like(t.concat(parts, 2), x), None, None


def vjp_max_unpool(node: Node, t: Tape) -> Cotangents:
    """dx is dy at the positions that the indices say, which count through the whole tensor."""
    dy, x, where = t.dy(node), t.input(node, 0), t.input(node, 1)
    flat = t.reshape(dy, [t.product([t.dim(dy, axis) for axis in range(dy.rank)])])
    return t.op("Gather", flat, where, sizes=x.sizes, axis=0), None, None


def vjp_roi_align(node: Node, t: Tape) -> Cotangents:
    """y[r] = A_r x[image of r] B_r': means of interpolations, one matrix per region and axis.

    A_r (h, H) is what the operator makes of maps with a single row of ones each. dx[n] adds up ``A_r' dy[r] B_r`` over
    the regions of image n: one product over regions and rows. Regions get no gradient, as in torchvision.
    Raises UnsupportedModel for mode=max.
    """
    mode = node.attrs.get("mode", "avg")
    if mode not in ("avg", b"avg"):
        raise UnsupportedModel(f"{node} takes maxima (mode={mode}), which has no gradient rule", "Use mode='avg'.")
    dy, x, image = t.dy(node), t.input(node, 0), t.input(node, 2)
    count, channels, rows = t.dim(dy, 0), t.dim(dy, 1), t.dim(dy, 2)
    down, across = (_weights(node, t, axis) for axis in (0, 1))  # (R, h, H), (R, w, W)
    wide = t.matmul(dy, t.unsqueeze(across, [1]))  # (R, C, h, W)
    wide = t.transpose(wide, [0, 2, 1, 3])
    lines, columns = t.product([count, rows]), t.product([channels, t.dim(x, 3)])
    wide = t.reshape(wide, [lines, columns])
    numbers = t.op("Range", *(_scalar(t, v) for v in (0, t.dim(x, 0), 1)), sizes=(x.known[0],), dtype=INT64)
    own = t.cast(t.unsqueeze(numbers, [1]).equals(t.unsqueeze(image, [0])), x.dtype)  # (N, R)
    chosen = t.unsqueeze(own, [2, 3]) * t.unsqueeze(down, [0])  # (N, R, h, H)
    chosen = t.reshape(chosen, [t.dim(x, 0), lines, t.dim(x, 2)])
    found = t.matmul(t.swap(chosen), wide)  # (N, H, C W)
    found = t.reshape(found, [t.dim(x, 0), t.dim(x, 2), channels, t.dim(x, 3)])
    return t.transpose(found, [0, 2, 1, 3]), None, None


def _scalar(t: Tape, size: int | Dim) -> Value:
    """A size as a tensor without axes."""
    return t.const(np.array(size, np.int64)) if isinstance(size, int) else t.squeeze(size.value, [0])


def _weights(node: Node, t: Tape, axis: int) -> Value:
    """Weights of one axis: (R, positions of the output, positions of the map).

    The maps of one row of ones each are two columns wide, and the regions lie between these.
    """
    x, regions, dy = t.input(node, 0), t.input(node, 1), t.dy(node)
    size = t.dim(x, 2 + axis)
    square = t.expand_to(t.const(np.zeros((1, 1)), x.dtype), [size, size])
    eye = t.unsqueeze(t.op("EyeLike", square, sizes=square.sizes), [0, 3])
    maps = t.concat([eye, eye], 3)  # (1, H, H, 2)
    scale = float(node.attrs.get("spatial_scale", 1.0))
    low, high = (t.slice(regions, 1, 1 - axis + k, 2 - axis + k) for k in (0, 2))
    start = low * 0.0 + 0.5 / scale
    boxes = t.concat([start, low, start + 0.5 / scale, high], 1)
    first = t.op("Shape", regions, sizes=(1,), dtype=INT64, start=0, end=1)
    images = t.op("Expand", t.ints(0), first, sizes=(regions.known[0],))
    attrs = {k: v for k, v in node.attrs.items() if k not in ("output_height", "output_width", "mode")}
    positions = dy.known[2 + axis]
    found = t.op(
        "RoiAlign",
        maps,
        boxes,
        images,
        sizes=(regions.known[0], x.known[2 + axis], positions, 1),
        output_height=positions,
        output_width=1,
        **attrs,
    )
    return t.swap(t.squeeze(found, [3]))
