"""Single weights: the lowest scores become zero, by a ratio per layer or by one threshold over all layers.

The threshold is exact and found without holding all scores at once: the numbers are counted by their leading bits,
16 at a time, until the ones that share the threshold's bits are few enough to be sorted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.allocate.budget import Budget, Reached, check_names, share
from onnxprune.criteria.base import WeightScores
from onnxprune.criteria.slices import linear_weights
from onnxprune.errors import DataError, NothingToPrune, OptionError
from onnxprune.graph import Graph
from onnxprune.nodes import Node
from onnxprune.ops import rule_for
from onnxprune.ops.rule import Role
from onnxprune.plan import Plan
from onnxprune.values import Coupling

__all__ = ["allocate_weights", "lowest", "prunable_weights"]

Array = NDArray[Any]
Bools = NDArray[np.bool_]

CHUNK = 1 << 20  # elements looked at in one go
FEW = 1 << 18  # elements that may be sorted at once
DIGIT = 16  # bits counted in one pass

# (leading bits, number of bits after them) -> the keys that begin so, piece by piece
Keys = Callable[[int, int], Iterator[NDArray[Any]]]


def allocate_weights(coupling: Coupling, scores: WeightScores, budget: Budget) -> tuple[Plan, Reached]:
    """Mask the single weights with the lowest scores. Names in the budget are those of weights or of groups.

    A group's name stands for the weights that produce its units. See `allocate`.
    """
    if budget.has_target:
        raise OptionError(
            "a target on parameters or MACs cannot be met by zeroing single weights: shapes stay as they are",
            "Give a ratio, or remove whole units.",
        )
    if (budget.round_to or 1) > 1:
        raise OptionError(f"round_to={budget.round_to} has no meaning for single weights", "Leave it out.")
    graph: Graph = coupling.graph
    sizes = {t: prod(graph.weights[t].shape) for t in prunable_weights(graph, include_biases=budget.include_biases)}
    ratios = _ratios(coupling, sizes, budget)
    _check(graph, scores, sizes)
    masks: dict[str, Bools] = {}
    for name, ratio in ratios.items():
        if ratio is not None:
            masks |= lowest((name,), scores.__getitem__, min(share(ratio, sizes[name]), sizes[name] - 1))
    free = tuple(name for name, ratio in ratios.items() if ratio is None)
    masks |= _one_threshold(free, scores, share(budget.ratio or 0.0, sum(sizes[n] for n in free)))
    masks = {name: mask for name, mask in masks.items() if mask.any()}
    if not masks:
        raise NothingToPrune(
            "No weight goes: " + ("the ratio is too small" if sizes else "the model has no layer with a weight matrix"),
            "Ask for a larger ratio." if sizes else "See `onnxprune inspect`.",
        )
    counts = {name: (int(masks[name].sum()) if name in masks else 0, size) for name, size in sizes.items()}
    reached = Reached(budget.as_dict(), sum(n for n, _ in counts.values()), sum(sizes.values()), counts)
    return _plan(coupling, masks, scores, budget), reached


def prunable_weights(graph: Graph, *, include_biases: bool = False) -> tuple[str, ...]:
    """Names of the weights that may be masked: matrices and kernels of layers that multiply.

    That is: constants of linear role with two or more axes longer than 1, read by an operator that has MACs, of the
    highest rank among its constants. ``include_biases``: all constants of linear role that have an axis.
    """
    linear = linear_weights(graph)
    if include_biases:
        return linear
    return tuple(t for t in linear if sum(d > 1 for d in graph.weights[t].shape) > 1 and _multiplies(graph, t))


def _multiplies(graph: Graph, tensor: str) -> bool:
    rank = len(graph.weights[tensor].shape)
    for node in _readers(graph, tensor):
        rule = rule_for(node.domain, node.op)
        ranks = [len(graph.weights[i].shape) for i in node.inputs if i in graph.weights]
        if rule is not None and rule.macs is not None and rank >= max(ranks, default=0):
            return True
    return False


def _readers(graph: Graph, tensor: str) -> Iterator[Node]:
    """The nodes that work with a constant, seen through those that only move or re-type it."""
    for node, k in graph.consumers.get(tensor, ()):
        rule = rule_for(node.domain, node.op)
        if rule is not None and rule.role(k) is Role.PASS:
            for output in node.outputs:
                yield from _readers(graph, output)
        else:
            yield node


def _ratios(coupling: Coupling, sizes: Mapping[str, int], budget: Budget) -> dict[str, float | None]:
    """The ratio that is set for each weight, by its own name or by that of its group; None: one threshold for all."""
    check_names((*budget.group_ratios, *budget.skip), [*sizes, *coupling.by_name], "group or weight")
    result = {name: budget.ratio_of(name) for name in sizes}
    for group in coupling.groups:
        if group.name in budget.skip or group.name in budget.group_ratios:
            for member in group.weights:
                if member.tensor in sizes and not member.consumes and member.tensor not in budget.group_ratios:
                    result[member.tensor] = budget.ratio_of(group.name)
    return result


def _check(graph: Graph, scores: WeightScores, sizes: Mapping[str, int]) -> None:
    missing = [name for name in sizes if name not in scores]
    if missing:
        raise DataError(
            f"no scores for weight `{missing[0]}` {list(graph.weights[missing[0]].shape)}"
            + (f" and {len(missing) - 1} others" if missing[1:] else ""),
            "Score the weights of this model again.",
        )


def _one_threshold(names: Sequence[str], scores: WeightScores, count: int) -> dict[str, Bools]:
    """The ``count`` lowest of all, but one weight, its best, is kept in every layer that would lose all."""
    spared = 0
    while True:
        masks = lowest(names, scores.__getitem__, count + spared)
        whole = [name for name, mask in masks.items() if mask.all()]
        if len(whole) == spared or len(whole) == len(masks):
            break
        spared = len(whole)
    for name in whole:
        masks[name].reshape(-1)[-1 - int(np.argmax(scores[name].reshape(-1)[::-1]))] = False
    return masks


def lowest(names: Sequence[str], scores: Callable[[str], Array], count: int) -> dict[str, Bools]:
    """Masks of exactly the ``count`` lowest scores over all arrays; ties go by position, the earlier array first."""
    if count <= 0 or not names:
        return {}
    wide = np.result_type(np.float32, *(scores(name).dtype for name in names))
    limit, ties = _threshold(lambda prefix, shift: _keys(names, scores, wide, prefix, shift), wide, count)
    masks = {}
    for name in names:
        masks[name], taken = _mask(scores(name), limit, ties)
        ties -= taken
    return masks


def _mask(values: Array, limit: np.floating[Any], ties: int) -> tuple[Bools, int]:
    """What lies below the limit, and the first ``ties`` of what equals it; also how many those are."""
    mask = np.asarray(values < limit)
    equal = np.flatnonzero(values.reshape(-1) == limit)[:ties]
    mask.reshape(-1)[equal] = True
    return mask, equal.size


def _threshold(keys_of: Keys, wide: np.dtype[Any], count: int) -> tuple[np.floating[Any], int]:
    """The ``count``-th lowest value, and how many of the values equal to it are among the ``count`` lowest."""
    below, prefix = 0, 0  # values with smaller leading bits; the leading bits of the threshold so far
    for shift in range(8 * wide.itemsize - DIGIT, -1, -DIGIT):
        tally = np.zeros(1 << DIGIT, np.int64)
        for keys in keys_of(prefix, shift + DIGIT):
            digits = (keys >> keys.dtype.type(shift)).astype(np.int64) & ((1 << DIGIT) - 1)
            tally += np.bincount(digits, minlength=tally.size)
        upto = np.cumsum(tally) + below
        digit = int(np.searchsorted(upto, count))
        below = int(upto[digit] - tally[digit])
        prefix = prefix << DIGIT | digit
        if shift == 0:
            return _value(prefix, wide), count - below
        if tally[digit] <= FEW:
            break
    found = np.sort(np.concatenate(list(keys_of(prefix, shift))))
    key = found[count - below - 1]
    return _value(int(key), wide), count - below - int(np.searchsorted(found, key))


def _keys(
    names: Sequence[str], scores: Callable[[str], Array], wide: np.dtype[Any], prefix: int, shift: int
) -> Iterator[NDArray[Any]]:
    """All values as unsigned integers of the same order, piece by piece; only those that begin with ``prefix``."""
    bits = 8 * wide.itemsize
    unsigned, signed = np.dtype(f"u{wide.itemsize}"), np.dtype(f"i{wide.itemsize}")
    top = unsigned.type(1 << (bits - 1))
    for name in names:
        flat = scores(name).reshape(-1)
        for start in range(0, flat.size, CHUNK):
            piece = flat[start : start + CHUNK].astype(wide, copy=False) + wide.type(0)  # -0 becomes 0
            keys = piece.view(unsigned)
            keys ^= (piece.view(signed) >> signed.type(bits - 1)).view(unsigned) | top
            yield keys if shift == bits else keys[keys >> unsigned.type(shift) == unsigned.type(prefix)]
        del flat


def _value(key: int, wide: np.dtype[Any]) -> np.floating[Any]:
    """The inverse of the order-preserving map."""
    bits = 8 * wide.itemsize
    raw = key ^ (1 << (bits - 1)) if key >> (bits - 1) else key ^ ((1 << bits) - 1)
    value: np.floating[Any] = np.array([raw], np.dtype(f"u{wide.itemsize}")).view(wide)[0]
    return value


def _plan(coupling: Coupling, masks: Mapping[str, Bools], scores: WeightScores, budget: Budget) -> Plan:
    path = coupling.graph.model.path
    return Plan(
        model_hash=coupling.model_hash,
        group_sizes={g.name: g.units for g in coupling.groups},
        weights=masks,
        options=coupling.options,
        recipe={"operation": "allocate", "criterion": scores.criterion, "granularity": "weight", **budget.as_dict()},
        model_name=path.name if path else "",
    )
