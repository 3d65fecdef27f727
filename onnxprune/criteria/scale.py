"""Scores of units divided by their L2 norm, over each layer or over the whole model.

Molchanov et al. (arXiv:1611.06440) divide by the norm of the layer, so that layers in which everything is large do not
crowd out the others. The order inside a layer stays.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from onnxprune.criteria.base import UnitScores

__all__ = ["rescaled", "scaled"]

Floats = NDArray[np.float64]


def scaled(scores: Mapping[str, Floats], over: bool | str) -> dict[str, Floats]:
    """Divided by the norm over the "layer" or the "model"; anything else leaves them. A norm of 0 divides nothing."""
    if over == "layer":
        return {name: _divided(values, _norm(values)) for name, values in scores.items()}
    if over == "model":
        norm = float(np.sqrt(sum(_norm(values) ** 2 for values in scores.values())))
        return {name: _divided(values, norm) for name, values in scores.items()}
    return dict(scores)


def rescaled(scores: UnitScores, over: bool | str) -> UnitScores:
    """The same for scores as they come from a criterion."""
    if over not in ("layer", "model"):
        return scores
    return UnitScores(scaled(scores, over), scores.criterion, scores.model_hash, scores.warnings)


def _norm(values: Floats) -> float:
    finite = values[np.isfinite(values)]
    return float(np.linalg.norm(finite))


def _divided(values: Floats, norm: float) -> Floats:
    return values / norm if norm > 0 else values.copy()
