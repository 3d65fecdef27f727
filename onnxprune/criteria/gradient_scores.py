"""From gradients to scores: substitutes for what gradients do not reach, and sums over the parameters of units."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.criteria.base import Settings, UnitScores, WeightScores
from onnxprune.criteria.gradient_runs import Differentiated
from onnxprune.criteria.magnitude import scored_shape
from onnxprune.criteria.measuring import completed, listed
from onnxprune.criteria.slices import axes_of, blocks, broken, positions, real_array, scored_members, tables
from onnxprune.graph import Graph
from onnxprune.model import Model
from onnxprune.nodes import Node
from onnxprune.values import Coupling

__all__ = ["finite_array", "per_unit", "per_weight", "units_completed"]

Array = NDArray[Any]
Floats = NDArray[np.float64]

UNSEEN = "no gradient says anything about these groups"


def units_completed(
    model: Model, coupling: Coupling, settings: Settings, found: Mapping[str, Floats], ran: Differentiated
) -> UnitScores:
    """The scores found; groups out of reach or without influence on the loss have a substitute and a warning."""
    good = {name: values for name, values in found.items() if np.isfinite(values).all()}
    blocked = [g.name for g in coupling.groups if g.name in ran.blocked and g.name not in good]
    scores = completed(model, coupling, settings, good, UNSEEN)
    return replace(scores, warnings=(*ran.warnings, *_in_the_way(ran.blocked, blocked), *scores.warnings))


def per_unit(
    model: Model,
    coupling: Coupling,
    settings: Settings,
    values: Mapping[str, Array],
    ran: Differentiated,
    finish: Callable[[Floats], Floats] = lambda total: total,
) -> UnitScores:
    """``values`` (constant -> a number per entry) summed over the linear parameters of every unit.

    A group some of whose constants have none is out of reach. ``finish`` makes scores of the sums.
    """
    members = scored_members(coupling, settings.sides)
    totals = {g.name: np.zeros(g.units) for g in coupling.groups}
    missing: set[str] = set()
    for tensor, mine in members.items():
        names = [coupling.groups[number].name for number, _ in mine]
        if tensor not in values:
            missing.update(names)
            continue
        shape = scored_shape(coupling.graph, tensor)
        array = values[tensor].reshape(shape)
        pieces = ((place, array[place]) for place in blocks(shape))
        found = tables(pieces, shape, {axes_of(member) for _, member in mine}, np.add)
        for name, (_, member) in zip(names, mine, strict=True):
            np.add.at(totals[name], member.unit, positions(found[axes_of(member)], member, np.add))
    sums = {name: finish(total) for name, total in totals.items() if name not in missing}
    blockers = {
        coupling.groups[number].name: ran.blocked[tensor]
        for tensor, mine in members.items()
        if tensor in ran.blocked
        for number, _ in mine
    }
    scores = units_completed(model, coupling, settings, sums, replace(ran, blocked=blockers))
    return replace(scores, warnings=(*scores.warnings, *broken(model, coupling.graph, members)))


def per_weight(
    model: Model, coupling: Coupling, names: tuple[str, ...], values: Mapping[str, Array], ran: Differentiated
) -> WeightScores:
    """``values`` as scores; what has none gets |w| on the scale of those that have, and a warning."""
    graph: Graph = coupling.graph
    missing = [name for name in names if name not in values]
    top = max((float(v.max(initial=0.0)) for v in values.values()), default=1.0)

    def compute(name: str) -> Array:
        if name in values:
            return np.nan_to_num(values[name], nan=0.0)
        size = np.abs(finite_array(model, graph, name))
        return np.asarray(size * (top / max(float(size.max(initial=0.0)), np.finfo(np.float64).tiny)), np.float32)

    said = [f"{UNSEEN.replace('groups', 'weights')}: {listed(missing)}; they are scored by |w|"] if missing else []
    warnings = (*ran.warnings, *_in_the_way(ran.blocked, missing), *said, *broken(model, graph, names))
    return WeightScores(names, compute, warnings=warnings)


def finite_array(model: Model, graph: Graph, name: str) -> Array:
    """The real values of a constant, 0 where they are NaN or Inf: the bound of a mask is no weight."""
    values = real_array(model, graph, name)
    return values if np.isfinite(values).all() else np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)


def _in_the_way(blocked: Mapping[str, Node], names: list[str]) -> list[str]:
    """One sentence for each operator without a rule."""
    by_node: dict[str, list[str]] = {}
    for name in names:
        if name in blocked:
            by_node.setdefault(str(blocked[name]), []).append(name)
    return [f"{node} has no gradient rule, and lies behind {listed(mine)}" for node, mine in by_node.items()]
