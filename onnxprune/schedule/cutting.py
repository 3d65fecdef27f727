"""One round's pruning: whole units leave the model for good, single weights are masked and stay masked.

What is gone so far is kept as a plan for the model at the start (the *root*), so that it can be applied to earlier
weights of it, and so that it only ever grows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.allocate import Budget, allocate
from onnxprune.criteria import Settings, WeightScores, score_weights
from onnxprune.data import Dataset
from onnxprune.errors import ModelError, NothingToPrune
from onnxprune.experiment import Pruned, analyse, prune
from onnxprune.model import Model
from onnxprune.plan import Plan
from onnxprune.values import Coupling, Ints, Options

__all__ = ["Cut", "Cutter"]

Array = NDArray[Any]
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, eq=False)
class Cut:
    """The model after a round's pruning, all that is gone of the root, and that as a share.

    ``error``: the difference between masked and removed, as it was proven; None where nothing was removed.
    """

    model: Model
    plan: Plan
    reached: float
    error: float | None = None


@dataclass(frozen=True, eq=False)
class Cutter:
    """Prunes to a share of the root. ``budget``: fields of `allocate.Budget` beside the ratio."""

    root: Model
    granularity: str
    criterion: str
    options: Options
    data: Dataset
    seed: int = 0
    budget: Mapping[str, Any] = field(default_factory=dict)
    provider: str = "auto"
    threads: int | None = None
    progress: Progress | None = None

    def start(self) -> Plan:
        """Nothing is gone. The sizes of all groups, or the shapes of all weights that may go, are in it."""
        _, coupling = analyse(self.root, self.options, provider=self.provider, threads=self.threads)
        sizes = {group.name: group.units for group in coupling.groups} if self.granularity == "unit" else {}
        return Plan(coupling.model_hash, group_sizes=sizes, options=self.options)

    def cut(self, current: Model, gone: Plan, level: float, base: Model | None) -> Cut:
        """Prune ``current``, of which ``gone`` is gone already, until ``level`` of the root is.

        ``base``: earlier weights of the root that the result shall have; None for those of ``current``. Where nothing
        more can go, nothing does.
        """
        return (self._units if self.granularity == "unit" else self._weights)(current, gone, level, base)

    def _units(self, current: Model, gone: Plan, level: float, base: Model | None) -> Cut:
        kept = {name: np.setdiff1d(np.arange(size), _of(gone, name)) for name, size in gone.group_sizes.items()}
        total, left = sum(gone.group_sizes.values()), sum(units.size for units in kept.values())
        share = 1 - (1 - level) * total / max(left, 1)
        model, error, plan = current, None, gone
        if share * left >= 0.5:
            found = self._pruned(current, ratio=share, criterion=self.criterion, recover="none", **self.budget)
            if found is not None:
                model, error, plan = found.model, _error(found), _grown(gone, kept, found.plan)
        if base is not None:
            model, error = self._rewound(plan, base)
        return Cut(model, plan, plan.removed_units / max(total, 1), error)

    def _weights(self, current: Model, gone: Plan, level: float, base: Model | None) -> Cut:
        inlined, coupling = analyse(current, self.options, provider=self.provider, threads=self.threads)
        settings = Settings(
            seed=self.seed, data=self.data, provider=self.provider, threads=self.threads, progress=self.progress,
            ratios=level,
        )  # fmt: skip
        scores = score_weights(inlined, coupling, self.criterion, settings)
        found, reached = allocate(coupling, _lowered(scores, gone), Budget(ratio=level, **self.budget))
        masks = {name: mask | gone.weights.get(name, False) for name, mask in found.weights.items()}
        masks |= {name: mask for name, mask in gone.weights.items() if name not in masks}
        plan = replace(gone, weights=masks, recipe={"criterion": self.criterion, "mode": "mask"})
        share = plan.removed_weights / max(reached.total, 1)
        return Cut(self._rewound(plan, base or current)[0], plan, share)

    def _rewound(self, gone: Plan, base: Model) -> tuple[Model, float | None]:
        """The base without what is gone, and the error of the proof."""
        if not (gone.units or gone.weights):
            return base, None
        _, coupling = analyse(base, gone.options, provider=self.provider, threads=self.threads)
        _check_same(coupling, gone, base)
        found = self._pruned(base, plan=replace(gone, model_hash=coupling.model_hash))
        return (base, None) if found is None else (found.model, _error(found))

    def _pruned(self, model: Model, **wanted: Any) -> Pruned | None:
        """None where nothing more can go, or where all of it is zero already."""
        o = self.options
        choice: dict[str, Any] = {}
        if "plan" not in wanted:
            choice = {
                "include_inexact": o.include_inexact, "attention": o.attention, "norm_groups": o.norm_groups,
                "allow_io": o.allow_io, "shapes": dict(o.shapes),
            }  # fmt: skip
        try:
            return prune(
                model, data=self.data, seed=self.seed, provider=self.provider, threads=self.threads,
                progress=self.progress, **choice, **wanted,
            )  # fmt: skip
        except NothingToPrune:
            return None


def _error(found: Pruned) -> float | None:
    return None if found.proof is None else found.proof.error


def _grown(gone: Plan, kept: Mapping[str, Ints], found: Plan) -> Plan:
    """Everything that is gone, in the numbers of the root, once ``found`` (in those of the smaller model) is."""
    units = {name: _of(gone, name) for name in gone.group_sizes}
    for name, removed in found.units.items():
        if name not in kept or kept[name].size != found.group_sizes[name]:
            raise ModelError(
                f"group {name} is another one than before the last round", "Prune in one round, or name fewer groups."
            )
        units[name] = np.union1d(units[name], kept[name][removed])
    return replace(gone, units=units, recipe=dict(found.recipe))


def _lowered(scores: WeightScores, gone: Plan) -> WeightScores:
    """What is gone goes first: it gets the lowest score of its layer."""

    def compute(name: str) -> Array:
        values = scores[name]
        if name not in gone.weights:
            return values
        return np.asarray(np.where(gone.weights[name], min(0.0, float(values.min())), values).astype(values.dtype))

    return WeightScores(scores.names, compute, scores.criterion, scores.model_hash, scores.warnings)


def _check_same(coupling: Coupling, gone: Plan, base: Model) -> None:
    """Raise ModelError where earlier weights are those of another architecture."""
    sizes = {group.name: group.units for group in coupling.groups}
    shapes = {name: tuple(weight.shape) for name, weight in coupling.graph.weights.items()}
    odd = [name for name in gone.units if sizes.get(name) != gone.group_sizes[name]]
    odd += [name for name, mask in gone.weights.items() if shapes.get(name) != mask.shape]
    if odd:
        raise ModelError(
            f"{base.label}: not the same architecture as the model that is pruned, for one in {odd[0]}",
            "Rewind to an earlier state of the same model.",
        )


def _of(plan: Plan, name: str) -> Ints:
    return plan.units.get(name, np.zeros(0, np.int64))
