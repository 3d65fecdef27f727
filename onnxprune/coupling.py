"""Which elements must be removed together: rules -> elements -> units -> groups.

Every operator's rule says which elements of its inputs, parameters and outputs are the same thing. Units are the
connected components; residuals, concatenations, shared weights, squeeze-and-excitation, shuffles and attention fall
out of that without being looked for. Cost is linear in the number of elements.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from onnxprune.errors import OptionError
from onnxprune.graph import PRIMES, Graph, Node, dynamic_dims
from onnxprune.model import Model
from onnxprune.naming import group_names
from onnxprune.ops import rule_for
from onnxprune.ops.rule import Role, Zeros, zero_lost
from onnxprune.ops.ties import Ties
from onnxprune.samples import assign
from onnxprune.solver import Solution, factor_index, solve
from onnxprune.values import Coupling, EqualCount, Frozen, Group, Ints, Member, Options

__all__ = ["couple", "couple_graph", "weight_role"]

Bools = NDArray[np.bool_]
MAX_ROUNDS = 8
# Operators whose first input is the data; sizes at the others say where and how large
ARRANGES = frozenset("Gather GatherElements Slice Expand Tile Reshape Squeeze Unsqueeze Transpose Split Pad".split())


def couple(model: Model, options: Options | None = None) -> Coupling:
    """Analyse a model: its groups, what is frozen and why, and operators without a rule.

    Dynamic dimensions are tried with two assignments; an axis on which they disagree is frozen.
    """
    options = options or Options()
    fixed = dict(options.shapes)
    graph = assign(model, fixed=fixed)
    names = dynamic_dims(model)
    if not names:
        return couple_graph(graph, options)
    other = assign(model, dict(zip(names, PRIMES[1], strict=False)), fixed=fixed)
    return couple_graph(graph, options, other)


def couple_graph(graph: Graph, options: Options, other: Graph | None = None) -> Coupling:
    """Analyse one graph; ``other`` is the same under a second assignment of its dynamic dimensions."""
    t = relate(graph, options)
    found = settle(t)
    if other is not None:
        second = relate(other, options)
        doubtful = _disagreements(_partition(t, found[0]), _partition(second, settle(second)[0]))
        if doubtful:
            for tensor, axis in doubtful:
                t.freeze(tensor, axis, "its coupling depends on the sizes of dynamic dimensions")
            found = settle(t)
    return _collect(t, *found)


def relate(graph: Graph, options: Options) -> Ties:
    """Let every rule speak."""
    t = Ties(graph, options)
    sizes: set[str] = set()
    _freeze_io(t)
    for node in graph.nodes:
        t.node = node
        rule = rule_for(node.domain, node.op)
        if rule is None:
            t.unknown[node.key] = t.unknown.get(node.key, 0) + 1
            t.freeze_node(node, f"no rule for operator {node.key}")
        elif _is_size(graph, node, sizes):
            sizes.update(node.outputs)
            _freeze_sizes(t, node)
        elif not rule.shapeless and any(i and graph.shape(i) is None for i in (*node.inputs, *node.outputs[:1])):
            t.freeze_node(node, f"the shapes at {node} are unknown")
        else:
            rule.couple(node, t)
    t.node = None
    return t


def _is_size(graph: Graph, node: Node, sizes: set[str]) -> bool:
    """Whether the node computes a size, or a list of them, from sizes (which a tensor of that shape is not)."""
    value = graph.value(node.output(0))
    if value is None or value.ndim > 1 or node.op == "ConstantOfShape":
        return False
    return node.op in ("Shape", "Size") or any(i in sizes for i in node.inputs[: 1 if node.op in ARRANGES else None])


def _freeze_sizes(t: Ties, node: Node) -> None:
    """Sizes are not features: neither they nor the constants that they are computed with lose an entry."""
    for tensor in node.outputs if node.op in ("Shape", "Size") else (*node.inputs, *node.outputs):
        if tensor in t.graph.values and len(t.shape(tensor) or ()) <= 1:
            t.freeze_all(tensor, f"{node} computes with sizes")


def _freeze_io(t: Ties) -> None:
    allowed = _allowed(t)
    for word, tensors in (("input", t.graph.inputs), ("output", t.graph.outputs)):
        for tensor in tensors:
            for axis in range(len(t.shape(tensor) or ())):
                if (tensor, axis) not in allowed:
                    t.freeze(tensor, axis, f"graph {word} `{tensor}`")


def _allowed(t: Ties) -> set[tuple[str, int]]:
    result: set[tuple[str, int]] = set()
    tensors = (*t.graph.inputs, *t.graph.outputs)
    for entry in t.options.allow_io:
        name, colon, axis = entry.rpartition(":") if entry.rpartition(":")[2].lstrip("-").isdigit() else (entry, "", "")
        found = [n for n in tensors if n == name] or [
            n for n in tensors if name == "cache" and any(w in n for w in ("past", "present", "cache"))
        ]
        if not found:
            raise OptionError(
                f"--allow-io {entry}: the model has no input or output of that name",
                f"It has: {', '.join(tensors)}",
            )
        for tensor in found:
            rank = len(t.shape(tensor) or ())
            if colon and not -rank <= int(axis) < rank:
                raise OptionError(f"--allow-io {entry}: `{tensor}` has {rank} axes", "Count axes from 0.")
            result.update((tensor, a) for a in ([int(axis) % rank] if colon else range(rank)))
    return result


def settle(t: Ties) -> tuple[Solution, Bools, Bools]:
    """Solve; find reductions that are not exact; freeze what they run over, unless asked not to; repeat.

    Returns the solution, and per component whether it is inexact and whether zeroing makes NaN.
    """
    wanted = t.options.include_inexact
    extra: list[tuple[Ints, str]] = [] if wanted else list(t.renormalised)
    for _ in range(MAX_ROUNDS):
        solution = solve(t, extra)
        flags, hazards = zero_flags(t, solution)
        if hazards:
            flags, _ = zero_flags(t, solution, _marked(solution, hazards))
        leaks = [
            (ids[0][leak], reason)
            for ids, reason in t.contractions
            if (leak := ~np.logical_or.reduce([flags[i] for i in ids])).any()
        ]
        leaks = [(ids, reason) for ids, reason in leaks if not solution.frozen[solution.labels[ids]].all()]
        if wanted or not leaks:
            break
        extra.extend(leaks)
    inexact = np.zeros(solution.frozen.size, np.bool_)
    for ids, _ in (*t.renormalised, *leaks):
        inexact[solution.labels[ids]] = True
    return solution, inexact, _marked(solution, hazards)


def _marked(solution: Solution, elements: Sequence[Ints]) -> Bools:
    """True for the components of these elements."""
    marked = np.zeros(solution.frozen.size, np.bool_)
    for ids in elements:
        marked[solution.labels[ids]] = True
    return marked


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


def _collect(t: Ties, solution: Solution, inexact: Bools, hazards: Bools) -> Coupling:
    """Units of the free components, grouped by the set of axes that they live on."""
    owners = np.repeat(np.array(t.owners, np.int64), np.diff([*t.starts, t.total]))
    blocks = np.repeat(np.array(t.blocks, np.int64), np.diff([*t.starts, t.total]))
    offsets = np.arange(t.total) - np.repeat(np.array(t.starts, np.int64), np.diff([*t.starts, t.total]))
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
        frozen=_frozen(t, solution),
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


def _frozen(t: Ties, solution: Solution) -> tuple[Frozen, ...]:
    """Axes of linear constants that may not lose anything, with the reason that reached them first."""
    result = []
    for tensor in t.graph.weights:
        shape = t.shape(tensor) or ()
        if weight_role(t.graph, tensor) is not Role.LINEAR:
            continue
        for axis in range(len(shape)):
            ids = t.axis_ids(tensor, axis)
            if ids is None or shape[axis] <= 1:
                continue
            why = solution.reason[solution.labels[ids.reshape(-1)]]
            if (why >= 0).all():
                result.append(Frozen(tensor, axis, solution.reasons[int(why[0])]))
    return tuple(result)


Partition = dict[tuple[str, int], Ints]


def _disagreements(first: Partition, second: Partition) -> list[tuple[str, int]]:
    """Constant axes whose units differ between two assignments of the dynamic dimensions.

    Two partitions of the same positions agree where their labels translate into each other, both ways.
    """
    keys = sorted(k for k in first.keys() & second.keys() if first[k].shape == second[k].shape)
    odd = sorted((first.keys() & second.keys()) - set(keys))
    if not keys:
        return odd
    x, y = (np.concatenate([part[k] for k in keys]) + 1 for part in (first, second))
    bad = _untranslatable(x, y) | _untranslatable(y, x)
    edges = np.cumsum([0, *(first[k].size for k in keys)])
    return odd + [k for k, a, b in zip(keys, edges[:-1], edges[1:], strict=True) if bad[a:b].any()]


def _untranslatable(x: Ints, y: Ints) -> Bools:
    translation = np.zeros(int(x.max()) + 1, np.int64)
    translation[x] = y
    wrong = translation[x] != y
    return np.isin(x, x[wrong]) if wrong.any() else wrong


def _partition(t: Ties, solution: Solution) -> Partition:
    """Per axis of a constant: its component per position, -1 where frozen."""
    result = {}
    for tensor in t.graph.weights:
        for axis in range(len(t.shape(tensor) or ())):
            ids = t.axis_ids(tensor, axis)
            if ids is not None:
                labels = solution.labels[ids.reshape(-1)]
                result[tensor, axis] = np.where(solution.frozen[labels], -1, labels)
    return result
