"""The same ridge regression for layers with more inputs than there are samples, by its dual.

With R = T - X W0' (both less their means) and K = X X', samples by samples::

    W = W0 + R' (K + penalty I)^-1 X

so that nothing of the size columns x columns is ever made: 25,000 inputs take no more memory than their samples.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.recover.solve import PENALTIES, Fit

__all__ = ["Stored", "fit_stored"]

Array = NDArray[Any]
Floats = NDArray[np.float64]


class Stored:
    """Samples kept as they come, float32: x (groups, samples, columns), t (groups, samples, rows)."""

    def __init__(self) -> None:
        self._x: list[Array] = []
        self._t: list[Array] = []

    def add(self, x: Array, t: Array) -> None:
        self._x.append(np.asarray(x, np.float32))
        self._t.append(np.asarray(t, np.float32))

    @property
    def count(self) -> int:
        return sum(x.shape[1] for x in self._x)

    @property
    def x(self) -> Array:
        return np.concatenate(self._x, axis=1)

    @property
    def t(self) -> Array:
        return np.concatenate(self._t, axis=1)


def fit_stored(
    fitted: Stored, held: Stored, weights: Floats, bias: Floats, *, intercept: bool, bias_only: bool = False
) -> Fit:
    """Weights and bias, group by group; the penalty is the one with the least error on the samples held back."""
    new, shift = weights.copy(), bias.copy()
    before = after = total = 0.0
    penalty: float | None = None
    x, t, x_held, t_held = fitted.x, fitted.t, held.x, held.t
    for g in range(len(weights)):
        problem = _Group(x[g], t[g], weights[g], intercept=intercept)
        judge = problem.judged(x_held[g], t_held[g])
        best = 0 if bias_only else int(np.argmin([judge(None), *(judge(p) for p in PENALTIES)]))
        chosen = PENALTIES[best - 1] if best else None
        new[g] = problem.weights(chosen)
        if intercept:
            shift[g] = problem.mean_t - new[g] @ problem.mean_x
        penalty = chosen if chosen is not None else penalty
        before += float(((x_held[g] @ weights[g].T + bias[g] - t_held[g]) ** 2).sum())
        after += judge(chosen)
        total += float(((t_held[g] - t_held[g].mean(0)) ** 2).sum())
    scale = max(total, 1e-30)
    return Fit(new, shift, before / scale, after / scale, penalty)


class _Group:
    """One group: everything less its mean, and the eigenvectors of K."""

    def __init__(self, x: Array, t: Array, start: Floats, *, intercept: bool) -> None:
        zero = 0.0 if intercept else None
        self.mean_x: Floats = np.zeros(x.shape[1]) if zero is None else x.mean(0, dtype=np.float64)
        self.mean_t: Floats = np.zeros(t.shape[1]) if zero is None else t.mean(0, dtype=np.float64)
        self.start = start
        self.x = (x - self.mean_x).astype(np.float32)
        residual = (t - self.mean_t) - self.x @ start.T
        kernel = (self.x @ self.x.T).astype(np.float64)
        values, self.vectors = np.linalg.eigh(kernel)
        self.values = np.maximum(values, 0)
        self.residual = self.vectors.T @ residual
        self.scale = max(float(np.trace(kernel)) / x.shape[1], 1e-12)

    def _dual(self, penalty: float) -> Floats:
        return np.asarray(self.vectors @ (self.residual / (self.values + penalty * self.scale)[:, None]))

    def weights(self, penalty: float | None) -> Floats:
        """The weights for a penalty; None: those that were there."""
        if penalty is None:
            return self.start
        return np.asarray(self.start + self._dual(penalty).T @ self.x)

    def judged(self, x: Array, t: Array) -> Any:
        """The squared error on other samples, as a function of the penalty."""
        x = (x - self.mean_x).astype(np.float32)
        rest = (t - self.mean_t) - x @ self.start.T
        across = x @ self.x.T

        def error(penalty: float | None) -> float:
            found = rest if penalty is None else rest - across @ self._dual(penalty)
            return float((found**2).sum())

        return error
