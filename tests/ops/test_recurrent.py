"""LSTM, GRU and RNN in every direction, with every input, and with what exporters put around them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from onnx import TensorProto, helper

from onnxprune import surgery
from onnxprune.coupling import couple
from onnxprune.model import Model, from_proto
from onnxprune.ops import RULES
from tests.ops.cases import HIDDEN, OUT, Case, Net
from tests.ops.kernels import BiasAdd
from tests.oracle import assert_differs, assert_equal, feeds_for, run
from tests.plans import half

CELLS, STEPS = 7, 5
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
State = Callable[[Net, str, int], str]
Tail = Callable[[Net, Sequence[str], int], str]


# -- initial states: of shape (directions, batch, cells) ------------------------------------------------------------


def batch_of(net: Net, x: str) -> str:
    return net.op("Gather", net.op("Shape", x), net.const([1], np.int64))


def fill(value: float) -> State:
    """ConstantOfShape of a computed shape."""

    def build(net: Net, x: str, directions: int) -> str:
        sizes = net.op("Concat", net.const([directions]), batch_of(net, x), net.const([CELLS]), axis=0)
        return net.op("ConstantOfShape", sizes, value=helper.make_tensor("value", TensorProto.FLOAT, [1], [value]))

    return build


def slice_of_zeros(net: Net, x: str, directions: int) -> str:
    """As torch writes it: zeros for all layers, of which each takes a slice."""
    sizes = net.op("Concat", net.const([4]), batch_of(net, x), net.const([CELLS]), axis=0)
    zeros = net.op("Expand", net.const(np.zeros((1, 1, 1), np.float32)), sizes)
    return net.op("Slice", zeros, net.const([2]), net.const([2 + directions]), net.const([0]))


def learned(net: Net, x: str, directions: int) -> str:
    """A parameter, repeated for the batch."""
    sizes = net.op("Concat", net.const([directions]), batch_of(net, x), net.const([CELLS]), axis=0)
    return net.op("Expand", net.param(directions, 1, CELLS), sizes)


def computed(net: Net, x: str, directions: int) -> str:
    """A layer of its own on the first time step."""
    first = net.op("Gather", x, net.const(0), axis=0)
    h = net.op("Tanh", net.gemm(first, HIDDEN, directions * CELLS))
    h = net.op("Reshape", h, net.const([-1, directions, CELLS]))
    return net.op("Transpose", h, perm=[1, 0, 2])


# -- what reads the outputs -----------------------------------------------------------------------------------------


def sequence(net: Net, outputs: Sequence[str], directions: int) -> str:
    """All steps, directions side by side."""
    h = net.op("Transpose", outputs[0], perm=[0, 2, 1, 3])
    return net.op("Reshape", h, net.const([0, 0, directions * CELLS]))


def last(k: int) -> Tail:
    """The last hidden or cell state."""

    def build(net: Net, outputs: Sequence[str], directions: int) -> str:
        h = net.op("Transpose", outputs[k], perm=[1, 0, 2])
        return net.op("Reshape", h, net.const([0, directions * CELLS]))

    return build


def each_direction(net: Net, outputs: Sequence[str], directions: int) -> str:
    """The last state of each direction by itself, then both side by side."""
    parts = [net.op("Gather", outputs[1], net.const(d), axis=0) for d in range(directions)]
    return net.op("Concat", *parts, axis=-1)


def with_sum(net: Net, outputs: Sequence[str], directions: int) -> str:
    """Steps, to which the sum over all cells is added: that sees whether a removed cell was 0."""
    h = sequence(net, outputs, directions)
    return net.op("Add", h, net.op("ReduceSum", h, net.const([-1]), keepdims=1))


def model(
    op: str,
    directions: int = 1,
    *,
    bias: bool = True,
    state: State | None = None,
    cell: State | None = None,
    lengths: bool = False,
    peepholes: bool = False,
    tail: Tail = sequence,
    reverse: bool = False,
    opset: int = 21,
    **attrs: object,
) -> Model:
    """x (5, n, 6) -> dense -> (5, n, 8) -> the recurrence -> dense."""
    net = Net(opset=opset)
    x = net.dense(net.input((STEPS, "n", 6)), 6, HIDDEN)
    rows = GATES[op] * CELLS
    inputs = [x, net.param(directions, rows, HIDDEN, low=-0.5, high=0.5), net.param(directions, rows, CELLS)]
    inputs.append(net.param(directions, 2 * rows) if bias else "")
    inputs.append(net.input(("n",), np.int32, "lengths") if lengths else "")
    inputs += [s(net, x, directions) if s else "" for s in (state, cell)]
    inputs.append(net.param(directions, 3 * CELLS) if peepholes else "")
    while not inputs[-1]:
        inputs.pop()
    direction = "bidirectional" if directions == 2 else "reverse" if reverse else "forward"
    count = 3 if op == "LSTM" else 2
    outputs = net.ops(op, *inputs, count=count, hidden_size=CELLS, direction=direction, **attrs)
    return net.model(net.dense(tail(net, outputs, directions), directions * CELLS, OUT))


def case(op: str, directions: int = 1, *, cells: int | None = None, frozen: str = "", **settings: object) -> Case:
    found = directions * CELLS if cells is None else cells
    lengths = bool(settings.get("lengths"))
    return Case(
        lambda: model(op, directions, **settings),
        units=HIDDEN + found,
        frozen=frozen,
        feeds=with_lengths if lengths else None,
    )


def with_lengths(net: Model, seed: int) -> dict[str, np.ndarray]:
    feeds = feeds_for(net, seed)
    return {**feeds, "lengths": np.array([5, 2, 3], np.int32)}


def common(op: str) -> list[Case]:
    """What all three have in common."""
    return [
        case(op),
        case(op, reverse=True),
        case(op, bias=False),
        case(op, opset=7, tail=last_by_attribute),
        case(op, 2),
        case(op, 2, tail=last(1)),
        case(op, 2, tail=each_direction),
        case(op, state=slice_of_zeros),
        case(op, 2, state=fill(0.0)),
        case(op, state=fill(0.5)),
        case(op, 2, state=learned, cells=CELLS),  # its rows have the same order for both directions
        case(op, state=computed),
        case(op, 2, state=computed, cells=CELLS),
        case(op, 2, lengths=True),
        case(op, lengths=True, state=learned),
        case(op, clip=0.75),
        case(op, tail=with_sum),
        case(op, 2, tail=with_sum, state=slice_of_zeros),
        case(op, tail=with_sum, state=learned),
    ]


def last_by_attribute(net: Net, outputs: Sequence[str], directions: int) -> str:
    return net.op("Squeeze", outputs[1], axes=list(range(directions)))


LEAK = "removed elements are not zero"
CASES = {
    ("", "LSTM"): [
        *common("LSTM"),
        case("LSTM", state=learned, cell=learned, peepholes=True),
        case("LSTM", 2, peepholes=True),
        case("LSTM", tail=last(2)),
        case("LSTM", state=slice_of_zeros, cell=slice_of_zeros, tail=with_sum),
        case("LSTM", state=fill(0.5), cell=fill(0.0), tail=with_sum),  # c decides, h does not
        case("LSTM", cell=fill(0.5), tail=with_sum, cells=0, frozen=LEAK),
        case("LSTM", lengths=True, state=fill(0.5), tail=with_sum, cells=0, frozen=LEAK),
        case("LSTM", input_forget=1),
        case("LSTM", activations=["HardSigmoid", "Relu", "Softsign"], tail=with_sum),
        case("LSTM", activations=["Sigmoid", "Sigmoid", "Tanh"], tail=with_sum, cells=0, frozen=LEAK),
        case("LSTM", activations=["Sigmoid", "Sigmoid", "Tanh"]),
    ],
    ("", "GRU"): [
        *common("GRU"),
        case("GRU", linear_before_reset=1, tail=with_sum),
        case("GRU", 2, linear_before_reset=1),
        case("GRU", state=fill(0.5), tail=with_sum, cells=0, frozen=LEAK),
        case("GRU", activations=["Sigmoid", "Softplus"], tail=with_sum, cells=0, frozen=LEAK),
    ],
    ("", "RNN"): [
        *common("RNN"),
        case("RNN", state=fill(0.5), tail=with_sum),
        case("RNN", activations=["Relu"], tail=with_sum),
        case("RNN", 2, activations=["Tanh", "Sigmoid"], tail=with_sum, cells=0, frozen=LEAK),
    ],
}


def batchwise(op: str) -> Model:
    """The same with the batch first (layout 1), for which onnxruntime has no kernel."""
    net = Net()
    x = net.dense(net.input((3, STEPS, 6)), 6, HIDDEN)
    rows = GATES[op] * CELLS
    weights = net.param(1, rows, HIDDEN, low=-0.5, high=0.5), net.param(1, rows, CELLS), net.param(1, 2 * rows)
    start = net.param(3, 1, CELLS)
    y, final = net.ops(op, x, *weights, "", start, count=2, hidden_size=CELLS, layout=1)
    net.hint(y, (3, STEPS, 1, CELLS))
    net.hint(final, (3, 1, CELLS))
    steps = net.op("Squeeze", y, net.const([2]))
    return net.model(net.dense(steps, CELLS, OUT), net.dense(final, CELLS, OUT))


@pytest.mark.parametrize("op", GATES)
def test_batch_first(op: str) -> None:
    net = batchwise(op)
    coupling = couple(net)
    assert coupling.units == HIDDEN + CELLS
    plan = half(coupling, 3)
    masked, removed = surgery.mask(net, coupling, plan), surgery.remove(net, coupling, plan)
    feeds = feeds_for(net, 5)
    expected = run(masked, feeds, (BiasAdd,))
    assert_equal(expected, run(removed, feeds, (BiasAdd,)))
    assert_differs(run(net, feeds, (BiasAdd,)), expected)


def test_directions_lose_equally_many_cells_of_their_own() -> None:
    coupling = couple(model("LSTM", 2))
    cells = next(g for g in coupling.groups if g.kind == "cells")
    assert cells.units == 2 * CELLS
    (constraint,) = coupling.constraints
    assert [len(b) for b in constraint.blocks] == [CELLS, CELLS]
    assert "both directions of LSTM" in constraint.reason
    recurrence = next(m for m in cells.members if m.weight and m.consumes and m.axis == 2)
    assert recurrence.along == 0
    assert recurrence.blocks == 2


def test_a_cell_owns_all_its_parameters() -> None:
    net = model("LSTM", state=learned, cell=learned, peepholes=True)
    coupling = couple(net)
    cells = next(g for g in coupling.groups if g.kind == "cells")
    entries = {}
    for member in cells.weights:
        shape = net.weights[member.tensor].shape
        entries.setdefault(shape, set()).add((member.axis, int((member.unit == 0).sum()), member.linear))
    assert entries == {
        (1, 4 * CELLS, HIDDEN): {(1, 4, True)},
        (1, 4 * CELLS, CELLS): {(1, 4, True), (2, 1, True)},
        (1, 8 * CELLS): {(1, 8, True)},
        (1, 3 * CELLS): {(1, 3, True)},
        (1, 1, CELLS): {(2, 1, True)},
        (CELLS, OUT): {(0, 1, True)},
    }


def test_removal_follows_in_the_node() -> None:
    net = model("GRU", state=slice_of_zeros)
    coupling = couple(net)
    removed = surgery.remove(net, coupling, half(coupling, 0))
    node = next(n for n in removed.proto.graph.node if n.op_type == "GRU")
    left = next(a.i for a in node.attribute if a.name == "hidden_size")
    assert left == CELLS - CELLS // 2
    assert removed.weights[node.input[2]].shape == (1, 3 * left, left)
    assert not node.input[5]  # zeros are the default, of whatever size


@pytest.mark.parametrize(("op", "gates"), GATES.items())
def test_macs(op: str, gates: int) -> None:
    net = model(op, 2)
    graph = couple(net).graph
    node = next(n for n in graph.nodes if n.op == op)
    batch = graph.shapes[node.inputs[0]][1]
    macs = RULES["", op].macs
    assert macs is not None
    assert macs(node, graph.shapes) == STEPS * batch * 2 * gates * CELLS * (HIDDEN + CELLS)


def stacked(op: str) -> Model:
    """Two layers whose initial states are slices of the same zeros; sequence to the first, last state of the second."""
    net = Net()
    x = net.dense(net.input((STEPS, "n", 6)), 6, HIDDEN)
    rows = GATES[op] * CELLS
    sizes = net.op("Concat", net.const([2]), batch_of(net, x), net.const([CELLS]), axis=0)
    zeros = net.op("ConstantOfShape", sizes)
    h, ins = x, HIDDEN
    for layer in range(2):
        start = net.op("Slice", zeros, net.const([layer]), net.const([layer + 1]), net.const([0]))
        inputs = [h, net.param(1, rows, ins), net.param(1, rows, CELLS), net.param(1, 2 * rows), "", start]
        y, final = net.ops(op, *inputs, *([start] if op == "LSTM" else []), count=2, hidden_size=CELLS)
        h, ins = net.op("Squeeze", y, net.const([1])), CELLS
    return net.model(net.dense(net.op("Squeeze", final, net.const([0])), CELLS, OUT))


@pytest.mark.parametrize("op", GATES)
def test_layers_that_share_their_initial_zeros_are_independent(op: str) -> None:
    net = stacked(op)
    coupling = couple(net)
    assert [g.units for g in coupling.groups] == [HIDDEN, CELLS, CELLS]
    plan = half(coupling, 1)
    masked, removed = surgery.mask(net, coupling, plan), surgery.remove(net, coupling, plan)
    feeds = feeds_for(net, 2)
    assert_equal(run(masked, feeds), run(removed, feeds))
    assert_differs(run(net, feeds), run(masked, feeds))
    assert from_proto(removed.to_proto()).hash == removed.hash


def final_states(op: str, directions: int, picked: Sequence[int]) -> Model:
    """Two layers, of which all last states are stacked, as torch returns them, and some picked again."""
    net = Net()
    h, ins = net.dense(net.input((STEPS, "n", 6)), 6, HIDDEN), HIDDEN
    rows, way = GATES[op] * CELLS, "bidirectional" if directions == 2 else "forward"
    finals = []
    for _ in range(2):
        inputs = [
            h,
            net.param(directions, rows, ins),
            net.param(directions, rows, CELLS),
            net.param(directions, 2 * rows),
        ]
        y, final = net.ops(op, *inputs, count=2, hidden_size=CELLS, direction=way)
        finals.append(final)
        h, ins = sequence(net, [y], directions), directions * CELLS
    stack = net.op("Concat", *finals, axis=0)
    parts = [net.op("Gather", stack, net.const(p), axis=0) for p in picked]
    width = len(picked) * CELLS
    return net.model(net.gemm(net.op("Concat", *parts, axis=1), width, OUT))


@pytest.mark.parametrize(("directions", "picked"), [(1, [-1]), (1, [0, 1]), (2, [-2, -1]), (2, [1, 3])])
def test_layers_whose_last_states_are_stacked_keep_their_own_cells(directions: int, picked: Sequence[int]) -> None:
    net = final_states("GRU", directions, picked)
    coupling = couple(net)
    assert coupling.units == HIDDEN + 2 * directions * CELLS
    for seed in range(3):
        plan = half(coupling, seed)
        masked, removed = surgery.mask(net, coupling, plan), surgery.remove(net, coupling, plan)
        feeds = feeds_for(net, seed)
        assert_equal(run(masked, feeds), run(removed, feeds))
        assert_differs(run(net, feeds), run(masked, feeds))
