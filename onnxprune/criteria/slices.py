"""Parameter slices of units as numbers: one pass over each tensor, one table for each of its axes.

A *slice* is what one position of one member selects: all entries of the tensor at that index of that axis (inside
its block, on a ragged axis). A unit's slices are those of all its positions on linear constants; an entry where two
slices of a unit cross counts in each. Constants are looked at in stretches that fit into the cache, so that no
intermediate result is as large as a constant.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.graph import Graph
from onnxprune.model import Model
from onnxprune.stored import is_float, is_quantised, numbers_per_entry, real_values
from onnxprune.values import Coupling, Group, Member
from onnxprune.weights import Weight
from onnxprune.zeros import weight_role

__all__ = [
    "PIECE",
    "Place",
    "axes_of",
    "blocks",
    "broken",
    "count_broken",
    "linear_weights",
    "pieces_of",
    "positions",
    "real_array",
    "scored_members",
    "slice_size",
    "tables",
    "weight_of",
]

Array = NDArray[Any]
Floats = NDArray[np.float64]
Place = tuple[slice, ...]

PIECE = 1 << 18  # elements looked at in one go: 1 MB of float32


def weight_of(model: Model, graph: Graph, tensor: str) -> Weight:
    """The constant as ``model`` has it now, the analysis view's own where it is inside a body."""
    return model.weights.get(graph.origin.get(tensor, tensor), graph.weights[tensor])


def linear_weights(graph: Graph) -> tuple[str, ...]:
    """Names of the constants that have the linear role and an axis, and can be zeroed entry by entry."""
    return tuple(
        t
        for t, w in graph.weights.items()
        if w.shape
        and weight_role(graph, t).linear
        and (is_float(w) or is_quantised(graph, t))
        and numbers_per_entry(graph, t) == 1
    )


def scored_members(coupling: Coupling, sides: str) -> dict[str, list[tuple[int, Member]]]:
    """Tensor -> (group number, member) of all linear slices that count.

    With ``sides="producing"`` those that read the unit are left out, unless the group has no others.
    """
    result: dict[str, list[tuple[int, Member]]] = defaultdict(list)
    for number, group in enumerate(coupling.groups):
        for member in _members(group, sides):
            result[member.tensor].append((number, member))
    return dict(result)


def _members(group: Group, sides: str) -> list[Member]:
    linear = [m for m in group.weights if m.linear]
    producing = [m for m in linear if not m.consumes]
    return producing if sides == "producing" and producing else linear


def blocks(shape: Sequence[int], limit: int = PIECE) -> Iterator[Place]:
    """Cut an array into consecutive stretches (in C order) of at most ``limit`` elements, one slice per axis."""
    if 0 in shape:
        return
    axis = next(a for a in range(len(shape)) if prod(shape[a + 1 :]) <= limit)
    step = max(1, limit // prod(shape[axis + 1 :]))
    rest = (slice(None),) * (len(shape) - axis - 1)
    for lead in np.ndindex(*shape[:axis]):
        before = tuple(slice(i, i + 1) for i in lead)
        for start in range(0, shape[axis], step):
            yield (*before, slice(start, min(start + step, shape[axis])), *rest)


def pieces_of(
    model: Model, graph: Graph, tensor: str, shape: Sequence[int] | None = None
) -> Iterator[tuple[Place, Array]]:
    """The real values of a constant, stretch by stretch, as float32 (float64 stays); NaN is 0, Inf stays.

    ``shape``: seen in this shape, of as many elements.
    """
    for place, piece in _raw_pieces(model, graph, tensor, shape):
        yield place, piece if np.isfinite(piece).all() else np.nan_to_num(piece, nan=0.0, posinf=np.inf, neginf=-np.inf)


def real_array(model: Model, graph: Graph, tensor: str) -> Array:
    """The real values of a constant as they are, all at once; the stored array itself where that is possible."""
    return real_values(graph, tensor, weight_of(model, graph, tensor).array())


def _raw_pieces(
    model: Model, graph: Graph, tensor: str, shape: Sequence[int] | None = None
) -> Iterator[tuple[Place, Array]]:
    stored = weight_of(model, graph, tensor).array()
    whole = is_quantised(graph, tensor)  # scales and packing speak of the whole tensor
    values = real_values(graph, tensor, stored) if whole else stored
    values = values if shape is None else values.reshape(shape)
    for place in blocks(values.shape):
        yield place, values[place] if whole else real_values(graph, tensor, values[place])


def count_broken(model: Model, graph: Graph, tensor: str) -> int:
    """How many entries of a constant are NaN or Inf."""
    pieces = (np.isfinite(piece) for _, piece in _raw_pieces(model, graph, tensor))
    return sum(0 if good.all() else good.size - int(np.count_nonzero(good)) for good in pieces)


def broken(model: Model, graph: Graph, tensors: Iterable[str]) -> tuple[str, ...]:
    """The warnings about constants with NaN or Inf in them."""
    counts = {tensor: count_broken(model, graph, tensor) for tensor in tensors}
    return tuple(
        f"weight `{tensor}` has {count} entries that are NaN or Inf (NaN is scored as 0)"
        for tensor, count in counts.items()
        if count
    )


def axes_of(member: Member) -> tuple[int, ...]:
    """The axes that a table must keep for `positions` of the member."""
    return (member.axis,) if member.along is None else tuple(sorted((member.axis, member.along)))


def tables(
    pieces: Iterable[tuple[Place, Array]], shape: Sequence[int], keep: Iterable[tuple[int, ...]], collect: np.ufunc
) -> dict[tuple[int, ...], Floats]:
    """For each set of axes the reduction over all others, float64; ``collect``: np.add or np.maximum (of values >= 0).

    ``pieces``: of an array of this shape, each with its place.
    """
    found = {axes: np.zeros([shape[a] for a in axes]) for axes in keep}
    for place, piece in pieces:
        for axes, table in found.items():
            others = tuple(a for a in range(len(shape)) if a not in axes)
            part = collect.reduce(piece, axis=others, dtype=np.float64) if others else piece.astype(np.float64)
            mine = table[tuple(place[a] for a in axes)]
            collect(mine, part, out=mine)
    return found


def positions(table: Floats, member: Member, collect: np.ufunc) -> Floats:
    """One number for every position of the member: of its slice, from the table over `axes_of` the member."""
    if member.block is None or member.along is None:
        return np.asarray(table[member.index])
    if member.along > member.axis:
        table = table.T
    per_block = collect.reduce(table.reshape(member.blocks, -1, table.shape[1]), axis=1)
    return np.asarray(per_block[member.block, member.index])


def slice_size(shape: Sequence[int], member: Member) -> float:
    """Entries in the slice of one position of the member, on a constant of this shape."""
    return prod(shape) / (shape[member.axis] * member.blocks)
