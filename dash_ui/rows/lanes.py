"""Where the steps of a tree stand: x is a column in which nobody else is near, y is given (units left).

A chain of first children keeps to a few columns of its own: a step goes to the column of the chain that was used
longest ago if that leaves a gap to the last one there, and opens a new one otherwise, so that a fine-tuning, which has
as many units as the step before it, stands beside it. Other children begin chains of their own further to the right,
those of lower steps first, in the first columns that are free at their height. Each chain looks at a few columns only,
so that the time grows with the number of steps.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence

__all__ = ["bend", "lanes"]

LOOK = 24  # columns that a chain looks at before it opens new ones

Point = tuple[float, float]


def lanes(parents: Mapping[int, int | None], heights: Mapping[int, float], gap: float) -> dict[int, int]:
    """A column for each step. ``parents``: in the order of making, the root first. ``gap``: of height, in a column.

    No two steps of one column are nearer than ``gap``.
    """
    children: dict[int, list[int]] = {number: [] for number in parents}
    for number, parent in parents.items():
        if parent in children:
            children[parent].append(number)
    columns: dict[int, int] = {}
    taken: list[list[tuple[float, float]]] = []  # of each column: (lowest, highest) of the chains in it
    begin = [number for number, parent in parents.items() if parent not in children][::-1]
    while begin:
        chain = _chain(begin.pop(), children)
        for number in chain:
            begin += children[number][:0:-1]  # the last that is added is taken first: those of lower steps
        beside = _beside(chain, heights, gap)
        above = parents[chain[0]]
        span = [heights[number] for number in chain]
        if above in columns:
            span.append(heights[above])
        room = (min(span) - gap, max(span))
        base = _free(taken, 0 if above not in columns else columns[above] + 1, max(beside.values()) + 1, room)
        for number, lane in beside.items():
            columns[number] = base + lane
    return columns


def _chain(head: int, children: Mapping[int, Sequence[int]]) -> list[int]:
    """A step, its first child, the first child of that, and so on."""
    chain = [head]
    while children[chain[-1]]:
        chain.append(children[chain[-1]][0])
    return chain


def _beside(chain: Sequence[int], heights: Mapping[int, float], gap: float) -> dict[int, int]:
    """The column of each step of a chain, counted from the chain's own first one."""
    found: dict[int, int] = {}
    used: deque[tuple[int, float]] = deque()  # (column, height of the last step there), the one used longest ago first
    fresh = 0
    for number in chain:
        height = heights[number]
        if used and used[-1][1] < height:  # more units than before, as an imported model may have
            used.clear()
        if used and used[0][1] - height >= gap:
            column, _ = used.popleft()
        else:
            column, fresh = fresh, fresh + 1
        used.append((column, height))
        found[number] = column
    return found


def _free(taken: list[list[tuple[float, float]]], first: int, count: int, room: tuple[float, float]) -> int:
    """The first of ``count`` columns side by side that nobody uses at this height; they are taken then."""
    low, high = room
    base = first
    while base < min(first + LOOK, len(taken)):
        side_by_side = range(base, min(base + count, len(taken)))
        busy = [k for k in side_by_side if any(bottom < high and low < top for bottom, top in taken[k])]
        if not busy:
            break
        base = busy[-1] + 1
    else:
        base = max(base, len(taken))
    while len(taken) < base + count:
        taken.append([])
    for column in taken[base : base + count]:
        column.append(room)
    return base


def bend(above: Point, below: Point, gap: float) -> Sequence[Point]:
    """The points of an edge: straight to the next column, else around the steps in between."""
    (x0, y0), (x1, y1) = above, below
    if abs(x1 - x0) <= 1:
        return (above, below)
    if abs(y1 - y0) < gap:
        return (above, (x0 + 0.5, min(y0, y1) - gap / 2), (x1 - 0.5, min(y0, y1) - gap / 2), below)
    turn = y0 - gap / 2 if y1 < y0 else y0 + gap / 2
    return (above, (x0 + 0.5, turn), (x1, turn), below)
