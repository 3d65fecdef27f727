"""If, Loop and Scan: weights inside and outside, names handed in and out, and what cannot be followed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from onnxprune import surgery
from onnxprune.coupling import couple
from onnxprune.model import Model
from onnxprune.ops import Role
from onnxprune.zeros import weight_role
from tests.ops.cases import HIDDEN, OUT, Case, Net, normal_input
from tests.oracle import assert_differs, assert_equal, feeds_for, run
from tests.plans import half

FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
Formal = tuple[str, int, Sequence[int | str] | None]
Make = Callable[[Net, str], str]
INNER = 5


def body(net: Net, build: Callable[[Net], Sequence[str]], formal: Sequence[Formal] = ()) -> onnx.GraphProto:
    """The graph of what ``build`` adds; two bodies built one after the other use the same names."""
    inner = Net(seed=int(net.rng.integers(1 << 30)), opset=net.opset)
    inner._count = 1000 if net._count < 1000 else net._count + 1000
    outputs = build(inner)
    return helper.make_graph(
        inner.nodes,
        "body",
        [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in formal],
        [helper.make_value_info(name, onnx.TypeProto()) for name in outputs],
        inner.constants,
    )


def typed(graph: onnx.GraphProto, *kinds: int) -> onnx.GraphProto:
    for value, kind in zip(graph.output, kinds, strict=True):
        value.type.tensor_type.elem_type = kind
    return graph


# -- If ---------------------------------------------------------------------------------------------------------------


def branches(net: Net, condition: str, h: str) -> str:
    """Each branch has weights of its own, under the same names; one also reads a bias from outside."""
    outer = net.param(HIDDEN)
    then = body(net, lambda b: [b.op("Relu", b.op("Add", b.op("MatMul", h, b.param(HIDDEN, HIDDEN)), outer))])
    other = body(
        net, lambda b: [b.op("Tanh", b.op("Add", b.op("MatMul", h, b.param(HIDDEN, HIDDEN)), b.param(HIDDEN)))]
    )
    return net.op("If", condition, then_branch=typed(then, FLOAT), else_branch=typed(other, FLOAT))


def chosen(shortcut: bool = False, nested: bool = False) -> Case:
    """x -> Gemm -> If (flag) -> Gemm; with a shortcut the branches write the axis that they read."""

    def build() -> Model:
        net = Net()
        flag = net.input((), np.bool_, "flag")
        h = net.gemm(net.input(("n", 6)), 6, HIDDEN)
        y = nest(net, flag, h) if nested else branches(net, flag, h)
        return net.model(net.gemm(net.op("Add", y, h) if shortcut else y, HIDDEN, OUT))

    def feeds(model: Model, seed: int) -> dict[str, np.ndarray]:
        return {**normal_input(model, seed, "x"), "flag": np.array(seed == 0)}

    return Case(build, units=HIDDEN if shortcut else 2 * HIDDEN, feeds=feeds)


def nest(net: Net, flag: str, h: str) -> str:
    """An If inside an If, and a branch that hands out a tensor from outside."""

    def then(b: Net) -> list[str]:
        return [branches(b, flag, b.op("Abs", h))]

    outer = net.gemm(h, HIDDEN, HIDDEN)
    other = body(net, lambda b: [b.op("Identity", outer)])
    return net.op("If", flag, then_branch=typed(body(net, then), FLOAT), else_branch=typed(other, FLOAT))


def different_sizes() -> Case:
    """One branch gives twice the rows of the other: that axis stays, the channels do not."""

    def build() -> Model:
        net = Net()
        flag = net.input((), np.bool_, "flag")
        h = net.gemm(net.input((3, 6)), 6, HIDDEN)
        then = body(net, lambda b: [b.op("Concat", h, b.op("Neg", h), axis=0)])
        other = body(net, lambda b: [b.op("Abs", h)])
        y = net.op("If", flag, then_branch=typed(then, FLOAT), else_branch=typed(other, FLOAT))
        return net.model(net.op("ReduceMax", net.gemm(y, HIDDEN, OUT), net.const([0])))

    feeds = lambda m, s: {**normal_input(m, s, "x"), "flag": np.array(True)}  # noqa: E731
    return Case(build, feeds=feeds, differentiable=False)


# -- Loop -------------------------------------------------------------------------------------------------------------

ROUND: tuple[Formal, ...] = (("round", INT64, []), ("go", BOOL, []))


def cell(b: Net, state: str) -> str:
    """state + tanh(state A) B: a hidden layer inside, the carried axis through."""
    hidden = b.op("Tanh", b.op("Add", b.op("MatMul", state, b.param(HIDDEN, INNER)), b.param(INNER)))
    return b.op("Add", state, b.op("MatMul", hidden, b.param(INNER, HIDDEN)))


def loop(
    *,
    trips: Make | None = None,
    emits: bool = False,
    start: Make | None = None,
    step: Make = cell,
    tail: Make | None = None,
    declared: Sequence[int | str] | None = None,
    **expected: object,
) -> Case:
    """x -> Gemm -> Loop -> Gemm; with ``emits`` also the sum over what every round gives out.

    Where the loop does not ``start`` with the hidden layer, that is added behind it.
    """

    def build() -> Model:
        net = Net()
        h = net.gemm(net.input(("n", 6)), 6, HIDDEN)

        def rounds(b: Net) -> list[str]:
            new = step(b, "state")
            out = [b.op("Identity", "go"), new]
            return [*out, b.op("Identity", new)] if emits else out

        graph = typed(body(net, rounds, (*ROUND, ("state", FLOAT, declared))), BOOL, FLOAT, *([FLOAT] * emits))
        rounds_to_go = trips(net, h) if trips else net.const(3, np.int64)
        outputs = net.ops("Loop", rounds_to_go, "", start(net, h) if start else h, count=1 + emits, body=graph)
        y = tail(net, outputs[0]) if tail else outputs[0]
        if start:
            y = net.op("Add", y, h)
        if emits:
            y = net.op("Add", y, net.op("ReduceSum", outputs[1], net.const([0]), keepdims=0))
        return net.model(net.gemm(y, HIDDEN, OUT))

    return Case(build, **{"units": HIDDEN + INNER, **expected})


def zeros_like(net: Net, h: str) -> str:
    return net.op("ConstantOfShape", net.op("Shape", h))


def learned_start(net: Net, h: str) -> str:
    return net.op("Expand", net.param(1, HIDDEN), net.op("Shape", h))


def gated(b: Net, state: str) -> str:
    """Keeps zeros: tanh of a layer whose rows and columns are both the state."""
    return b.op("Tanh", b.op("Add", b.op("MatMul", state, b.param(HIDDEN, HIDDEN)), b.param(HIDDEN)))


def squashed(b: Net, state: str) -> str:
    """Does not: after the first round, a removed element would be 0.5."""
    return b.op("Sigmoid", gated(b, state))


def grows(b: Net, state: str) -> str:
    return b.op("Concat", state, b.op("Neg", state), axis=0)


def summed(net: Net, y: str) -> str:
    return net.op("Add", y, net.op("ReduceSum", y, net.const([1]), keepdims=1))


def width(net: Net, h: str) -> str:
    """As many rounds as there are channels."""
    return net.op("Squeeze", net.op("Shape", h, start=1, end=2))


def counted_by_data() -> Case:
    """The body indexes an outside tensor by the round and decides itself when to stop."""

    def build() -> Model:
        net = Net()
        x = net.op("Relu", net.dense(net.input((5, "n", 6)), 6, HIDDEN))
        start = net.op("ReduceMax", x, net.const([0]), keepdims=0)

        def rounds(b: Net) -> list[str]:
            row = b.op("Gather", x, "round", axis=0)
            return [b.op("Less", "round", b.const(3, np.int64)), b.op("Add", row, gated(b, "state"))]

        graph = typed(body(net, rounds, (*ROUND, ("state", FLOAT, None))), BOOL, FLOAT)
        y = net.op("Loop", "", net.const(np.array(True)), start, body=graph)
        return net.model(net.gemm(y, HIDDEN, OUT))

    return Case(build)


# -- Scan -------------------------------------------------------------------------------------------------------------


def scan(*, axes: bool = False, backwards: bool = False, start: Callable[[Net], str] | None = None) -> Case:
    """s' = tanh(x A + s B), every s given out; time first, or second with ``axes``."""

    def build() -> Model:
        net = Net()
        n = 3
        x = net.op("Relu", net.dense(net.input((n, 5, 6) if axes else (5, n, 6)), 6, HIDDEN))
        state = start(net) if start else net.const(np.zeros((n, INNER), np.float32))

        def step(b: Net) -> list[str]:
            a = b.op("MatMul", "row", b.param(HIDDEN, INNER))
            new = b.op("Tanh", b.op("Add", a, b.op("MatMul", "state", b.param(INNER, INNER))))
            return [new, b.op("Identity", new)]

        graph = typed(body(net, step, (("state", FLOAT, None), ("row", FLOAT, None))), FLOAT, FLOAT)
        settings: dict[str, object] = {"num_scan_inputs": 1}
        if axes:
            settings |= {"scan_input_axes": [1], "scan_output_axes": [-2]}
        if backwards:
            settings |= {"scan_input_directions": [1]}
        last, every = net.ops("Scan", state, x, count=2, body=graph, **settings)
        total = net.op("ReduceSum", every, net.const([1 if axes else 0]), keepdims=0)
        return net.model(net.gemm(net.op("Add", last, total), INNER, OUT))

    return Case(build, units=HIDDEN + INNER)


def old_scan() -> Case:
    """The first version has sequence lengths and a batch axis of its own; onnxruntime does not run it."""

    def build() -> Model:
        net = Net(opset=8, ir=4)
        x = net.op("Relu", net.op("MatMul", net.input((1, 5, 6)), net.param(6, HIDDEN)))

        def step(b: Net) -> list[str]:
            new = b.op("Add", "row", "state")
            return [new, b.op("Identity", new)]

        graph = typed(body(net, step, (("state", FLOAT, [HIDDEN]), ("row", FLOAT, [HIDDEN]))), FLOAT, FLOAT)
        _, every = net.ops(
            "Scan", "", net.const(np.zeros((1, HIDDEN), np.float32)), x, count=2, body=graph, num_scan_inputs=1
        )
        return net.model(net.op("MatMul", every, net.param(HIDDEN, OUT)))

    return Case(build, units=0, frozen="version before 9", runs=False)


CASES = {
    ("", "If"): [chosen(), chosen(shortcut=True), chosen(nested=True), different_sizes()],
    ("", "Loop"): [
        loop(),
        loop(emits=True),
        loop(declared=("n", HIDDEN)),
        loop(start=zeros_like, step=lambda b, s: cell(b, b.op("Add", s, b.param(HIDDEN)))),
        loop(start=learned_start),
        loop(step=gated, tail=summed, units=HIDDEN),
        loop(step=gated, tail=summed, start=zeros_like, units=HIDDEN),
        loop(step=squashed, units=HIDDEN),
        loop(step=squashed, tail=summed, units=0, frozen="not zero"),
        loop(step=grows, tail=lambda net, y: net.op("ReduceMax", y, net.const([0])), units=0, frozen="shape changes"),
        loop(trips=width, units=HIDDEN + INNER),
        counted_by_data(),
    ],
    ("", "Scan"): [
        scan(),
        scan(axes=True),
        scan(backwards=True),
        scan(start=lambda net: net.param(3, INNER)),
        old_scan(),
    ],
}


def test_branches_that_use_the_same_names_keep_their_own_weights() -> None:
    net = chosen().build()
    coupling = couple(net)
    plan = half(coupling, 4)
    before = inner_weights(net)
    for result in (surgery.mask(net, coupling, plan), surgery.remove(net, coupling, plan)):
        after = inner_weights(result)
        assert after.keys() == before.keys()
        then, other = (
            {n: a for (branch, n), a in after.items() if branch == b} for b in ("then_branch", "else_branch")
        )
        shared = then.keys() & other.keys()
        assert shared
        assert not any(np.array_equal(then[n], other[n]) for n in shared)


def inner_weights(model: Model) -> dict[tuple[str, str], np.ndarray]:
    node = next(n for n in model.to_proto().graph.node if n.op_type == "If")
    return {(a.name, t.name): onnx.numpy_helper.to_array(t) for a in node.attribute for t in a.g.initializer}


def test_declared_shapes_inside_a_body_follow() -> None:
    net = loop(declared=(3, HIDDEN)).build()
    net = replace_batch(net)
    coupling = couple(net)
    removed = surgery.remove(net, coupling, half(coupling, 0))
    node = next(n for n in removed.proto.graph.node if n.op_type == "Loop")
    state = node.attribute[0].g.input[2].type.tensor_type.shape
    assert [d.dim_value for d in state.dim] == [3, HIDDEN // 2]


def replace_batch(model: Model) -> Model:
    editor = model.edit()
    editor.proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 3
    return editor.build()


@pytest.mark.parametrize("case", [loop(start=learned_start), scan(start=lambda net: net.param(3, INNER))])
def test_a_constant_that_enters_a_body_is_what_it_is_there(case: Case) -> None:
    graph = couple(case.build()).graph
    node = next(n for n in graph.nodes if n.op in ("Loop", "Scan"))
    start = node.inputs[2] if node.op == "Loop" else node.inputs[0]
    while start not in graph.weights:
        start = graph.producer[start].inputs[0]
    assert weight_role(graph, start) is Role.LINEAR


def test_a_divisor_inside_a_body_is_not_zeroed() -> None:
    def divides(b: Net, state: str) -> str:
        return b.op("Tanh", b.op("Div", cell(b, state), b.param(HIDDEN, low=0.5)))

    net = loop(step=divides).build()
    coupling = couple(net)
    plan = half(coupling, 2)
    masked, removed = surgery.mask(net, coupling, plan), surgery.remove(net, coupling, plan)
    feeds = feeds_for(net, 3)
    assert_equal(run(masked, feeds), run(removed, feeds))
    assert_differs(run(net, feeds), run(masked, feeds))


def test_the_round_count_does_not_follow_a_cut() -> None:
    """A number of rounds that was read off a cut axis is a number, not a size."""
    net = loop(trips=width).build()
    coupling = couple(net)
    feeds = feeds_for(net, 3)
    plan = half(coupling, 5)
    assert_equal(run(surgery.mask(net, coupling, plan), feeds), run(surgery.remove(net, coupling, plan), feeds))


def test_operators_without_a_rule_freeze_inside_a_body() -> None:
    def odd(b: Net, state: str) -> str:
        return b.op("Odd", state, domain="com.acme")

    case = loop(step=odd)
    coupling = couple(case.build())
    assert coupling.unknown_ops == {"com.acme.Odd": 1}
    assert not coupling.groups
