"""Slices that read a tensor once become one Split; others stay."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest

from onnxprune.autodiff.prepare import prepare
from onnxprune.model import Model
from tests.gradients import check_gradients
from tests.ops.cases import Net
from tests.oracle import assert_same, feeds_for

I64 = np.int64


def sliced(stretches: Sequence[tuple[int, int]], *, axis: int = 2, step: int = 1) -> Model:
    """tanh of the dense layer's output in slices, multiplied by one weight each."""
    net = Net()
    h = net.dense(net.input(("n", "s", 6)), 6, 9)
    parts = []
    for start, end in stretches:
        limits = (net.const([k], I64) for k in (start, end, axis, step))
        part = net.op("Slice", h, *limits)
        parts.append(net.op("ReduceSum", net.op("Mul", net.op("Tanh", part), net.param(1)), net.const([1, 2], I64)))
    return net.model(net.op("Sum", *parts))


def gathered(indices: Sequence[int], axis: int = 0) -> Model:
    """q, k, v = x, as exporters write it."""
    net = Net()
    x = net.op("Tanh", net.input((3, "n", 4)))
    parts = [net.op("Gather", x, net.const(k, I64), axis=axis) for k in indices]
    return net.model(*(net.op("Mul", part, net.param(1)) for part in parts))


def operators(model: Model) -> Counter[str]:
    return Counter(node.op_type for node in prepare(model).model.proto.graph.node)


@pytest.mark.parametrize(
    "model",
    [
        sliced([(0, 3), (3, 5), (5, 9)]),
        sliced([(5, 2**40), (0, -4)]),
        sliced([(0, 4), (4, 9)], axis=-1),
        gathered([0, 1, 2]),
        gathered([-1, 0, 1]),
        gathered([3, 1, 2, 0], axis=2),
    ],
)
def test_what_is_read_once_is_one_split(model: Model) -> None:
    found = operators(model)
    assert found["Split"] == 1
    assert not found["Slice"] + found["Gather"]
    assert_same(model, prepare(model).model)
    check_gradients(model, feeds_for(model, 0))


@pytest.mark.parametrize(
    "model",
    [
        sliced([(0, 3), (3, 5)]),  # some is not read
        sliced([(0, 5), (3, 9)]),  # some is read twice
        sliced([(0, 9)]),
        sliced([(0, 4), (4, 9)], step=2),
        sliced([(0, 2), (2, 5)], axis=1),  # how long it is shows only when it runs
        gathered([0, 2]),
        gathered([0, 1, 2, 2]),
    ],
)
def test_others_stay(model: Model) -> None:
    assert not operators(model)["Split"]


def test_a_slice_that_is_an_output_keeps_its_name() -> None:
    net = Net()
    h = net.op("Tanh", net.input(("n", 4)))
    first, second = (net.op("Slice", h, *(net.const([k], I64) for k in (a, a + 2, 1))) for a in (0, 2))
    model = net.model(first, net.op("Relu", second))
    assert prepare(model).model.proto.graph.output[0].name == first
    assert_same(model, prepare(model).model)
