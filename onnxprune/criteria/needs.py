"""What criteria need besides a model, and whether it is there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from onnxprune.criteria.base import Criterion, Settings
from onnxprune.criteria.batchnorm import batchnorm_scales
from onnxprune.criteria.gradient_reach import out_of_reach
from onnxprune.values import Coupling

__all__ = ["NEEDS", "Need", "lacking"]


@dataclass(frozen=True)
class Need:
    """``words``: what it is; ``hint``: how to come by it; ``met``: whether it is there; ``detail``: more words."""

    words: str
    hint: str
    met: Callable[[Coupling, Settings], bool]
    detail: Callable[[Coupling], str] = lambda coupling: ""


def _has_batchnorm(coupling: Coupling, settings: Settings) -> bool:
    scales = batchnorm_scales(coupling.graph)
    return any(member.tensor in scales for group in coupling.groups for member in group.weights)


def _has_gradients(coupling: Coupling, settings: Settings) -> bool:
    """Whether gradients get to any group."""
    blocked = out_of_reach(coupling.graph)
    return not coupling.groups or any(m.tensor not in blocked for group in coupling.groups for m in group.members)


def _in_the_way(coupling: Coupling) -> str:
    """The operator without a rule that most lies in front of."""
    nodes = list(out_of_reach(coupling.graph).values())
    return f", and {max(nodes, key=nodes.count)} has no gradient rule" if nodes else ""


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
    "gradients": Need(
        "gradients with respect to some layer",
        "Take the part of the model in front of it, or a criterion that needs no gradients.",
        _has_gradients,
        _in_the_way,
    ),
}
"""By the words of ``Criterion.needs``; what is not listed here is the criterion's own affair."""


def lacking(criterion: Criterion, coupling: Coupling, settings: Settings) -> Need | None:
    """The first need of a criterion that is not met."""
    needs = (NEEDS[word] for word in criterion.needs if word in NEEDS)
    found = next((need for need in needs if not need.met(coupling, settings)), None)
    return None if found is None else replace(found, words=found.words + found.detail(coupling))
