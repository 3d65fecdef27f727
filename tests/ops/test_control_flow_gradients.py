"""Gradients through If, Loop and Scan: rounds that are known, nested bodies, and what cannot be taken apart."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto

from onnxprune.errors import UnsupportedModel
from onnxprune.model import Model
from tests.gradients import differentiated
from tests.ops.cases import HIDDEN, OUT, Case, Net, normal_input
from tests.ops.test_control_flow import ROUND, body, branches, gated, loop, typed

FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL


def chosen_by_constant(value: bool) -> Case:
    """Only one of the branches is there for gradients."""

    def build() -> Model:
        net = Net()
        h = net.gemm(net.input(("n", 6)), 6, HIDDEN)
        return net.model(net.gemm(branches(net, net.const(np.array(value)), h), HIDDEN, OUT))

    return Case(build)


def counted_by_a_counter() -> Case:
    """As TensorFlow writes a recurrence: a counter is carried round, and the body compares it with a limit."""

    def build() -> Model:
        net = Net()
        x = net.dense(net.input((4, "n", 6)), 6, HIDDEN)
        start = net.op("ConstantOfShape", net.op("Shape", x, start=1))

        def rounds(b: Net) -> list[str]:
            after = b.op("Add", "count", b.const(1, np.int64))
            new = gated(b, b.op("Add", b.op("Gather", x, "count", axis=0), "state"))
            return [b.op("Less", after, b.const(4, np.int64)), after, new, b.op("Abs", new)]

        formal = (*ROUND, ("count", INT64, []), ("state", FLOAT, None))
        graph = typed(body(net, rounds, formal), BOOL, INT64, FLOAT, FLOAT)
        go = net.const(np.array(True))
        _, last, every = net.ops("Loop", "", go, net.const(0, np.int64), start, count=3, body=graph)
        return net.model(net.op("Add", last, net.op("ReduceSum", every, net.const([0]), keepdims=0)))

    return Case(build)


def loop_in_a_loop() -> Case:
    """The inner body reads the outer one's state, a constant of the outer body, and a tensor from outside both."""

    def build() -> Model:
        net = Net()
        h = net.gemm(net.input(("n", 6)), 6, HIDDEN)

        def outer(b: Net) -> list[str]:
            scale, bias = b.param(HIDDEN), b.param(HIDDEN)

            def inner(c: Net) -> list[str]:
                new = c.op("Tanh", c.op("Add", c.op("Mul", "inside", scale), c.op("Mul", "state", h)))
                return [c.op("Identity", "more"), c.op("Add", new, c.param(HIDDEN))]

            formal = (("turn", INT64, []), ("more", BOOL, []), ("inside", FLOAT, None))
            graph = typed(body(b, inner, formal), BOOL, FLOAT)
            y = b.op("Loop", b.const(2, np.int64), "", b.op("Add", "state", bias), body=graph)
            return [b.op("Identity", "go"), y]

        graph = typed(body(net, outer, (*ROUND, ("state", FLOAT, None))), BOOL, FLOAT)
        return net.model(net.op("Loop", net.const(2, np.int64), "", h, body=graph))

    return Case(build)


def two_scans() -> Case:
    """Two scanned inputs in opposite directions along different axes, the result turned round; and a single step."""

    def build() -> Model:
        net = Net()
        a, b = net.input((4, "n", 3), name="a"), net.input(("n", 4, 3), name="b")

        def step(inner: Net) -> list[str]:
            new = inner.op("Tanh", inner.op("Add", "state", inner.op("Mul", "left", "right")))
            return [new, inner.op("Mul", new, "left")]

        formal = (("state", FLOAT, None), ("left", FLOAT, None), ("right", FLOAT, None))
        settings = {"scan_input_axes": [0, 1], "scan_input_directions": [0, 1], "scan_output_directions": [1]}
        graph = typed(body(net, step, formal), FLOAT, FLOAT)
        start = net.op("Neg", net.op("ReduceMax", a, net.const([0]), keepdims=0))
        last, every = net.ops(
            "Scan", start, a, b, count=2, body=graph, num_scan_inputs=2, scan_output_axes=[1], **settings
        )
        return net.model(net.op("Mul", net.op("Unsqueeze", last, net.const([1])), every))

    return Case(build)


def rounds_by_data() -> Case:
    """How often the body runs is an input of the network."""
    trips = lambda net, _: net.input((), np.int64, "trips")  # noqa: E731
    return loop(trips=trips, differentiable=False, feeds=lambda m, s: {**normal_input(m, s, "x"), "trips": np.array(2)})


GRADIENT_CASES = {
    ("", "If"): [chosen_by_constant(True), chosen_by_constant(False)],
    ("", "Loop"): [counted_by_a_counter(), loop_in_a_loop()],
    ("", "Scan"): [two_scans()],
}


def test_a_loop_whose_rounds_depend_on_data_is_named() -> None:
    with pytest.raises(UnsupportedModel, match=r"Loop node .* has no gradient rule"):
        differentiated(rounds_by_data().build())


def test_weights_inside_a_body_keep_their_names() -> None:
    """All rounds read one constant, under the name that the analysis gives it."""
    made = differentiated(loop().build())
    inside = [name for name in made.parameters if ".body/" in name]
    assert len(inside) == 3
    assert all(name in made.names for name in inside)
