"""The head axis of fused attention: hidden = heads x dims, as virtual axes that every tensor of a node shares.

Units are whole heads by default, whole key/value groups where several query heads read one key head. With
``attention="dims"`` they are dimensions inside the heads, the same ones in every head. Which it is, the solver
decides, as it does behind a Reshape.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from onnxprune.graph import Node
from onnxprune.ops.cutting import Cutter
from onnxprune.ops.ties import Ties
from onnxprune.values import Ints

__all__ = ["Heads", "keep_scale", "left", "place", "positions", "tie_head_axis", "tie_past"]

RULES = ()
POSITIONS = "positions attend to each other"


@dataclass(frozen=True, eq=False)
class Heads:
    """Virtual axes. ``groups``: key/value heads; ``repeat``: query heads of each, None for one.

    ``dims`` of q, ``keys`` of k and ``values`` of v are inside a head. Those of q and k are the same thing, but where
    the scores are summed over them it is enough that one of the two is zero.
    """

    groups: Ints
    repeat: Ints | None
    dims: Ints
    keys: Ints
    values: Ints

    @property
    def query(self) -> tuple[Ints, ...]:
        """The factors of the query heads."""
        return (self.groups,) if self.repeat is None else (self.groups, self.repeat)

    @property
    def key(self) -> tuple[Ints, ...]:
        return (self.groups,)

    @classmethod
    def declare(cls, t: Ties, groups: int, queries: int, dims: int, values: int | None = None) -> Heads:
        """New virtual axes; without ``values`` those of v are those of q and k."""
        repeat = t.virtual(queries // groups) if queries > groups else None
        if repeat is not None:
            t.freeze_ids(repeat, "query heads that share a key head stay together")
        h = cls(t.virtual(groups), repeat, t.virtual(dims), t.virtual(dims), t.virtual(values or dims))
        t.tie_ids(h.dims, h.keys, None)
        if values is None:
            t.tie_ids(h.dims, h.values, None)
        return h


def place(t: Ties, tensor: str, heads: Sequence[Ints], dims: Ints, *, into: bool, k: int = -1) -> None:
    """The tensor is (batch, positions, heads x dims) or (batch, heads, positions, dims)."""
    positions(t, tensor)
    if t.rank(tensor) == 3:
        t.attends.add((tensor, 2))
        t.merge(t.el(tensor, 2), [*heads, dims], into=into, last=True)
        return
    tie_head_axis(t, tensor, 1, heads, into=into, k=k)
    _flow(t, t.el(tensor, 3), dims, into=into, k=k)


def tie_head_axis(t: Ties, tensor: str, axis: int, heads: Sequence[Ints], *, into: bool, k: int = -1) -> None:
    """One axis that counts heads; an axis of size 1 serves all heads alike."""
    if (t.shape(tensor) or ())[axis] == 1:
        return
    ids = t.el(tensor, axis)
    if len(heads) == 1:
        _flow(t, ids, heads[0], into=into, k=k)
    else:
        t.merge(ids, heads, into=into, last=False)


def _flow(t: Ties, ids: Ints, factor: Ints, *, into: bool, k: int) -> None:
    if into:
        t.tie_ids(factor, ids, k)
    else:
        t.tie_ids(ids, factor, k)


def positions(t: Ties, tensor: str) -> None:
    """The batch and the axis of positions stay."""
    t.freeze(tensor, 0, "samples of a batch stay together")
    t.freeze(tensor, 1 if t.rank(tensor) != 4 else 2, POSITIONS)


def tie_past(t: Ties, tensor: str, heads: Heads, dims: Ints, *, into: bool, k: int = -1) -> None:
    """A cache (batch, key heads, positions, dims), where the node has it."""
    if tensor and t.shape(tensor) is not None:
        place(t, tensor, heads.key, dims, into=into, k=k)


def left(c: Cutter, tensor: str, axis: int, sizes: Sequence[int], start: int = 0) -> tuple[int, ...]:
    """How much is left of every factor of the stretch [start, start + product of sizes) of an axis."""
    kept = c.keep(tensor, axis) - start
    kept = kept[(kept >= 0) & (kept < prod(sizes))]
    return tuple(int(np.unique(i).size) for i in np.unravel_index(kept, tuple(sizes)))


def keep_scale(node: Node, c: Cutter, old: int, new: int) -> None:
    """Scores keep the factor 1 / sqrt(old head size), which is the default only while the head size stays."""
    if new != old and not node.attrs.get("scale"):
        c.set_attr(node, "scale", float(1 / np.sqrt(np.float32(old))))
