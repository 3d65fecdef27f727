"""Sequences and optionals: which pieces of which tensors they hold, and what taking one out ties.

A sequence has no axes. Where it is known what it holds - put together from tensors or from the parts of one, at
constant positions - whatever takes an element out ties it to the piece that went in. Where it is not (it leaves the
graph, goes through a Loop, is addressed by data), everything that goes in stays, and so does what comes out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from onnxprune.errors import UnsupportedModel
from onnxprune.graph import Graph, Node
from onnxprune.ops.contrib import stays
from onnxprune.ops.cutting import Cutter
from onnxprune.ops.emitter import Value
from onnxprune.ops.rule import Role, Rule, zero_keeps, zero_lost
from onnxprune.ops.tape import Tape
from onnxprune.ops.ties import Ties

Values = Sequence[Value | None]
UNKNOWN = "what the sequence at {} holds is not known beforehand"


@dataclass(frozen=True)
class Piece:
    """A whole tensor, or positions ``start`` to ``end`` of its ``axis`` (which is gone where ``squeezed``)."""

    tensor: str
    axis: int | None = None
    start: int = 0
    end: int = 0
    squeezed: bool = False


def pieces(graph: Graph, sequence: str) -> list[Piece] | None:
    """What a sequence or an optional holds, in order, or None where that is not known."""
    node = graph.producer.get(sequence)
    if node is None or node.domain or not _is_followed(graph, sequence):
        return None
    held = HOLDS.get(node.op)
    return held(graph, node) if held else None


def _gathered(graph: Graph, node: Node) -> list[Piece] | None:
    return [Piece(i) for i in node.inputs] if all(i in graph.shapes for i in node.inputs) else None


def _handed_on(graph: Graph, node: Node) -> list[Piece] | None:
    known = node.input(0) in graph.shapes
    return _gathered(graph, node) if known or not node.inputs else pieces(graph, node.inputs[0])


def _inserted(graph: Graph, node: Node) -> list[Piece] | None:
    held = pieces(graph, node.inputs[0])
    if held is None or node.inputs[1] not in graph.shapes:
        return None
    place = place_of(graph, node.inputs[2], len(held)) if node.input(2) else len(held)
    return None if place is None else [*held[:place], Piece(node.inputs[1]), *held[place:]]


def _erased(graph: Graph, node: Node) -> list[Piece] | None:
    held = pieces(graph, node.inputs[0])
    if held is None:
        return None
    place = place_of(graph, node.inputs[1], len(held)) if node.input(1) else len(held) - 1
    return None if place is None else [*held[:place], *held[place + 1 :]]


def place_of(graph: Graph, tensor: str, count: int) -> int | None:
    """A constant position among ``count``, from 0; None where it depends on data or on sizes."""
    value = graph.value(tensor)
    if value is None or tensor in graph.from_shape:
        return None
    position = int(value.reshape(-1)[0])
    return position + count if position < 0 else position


def _parts(graph: Graph, node: Node) -> list[Piece] | None:
    shape = graph.shape(node.inputs[0])
    if shape is None:
        return None
    axis = node.attrs.get("axis", 0) % len(shape)
    sizes = split_sizes(graph, node)
    if sizes is None:
        return None
    ends = np.cumsum(sizes).tolist()
    squeezed = not node.input(1) and not node.attrs.get("keepdims", 1)
    return [Piece(node.inputs[0], axis, end - size, end, squeezed) for size, end in zip(sizes, ends, strict=True)]


def split_sizes(graph: Graph, node: Node) -> list[int] | None:
    """Sizes of the parts that a SplitToSequence makes; None where they depend on data."""
    shape = graph.shapes[node.inputs[0]]
    whole = shape[node.attrs.get("axis", 0) % len(shape)]
    if not node.input(1):
        return [1] * whole
    value = graph.value(node.input(1))
    if value is None:
        return None
    if value.ndim:
        return [int(v) for v in value]
    size = int(value)
    return [size] * (whole // size) + [whole % size] * (whole % size > 0)


def _is_followed(graph: Graph, sequence: str) -> bool:
    """Whether everything that reads the sequence knows what it holds."""
    inner = (o for n in graph.nodes for body in n.bodies.values() for o in body.outputs)
    if sequence in graph.outputs or sequence in inner:
        return False
    return all(_follows(graph, reader, k) for reader, k in graph.consumers.get(sequence, ()))


def _follows(graph: Graph, reader: Node, k: int) -> bool:
    if reader.domain or k > 0:
        return False
    if reader.op == "SequenceAt":
        return place_of(graph, reader.inputs[1], 0) is not None and graph.shape(reader.outputs[0]) is not None
    if reader.op == "OptionalGetElement":
        return graph.shape(reader.outputs[0]) is not None or _is_followed(graph, reader.outputs[0])
    if reader.op in ("SequenceInsert", "SequenceErase", "Optional"):
        place = reader.input({"SequenceInsert": 2, "SequenceErase": 1}.get(reader.op, 3))
        return (not place or place_of(graph, place, 0) is not None) and _is_followed(graph, reader.outputs[0])
    if reader.op == "ConcatFromSequence":
        return graph.shape(reader.outputs[0]) is not None
    return reader.op in ("SequenceLength", "OptionalHasElement")


HOLDS: dict[str, Callable[[Graph, Node], list[Piece] | None]] = {
    "SequenceConstruct": _gathered,
    "SequenceEmpty": _gathered,
    "SplitToSequence": _parts,
    "SequenceInsert": _inserted,
    "SequenceErase": _erased,
    "Optional": _handed_on,
    "OptionalGetElement": _handed_on,
}


def couple_maker(node: Node, t: Ties) -> None:
    """Nothing is tied yet: those who take elements out do that. What cannot be followed stays."""
    x, y = node.input(0), node.output(0)
    if node.op == "Optional" and x in t.graph.shapes and y in t.graph.shapes:
        t.tie_like(x, y, [(a, a) for a in range(t.rank(y))], 0)
    elif pieces(t.graph, y) is None:
        t.freeze_node(node, UNKNOWN.format(node))


def couple_split_to_sequence(node: Node, t: Ties) -> None:
    """Parts of one element each are counted, so that axis stays."""
    couple_maker(node, t)
    x = node.input(0)
    if not node.input(1) and t.shape(x):
        t.freeze(x, node.attrs.get("axis", 0), f"{node} makes a part of each of its elements")


def cut_split_to_sequence(node: Node, c: Cutter) -> None:
    """The parts get the sizes that are left of them."""
    x = node.inputs[0]
    shape = c.graph.shape(x)
    if not node.input(1) or shape is None:
        return
    axis = node.attrs.get("axis", 0) % len(shape)
    sizes = split_sizes(c.graph, node)
    if sizes is None or not c.changed(x, axis):
        return
    edges = np.searchsorted(c.keep(x, axis), np.cumsum([0, *sizes]))
    c.want(node, 1, np.diff(edges))


def couple_taker(node: Node, t: Ties) -> None:
    """y is the piece at a constant position; of an optional, the only one; of an Optional tensor, the tensor itself."""
    x, y = node.input(0), node.output(0)
    if x in t.graph.shapes and y in t.graph.shapes:
        t.tie_like(x, y, [(a, a) for a in range(t.rank(y))], 0)
        return
    held = pieces(t.graph, x)
    if y not in t.graph.shapes and held is not None and pieces(t.graph, y) is not None:
        return
    count = len(held or ())
    position = place_of(t.graph, node.input(1), count) if node.op == "SequenceAt" else 0
    if held is None or position is None or position >= count or y not in t.graph.shapes:
        t.freeze_node(node, UNKNOWN.format(node))
        return
    _tie_piece(t, held[position], y)


def _tie_piece(t: Ties, piece: Piece, y: str) -> None:
    rank = t.rank(piece.tensor)
    if piece.axis is None:
        t.tie_like(piece.tensor, y, [(a, a) for a in range(rank)])
        return
    before = range(piece.axis)
    after = range(piece.axis + 1, rank)
    t.tie_like(piece.tensor, y, [(a, a) for a in before] + [(a, a - piece.squeezed) for a in after])
    taken = t.el(piece.tensor, piece.axis)[piece.start : piece.end]
    if piece.squeezed:
        t.freeze_ids(taken, f"{t.node} picks it by its position")
    else:
        t.tie_ids(taken, t.el(y, piece.axis))


def couple_concat_from_sequence(node: Node, t: Ties) -> None:
    """The pieces end to end along ``axis``, or stacked on a new one."""
    y = node.output(0)
    held = pieces(t.graph, node.input(0))
    if held is None or y not in t.graph.shapes:
        t.freeze_node(node, UNKNOWN.format(node))
        return
    axis = node.attrs["axis"] % t.rank(y)
    stacked = bool(node.attrs.get("new_axis", 0))
    joined, offset = t.el(y, axis), 0
    for piece in held:
        ids = _axes_of(t, piece)
        for a, mine in enumerate(ids):
            target = a + (stacked and a >= axis)
            if target != axis or stacked:
                t.tie_ids(mine, t.el(y, target))
            else:
                t.tie_ids(mine, joined[offset : offset + mine.size])
        offset += 0 if stacked else ids[axis].size
    if stacked:
        t.freeze(y, axis, f"{node} counts elements along it")


def _axes_of(t: Ties, piece: Piece) -> Sequence[np.ndarray[tuple[int, ...], np.dtype[np.int64]]]:
    """Elements per axis of a piece."""
    whole = [t.el(piece.tensor, a) for a in range(t.rank(piece.tensor))]
    if piece.axis is None:
        return whole
    part = [whole[piece.axis][piece.start : piece.end]]
    if piece.squeezed:
        t.freeze_ids(part[0], f"{t.node} picks it by its position")
        part = []
    return [*whole[: piece.axis], *part, *whole[piece.axis + 1 :]]


def couple_question(node: Node, t: Ties) -> None:
    """The answer is one number, and says nothing about axes."""


def expand_taker(node: Node, t: Tape) -> Values:
    """An element is a tensor or a slice of one: no gradient has to pass through the sequence."""
    x, y = node.input(0), t.output(node)
    held = pieces(t.graph, x)
    if held is None and t.graph.producer.get(x, node).op not in HOLDS and x in t.graph.shapes:
        return (t.tensor(x),)  # a tensor where an optional could be
    position = place_of(t.graph, node.input(1), len(held or ())) if node.op == "SequenceAt" else 0
    if not held or position is None or position >= len(held) or y.sizes is None:
        return (y,)
    element = _element(held[position], t)
    return (y if element is None else element,)


def expand_concat_from_sequence(node: Node, t: Tape) -> Values:
    """The pieces end to end, or stacked on a new axis."""
    y = t.output(node)
    elements = [_element(piece, t) for piece in pieces(t.graph, node.input(0)) or ()]
    parts = [element for element in elements if element is not None]
    if not parts or len(parts) < len(elements) or y.sizes is None:
        return (y,)
    axis = int(node.attrs["axis"]) % y.rank
    if node.attrs.get("new_axis", 0):
        parts = [t.unsqueeze(part, [axis]) for part in parts]
    return (t.op("Identity", parts[0], sizes=y.sizes) if len(parts) == 1 else t.concat(parts, axis),)


def _element(piece: Piece, t: Tape) -> Value | None:
    """None where the axis that was split is dynamic: then nobody knows which pieces there are."""
    whole = t.tensor(piece.tensor)
    if piece.axis is None:
        return whole
    if whole.sizes is None or whole.sizes[piece.axis] < 0:
        return None
    part = t.slice(whole, piece.axis, piece.start, piece.end)
    return t.squeeze(part, [piece.axis]) if piece.squeezed else part


def vjp_maker(node: Node, t: Tape) -> Values:
    """Reached only where a gradient would have to come out of the sequence itself. Raises UnsupportedModel."""
    raise UnsupportedModel(
        f"{node} makes a sequence, and gradients cannot be followed out of `{node.output(0)}`",
        "Only what is taken out of it at constant positions can be differentiated; ask for gradients of later tensors.",
    )


PASS, INDEX = Role.PASS, Role.INDEX
RULES = (
    Rule("SplitToSequence", couple_split_to_sequence, (PASS, Role.SHAPE), zero_lost, cut_split_to_sequence,
         shapeless=True, vjp=vjp_maker),
    Rule("SequenceConstruct", couple_maker, (PASS,), zero_lost, shapeless=True, vjp=vjp_maker),
    Rule("Optional", couple_maker, (PASS,), zero_lost, shapeless=True, vjp=vjp_maker),
    Rule("SequenceEmpty", couple_maker, (INDEX,), zero_lost, shapeless=True, vjp=vjp_maker),
    Rule("SequenceInsert", couple_maker, (PASS, PASS, INDEX), zero_lost, shapeless=True, vjp=vjp_maker),
    Rule("SequenceErase", couple_maker, (PASS, INDEX), zero_lost, shapeless=True, vjp=vjp_maker),
    Rule("SequenceAt", couple_taker, (PASS, INDEX), zero_keeps, shapeless=True, expand=expand_taker),
    Rule("OptionalGetElement", couple_taker, (PASS,), zero_keeps, shapeless=True, expand=expand_taker),
    Rule("ConcatFromSequence", couple_concat_from_sequence, (PASS,), zero_keeps, shapeless=True,
         expand=expand_concat_from_sequence),
    *(
        Rule(op, couple_question, (Role.SHAPE,), zero_lost, shapeless=True, flat=True)
        for op in ("SequenceLength", "OptionalHasElement")
    ),
    Rule("SequenceMap", stays("its body runs on sequences"), (Role.DATA,), zero_lost, shapeless=True),
)  # fmt: skip
