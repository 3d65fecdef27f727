"""A number for every channel of a tensor, wherever reshapes have put the channels.

A `Field` says of each axis of a tensor which factors it is the row-major product of, and holds one number per
combination of the factors that matter; a factor that does not matter (batch, space, time) has size 1 in ``values``.
Behind a Flatten of (C, H, W) the axis has the factors C, H, W, and ``values`` still holds C numbers; behind the
Reshape of a hidden axis into heads there are heads x dims of them on two axes, and the way back restores the axis.
So what belongs to a channel is never mixed up with the positions that it is repeated over.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from onnxprune.ops.shape import segments
from onnxprune.values import Ints

__all__ = ["AxisMap", "Field"]

Floats = NDArray[np.float64]
Shape = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class AxisMap:
    """Positions ``source`` of one axis of an input are the positions ``target`` of one axis of an output.

    ``whole``: it is the identity between two axes of one size.
    """

    source_axis: int
    target_axis: int
    source: Ints
    target: Ints
    whole: bool


@dataclass(frozen=True, eq=False)
class Field:
    """``sizes``: per axis its factors; ``values``: one dimension per factor, of its size or 1; float64."""

    sizes: tuple[Shape, ...]
    values: Floats

    @classmethod
    def uniform(cls, shape: Sequence[int], value: float = 1.0) -> Field:
        """The same number everywhere."""
        return cls(tuple((n,) for n in shape), np.full((1,) * len(shape), value))

    @classmethod
    def along(cls, shape: Sequence[int], axes: Sequence[int], table: Floats) -> Field:
        """The table over these axes (in ascending order), the same along all others."""
        dims = tuple(n if a in axes else 1 for a, n in enumerate(shape))
        return cls(tuple((n,) for n in shape), table.reshape(dims))

    @property
    def shape(self) -> Shape:
        return tuple(prod(factors) for factors in self.sizes)

    def varies(self, axis: int) -> bool:
        """Whether the numbers depend on the position on this axis."""
        return max(self.dims(axis), default=1) > 1

    @property
    def varying(self) -> tuple[int, ...]:
        """The axes that the numbers depend on."""
        return tuple(a for a in range(len(self.sizes)) if self.varies(a))

    def table(self, axes: Sequence[int]) -> Floats:
        """Numbers over these axes (ascending), at full size; summed over all others that they depend on."""
        found = self.summed([a for a in self.varying if a not in axes]).plain()
        full = [n if a in axes else 1 for a, n in enumerate(self.shape)]
        return np.broadcast_to(found.values, full).reshape([self.shape[a] for a in axes])

    def summed(self, axes: Sequence[int]) -> Field:
        """Summed over these axes, as far as the numbers depend on them."""
        dims = tuple(d for a in axes for d in self.span(a))
        return Field(self.sizes, self.values.sum(axis=dims, keepdims=True)) if dims else self

    def plain(self, axes: Sequence[int] | None = None) -> Field:
        """With one factor on each of these axes (default: all)."""
        wanted = range(len(self.sizes)) if axes is None else axes
        spread: list[int] = []
        merged: list[int] = []
        sizes: list[Shape] = []
        for axis, factors in enumerate(self.sizes):
            own, one = self.dims(axis), len(factors) == 1 or axis not in wanted
            full = own if one or max(own) == 1 else factors
            spread += full
            merged += full if one else [prod(full)]
            sizes.append(factors if one else (prod(factors),))
        return Field(tuple(sizes), np.broadcast_to(self.values, spread).reshape(merged))

    def transposed(self, perm: Sequence[int]) -> Field:
        """With its axes in another order."""
        order = [d for a in perm for d in self.span(a)]
        return Field(tuple(self.sizes[a] for a in perm), self.values.transpose(order))

    def reshaped(self, shape: Shape) -> Field:
        """The same numbers after a row-major Reshape to ``shape``, which has equally many elements."""
        if 0 in shape:
            return Field.uniform(shape)
        flat = [n for factors in self.sizes for n in factors]
        spread, dims = list(self.values.shape), [[d] for d in self.values.shape]
        sizes: list[Shape] = [(1,)] * len(shape)
        parts: list[list[int]] = [[1] for _ in shape]
        for segment in segments(tuple(flat), shape):
            varies = any(spread[i] > 1 for i, _ in segment.inputs)
            if not segment.atoms:  # no common factors: position by position
                for i, _ in segment.inputs:
                    spread[i] = flat[i] if varies else 1
                for axis, _ in segment.outputs:
                    sizes[axis], parts[axis] = (shape[axis],), [shape[axis] if varies else 1]
                continue
            atoms = list(segment.atoms)
            for i, own in segment.inputs:
                dims[i] = [segment.atoms[a] if spread[i] > 1 else 1 for a in own]
                for a, size in zip(own, dims[i], strict=True):
                    atoms[a] = size
            for axis, own in segment.outputs:
                sizes[axis] = tuple(segment.atoms[a] for a in own)
                parts[axis] = [atoms[a] for a in own]
        values = np.broadcast_to(self.values, spread)
        return Field(tuple(sizes), values.reshape([d for part in parts for d in part]))

    def scaled(self, gain: Floats) -> Field:
        """Times an array that broadcasts to the shape, whose axes longer than 1 become plain."""
        full = gain.reshape((1,) * (len(self.sizes) - gain.ndim) + gain.shape)
        found = self.plain([a for a, n in enumerate(full.shape) if n > 1])
        dims = [n for a, n in enumerate(full.shape) for n in ([n] if n > 1 else [1] * len(found.sizes[a]))]
        return Field(found.sizes, found.values * full.reshape(dims))

    def plus(self, other: Field) -> Field:
        """The sum of two fields of one shape."""
        odd = [a for a, (x, y) in enumerate(zip(self.sizes, other.sizes, strict=True)) if x != y]
        one, two = self.plain(odd), other.plain(odd)
        return Field(one.sizes, one.values + two.values)

    def like(self, other: Field) -> Field:
        """In the factors of ``other``, and summed over those that do not matter there."""
        found = self
        for axis, factors in enumerate(other.sizes):
            if found.sizes[axis] != factors:
                found = found.plain([axis]).split(axis, factors)
        extra = tuple(d for d, n in enumerate(other.values.shape) if n == 1 and found.values.shape[d] > 1)
        return Field(found.sizes, found.values.sum(axis=extra, keepdims=True)) if extra else found

    def forward(self, shape: Shape, maps: Sequence[AxisMap], spread: Sequence[int] = ()) -> Field:
        """Carried from an input to an output of this shape; positions that nothing is mapped to get 0.

        An axis that is mapped to nothing is summed over. Axes in ``spread`` (of the output) are made full where they
        are covered in part only; on others a partial map changes nothing.
        """
        mapped = {m.source_axis for m in maps}
        found = self.summed([a for a in self.varying if a not in mapped])
        for m in maps:
            if not m.whole and (found.varies(m.source_axis) or m.target_axis in spread):
                found = found.scattered(m.source_axis, m.source, m.target, shape[m.target_axis])
        return found.placed(shape, {m.target_axis: m.source_axis for m in maps})

    def backward(self, like: Field, maps: Sequence[AxisMap]) -> Field:
        """Carried from an output back to an input: what `forward` does, turned round; axes as in ``like``."""
        mapped = {m.target_axis for m in maps}
        found = self.summed([a for a in self.varying if a not in mapped])
        for m in maps:
            if not m.whole and (found.varies(m.target_axis) or like.varies(m.source_axis)):
                found = found.scattered(m.target_axis, m.target, m.source, like.shape[m.source_axis])
        return found.placed(like.shape, {m.source_axis: m.target_axis for m in maps}).like(like)

    def covered(self, axis: int, positions: Ints) -> Field:
        """With 1 on this axis wherever ``positions`` has nothing."""
        missing = np.setdiff1d(np.arange(self.shape[axis]), positions)
        if not missing.size or not self.varies(axis):
            return self
        found = self.plain([axis])
        values = found.values.copy()
        np.moveaxis(values, found.span(axis)[0], 0)[missing] = 1.0
        return Field(found.sizes, values)

    def scattered(self, axis: int, source: Ints, target: Ints, size: int) -> Field:
        """The axis made full and rearranged to ``size`` positions: what meets at one position adds up."""
        found = self.plain([axis])
        dim = found.span(axis)[0]
        moved = np.moveaxis(found.values, dim, 0)
        rows = np.broadcast_to(moved, (found.shape[axis], *moved.shape[1:]))
        result = np.zeros((size, *moved.shape[1:]))
        np.add.at(result, target, rows[source])
        sizes = tuple((size,) if a == axis else factors for a, factors in enumerate(found.sizes))
        return Field(sizes, np.moveaxis(result, 0, dim))

    def placed(self, shape: Shape, source_of: Mapping[int, int]) -> Field:
        """On the axes of another tensor: axis b of it is axis ``source_of[b]`` of this, or uniform."""
        order = [d for b in range(len(shape)) if b in source_of for d in self.span(source_of[b])]
        rest = [d for d in range(self.values.ndim) if d not in order]
        values = self.values.transpose([*order, *rest]).reshape([self.values.shape[d] for d in order])
        sizes: list[Shape] = []
        dims: list[int] = []
        for b, size in enumerate(shape):
            a = source_of.get(b)
            fits = a is not None and prod(self.sizes[a]) == size
            own = self.dims(a) if a is not None else (1,)
            if a is not None and fits:
                sizes.append(self.sizes[a])
            else:
                sizes.append((size,))
                own = (1,)
            dims += own
        return Field(tuple(sizes), values.reshape(dims))

    def split(self, axis: int, factors: Shape) -> Field:
        """A plain axis in factors."""
        dims = [n for a in range(len(self.sizes)) for n in self.dims(a)]
        at = self.span(axis)[0]
        dims[at : at + 1] = factors if self.varies(axis) else (1,) * len(factors)
        sizes = tuple(factors if a == axis else own for a, own in enumerate(self.sizes))
        return Field(sizes, self.values.reshape(dims))

    def span(self, axis: int) -> range:
        """The dimensions of ``values`` that are the factors of an axis."""
        start = sum(len(factors) for factors in self.sizes[:axis])
        return range(start, start + len(self.sizes[axis]))

    def dims(self, axis: int) -> Shape:
        """Sizes of these dimensions."""
        return tuple(self.values.shape[d] for d in self.span(axis))
