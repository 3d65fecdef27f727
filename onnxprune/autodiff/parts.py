"""Slices that together read a tensor once, made one Split: what goes back is then one Concat.

Exporters write ``q, k, v = qkv`` as three Slices or Gathers. Each alone would give back a tensor of the whole size that
is mostly zeros, and these would be added up.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import onnx
from onnx import helper

from onnxprune.nodes import Node
from onnxprune.ops.emitter import FLOATS
from onnxprune.ops.tape import Tape

__all__ = ["split_up"]


@dataclass(frozen=True)
class Part:
    """The stretch [start, end) of one axis that a node reads."""

    node: Node
    start: int
    end: int


def split_up(tape: Tape) -> Mapping[tuple[int | str, ...], Sequence[onnx.NodeProto]]:
    """The nodes in the place of those that are joined, by where they stand. Constants are left on the tape."""
    instead: dict[tuple[int | str, ...], list[onnx.NodeProto]] = {}
    found: dict[tuple[str, int], list[Part]] = defaultdict(list)
    for node in tape.graph.nodes:
        if node.op in ("Slice", "Gather") and not node.domain and len(node.where) == 1:
            axis, part = _part(node, tape)
            if part is not None:
                found[node.inputs[0], axis].append(part)
    for (tensor, axis), parts in found.items():
        parts.sort(key=lambda part: part.start)
        ends = [0, *(part.end for part in parts)]
        whole = ends[-1] == tape.tensor(tensor).known[axis] and len(parts) > 1
        if whole and [part.start for part in parts] == ends[:-1]:
            for part in parts:
                instead[part.node.where] = []
            first = min((part.node for part in parts), key=lambda node: node.number)
            instead[first.where] = _split(tape, tensor, axis, parts, [b - a for a, b in pairwise(ends)])
    return instead


def _part(node: Node, t: Tape) -> tuple[int, Part | None]:
    """Axis and stretch, where both are known beforehand and the axis has a fixed size."""
    x = t.tensor(node.inputs[0])
    if x.sizes is None or x.dtype not in FLOATS:
        return 0, None
    known = [t.constant(node, k) for k in range(1, len(node.inputs))]
    if any(value is None or value.size != 1 for value in known):
        return 0, None
    numbers = [int(value.reshape(-1)[0]) for value in known if value is not None]
    if node.op == "Gather":
        axis, start = int(node.attrs.get("axis", 0)) % x.rank, numbers[0]
        size = x.sizes[axis]
        single = size > 0 and t.output(node).sizes is not None and t.output(node).rank == x.rank - 1
        return axis, Part(node, start % size, start % size + 1) if single else None
    start, end, axis, step = [*numbers, 0, 1][:4] if len(numbers) == 2 else [*numbers, 1][:4]
    size = x.sizes[axis % x.rank]
    if step != 1 or size < 0:
        return 0, None
    start, end, _ = slice(start, end).indices(size)
    return axis % x.rank, Part(node, start, end) if start < end else None


def _split(t: Tape, tensor: str, axis: int, parts: Sequence[Part], sizes: Sequence[int]) -> list[onnx.NodeProto]:
    """One Split, and a Squeeze for every part that a Gather took without its axis."""
    names = [t.fresh(f"{tensor}_part") if part.node.op == "Gather" else part.node.outputs[0] for part in parts]
    nodes = [helper.make_node("Split", [tensor, t.ints(*sizes).name], names, name=t.fresh("Split_node"), axis=axis)]
    for part, name in zip(parts, names, strict=True):
        if part.node.op == "Gather":
            inputs = [name, t.ints(axis).name]
            nodes.append(helper.make_node("Squeeze", inputs, [part.node.outputs[0]], name=t.fresh("Squeeze_node")))
    return nodes
