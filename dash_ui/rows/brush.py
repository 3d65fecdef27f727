"""What a brush covers: from places in the drawing to cells of a matrix, units, and places among the stored numbers.

Cell (row r, column c) is the square from c - 1/2 to c + 1/2 and from r - 1/2 to r + 1/2. Lines between kernels, gates
and heads have no width, so that a brush over one simply covers cells on both sides of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, floor, isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.errors import OptionError
from onnxprune.masks import Matrix, Side
from onnxprune.values import Ints

__all__ = ["MOST_RANGES", "Area", "area_of", "ranges_of", "units_in", "whole_kernels"]

Mask = NDArray[np.bool_]
MOST_RANGES = 200_000  # in one entry of a draft


@dataclass(frozen=True, eq=False)
class Area:
    """Cells: ``inside`` says which of the rectangle whose first cell is (``row``, ``column``)."""

    row: int
    column: int
    inside: Mask

    @property
    def rows(self) -> slice:
        return slice(self.row, self.row + self.inside.shape[0])

    @property
    def columns(self) -> slice:
        return slice(self.column, self.column + self.inside.shape[1])


def area_of(event: Mapping[str, Any], shape: tuple[int, int]) -> Area | None:
    """The cells of a matrix of this shape that an event covers, None where it covers none.

    ``{"range": {"x": [a, b], "y": [c, d]}}`` covers all cells that share ground with it; ``{"lassoPoints": {"x": [...],
    "y": [...]}}`` those whose middle is inside (even-odd rule); ``{"click": {"x", "y"}}`` the one there; ``{"rows":
    [a, b]}`` and ``{"columns": [a, b]}`` whole rows and columns between two places, or at one where both are the same.
    """
    height, width = shape
    if "click" in event:
        at = event["click"]
        return _box(_touched([at["y"]] * 2, height, point=True), _touched([at["x"]] * 2, width, point=True))
    if "range" in event:
        across = event["range"]
        return _box(_touched(across["y"], height), _touched(across["x"], width))
    if "rows" in event:
        return _box(_touched(event["rows"], height, point=True), (0, width))
    if "columns" in event:
        return _box((0, height), _touched(event["columns"], width, point=True))
    points = event.get("lassoPoints", {"x": [], "y": []})
    return _lasso(np.array(points["x"], np.float64), np.array(points["y"], np.float64), shape)


def _touched(places: Sequence[float], size: int, *, point: bool = False) -> tuple[int, int]:
    """First cell and the one behind the last between two places; nothing where they are one, but for a ``point``."""
    low, high = min(map(float, places)), max(map(float, places))
    if not (isfinite(low) and isfinite(high)):
        return 0, 0
    first = floor(low + 0.5)
    behind = first + 1 if point and low == high else ceil(high + 0.5) if high > low else first
    return max(first, 0), min(behind, size)


def _box(rows: tuple[int, int], columns: tuple[int, int]) -> Area | None:
    if rows[0] >= rows[1] or columns[0] >= columns[1]:
        return None
    return Area(rows[0], columns[0], np.ones((rows[1] - rows[0], columns[1] - columns[0]), np.bool_))


def _lasso(x: NDArray[np.float64], y: NDArray[np.float64], shape: tuple[int, int]) -> Area | None:
    if x.size < 3 or not (np.isfinite(x).all() and np.isfinite(y).all()):
        return None
    top, bottom = max(ceil(y.min()), 0), min(floor(y.max()) + 1, shape[0])
    left, right = max(ceil(x.min()), 0), min(floor(x.max()) + 1, shape[1])
    if top >= bottom or left >= right:
        return None
    edges = np.zeros((bottom - top, right - left + 1), np.int32)
    x2, y2 = np.roll(x, -1), np.roll(y, -1)
    for row in range(top, bottom):
        crossed = (y <= row) != (y2 <= row)
        at = x[crossed] + (row - y[crossed]) * (x2 - x)[crossed] / (y2 - y)[crossed]
        np.add.at(edges[row - top], np.clip(np.ceil(at).astype(np.int64) - left, 0, right - left), 1)
    inside = np.cumsum(edges[:, :-1], axis=1) % 2 == 1
    return Area(top, left, inside) if inside.any() else None


def whole_kernels(matrix: Matrix, area: Area) -> Area:
    """The same area with all kernels that it covers a part of."""
    high, wide = matrix.rows.kernel, matrix.columns.kernel
    if high * wide == 1:
        return area
    above, before = area.row % high, area.column % wide
    below, behind = -(area.row + area.inside.shape[0]) % high, -(area.column + area.inside.shape[1]) % wide
    padded = np.pad(area.inside, ((above, below), (before, behind)))
    blocks = padded.reshape(padded.shape[0] // high, high, padded.shape[1] // wide, wide).any(axis=(1, 3))
    return Area(area.row - above, area.column - before, blocks.repeat(high, axis=0).repeat(wide, axis=1))


def units_in(matrix: Matrix, area: Area, *, columns: bool) -> dict[int, list[int]]:
    """Number of the group -> units whose rows (or ``columns``) the area covers a part of."""
    side: Side = matrix.columns if columns else matrix.rows
    inside = area.inside.T if columns else area.inside
    own, across = (area.columns, area.rows) if columns else (area.rows, area.columns)
    blocks = side.block[across]
    found: dict[int, set[int]] = {}
    for block in np.unique(blocks).tolist():
        places = np.flatnonzero(inside[:, blocks == block].any(axis=1)) + own.start
        for group, unit in zip(side.group[block][places].tolist(), side.unit[block][places].tolist(), strict=True):
            if group >= 0:
                found.setdefault(group, set()).add(unit)
    return {group: sorted(units) for group, units in found.items()}


def ranges_of(matrix: Matrix, area: Area) -> list[list[int]]:
    """Places among the stored numbers, as [start, stop) one after the other. Raises OptionError for too many."""
    size = int(np.prod(matrix.shape, dtype=np.int64))
    taken = np.zeros(size + 2, np.bool_)
    inside = taken[1:-1]
    seen = matrix.view(inside.reshape(matrix.shape))
    if np.may_share_memory(seen, inside):
        seen[area.rows, area.columns] = area.inside
    else:  # kernels: the matrix is not a view of what is stored
        row, column = np.nonzero(area.inside)
        inside[matrix.row_place[area.rows][row] + matrix.column_place[area.columns][column]] = True
    edges: Ints = np.flatnonzero(taken[1:] != taken[:-1])
    if edges.size > 2 * MOST_RANGES:
        raise OptionError(
            f"the brush covers {edges.size // 2:,} separate pieces, at most {MOST_RANGES:,} fit one entry",
            "Brush a smaller part, or snap to kernels.",
        )
    found: list[list[int]] = edges.reshape(-1, 2).tolist()
    return found
