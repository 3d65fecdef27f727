"""ONNX bytes without their bulk: the protobuf wire format is walked, not parsed.

A message is a sequence of fields, each a key ``number << 3 | kind`` and a value; kind 2 (a length, then that many
bytes) holds strings, sub-messages and packed arrays. The walk goes to the tensors of the main graph only,

    ModelProto.graph (7) -> GraphProto.initializer (5)                                -> TensorProto
    ModelProto.graph (7) -> GraphProto.node (1) -> attribute (5) "value" -> t (5)     -> TensorProto   of Constant

and jumps over everything else, so that a memory-mapped file of any size costs a few pages. ``slim`` takes the data
out of those tensors and leaves a *marker* there (an external-data entry that names nothing, with the position of the
bytes); ``splice`` puts data back. Both only replace byte ranges and correct the lengths around them.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from dataclasses import field as default
from typing import NamedTuple

__all__ = ["INLINE_LIMIT", "MARKER", "Chunk", "Filled", "WireError", "encode_field", "fill", "slim"]

INLINE_LIMIT = 1024  # tensors up to this many bytes stay inside the parsed proto
MARKER = "onnxprune.elsewhere"

Buffer = bytes | memoryview | mmap.mmap
Chunk = bytes | memoryview

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
FLOAT, DOUBLE = 1, 11  # TensorProto.DataType
NAME, RAW, EXTERNAL, LOCATION = 8, 9, 13, 14  # fields of TensorProto


class WireError(ValueError):
    """The bytes are not the wire format of a protobuf message, or end too early."""


class Field(NamedTuple):
    """One field of a message: the key begins at ``key``, the value is ``start:end``."""

    number: int
    kind: int
    key: int
    start: int
    end: int
    value: int = 0  # of a varint


@dataclass(eq=False)
class Span:
    """A message inside others, of which some bytes are to be replaced."""

    field: Field
    parts: list[Span | Edit] = default(default_factory=list)


@dataclass(frozen=True, eq=False)
class Edit:
    """Replace ``start:end`` by ``size`` bytes, which ``chunks`` makes when they are wanted."""

    start: int
    end: int
    size: int
    chunks: Callable[[], Iterable[Chunk]]


@dataclass(frozen=True, eq=False)
class Filled:
    """A spliced message: its exact size, and its bytes piece by piece."""

    size: int
    chunks: Iterator[Chunk]


@dataclass(frozen=True)
class TensorAt:
    """A tensor found by the walk. ``owner`` is the name by which the graph knows it."""

    owner: str
    path: tuple[Field, ...]  # the messages around it, outermost first, itself last
    fields: tuple[Field, ...]


def slim(buffer: Buffer) -> bytes:
    """The bytes of a ModelProto with the data of large tensors replaced by markers into ``buffer``.

    Raises WireError when a length does not fit.
    """
    edits = []
    for tensor in _tensors(buffer, lambda item: item.end - item.start > INLINE_LIMIT):
        bulk = _bulk(tensor.fields)
        if bulk is not None and bulk.end - bulk.start > INLINE_LIMIT:
            # a location of "here", written out, would overrule the marker's
            gone = [_constant_edit(f, b"") for f in tensor.fields if f.number in (EXTERNAL, LOCATION)]
            marker = _constant_edit(bulk, _marker(bulk.start, bulk.end - bulk.start))
            edits.append((tensor.path, sorted([marker, *gone], key=lambda edit: edit.start)))
    return b"".join(_splice(buffer, edits).chunks)


def fill(buffer: bytes, size_of: Callable[[str], int], data_of: Callable[[str], Iterable[Chunk]]) -> Filled:
    """A serialised ModelProto in which every tensor with a marker gets its bytes as raw_data.

    ``size_of(name)`` is called for all such tensors at once, ``data_of(name)`` one by one while the chunks are used.
    """
    edits, marker = [], MARKER.encode()
    for tensor in _tensors(buffer, lambda item: buffer.find(marker, item.start, item.end) >= 0):
        if any(f.number == LOCATION and f.value == 1 for f in tensor.fields):
            gone = [_constant_edit(f, b"") for f in tensor.fields if f.number in (EXTERNAL, LOCATION)]
            edits.append((tensor.path, [*gone, _raw_edit(tensor, size_of, data_of)]))
    return _splice(buffer, edits)


def encode_field(number: int, value: bytes | int) -> bytes:
    """One field on the wire."""
    if isinstance(value, int):
        return _varint(number << 3 | VARINT) + _varint(value)
    return _varint(number << 3 | BYTES) + _varint(len(value)) + value


def _tensors(buffer: Buffer, wanted: Callable[[Field], bool]) -> Iterator[TensorAt]:
    """The main graph's initializers and Constant values, in the initializers and nodes that are ``wanted``."""
    for graph in _messages(buffer, 0, len(buffer), 7):
        for item in _fields(buffer, graph.start, graph.end):
            if item.kind != BYTES or item.number not in (1, 5) or not wanted(item):
                continue
            if item.number == 1:
                yield from _constant(buffer, graph, item)
            else:
                fields = tuple(_fields(buffer, item.start, item.end))
                yield TensorAt(_text(buffer, fields, NAME), (graph, item), fields)


def _constant(buffer: Buffer, graph: Field, node: Field) -> Iterator[TensorAt]:
    """The ``value`` of a Constant node; nothing for every other node."""
    parts = tuple(_fields(buffer, node.start, node.end))
    if _text(buffer, parts, 4) != "Constant" or _text(buffer, parts, 7) not in ("", "ai.onnx"):
        return
    for attribute in (p for p in parts if p.number == 5 and p.kind == BYTES):
        inner = tuple(_fields(buffer, attribute.start, attribute.end))
        if _text(buffer, inner, 1) == "value":
            for tensor in (f for f in inner if f.number == 5 and f.kind == BYTES):
                fields = tuple(_fields(buffer, tensor.start, tensor.end))
                yield TensorAt(_text(buffer, parts, 2), (graph, node, attribute, tensor), fields)


def _bulk(fields: Sequence[Field]) -> Field | None:
    """The field that holds all data of a tensor as little-endian bytes: raw_data, or packed float or double data."""
    kind = next((f.value for f in fields if f.number == 2), 0)
    numbers = {RAW} | ({4} if kind == FLOAT else set()) | ({10} if kind == DOUBLE else set())
    found = [f for f in fields if f.number in numbers]
    external = any(f.number == LOCATION and f.value == 1 for f in fields)
    return found[0] if len(found) == 1 and found[0].kind == BYTES and not external else None


def _marker(offset: int, length: int) -> bytes:
    entries = (("location", MARKER), ("offset", str(offset)), ("length", str(length)))
    pairs = (encode_field(1, key.encode()) + encode_field(2, value.encode()) for key, value in entries)
    return b"".join(encode_field(EXTERNAL, pair) for pair in pairs) + encode_field(LOCATION, 1)


def _constant_edit(at: Field, replacement: bytes) -> Edit:
    return Edit(at.key, at.end, len(replacement), lambda: (replacement,))


def _raw_edit(tensor: TensorAt, size_of: Callable[[str], int], data_of: Callable[[str], Iterable[Chunk]]) -> Edit:
    size, end = size_of(tensor.owner), tensor.path[-1].end
    head = _varint(RAW << 3 | BYTES) + _varint(size)

    def chunks() -> Iterator[Chunk]:
        yield head
        yield from data_of(tensor.owner)

    return Edit(end, end, len(head) + size, chunks)


def _splice(buffer: Buffer, edits: Iterable[tuple[tuple[Field, ...], list[Edit]]]) -> Filled:
    root = Span(Field(0, BYTES, 0, 0, len(buffer)))
    spans: dict[int, Span] = {}
    for path, parts in edits:
        above = root
        for at in path:
            if at.key not in spans:
                spans[at.key] = Span(at)
                above.parts.append(spans[at.key])
            above = spans[at.key]
        above.parts.extend(parts)
    flat: list[Edit] = []
    size = _flatten(root, flat)
    return Filled(size, _pieces(buffer, flat))


def _flatten(span: Span, out: list[Edit]) -> int:
    """All replacements in order of position, corrected lengths included; returns the new size of the content."""
    size = span.field.end - span.field.start
    for part in span.parts:
        if isinstance(part, Edit):
            out.append(part)
            size += part.size - (part.end - part.start)
            continue
        place = len(out)
        inner = _flatten(part, out)
        head = _varint(part.field.number << 3 | BYTES) + _varint(inner)
        out.insert(place, Edit(part.field.key, part.field.start, len(head), lambda head=head: (head,)))  # type: ignore[misc]
        size += inner + len(head) - (part.field.end - part.field.key)
    return size


def _pieces(buffer: Buffer, edits: Iterable[Edit]) -> Iterator[Chunk]:
    at = 0
    for edit in edits:
        yield buffer[at : edit.start]
        yield from edit.chunks()
        at = edit.end
    yield buffer[at:]


def _messages(buffer: Buffer, start: int, end: int, number: int) -> Iterator[Field]:
    return (f for f in _fields(buffer, start, end) if f.number == number and f.kind == BYTES)


def _text(buffer: Buffer, fields: Iterable[Field], number: int) -> str:
    """The first string field of that number, "" where there is none."""
    for f in fields:
        if f.number == number and f.kind == BYTES:
            return bytes(buffer[f.start : f.end]).decode("utf-8", "replace")
    return ""


def _fields(buffer: Buffer, start: int, end: int) -> Iterator[Field]:
    at = start
    while at < end:
        key, after = _read_varint(buffer, at, end)
        number, kind = key >> 3, key & 7
        value, first, stop = 0, after, after
        if kind == VARINT:
            value, stop = _read_varint(buffer, after, end)
        elif kind == BYTES:
            length, first = _read_varint(buffer, after, end)
            stop = first + length
        elif kind in (FIXED32, FIXED64):
            stop = after + (4 if kind == FIXED32 else 8)
        else:
            raise WireError(f"byte {at} does not begin a protobuf field")
        if not number:
            raise WireError(f"byte {at} does not begin a protobuf field")
        if stop > end:
            raise WireError(f"the field at byte {at} runs to byte {stop}, but there are only {end}")
        yield Field(number, kind, at, first, stop, value)
        at = stop


def _read_varint(buffer: Buffer, at: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while at < end and shift < 70:
        byte = buffer[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
        shift += 7
    raise WireError(f"a number ends too early at byte {at}")


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
