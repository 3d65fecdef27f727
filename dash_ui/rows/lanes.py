"""Where the steps of a tree stand: x is a column in which nobody else is near, y is given (units left).

A chain of first children keeps to a few columns of its own: a step goes to the column of the chain that was used
longest ago if that leaves a gap to the last one there, and opens a new one otherwise, so that a fine-tuning, which has
as many units as the step before it, stands beside it. Other children begin chains further to the right; those of lower
steps stand nearer, so that edges do not cross. One walk over the steps: time grows with their number.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence

__all__ = ["bend", "lanes"]

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
    fresh = 0
    begin = [number for number, parent in parents.items() if parent not in children][::-1]
    while begin:
        head = begin.pop()
        used: deque[tuple[int, float]] = deque()  # of this chain: (column, height of the last step there)
        at: int | None = head
        while at is not None:
            height = heights[at]
            if used and used[-1][1] < height:  # more units than before, as an imported model may have
                used.clear()
            if used and used[0][1] - height >= gap:
                column, _ = used.popleft()
            else:
                column, fresh = fresh, fresh + 1
            used.append((column, height))
            columns[at] = column
            below = children[at]
            begin += below[:0:-1]  # the last that is added is taken first: side branches of lower steps stand nearer
            at = below[0] if below else None
    return columns


def bend(above: Point, below: Point, gap: float) -> Sequence[Point]:
    """The points of an edge: straight to the next column, else around the steps in between."""
    (x0, y0), (x1, y1) = above, below
    if abs(x1 - x0) <= 1:
        return (above, below)
    if abs(y1 - y0) < gap:
        return (above, (x0 + 0.5, min(y0, y1) - gap / 2), (x1 - 0.5, min(y0, y1) - gap / 2), below)
    turn = y0 - gap / 2 if y1 < y0 else y0 + gap / 2
    return (above, (x0 + 0.5, turn), (x1, turn), below)
