"""The values that all layers share: frozen, built of tuples and read-only arrays.

The words are those of ``docs/architecture.md``: an *element* is one index of one axis of one tensor, a *unit*
is a connected component of elements, a *group* is all units that live on the same set of tensor axes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Axis", "Coupling", "EqualCount", "Frozen", "Group", "Ints", "Member", "Options"]

Ints = NDArray[np.int64]


@dataclass(frozen=True, order=True)
class Axis:
    """One axis of one tensor."""

    tensor: str
    axis: int

    def __str__(self) -> str:
        return f"{self.tensor}[{self.axis}]"


@dataclass(frozen=True)
class Frozen:
    """What may not be removed, and why, in words for a person."""

    tensor: str
    axis: int
    reason: str


@dataclass(frozen=True, eq=False)
class Member:
    """Where the units of a group live on one axis of one tensor.

    Position ``index[i]`` of the axis belongs to unit ``unit[i]`` of the group. On a *ragged* axis (grouped
    convolution, both directions of a recurrence) the position is ``index[i]`` inside block ``block[i]``, where
    axis ``along`` of the same tensor is cut into ``blocks`` equal parts.

    ``weight``: the tensor is a constant of the model. ``linear``: its slices are zeroed, counted and scored (a
    weight, bias or scale; not a variance, bound or index). ``consumes``: the slice reads the unit (an input slice
    of a convolution) instead of producing it.
    """

    tensor: str
    axis: int
    index: Ints
    unit: Ints
    block: Ints | None = None
    along: int | None = None
    blocks: int = 1
    weight: bool = False
    linear: bool = False
    consumes: bool = False


@dataclass(frozen=True, eq=False)
class Group:
    """All units that live on the same set of tensor axes.

    ``channels`` is the number of positions that one unit takes on the group's first axis (64 for a whole
    attention head of size 64), ``kind`` is the word to show ("filters", "neurons", "heads", "cells", ...).
    ``exact``: removing a unit gives the same outputs as zeroing it. ``hazard``: zeroing what produces the unit
    would make NaN (0/0), so only the consuming side is zeroed.
    """

    name: str
    units: int
    members: tuple[Member, ...]
    exact: bool = True
    kind: str = "channels"
    channels: int = 1
    hazard: bool = False
    note: str = ""

    @property
    def axes(self) -> tuple[Axis, ...]:
        return tuple(dict.fromkeys(Axis(m.tensor, m.axis) for m in self.members))

    @property
    def weights(self) -> tuple[Member, ...]:
        """The members on constants of the model."""
        return tuple(m for m in self.members if m.weight)


@dataclass(frozen=True, eq=False)
class EqualCount:
    """Every block must lose the same number of elements.

    ``blocks[b]`` is an array of shape (elements, 2): rows (group number, unit number), a unit as often as it has
    elements in the block. ``reason`` says which node asks for it.
    """

    blocks: tuple[Ints, ...]
    reason: str


@dataclass(frozen=True)
class Options:
    """What the groups of a model depend on; recorded in every plan."""

    include_inexact: bool = False
    attention: str = "heads"  # or "dims"
    norm_groups: str = "whole"  # or "within"
    allow_io: tuple[str, ...] = ()  # "NAME" or "NAME:AXIS"
    shapes: tuple[tuple[str, tuple[int, ...]], ...] = ()


@dataclass(frozen=True, eq=False)
class Coupling:
    """Everything that the coupling analysis found out about one model.

    ``shapes``: concrete shape per tensor name, dynamic dimensions replaced by distinct primes.
    """

    model_hash: str
    groups: tuple[Group, ...]
    frozen: tuple[Frozen, ...]
    unknown_ops: Mapping[str, int]  # "domain.Op" -> number of nodes
    constraints: tuple[EqualCount, ...]
    options: Options
    shapes: Mapping[str, tuple[int, ...]] = field(repr=False)
    graph: Any = field(default=None, repr=False)  # the `graph.Graph` that the groups speak of

    @cached_property
    def by_name(self) -> dict[str, int]:
        """Group name -> group number."""
        return {g.name: i for i, g in enumerate(self.groups)}

    @property
    def units(self) -> int:
        """Number of units in all groups."""
        return sum(g.units for g in self.groups)
