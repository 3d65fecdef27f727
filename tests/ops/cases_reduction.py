"""Reductions over the pruned axis and beside it, and operators that look along a whole axis.

Over the pruned axis a sum or a norm is exact where removed elements are 0 (behind Relu), and must not be taken for
exact behind Sigmoid, Exp or elu + 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from onnxprune.model import Model
from tests.ops.cases import HIDDEN, OUT, Case, Net, flat, maps, normal_input, tokens

NEUTRAL = ("ReduceSum", "ReduceL1", "ReduceL2", "ReduceSumSquare")
OTHERS = ("ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceLogSum", "ReduceLogSumExp")


def elu_plus_one(net: Net, h: str) -> str:
    return net.op("Add", net.op("Elu", h), net.const(np.float32(1)))


def apply(op: str) -> Callable[[Net, str], str]:
    return lambda net, h: net.op(op, h)


LEAKY = (apply("Sigmoid"), apply("Exp"), elu_plus_one)


def over(op: str, before: Callable[[Net, str], str], **expected: object) -> Case:
    """y = w h + reduce(before(h)) over the pruned axis."""

    def build() -> Model:
        net = Net()
        h = net.gemm(net.input(("n", 6)), 6, HIDDEN)
        reduced = net.op(op, before(net, h), net.const([1], np.int64), keepdims=1)
        return net.model(net.op("Add", net.gemm(h, HIDDEN, OUT), reduced))

    return Case(build, **expected)


def beside(op: str, keepdims: int) -> Case:
    """A reduction over space leaves the channels free. What a logarithm sees is positive."""

    def middle(net: Net, h: str) -> str:
        h = net.op("Softplus", h)
        h = net.op(op, h, net.const([2, 3], np.int64), keepdims=keepdims)
        return h if keepdims else net.op("Unsqueeze", h, net.const([2, 3], np.int64))

    return maps(middle, size=(2, 2))


def old_axes(op: str) -> Case:
    """Axes as an attribute, as before opset 18 (13 for ReduceSum)."""
    return maps(lambda net, h: net.op(op, net.op("Softplus", h), axes=[-1, -2]), opset=12, size=(2, 2))


def logarithm_of_zero() -> Case:
    """The sum over space of a removed channel is 0, and its logarithm is not finite."""
    return maps(lambda net, h: net.op("ReduceLogSum", net.op("Abs", h), net.const([2, 3], np.int64)), size=(2, 2))


def everything() -> Case:
    """No axes given: the sum over all of them."""

    def build() -> Model:
        net = Net()
        h = net.op("Relu", net.gemm(net.input((3, 6)), 6, HIDDEN))
        return net.model(net.op("Add", net.gemm(h, HIDDEN, OUT), net.op("ReduceSum", h, keepdims=0)))

    return Case(build)


def hidden_mean_case() -> Case:
    """A mean written as ReduceSum / Shape: the divisor follows the cut."""

    def middle(net: Net, h: str) -> str:
        total = net.op("ReduceSum", net.op("Relu", h), net.const([1], np.int64))
        size = net.op("Gather", net.op("Shape", h), net.const([1], np.int64))
        return net.op("Mul", h, net.op("Div", total, net.cast(size)))

    return flat(middle, units=0, frozen="mean")


def along(op: str, **attrs: object) -> Case:
    return tokens(lambda net, h: net.op(op, h, axis=-1, **attrs), units=0, frozen="runs along it")


def across(op: str) -> Case:
    """The same over the sequence: the channels stay free."""
    return tokens(lambda net, h: net.op(op, h, axis=1))


def arg(op: str, axis: int, **expected: object) -> Case:
    """The position of the largest (smallest) one, as a number, added to the output."""

    def build() -> Model:
        net = Net()
        h = net.dense(net.input(("n", 5, 6)), 6, HIDDEN)
        where = net.cast(net.op(op, h, axis=axis, keepdims=1))
        if axis == 1:
            return net.model(net.dense(net.op("Add", h, where), HIDDEN, OUT))
        return net.model(net.op("Add", net.dense(h, HIDDEN, OUT), where))

    return Case(build, **expected)


def top(axis: int, **expected: object) -> Case:
    def middle(net: Net, h: str) -> str:
        values, indices = net.ops("TopK", h, net.const([3], np.int64), count=2, axis=axis)
        return net.op("Add", values, net.cast(indices))

    return tokens(middle, **expected)


def cumulated(axis: int, **expected: object) -> Case:
    return tokens(lambda net, h: net.op("CumSum", h, net.const(axis, np.int64)), **expected)


CASES = {
    **{
        ("", op): [
            over(op, apply("Relu")),
            *(over(op, leak, units=0, frozen="not zero there") for leak in LEAKY),
            beside(op, 1),
            beside(op, 0),
            old_axes(op),
        ]
        for op in NEUTRAL
    },
    **{
        ("", op): [
            *(over(op, before, units=0, frozen=op) for before in (apply("Relu"), *LEAKY)),
            beside(op, 1),
            old_axes(op),
        ]
        for op in OTHERS
    },
    **{("", op): [along(op), across(op)] for op in ("Softmax", "LogSoftmax", "Hardmax")},
    **{("", op): [arg(op, -1, units=0, frozen="runs along it"), arg(op, 1)] for op in ("ArgMax", "ArgMin")},
    ("", "TopK"): [top(-1, units=0, after=3, frozen="runs along it"), top(1)],
    ("", "CumSum"): [cumulated(2, units=0, frozen="runs along it"), cumulated(-2)],
}
CASES["", "ReduceLogSum"].append(logarithm_of_zero())
CASES["", "ReduceSum"] += [everything(), hidden_mean_case()]


def reduced(op: str, shape: Sequence[int | str], axes: Sequence[int] | None, **attrs: int) -> Case:
    """Of positive numbers where there is a logarithm; the result is scaled, so that cotangents differ."""

    def build() -> Model:
        net = Net()
        x = net.input(shape)
        if op == "ReduceLogSum":
            x = net.op("Add", net.op("Abs", x), net.const(np.float32(0.5)))
        return net.model(net.op(op, x, *([] if axes is None else [net.const(axes, np.int64)]), **attrs))

    return Case(build)


def axes_by_data(op: str, keepdims: int) -> Case:
    """Which axes are reduced is an input of the network; the shape of the result is declared."""

    def build() -> Model:
        net = Net()
        y = net.op(op, net.op("Softplus", net.input((2, 3, 4))), net.input((1,), np.int64, "axes"), keepdims=keepdims)
        return net.model(net.hint(y, (2, 1, 4) if keepdims else (2, 4)))

    return Case(build, feeds=lambda model, seed: {**normal_input(model, seed, "x"), "axes": np.array([1])})


def behind(op: str, shape: Sequence[int | str], *constants: object, **attrs: int) -> Case:
    """The operator on a graph input."""

    def build() -> Model:
        net = Net()
        inputs = [net.const(value, np.int64) for value in constants]
        return net.model(net.op(op, net.input(shape), *inputs, **attrs))

    return Case(build)


def top_values(**attrs: int) -> Case:
    """Nobody reads the indices."""

    def build() -> Model:
        net = Net()
        return net.model(net.ops("TopK", net.input(("n", 5, 3)), net.const([2], np.int64), count=2, **attrs)[0])

    return Case(build)


GRADIENT_CASES = {
    **{
        ("", op): [
            reduced(op, ("n", 3, 4), None),
            reduced(op, ("n", 3, 4), None, keepdims=0),
            reduced(op, ("n", 3, 4), [0, -1], keepdims=0),
            reduced(op, ("n", "m", 4), [1]),
            reduced(op, (5,), [0], keepdims=0),
            axes_by_data(op, 1),
            axes_by_data(op, 0),
        ]
        for op in (*NEUTRAL, *OTHERS)
    },
    ("", "Softmax"): [behind("Softmax", ("n", 3, 4)), behind("Softmax", ("n", 3), axis=0)],
    ("", "LogSoftmax"): [behind("LogSoftmax", ("n", 3, 4)), behind("LogSoftmax", ("n", 3), axis=0)],
    ("", "CumSum"): [
        behind("CumSum", ("n", 4), 1, reverse=reverse, exclusive=exclusive)
        for reverse in (0, 1)
        for exclusive in (0, 1)
    ],
    ("", "TopK"): [top_values(axis=1), top_values(largest=0, axis=-2), top_values(sorted=0)],
}
GRADIENT_CASES["", "ReduceSum"].append(reduced("ReduceSum", ("n", 3), None, noop_with_empty_axes=1))
