"""Normalisations: exact with one parameter per channel, inexact (frozen unless asked) over the pruned axis."""

from __future__ import annotations

import numpy as np
from onnx.reference.op_run import OpRun

from onnxprune.model import Model
from onnxprune.values import Options
from tests.ops.cases import HIDDEN, MS, OUT, Case, Net, maps, tokens
from tests.ops.doubles import LRN
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


def alone(op: str, shape: tuple[int | str, ...], *parameters: int | tuple[int, ...], opset: int = 21, outputs: int = 1,
          domain: str = "", positive: int | None = None, kernels: tuple[type[OpRun], ...] = (),
          **attrs: object) -> Case:  # fmt: skip
    """Nothing but the operator; all of its outputs are outputs. ``positive``: a parameter that is a variance."""

    def build() -> Model:
        net = Net(opset=opset)
        x = net.input(shape)
        sizes = [(size,) if isinstance(size, int) else size for size in parameters]
        inputs = [net.param(*size, low=0.5 if k == positive else -1.5) for k, size in enumerate(sizes)]
        found = net.ops(op, x, *inputs, count=outputs, domain=domain, **attrs)
        for name in found if domain else []:
            net.hint(name, shape)
        return net.model(*found)

    return Case(build, kernels=kernels)


def skip_norm_alone(op: str, *, bias: bool, total: bool) -> Case:
    """With and without its optional inputs and the sum as an output."""

    def build() -> Model:
        net = Net()
        x = net.input(("n", "s", HIDDEN))
        skip = net.op("Tanh", x)
        inputs = [net.param(HIDDEN), net.param(HIDDEN), net.param(HIDDEN) if bias else ""]
        if "Simplified" in op:
            del inputs[1]
        y, _, _, added = net.ops(op, x, skip, *inputs, count=4, domain=MS, epsilon=0.25)
        net.hint(y, ("n", "s", HIDDEN))
        return net.model(y, net.hint(added, ("n", "s", HIDDEN))) if total else net.model(y)

    return Case(build)


GRADIENT_CASES = {
    ("", "BatchNormalization"): [
        alone("BatchNormalization", ("n", 5), 5, 5, 5, 5, positive=3),
        alone("BatchNormalization", ("n", 5, "w"), 5, 5, 5, 5, epsilon=0.25, positive=3),
        alone("BatchNormalization", ("n", 3, 4, 2, 3), 3, 3, 3, 3, positive=3),
        alone("BatchNormalization", ("n", 3, 4, 5), 3, 3, 3, 3, outputs=3, training_mode=1, momentum=0.75, positive=3),
    ],
    ("", "InstanceNormalization"): [
        alone("InstanceNormalization", ("n", 5, 6), 5, 5),
        alone("InstanceNormalization", ("n", 3, "h", "w"), 3, 3, epsilon=0.25),
        alone("InstanceNormalization", (2, 3, 4, 2, 3), 3, 3),
    ],
    ("", "GroupNormalization"): [
        alone("GroupNormalization", ("n", 6, 4, "w"), 6, 6, num_groups=3),
        alone("GroupNormalization", ("n", 6, 4, 5), 3, 3, num_groups=3, opset=18, epsilon=0.25),
        alone("GroupNormalization", ("n", 6, 4), 6, 6, num_groups=1),
    ],
    (MS, "GroupNorm"): [
        alone("GroupNorm", ("n", 4, 5, 6), 6, 6, groups=3, activation=0, domain=MS, kernels=(GroupNorm,)),
    ],
    ("", "LayerNormalization"): [
        alone("LayerNormalization", ("n", "s", 6), 6, 6),
        alone("LayerNormalization", ("n", 6), 6, epsilon=0.25),
        alone("LayerNormalization", ("n", 3, 4, 5), (4, 5), (4, 5), axis=2),
        alone("LayerNormalization", ("n", 3, 4, 5), (3, 4, 5), (4, 1), axis=1),
        alone("LayerNormalization", ("n", 3, 4), 1, axis=-1),
    ],
    ("", "RMSNormalization"): [
        alone("RMSNormalization", ("n", "s", 6), 6, opset=23),
        alone("RMSNormalization", ("n", 3, 4), (3, 4), opset=23, axis=1, epsilon=0.25),
    ],
    (MS, "SkipLayerNormalization"): [
        skip_norm_alone("SkipLayerNormalization", bias=False, total=False),
        skip_norm_alone("SkipLayerNormalization", bias=True, total=True),
    ],
    (MS, "SkipSimplifiedLayerNormalization"): [
        skip_norm_alone("SkipSimplifiedLayerNormalization", bias=False, total=False),
        skip_norm_alone("SkipSimplifiedLayerNormalization", bias=True, total=True),
    ],
    ("", "LpNormalization"): [
        alone("LpNormalization", ("n", 4, 5), p=1, axis=1),
        alone("LpNormalization", ("n", 4, "w"), p=2, axis=-1),
    ],
    ("", "LRN"): [
        alone("LRN", ("n", 7, 3, "w"), size=3, alpha=0.75, beta=0.5, bias=2.0),
        alone("LRN", ("n", 7, 3, 2), size=4, alpha=0.75, kernels=(LRN,)),
    ],
    ("", "MeanVarianceNormalization"): [
        alone("MeanVarianceNormalization", ("n", 3, 4, 5)),
        alone("MeanVarianceNormalization", ("n", 3, 4), axes=[1, 2]),
    ],
}
