"""From components to the answer: units, the groups that they form, and what is frozen and why."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from onnxprune.naming import group_names
from onnxprune.ops.rule import Role
from onnxprune.ops.ties import KERNEL_STAYS, Ties
from onnxprune.solver import Solution
from onnxprune.values import Coupling, EqualCount, Frozen, Group, Ints, Member
from onnxprune.zeros import weight_role

__all__ = ["collect"]

Bools = NDArray[np.bool_]


def collect(t: Ties, solution: Solution, inexact: Bools, hazards: Bools) -> Coupling:
    """Units of the free components, grouped by the set of axes that they live on."""
    lengths = np.diff([*t.starts, t.total])
    owners, blocks, starts = (np.repeat(np.array(x, np.int64), lengths) for x in (t.owners, t.blocks, t.starts))
    offsets = np.arange(t.total) - starts
    roles = {name: weight_role(t.graph, name) for name in t.graph.weights}
    linear = np.array([roles.get(tensor) is Role.LINEAR for tensor, _ in t.axes] or [False], np.bool_)
    count = solution.frozen.size
    useful = np.zeros(count, np.bool_)
    real = owners >= 0
    useful[solution.labels[real & linear[owners]]] = True
    # a component of one element is a row of a table that nobody reads, not a feature
    free = useful & ~solution.frozen & (np.bincount(solution.labels[real], minlength=count) > 1)
    chosen = np.flatnonzero(real & free[solution.labels])
    order_of_axis = _axis_order(t)
    group_of, unit_of, groups = _group(t, solution.labels[chosen], owners[chosen], offsets[chosen], order_of_axis)
    members = _members(t, group_of, unit_of, owners[chosen], offsets[chosen], blocks[chosen], roles, len(groups))
    names = group_names(t, [t.axes[first] for first, _ in groups], members)
    label_of_group = _first_label(group_of, solution.labels[chosen], len(groups))
    result = tuple(
        Group(
            name=name.text,
            units=size,
            members=members[number],
            exact=not inexact[label_of_group[number]].any(),
            kind=name.kind,
            channels=name.per_unit,
            hazard=bool(hazards[label_of_group[number]].any()),
        )
        for number, ((_, size), name) in enumerate(zip(groups, names, strict=True))
    )
    return Coupling(
        model_hash=t.graph.model.hash,
        groups=result,
        frozen=_frozen(t, solution, roles),
        unknown_ops=dict(t.unknown),
        constraints=_constraints(t, solution.labels, chosen, group_of, unit_of),
        options=t.options,
        shapes=dict(t.graph.shapes),
        graph=t.graph,
    )


def _first_label(group_of: Ints, labels: Ints, count: int) -> list[Ints]:
    order = np.argsort(group_of, kind="stable")
    edges = np.searchsorted(group_of[order], np.arange(count + 1))
    return [np.unique(labels[order[a:b]]) for a, b in pairwise(edges)]


def _axis_order(t: Ties) -> Ints:
    """Rank of every axis: outputs of nodes in execution order first, then inputs, constants and what fills sizes."""
    position: dict[str, int] = {}
    for node in t.graph.nodes:
        if node.op not in ("ConstantOfShape", "Expand"):
            for output in node.outputs:
                position[output] = node.number
    last = len(t.graph.nodes)
    keys = [(position.get(tensor, last), number) for number, (tensor, _) in enumerate(t.axes)]
    ranks = np.empty(len(keys), np.int64)
    ranks[[k[1] for k in sorted(keys)]] = np.arange(len(keys))
    return ranks


def _group(
    t: Ties, labels: Ints, owners: Ints, offsets: Ints, order_of_axis: Ints
) -> tuple[Ints, Ints, list[tuple[int, int]]]:
    """Group and unit number per element; per group its first axis and its number of units."""
    if labels.size == 0:
        return labels, labels, []
    units, compact = np.unique(labels, return_inverse=True)
    by_unit = np.argsort(compact, kind="stable")
    edges = np.searchsorted(compact[by_unit], np.arange(units.size))
    keys = np.random.default_rng(0).integers(1, 2**63, len(t.axes), dtype=np.uint64)
    signature = np.add.reduceat(keys[owners[by_unit]], edges)
    rank = order_of_axis[owners] * (int(offsets.max()) + 1) + offsets
    first = np.minimum.reduceat(rank[by_unit], edges)
    _, group = np.unique(signature, return_inverse=True)
    order = np.lexsort((first, group))
    starts = np.flatnonzero(np.r_[True, np.diff(group[order]) > 0])
    leads = first[order][starts]
    renumber = np.empty(starts.size, np.int64)
    renumber[np.argsort(leads, kind="stable")] = np.arange(starts.size)
    group = renumber[group]
    order = np.lexsort((first, group))
    counts = np.bincount(group)
    unit = np.empty(units.size, np.int64)
    unit[order] = np.arange(units.size) - np.repeat(np.r_[0, np.cumsum(counts)[:-1]], counts)
    axis_of_rank = np.argsort(order_of_axis)
    width = int(offsets.max()) + 1
    firsts = first[order][np.r_[0, np.cumsum(counts)[:-1]]] // width
    return group[compact], unit[compact], [(int(axis_of_rank[f]), int(n)) for f, n in zip(firsts, counts, strict=True)]


def _members(
    t: Ties,
    group_of: Ints,
    unit_of: Ints,
    owners: Ints,
    offsets: Ints,
    blocks: Ints,
    roles: Mapping[str, Role],
    count: int,
) -> list[tuple[Member, ...]]:
    result: list[list[Member]] = [[] for _ in range(count)]
    if group_of.size == 0:
        return [tuple(m) for m in result]
    key = group_of * len(t.axes) + owners
    order = np.argsort(key, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(key[order]) > 0])
    for part in np.split(order, starts[1:]):
        number, axis_number = int(group_of[part[0]]), int(owners[part[0]])
        tensor, axis = t.axes[axis_number]
        ragged = t.ragged.get((tensor, axis))
        is_ragged = ragged is not None and blocks[part[0]] >= 0
        result[number].append(
            Member(
                tensor=tensor,
                axis=axis,
                index=offsets[part],
                unit=unit_of[part],
                block=blocks[part] if is_ragged else None,
                along=ragged.along if is_ragged and ragged else None,
                blocks=len(ragged.ids) if is_ragged and ragged else 1,
                weight=tensor in roles,
                linear=roles.get(tensor) is Role.LINEAR,
                consumes=(tensor, axis) in t.consuming,
            )
        )
    return [tuple(m) for m in result]


def _constraints(t: Ties, labels: Ints, chosen: Ints, group_of: Ints, unit_of: Ints) -> tuple[EqualCount, ...]:
    where: Ints = np.full(int(labels.max()) + 1 if labels.size else 0, -1, np.int64)
    where[labels[chosen]] = np.arange(chosen.size)
    result, seen = [], set()
    for blocks, reason in t.equal:
        rows = []
        for ids in blocks:
            found = where[labels[ids]]
            found = np.sort(found[found >= 0])
            rows.append(np.stack([group_of[found], unit_of[found]], axis=1))
        if not any(r.size for r in rows):
            continue
        key = tuple(r.tobytes() for r in rows)
        if key not in seen:
            seen.add(key)
            result.append(EqualCount(tuple(rows), reason))
    return tuple(result)


def _frozen(t: Ties, solution: Solution, roles: Mapping[str, Role]) -> tuple[Frozen, ...]:
    """Axes of linear constants that may not lose anything, with the reason that reached them first."""
    result = []
    for tensor in t.graph.weights:
        shape = t.shape(tensor) or ()
        if roles[tensor] is not Role.LINEAR:
            continue
        for axis in range(len(shape)):
            ids = t.axis_ids(tensor, axis)
            if ids is None or shape[axis] <= 1:
                continue
            why = solution.reason[solution.labels[ids.reshape(-1)]]
            if (why >= 0).all() and solution.reasons[int(why[0])] != KERNEL_STAYS:
                result.append(Frozen(tensor, axis, solution.reasons[int(why[0])]))
    return tuple(result)
