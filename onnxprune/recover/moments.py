"""First and second moments of pairs (x, t), accumulated batch by batch in float64.

Products of many columns are taken in float32, which is twice as fast: where so many are fitted, no penalty is small
enough to tell the difference.

With n samples of x (columns) and t (rows), per group: ``n``, ``sum x``, ``sum t``, ``X'X``, ``X'T`` and ``sum t^2``.
Everything that ridge regression needs follows from them, and so does the error of any weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["WIDE", "Moments"]

Array = NDArray[Any]
Floats = NDArray[np.float64]

WIDE = 1536  # columns


@dataclass(eq=False)
class Moments:
    """Sums for (groups, samples, columns) against (groups, samples, rows)."""

    count: int
    x: Floats  # (groups, columns)
    t: Floats  # (groups, rows)
    xx: Floats  # (groups, columns, columns)
    xt: Floats  # (groups, columns, rows)
    tt: Floats  # (groups, rows)

    @classmethod
    def empty(cls, groups: int, columns: int, rows: int) -> Moments:
        """Sums over nothing."""
        shapes = ((columns,), (rows,), (columns, columns), (columns, rows), (rows,))
        return cls(0, *(np.zeros((groups, *shape)) for shape in shapes))

    def add(self, x: Array, t: Array) -> None:
        exact = np.float64 if x.shape[-1] <= WIDE else np.float32
        x, t = x.astype(exact), t.astype(exact)
        self.count += x.shape[1]
        self.x += x.sum(axis=1, dtype=np.float64)
        self.t += t.sum(axis=1, dtype=np.float64)
        self.xx += [part.T @ part for part in x]  # by symmetry half the work of a product of two
        self.xt += x.swapaxes(1, 2) @ t
        self.tt += (t * t).sum(axis=1, dtype=np.float64)

    def __add__(self, other: Moments) -> Moments:
        parts = zip(self._sums(), other._sums(), strict=True)
        return Moments(self.count + other.count, *(a + b for a, b in parts))

    def about(self, mean_x: Floats, mean_t: Floats) -> Moments:
        """Mean moments (count 1) of x and t less these values."""
        n = max(self.count, 1)
        x, t = self.x / n - mean_x, self.t / n - mean_t
        return Moments(
            1,
            x,
            t,
            self.xx / n - _outer(self.x / n, mean_x) - _outer(mean_x, self.x / n) + _outer(mean_x, mean_x),
            self.xt / n - _outer(self.x / n, mean_t) - _outer(mean_x, self.t / n) + _outer(mean_x, mean_t),
            self.tt / n - 2 * self.t / n * mean_t + mean_t**2,
        )

    @property
    def means(self) -> tuple[Floats, Floats]:
        n = max(self.count, 1)
        return self.x / n, self.t / n

    def error(self, weights: Floats) -> Floats:
        """Squared error of ``x weights'`` against t per group and row; ``weights``: (groups, rows, columns)."""
        cross = np.einsum("grc,gcr->gr", weights, self.xt)
        square = np.einsum("grc,grc->gr", weights @ self.xx, weights)
        return np.asarray(np.maximum(self.tt - 2 * cross + square, 0.0))

    def _sums(self) -> tuple[Floats, ...]:
        return self.x, self.t, self.xx, self.xt, self.tt


def _outer(a: Floats, b: Floats) -> Floats:
    return np.asarray(a[:, :, None] * b[:, None, :])
