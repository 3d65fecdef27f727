"""How far two tensors are apart, and whether a tensor says anything at all."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["as_array", "differs", "distance", "finite", "flips"]

Array = NDArray[Any]
FLOOR = 1e-6  # below this a tensor counts as zero


def distance(reference: Array, found: Array) -> float:
    """max|reference - found| / max(max|reference|, 1e-6); infinite for NaN, Inf and other shapes."""
    if reference.shape != found.shape:
        return math.inf
    if reference.size == 0:
        return 0.0
    if _is_text(reference) or _is_text(found):
        return 0.0 if np.array_equal(reference, found) else math.inf
    a, b = _wide(reference), _wide(found)
    if not (finite(a) and finite(b)):
        return math.inf
    return float(np.abs(a - b).max()) / max(float(np.abs(a).max()), FLOOR)


def differs(a: Array, b: Array, by: float) -> bool:
    """Are they further apart than ``by``, relative to the larger one? Different shapes are."""
    if a.shape != b.shape:
        return True
    if a.size == 0 or _is_text(a) or _is_text(b) or not (finite(a) and finite(b)):
        return False
    x, y = _wide(a), _wide(b)
    return float(np.abs(x - y).max()) > by * max(float(np.abs(x).max()), float(np.abs(y).max()), FLOOR)


def flips(reference: Array, found: Array, noise: float) -> tuple[int, int]:
    """How many entries differ, and the largest difference of whole numbers (1 for what is no number).

    Floating entries (a rounded number, a scale) differ where they do by more than ``noise``, relative to the largest.
    """
    if reference.shape != found.shape:
        return max(abs(reference.size - found.size), 1), np.iinfo(np.int32).max
    if reference.dtype.kind not in "iuf":
        count = int(np.count_nonzero(reference != found))
        return count, min(count, 1)
    gaps = np.abs(reference.astype(np.float64) - found.astype(np.float64))
    largest = float(gaps.max(initial=0.0))
    if reference.dtype.kind == "f":
        scale = max(float(np.abs(reference).max(initial=0.0)), FLOOR)
        return int(np.count_nonzero(~(gaps <= noise * scale))), 0
    return int(np.count_nonzero(gaps)), int(largest)


def finite(array: Array) -> bool:
    """No NaN and no Inf; true for what holds neither."""
    if array.dtype.kind in "biuOSU":
        return True
    return bool(np.isfinite(array.astype(np.float32) if array.dtype.kind == "V" else array).all())


def as_array(value: Any) -> Array:
    """An output as one array: a list of maps (class -> score) as rows, a list of tensors end to end."""
    if isinstance(value, np.ndarray):
        return value
    if isinstance(value, list | tuple):
        if value and isinstance(value[0], dict):
            return np.array([list(row.values()) for row in value])
        parts = [as_array(part).reshape(-1) for part in value]
        return np.concatenate(parts) if parts else np.empty(0)
    return np.asarray(value)


def _is_text(array: Array) -> bool:
    return array.dtype.kind in "OSU"


def _wide(array: Array) -> Array:
    """Types in which a difference can be taken without overflow."""
    if array.dtype in (np.float32, np.float64) or array.dtype.kind == "c":
        return array
    return array.astype(np.float64 if array.dtype.kind in "biu" else np.float32)
