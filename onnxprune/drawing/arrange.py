"""Places for the boxes of a sketch: x by the longest path, a lane for each branch, long drawings wrapped like text.

The longest chain runs along the middle. Every other chain of boxes gets the lane nearest to it that is free between the
box where it forks off and the box where it joins again. An edge that passes boxes of its own lane is an arc over them.
Lines break between blocks, where only one tensor crosses, wherever a line has such a place in its last two fifths.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from math import log2

from onnxprune.drawing.routes import ARC, Columns, Lines, arc_levels, route_all
from onnxprune.drawing.values import Bracket, Drawing, Placed, Sketch

__all__ = ["COLLAPSE", "arrange"]

COLLAPSE = 28  # boxes from which on blocks that repeat are drawn once
WIDTH, SMALL, JOIN, GAP = 34.0, 16.0, 15.0, 15.0  # of a layer, of what goes with layers, of a join; between columns
LOW, HIGH = 18.0, 58.0  # heights of a vector and of the largest feature map
WIDEST = 2.1  # how far a short network is stretched
MARGIN, LABEL, LANE_GAP, LINE_GAP = 14.0, 15.0, 8.0, 16.0
EARLY = 0.6  # of a line, before which it is not broken at a fork


@dataclass(frozen=True)
class _Item:
    """What is drawn once: a box, or the same box of all copies."""

    boxes: tuple[int, ...]
    repeat: int | None


def arrange(
    sketch: Sketch,
    width: float = 640.0,
    *,
    scale: float = 1.0,
    open_repeats: Collection[int] = (),
    collapse: bool | None = None,
) -> Drawing:
    """A drawing of at most ``width`` pixels, as high as it needs to be. Linear in boxes and edges.

    ``scale``: of boxes and gaps; larger boxes mean more lines. ``open_repeats``: numbers of repeats that are drawn in
    full. ``collapse``: whether the others are drawn once (by default in drawings of more than COLLAPSE boxes).
    """
    shut = len(sketch.boxes) > COLLAPSE if collapse is None else collapse
    items, edges = _items(sketch, [i for i in range(len(sketch.repeats)) if shut and i not in open_repeats])
    ranks = _ranks(len(items), edges)
    lanes = _lanes(ranks, edges)
    columns = max(ranks, default=-1) + 1
    sizes = _sizes(sketch, items, scale)
    wide = [0.0] * columns
    for rank, (box_width, _) in zip(ranks, sizes, strict=True):
        wide[rank] = max(wide[rank], box_width)
    usable = width - 2 * MARGIN
    natural = sum(wide) + GAP * scale * columns
    stretch = min(max(usable / max(natural, 1.0), 1.0), WIDEST)
    gap = GAP * scale * stretch
    sizes = [
        (w if sketch.boxes[item.boxes[0]].kind == "join" else w * min(stretch, 1.6), h)
        for item, (w, h) in zip(items, sizes, strict=True)
    ]
    wide = [0.0] * columns
    for rank, (box_width, _) in zip(ranks, sizes, strict=True):
        wide[rank] = max(wide[rank], box_width)
    line_of, at = _lines(wide, gap, usable, ranks, edges, items)
    levels = arc_levels(edges, ranks, lanes)
    lines = _heights(line_of, ranks, lanes, sizes, [(*edges[n][:2], level) for n, level in levels.items()], scale)
    placed = [
        Placed(item.boxes, MARGIN + at[rank], lines.y(line_of[rank], lane), w, h, line_of[rank], item.repeat)
        for item, rank, lane, (w, h) in zip(items, ranks, lanes, sizes, strict=True)
    ]
    routes = route_all(
        placed, edges, ranks, lanes, lines, levels, Columns(tuple(w / 2 for w in wide), gap, width)
    )  # fmt: skip
    place_of = {box: i for i, item in enumerate(items) for box in item.boxes}
    longest = max((p.x + p.width / 2 for p in placed), default=0.0) + MARGIN
    return Drawing(
        sketch, tuple(placed), tuple(routes), tuple(_brackets(sketch, placed)),
        width if lines.count > 1 else min(width, longest), lines.height, lines.count, gap + WIDTH * scale, place_of,
    )  # fmt: skip


def _items(sketch: Sketch, shut: Sequence[int]) -> tuple[list[_Item], list[tuple[int, int, bool]]]:
    """What is drawn, in order, and the edges between: (source, target, side)."""
    where: dict[int, tuple[int, int, int]] = {}  # box -> repeat, copy, place
    for number in shut:
        for copy, boxes in enumerate(sketch.repeats[number].copies):
            where.update({box: (number, copy, place) for place, box in enumerate(boxes)})
    around = {box: i for i, r in enumerate(sketch.repeats) for copy in r.copies for box in copy}
    items: list[_Item] = []
    new: dict[int, int] = {}
    for box in sketch.boxes:
        if box.id in where:
            number, copy, place = where[box.id]
            if copy:
                new[box.id] = new[sketch.repeats[number].copies[0][place]]
                continue
            together = tuple(boxes[place] for boxes in sketch.repeats[number].copies)
            new[box.id] = len(items)
            items.append(_Item(together, number))
        else:
            new[box.id] = len(items)
            items.append(_Item((box.id,), around.get(box.id)))
    found: dict[tuple[int, int], bool] = {}
    for edge in sketch.edges:
        a, b = where.get(edge.source), where.get(edge.target)
        if a and b and a[0] == b[0] and (a[1] != b[1] or a[1] > 0):
            continue  # from one copy to another, or in a copy that is not drawn
        pair = (new[edge.source], new[edge.target])
        if pair[0] != pair[1]:
            found[pair] = found.get(pair, True) and edge.side
    return items, [(a, b, side) for (a, b), side in sorted(found.items(), key=lambda e: (e[0][1], e[0][0]))]


def _ranks(count: int, edges: Sequence[tuple[int, int, bool]]) -> list[int]:
    """Column of each item: the longest path to it; what has no source stands right before its first reader."""
    ranks = [0] * count
    for source, target, _ in edges:  # sorted by target, and edges go from lower to higher numbers
        ranks[target] = max(ranks[target], ranks[source] + 1)
    readers: dict[int, list[int]] = defaultdict(list)
    fed = set()
    for source, target, _ in edges:
        readers[source].append(target)
        fed.add(target)
    for item in range(count):
        if item not in fed and readers[item]:
            ranks[item] = min(ranks[reader] for reader in readers[item]) - 1
    return ranks


def _lanes(ranks: Sequence[int], edges: Sequence[tuple[int, int, bool]]) -> list[int]:
    """Lane of each item: 0 for the longest chain, then the free one nearest to it (negative: above)."""
    count = len(ranks)
    after: list[list[int]] = [[] for _ in range(count)]
    before: list[list[int]] = [[] for _ in range(count)]
    for source, target, side in edges:
        if not side:
            after[source].append(target)
            before[target].append(source)
    lanes = [0] * count
    busy: dict[int, list[bool]] = {}
    columns = max(ranks, default=0) + 2
    for chain in _chains(after):
        start = max([ranks[b] + 1 for b in before[chain[0]]], default=ranks[chain[0]])
        end = min([ranks[a] - 1 for a in after[chain[-1]]], default=ranks[chain[-1]])
        span = range(min(start, ranks[chain[0]]), max(end, ranks[chain[-1]]) + 1)
        for lane in _near(lanes[before[chain[0]][0]] if before[chain[0]] else 0):
            row = busy.setdefault(lane, [False] * columns)
            if not any(row[rank] for rank in span):
                break
        for rank in span:
            row[rank] = True
        for item in chain:
            lanes[item] = lane
    return lanes


def _chains(after: Sequence[Sequence[int]]) -> list[list[int]]:
    """All items as chains, the longest first: from an item to the one behind it from which the longest way is left."""
    count = len(after)
    length = [1] * count
    for item in range(count - 1, -1, -1):
        length[item] += max((length[n] for n in after[item]), default=0)
    chains, taken = list[list[int]](), [False] * count
    for item in sorted(range(count), key=lambda i: (-length[i], i)):
        if taken[item]:
            continue
        chain, free = [item], [item]
        while free:
            taken[chain[-1]] = True
            free = [n for n in after[chain[-1]] if not taken[n]]
            if free:
                chain.append(max(free, key=lambda n: (length[n], -n)))
        chains.append(chain)
    return chains


def _near(lane: int) -> Sequence[int]:
    """Lanes in the order in which they are tried: the one of the fork, those around it, outwards."""
    return [lane, *(lane + sign * step for step in range(1, 200) for sign in (1, -1))]


def _sizes(sketch: Sketch, items: Sequence[_Item], scale: float) -> list[tuple[float, float]]:
    """Width and height: the height grows with the logarithm of the side of the feature map."""
    most = max((box.extent for box in sketch.boxes), default=1.0)
    found = []
    for item in items:
        box = sketch.boxes[item.boxes[0]]
        if box.kind == "join":
            found.append((JOIN * scale, JOIN * scale))
            continue
        share = log2(1 + box.extent) - 1
        height = LOW + (HIGH - LOW) * share / max(log2(1 + most) - 1, 1.0)
        found.append(((WIDTH if box.heavy else SMALL) * scale, height * scale))
    return found


def _lines(
    wide: Sequence[float],
    gap: float,
    usable: float,
    ranks: Sequence[int],
    edges: Sequence[tuple[int, int, bool]],
    items: Sequence[_Item],
) -> tuple[list[int], list[float]]:
    """Line of each column, and its centre within the line."""
    crossing = _crossing(len(wide), ranks, edges, items)
    line_of, at, column, line = [0] * len(wide), [0.0] * len(wide), 0, 0
    while column < len(wide):
        end, used = column, 0.0
        while end < len(wide) and (used + wide[end] + gap <= usable + gap or end == column):
            used += wide[end] + gap
            end += 1
        if end < len(wide):
            early = column + max(int((end - column) * EARLY), 1)
            end = min(range(end, early - 1, -1), key=lambda c: (crossing[c], -c))
        x = gap / 2
        for place in range(column, end):
            line_of[place], at[place] = line, x + wide[place] / 2
            x += wide[place] + gap
        column, line = end, line + 1
    return line_of, at


def _crossing(
    columns: int, ranks: Sequence[int], edges: Sequence[tuple[int, int, bool]], items: Sequence[_Item]
) -> list[int]:
    """What a break before each column would cut: tensors, and frames, which count more than all tensors."""
    crossing = [0] * (columns + 1)  # tensors that cross from the columns before a column to it or behind it
    ends: dict[int, int] = {}
    for source, target, side in edges:
        if not side:
            ends[source] = max(ends.get(source, 0), ranks[target])
    for source, end in ends.items():
        crossing[ranks[source] + 1] += 1
        crossing[end + 1] -= 1
    for column in range(1, len(crossing)):
        crossing[column] += crossing[column - 1]
    spans: dict[int, tuple[int, int]] = {}
    for item, rank in zip(items, ranks, strict=True):
        if item.repeat is not None and len(item.boxes) > 1:
            low, high = spans.get(item.repeat, (rank, rank))
            spans[item.repeat] = (min(low, rank), max(high, rank))
    for low, high in spans.values():
        for column in range(low + 1, high + 1):
            crossing[column] += len(edges)  # better not inside of a frame
    return crossing


def _heights(
    line_of: Sequence[int], ranks: Sequence[int], lanes: Sequence[int], sizes: Sequence[tuple[float, float]],
    arcing: Sequence[tuple[int, int, int]], scale: float,
) -> Lines:  # fmt: skip
    """Where the lanes of every line are, with room for arcs above and names below. ``arcing``: (from, to, level)."""
    count = max(line_of, default=-1) + 1
    tall: list[dict[int, float]] = [{} for _ in range(count)]
    for rank, lane, (_, height) in zip(ranks, lanes, sizes, strict=True):
        row = tall[line_of[rank]]
        row[lane] = max(row.get(lane, 0.0), height)
    over = [0] * count
    for source, target, level in arcing:
        for line in range(line_of[ranks[source]], line_of[ranks[target]] + 1):
            over[line] = max(over[line], level + 1)
    tops, arcs, centres, bottoms, y = [], [], [], [], MARGIN
    for row, levels in zip(tall, over, strict=True):
        tops.append(y)
        y += levels * ARC + LABEL * 0.8
        arcs.append(y - LABEL * 0.8)
        middle: dict[int, float] = {}
        for lane in range(min(row, default=0), max(row, default=0) + 1):
            height = max(row.get(lane, SMALL * scale), SMALL * scale)
            middle[lane] = y + height / 2
            y += height + LABEL + LANE_GAP
        y -= LANE_GAP
        centres.append(middle)
        bottoms.append(y)
        y += LINE_GAP
    return Lines(tuple(tops), tuple(arcs), tuple(centres), tuple(bottoms), y)


def _brackets(sketch: Sketch, placed: Sequence[Placed]) -> list[Bracket]:
    """Frames round the blocks that stand for several, and round those that were opened, one for each line."""
    around: dict[tuple[int, int], list[Placed]] = defaultdict(list)
    for place in placed:
        if place.repeat is not None:
            around[place.repeat, place.row].append(place)
    return [
        Bracket(
            repeat, len(sketch.repeats[repeat].copies) if len(places[0].boxes) > 1 else 1,
            min(p.x - p.width / 2 for p in places) - 5, min(p.y - p.height / 2 for p in places) - 9,
            max(p.x + p.width / 2 for p in places) + 5, max(p.y + p.height / 2 for p in places) + LABEL + 1,
        )
        for (repeat, _), places in around.items()
        if len(places[0].boxes) > 1 or _opened(places, sketch)
    ]  # fmt: skip


def _opened(places: Sequence[Placed], sketch: Sketch) -> bool:
    return len(sketch.boxes) > COLLAPSE and len(places) > 0
