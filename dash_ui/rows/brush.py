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

__all__ = ["MOST_RANGES", "Area", "area_of", "fewest", "ranges_of", "units_in", "whole_kernels"]

Mask = NDArray[np.bool_]
MOST_RANGES = 200_000  # in one entry of a draft
FEW = 2_000  # above, all of a brush is taken where that has fewer


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
    inside = np.zeros((bottom - top, right - left), np.bool_)
    x2, y2 = np.roll(x, -1), np.roll(y, -1)
    for row in range(top, bottom):
        crossed = (y <= row) != (y2 <= row)
        at = x[crossed] + (row - y[crossed]) * (x2 - x)[crossed] / (y2 - y)[crossed]
        places = np.sort(np.clip(np.ceil(at).astype(np.int64) - left, 0, right - left)).tolist()
        for start, stop in zip(places[::2], places[1::2], strict=True):  # closed lines are crossed in pairs
            inside[row - top, start:stop] = True
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
    return _listed(_pieces(matrix, area))


def fewest(matrix: Matrix, area: Area, taken: Area) -> list[list[int]]:
    """The `ranges_of` the cells of ``area`` that are ``taken``; of all where that makes far fewer pieces.

    What is removed already may be removed again, and what is there be restored. Raises OptionError.
    """
    found = _pieces(matrix, taken)
    if len(found) > FEW:
        whole = _pieces(matrix, area)
        found = whole if len(whole) < len(found) // 2 else found
    return _listed(found)


def _listed(pieces: Ints) -> list[list[int]]:
    if len(pieces) > MOST_RANGES:
        raise OptionError(
            f"the brush covers {len(pieces):,} separate pieces, at most {MOST_RANGES:,} fit one entry",
            "Brush a smaller part, or snap to kernels.",
        )
    found: list[list[int]] = pieces.tolist()
    return found


def _pieces(matrix: Matrix, area: Area) -> Ints:
    """(pieces, 2): where each begins and ends among the stored numbers, in their order."""
    rows, columns, inside = matrix.row_place[area.rows], matrix.column_place[area.columns], area.inside
    if not _together(columns) and _together(rows):
        rows, columns, inside = columns, rows, inside.T
    if _together(columns):
        edges = np.zeros((inside.shape[0], inside.shape[1] + 1), np.bool_)
        edges[:, :-1], edges[:, -1] = inside, inside[:, -1]
        edges[:, 1:-1] ^= inside[:, :-1]
        row, column = np.nonzero(edges)
        found = (rows[row] + columns[0] + column).reshape(-1, 2)
    else:  # kernels: neighbours in the matrix are no neighbours among the stored numbers
        row, column = np.nonzero(inside)
        places = rows[row] + columns[column]
        found = np.stack([places, places + 1], axis=1)
    found = found[np.argsort(found[:, 0])]
    new = found[1:, 0] != found[:-1, 1]
    return np.stack([found[np.append(True, new), 0], found[np.append(new, True), 1]], axis=1)


def _together(places: Ints) -> bool:
    return bool((np.diff(places) == 1).all())
