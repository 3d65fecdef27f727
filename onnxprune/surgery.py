"""Surgery: ``mask`` zeroes what a plan names, ``remove`` makes the shapes smaller. Neither edits its input.

``remove`` slices constants, then walks the nodes in execution order and lets every rule update what depends on sizes.
Values computed from shapes are re-evaluated with the new shapes first, so a Reshape target that follows the cut by
itself is left alone, and one that does not is patched: a constant gets a copy, a computed one is scaled.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.cuts import AxisCut, cut_array, cuts_of, zero_slices
from onnxprune.errors import PlanError, SurgeryError
from onnxprune.graph import Graph
from onnxprune.model import DerivedWeight, Model, Weight
from onnxprune.ops import rule_for
from onnxprune.ops.quantized import stored_zero
from onnxprune.plan import Plan
from onnxprune.store import Store
from onnxprune.surgeon import Surgeon, new_shapes
from onnxprune.tidy import drop_orphans
from onnxprune.values import Coupling, Member

__all__ = ["mask", "new_shapes", "remove"]

Array = NDArray[Any]
CutMap = dict[str, dict[int, AxisCut]]


def mask(model: Model, coupling: Coupling, plan: Plan) -> Model:
    """Same shapes; the linear parameters of removed units and the removed single weights are zero."""
    graph: Graph = coupling.graph
    editor = model.edit()
    store = Store(graph, editor)
    hazards = {g.name for g in coupling.groups if g.hazard}
    cuts: CutMap = {}
    for name, units in plan.units.items():
        wanted = _consuming if name in hazards else _linear
        for tensor, axes in cuts_of(coupling, {name: units}, wanted).items():
            mine = cuts.setdefault(tensor, {})
            for axis, cut in axes.items():
                old = mine.get(axis)
                mine[axis] = cut if old is None else AxisCut(old.removed | cut.removed, cut.along)
    new: dict[str, Weight] = {}
    for tensor, axes in cuts.items():
        if tensor in graph.weights:
            new[tensor] = _zeroed(graph, tensor, axes)
    store.put({**new, **_masked(graph, plan, new)})
    return editor.build()


def _masked(graph: Graph, plan: Plan, base: Mapping[str, Weight]) -> dict[str, Weight]:
    """The weights that the plan has a mask for, with zeros there; what is in ``base`` in place of the graph's own."""
    found = {}
    for tensor, gone in plan.weights.items():
        weight = base.get(tensor, graph.weights.get(tensor))
        if weight is None or tuple(weight.shape) != gone.shape:
            raise PlanError(
                f"The plan masks `{tensor}` {gone.shape}, which the model does not have", "Make a new plan."
            )
        found[tensor] = _holes(weight, gone, stored_zero(graph, tensor))
    return found


def _linear(member: Member) -> bool:
    return member.weight and member.linear


def _consuming(member: Member) -> bool:
    return member.weight and member.linear and member.consumes


def _zeroed(graph: Graph, tensor: str, axes: Mapping[int, AxisCut]) -> Weight:
    zero = stored_zero(graph, tensor)
    base = graph.weights[tensor]
    return DerivedWeight(base, tuple(base.shape), lambda a: zero_slices(a, axes, zero))


def _holes(base: Weight, gone: NDArray[np.bool_], zero: Array | int) -> Weight:
    def punch(array: Array) -> Array:
        result = np.array(array)
        result[gone] = np.broadcast_to(np.asarray(zero).astype(array.dtype), array.shape)[gone]
        return result

    return DerivedWeight(base, tuple(base.shape), punch)


def remove(model: Model, coupling: Coupling, plan: Plan) -> Model:
    """Smaller shapes. Raises SurgeryError where an operator cannot follow."""
    graph: Graph = coupling.graph
    cuts = cuts_of(coupling, plan.units)
    for tensor, axes in cuts.items():
        for axis, cut in axes.items():
            _check_cut(tensor, axis, cut)
    editor = model.edit()
    surgeon = Surgeon(graph, coupling, editor, cuts)
    masked = _masked(graph, plan, {})
    smaller = {t: _cut(masked.get(t, graph.weights[t]), axes) for t, axes in cuts.items() if t in graph.weights}
    surgeon.store.put({**masked, **smaller})
    for node in graph.nodes:
        rule = rule_for(node.domain, node.op)
        if rule is not None and rule.cut is not None:
            rule.cut(node, surgeon)
    surgeon.keep_numbers()
    surgeon.finish()
    drop_orphans(editor, model.proto)
    return editor.build()


def _check_cut(tensor: str, axis: int, cut: AxisCut) -> None:
    lost = cut.removed.reshape(-1, cut.removed.shape[-1]).sum(axis=1)
    if len(set(lost.tolist())) > 1:
        raise SurgeryError(
            f"The blocks of `{tensor}` axis {axis} would lose different numbers of elements: {lost.tolist()}",
            "Remove equally many from each block.",
        )
    if int(lost[0]) == cut.removed.shape[-1]:
        raise SurgeryError(f"Nothing would be left of `{tensor}` axis {axis}", "Keep at least one unit.")


def _cut(base: Weight, axes: Mapping[int, AxisCut]) -> Weight:
    shape = list(base.shape)
    for axis, cut in axes.items():
        shape[axis] -= cut.lost
    return DerivedWeight(base, tuple(shape), lambda a: cut_array(a, axes))
