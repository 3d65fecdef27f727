"""Names for groups that a person recognises: "conv1", "layer2.0.conv1", "blocks.3.attn.q (heads)"."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from onnxprune.graph import Graph, Node
from onnxprune.ops.ties import Ties
from onnxprune.values import Member

__all__ = ["GroupName", "group_names", "node_title"]

WEIGHT_NAME = re.compile(r"^(?P<layer>.+?)[./](weight|bias|kernel|W|weight_.*|kernel:0|kernel/read)(::\d+)?$")
TENSORFLOW_NAME = re.compile(r"^(?P<layer>.+?)/[A-Za-z0-9_]+/(merged_input|ReadVariableOp(_\d+)?)(:\d+)?(::\d+)?$")
ANONYMOUS = re.compile(r"^(onnx::|val_|const|_|\d+$|node_|new_const)")
WRAPPERS = ("StatefulPartitionedCall", "model", "sequential", "functional")


@dataclass(frozen=True)
class GroupName:
    """The unique name of a group and the word for its units."""

    text: str
    kind: str
    per_unit: int


def group_names(t: Ties, firsts: Sequence[tuple[str, int]], members: Sequence[tuple[Member, ...]]) -> list[GroupName]:
    """One name per group, after the node that first produces it; repeated names get #2, #3 ..."""
    result: list[GroupName] = []
    seen: dict[str, int] = {}
    for (tensor, axis), mine in zip(firsts, members, strict=True):
        node = t.graph.producer.get(tensor)
        title = node_title(t.graph, node) if node else tensor
        per_unit = _positions_per_unit(mine, tensor, axis)
        kind = _kind(t, (tensor, axis), mine, per_unit)
        text = f"{title} ({kind})" if kind.startswith("head") else title
        seen[text] = seen.get(text, 0) + 1
        result.append(GroupName(f"{text}#{seen[text]}" if seen[text] > 1 else text, kind, per_unit))
    return result


def _positions_per_unit(members: Sequence[Member], tensor: str, axis: int) -> int:
    for member in members:
        if (member.tensor, member.axis) == (tensor, axis):
            return int((member.unit == 0).sum())
    return 1


def _kind(t: Ties, first: tuple[str, int], members: Sequence[Member], per_unit: int) -> str:
    known = t.kinds.get(first[0], "channels")
    if any((m.tensor, m.axis) in t.attends for m in members):
        unit = next(m.index[m.unit == 0] for m in members if (m.tensor, m.axis) == first)
        return "heads" if per_unit > 1 and np.ptp(unit) == per_unit - 1 else "head dimensions"
    if known == "neurons" and per_unit > 1 and any(_is_head_axis(t, m) for m in members):
        return "heads" if t.options.attention == "heads" else "head dimensions"
    return known


def _is_head_axis(t: Ties, member: Member) -> bool:
    """One factor of a split feature axis: units that are wide elsewhere have a single position here."""
    shape = t.shape(member.tensor)
    return not member.weight and shape is not None and len(shape) >= 4 and int((member.unit == 0).sum()) == 1


def node_title(graph: Graph, node: Node) -> str:
    """The layer that a node belongs to, read off its weights' names, else off its own."""
    for tensor in _parameter_names(graph, node):
        found = WEIGHT_NAME.match(tensor) or TENSORFLOW_NAME.match(tensor)
        if found and not ANONYMOUS.match(tensor):
            return _tidy(found["layer"])
    if node.scope:
        return node.scope
    return _from_node_name(node)


def _parameter_names(graph: Graph, node: Node) -> list[str]:
    names = [graph.origin.get(i, i) for i in node.inputs if i in graph.weights]
    for output in node.outputs[:1]:
        for reader, _ in graph.consumers.get(output, ()):
            if reader.op == "Add":
                names += [graph.origin.get(i, i) for i in reader.inputs if i in graph.weights]
    return names


def _tidy(layer: str) -> str:
    parts = [p for p in layer.split("/") if p]
    while len(parts) > 1 and parts[0].rstrip("_0123456789") in WRAPPERS:
        parts = parts[1:]
    return "/".join(parts)


def _from_node_name(node: Node) -> str:
    parts = [p for p in node.name.split("/") if p]
    if len(parts) > 1 and (parts[-1] == node.op or re.fullmatch(rf"{re.escape(node.op)}_\d+", parts[-1])):
        suffix = parts[-1][len(node.op) :].replace("_", ".")
        parts = parts[:-1]
        parts[-1] += f"{suffix}" if suffix else ""
    merged: list[str] = []
    for part in parts:
        if merged and part.startswith(merged[-1] + "."):
            merged[-1] = part
        else:
            merged.append(part)
    while len(merged) > 1 and merged[0].rstrip("_0123456789") in WRAPPERS:
        merged = merged[1:]
    return ".".join(merged) or node.op
