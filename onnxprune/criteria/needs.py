"""What criteria need besides a model, and whether it is there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from onnxprune.criteria.base import Criterion, Settings
from onnxprune.criteria.batchnorm import batchnorm_scales
from onnxprune.values import Coupling

__all__ = ["NEEDS", "Need", "lacking"]


@dataclass(frozen=True)
class Need:
    """``words``: what it is; ``hint``: how to come by it; ``met``: whether it is there."""

    words: str
    hint: str
    met: Callable[[Coupling, Settings], bool]


def _has_batchnorm(coupling: Coupling, settings: Settings) -> bool:
    scales = batchnorm_scales(coupling.graph)
    return any(member.tensor in scales for group in coupling.groups for member in group.weights)


NEEDS: Mapping[str, Need] = {
    "data": Need("a dataset", "Give one with --data.", lambda coupling, settings: settings.data is not None),
    "labels": Need(
        "a dataset with labels",
        "Give one with `y` in it.",
        lambda coupling, settings: settings.data is None or settings.data.labels is not None,
    ),
    "batchnorm": Need(
        "units with BatchNormalization, of which this model has none (exporters fold it into the layer in front)",
        "Export the model with its BatchNormalization, in training mode for instance.",
        _has_batchnorm,
    ),
    "ratios": Need(
        "to know how much of each weight will be removed",
        "Give a ratio (Settings(ratios=0.5)), not a target.",
        lambda coupling, settings: settings.ratios is not None,
    ),
}
"""By the words of ``Criterion.needs``; what is not listed here is the criterion's own affair."""


def lacking(criterion: Criterion, coupling: Coupling, settings: Settings) -> Need | None:
    """The first need of a criterion that is not met."""
    needs = (NEEDS[word] for word in criterion.needs if word in NEEDS)
    return next((need for need in needs if not need.met(coupling, settings)), None)
