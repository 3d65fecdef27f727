"""Scale of the batch normalisation: what a channel is multiplied by behind its layer.

``bn-scale(unit) = mean |gamma|`` over the unit's entries in the scales of BatchNormalization nodes: one entry behind a
plain convolution, several where a residual sum or a concatenation ties channels or has several readers. Network
Slimming: Liu et al., arXiv:1708.06519 (there the scales are driven to zero in training first).

A unit without such an entry has no scale that would say anything about it. It scores the largest |gamma| of the model
plus the root mean square of its parameters: behind all units that have one where groups compete, and by magnitude
inside its group. The warnings name those groups. Where no unit has a BatchNormalization left (exporters fold it into
the layer in front), asking for this criterion is an error.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from onnxprune.criteria.base import Criterion, Settings, UnitScores
from onnxprune.criteria.magnitude import magnitude_of_units
from onnxprune.criteria.slices import broken, pieces_of
from onnxprune.graph import Graph
from onnxprune.model import Model
from onnxprune.values import Coupling, Group, Member

__all__ = ["CRITERIA", "batchnorm_scales"]

SCALE = 1  # input position
SHOWN = 5  # names in a warning


def batchnorm_of_units(model: Model, coupling: Coupling, settings: Settings) -> UnitScores:
    """Mean |gamma| of every unit; beyond the largest without one."""
    graph: Graph = coupling.graph
    scales = batchnorm_scales(graph)
    found, used = {}, dict[str, None]()
    for group in coupling.groups:
        members = [m for m in group.weights if m.tensor in scales]
        used.update(dict.fromkeys(m.tensor for m in members))
        found[group.name] = _of_group(model, graph, group, members)
    without = [name for name, values in found.items() if np.isnan(values).any()]
    if without:
        known = np.concatenate([values[~np.isnan(values)] for values in found.values()])
        magnitudes = magnitude_of_units("l2", model, coupling, settings)
        for name in without:
            beyond = known.max(initial=0) + magnitudes[name]
            found[name] = np.where(np.isnan(found[name]), beyond, found[name])
    return UnitScores(found, warnings=(*broken(model, graph, used), *_warning(without)))


def batchnorm_scales(graph: Graph) -> frozenset[str]:
    """Names of the constants that BatchNormalization nodes take for their scale."""
    nodes = (node for node in graph.nodes if node.op == "BatchNormalization" and not node.domain)
    return frozenset(node.input(SCALE) for node in nodes) & graph.weights.keys()


def _of_group(model: Model, graph: Graph, group: Group, members: list[Member]) -> NDArray[np.float64]:
    """Mean |gamma| per unit, NaN for those without one."""
    total, count = np.zeros(group.units), np.zeros(group.units)
    for member in members:
        gamma = np.concatenate([piece for _, piece in pieces_of(model, graph, member.tensor)])
        np.add.at(total, member.unit, np.abs(gamma[member.index]))
        np.add.at(count, member.unit, 1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _warning(groups: list[str]) -> list[str]:
    if not groups:
        return []
    more = f" and {len(groups) - SHOWN} others" if len(groups) > SHOWN else ""
    return [f"units without BatchNorm are scored by magnitude, behind all others: {', '.join(groups[:SHOWN])}{more}"]


CRITERIA = (
    Criterion(
        "bn-scale",
        "mean |gamma| of the unit's BatchNorm entries; beyond the largest of them without one",
        batchnorm_of_units,
        needs=("batchnorm",),
        paper="arXiv:1708.06519",
        cost="one pass over the scales",
    ),
)
