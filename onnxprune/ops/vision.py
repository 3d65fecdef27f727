"""Operators of detectors and of geometry: channels go their own ways, positions and boxes stay."""

from __future__ import annotations

import numpy as np

from onnxprune.graph import Node
from onnxprune.ops.contrib import stays
from onnxprune.ops.pooling import SPATIAL
from onnxprune.ops.rule import Role, Rule, Shapes, zero_by_inputs, zero_keeps, zero_lost
from onnxprune.ops.sampling_gradients import expand_deform_conv, vjp_affine_grid, vjp_grid_sample
from onnxprune.ops.ties import Ties
from onnxprune.ops.vision_gradients import vjp_center_crop_pad, vjp_col2im, vjp_max_unpool, vjp_roi_align


def couple_grid_sample(node: Node, t: Ties) -> None:
    """x (N, C, spatial) read at grid (N, positions, coordinates) -> y (N, C, positions)."""
    x, grid, y = node.input(0), node.input(1), node.output(0)
    t.tie(x, 0, y, 0, 0)
    t.tie(grid, 0, y, 0, 1)
    t.tie(x, 1, y, 1, 0)
    for tensor, first in ((x, 2), (y, 2), (grid, 1)):
        for axis in range(first, t.rank(tensor)):
            t.freeze(tensor, axis, SPATIAL)


def couple_roi_pool(node: Node, t: Ties) -> None:
    """x (N, C, H, W), rois (R, coordinates), batch index (R) -> y (R, C, h, w)."""
    x, y = node.input(0), node.output(0)
    t.freeze(x, 0, f"{node} picks images by their number")
    t.tie(x, 1, y, 1, 0)
    for k in (1, 2):
        if node.input(k):
            t.tie(node.input(k), 0, y, 0, k)
    t.freeze(node.input(1), 1, f"{node} reads coordinates from it")
    for tensor in (x, y):
        for axis in (2, 3):
            t.freeze(tensor, axis, SPATIAL)


def couple_deform_conv(node: Node, t: Ties) -> None:
    """A convolution whose taps are moved by ``offset`` and weighted by ``mask``: x, W, offset, bias, mask -> y."""
    if node.attrs.get("group", 1) > 1 or node.attrs.get("offset_group", 1) > 1:
        t.freeze_node(node, f"{node} moves groups of channels by offsets of their own")
        return
    x, w, bias, y = node.input(0), node.input(1), node.input(3), node.output(0)
    t.tie(x, 0, y, 0, 0)
    t.tie(w, 0, y, 1, 1)
    if bias:
        t.tie(bias, 0, y, 1, 3)
    t.tie(x, 1, w, 1, None)
    t.consumes(w, 1)
    t.contracts(t.el(w, 1), t.el(x, 1))
    for k in (2, 4):
        if node.input(k):
            t.tie(node.input(k), 0, y, 0, k)
            t.freeze(node.input(k), 1, f"{node} reads one entry per tap from it")
    for tensor in (x, w, y, *(node.input(k) for k in (2, 4) if node.input(k))):
        for axis in range(2, t.rank(tensor)):
            t.freeze(tensor, axis, SPATIAL)
    t.kinds[y] = "filters"


def macs_deform_conv(node: Node, shapes: Shapes) -> int:
    """Output elements x kernel volume x input channels per group."""
    return int(np.prod(shapes[node.output(0)], dtype=np.int64) * np.prod(shapes[node.input(1)][1:], dtype=np.int64))


def couple_center_crop_pad(node: Node, t: Ties) -> None:
    """The axes that are brought to a given size stay; the others tie."""
    x, y = node.input(0), node.output(0)
    rank = t.rank(x)
    sized = {a % rank for a in node.attrs.get("axes", range(rank))}
    t.tie_like(x, y, [(a, a) for a in range(rank) if a not in sized], 0)
    for axis in sized:
        t.freeze(x, axis, f"{node} brings it to a given size")
        t.freeze(y, axis, f"{node} brings it to a given size")


def couple_col2im(node: Node, t: Ties) -> None:
    """x (N, C * block, L) -> y (N, C, spatial): a channel owns all positions of its block."""
    x, y = node.input(0), node.output(0)
    t.tie(x, 0, y, 0, 0)
    channels = t.el(y, 1)
    for position in t.el(x, 1).reshape(channels.size, -1).T:
        t.tie_ids(position, channels, 0)
    t.freeze(x, 2, SPATIAL)
    for axis in range(2, t.rank(y)):
        t.freeze(y, axis, SPATIAL)


D, L, I, S = Role.DATA, Role.LINEAR, Role.INDEX, Role.SHAPE  # noqa: E741
RULES = (
    Rule("GridSample", couple_grid_sample, (D, D), zero_by_inputs(0), vjp=vjp_grid_sample),
    Rule("RoiAlign", couple_roi_pool, (D, I), zero_by_inputs(0), vjp=vjp_roi_align),
    Rule("MaxRoiPool", couple_roi_pool, (D, D), zero_by_inputs(0)),
    Rule(
        "DeformConv",
        couple_deform_conv,
        (D, L, D, L, D),
        zero_by_inputs(1, 3),
        macs=macs_deform_conv,
        expand=expand_deform_conv,
    ),
    Rule("CenterCropPad", couple_center_crop_pad, (D, S), zero_keeps, vjp=vjp_center_crop_pad),
    Rule("Col2Im", couple_col2im, (D, S), zero_keeps, vjp=vjp_col2im),
    Rule("MaxUnpool", stays("its indices count through the whole tensor"), (D, I, S), zero_lost, vjp=vjp_max_unpool),
    Rule("NonMaxSuppression", stays("it picks boxes by comparing them"), (D,), zero_lost),
    Rule("AffineGrid", stays("it computes positions"), (D, S), zero_lost, vjp=vjp_affine_grid),
)
