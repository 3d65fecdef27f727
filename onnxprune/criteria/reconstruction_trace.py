"""The optimal brain surgeon on one layer: what it costs to lose weights when those that stay make up for them.

For a row w of a layer's matrix, with H the mean of x x' over the samples (1% of the mean of its diagonal added to the
diagonal, so that few samples are not taken for the truth), the squared error of other weights v is (v-w) H (v-w)'. If
weight p goes and the others move to where the error is least, it grows by

    w_p^2 / [H^-1]_pp ,   with   w <- w - [H^-1]_p w_p / [H^-1]_pp ,   H^-1 <- H^-1 - [H^-1]_p' [H^-1]_p / [H^-1]_pp

``exact_trace`` takes away the cheapest weight of every row, again and again, and notes what each cost in its turn:
OBC, arXiv:2208.11580. The costs in front of a weight and its own add up to the error without all of them.
``sequential`` goes through the columns once, in their order, with one H for all rows of which the columns passed are
gone: SparseGPT, arXiv:2301.00774.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.values import Ints

__all__ = ["alive", "damped", "energy", "exact_trace", "in_turn", "places", "sequential"]

Array = NDArray[Any]
Floats = NDArray[np.float64]

DAMPING = 0.01
PIECE = 1 << 25  # bytes of inverses that are worked on at once
PENDING = 32  # steps after which the inverses are brought up to date
BLOCK = 128  # columns that SparseGPT chooses from together


def damped(h: Floats) -> Floats:
    """(groups, n, n) with a hundredth of the mean of its diagonal added to the diagonal; of zeros the identity."""
    mean = np.trace(h, axis1=1, axis2=2) / max(h.shape[1], 1)
    extra = np.where(mean > 0, DAMPING * mean, 1.0)
    return np.asarray(h + extra[:, None, None] * np.eye(h.shape[1]))


def alive(w: Floats, h: Floats) -> Floats:
    """The weights with 0 for those whose input is always 0: they can go for nothing."""
    return np.where(np.diagonal(h, axis1=1, axis2=2)[:, None] > 0, w, 0.0)


def energy(w: Floats, h: Floats) -> float:
    """Mean square of the layer's output, summed over its rows: w (groups, rows, n), h (groups, n, n); 1 if it is 0."""
    return float(np.einsum("grn,grn->", w @ h, w)) or 1.0


def in_turn(costs: Floats, axis: int = -1) -> Floats:
    """The costs of removals that follow each other, made to grow strictly: none goes before those in front of it."""
    result = np.maximum.accumulate(np.maximum(costs, 0), axis=axis)
    rows = np.moveaxis(result, axis, 0)
    for k in range(1, len(rows)):
        rows[k] = np.maximum(rows[k], np.nextafter(rows[k - 1], np.inf))
    return result


def exact_trace(w: Floats, h: Floats) -> tuple[Ints, Floats]:
    """The columns of each row in the order in which they go, and what each costs in its turn: (groups, rows, n) both.

    w (groups, rows, n), h (groups, n, n) undamped.
    """
    inverse: Floats = np.asarray(np.linalg.inv(damped(h)), np.float64)
    groups, rows, n = w.shape
    owner = np.repeat(np.arange(groups), rows)
    flat = alive(w, h).reshape(-1, n)
    order, costs = np.empty((len(flat), n), np.int64), np.empty((len(flat), n))
    step = max(PIECE // (8 * max(n, 1) ** 2), 1)
    for start in range(0, len(flat), step):
        part = slice(start, start + step)
        order[part], costs[part] = _trace(flat[part], inverse[owner[part]])
    return order.reshape(w.shape), costs.reshape(w.shape)


def _trace(w: Floats, inverse: Floats) -> tuple[Ints, Floats]:
    """Rows (m, n) with an inverse each, (m, n, n); both are used up.

    The inverses are brought up to date after every few steps. Until then the lines that are to be taken off them are
    kept, scaled so that line' line is what goes: only the pivot's row and the diagonal are needed at every step.
    """
    m, n = w.shape
    rows = np.arange(m)
    order, costs = np.empty((m, n), np.int64), np.empty((m, n))
    diagonal = np.einsum("mii->mi", inverse).copy()
    gone = np.zeros((m, n), np.bool_)
    lines = np.zeros((m, PENDING, n))
    for k in range(n):
        cost = np.where(gone, np.inf, np.square(w) / np.maximum(diagonal, np.finfo(np.float64).tiny))
        p = cost.argmin(axis=1)
        order[:, k], costs[:, k] = p, cost[rows, p]
        gone[rows, p] = True
        line = inverse[rows, p] - (lines[rows, :, p][:, None] @ lines)[:, 0]
        pivot = np.maximum(line[rows, p], np.finfo(np.float64).tiny)
        w -= (w[rows, p] / pivot)[:, None] * line
        line /= np.sqrt(pivot)[:, None]
        diagonal -= line**2
        lines[:, k % PENDING] = line
        if k % PENDING == PENDING - 1:
            inverse -= lines.swapaxes(1, 2) @ lines
            lines[:] = 0
    return order, costs


def sequential(w: Floats, h: Floats, ratio: float) -> tuple[Floats, Floats]:
    """The cost of every weight when its column's turn comes, and its place among those it is chosen with, 0 to 1.

    In blocks of 128 columns: the cheapest ``ratio`` of a block goes, the columns behind make up for it, and the next
    block is looked at as it is then. The place counts, in units of the block's size, those of its block that cost
    less; so the same share of every block goes at any ratio. w (groups, rows, n), h (groups, n, n) undamped.
    """
    w = alive(w, h)
    factor = np.linalg.cholesky(np.linalg.inv(damped(h))).swapaxes(1, 2)  # upper: H^-1 = factor' factor
    costs, taken = np.empty_like(w), np.empty_like(w)
    for start in range(0, w.shape[2], BLOCK):
        block = slice(start, min(start + BLOCK, w.shape[2]))
        upper = factor[:, block, block]
        diagonal = np.einsum("gii->gi", upper)[:, None]
        costs[:, :, block] = cost = np.square(w[:, :, block] / diagonal)
        taken[:, :, block] = place = places(cost)
        errors = _eliminate(w[:, :, block], upper, place < ratio)
        w[:, :, block.stop :] -= errors @ factor[:, block, block.stop :]
    return costs, taken


def places(values: Floats) -> Floats:
    """Rank of each value among all, over their number; ties by position."""
    ranks = np.empty(values.size)
    ranks[np.argsort(values, axis=None, kind="stable")] = np.arange(values.size)
    return (ranks / values.size).reshape(values.shape)


def _eliminate(w: Floats, upper: Floats, gone: NDArray[np.bool_]) -> Floats:
    """Take out what is gone column by column, the columns behind it making up for it; what is left over for others."""
    w = w.copy()
    errors = np.zeros_like(w)
    for j in range(w.shape[2]):
        errors[:, :, j] = np.where(gone[:, :, j], w[:, :, j], 0) / upper[:, None, j, j]
        w[:, :, j:] -= errors[:, :, j, None] * upper[:, None, j, j:]
    return errors
