"""Lines of edges: straight, with round corners into another lane, as arcs over boxes, and from one line to the next.

A *lane* is a row of boxes within a line of the drawing; an edge that changes lanes does so right behind its source, or
right before its target, whichever way is free.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from onnxprune.drawing.values import Placed, Route

__all__ = ["ARC", "Columns", "Lines", "arc_levels", "route_all"]

ARC, ARCS, EDGE = 7.0, 5, 6.0

Point = tuple[float, float]


@dataclass(frozen=True)
class Columns:
    """``halves``: half the width of each column. ``gap``: between two of them. ``width``: of the whole drawing."""

    halves: tuple[float, ...]
    gap: float
    width: float


@dataclass(frozen=True)
class Lines:
    """``tops``, ``bottoms``: of each line. ``arcs``: y of its lowest arc. ``centres[line]``: lane -> y."""

    tops: tuple[float, ...]
    arcs: tuple[float, ...]
    centres: tuple[Mapping[int, float], ...]
    bottoms: tuple[float, ...]
    height: float

    @property
    def count(self) -> int:
        return len(self.tops)

    def y(self, line: int, lane: int) -> float:
        """Middle of a lane, also of one that has no box on this line."""
        known = self.centres[line]
        if lane in known:
            return known[lane]
        near = min(known, key=lambda other: abs(other - lane), default=0)
        return self.bottoms[line] - 4 if lane > near else self.tops[line] + 8


def arc_levels(edges: Sequence[tuple[int, int, bool]], ranks: Sequence[int], lanes: Sequence[int]) -> dict[int, int]:
    """Number of an edge -> how high its arc goes, for the edges that have boxes in their way.

    Arcs over each other differ, the shorter one is lower; those into the same box share a line. Beyond ARCS they
    overlap.
    """
    occupied = set(zip(ranks, lanes, strict=True))
    over = [
        (ranks[b] - ranks[a], number)
        for number, (a, b, _) in enumerate(edges)
        if _blocked(occupied, ranks[a], ranks[b], lanes[a], lanes[b])
    ]
    owners = [[-1] * (max(ranks, default=0) + 2) for _ in range(ARCS)]
    found: dict[int, int] = {}
    for _, number in sorted(over):
        source, target, _ = edges[number]
        span = slice(ranks[source] + 1, ranks[target] + 1)
        free = (level for level in range(ARCS - 1) if all(o in (-1, target) for o in owners[level][span]))
        found[number] = next(free, ARCS - 1)
        owners[found[number]][span] = [target] * (ranks[target] - ranks[source])
    return found


def route_all(
    placed: Sequence[Placed], edges: Sequence[tuple[int, int, bool]], ranks: Sequence[int], lanes: Sequence[int],
    lines: Lines, levels: Mapping[int, int], columns: Columns,
) -> list[Route]:  # fmt: skip
    """A route for every edge (source, target, side), given by numbers of placed boxes. ``levels``: of `arc_levels`."""
    occupied = set(zip(ranks, lanes, strict=True))
    highest: dict[int, int] = {}
    for rank, lane in occupied:
        highest[rank] = min(highest.get(rank, lane), lane)
    row_of = {rank: place.row for rank, place in zip(ranks, placed, strict=True)}
    found = []
    for number, (source, target, side) in enumerate(edges):
        a, b = placed[source], placed[target]
        behind = a.x + columns.halves[ranks[source]] + columns.gap / 2
        front = b.x - columns.halves[ranks[target]] - columns.gap / 2
        if number in levels:
            after = next(rank for rank in range(ranks[source] + 1, ranks[target]) if (rank, lanes[source]) in occupied)
            covered = highest[ranks[target]] < lanes[target]
            points = _arc(
                a, b, levels[number], lines, behind, columns.width, ends_line=row_of[after] != a.row,
                front=front if covered else None,
            )  # fmt: skip
        else:
            between = range(ranks[source] + 1, ranks[target])
            late = not any((rank, lanes[source]) in occupied for rank in between)
            bend = front if late else behind
            points = _direct(a, b, (lanes[source], lanes[target]), lines, columns.width, bend, late=late)
        found.append(Route(a.id, b.id, tuple(points), side))
    return found


def _blocked(occupied: set[tuple[int, int]], first: int, last: int, lane: int, other: int) -> bool:
    """Whether boxes stand in both ways from one to the other: along its lane, and along that of the target."""
    between = range(first + 1, last)
    along = any((rank, lane) in occupied for rank in between)
    across = any((rank, other) in occupied for rank in between)
    return along and across


def _direct(
    a: Placed, b: Placed, lanes: tuple[int, int], lines: Lines, width: float, bend: float, *, late: bool
) -> list[Point]:
    """Along a lane; ``late``: the change of lanes comes right before the target, not right behind the source.

    ``bend``: x of that change, between two columns.
    """
    start, end = (a.x + a.width / 2, a.y), (b.x - b.width / 2, b.y)
    if a.row == b.row:
        return [start, end] if lanes[0] == lanes[1] else [start, (bend, start[1]), (bend, end[1]), end]
    along = lanes[0] if late else lanes[1]
    points = [start] if late or lanes[0] == lanes[1] else [start, (bend, start[1]), (bend, lines.y(a.row, along))]
    points += _turns(points[-1], a.row, b.row, along, lines, width)
    if late and lanes[0] != lanes[1]:
        points += [(bend, points[-1][1]), (bend, end[1])]
    return [*points, end]


def _turns(here: Point, first: int, last: int, lane: int, lines: Lines, width: float) -> list[Point]:
    """From a point on one line out at the right, and in again at the left of the following ones."""
    points: list[Point] = []
    y = here[1]
    for line in range(first, last):
        gutter, below = (lines.bottoms[line] + lines.tops[line + 1]) / 2, lines.y(line + 1, lane)
        points += [(width - EDGE, y), (width - EDGE, gutter), (EDGE, gutter), (EDGE, below)]
        y = below
    return points


def _arc(
    a: Placed, b: Placed, level: int, lines: Lines, bend: float, width: float, *, ends_line: bool, front: float | None
) -> list[Point]:
    """Up behind the source, over the boxes, down into the target.

    ``ends_line``: the source is the last on its line. ``front``: x before the target, where a box stands over it.
    """
    points: list[Point] = [(a.x + a.width / 2, a.y)]
    if not ends_line:
        points += [(bend, a.y), (bend, lines.arcs[a.row] - ARC * level)]
    for line in range(a.row, b.row):
        gutter = (lines.bottoms[line] + lines.tops[line + 1]) / 2
        below = lines.arcs[line + 1] - ARC * level
        points += [(width - EDGE, points[-1][1]), (width - EDGE, gutter), (EDGE, gutter), (EDGE, below)]
    if front is not None:
        return [*points, (front, points[-1][1]), (front, b.y), (b.x - b.width / 2, b.y)]
    return [*points, (b.x, points[-1][1]), (b.x, b.y - b.height / 2)]
