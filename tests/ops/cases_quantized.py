"""Quantised models: Q/DQ pairs, integer operators, scales found at run time, packed weights.

Scales are powers of two and numbers multiples of 1/16, so that nothing is rounded and 1e-5 holds through every Q.
"""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from tests.ops.cases import HIDDEN, MS, Case, Net, flat, maps, tokens
from tests.oracle import Array

SIXTEENTH = np.float32(1 / 16)
U8, I8, I32 = np.uint8, np.int8, np.int32


def integers(net: Net, *shape: int, zero: Array | int = 0) -> Array:
    """Random int8 values near their zero points, none of them equal to it."""
    values = net.rng.integers(-20, 21, shape)
    return (np.where(values == 0, 7, values) + zero).astype(I8)


def powers(net: Net, *shape: int) -> Array:
    """Scales: 1/4, 1/8 or 1/16."""
    return (2.0 ** net.rng.integers(-4, -1, shape)).astype(np.float32)


def zeros(net: Net, size: int) -> Array:
    return net.rng.integers(-5, 6, size).astype(I8)


def quantise(net: Net, x: str, zero: int = 128, dtype: type = U8) -> str:
    return net.op("QuantizeLinear", x, net.const(SIXTEENTH), net.const(zero, dtype))


def pair(net: Net, x: str, zero: int = 128) -> str:
    """Q and DQ, as quantisers insert them between layers."""
    return net.op("DequantizeLinear", quantise(net, x, zero), net.const(SIXTEENTH), net.const(zero, U8))


def weight(net: Net, shape: tuple[int, ...], axis: int) -> str:
    """int8 with scale and zero point per channel."""
    size = shape[axis]
    zero = zeros(net, size)
    view = [1] * len(shape)
    view[axis] = size
    stored = net.const(integers(net, *shape, zero=zero.reshape(view)))
    return net.op("DequantizeLinear", stored, net.const(powers(net, size)), net.const(zero), axis=axis)


def bias(net: Net, size: int) -> str:
    stored = net.const(net.rng.integers(1, 40, size), I32)
    return net.op("DequantizeLinear", stored, net.const(SIXTEENTH))


def qdq_conv(net: Net, h: str) -> str:
    h = pair(net, net.op("Relu", h))
    return net.op("Relu", net.op("Conv", h, weight(net, (HIDDEN, HIDDEN, 1, 1), 0), bias(net, HIDDEN)))


def qdq_grouped(net: Net, h: str) -> str:
    return net.op("Conv", pair(net, h), weight(net, (HIDDEN, 4, 1, 1), 0), group=2)


def qdq_shuffle(net: Net, h: str) -> str:
    """A channel shuffle with Q and DQ between its three nodes, as quantisers leave it."""
    h = pair(net, net.conv(h, HIDDEN, HIDDEN, (1, 1), group=2))
    h = pair(net, net.op("Reshape", h, net.const([0, 2, 4, 6, 6], np.int64)))
    h = pair(net, net.op("Transpose", h, perm=[0, 2, 1, 3, 4]))
    h = pair(net, net.op("Reshape", h, net.const([0, HIDDEN, 6, 6], np.int64)))
    return net.conv(h, HIDDEN, HIDDEN, (1, 1), group=2)


def qdq_matmul(net: Net, h: str) -> str:
    return net.op("MatMul", pair(net, h), weight(net, (HIDDEN, 10), 1))


def qdq_computed(net: Net, h: str) -> str:
    """Per-channel quantisation of what is computed."""
    scale, zero = net.const(powers(net, HIDDEN)), net.const(net.rng.integers(100, 150, HIDDEN), U8)
    return net.op("DequantizeLinear", net.op("QuantizeLinear", h, scale, zero, axis=1), scale, zero, axis=1)


def fake_quantised(net: Net, h: str) -> str:
    """A float weight through Q and DQ, as quantisation-aware training leaves it."""
    scale, zero = net.const(powers(net, 10)), net.const(zeros(net, 10))
    stored = net.op("QuantizeLinear", net.param(HIDDEN, 10), scale, zero, axis=1)
    return net.op("MatMul", h, net.op("DequantizeLinear", stored, scale, zero, axis=1))


def turned_weight(net: Net, h: str) -> str:
    """The stored weight is transposed before it is de-quantised, and so are its zero points."""
    zero = zeros(net, 10)
    stored = net.const(integers(net, 10, HIDDEN, zero=zero[:, None]))
    turned = net.op("Transpose", stored, perm=[1, 0])
    return net.op("MatMul", h, net.op("DequantizeLinear", turned, net.const(powers(net, 10)), net.const(zero), axis=1))


def regrouped_weight(net: Net, h: str) -> str:
    zero = zeros(net, 10)
    stored = net.const(integers(net, 1, HIDDEN, 10, zero=zero))
    flat_weight = net.op("Squeeze", stored, net.const([0], np.int64))
    return net.op(
        "MatMul", h, net.op("DequantizeLinear", flat_weight, net.const(powers(net, 10)), net.const(zero), axis=1)
    )


def blocked(net: Net, h: str) -> str:
    """A scale and a zero point per block of 4 inputs: of the inputs, whole blocks go."""
    zero = net.rng.integers(-5, 6, (2, 10)).astype(I8)
    stored = net.const(integers(net, HIDDEN, 10, zero=np.repeat(zero, 4, 0)))
    scale = net.const(powers(net, 2, 10))
    return net.op("MatMul", h, net.op("DequantizeLinear", stored, scale, net.const(zero), axis=0, block_size=4))


def summed(net: Net, h: str) -> str:
    """Zero is stored as 128 and read as 0: a sum over the channels is exact."""
    return net.op("Mul", h, net.op("ReduceSum", pair(net, net.op("Relu", h)), net.const([1], np.int64)))


def misread(zero: int) -> Case:
    """The stored numbers are summed as they are: exact only where zero is stored as 0."""

    def middle(net: Net, h: str) -> str:
        stored = net.cast(quantise(net, net.op("Relu", h), zero))
        return net.op("Mul", h, net.op("ReduceSum", stored, net.const([1], np.int64)))

    return flat(middle, units=HIDDEN) if zero == 0 else flat(middle, units=0, frozen="not zero there")


def misread_by_dequantize(net: Net, h: str) -> str:
    """DQ believes that zero is stored as 3, and nobody stored it so."""
    stored = net.cast(net.op("Relu", h), TensorProto.UINT8)
    read = net.op("DequantizeLinear", stored, net.const(SIXTEENTH), net.const(3, U8))
    return net.op("Mul", h, net.op("ReduceSum", read, net.const([1], np.int64)))


def contrib_pair(net: Net, h: str) -> str:
    scale, zero = net.const(np.float32(1 / 256)), net.const(30000, np.uint16)
    stored = net.op("QuantizeLinear", h, scale, zero, domain=MS)
    return net.op("DequantizeLinear", stored, scale, zero, domain=MS)


def dynamic(before: str, **expected: object) -> Case:
    """DynamicQuantizeLinear -> MatMulInteger -> Cast -> Mul, as onnxruntime's dynamic quantisation writes it."""

    def middle(net: Net, h: str) -> str:
        stored, scale, zero = net.ops("DynamicQuantizeLinear", net.op(before, h), count=3)
        weight_zero = zeros(net, 10)
        values = net.const(integers(net, HIDDEN, 10, zero=weight_zero))
        product = net.cast(net.op("MatMulInteger", stored, values, zero, net.const(weight_zero)))
        return net.op("Mul", product, net.op("Mul", scale, net.const(powers(net, 10))))

    return flat(middle, after=10, **expected)


def conv_integer(net: Net, h: str) -> str:
    stored, scale, zero = net.ops("DynamicQuantizeLinear", net.op("Relu", h), count=3)
    values = net.const(integers(net, 10, HIDDEN, 1, 1, zero=3))
    product = net.cast(net.op("ConvInteger", stored, values, zero, net.const(3, I8)))
    return net.op("Mul", product, net.op("Mul", scale, net.const(powers(net, 10, 1, 1))))


def dynamic_matmul(before: str, **expected: object) -> Case:
    def middle(net: Net, h: str) -> str:
        zero = zeros(net, 10)
        values = net.const(integers(net, HIDDEN, 10, zero=zero))
        scale = net.const(powers(net, 10))
        return net.op(
            "DynamicQuantizeMatMul", net.op(before, h), values, scale, net.const(zero), net.param(10), domain=MS
        )

    return flat(middle, after=10, **expected)


def integer_to_float(net: Net, h: str) -> str:
    stored, scale, zero = net.ops("DynamicQuantizeLinear", net.op("Relu", h), count=3)
    weight_zero = zeros(net, 10)
    values = net.const(integers(net, HIDDEN, 10, zero=weight_zero))
    tables = scale, net.const(powers(net, 10)), zero, net.const(weight_zero)
    return net.op("MatMulIntegerToFloat", stored, values, *tables, net.param(10), domain=MS)


def dequantise(net: Net, x: str, zero: int = 120) -> str:
    return net.op("DequantizeLinear", x, net.const(SIXTEENTH), net.const(zero, U8))


def tables(net: Net, zero: int = 120) -> tuple[str, str]:
    return net.const(SIXTEENTH), net.const(zero, U8)


def qlinear_conv(groups: int = 1) -> Case:
    def middle(net: Net, h: str) -> str:
        x = quantise(net, h, 120)
        kernel = net.const(integers(net, HIDDEN, HIDDEN // groups, 1, 1, zero=3))
        rest = net.const(powers(net, HIDDEN) / 8), net.const(np.full(HIDDEN, 3), I8), *tables(net, 110)
        y = net.op("QLinearConv", x, *tables(net), kernel, *rest, net.const(net.rng.integers(-9, 9, HIDDEN), I32),
                   group=groups)  # fmt: skip
        return dequantise(net, y, 110)

    return maps(middle, units=HIDDEN if groups == HIDDEN else 2 * HIDDEN)


def qlinear_matmul(net: Net, h: str) -> str:
    zero = zeros(net, 10)
    values = net.const(integers(net, HIDDEN, 10, zero=zero))
    right = values, net.const(powers(net, 10) / 8), net.const(zero)
    return dequantise(net, net.op("QLinearMatMul", quantise(net, h, 120), *tables(net), *right, *tables(net)))


def qgemm(trans: int) -> Case:
    def middle(net: Net, h: str) -> str:
        values = integers(net, HIDDEN, 10, zero=3)
        right = net.const(values.T if trans else values), net.const(powers(net, 10) / 8), net.const(np.full(10, 3), I8)
        bias = net.const(net.rng.integers(-9, 9, 10), I32)
        y = net.op("QGemm", quantise(net, h, 120), *tables(net), *right, bias, *tables(net), domain=MS, transB=trans)
        return dequantise(net, y)

    return flat(middle, after=10, units=18)


def qlinear_two(op: str) -> Case:
    """Two computed operands."""

    def middle(net: Net, h: str) -> str:
        other = quantise(net, net.gemm(h, HIDDEN, HIDDEN), 100)
        left = quantise(net, h, 120)
        return dequantise(net, net.op(op, left, *tables(net), other, *tables(net, 100), *tables(net), domain=MS))

    return flat(middle)


def qlinear_one(op: str, **attrs: object) -> Case:
    def middle(net: Net, h: str) -> str:
        return dequantise(net, net.op(op, quantise(net, h, 120), *tables(net), *tables(net), domain=MS, **attrs))

    return maps(middle, size=(4, 4))


def qlinear_last(net: Net, h: str) -> str:
    """Channels last."""
    x = quantise(net, net.op("Transpose", h, perm=[0, 2, 3, 1]), 120)
    y = net.op("QLinearGlobalAveragePool", x, *tables(net), *tables(net), domain=MS, channels_last=1)
    return net.op("Transpose", dequantise(net, y), perm=[0, 3, 1, 2])


def qlinear_softmax(axis: int, **expected: object) -> Case:
    def middle(net: Net, h: str) -> str:
        scale = net.const(np.float32(1 / 256)), net.const(0, U8)
        y = net.op("QLinearSoftmax", quantise(net, h, 120), *tables(net), *scale, domain=MS, axis=axis, opset=13)
        return net.op("DequantizeLinear", y, *scale)

    return tokens(middle, **expected)


def qlinear_concat(net: Net, h: str) -> str:
    a, b = quantise(net, h, 120), quantise(net, net.gemm(h, HIDDEN, 6), 100)
    y = net.op("QLinearConcat", *tables(net), a, *tables(net), b, *tables(net, 100), domain=MS, axis=1)
    return dequantise(net, y)


def packed(bits: int, zero: bool, units: int, flat_scales: bool = False) -> Case:
    """64 inputs in 4 blocks of 16, 32 outputs."""

    def middle(net: Net, h: str) -> str:
        w = net.const(net.rng.integers(0, 256, (32, 4, 16 * bits // 8)), U8)
        scales = powers(net, 32, 4) / 8
        extra = [net.const(net.rng.integers(0, 256, (32, -(-4 * bits // 8))), U8)] if zero else [""]
        inputs = (h, w, net.const(scales.reshape(-1) if flat_scales else scales), *extra, "", net.param(32))
        return net.op("MatMulNBits", *inputs, domain=MS, K=64, N=32, bits=bits, block_size=16)

    return tokens(middle, hidden=64, after=32, units=units)


DYNAMIC = {"units": 0, "frozen": "takes its scale from it"}
CASES = {
    ("", "QuantizeLinear"): [
        maps(qdq_conv, units=2 * HIDDEN),
        flat(qdq_computed),
        flat(fake_quantised, after=10, units=18),
        flat(summed),
        misread(0),
        misread(7),
    ],
    ("", "DequantizeLinear"): [
        maps(qdq_conv, units=2 * HIDDEN),
        maps(qdq_grouped, units=2 * HIDDEN),
        maps(qdq_shuffle, units=3 * HIDDEN),
        tokens(qdq_matmul, after=10, units=18),
        tokens(turned_weight, after=10, units=18),
        tokens(regrouped_weight, after=10, units=18),
        tokens(blocked, after=10, units=12),
        flat(misread_by_dequantize, units=0, frozen="not zero there"),
    ],
    ("", "DynamicQuantizeLinear"): [dynamic("Relu", units=18), dynamic("Sigmoid", units=10, frozen=DYNAMIC["frozen"])],
    ("", "MatMulInteger"): [dynamic("Relu", units=18)],
    ("", "ConvInteger"): [maps(conv_integer, after=10, units=18)],
    ("", "QLinearConv"): [qlinear_conv(), qlinear_conv(2), qlinear_conv(HIDDEN)],
    ("", "QLinearMatMul"): [flat(qlinear_matmul, after=10, units=18)],
    (MS, "QuantizeLinear"): [flat(contrib_pair)],
    (MS, "DequantizeLinear"): [flat(contrib_pair)],
    (MS, "DynamicQuantizeMatMul"): [
        dynamic_matmul("Relu", units=18),
        dynamic_matmul("Exp", units=10, frozen=DYNAMIC["frozen"]),
    ],
    (MS, "MatMulIntegerToFloat"): [flat(integer_to_float, after=10, units=18)],
    (MS, "QGemm"): [qgemm(0), qgemm(1)],
    (MS, "QLinearAdd"): [qlinear_two("QLinearAdd")],
    (MS, "QLinearMul"): [qlinear_two("QLinearMul")],
    (MS, "QLinearSigmoid"): [qlinear_one("QLinearSigmoid")],
    (MS, "QLinearLeakyRelu"): [qlinear_one("QLinearLeakyRelu", alpha=0.25)],
    (MS, "QLinearGlobalAveragePool"): [qlinear_one("QLinearGlobalAveragePool"), maps(qlinear_last)],
    (MS, "QLinearAveragePool"): [qlinear_one("QLinearAveragePool", kernel_shape=[2, 2])],
    (MS, "QLinearSoftmax"): [qlinear_softmax(-1, units=0, frozen="runs along it"), qlinear_softmax(1)],
    (MS, "QLinearConcat"): [flat(qlinear_concat, after=14, units=14)],
    (MS, "MatMulNBits"): [
        packed(4, zero=False, units=36),
        packed(4, zero=True, units=32),
        packed(8, zero=True, units=36),
        packed(4, zero=False, units=32, flat_scales=True),
    ],
}
ESTIMATED = ("QuantizeLinear",)
INTEGER = "it calculates with stored integers"
WITHOUT = {
    ("", "DynamicQuantizeLinear"): "its scale comes from the largest element, and integer kernels read what it stores",
    **{key: INTEGER for key in CASES if key[1] not in ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear")},
}
