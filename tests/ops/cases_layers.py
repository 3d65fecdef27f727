"""Convolutions and matrix products: every side constant or computed, grouped, transposed, batched."""

from __future__ import annotations

import numpy as np

from onnxprune.model import Model
from tests.ops.cases import HIDDEN, MS, OUT, Case, Net, flat, maps, tokens


def conv_of_rank(dims: int, **attrs: object) -> Case:
    size = (4,) * dims
    return maps(
        lambda net, h: net.conv(net.op("Relu", h), HIDDEN, HIDDEN, (3,) * dims, pads=[1] * 2 * dims, **attrs),
        size=size,
        units=2 * HIDDEN,
    )


def grouped(groups: int, after: int, units: int) -> Case:
    return maps(lambda net, h: net.conv(h, HIDDEN, after, (3, 3), group=groups), after=after, units=units)


def shuffled(groups: int = 2) -> Case:
    """Two grouped convolutions with a channel shuffle between them, as in ShuffleNet v1."""

    def middle(net: Net, h: str) -> str:
        h = net.conv(h, HIDDEN, HIDDEN, (3, 3), group=groups)
        shape = net.const([0, groups, HIDDEN // groups, 4, 4], np.int64)
        h = net.op("Transpose", net.op("Reshape", h, shape), perm=[0, 2, 1, 3, 4])
        h = net.op("Reshape", h, net.const([0, HIDDEN, 4, 4], np.int64))
        return net.conv(h, HIDDEN, HIDDEN, (3, 3), group=groups)

    return maps(middle, units=3 * HIDDEN)


def transposed(after: int = HIDDEN, units: int = 2 * HIDDEN, groups: int = 1, **expected: object) -> Case:
    def middle(net: Net, h: str) -> str:
        weight = net.param(HIDDEN, after // groups, 2, 2)
        return net.op("ConvTranspose", h, weight, net.param(after), strides=[2, 2], group=groups)

    return maps(middle, after=after, units=units, **expected)


def shared_kernel() -> Case:
    """One convolution applied to two inputs: its units are tied by the shared weight."""

    def build() -> Model:
        net = Net()
        weight, bias = net.param(HIDDEN, 3, 3, 3), net.param(HIDDEN)
        a, b = (net.op("Conv", net.input(("n", 3, 6, 6), name=name), weight, bias) for name in "ab")
        return net.model(net.conv(net.op("Add", a, b), HIDDEN, OUT))

    return Case(build)


def computed_kernel() -> Case:
    """The kernel is computed from a constant."""

    def build() -> Model:
        net = Net()
        weight = net.op("Tanh", net.param(HIDDEN, 3, 1, 1))
        h = net.op("Conv", net.input(("n", 3, 6, 6)), weight)
        return net.model(net.conv(h, HIDDEN, OUT))

    return Case(build)


def fused_conv(residual: bool) -> Case:
    def build() -> Model:
        net = Net()
        x = net.input(("n", 3, 6, 6))
        inputs = [net.conv(x, 3, HIDDEN), net.param(HIDDEN, HIDDEN, 1, 1), net.param(HIDDEN)]
        if residual:
            inputs.append(net.conv(x, 3, HIDDEN))
        h = net.op("FusedConv", *inputs, domain=MS, activation="Relu", kernel_shape=[1, 1])
        return net.model(net.conv(h, HIDDEN, OUT))

    return Case(build, units=2 * HIDDEN)


def gemm(trans_a: int, trans_b: int, bias: tuple[int, ...] | None) -> Case:
    def middle(net: Net, h: str) -> str:
        if trans_a:
            h = net.op("Transpose", h, perm=[1, 0])
        shape = (10, HIDDEN) if trans_b else (HIDDEN, 10)
        extra = [] if bias is None else [net.param(*bias)]
        return net.op("Gemm", h, net.param(*shape), *extra, transA=trans_a, transB=trans_b, alpha=0.5, beta=2.0)

    return flat(middle, after=10, units=HIDDEN + 10)


def fused_gemm(net: Net, h: str) -> str:
    return net.op("FusedGemm", h, net.param(HIDDEN, 10), net.param(10), domain=MS, activation="Relu")


def constant_left(net: Net, h: str) -> str:
    """w (10, 8) @ h' (8, n): the constant is the left operand."""
    product = net.op("MatMul", net.param(10, HIDDEN), net.op("Transpose", h, perm=[1, 0]))
    return net.op("Transpose", product, perm=[1, 0])


def attention_scores() -> Case:
    """q @ k' @ v with nothing constant in between: q and k share their units, v has its own."""

    def build() -> Model:
        net = Net()
        x = net.input(("n", 5, 6))
        q, k, v = (net.dense(x, 6, HIDDEN) for _ in range(3))
        scores = net.op("Softmax", net.op("MatMul", q, net.op("Transpose", k, perm=[0, 2, 1])), axis=-1)
        return net.model(net.dense(net.op("MatMul", scores, v), HIDDEN, OUT))

    return Case(build, units=2 * HIDDEN)


def vector_operand() -> Case:
    """h (n, 8) @ w (8): a vector operand has no free axis."""

    def build() -> Model:
        net = Net()
        h = net.gemm(net.input(("n", 6)), 6, HIDDEN)
        return net.model(net.op("MatMul", h, net.param(HIDDEN)))

    return Case(build)


def batched_weight(net: Net, h: str) -> str:
    """(n, 1, s, 8) @ (3, 8, 10), then summed over the batch of weights."""
    y = net.op("MatMul", net.op("Unsqueeze", h, net.const([1], np.int64)), net.param(3, HIDDEN, 10))
    return net.op("ReduceSum", y, net.const([1], np.int64), keepdims=0)


def leaking_scores() -> Case:
    """sigmoid(q) @ sigmoid(k)': removed units would be 0.5 * 0.5 in the masked model."""

    def build() -> Model:
        net = Net()
        x = net.input(("n", 5, 6))
        q, k = (net.op("Sigmoid", net.dense(x, 6, HIDDEN)) for _ in range(2))
        return net.model(net.op("MatMul", q, net.op("Transpose", k, perm=[0, 2, 1])))

    return Case(build, units=0, frozen="not zero there")


def fused_matmul(net: Net, h: str) -> str:
    return net.op("FusedMatMul", h, net.param(10, HIDDEN), domain=MS, transB=1, alpha=0.5)


def einsum(equation: str, *shape: int, after: int = 10, units: int = HIDDEN + 10) -> Case:
    return tokens(lambda net, h: net.op("Einsum", h, net.param(*shape), equation=equation), after=after, units=units)


def einsum_heads() -> Case:
    """bshd,bthd->bhst: heads and dims are axes of their own; whole heads go by default."""

    def build() -> Model:
        net = Net()
        x = net.input(("n", 5, 6))
        split = net.const([0, 0, 4, 3], np.int64)
        q, k, v = (net.op("Reshape", net.dense(x, 6, 12), split) for _ in range(3))
        weights = net.op("Softmax", net.op("Einsum", q, k, equation="bshd,bthd->bhst"), axis=-1)
        y = net.op("Einsum", weights, v, equation="bhst,bthd->bshd")
        return net.model(net.dense(net.op("Reshape", y, net.const([0, 0, 12], np.int64)), 12, OUT))

    return Case(build, units=4)


CASES = {
    ("", "Conv"): [
        conv_of_rank(1),
        conv_of_rank(2, strides=[2, 2]),
        conv_of_rank(3),
        grouped(HIDDEN, HIDDEN, HIDDEN),
        grouped(HIDDEN, 2 * HIDDEN, HIDDEN),
        grouped(2, HIDDEN, 2 * HIDDEN),
        grouped(4, 12, HIDDEN + 12),
        shuffled(),
        shared_kernel(),
        computed_kernel(),
    ],
    ("", "ConvTranspose"): [
        transposed(),
        transposed(groups=HIDDEN, units=HIDDEN),
        transposed(groups=HIDDEN, after=2 * HIDDEN, units=HIDDEN),
        transposed(groups=2),
    ],
    (MS, "FusedConv"): [fused_conv(False), fused_conv(True)],
    ("", "Gemm"): [gemm(0, 0, (10,)), gemm(0, 1, (1, 10)), gemm(1, 0, None), gemm(1, 1, (1,))],
    (MS, "FusedGemm"): [flat(fused_gemm, after=10, units=18)],
    ("", "MatMul"): [
        tokens(lambda net, h: net.op("MatMul", h, net.param(HIDDEN, 10)), after=10, units=18),
        flat(constant_left, after=10, units=18),
        attention_scores(),
        vector_operand(),
        tokens(batched_weight, after=10, units=21),
        leaking_scores(),
    ],
    (MS, "FusedMatMul"): [tokens(fused_matmul, after=10, units=18)],
    ("", "Einsum"): [
        einsum("bsi,io->bso", HIDDEN, 10),
        einsum("...i,oi->...o", 10, HIDDEN),
        einsum("bsi,i->bsi", HIDDEN, after=HIDDEN, units=HIDDEN),
        einsum_heads(),
    ],
}


def shaped(groups: int = 1, size: tuple[int, int] = (5, 4), **attrs: object) -> Case:
    """A transposed convolution with a kernel of 3 x 2."""

    def middle(net: Net, h: str) -> str:
        return net.op("ConvTranspose", h, net.param(HIDDEN, HIDDEN // groups, 3, 2), group=groups, **attrs)

    return maps(middle, size=size)


def activated(activation: str, *numbers: float) -> Case:
    def middle(net: Net, h: str) -> str:
        weights = net.param(HIDDEN, HIDDEN, 3, 3), net.param(HIDDEN)
        extra = {"activation_params": list(numbers)} if numbers else {}
        return net.op("FusedConv", h, *weights, domain=MS, activation=activation, kernel_shape=[3, 3], **extra)

    return maps(middle)


GRADIENT_CASES = {
    ("", "ConvTranspose"): [
        shaped(auto_pad="SAME_UPPER", strides=[2, 2]),
        shaped(auto_pad="SAME_LOWER", strides=[2, 1], groups=2),
        shaped(auto_pad="VALID", strides=[2, 1]),
        shaped(output_shape=[9, 8], strides=[2, 2]),
        shaped(output_shape=[10, 8], strides=[2, 2], auto_pad="SAME_UPPER"),
        shaped(strides=[3, 2], output_padding=[2, 1], pads=[1, 0, 2, 1]),
    ],
    (MS, "FusedConv"): [
        activated("Tanh"),
        activated("LeakyRelu", 0.125),
        activated("Clip", -2.0, 3.0),
        activated("HardSigmoid", 0.125, 0.5),
    ],
}
