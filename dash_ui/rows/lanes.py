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
Room = tuple[float, float]  # lowest, highest


def lanes(parents: Mapping[int, int | None], heights: Mapping[int, float], gap: float) -> dict[int, int]:
    """A column for each step. ``parents``: in the order of making, the root first. ``gap``: of height, in a column.

    No two steps of one column are nearer than ``gap``.
    """
    children: dict[int, list[int]] = {number: [] for number in parents}
    for number, parent in parents.items():
        if parent in children:
            children[parent].append(number)
    columns: dict[int, int] = {}
    taken: list[list[Room]] = []  # of each column: what chains use of it
    begin = [number for number, parent in parents.items() if parent not in children][::-1]
    while begin:
        chain = _chain(begin.pop(), children)
        for number in chain:
            begin += children[number][:0:-1]  # the last that is added is taken first: those of lower steps
        beside = _beside(chain, heights, gap)
        above = parents[chain[0]]
        rooms = _rooms(beside, heights, gap, None if above not in columns else heights[above])
        base = _free(taken, 0 if above not in columns else columns[above] + 1, rooms)
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


def _rooms(beside: Mapping[int, int], heights: Mapping[int, float], gap: float, above: float | None) -> list[Room]:
    """The height that a chain needs in each of its columns. ``above``: where its edge comes from, in the first one."""
    levels: list[list[float]] = [[] for _ in range(max(beside.values()) + 1)]
    for number, lane in beside.items():
        levels[lane].append(heights[number])
    rooms = [(min(mine) - gap, max(mine) + gap) for mine in levels]
    if above is not None:
        rooms[0] = (rooms[0][0], max(above, rooms[0][1]))
    return rooms


def _free(taken: list[list[Room]], first: int, rooms: Sequence[Room]) -> int:
    """The first of as many columns side by side in which nobody uses these rooms; they are taken then."""
    base = first
    while base < min(first + LOOK, len(taken)):
        busy = [
            lane for lane, room in enumerate(rooms) if base + lane < len(taken) and _meets(taken[base + lane], room)
        ]
        if not busy:
            break
        base += busy[-1] + 1
    else:
        base = max(base, len(taken))
    while len(taken) < base + len(rooms):
        taken.append([])
    for lane, room in enumerate(rooms):
        taken[base + lane].append(room)
    return base


def _meets(taken: Sequence[Room], room: Room) -> bool:
    return any(low < room[1] and room[0] < high for low, high in taken)


def bend(above: Point, below: Point, gap: float) -> Sequence[Point]:
    """The points of an edge: straight to the next column, else around the steps in between."""
    (x0, y0), (x1, y1) = above, below
    if abs(x1 - x0) <= 1:
        return (above, below)
    if abs(y1 - y0) < gap:
        return (above, (x0 + 0.5, min(y0, y1) - gap / 2), (x1 - 0.5, min(y0, y1) - gap / 2), below)
    turn = y0 - gap / 2 if y1 < y0 else y0 + gap / 2
    return (above, (x0 + 0.5, turn), (x1, turn), below)
