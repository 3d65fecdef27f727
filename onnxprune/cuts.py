"""What a plan takes from every axis of every tensor, and how arrays are cut or zeroed accordingly."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.values import Coupling, Ints, Member

__all__ = ["AxisCut", "Cuts", "cut_array", "cuts_of", "member_mask", "zero_slices"]

Bools = NDArray[np.bool_]
Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class AxisCut:
    """Removed positions of one axis: shape (size,), or (blocks, size) on an axis that is ragged ``along`` another."""

    removed: Bools
    along: int | None = None

    @property
    def lost(self) -> int:
        """Positions that go, per block."""
        return int(self.removed.reshape(-1, self.removed.shape[-1])[0].sum())

    @property
    def keep(self) -> Ints:
        """Old positions that stay (of the first block, where ragged)."""
        return np.flatnonzero(~self.removed.reshape(-1, self.removed.shape[-1])[0])


Cuts = Mapping[str, Mapping[int, AxisCut]]


def cuts_of(
    coupling: Coupling, units: Mapping[str, Ints], only: Callable[[Member], bool] | None = None
) -> dict[str, dict[int, AxisCut]]:
    """Per tensor and axis what the removal of ``units`` (group name -> unit numbers) takes away."""
    result: dict[str, dict[int, AxisCut]] = {}
    for name, removed in units.items():
        group = coupling.groups[coupling.by_name[name]]
        gone = np.zeros(group.units, np.bool_)
        gone[np.asarray(removed, np.int64)] = True
        for member in group.members:
            if only is None or only(member):
                add_member(result, coupling.shapes[member.tensor], member, gone[member.unit])
    return result


def add_member(result: dict[str, dict[int, AxisCut]], shape: tuple[int, ...], member: Member, hit: Bools) -> None:
    """Add the positions of a member where ``hit`` to the cuts."""
    axes = result.setdefault(member.tensor, {})
    if member.axis not in axes:
        size = shape[member.axis]
        mask = np.zeros(size if member.block is None else (member.blocks, size), np.bool_)
        axes[member.axis] = AxisCut(mask, member.along)
    removed = axes[member.axis].removed
    if member.block is None:
        removed[member.index[hit]] = True
    else:
        removed[member.block[hit], member.index[hit]] = True


def cut_array(array: Array, cuts: Mapping[int, AxisCut]) -> Array:
    """The array without its removed positions. Ragged axes go first, while their blocks still have full length."""
    for axis, cut in cuts.items():
        if cut.along is not None:
            rows = np.split(np.arange(array.shape[cut.along]), len(cut.removed))
            parts = [
                np.take(np.take(array, block, axis=cut.along), np.flatnonzero(~gone), axis=axis)
                for block, gone in zip(rows, cut.removed, strict=True)
            ]
            array = np.concatenate(parts, axis=cut.along)
    for axis, cut in cuts.items():
        if cut.along is None:
            array = np.take(array, cut.keep, axis=axis)
    return array


def zero_slices(array: Array, cuts: Mapping[int, AxisCut], zero: Array | int = 0) -> Array:
    """A copy with the removed positions set to zero (``zero``: the zero point of a quantised tensor)."""
    result = np.array(array)
    fill = np.broadcast_to(np.asarray(zero).astype(array.dtype), array.shape)
    for gone in masks(array.shape, cuts):
        mask = np.broadcast_to(gone, array.shape)
        result[mask] = fill[mask]
    return result


def masks(shape: tuple[int, ...], cuts: Mapping[int, AxisCut]) -> Iterable[Bools]:
    """One boolean array per cut axis, broadcastable to ``shape``; True = removed."""
    for axis, cut in cuts.items():
        view = [1] * len(shape)
        view[axis] = shape[axis]
        if cut.along is None:
            yield cut.removed.reshape(view)
        else:
            view[cut.along] = shape[cut.along]
            grid = np.repeat(cut.removed, shape[cut.along] // len(cut.removed), axis=0)
            yield (grid if cut.along < axis else grid.T).reshape(view)


def member_mask(shape: tuple[int, ...], member: Member, hit: Bools) -> Bools:
    """Which entries of the constant belong to the units where ``hit`` (per position of the member)."""
    cuts: dict[str, dict[int, AxisCut]] = {}
    add_member(cuts, shape, member, hit)
    return np.array(np.broadcast_to(next(iter(masks(shape, cuts[member.tensor]))), shape))
