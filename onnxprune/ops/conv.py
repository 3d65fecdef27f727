"""Conv, ConvTranspose and onnxruntime's FusedConv.

``y[n, o, ...] = b[o] + sum over i, k of W[o, i, k] x[n, i, ...]``: output channels tie W axis 0, bias and output; input
channels tie W axis 1. In a grouped convolution W axis 1 stands for a different stretch of input channels in every
group of rows, so it is *ragged*: one independent axis per group, all of which must lose equally many.
"""

from __future__ import annotations

import numpy as np

from onnxprune.graph import Node
from onnxprune.ops.conv_gradients import expand_fused_conv, train_conv, vjp_conv, vjp_conv_transpose
from onnxprune.ops.cutting import Cutter
from onnxprune.ops.rule import Role, Rule, Shapes, zero_by_inputs, zero_lost
from onnxprune.ops.ties import KERNEL_STAYS, Ties

SPATIAL = "spatial positions are not independent of each other"


def couple_conv(node: Node, t: Ties) -> None:
    """x (N, I, spatial), W (O, I/g, kernel), b (O) -> y (N, O, spatial)."""
    x, w, bias, y = node.input(0), node.input(1), node.input(2), node.output(0)
    groups = node.attrs.get("group", 1)
    t.tie(x, 0, y, 0, 0)
    _freeze_spatial(t, x, w, y)
    t.tie(w, 0, y, 1, 1)
    if bias:
        t.tie(bias, 0, y, 1, 2)
    if node.input(3):  # FusedConv: a residual sum before the activation
        for axis in range(t.rank(y)):
            t.tie(node.input(3), axis, y, axis, 3)
    t.kinds[y] = "filters"
    outs, per_group = t.sizes(w)[0], t.sizes(w)[1]
    t.consumes(w, 1)
    if groups == 1:
        t.tie(x, 1, w, 1, None)
        t.contracts(t.el(w, 1), t.el(x, 1))
    elif per_group == 1:
        t.tie_ids(np.repeat(t.el(x, 1), outs // groups), t.el(y, 1), 0)
    else:
        ins = t.el(x, 1).reshape(groups, per_group)
        columns = t.blocks_of(w, 1, 0, groups)
        t.tie_ids(ins.reshape(-1), columns.reshape(-1), None)
        t.contracts(columns.reshape(-1), ins.reshape(-1))
        t.equal_count(list(ins), f"groups of {node} read equally many channels")
        t.equal_count(list(t.el(y, 1).reshape(groups, -1)), f"groups of {node} write equally many channels")


def couple_conv_transpose(node: Node, t: Ties) -> None:
    """x (N, I, spatial), W (I, O/g, kernel), b (O) -> y (N, O, spatial)."""
    x, w, bias, y = node.input(0), node.input(1), node.input(2), node.output(0)
    groups = node.attrs.get("group", 1)
    t.tie(x, 0, y, 0, 0)
    _freeze_spatial(t, x, w, y)
    t.consumes(w, 0)
    ins, per_group = t.sizes(w)[0], t.sizes(w)[1]
    t.kinds[y] = "filters"
    if groups == 1:
        t.tie(w, 1, y, 1, 1)
        t.tie(x, 1, w, 0, None)
        t.contracts(t.el(w, 0), t.el(x, 1))
    elif ins == groups:
        if per_group > 1:
            t.freeze(w, 1, f"channel multiplier of {node}")
        t.tie_ids(np.repeat(t.el(x, 1), per_group), t.el(y, 1), 0)
        t.tie(x, 1, w, 0, None)
    else:
        columns = t.blocks_of(w, 1, 0, groups)
        t.tie_ids(columns.reshape(-1), t.el(y, 1), 1)
        t.tie(x, 1, w, 0, None)
        t.contracts(t.el(w, 0), t.el(x, 1))
        t.equal_count(list(t.el(x, 1).reshape(groups, -1)), f"groups of {node} read equally many channels")
        t.equal_count(list(t.el(y, 1).reshape(groups, -1)), f"groups of {node} write equally many channels")
    if bias:
        t.tie(bias, 0, y, 1, 2)


def _freeze_spatial(t: Ties, x: str, w: str, y: str) -> None:
    for axis in range(2, t.rank(x)):
        t.freeze(x, axis, SPATIAL)
        t.freeze(y, axis, SPATIAL)
        t.freeze(w, axis, KERNEL_STAYS)


def cut_conv(node: Node, c: Cutter) -> None:
    """A depthwise convolution follows its channels with ``group``; other groupings keep it."""
    groups = node.attrs.get("group", 1)
    x, w = node.input(0), node.input(1)
    old = c.old_shape(w)
    if groups > 1 and old[1] == 1:
        c.set_attr(node, "group", c.size(x, 1))


def cut_conv_transpose(node: Node, c: Cutter) -> None:
    """As for Conv: a depthwise one follows its channels."""
    groups = node.attrs.get("group", 1)
    if groups > 1 and c.old_shape(node.input(1))[0] == groups:
        c.set_attr(node, "group", c.size(node.input(0), 1))


def macs_conv(node: Node, shapes: Shapes) -> int:
    """Output elements x kernel volume x input channels per group."""
    return int(np.prod(shapes[node.output(0)], dtype=np.int64) * np.prod(shapes[node.input(1)][1:], dtype=np.int64))


def macs_conv_transpose(node: Node, shapes: Shapes) -> int:
    """Input elements x kernel volume x output channels per group."""
    return int(np.prod(shapes[node.input(0)], dtype=np.int64) * np.prod(shapes[node.input(1)][1:], dtype=np.int64))


PARAMETERS = (Role.DATA, Role.LINEAR, Role.LINEAR, Role.LINEAR)

RULES = (
    Rule("Conv", couple_conv, PARAMETERS, zero_by_inputs(1, 2), cut_conv, macs_conv, vjp=vjp_conv, train=train_conv),
    Rule(
        "ConvTranspose",
        couple_conv_transpose,
        PARAMETERS,
        zero_by_inputs(1, 2),
        cut_conv_transpose,
        macs_conv_transpose,
        vjp=vjp_conv_transpose,
    ),
    Rule(
        "FusedConv",
        couple_conv,
        PARAMETERS,
        zero_lost,
        cut_conv,
        macs_conv,
        domain="com.microsoft",
        expand=expand_fused_conv,
    ),
)
