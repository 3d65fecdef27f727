"""Parameter slices of units as numbers: one pass over each tensor, one reduction for each of its axes.

A *slice* is what one position of one member selects: all entries of the tensor at that index of that axis (inside
its block, on a ragged axis). A unit's slices are those of all its positions on linear constants; an entry where two
slices of a unit cross counts in each.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.graph import Graph
from onnxprune.model import Model
from onnxprune.stored import is_float, is_quantised, numbers_per_entry, real_values
from onnxprune.values import Coupling, Group, Member
from onnxprune.weights import Weight
from onnxprune.zeros import weight_role

__all__ = ["finite_values", "linear_weights", "positions", "scored_members", "weight_of"]

Array = NDArray[Any]
Floats = NDArray[np.float64]


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


def positions(values: Array, member: Member, reduce: Callable[..., Array]) -> Array:
    """``reduce`` (np.add.reduce, np.maximum.reduce) over the slice of every position of the member."""
    if member.block is None or member.along is None:
        others = tuple(a for a in range(values.ndim) if a != member.axis)
        return _reduced(values, others, reduce)[member.index]
    others = tuple(a for a in range(values.ndim) if a not in (member.axis, member.along))
    table = _reduced(values, others, reduce)
    if member.along > member.axis:
        table = table.T
    blocks = _reduced(table.reshape(member.blocks, -1, table.shape[1]), (1,), reduce)
    return np.asarray(blocks[member.block, member.index])


def _reduced(values: Array, axes: tuple[int, ...], reduce: Callable[..., Array]) -> Array:
    return np.asarray(reduce(values, axis=axes, dtype=np.float64) if axes else values.astype(np.float64))


def finite_values(graph: Graph, tensor: str, stored: Array) -> tuple[Array, int]:
    """The real values with NaN replaced by 0 (Inf stays), and how many were not finite."""
    values = real_values(graph, tensor, stored)
    bad = values.size - int(np.count_nonzero(np.isfinite(values)))
    return (np.nan_to_num(values, nan=0.0, posinf=np.inf, neginf=-np.inf), bad) if bad else (values, 0)
