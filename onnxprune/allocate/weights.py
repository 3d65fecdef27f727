"""Single weights: the lowest scores become zero, one by one, in whole blocks, or N of every M (see `patterns`).

What is chosen among are *items*: single weights, or blocks of them. A ratio counts items, and one item is kept in
every layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.allocate.budget import Budget, check_names
from onnxprune.allocate.layers import producers, prunable_weights
from onnxprune.allocate.levels import Levels, counts_for, erk_levels, preset_levels, sensitivity_levels, table_names
from onnxprune.allocate.lowest import lowest
from onnxprune.allocate.patterns import Blocks, KeepOf, layers_of
from onnxprune.allocate.presets import suggest_ratios, weight_rates
from onnxprune.allocate.quantities import share
from onnxprune.allocate.reached import Reached
from onnxprune.allocate.scaling import lamp, normalised
from onnxprune.criteria.base import WeightScores
from onnxprune.errors import DataError, NothingToPrune, OptionError
from onnxprune.graph import Graph
from onnxprune.plan import Plan
from onnxprune.values import Coupling

__all__ = ["allocate_weights", "prunable_weights"]

Array = NDArray[Any]
Bools = NDArray[np.bool_]


def allocate_weights(coupling: Coupling, scores: WeightScores, budget: Budget) -> tuple[Plan, Reached]:
    """Mask the single weights with the lowest scores. Names in the budget are those of weights or of groups.

    A group's name stands for the weights that produce its units. See `allocate`.
    """
    graph: Graph = coupling.graph
    _check_budget(budget)
    shapes = {t: graph.weights[t].shape for t in prunable_weights(graph, include_biases=budget.include_biases)}
    ratios = _ratios(coupling, tuple(shapes), budget)
    _check_scores(graph, scores, shapes)
    pattern = budget.parsed_pattern
    if isinstance(pattern, KeepOf):
        chosen = [name for name in shapes if ratios[name] != 0]
        layers = layers_of(graph, chosen, pattern)
        masks = {name: pattern.mask(layers[name], scores[name]) for name in chosen}
    else:
        masks = _Items(coupling, scores, budget, ratios, pattern).masks()
    masks = {name: mask for name, mask in masks.items() if mask.any()}
    if not masks:
        raise NothingToPrune(
            "No weight goes: "
            + ("the ratio is too small" if shapes else "the model has no layer with a weight matrix"),
            "Ask for a larger ratio." if shapes else "See `onnxprune inspect`.",
        )
    counts = {n: (int(masks[n].sum()) if n in masks else 0, prod(shape)) for n, shape in shapes.items()}
    removed, total = (sum(column) for column in zip(*counts.values(), strict=True))
    return _plan(coupling, masks, scores, budget), Reached(budget.as_dict(), removed, total, counts)


class _Items:
    """What is chosen among, layer by layer, and how much of each layer goes."""

    def __init__(
        self,
        coupling: Coupling,
        scores: WeightScores,
        budget: Budget,
        ratios: Mapping[str, float | None],
        blocks: Blocks | None,
    ) -> None:
        self.coupling, self.graph, self.budget, self.ratios = coupling, coupling.graph, budget, ratios
        self.weight_scores, self.blocks = scores, blocks
        names = [name for name, ratio in ratios.items() if ratio != 0]
        self.layers = layers_of(self.graph, names, blocks) if blocks else {}
        self.sizes = {name: self._size(name) for name in names}

    def _size(self, name: str) -> int:
        shape = self.graph.weights[name].shape
        return self.blocks.count(self.layers[name], shape) if self.blocks else prod(shape)

    def scores(self, name: str) -> Array:
        """One score per item."""
        values = self.weight_scores[name]
        return self.blocks.scores(self.layers[name], values) if self.blocks else values

    def masks(self) -> dict[str, Bools]:
        """What goes of each weight, in its shape."""
        found: dict[str, Bools] = {}
        for name, size in self.sizes.items():
            ratio = self.ratios[name]
            if ratio is not None:
                found |= lowest((name,), self.scores, min(share(ratio, size), size - 1))
        free = tuple(name for name in self.sizes if self.ratios[name] is None)
        found |= self._spread(free, share(self.budget.ratio or 0.0, sum(self.sizes[n] for n in free)))
        if self.blocks is None:
            return found
        return {n: self.blocks.mask(self.layers[n], m, self.graph.weights[n].shape) for n, m in found.items()}

    def _spread(self, names: tuple[str, ...], count: int) -> dict[str, Bools]:
        """``count`` items of these layers, by the distribution."""
        if not names or not count:
            return {}
        spread = self.budget.spread
        if spread in ("global", "lamp", "normalised-global"):
            return _one_threshold(names, self._comparable(spread), count)
        sizes = np.array([self.sizes[n] for n in names], np.int64)
        counts = counts_for(count, sizes, self._levels(spread, names))
        masks: dict[str, Bools] = {}
        for name, number in zip(names, counts.tolist(), strict=True):
            masks |= lowest((name,), self.scores, number)
        return masks

    def _comparable(self, spread: str) -> Callable[[str], Array]:
        """Scores of different layers on one scale. Those of LAMP take sorting, and are kept."""
        if spread == "normalised-global":
            return lambda name: normalised(self.scores(name))
        if spread == "global":
            return self.scores
        kept: dict[str, Array] = {}

        def scores(name: str) -> Array:
            if name not in kept:
                kept[name] = lamp(self.scores(name))
            return kept[name]

        return scores

    def _levels(self, spread: str, names: tuple[str, ...]) -> Levels:
        if spread == "erk":
            return erk_levels([[self.graph.weights[n].shape] for n in names])
        if spread == "sensitivity" and self.budget.sensitivity is not None:
            known = table_names(self.budget.sensitivity)
            group_of = {t: group for group, tensors in producers(self.coupling).items() for t in tensors}
            rows = [n if n in known else group_of.get(n, n) for n in names]
            return sensitivity_levels(self.budget.sensitivity, rows, [True] * len(rows))
        rates = weight_rates(self.graph, self.budget.preset)
        return preset_levels([rates.get(n, 0.0) for n in names])


def _check_budget(budget: Budget) -> None:
    if budget.has_target:
        words = " and ".join(budget.targets)
        raise OptionError(
            f"a target ({words}) cannot be met by zeroing single weights: shapes stay as they are",
            "Give a ratio, or remove whole units.",
        )
    if (budget.round_to or 1) > 1:
        raise OptionError(f"round_to={budget.round_to} has no meaning for single weights", "Leave it out.")
    if budget.pattern is not None and budget.include_biases:
        raise OptionError(f"pattern {budget.pattern} is for matrices, not for biases", "Leave the biases out.")


def _ratios(coupling: Coupling, names: Iterable[str], budget: Budget) -> dict[str, float | None]:
    """The ratio that is set for each weight, by its own name or by that of its group; None: the others decide.

    Weights of N:M have the pattern's own ratio, unless they are skipped.
    """
    names = tuple(names)
    check_names((*budget.group_ratios, *budget.skip), [*names, *coupling.by_name], "group or weight")
    result = {name: budget.ratio_of(name) for name in names}
    pattern = budget.parsed_pattern
    if isinstance(pattern, KeepOf):
        result = {name: 0.0 if name in budget.skip else pattern.ratio for name in names}
    elif budget.spread == "preset" and budget.ratio is None:
        preset = suggest_ratios(coupling, budget.preset, budget.preset_step, weights=True)
        result = {name: preset.get(name, 0.0) if ratio is None else ratio for name, ratio in result.items()}
    for group in coupling.groups:
        if group.name in budget.skip or group.name in budget.group_ratios:
            for member in group.weights:
                if member.tensor in result and not member.consumes and member.tensor not in budget.group_ratios:
                    result[member.tensor] = budget.ratio_of(group.name)
    return result


def _check_scores(graph: Graph, scores: WeightScores, names: Iterable[str]) -> None:
    known = set(scores)  # `in` would compute them
    missing = [name for name in names if name not in known]
    if missing:
        raise DataError(
            f"no scores for weight `{missing[0]}` {list(graph.weights[missing[0]].shape)}"
            + (f" and {len(missing) - 1} others" if missing[1:] else ""),
            "Score the weights of this model again.",
        )


def _one_threshold(names: tuple[str, ...], scores: Callable[[str], Array], count: int) -> dict[str, Bools]:
    """The ``count`` lowest of all, but one item, its best, is kept in every layer that would lose all."""
    spared = 0
    while True:
        masks = lowest(names, scores, count + spared)
        whole = [name for name, mask in masks.items() if mask.all()]
        if len(whole) == spared or len(whole) == len(masks):
            break
        spared = len(whole)
    for name in whole:
        masks[name].reshape(-1)[-1 - int(np.argmax(scores(name).reshape(-1)[::-1]))] = False
    return masks


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
