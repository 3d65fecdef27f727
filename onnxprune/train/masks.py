"""Which weights have to stay zero while a model is trained.

A model that a plan masked says so in its metadata: the entries of its removed units and single weights stay zero. Other
zeros are weights like all others (a fresh bias is all zeros), unless it is said that they shall be kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from onnxprune.coupling import couple
from onnxprune.cuts import cuts_of, zero_slices
from onnxprune.errors import PlanError
from onnxprune.graph import Graph, build_graph
from onnxprune.model import Model, inline_functions
from onnxprune.ops.emitter import FLOATS
from onnxprune.ops.rule import Role
from onnxprune.plan import Plan
from onnxprune.values import Coupling, Member
from onnxprune.zeros import weight_role

__all__ = ["HASH", "PARENT", "PLAN", "kept_zeros", "plan_of"]

Masks = dict[str, NDArray[np.bool_]]
PLAN, PARENT, HASH = (
    "onnxprune.plan",
    "onnxprune.parent",
    "onnxprune.hash",
)  # of the metadata, as `experiment` writes them


def plan_of(model: Model) -> Plan | None:
    """The plan that made this model, as its metadata tell; None where there is none that can be read."""
    try:
        return Plan.from_json(model.metadata[PLAN])
    except (KeyError, PlanError):
        return None


def kept_zeros(model: Model, *, everything: bool = False) -> Masks:
    """Weight -> True where it has to stay zero: what a plan masked, or every zero of a weight with ``everything``.

    Names are those of the analysis view (`graph.Graph.weights`). Weights without such an entry are left out.
    """
    model = inline_functions(model)
    if everything:
        graph = build_graph(model)
        found = {name: graph.weights[name].array() == 0 for name in _trainable(graph)}
    else:
        plan = plan_of(model)
        found = {} if plan is None else _of_plan(model, plan)
    return {name: mask for name, mask in found.items() if mask.any()}


def _trainable(graph: Graph) -> Iterator[str]:
    for name, weight in graph.weights.items():
        if weight.onnx_type in FLOATS and weight_role(graph, name) is Role.LINEAR:
            yield name


def _of_plan(model: Model, plan: Plan) -> Masks:
    """The entries that the plan names and that are zero; nothing of a plan whose units were removed."""
    found: Masks = {}
    if plan.units and plan.recipe.get("mode") == "mask":
        coupling = couple(model, plan.options)
        if _fits(coupling, plan):
            found |= _of_units(coupling, plan)
    weights = build_graph(model).weights
    for name, gone in plan.weights.items():
        if name in weights and tuple(weights[name].shape) == gone.shape:
            found[name] = found.get(name, False) | (gone & (weights[name].array() == 0))
    return found


def _fits(coupling: Coupling, plan: Plan) -> bool:
    sizes: Mapping[str, int] = {group.name: group.units for group in coupling.groups}
    return all(sizes.get(name) == plan.group_sizes[name] for name in plan.units)


def _of_units(coupling: Coupling, plan: Plan) -> Masks:
    graph: Graph = coupling.graph
    found: Masks = {}
    for name, axes in cuts_of(coupling, plan.units, _linear).items():
        if name in graph.weights:
            array = graph.weights[name].array()
            gone = zero_slices(np.ones(array.shape, np.int8), axes) == 0
            found[name] = gone & (array == 0)
    return found


def _linear(member: Member) -> bool:
    return member.weight and member.linear
