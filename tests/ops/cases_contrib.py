"""onnxruntime's other operators; those that stay whole need no kernel, only the reason."""

from __future__ import annotations

import numpy as np

from onnxprune.model import Model
from onnxprune.ops.contrib import EXPAND, FROZEN
from tests.ops.cases import HIDDEN, MS, OUT, Case, Net, tokens
from tests.ops.kernels import BiasAdd, BiasSplitGelu, GatedRelativePositionBias, RelativePositionBias


def embed_layer_norm() -> Case:
    """The embedding stays (its norm runs over it), the hidden layer behind it goes."""

    def build() -> Model:
        net = Net()
        ids, segments = net.input(("n", 5), np.int32, "ids"), net.input(("n", 5), np.int32, "segments")
        tables = [net.param(20, HIDDEN), net.param(16, HIDDEN), net.param(4, HIDDEN)]
        inputs = ids, segments, *tables, net.param(HIDDEN), net.param(HIDDEN)
        h, _, total = net.ops("EmbedLayerNormalization", *inputs, count=3, domain=MS)
        h = net.dense(net.op("Relu", net.dense(h, HIDDEN, 16)), 16, HIDDEN)
        return net.model(net.dense(net.op("Add", h, total), HIDDEN, OUT))

    return Case(build, units=16, frozen="the mean and variance")


def bias_split_gelu(net: Net, h: str) -> str:
    return net.hint(net.op("BiasSplitGelu", h, net.param(HIDDEN), domain=MS), ("n", 5, HIDDEN // 2))


def bias_add(net: Net, h: str) -> str:
    skip = net.dense(h, HIDDEN, HIDDEN)
    return net.hint(net.op("BiasAdd", skip, net.param(HIDDEN), h, domain=MS), ("n", 5, HIDDEN))


def whole(op: str) -> Case:
    """Between two layers, as if it had one input: the first layer cannot lose anything."""
    return tokens(
        lambda net, h: net.hint(net.op(op, h, domain=MS), ("n", 5, HIDDEN)), units=0, frozen=f"{op} node", runs=False
    )


def relative(bidirectional: int) -> Case:
    """Scores with a bias per distance; its lengths are constants."""

    def middle(net: Net, h: str) -> str:
        lengths = (net.const([5], np.int64) for _ in range(2))
        bias = net.op("RelativePositionBias", net.param(8, 2), *lengths, domain=MS, max_distance=16,
                      is_bidirectional=bidirectional)  # fmt: skip
        return net.op("MatMul", net.op("ReduceSum", net.hint(bias, (1, 2, 5, 5)), net.const([1]), keepdims=0), h)

    return tokens(middle, kernels=(RelativePositionBias,))


def gated(net: Net, h: str) -> str:
    """Queries of 2 heads with 4 dims each."""
    inputs = net.param(HIDDEN), net.param(1, 2, 5, 5), net.param(4, 8), net.param(8), net.param(1, 2, 1, 1)
    bias = net.hint(net.op("GatedRelativePositionBias", h, *inputs, domain=MS, num_heads=2), ("n", 2, 5, 5))
    return net.op("MatMul", net.op("ReduceSum", bias, net.const([1]), keepdims=0), h)


def whole_mask(net: Net) -> str:
    return net.const(np.array([[1, 1, 1, 0, 0]]).repeat(3, 0), np.int32)


def embed(*, segments: bool, mask: bool, given: bool) -> Case:
    """With and without its optional inputs, and a table for each."""

    def build() -> Model:
        net = Net()
        ids = net.input((3, 5), np.int32, "ids")
        inputs = [ids, ids if segments else "", net.param(20, HIDDEN), net.param(16, HIDDEN)]
        inputs += [net.param(20, HIDDEN) if segments else "", net.param(HIDDEN), net.param(HIDDEN)]
        inputs += [whole_mask(net) if mask else "", net.const(np.arange(5)[None] * 2, np.int32) if given else ""]
        y, _, total = net.ops("EmbedLayerNormalization", *inputs, count=3, domain=MS, epsilon=0.25)
        return net.model(net.hint(y, (3, 5, HIDDEN)), net.hint(total, (3, 5, HIDDEN)))

    return Case(build)


WITHOUT = {(MS, op): reason for op, (reason, _) in FROZEN.items() if op not in EXPAND}
CASES = {
    (MS, "EmbedLayerNormalization"): [embed_layer_norm()],
    (MS, "BiasSplitGelu"): [tokens(bias_split_gelu, after=4, units=4, kernels=(BiasSplitGelu,))],
    (MS, "BiasAdd"): [tokens(bias_add, kernels=(BiasAdd,))],
    (MS, "RelativePositionBias"): [relative(0), relative(1)],
    (MS, "GatedRelativePositionBias"): [
        tokens(gated, units=0, frozen="gates", runs=False, kernels=(GatedRelativePositionBias,))
    ],
    **{(MS, op): [whole(op)] for op in FROZEN if op not in EXPAND},
}
GRADIENT_CASES = {
    (MS, "EmbedLayerNormalization"): [
        embed(segments=False, mask=False, given=True),
        embed(segments=True, mask=True, given=False),
    ],
}
