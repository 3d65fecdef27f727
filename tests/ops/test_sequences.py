"""Sequences whose contents are known, and those that nobody can follow."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper

from onnxprune import surgery
from onnxprune.coupling import couple
from onnxprune.cuts import cuts_of
from onnxprune.model import Model
from tests.ops.cases import HIDDEN, OUT, Case, Middle, Net, flat, normal_input, tokens
from tests.ops.test_control_flow import body
from tests.plans import half

I64 = np.int64
UNKNOWN = "is not known beforehand"


def at(net: Net, sequence: str, position: int) -> str:
    return net.op("SequenceAt", sequence, net.const(position, I64))


def split(sizes: object, *picks: int) -> Middle:
    """Parts of the channels, picked in another order and put together again."""

    def middle(net: Net, h: str) -> str:
        parts = net.op("SplitToSequence", h, net.const(sizes, I64), axis=1)
        return net.op("Concat", *(at(net, parts, p) for p in picks), axis=1)

    return middle


def one_each(keepdims: int) -> Middle:
    """Every channel an element of the sequence: they are counted."""

    def middle(net: Net, h: str) -> str:
        parts = net.op("SplitToSequence", h, axis=1, keepdims=keepdims)
        y = at(net, parts, 3)
        return net.op("Add", h, y if keepdims else net.op("Unsqueeze", y, net.const([1])))

    return middle


def steps(keepdims: int) -> Middle:
    """Every time step an element: the channels stay free."""

    def middle(net: Net, h: str) -> str:
        parts = net.op("SplitToSequence", h, axis=1, keepdims=keepdims)
        y = net.op("Sub", at(net, parts, 0), at(net, parts, -1))
        return net.op("Add", h, y if keepdims else net.op("Unsqueeze", y, net.const([1])))

    return middle


def sizes_by_data() -> Case:
    def build() -> Model:
        net = Net()
        h = net.gemm(net.input((3, 6)), 6, HIDDEN)
        parts = net.op("SplitToSequence", h, net.input((2,), I64, "sizes"), axis=1)
        y = net.op("ReduceMax", net.hint(at(net, parts, 0), (3, 5)), net.const([1]))
        return net.model(net.op("Add", net.gemm(h, HIDDEN, OUT), y))

    feeds = lambda model, seed: {**normal_input(model, seed, "x"), "sizes": np.array([5, 3])}  # noqa: E731
    return Case(build, units=0, frozen=UNKNOWN, feeds=feeds, differentiable=False)


def constructed(net: Net, h: str) -> str:
    """Two branches in, one position out: the other branch has no effect, but is a layer of its own."""
    pair = net.op("SequenceConstruct", net.op("Relu", h), net.op("Neg", h))
    return net.op("Add", at(net, pair, 1), net.op("Mul", at(net, pair, 0), at(net, pair, -2)))


def exact_sum(net: Net, h: str) -> str:
    """Zeros stay zeros on the way through."""
    y = at(net, net.op("SequenceConstruct", net.op("Relu", h)), 0)
    return net.op("Add", y, net.op("ReduceSum", y, net.const([1])))


def inexact_sum(net: Net, h: str) -> str:
    y = at(net, net.op("SequenceConstruct", net.op("Sigmoid", h)), 0)
    return net.op("Add", y, net.op("ReduceSum", y, net.const([1])))


def edited(net: Net, h: str) -> str:
    """Built up from nothing, changed in the middle, and put together."""
    line = net.op("SequenceEmpty")
    line = net.op("SequenceInsert", line, net.op("Relu", h))
    line = net.op("SequenceInsert", line, net.op("Neg", h), net.const(0, I64))
    line = net.op("SequenceInsert", line, net.op("Tanh", h), net.const(-1, I64))
    line = net.op("SequenceErase", line, net.const(0, I64))
    return net.op("Add", at(net, line, 0), net.op("Mul", net.const(np.float32(0.5)), at(net, line, 1)))


def erased_last(net: Net, h: str) -> str:
    line = net.op("SequenceConstruct", net.op("Relu", h), net.op("Neg", h))
    return at(net, net.op("SequenceErase", line), 0)


def concatenated(net: Net, h: str) -> str:
    """(n, 5) of the parts and all of h: 13 channels."""
    parts = net.op("SplitToSequence", h, net.const([3, 5], I64), axis=1)
    line = net.op("SequenceInsert", net.op("SequenceErase", parts, net.const(0, I64)), h)
    return net.op("ConcatFromSequence", line, axis=1)


def stacked(net: Net, h: str) -> str:
    """On a new axis in front of the channels."""
    line = net.op("SequenceConstruct", net.op("Relu", h), net.op("Neg", h))
    return net.op("ReduceMax", net.op("ConcatFromSequence", line, axis=1, new_axis=1), net.const([1]), keepdims=0)


def restacked(net: Net, h: str) -> str:
    """Time steps taken apart and stacked again."""
    parts = net.op("SplitToSequence", h, axis=1, keepdims=0)
    return net.op("ConcatFromSequence", net.op("SequenceErase", parts), axis=1, new_axis=1)


def position_by_data() -> Case:
    def build() -> Model:
        net = Net()
        h = net.gemm(net.input((3, 6)), 6, HIDDEN)
        pair = net.op("SequenceConstruct", net.op("Relu", h), net.op("Neg", h))
        y = net.op("SequenceAt", pair, net.input((), I64, "position"))
        return net.model(net.gemm(net.hint(y, (3, HIDDEN)), HIDDEN, OUT))

    feeds = lambda model, seed: {**normal_input(model, seed, "x"), "position": np.array(1)}  # noqa: E731
    return Case(build, units=0, frozen=UNKNOWN, feeds=feeds, differentiable=False)


def through_a_branch() -> Case:
    """Which sequence comes out of an If is not followed."""

    def build() -> Model:
        net = Net()
        flag = net.input((), np.bool_, "flag")
        h = net.gemm(net.input((3, 6)), 6, HIDDEN)
        ways = {
            name: body(net, lambda b, op=op: [b.op("SequenceConstruct", b.op(op, h))])
            for name, op in (("then_branch", "Relu"), ("else_branch", "Neg"))
        }
        element = helper.make_tensor_type_proto(TensorProto.FLOAT, None)
        for way in ways.values():
            way.output[0].type.CopyFrom(helper.make_sequence_type_proto(element))
        y = at(net, net.op("If", flag, **ways), 0)
        return net.model(net.gemm(net.hint(y, (3, HIDDEN)), HIDDEN, OUT))

    feeds = lambda model, seed: {**normal_input(model, seed, "x"), "flag": np.array(True)}  # noqa: E731
    return Case(build, units=0, frozen=UNKNOWN, feeds=feeds, differentiable=False)


def length(net: Net, h: str) -> str:
    """How many parts there are says nothing about the channels."""
    parts = net.op("SplitToSequence", h, net.const([3, 5], I64), axis=1)
    count = net.cast(net.op("SequenceLength", parts))
    return net.op("Mul", net.op("Concat", at(net, parts, 0), at(net, parts, 1), axis=1), count)


def optional(net: Net, h: str) -> str:
    return net.op("OptionalGetElement", net.op("Optional", net.op("Relu", h)))


def optional_sequence(net: Net, h: str) -> str:
    """A sequence inside an optional."""
    held = net.op("Optional", net.op("SequenceConstruct", net.op("Neg", h), net.op("Relu", h)))
    return at(net, net.op("OptionalGetElement", held), 1)


def plain_element(net: Net, h: str) -> str:
    """From opset 18 on, a tensor is taken for what it is."""
    return net.op("OptionalGetElement", net.op("Relu", h))


def asked(net: Net, h: str) -> str:
    there = net.cast(net.op("OptionalHasElement", net.op("Optional", h)))
    return net.op("Mul", h, there)


def mapped() -> Case:
    """A body for every element: those elements stay."""

    def build() -> Model:
        net = Net()
        h = net.gemm(net.op("Relu", net.gemm(net.input((3, 6)), 6, 16)), 16, HIDDEN)
        line = net.op("SequenceConstruct", h, net.op("Neg", h))
        graph = body(net, lambda b: [b.op("Abs", "element")], [("element", TensorProto.FLOAT, [3, HIDDEN])])
        graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT
        y = at(net, net.op("SequenceMap", line, body=graph), 0)
        return net.model(net.gemm(net.hint(y, (3, HIDDEN)), HIDDEN, OUT))

    return Case(build, units=16, frozen=UNKNOWN)


WITHOUT = {("", "SequenceMap"): "its body runs on the elements of a sequence"}
CASES = {
    ("", "SplitToSequence"): [
        flat(split([3, 5], 1, 0)),
        flat(split(3, 2, 0, 1)),
        flat(split([2, 4, 2], 1, 1)),
        flat(one_each(1), units=0, frozen="makes a part of each"),
        flat(one_each(0), units=0, frozen="makes a part of each"),
        tokens(steps(1)),
        tokens(steps(0)),
        sizes_by_data(),
    ],
    ("", "SequenceConstruct"): [flat(constructed)],
    ("", "SequenceEmpty"): [flat(edited)],
    ("", "SequenceInsert"): [flat(edited)],
    ("", "SequenceErase"): [flat(edited), flat(erased_last)],
    ("", "SequenceAt"): [
        flat(exact_sum),
        flat(inexact_sum, units=0, frozen="not zero"),
        position_by_data(),
        through_a_branch(),
    ],
    ("", "ConcatFromSequence"): [flat(concatenated, after=13), flat(stacked), tokens(restacked)],
    ("", "SequenceLength"): [flat(length)],
    ("", "SequenceMap"): [mapped()],
    ("", "Optional"): [flat(optional), flat(optional_sequence)],
    ("", "OptionalGetElement"): [flat(optional), flat(plain_element)],
    ("", "OptionalHasElement"): [flat(asked)],
}


def test_split_sizes_follow() -> None:
    model = flat(split(3, 2, 0, 1)).build()
    coupling = couple(model)
    plan = half(coupling, 1)
    removed = surgery.remove(model, coupling, plan)
    node = next(n for n in removed.proto.graph.node if n.op_type == "SplitToSequence")
    hidden = next(n for n in coupling.graph.nodes if n.op == "SplitToSequence").inputs[0]
    gone = cuts_of(coupling, plan.units)[hidden][1].removed
    expected = [int((~gone[a : a + 3]).sum()) for a in (0, 3, 6)]
    assert removed.weights[node.input[1]].array().tolist() == expected


def test_a_sequence_that_leaves_the_graph_stays() -> None:
    net = Net()
    h = net.gemm(net.input((3, 6)), 6, HIDDEN)
    line = net.op("SequenceConstruct", h, net.op("Relu", h))
    editor = net.model(net.gemm(h, HIDDEN, OUT)).edit()
    element = helper.make_tensor_type_proto(TensorProto.FLOAT, None)
    editor.proto.graph.output.append(onnx.helper.make_value_info(line, helper.make_sequence_type_proto(element)))
    coupling = couple(editor.build())
    assert not coupling.groups
    assert any(UNKNOWN in f.reason for f in coupling.frozen)
