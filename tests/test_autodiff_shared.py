"""One parameter or several: vectors that exporters stored once, matrices tied on purpose, siamese branches."""

from __future__ import annotations

import numpy as np
import pytest

from onnxprune.autodiff import open_tape
from onnxprune.model import Model
from tests.gradients import check_gradients
from tests.ops.cases import Net
from tests.oracle import feeds_for


def two_layers(bias: object, *, siamese: bool = False) -> Model:
    """Two Gemm with one bias; siamese ones have one matrix, too, and an input each."""
    net = Net()
    b = net.const(np.asarray(bias, np.float32), name="b")
    x = net.input(("n", 4))
    w = net.param(4, 4)
    h = net.op("Tanh", net.op("Gemm", x, w, b))
    if siamese:
        other = net.input(("n", 4), name="z")
        return net.model(net.op("Mul", h, net.op("Tanh", net.op("Gemm", other, w, b))))
    return net.model(net.op("Gemm", h, net.param(4, 4), b))


@pytest.mark.parametrize(
    ("bias", "siamese", "alone"),
    [([0, 0, 0, 0], False, True), ([0, 0, 0, 0], True, False), ([1, 2, 3, 4], False, False)],
    ids=["fresh", "siamese", "trained"],
)
def test_fresh_vectors_are_told_apart(bias: list[int], siamese: bool, alone: bool) -> None:
    model = two_layers(bias, siamese=siamese)
    names = {name for name in open_tape(model).graph.model.weights if name.startswith("b")}
    assert len(names) == 1 + alone
    made = check_gradients(model, feeds_for(model))
    assert names <= made.names.keys()


def test_two_pairs_of_branches_have_a_vector_each() -> None:
    """Two siamese layers, one behind the other, whose fresh biases were stored as one."""
    net = Net()
    b = net.const(np.zeros(4, np.float32), name="b")
    branches = [net.input(("n", 4)), net.input(("n", 4), name="z")]
    for _ in range(2):
        w = net.param(4, 4)
        branches = [net.op("Tanh", net.op("Gemm", x, w, b)) for x in branches]
    model = net.model(net.op("Mul", *branches))
    readers = [node.input[2] for node in open_tape(model).graph.model.proto.graph.node if node.op_type == "Gemm"]
    assert readers[0] == readers[1] != readers[2] == readers[3]
    check_gradients(model, feeds_for(model))
