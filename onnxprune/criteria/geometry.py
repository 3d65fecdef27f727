"""FPGM: how far a unit is from the others of its group.

With p(u) the vector of all parameters of unit u (its slices, one after the other)::

    fpgm(u) = sum over the units v of the group of ||p(u) - p(v)||        (normalised: divided by the group's units)

A unit near the geometric median of its group scores lowest: the others can stand in for it. He et al.,
arXiv:1811.00250, where a filter is what produces its channel alone: ``sides="producing"``.

Distances come from inner products, ``||p - q||^2 = p.p + q.q - 2 p.q``, of vectors from which the group's mean was
taken off (which leaves distances as they are and keeps the difference from being lost in rounding), added up over
stretches of the parameters in float64; units are taken so many at a time that the table of inner products stays below
64 MB.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.criteria.base import Criterion, Settings, UnitScores
from onnxprune.criteria.slices import blocks, broken, real_array, scored_members
from onnxprune.graph import Graph
from onnxprune.model import Model
from onnxprune.values import Coupling, Group, Member

__all__ = ["CRITERIA"]

Array = NDArray[Any]
Floats = NDArray[np.float64]

TABLE = 1 << 23  # inner products at once: 64 MB
STRETCH = 1 << 21  # parameters at once: 16 MB


def fpgm_of_units(model: Model, coupling: Coupling, settings: Settings) -> UnitScores:
    """Sum of the distances of every unit to the others of its group."""
    graph: Graph = coupling.graph
    by_tensor = scored_members(coupling, settings.sides)
    members: list[list[Member]] = [[] for _ in coupling.groups]
    for found in by_tensor.values():
        for number, member in found:
            members[number].append(member)
    result = {}
    for number, group in enumerate(coupling.groups):
        if settings.progress:
            settings.progress("comparing units", number, len(coupling.groups))
        total = _distances(model, graph, group, members[number])
        result[group.name] = total / group.units if settings.normalise else total
    return UnitScores(result, warnings=broken(model, graph, by_tensor))


def _distances(model: Model, graph: Graph, group: Group, members: list[Member]) -> Floats:
    step = max(1, TABLE // group.units)
    norms, total = np.zeros(group.units), np.zeros(group.units)
    infinite = np.zeros(group.units, np.bool_)
    for start in range(0, group.units, step):
        rows = slice(start, min(start + step, group.units))
        products = np.zeros((rows.stop - start, group.units))
        for vectors in _stretches(model, graph, group.units, members, infinite):
            products += vectors[rows] @ vectors.T
            if start == 0:
                norms += np.einsum("ij,ij->i", vectors, vectors)
        products *= -2
        products += norms[rows, None]
        products += norms
        products[np.arange(rows.stop - start), np.arange(start, rows.stop)] = 0
        total[rows] = np.sqrt(np.maximum(products, 0)).sum(axis=1)
    total[infinite] = np.inf
    return total


def _stretches(
    model: Model, graph: Graph, units: int, members: list[Member], infinite: NDArray[np.bool_]
) -> Iterator[Floats]:
    """Parameters of all units, (units, some of them), centred, NaN and Inf as 0; marks the units that have an Inf."""
    for member in members:
        slices = _slices(real_array(model, graph, member.tensor), member)
        block = np.zeros_like(member.index) if member.block is None else member.block
        for mine in _one_of_each(member.unit):
            for place in blocks(slices.shape[2:], max(1, STRETCH // units)):
                found = slices[(slice(None), slice(None), *place)][block[mine], member.index[mine]]
                found = found.reshape(mine.size, -1).astype(np.float64)
                infinite[member.unit[mine]] |= np.isinf(found).any(axis=1)
                part = np.zeros((units, found.shape[1]))
                part[member.unit[mine]] = np.where(np.isfinite(found), found, 0)
                yield part - part.mean(axis=0)


def _slices(values: Array, member: Member) -> Array:
    """(blocks, positions, ...): a view of the constant with the slice of every position of the member."""
    if member.along is None:
        return np.moveaxis(values, member.axis, 0)[None, ..., None]
    split = values.reshape(*values.shape[: member.along], member.blocks, -1, *values.shape[member.along + 1 :])
    axis = member.axis + (member.axis > member.along)
    return np.moveaxis(split, (member.along, axis), (0, 1))


def _one_of_each(unit: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Positions of the first entry of every unit, then of the second of those that have one, and so on."""
    order = np.argsort(unit, kind="stable")
    counts = np.bincount(unit)
    rank = np.arange(unit.size) - np.repeat(np.cumsum(counts) - counts, counts)
    for k in range(int(counts.max(initial=0))):
        yield order[rank == k]


CRITERIA = (
    Criterion(
        "fpgm",
        "sum of the distances between the unit's parameters and those of the other units of its group (normalised: "
        "their mean)",
        fpgm_of_units,
        paper="arXiv:1811.00250",
        cost="units^2 x parameters of a unit, per group",
    ),
)
