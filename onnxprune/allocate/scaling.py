"""Scores of different layers made comparable."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.values import Coupling

__all__ = ["lamp", "matrices", "normalised"]

Array = NDArray[Any]


def lamp(scores: Array) -> Array:
    """LAMP (arXiv:2010.07611): s^2 over the sum of the squares of all scores of the layer that come not earlier.

    Same shape and type; higher = keep. Scores below 0 are moved up first, so that the lowest is 0. Equal scores come
    in the order of their positions. The highest score of a layer has 1.
    """
    flat = scores.reshape(-1)
    order = np.argsort(flat, kind="stable")
    squares = np.square(flat[order].astype(np.float64) - min(float(flat.min(initial=0)), 0.0))
    rest = np.cumsum(squares[::-1])[::-1]
    result = np.empty_like(flat)
    result[order] = np.divide(squares, rest, out=np.ones_like(squares), where=rest > 0)
    return result.reshape(scores.shape)


def normalised(scores: Array) -> Array:
    """Scores over their Euclidean norm (arXiv:1611.06440). Same shape and type; higher = keep."""
    norm = float(np.sqrt(np.square(scores, dtype=np.float64).sum()))
    return scores / scores.dtype.type(norm) if norm > 0 else scores


def matrices(coupling: Coupling) -> tuple[int, ...]:
    """Per group, from how many linear weights with two long axes or more its units are cut; at least 1."""
    shapes = coupling.graph.weights
    return tuple(
        max(sum(m.linear and sum(d > 1 for d in shapes[m.tensor].shape) > 1 for m in group.weights), 1)
        for group in coupling.groups
    )
