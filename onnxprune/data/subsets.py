"""Rows drawn at random with the shares of their classes, in two passes over the labels and with constant memory.

Of n rows with n_c in class c, class c gives 1 + floor or ceil of (n_c - 1) * (limit - C) / (n - C) rows, where C is the
number of classes; without the ones where there is not room for all classes. The first pass counts. A row's place is
its rank within its class behind all rows of the classes before; places are drawn, and the second pass finds their rows.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

import numpy as np

from onnxprune.data.rows import Array, Ints, Rows

__all__ = ["are_classes", "rows_of", "stratified"]

BLOCK = 1 << 16  # labels looked at in one go


def are_classes(labels: Rows) -> bool:
    """Whether there is one class number for each sample."""
    return labels.dtype.kind in "iub" and all(size == 1 for size in labels.shape[1:])


def rows_of(labels: Rows, classes: Collection[int]) -> Ints:
    """Numbers of the rows whose label is one of these classes, ascending."""
    wanted = np.array(sorted(classes), np.int64)
    found = [start + np.flatnonzero(np.isin(block, wanted)) for start, block in _blocks(labels)]
    return np.concatenate(found) if found else np.zeros(0, np.int64)


def stratified(labels: Rows, limit: int, rng: np.random.Generator) -> Ints:
    """``limit`` row numbers, ascending, without repetition; ``limit`` is below the number of rows."""
    classes, counts = _counted(labels)
    before = np.cumsum(counts) - counts
    quota = _quota(counts, limit)
    drawn = [
        start + rng.choice(count, some, replace=False, shuffle=False)
        for start, count, some in zip(before, counts, quota, strict=True)
    ]
    places = np.sort(np.concatenate(drawn))
    chosen = []
    following = before.copy()  # the place of the next row of each class
    for start, block in _blocks(labels):
        codes = np.searchsorted(classes, block)
        here = np.bincount(codes, minlength=len(classes))
        order = np.argsort(codes, kind="stable")
        rank = np.empty(len(codes), np.int64)
        rank[order] = np.arange(len(codes)) - np.repeat(np.cumsum(here) - here, here)
        chosen.append(start + np.flatnonzero(np.isin(following[codes] + rank, places)))
        following += here
    return np.concatenate(chosen)


def _quota(counts: Ints, limit: int) -> Ints:
    """How many rows of each class: in proportion, rounded by largest remainder, after one for each if there is room."""
    base = np.full(len(counts), int(limit >= len(counts)))
    share = (counts - base) * ((limit - base.sum()) / max(1, (counts - base).sum()))
    quota: Ints = base + np.floor(share).astype(np.int64)
    rest = np.argsort(np.floor(share) - share, kind="stable")[: limit - quota.sum()]
    quota[rest] += 1
    return quota


def _counted(labels: Rows) -> tuple[Array, Ints]:
    """The classes that occur, ascending, and how often."""
    classes, counts = np.unique(np.asarray(labels[:0])), np.zeros(0, np.int64)
    for _, block in _blocks(labels):
        more, times = np.unique(block, return_counts=True)
        both = np.union1d(classes, more)
        total = np.zeros(len(both), np.int64)
        total[np.searchsorted(both, classes)] += counts
        total[np.searchsorted(both, more)] += times
        classes, counts = both, total
    return classes, counts


def _blocks(labels: Rows) -> Iterator[tuple[int, Array]]:
    for start in range(0, len(labels), BLOCK):
        yield start, np.asarray(labels[start : start + BLOCK]).reshape(-1)
