"""Element-wise operators between two dense layers: alone, with a constant, and with a second computed operand."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from onnx import TensorProto

from onnxprune.model import Model
from tests.ops.cases import HIDDEN, MS, Case, Net, flat, tokens

BOOL, INT32, UINT8 = TensorProto.BOOL, TensorProto.INT32, TensorProto.UINT8


def unary(op: str, domain: str = "", before: str = "", opset: int = 21, **attrs: object) -> Case:
    """The operator alone, after one that brings numbers into its domain."""

    def middle(net: Net, h: str) -> str:
        return net.op(op, net.op(before, h) if before else h, domain=domain, **attrs)

    return flat(middle, opset=opset)


def positive(op: str) -> Case:
    """The operator on numbers from 1.25 on."""
    return flat(lambda net, h: net.op(op, net.op("Add", net.op("Abs", h), net.const(np.float32(1.25)))))


def joined(op: str, domain: str = "", **attrs: object) -> Case:
    """Both operands computed."""

    def build() -> object:
        net = Net()
        x = net.input(("n", 6))
        y = net.op(op, net.gemm(x, 6, HIDDEN), net.gemm(x, 6, HIDDEN), domain=domain, **attrs)
        return net.model(net.gemm(y, HIDDEN, 4))

    return Case(build)


def with_vector(op: str, low: float = -1.5, swap: bool = False, **attrs: object) -> Case:
    """The second operand is a constant per unit."""

    def middle(net: Net, h: str) -> str:
        constant = net.param(HIDDEN, low=low)
        return net.op(op, *((constant, h) if swap else (h, constant)), **attrs)

    return flat(middle)


def with_scalar(op: str) -> Case:
    return flat(lambda net, h: net.op(op, h, net.const(np.float32(0.75))))


def compare(op: str, *, cast: int = 0) -> Case:
    """A comparison, with a constant per unit, as 0 and 1."""

    def middle(net: Net, h: str) -> str:
        a = net.op("Round", h)
        b = net.cast(net.const(net.rng.integers(-1, 2, HIDDEN), np.int64))
        if cast:
            a, b = net.cast(a, cast), net.cast(b, cast)
        return net.cast(net.op(op, a, b))

    return flat(middle)


def bits(op: str, **attrs: object) -> Case:
    def middle(net: Net, h: str) -> str:
        a = net.cast(net.op("Abs", net.op("Mul", h, net.const(np.float32(4)))), UINT8)
        return net.cast(net.op(op, a, net.const(np.arange(HIDDEN) % 3 + 1, np.uint8), **attrs))

    return flat(middle)


def clip(low: float | None, high: float | None) -> Case:
    def middle(net: Net, h: str) -> str:
        bounds = ["" if b is None else net.const(np.float32(b)) for b in (low, high)]
        return net.op("Clip", h, *bounds)

    return flat(middle)


def where_middle(net: Net, h: str) -> str:
    condition = net.op("Greater", h, net.param(HIDDEN))
    return net.op("Where", condition, h, net.param(HIDDEN))


def where_masked(net: Net, h: str) -> str:
    """The condition comes from outside and does not carry the axis."""
    condition = net.input(("n", 1), np.bool_, "mask")
    return net.op("Where", condition, h, net.const(np.float32(0)))


def is_nan(net: Net, h: str) -> str:
    return net.cast(net.op("IsNaN", net.op("Sqrt", h)))


def is_inf(net: Net, h: str) -> str:
    infinite = net.op("Exp", net.op("Mul", net.op("Relu", h), net.const(np.float32(1e6))))
    return net.cast(net.op("IsInf", infinite))


def dropout(net: Net, h: str) -> str:
    return net.op("Dropout", h)


def cast_like(net: Net, h: str) -> str:
    return net.op("CastLike", net.cast(h, TensorProto.DOUBLE), net.const(np.float32(1)))


def not_(net: Net, h: str) -> str:
    return net.cast(net.op("Not", net.op("Less", h, net.param(HIDDEN))))


def bitwise_not(net: Net, h: str) -> str:
    return net.cast(net.op("BitwiseNot", net.cast(h, INT32)))


def clip_attribute(net: Net, h: str) -> str:
    return net.op("Clip", h, min=0.0, max=6.0)


def clip_computed(net: Net, h: str) -> str:
    """Bounds that depend on data: what becomes of 0 is not known, and need not be."""
    return net.op("Clip", h, net.op("ReduceMin", "x", keepdims=0), net.const(np.float32(0.5)))


def three(op: str) -> Case:
    """Three operands, one of them broadcast from (8,) and one from a single number."""
    return flat(lambda net, h: net.op(op, net.param(HIDDEN), h, net.param(1)))


def where_both(net: Net, h: str) -> str:
    """Both branches computed: they share their units."""
    other = net.gemm(h, HIDDEN, HIDDEN)
    return net.op("Where", net.op("Greater", h, other), h, other)


def gate(net: Net, h: str) -> str:
    """x * sigmoid(x): the zero of one factor is enough."""
    return net.op("Mul", h, net.op("Sigmoid", h))


def log_of_zero(net: Net, h: str) -> str:
    """Zeroing the producer would give -inf, so only the consumer is zeroed."""
    return net.op("Log", net.op("Abs", h))


def log_beside_sum(net: Net, h: str) -> str:
    """Only the consumer can be zeroed because of the logarithm, so the sum beside it sees what is not zero."""
    total = net.op("ReduceSum", net.op("Relu", h), net.const([1], np.int64))
    return net.op("Mul", log_of_zero(net, h), total)


def log_scaled_and_summed(net: Net, h: str) -> str:
    """The factor behind the logarithm is not zeroed either."""
    scaled = net.op("Mul", log_of_zero(net, h), net.param(HIDDEN))
    return net.op("Mul", h, net.op("ReduceSum", scaled, net.const([1], np.int64)))


def log_then(weight: Callable[[Net], str]) -> Case:
    """The consumer's weight is a constant that is moved, re-typed or de-quantised first."""
    return flat(lambda net, h: net.op("MatMul", log_of_zero(net, h), weight(net)), after=10, units=18)


def moved_weights() -> list[Case]:
    half = TensorProto.FLOAT16
    return [
        log_then(lambda net: net.op("Transpose", net.param(10, HIDDEN), perm=[1, 0])),
        log_then(lambda net: net.cast(net.const(net.numbers(HIDDEN, 10), np.float16), TensorProto.FLOAT)),
        log_then(lambda net: net.cast(net.op("Identity", net.cast(net.param(HIDDEN, 10), half)), TensorProto.FLOAT)),
        log_then(lambda net: net.op("Squeeze", net.param(1, HIDDEN, 1, 10), net.const([0, 2], np.int64))),
        log_then(lambda net: net.op("Reshape", net.param(HIDDEN, 10, 1), net.const([HIDDEN, 10], np.int64))),
        log_then(lambda net: net.op("DequantizeLinear", net.const(net.rng.integers(1, 20, (HIDDEN, 10)), np.int8),
                                    net.const(np.float32(0.25)), net.const(-3, np.int8))),
    ]  # fmt: skip


def spatial_bias(net: Net, h: str) -> str:
    """(n, s, 8) + (s, 1): broadcasting along the pruned axis ties nothing."""
    return net.op("Add", h, net.param(5, 1))


def bias_gelu(op: str) -> Case:
    return tokens(lambda net, h: net.op(op, h, net.param(HIDDEN), domain=MS))


PLAIN = (
    "Abs Atan Ceil Celu Elu Erf Floor Gelu HardSwish Identity LeakyRelu Mish Neg Relu Round Selu "
    "Shrink Sign Sin Sinh Softsign Tan Tanh ThresholdedRelu Asinh Cos Cosh Exp HardSigmoid Sigmoid Softplus"
).split()

CASES = {
    **{("", op): [unary(op)] for op in PLAIN},
    **{("", op): [unary(op, before="Softsign")] for op in ("Acos", "Asin", "Atanh")},
    ("", "Acosh"): [positive("Acosh")],
    ("", "Sqrt"): [unary("Sqrt", before="Abs")],
    ("", "Log"): [
        positive("Log"),
        flat(log_of_zero),
        flat(log_beside_sum, units=0, frozen="not zero there"),
        flat(log_scaled_and_summed, units=0, frozen="not zero there"),
        *moved_weights(),
    ],
    ("", "Reciprocal"): [unary("Reciprocal", before="Sigmoid"), unary("Reciprocal")],
    ("", "Swish"): [unary("Swish", opset=24)],
    ("", "Dropout"): [flat(dropout)],
    ("", "Cast"): [flat(lambda net, h: net.cast(net.cast(h, TensorProto.DOUBLE)))],
    ("", "CastLike"): [flat(cast_like)],
    ("", "IsNaN"): [flat(is_nan)],
    ("", "IsInf"): [flat(is_inf)],
    ("", "Not"): [flat(not_)],
    ("", "BitwiseNot"): [flat(bitwise_not)],
    ("", "BitShift"): [bits("BitShift", direction="LEFT")],
    **{("", op): [bits(op)] for op in ("BitwiseAnd", "BitwiseOr", "BitwiseXor")},
    **{("", op): [compare(op)] for op in ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual")},
    **{("", op): [compare(op, cast=BOOL)] for op in ("And", "Or", "Xor")},
    ("", "PRelu"): [with_vector("PRelu"), with_scalar("PRelu")],
    ("", "Clip"): [clip(-0.5, 1.0), clip(0.25, 2.0), clip(None, 0.5), flat(clip_attribute, opset=10),
                   flat(clip_computed)],
    ("", "Add"): [joined("Add"), with_vector("Add"), with_scalar("Add"), tokens(spatial_bias)],
    ("", "Sub"): [joined("Sub"), with_vector("Sub"), with_vector("Sub", swap=True)],
    ("", "Sum"): [joined("Sum"), with_vector("Sum"), three("Sum")],
    ("", "Mean"): [joined("Mean"), three("Mean")],
    ("", "Mul"): [joined("Mul"), with_vector("Mul"), with_scalar("Mul"), flat(gate)],
    ("", "Div"): [with_vector("Div", low=0.5), joined("Div"), with_vector("Div", swap=True)],
    ("", "Mod"): [with_vector("Mod", low=0.5, fmod=1)],
    ("", "Pow"): [flat(lambda net, h: net.op("Pow", h, net.const(np.float32(2)))),
                  flat(lambda net, h: net.op("Pow", net.op("Softplus", h), net.param(HIDDEN)))],
    ("", "Max"): [joined("Max"), with_vector("Max"), with_scalar("Max"), three("Max")],
    ("", "Min"): [joined("Min"), with_vector("Min")],
    ("", "Where"): [flat(where_middle), flat(where_masked), flat(where_both)],
    (MS, "QuickGelu"): [unary("QuickGelu", MS)],
    (MS, "Gelu"): [unary("Gelu", MS)],
    (MS, "BiasGelu"): [bias_gelu("BiasGelu")],
    (MS, "FastGelu"): [bias_gelu("FastGelu"), unary("FastGelu", MS)],
}  # fmt: skip


def operands(op: str, *shapes: Sequence[int | str], domain: str = "", positive: bool = False, **attrs: object) -> Case:
    """The operator on graph inputs of these shapes."""

    def build() -> Model:
        net = Net()
        inputs = [net.input(shape, name=f"x{k}") for k, shape in enumerate(shapes)]
        if positive:
            inputs[0] = net.op("Add", net.op("Abs", inputs[0]), net.const(np.float32(0.5)))
        return net.model(net.op(op, *inputs, domain=domain, **attrs))

    return Case(build)


def power(exponent: float | list[float], kind: type[np.generic] = np.float32) -> Case:
    return flat(lambda net, h: net.op("Pow", h, net.const(exponent, kind)))


def root(exponent: float) -> Case:
    return flat(lambda net, h: net.op("Pow", net.op("Softplus", h), net.const(exponent, np.float32)))


def clip_learned(low: float, high: float) -> Case:
    """Bounds that gradients are asked of; beside each other, the upper one wins."""
    return flat(lambda net, h: net.op("Clip", h, net.const(np.float32(low)), net.const(np.float32(high))))


def dropped(ratio: float) -> Case:
    return flat(lambda net, h: net.op("Dropout", h, net.const(np.float32(ratio)), net.const(np.array(False))))


GRADIENT_CASES = {
    **{("", op): [operands(op, ("n", 3, 1), ("n", 1, 4)), operands(op, (4,), ("n", 3, 4))]
       for op in ("Add", "Sub", "Mul", "Max", "Min")},
    ("", "Div"): [operands("Div", ("n", 1), ("n", 3))],
    ("", "Mod"): [operands("Mod", ("n", 4), (4,), fmod=1)],
    ("", "Sum"): [operands("Sum", ("n", 4), (4,), ("n", 1)), operands("Sum", ("n", 4))],
    ("", "Mean"): [operands("Mean", ("n", 4), (4,), ("n", 1)), operands("Mean", ("n", 4))],
    ("", "Where"): [flat(lambda net, h: net.op("Where", net.op("Less", h, net.param(HIDDEN)), net.param(1), h))],
    ("", "Pow"): [
        *(power(exponent) for exponent in (0.0, 1.0, 2.0, 3.0, -1.0, -2.0, [3.0])),
        *(root(exponent) for exponent in (0.5, 1.5, -0.5)),
        power(3, np.int64),
        power(list(range(HIDDEN)), np.int64),
        operands("Pow", ("n", 4), (4,), positive=True),
        operands("Pow", ("n", 1), ("n", 4), positive=True),
    ],
    ("", "Clip"): [clip_learned(-0.5, 0.5), clip_learned(0.5, -0.5), operands("Clip", ("n", 4), (), ())],
    ("", "PRelu"): [operands("PRelu", ("n", 4, 3), (4, 1))],
    ("", "LeakyRelu"): [unary("LeakyRelu", alpha=0.3), unary("LeakyRelu", alpha=-0.5)],
    ("", "Elu"): [unary("Elu", alpha=0.7)],
    ("", "Celu"): [unary("Celu", alpha=2.0)],
    ("", "Selu"): [unary("Selu", alpha=1.5, gamma=1.25)],
    ("", "HardSigmoid"): [unary("HardSigmoid", alpha=0.3, beta=0.4)],
    ("", "ThresholdedRelu"): [unary("ThresholdedRelu", alpha=0.5)],
    ("", "Shrink"): [unary("Shrink", lambd=0.75, bias=0.25)],
    ("", "Gelu"): [unary("Gelu", approximate="tanh")],
    ("", "Swish"): [unary("Swish", opset=24, alpha=1.5)],
    (MS, "QuickGelu"): [unary("QuickGelu", MS, alpha=1.0)],
    ("", "Dropout"): [dropped(0.25)],
    ("", "Cast"): [flat(lambda net, h: net.cast(net.cast(net.op("Mul", h, net.param(1)), BOOL)))],
}  # fmt: skip
