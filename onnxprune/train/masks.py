"""Which weights have to stay zero while a model is trained.

A model that a plan masked says so in its metadata: the entries of its removed units and single weights stay zero. So
do those of plans before it, which are handed down as one entry of the metadata (``zeros``), in the places that they
have in the model as it is. Other zeros are weights like all others (a fresh bias is all zeros), unless it is said that
they shall be kept.
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

__all__ = ["HASH", "PARENT", "PLAN", "ZEROS", "kept_zeros", "plan_of", "zeros_text"]

Masks = dict[str, NDArray[np.bool_]]
PLAN, PARENT, HASH, ZEROS = (
    "onnxprune.plan",
    "onnxprune.parent",
    "onnxprune.hash",
    "onnxprune.zeros",
)  # of the metadata, as `experiment` writes them


def plan_of(model: Model) -> Plan | None:
    """The plan that made this model, as its metadata tell; None where there is none that can be read."""
    return _read(model, PLAN)


def zeros_text(masks: Mapping[str, NDArray[np.bool_]], model_hash: str) -> str:
    """Masks as the metadata of the model with this hash hand them down: a plan of masks alone."""
    return Plan(model_hash, weights=masks).to_json()


def _read(model: Model, entry: str) -> Plan | None:
    try:
        return Plan.from_json(model.metadata[entry])
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
        plan, handed = plan_of(model), _read(model, ZEROS)
        found = {} if plan is None else _of_plan(model, plan)
        for name, mask in ({} if handed is None else _still_zero(model, handed)).items():
            found[name] = found.get(name, False) | mask
    return {name: mask for name, mask in found.items() if mask.any()}


def _trainable(graph: Graph) -> Iterator[str]:
    for name, weight in graph.weights.items():
        if weight.onnx_type in FLOATS and weight_role(graph, name) is Role.LINEAR:
            yield name


def _of_plan(model: Model, plan: Plan) -> Masks:
    """The entries that the plan names and that are zero; nothing of units that were removed."""
    found: Masks = {}
    if plan.units and plan.recipe.get("mode") != "remove":
        coupling = couple(model, plan.options)
        if _fits(coupling, plan):
            found |= _of_units(coupling, plan)
    for name, mask in _still_zero(model, plan).items():
        found[name] = found.get(name, False) | mask
    return found


def _still_zero(model: Model, plan: Plan) -> Masks:
    """Of the plan's single weights those that are zero; none of a weight that has another shape by now."""
    weights = build_graph(model).weights if plan.weights else {}
    return {
        name: gone & (weights[name].array() == 0)
        for name, gone in plan.weights.items()
        if name in weights and tuple(weights[name].shape) == gone.shape
    }


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
