"""Blocks that come several times in a row: twelve encoder layers, the residual blocks of one stage.

Boxes are compared by what they are and how large their output is, not by what they read, so that the layers of a dense
block are equal although each reads more. A run counts where every copy has the same connections inside of it, leads
into the next copy, and all that leaves a copy comes from its last box.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from onnxprune.drawing.kinds import PLUMBING
from onnxprune.drawing.values import Box, Edge, Repeat

__all__ = ["repeats_of"]

LONGEST = 64  # boxes in a block
MANY = 3  # copies that single boxes need


def repeats_of(boxes: Sequence[Box], edges: Sequence[Edge]) -> tuple[Repeat, ...]:
    """The runs of equal blocks, from the front, of those that begin at a box the one that saves most boxes."""
    known: dict[tuple[object, ...], int] = {}
    looks = np.array([known.setdefault(_look(box), len(known)) for box in boxes], np.int64)
    lengths = _lengths(looks)
    inner: list[list[int]] = [[] for _ in boxes]
    reach = list(range(len(boxes)))  # the last box that reads from a box
    for edge in edges:
        inner[edge.target].append(edge.source)
        reach[edge.source] = max(reach[edge.source], edge.target)
    found, at = [], 0
    while at < len(boxes):
        best: _Run | None = None
        for period in range(1, lengths.shape[0] + 1):
            longest = _Run(period, 1 + int(lengths[period - 1, at]) // period)
            if longest.beats(best):
                linked = _Run(period, _linked(inner, reach, at, period, longest.count))
                best = linked if linked.beats(best) else best
        if best is None or boxes[at].kind == "end":
            at += 1
            continue
        found.append(
            Repeat(tuple(tuple(range(at + i * best.period, at + (i + 1) * best.period)) for i in range(best.count)))
        )
        at += best.period * best.count
    return tuple(found)


@dataclass(frozen=True)
class _Run:
    """``count`` blocks of ``period`` boxes."""

    period: int
    count: int

    def beats(self, other: _Run | None) -> bool:
        """Whether it is a run at all, and saves more boxes than the other one."""
        least = MANY if self.period == 1 else 2
        saved = self.period * (self.count - 1)
        return self.count >= least and (other is None or saved > other.period * (other.count - 1))


def _look(box: Box) -> tuple[object, ...]:
    """What two boxes must have in common."""
    ops = tuple(op for node in box.nodes if (op := node.partition(" ")[0]) not in PLUMBING)
    return box.kind, box.word, box.units, round(box.extent, 3), box.mark, ops


def _lengths(looks: np.ndarray[tuple[int], np.dtype[np.int64]]) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """[p - 1, i]: how many boxes from i on equal those p places later."""
    size = looks.size
    longest = min(LONGEST, size // 2)
    result = np.zeros((longest, size + 1), np.int64)
    places = np.arange(size)
    for period in range(1, longest + 1):
        differs = np.ones(size, np.bool_)
        differs[: size - period] = looks[:-period] != looks[period:]
        ends = np.minimum.accumulate(np.where(differs, places, size)[::-1])[::-1]
        result[period - 1, :size] = ends - places
    return result


def _linked(inner: Sequence[Sequence[int]], reach: Sequence[int], at: int, period: int, run: int) -> int:
    """How many of the copies are wired alike, each behind the one before."""

    def inside(copy: int) -> list[tuple[int, int]]:
        start = at + copy * period
        return [(s - start, t) for t in range(period) for s in inner[start + t] if s >= start]

    def follows(copy: int) -> bool:
        start = at + copy * period
        return any(start - period <= s < start for t in range(period) for s in inner[start + t])

    def tight(copy: int) -> bool:
        start = at + copy * period
        return all(reach[box] < start + period for box in range(start, start + period - 1))

    first = inside(0)
    count = 1 if tight(0) else 0
    while 0 < count < run and inside(count) == first and follows(count) and tight(count):
        count += 1
    return count
