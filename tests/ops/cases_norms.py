"""Normalisations: exact with one parameter per channel, inexact (frozen unless asked) over the pruned axis."""

from __future__ import annotations

import numpy as np

from onnxprune.model import Model
from onnxprune.values import Options
from tests.ops.cases import HIDDEN, MS, OUT, Case, Net, maps, tokens
from tests.ops.kernels import GroupNorm

MEAN = "the mean and variance"


def batch_norm(net: Net, h: str) -> str:
    mean, variance = net.param(HIDDEN), net.param(HIDDEN, low=0.5)
    return net.op("BatchNormalization", h, net.param(HIDDEN), net.param(HIDDEN), mean, variance)


def batch_norm_sigmoid_sum() -> Case:
    """The shift of a BatchNormalization must not leak into a sum over channels."""

    def middle(net: Net, h: str) -> str:
        total = net.op("ReduceSum", net.op("Relu", batch_norm(net, h)), net.const([1], np.int64))
        return net.op("Mul", h, total)

    return maps(middle)


def instance_norm(net: Net, h: str) -> str:
    return net.op("InstanceNormalization", h, net.param(HIDDEN), net.param(HIDDEN))


def layer_norm(op: str, domain: str = "", **expected: object) -> Case:
    def middle(net: Net, h: str) -> str:
        bias = [net.param(HIDDEN)] if op == "LayerNormalization" else []
        return net.hint(net.op(op, h, net.param(HIDDEN), *bias, domain=domain, axis=-1), ("n", 5, HIDDEN))

    return tokens(middle, units=0, frozen=MEAN, **expected)


def layer_norm_elsewhere() -> Case:
    """The normalised axis is the last one and frozen; the channels before it stay free."""

    def middle(net: Net, h: str) -> str:
        return net.op("LayerNormalization", h, net.param(6), net.param(6), axis=-1)

    return maps(middle)


def layer_norm_then_mlp() -> Case:
    """The embedding stays, the hidden layer behind the norm goes."""

    def middle(net: Net, h: str) -> str:
        normal = net.op("LayerNormalization", h, net.param(HIDDEN), net.param(HIDDEN))
        return net.op("Add", h, net.dense(net.op("Relu", net.dense(normal, HIDDEN, 16)), 16, HIDDEN))

    return tokens(middle, units=16, frozen=MEAN)


def skip_norm(op: str) -> Case:
    def build() -> Model:
        net = Net()
        x = net.input(("n", 5, 6))
        bias = [] if "Simplified" in op else [net.param(HIDDEN)]
        inner = net.dense(net.op("Relu", net.dense(x, 6, 16)), 16, HIDDEN)
        skip = net.dense(x, 6, HIDDEN)
        h = net.op(op, inner, skip, net.param(HIDDEN), *bias, net.param(HIDDEN), domain=MS)
        return net.model(net.dense(h, HIDDEN, OUT))

    return Case(build, units=16, frozen=MEAN)


def group_norm(op: str, opset: int, per_channel: bool, **expected: object) -> Case:
    """Whole groups are units: 8 channels in 4 groups."""

    def middle(net: Net, h: str) -> str:
        size = HIDDEN if per_channel else 4
        return net.op(op, h, net.param(size), net.param(size), num_groups=4)

    return maps(middle, opset=opset, **{"units": 4, **expected})


def contrib_group_norm() -> Case:
    def middle(net: Net, h: str) -> str:
        h = net.op("Transpose", h, perm=[0, 2, 3, 1])
        h = net.op("GroupNorm", h, net.param(HIDDEN), net.param(HIDDEN), domain=MS, groups=4, activation=0)
        net.hint(h, ("n", 6, 6, HIDDEN))
        return net.op("Transpose", h, perm=[0, 3, 1, 2])

    return maps(middle, units=4, kernels=(GroupNorm,))


def lp_norm_in_space(net: Net, h: str) -> str:
    """A removed channel is all zeros: 0 / 0."""
    return net.op("LpNormalization", h, axis=2, p=1)


def lp_norm(before: str, **expected: object) -> Case:
    def middle(net: Net, h: str) -> str:
        return net.op("LpNormalization", net.op(before, h), axis=-1, p=2)

    return tokens(middle, **expected)


def mean_variance(axes: tuple[int, ...], **expected: object) -> Case:
    return maps(lambda net, h: net.op("MeanVarianceNormalization", h, axes=list(axes)), **expected)


CASES = {
    ("", "BatchNormalization"): [maps(batch_norm), batch_norm_sigmoid_sum()],
    ("", "InstanceNormalization"): [maps(instance_norm)],
    ("", "LayerNormalization"): [layer_norm("LayerNormalization"), layer_norm_elsewhere(), layer_norm_then_mlp()],
    ("", "RMSNormalization"): [layer_norm("RMSNormalization", opset=23)],
    ("", "SimplifiedLayerNormalization"): [layer_norm("SimplifiedLayerNormalization")],
    (MS, "SimplifiedLayerNormalization"): [layer_norm("SimplifiedLayerNormalization", MS, runs=False)],
    (MS, "SkipLayerNormalization"): [skip_norm("SkipLayerNormalization")],
    (MS, "SkipSimplifiedLayerNormalization"): [skip_norm("SkipSimplifiedLayerNormalization")],
    ("", "GroupNormalization"): [
        group_norm("GroupNormalization", 21, per_channel=True),
        group_norm("GroupNormalization", 18, per_channel=False),
        group_norm("GroupNormalization", 21, True, units=0, frozen=MEAN, options=Options(norm_groups="within")),
    ],
    (MS, "GroupNorm"): [contrib_group_norm()],
    ("", "LpNormalization"): [
        lp_norm("Relu"),
        maps(lp_norm_in_space),
        lp_norm("Sigmoid", units=0, frozen="not zero there"),
    ],
    ("", "LRN"): [maps(lambda net, h: net.op("LRN", h, size=3), units=0, frozen="neighbouring channels")],
    ("", "MeanVarianceNormalization"): [
        mean_variance((0, 2, 3)),
        mean_variance((1, 2, 3), units=0, frozen=MEAN),
    ],
}
