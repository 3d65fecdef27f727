"""Which elements must be removed together: rules -> elements -> units -> groups.

Every operator's rule says which elements of its inputs, parameters and outputs are the same thing. Units are the
connected components; residuals, concatenations, shared weights, squeeze-and-excitation, shuffles and attention fall
out of that without being looked for. Cost is linear in the number of elements.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from onnxprune.errors import OptionError
from onnxprune.graph import PRIMES, Graph, Node, dynamic_dims
from onnxprune.grouping import collect
from onnxprune.model import Model
from onnxprune.ops import rule_for
from onnxprune.ops.ties import Ties
from onnxprune.samples import assign
from onnxprune.solver import Solution, solve
from onnxprune.values import Coupling, Ints, Options
from onnxprune.zeros import zero_flags

__all__ = ["couple", "couple_graph", "relate", "settle"]

Bools = NDArray[np.bool_]
# Operators whose first input is the data; sizes at the others say where and how large
ARRANGES = frozenset("Gather GatherElements Slice Expand Tile Reshape Squeeze Unsqueeze Transpose Split Pad".split())


def couple(
    model: Model, options: Options | None = None, *, provider: str = "auto", threads: int | None = None
) -> Coupling:
    """Analyse a model: its groups, what is frozen and why, and operators without a rule.

    Dynamic dimensions are tried with two assignments; an axis on which they disagree is frozen. ``provider`` and
    ``threads``: where shapes that cannot be inferred are seen by running the model.
    """
    options = options or Options()
    fixed = dict(options.shapes)
    graph = assign(model, fixed=fixed, provider=provider, threads=threads)
    names = dynamic_dims(model)
    if not names:
        return couple_graph(graph, options)
    sizes = dict(zip(names, PRIMES[1], strict=False))
    other = assign(model, sizes, fixed=fixed, provider=provider, threads=threads)
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
    return collect(t, *found)


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
    while True:  # every round freezes at least one component more
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
