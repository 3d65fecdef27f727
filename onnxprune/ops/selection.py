"""Operators whose result's size or order depends on values: what they look at stays, the axes beside it tie."""

from __future__ import annotations

from onnxprune.graph import Node
from onnxprune.ops.contrib import stays
from onnxprune.ops.rule import Role, Rule, zero_by_inputs, zero_keeps, zero_lost
from onnxprune.ops.selection_gradients import vjp_compress, vjp_det, vjp_reverse_sequence, vjp_trilu, vjp_unique
from onnxprune.ops.ties import Ties


def couple_compress(node: Node, t: Ties) -> None:
    """Positions of ``axis`` where the condition holds; without an axis, of the flattened tensor."""
    x, condition, y = node.input(0), node.input(1), node.output(0)
    if "axis" not in node.attrs:
        t.freeze_node(node, f"{node} picks from the flattened tensor")
        return
    axis = node.attrs["axis"] % t.rank(x)
    t.tie_like(x, y, [(a, a) for a in range(t.rank(x)) if a != axis], 0)
    for tensor, a in ((x, axis), (y, axis), (condition, 0)):
        t.freeze(tensor, a, f"{node} picks from it by a condition")


def couple_reverse_sequence(node: Node, t: Ties) -> None:
    """The first ``sequence_lens[b]`` steps of batch entry b, backwards."""
    x, lengths, y = node.input(0), node.input(1), node.output(0)
    time, batch = node.attrs.get("time_axis", 0), node.attrs.get("batch_axis", 1)
    t.tie_like(x, y, [(a, a) for a in range(t.rank(x))], 0)
    t.tie(lengths, 0, y, batch, 1)
    t.freeze(x, time, f"{node} turns it around")


def couple_last_two(node: Node, t: Ties) -> None:
    """The last two axes are a matrix and stay; the axes in front of them tie."""
    x, y = node.input(0), node.output(0)
    front = t.rank(x) - 2
    t.tie_like(x, y, [(a, a) for a in range(front)], 0)
    for tensor in (x, y):
        for axis in range(front, t.rank(tensor)):
            t.freeze(tensor, axis, f"{node} looks at rows and columns by their position")


D, INDEX = Role.DATA, Role.INDEX
RULES = (
    Rule("Compress", couple_compress, (D, Role.CONDITION), zero_keeps, vjp=vjp_compress),
    Rule("ReverseSequence", couple_reverse_sequence, (D, INDEX), zero_by_inputs(0), vjp=vjp_reverse_sequence),
    Rule("Trilu", couple_last_two, (D, Role.SHAPE), zero_keeps, vjp=vjp_trilu),
    Rule("Det", couple_last_two, (D,), zero_keeps, vjp=vjp_det),
    Rule("NonZero", stays("it lists the positions of what is not 0"), (D,), zero_lost, flat=True),
    Rule("Unique", stays("it compares slices with each other"), (D,), zero_lost, vjp=vjp_unique),
)
