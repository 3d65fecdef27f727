"""How If, Loop and Scan hand tensors into their bodies and back: names and axes, nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from onnxprune.nodes import Node

__all__ = ["Passage", "body_inputs", "body_outputs", "body_shapes", "carried", "output_shapes"]

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Passage:
    """``inner`` is ``outer`` (both names); with ``axis``, one slice of it along that axis."""

    outer: str
    inner: str
    axis: int | None = None


def body_inputs(node: Node) -> Iterator[Passage]:
    """What the node's inputs are called inside its body."""
    if node.op == "Loop":
        for outer, inner in zip(node.inputs[2:], node.bodies["body"].inputs[2:], strict=False):
            yield Passage(outer, inner)
    elif node.op == "Scan":
        scanned = node.attrs["num_scan_inputs"]
        states = len(node.inputs) - scanned
        axes = node.attrs.get("scan_input_axes", (0,) * scanned)
        for k, (outer, inner) in enumerate(zip(node.inputs, node.bodies["body"].inputs, strict=False)):
            yield Passage(outer, inner, None if k < states else axes[k - states])


def body_outputs(node: Node) -> Iterator[Passage]:
    """What the node's outputs are called inside its bodies; a collected output has a new axis."""
    if node.op == "If":
        for body in node.bodies.values():
            for outer, inner in zip(node.outputs, body.outputs, strict=False):
                yield Passage(outer, inner)
    elif node.op == "Loop":
        carried = len(node.inputs) - 2
        for k, (outer, inner) in enumerate(zip(node.outputs, node.bodies["body"].outputs[1:], strict=False)):
            yield Passage(outer, inner, None if k < carried else 0)
    elif node.op == "Scan":
        states = len(node.inputs) - node.attrs["num_scan_inputs"]
        axes = node.attrs.get("scan_output_axes", (0,) * len(node.outputs))
        for k, (outer, inner) in enumerate(zip(node.outputs, node.bodies["body"].outputs, strict=False)):
            yield Passage(outer, inner, None if k < states else axes[k - states])


def carried(node: Node) -> list[tuple[str, str]]:
    """(formal input, body output) of what a Loop or Scan hands from round to round."""
    if node.op == "Scan":
        body, count = node.bodies["body"], len(node.inputs) - node.attrs["num_scan_inputs"]
        return list(zip(body.inputs[:count], body.outputs[:count], strict=False))
    if node.op == "Loop":  # the body is first told the round and the condition, and first says whether to go on
        body, count = node.bodies["body"], max(len(node.inputs) - 2, 0)
        return list(zip(body.inputs[2 : 2 + count], body.outputs[1 : 1 + count], strict=False))
    return []


def body_shapes(node: Node, shapes: Mapping[str, Shape]) -> dict[str, Shape]:
    """Shapes of a body's formal inputs, as far as those of the node's inputs are known.

    A carried tensor is taken to keep its shape from round to round; `output_shapes` checks that.
    """
    found: dict[str, Shape] = {}
    if node.op == "Loop":
        found.update(dict.fromkeys(node.bodies["body"].inputs[:2], ()))
    for passage in body_inputs(node):
        outer = shapes.get(passage.outer)
        if outer is not None:
            axis = passage.axis
            found[passage.inner] = outer if axis is None else _without(outer, axis % len(outer))
    return found


def _without(shape: Shape, axis: int) -> Shape:
    return (*shape[:axis], *shape[axis + 1 :])


def output_shapes(node: Node, shapes: Mapping[str, Shape]) -> dict[str, Shape]:
    """Shapes of the node's plain outputs; empty where a carried tensor changes shape, or branches disagree."""
    found: dict[str, Shape] = {}
    for passage in body_outputs(node):
        inner = shapes.get(passage.inner)
        if inner is None or found.setdefault(passage.outer, inner) != inner:
            return {}
        if passage.axis is not None:
            del found[passage.outer]
    carried = {p.outer: shapes.get(p.outer) for p in body_inputs(node) if p.axis is None}
    after = [found.get(o) for o in node.outputs[: len(carried)]]
    if node.op != "If" and after != list(carried.values())[: len(after)]:
        return {}
    return found
