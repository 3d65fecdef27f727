"""Weights that make a layer's outputs those of the original again, as far as its inputs allow.

Ridge regression towards the kept weights W0, on moments about the mean (which the bias takes)::

    minimise  mean |x W' - t|^2 + penalty |W - W0|^2        W = W0 + (C - W0 H) (H + penalty I)^-1

with H = mean x x', C = mean t x'. The penalty is chosen among multiples of the mean of diag H by the error on samples
that were held back, with "change nothing but the bias" among the candidates; so a repair that would not generalise is
not made. Where a mask leaves single weights out, the rows have different unknowns, and the same problem is solved by
conjugate gradients on all rows at once, every step projected onto the mask (Hestenes and Stiefel).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onnxprune.recover.moments import WIDE, Moments

__all__ = ["Fit", "fit_bias", "fit_weights"]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

PENALTIES = tuple(10.0 ** (e / 2) for e in range(-12, 3))
FEW_PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1)  # where each costs a solution of its own: under a mask, of many columns
STEPS = 200  # of conjugate gradients
PRECISION = 1e-7


@dataclass(frozen=True, eq=False)
class Fit:
    """New ``weights`` (groups, rows, columns) and ``bias`` (groups, rows).

    ``before`` and ``after``: error on samples that were held back, as a share of the variance of the target.
    ``penalty``: None where only the bias changed.
    """

    weights: Floats
    bias: Floats
    before: float
    after: float
    penalty: float | None


def fit_bias(
    fitted: Moments, held: Moments, weights: Floats, bias: Floats, *, intercept: bool, mask: Bools | None = None
) -> Fit:
    """The bias that makes the mean output that of the original: ``mean t - W mean x``; the weights stay.

    Where inputs are removed and nothing else has changed, that adds the mean of what the removed inputs contributed.
    """
    del mask
    whole = fitted + held
    mean_x, mean_t = whole.means
    new = mean_t - np.einsum("grc,gc->gr", weights, mean_x) if intercept else bias
    return Fit(weights, new, _share(held, weights, bias), _share(held, weights, new), None)


def fit_weights(
    fitted: Moments, held: Moments, weights: Floats, bias: Floats, *, intercept: bool, mask: Bools | None = None
) -> Fit:
    """Weights and bias by ridge regression. ``mask``: True where a weight must stay what it is (zero)."""
    rest = fit_bias(fitted, held, weights, bias, intercept=intercept)
    zeros = (np.zeros_like(fitted.x), np.zeros_like(fitted.t))
    means = fitted.means if intercept else zeros
    train, test = fitted.about(*means), held.about(*means)
    candidates = _candidates(train, weights, mask)
    errors = [float(test.error(weights).sum()), *(float(test.error(w).sum()) for _, w in candidates)]
    best = int(np.argmin(errors))
    if best == 0:
        return rest
    penalty = candidates[best - 1][0]
    whole = fitted + held
    means = whole.means if intercept else zeros
    every = whole.about(*means)
    final = _solve(every, weights, penalty, mask)
    shift = means[1] - np.einsum("grc,gc->gr", final, means[0]) if intercept else bias
    judged = candidates[best - 1][1]
    judged_bias = fitted.means[1] - np.einsum("grc,gc->gr", judged, fitted.means[0]) if intercept else bias
    return Fit(final, shift, rest.before, _share(held, judged, judged_bias), penalty)


def _share(moments: Moments, weights: Floats, bias: Floats) -> float:
    """Error of ``x W' + b`` as a share of the variance of t."""
    about = moments.about(np.zeros_like(moments.x), bias)
    variance = moments.tt / max(moments.count, 1) - (moments.t / max(moments.count, 1)) ** 2
    total = float(np.maximum(variance, 0).sum())
    return float(about.error(weights).sum()) / total if total > 0 else 0.0


def _candidates(train: Moments, weights: Floats, mask: Bools | None) -> list[tuple[float, Floats]]:
    if mask is not None or train.xx.shape[-1] > WIDE:
        return [(p, _solve(train, weights, p, mask)) for p in FEW_PENALTIES]
    values, vectors = np.linalg.eigh(train.xx)
    wanted = (train.xt.swapaxes(1, 2) - weights @ train.xx) @ vectors  # the gradient, in the eigenbasis
    scale = _scale(train.xx)
    result = []
    for penalty in PENALTIES:
        damped = wanted / (np.maximum(values, 0) + penalty * scale)[:, None, :]
        result.append((penalty, weights + damped @ vectors.swapaxes(1, 2)))
    return result


def _solve(moments: Moments, weights: Floats, penalty: float, mask: Bools | None) -> Floats:
    damped = moments.xx + (penalty * _scale(moments.xx))[:, :, None] * np.eye(moments.xx.shape[-1])
    gradient = moments.xt.swapaxes(1, 2) - weights @ moments.xx
    if mask is None:
        return np.asarray(weights + np.linalg.solve(damped, gradient.swapaxes(1, 2)).swapaxes(1, 2))
    return weights + _conjugate(damped, gradient, ~mask)


def _scale(xx: Floats) -> Floats:
    """Mean of the diagonal per group, (groups, 1); tiny where the input is always the same."""
    return np.asarray(np.maximum(np.trace(xx, axis1=1, axis2=2)[:, None] / xx.shape[-1], 1e-12))


def _conjugate(matrix: Floats, target: Floats, free: Bools) -> Floats:
    """Solve ``d matrix = target`` on the free entries of every row, with the diagonal as preconditioner."""
    diagonal = np.diagonal(matrix, axis1=1, axis2=2)[:, None, :]
    found = np.zeros_like(target)
    residual = np.where(free, target, 0.0)
    limit = PRECISION**2 * (residual**2).sum(axis=-1, keepdims=True)
    ready = residual / diagonal
    direction = ready
    product = (residual * ready).sum(axis=-1, keepdims=True)
    for _ in range(STEPS):
        if not ((residual**2).sum(axis=-1, keepdims=True) > limit).any():
            break
        moved = np.where(free, direction @ matrix, 0.0)
        curvature = (direction * moved).sum(axis=-1, keepdims=True)
        length = np.divide(product, curvature, out=np.zeros_like(product), where=curvature > 0)
        found += length * direction
        residual = residual - length * moved
        ready = residual / diagonal
        new = (residual * ready).sum(axis=-1, keepdims=True)
        direction = ready + np.divide(new, product, out=np.zeros_like(new), where=product > 0) * direction
        product = new
    return found
