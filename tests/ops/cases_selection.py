"""Selections by value, ranges and losses on plain inputs, for gradients."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnxprune.model import Model
from tests.ops.cases import HIDDEN, OUT, Case, Net, normal_input

__all__ = ["GRADIENT_CASES"]

I64 = np.int64


def on_input(op: str, shape: Sequence[int | str], *constants: object, count: int = 1, **attrs: object) -> Case:
    """The operator on a graph input, with constants behind it."""

    def build() -> Model:
        net = Net()
        inputs = [net.const(value) for value in constants]
        return net.model(net.ops(op, net.input(shape), *inputs, count=count, **attrs)[0])

    return Case(build)


def ranged(*limits: float) -> Case:
    """A range whose limits are inputs of the network."""
    names = ("start", "limit", "delta")

    def build() -> Model:
        net = Net()
        y = net.op("Range", *(net.input((), name=name) for name in names))
        return net.model(net.hint(y, (len(np.arange(*limits)),)))

    def feeds(*_: object) -> dict[str, np.ndarray]:
        return {name: np.array(limit, np.float32) for name, limit in zip(names, limits, strict=True)}

    return Case(build, feeds=feeds)


def likelihood(
    op: str, shape: Sequence[int | str] = ("n", 4), *, weighted: bool = False, logs: bool = False, **attrs: object
) -> Case:
    """A loss of scores against labels, one of which is class 1."""

    def build() -> Model:
        net = Net()
        x = net.input(shape)
        labels = net.input((shape[0], *shape[2:]), np.int64, "labels")
        weights = [net.const(np.array([0.5, 2, 1, 1.5], np.float32))] if weighted else []
        outputs = net.ops(op, x, labels, *weights, count=1 + logs, **attrs)
        return net.model(net.op("Add", net.op("ReduceSum", outputs[1], keepdims=0), outputs[0]) if logs else outputs[0])

    def feeds(model: Model, seed: int) -> dict[str, np.ndarray]:
        x = normal_input(model, seed, "x")["x"]
        labels = np.arange(x.size // 4, dtype=np.int64).reshape(x.shape[0], *x.shape[2:]) % 4
        return {"x": x, "labels": labels}

    return Case(build, feeds=feeds)


def embedded() -> Case:
    """How many rows are picked depends on data: positions of what is positive, looked up in a layer, and summed."""

    def build() -> Model:
        net = Net()
        h = net.dense(net.input((4, 6)), 6, HIDDEN)
        rows = net.op("Squeeze", net.op("NonZero", net.input((4,), np.bool_, "keep")), net.const([0]))
        picked = net.dense(net.op("Tanh", net.op("Gather", h, rows, axis=0)), HIDDEN, OUT)
        return net.model(net.op("ReduceSum", picked, net.const([0]), keepdims=0))

    def feeds(model: Model, seed: int) -> dict[str, np.ndarray]:
        return {**normal_input(model, seed, "x"), "keep": np.array([True, False, True, False])}

    return Case(build, feeds=feeds)


SQUARE = ("n", 2, 3, 3)
LOSSES = [
    ("NegativeLogLikelihoodLoss", {}),
    ("SoftmaxCrossEntropyLoss", {}),
    ("SoftmaxCrossEntropyLoss", {"logs": True}),
]
GRADIENT_CASES = {
    ("", "Det"): [*(on_input("Det", ("n", size, size)) for size in (1, 2, 3, 4)), on_input("Det", (3, 3))],
    ("", "Trilu"): [
        on_input("Trilu", SQUARE),
        on_input("Trilu", SQUARE, np.array(1, I64), upper=0),
        on_input("Trilu", ("n", 3, 4), np.array(-1, I64)),
    ],
    ("", "NonZero"): [embedded()],
    ("", "Unique"): [
        on_input("Unique", (3, 4)),
        on_input("Unique", (3, 4), axis=1),
        on_input("Unique", (5,), sorted=0, count=4),
    ],
    ("", "ReverseSequence"): [on_input("ReverseSequence", (5, 3, 2), np.array([2, 5, 3], I64))],
    ("", "Range"): [ranged(0.5, 3.2, 0.75), ranged(3, -2.2, -1)],
    **{
        ("", name): [
            likelihood(op, shape, weighted=weighted, reduction=reduction, **extra, **ignored)
            for op, extra in LOSSES
            if op == name
            for reduction in ("mean", "sum", "none")
            for shape, weighted, ignored in (
                (("n", 4), False, {}),
                (("n", 4), True, {"ignore_index": 1}),
                ((3, 4, 5), True, {}),
                ((3, 4, 5), False, {"ignore_index": -1}),
            )
        ]
        for name in ("NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss")
    },
}
