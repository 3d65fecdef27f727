"""The lowest of many numbers, exactly and without holding all of them at once.

The numbers are counted by their leading bits, 16 at a time, until the ones that share the threshold's bits are few
enough to be sorted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["lowest"]

Array = NDArray[Any]
Bools = NDArray[np.bool_]

CHUNK = 1 << 20  # elements looked at in one go
FEW = 1 << 18  # elements that may be sorted at once
DIGIT = 16  # bits counted in one pass

# (leading bits, number of bits after them) -> the keys that begin so, piece by piece
Keys = Callable[[int, int], Iterator[NDArray[Any]]]


def lowest(names: Sequence[str], scores: Callable[[str], Array], count: int) -> dict[str, Bools]:
    """Masks of exactly the ``count`` lowest scores over all arrays; ties go by position, the earlier array first."""
    if count <= 0 or not names:
        return {}
    wide = np.result_type(np.float32, *(scores(name).dtype for name in names))
    limit, ties = _threshold(lambda prefix, shift: _keys(names, scores, wide, prefix, shift), wide, count)
    masks = {}
    for name in names:
        masks[name], taken = _mask(scores(name), limit, ties)
        ties -= taken
    return masks


def _mask(values: Array, limit: np.floating[Any], ties: int) -> tuple[Bools, int]:
    """What lies below the limit, and the first ``ties`` of what equals it; also how many those are."""
    mask = np.asarray(values < limit)
    equal = np.flatnonzero(values.reshape(-1) == limit)[:ties]
    mask.reshape(-1)[equal] = True
    return mask, equal.size


def _threshold(keys_of: Keys, wide: np.dtype[Any], count: int) -> tuple[np.floating[Any], int]:
    """The ``count``-th lowest value, and how many of the values equal to it are among the ``count`` lowest."""
    below, prefix = 0, 0  # values with smaller leading bits; the leading bits of the threshold so far
    for shift in range(8 * wide.itemsize - DIGIT, -1, -DIGIT):
        tally = np.zeros(1 << DIGIT, np.int64)
        for keys in keys_of(prefix, shift + DIGIT):
            digits = (keys >> keys.dtype.type(shift)).astype(np.int64) & ((1 << DIGIT) - 1)
            tally += np.bincount(digits, minlength=tally.size)
        upto = np.cumsum(tally) + below
        digit = int(np.searchsorted(upto, count))
        below = int(upto[digit] - tally[digit])
        prefix = prefix << DIGIT | digit
        if shift == 0:
            return _value(prefix, wide), count - below
        if tally[digit] <= FEW:
            break
    found = np.sort(np.concatenate(list(keys_of(prefix, shift))))
    key = found[count - below - 1]
    return _value(int(key), wide), count - below - int(np.searchsorted(found, key))


def _keys(
    names: Sequence[str], scores: Callable[[str], Array], wide: np.dtype[Any], prefix: int, shift: int
) -> Iterator[NDArray[Any]]:
    """All values as unsigned integers of the same order, piece by piece; only those that begin with ``prefix``."""
    bits = 8 * wide.itemsize
    unsigned, signed = np.dtype(f"u{wide.itemsize}"), np.dtype(f"i{wide.itemsize}")
    top = unsigned.type(1 << (bits - 1))
    for name in names:
        flat = scores(name).reshape(-1)
        for start in range(0, flat.size, CHUNK):
            piece = flat[start : start + CHUNK].astype(wide, copy=False) + wide.type(0)  # -0 becomes 0
            keys = piece.view(unsigned)
            keys ^= (piece.view(signed) >> signed.type(bits - 1)).view(unsigned) | top
            yield keys if shift == bits else keys[keys >> unsigned.type(shift) == unsigned.type(prefix)]
        del flat


def _value(key: int, wide: np.dtype[Any]) -> np.floating[Any]:
    """The inverse of the order-preserving map."""
    bits = 8 * wide.itemsize
    raw = key ^ (1 << (bits - 1)) if key >> (bits - 1) else key ^ ((1 << bits) - 1)
    value: np.floating[Any] = np.array([raw], np.dtype(f"u{wide.itemsize}")).view(wide)[0]
    return value
