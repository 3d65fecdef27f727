"""What zeroing a unit does to the tensors behind it, and what every constant is to its readers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from onnxprune.graph import Graph
from onnxprune.ops import rule_for
from onnxprune.ops.rule import Role, Zeros, zero_lost
from onnxprune.ops.ties import Ties
from onnxprune.solver import Solution, factor_index
from onnxprune.values import Ints

__all__ = ["weight_role", "zero_flags"]

Bools = NDArray[np.bool_]


def zero_flags(t: Ties, solution: Solution, hazard: Bools | None = None) -> tuple[Bools, list[Ints]]:
    """Which elements are exactly 0 when their unit is zeroed, and where zeros would make NaN.

    Of the components in ``hazard`` only the consuming parameters are zeroed.
    """
    flags = _first_flags(t, solution, hazard)
    records = [list(r) for r in t.records]
    for merge, live in zip(t.merges, solution.live, strict=True):
        if live >= 0:
            factor = merge.factors[live][factor_index(merge, live)]
            if merge.into:
                records[merge.node].append((0, factor, merge.merged))
            else:
                records[merge.node].insert(0, (0, merge.merged, factor))
    z = Zeros(t.graph, flags, records, t.output_ids)
    _spread_zeros(z)
    while t.graph.aliases:  # what a Loop carries comes back
        before = flags.copy()
        z.hazards.clear()
        _spread_zeros(z)
        if np.array_equal(before, flags):
            break
    return flags, z.hazards


def _first_flags(t: Ties, solution: Solution, hazard: Bools | None) -> Bools:
    """True but for what comes from outside and for constants that are not zeroed."""
    flags = np.ones(t.total, np.bool_)
    followed = {name for names in t.graph.aliases.values() for name in names}
    formal = {name for node in t.graph.nodes for body in node.bodies.values() for name in body.inputs}
    for tensor in (*t.graph.inputs, *(formal - followed)):
        for axis in range(len(t.shape(tensor) or ())):
            ids = t.axis_ids(tensor, axis)
            if ids is not None:
                flags[ids] = False
    for tensor in t.graph.weights:
        linear = weight_role(t.graph, tensor) is Role.LINEAR
        for axis in range(len(t.shape(tensor) or ())):
            ids = t.axis_ids(tensor, axis)
            if ids is not None and not linear:
                flags[ids] = False
            elif ids is not None and hazard is not None and (tensor, axis) not in t.consuming:
                flags[ids] &= ~hazard[solution.labels[ids]]
    return flags


def _spread_zeros(z: Zeros) -> None:
    for node in z.graph.nodes:
        rule = rule_for(node.domain, node.op)
        (rule.zero if rule else zero_lost)(node, z)


def weight_role(graph: Graph, tensor: str) -> Role:
    """The role of a constant: LINEAR only if every reader says so; PASS readers hand the question on."""
    roles: set[Role] = set()
    seen: set[str] = set()
    stack = [(tensor, False)]
    while stack:
        name, looked_up = stack.pop()
        if name in seen:
            continue
        seen.add(name)
        stack.extend((alias, looked_up) for alias in graph.aliases.get(name, ()))
        for node, k in graph.consumers.get(name, ()):
            rule = rule_for(node.domain, node.op)
            role = rule.role(k) if rule else Role.DATA
            if role is Role.PASS and node.bodies:
                continue
            if role is Role.PASS:
                table = looked_up or (node.op == "Gather" and node.inputs[1] not in graph.values)
                stack.extend((o, table) for o in node.outputs if o)
            else:
                roles.add(Role.LINEAR if looked_up and role is Role.DATA else role)
    roles.discard(Role.SHAPE)
    if roles == {Role.LINEAR}:
        return Role.LINEAR
    return next(iter(sorted(roles - {Role.LINEAR}, key=lambda r: r.value)), Role.DATA)
