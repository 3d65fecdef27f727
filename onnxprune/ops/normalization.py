"""Normalisations: with one parameter per channel (exact) and over the axis itself (inexact).

BatchNormalization and InstanceNormalization treat every channel on its own. LayerNormalization, RMSNormalization and
their kin divide by a statistic of the whole axis: a removed unit changes what the survivors see.
"""

from __future__ import annotations

from onnxprune.graph import Node
from onnxprune.ops.batch_norm_gradients import train_batch_norm, vjp_batch_norm
from onnxprune.ops.cutting import Cutter
from onnxprune.ops.elementwise import broadcast, zero_hazard
from onnxprune.ops.normalization_gradients import (
    expand_contrib_group_norm,
    expand_group_norm,
    expand_simplified,
    expand_skip_norm,
    vjp_instance_norm,
    vjp_layer_norm,
    vjp_lp_norm,
    vjp_lrn,
    vjp_mean_variance,
    vjp_rms_norm,
)
from onnxprune.ops.rule import Role, Rule, zero_by_inputs, zero_keeps
from onnxprune.ops.ties import Ties


def couple_batch_norm(node: Node, t: Ties) -> None:
    """x (N, C, ...), scale, bias, mean, variance (C) -> y; the running statistics of training mode tie as well."""
    x, y = node.input(0), node.output(0)
    t.tie_like(x, y, [(a, a) for a in range(t.rank(x))], 0)
    channel = 1 if t.rank(x) > 1 else 0
    for k in range(1, 5):
        t.tie(node.input(k), 0, y, channel, k)
    for tensor in node.outputs[1:]:
        if tensor and t.shape(tensor) is not None:
            t.tie(node.input(1), 0, tensor, 0)


def couple_instance_norm(node: Node, t: Ties) -> None:
    """Statistics over the spatial axes of each channel; removing part of those changes the statistics."""
    x, y = node.input(0), node.output(0)
    t.tie_like(x, y, [(a, a) for a in range(t.rank(x))], 0)
    for k in (1, 2):
        t.tie(node.input(k), 0, y, 1, k)
    for axis in range(2, t.rank(x)):
        t.renormalises(x, axis, "the mean and variance")


def couple_layer_norm(node: Node, t: Ties) -> None:
    """Mean and variance over the axes from ``axis`` on; scale and bias broadcast to x."""
    x, y = node.input(0), node.output(0)
    rank = t.rank(x)
    first = node.attrs.get("axis", -1) % rank
    t.tie_like(x, y, [(a, a) for a in range(rank)], 0)
    broadcast(node, t, (1, 2), y)
    for axis in range(first, rank):
        t.renormalises(x, axis, "the mean and variance")
    for tensor in node.outputs[1:]:
        if tensor and t.shape(tensor) is not None:
            t.tie_like(x, tensor, [(a, a) for a in range(first)], 0)


def couple_skip_layer_norm(node: Node, t: Ties) -> None:
    """LayerNormalization of x + skip (+ bias); inputs x, skip, gamma, beta, bias. Output 3 is the sum itself."""
    simplified = node.op == "SkipSimplifiedLayerNormalization"
    y = node.output(0)
    last = t.rank(y) - 1
    broadcast(node, t, (0, 1), y)
    names = (2, 3) if simplified else (2, 3, 4)
    broadcast(node, t, names, y)
    t.renormalises(y, last, "the mean and variance")
    for k, tensor in enumerate(node.outputs[1:], 1):
        if tensor and t.shape(tensor) is not None:
            axes = range(t.rank(y)) if k == 3 else range(last)
            t.tie_like(y, tensor, [(a, a) for a in axes])


def couple_group_norm(node: Node, t: Ties) -> None:
    """Whole normalisation groups are exact units; equal counts inside each are inexact, on request.

    Scale and bias are per group before opset 21 and per channel from then on.
    """
    x, y = node.input(0), node.output(0)
    groups = node.attrs["num_groups"] if "num_groups" in node.attrs else node.attrs["groups"]
    nhwc = node.domain == "com.microsoft" and node.attrs.get("channels_last", 1)
    channel = t.rank(x) - 1 if nhwc else 1
    t.tie_like(x, y, [(a, a) for a in range(t.rank(x))], 0)
    channels = t.el(y, channel)
    size = channels.size // groups
    rows = channels.reshape(groups, size)
    for k in (1, 2):
        ids = t.el(node.input(k), 0)
        if ids.size == channels.size:
            t.tie_ids(ids, channels, k)
        elif t.options.norm_groups == "whole":
            t.tie_ids(ids, rows[:, 0], k)
        else:
            t.freeze_ids(ids, f"the groups of {node} stay")
    if t.options.norm_groups == "whole":
        for column in range(1, size):
            t.tie_ids(rows[:, 0], rows[:, column])
    else:
        t.renormalises(y, channel, "the mean and variance")
        t.equal_count(list(rows), f"normalisation groups of {node} have equally many channels")
    for axis in range(1, t.rank(x)):
        if axis != channel:
            t.renormalises(x, axis, "the mean and variance")


def cut_group_norm(node: Node, c: Cutter) -> None:
    """Fewer whole groups: ``num_groups`` follows."""
    if c.options.norm_groups == "whole":
        name = "num_groups" if "num_groups" in node.attrs else "groups"
        channel = len(c.old_shape(node.input(0))) - 1 if name == "groups" and node.attrs.get("channels_last", 1) else 1
        old = c.old_shape(node.input(0))[channel]
        c.set_attr(node, name, c.size(node.input(0), channel) * node.attrs[name] // old)


def couple_lp_norm(node: Node, t: Ties) -> None:
    """x / ||x|| along the axis: zeros add nothing to an L1 or L2 norm, so it is exact where removed elements are 0."""
    x, y = node.input(0), node.output(0)
    t.tie_like(x, y, [(a, a) for a in range(t.rank(x))], 0)
    t.contracts(t.el(x, node.attrs.get("axis", -1)))


def couple_lrn(node: Node, t: Ties) -> None:
    """Neighbouring channels enter by their position, so removing one shifts the window of the others: frozen."""
    x, y = node.input(0), node.output(0)
    t.tie_like(x, y, [(a, a) for a in range(t.rank(x))], 0)
    t.freeze(x, 1, f"{node} mixes neighbouring channels by position")


def couple_mean_variance(node: Node, t: Ties) -> None:
    """MeanVarianceNormalization over the given axes (default all but the channel)."""
    x, y = node.input(0), node.output(0)
    t.tie_like(x, y, [(a, a) for a in range(t.rank(x))], 0)
    for axis in node.attrs.get("axes", (0, 2, 3)):
        t.renormalises(x, axis, "the mean and variance")


D, L, V = Role.DATA, Role.LINEAR, Role.VARIANCE
MS = "com.microsoft"
BY_PARAMETERS = zero_by_inputs(1, 2)
RULES = (
    Rule(
        "BatchNormalization",
        couple_batch_norm,
        (D, L, L, Role.BOUND, V),
        BY_PARAMETERS,
        vjp=vjp_batch_norm,
        train=train_batch_norm,
    ),
    Rule("InstanceNormalization", couple_instance_norm, (D, L, L), BY_PARAMETERS, vjp=vjp_instance_norm),
    Rule("LayerNormalization", couple_layer_norm, (D, L, L), BY_PARAMETERS, vjp=vjp_layer_norm),
    Rule("RMSNormalization", couple_layer_norm, (D, L), zero_by_inputs(1), vjp=vjp_rms_norm),
    Rule("SimplifiedLayerNormalization", couple_layer_norm, (D, L), zero_by_inputs(1), vjp=vjp_rms_norm),
    Rule("SimplifiedLayerNormalization", couple_layer_norm, (D, L), zero_by_inputs(1), domain=MS,
         expand=expand_simplified),
    Rule("SkipLayerNormalization", couple_skip_layer_norm, (L, L, L, L, L), zero_by_inputs(2, 3), domain=MS,
         expand=expand_skip_norm),
    Rule("SkipSimplifiedLayerNormalization", couple_skip_layer_norm, (L, L, L, L), zero_by_inputs(2), domain=MS,
         expand=expand_skip_norm),
    Rule("GroupNormalization", couple_group_norm, (D, L, L), BY_PARAMETERS, cut_group_norm,
         expand=expand_group_norm),
    Rule("GroupNorm", couple_group_norm, (D, L, L), BY_PARAMETERS, cut_group_norm, domain=MS,
         expand=expand_contrib_group_norm),
    Rule("LpNormalization", couple_lp_norm, (D,), zero_keeps, vjp=vjp_lp_norm),
    Rule("LRN", couple_lrn, (D,), zero_keeps, vjp=vjp_lrn),
    Rule("MeanVarianceNormalization", couple_mean_variance, (D,), zero_hazard, vjp=vjp_mean_variance),
)  # fmt: skip
