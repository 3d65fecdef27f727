"""onnxruntime's other operators; those that stay whole need no kernel, only the reason."""

from __future__ import annotations

import numpy as np

from onnxprune.model import Model
from onnxprune.ops.contrib import FROZEN
from tests.ops.cases import HIDDEN, MS, OUT, Case, Net, tokens
from tests.ops.kernels import BiasAdd, BiasSplitGelu


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


CASES = {
    (MS, "EmbedLayerNormalization"): [embed_layer_norm()],
    (MS, "BiasSplitGelu"): [tokens(bias_split_gelu, after=4, units=4, kernels=(BiasSplitGelu,))],
    (MS, "BiasAdd"): [tokens(bias_add, kernels=(BiasAdd,))],
    **{(MS, op): [whole(op)] for op in FROZEN},
}
