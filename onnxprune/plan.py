"""Plans: what is to be removed from one model, as an immutable value and as a file.

A plan names units by group and weights by mask, in the coordinates of the unpruned model. It can be saved,
compared (:func:`diff`), united (:func:`merge`), turned round (:func:`invert`) and held against a model
(:func:`check_model`, :func:`check_coupling`). ``True`` in a mask, and an index in a list, mean *removed*.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune import _plan_fields as fields
from onnxprune import _plan_json
from onnxprune._atomic import replacing
from onnxprune.errors import GroupNotFound, PlanError, PlanMismatch
from onnxprune.values import Coupling, EqualCount, Ints, Options

__all__ = [
    "GroupDiff",
    "MaskDiff",
    "Plan",
    "PlanDiff",
    "check_coupling",
    "check_model",
    "diff",
    "invert",
    "merge",
]

Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Plan:
    """Which units and which weights are removed, of which model, and why.

    ``units``: group name -> removed units, sorted int64, read-only; groups that lose nothing are not in it.
    ``group_sizes``: group name -> number of units, for every group in ``units`` and any others.
    ``weights``: initializer name -> mask of the initializer's shape, ``True`` = removed, read-only.
    ``recipe``: how the plan came about (criterion, ratios, seed, manual edits ...); anything that JSON can hold.
    ``model_name``: a file name for messages; the model is identified by ``model_hash`` alone.

    Lists and masks may be given in any order and are copied. Raises PlanError for an index that is negative, out
    of range or there twice, a group without a size, a mask that is not boolean, a recipe that JSON cannot hold.
    """

    model_hash: str
    units: Mapping[str, Ints] = field(default_factory=dict)
    group_sizes: Mapping[str, int] = field(default_factory=dict)
    weights: Mapping[str, Mask] = field(default_factory=dict)
    options: Options = field(default_factory=Options)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    model_name: str = ""

    def __post_init__(self) -> None:
        if not self.model_hash:
            raise PlanError("model.hash: empty", "A plan belongs to one model: give that model's hash.")
        if len(dict(self.options.shapes)) < len(self.options.shapes):
            raise PlanError("options.shapes: an input is named twice", "Give one shape for each input.")
        sizes = {name: fields.size(name, size) for name, size in self.group_sizes.items()}
        units = {name: fields.indices(name, units, sizes) for name, units in self.units.items()}
        self._set("group_sizes", sizes)
        self._set("units", {name: removed for name, removed in units.items() if removed.size})
        self._set("weights", {name: fields.read_only(name, mask) for name, mask in self.weights.items()})
        self._set("recipe", fields.json_values(self.recipe))

    def _set(self, name: str, value: dict[str, Any]) -> None:
        object.__setattr__(self, name, MappingProxyType(value))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Plan):
            return NotImplemented
        plain = ("model_hash", "group_sizes", "options", "recipe", "model_name")
        same = all(getattr(self, name) == getattr(other, name) for name in plain)
        return same and _same_arrays(self.units, other.units) and _same_arrays(self.weights, other.weights)

    def __hash__(self) -> int:
        return hash((self.model_hash, self.options, frozenset(self.units), frozenset(self.weights)))

    def __reduce__(self) -> tuple[Callable[..., Plan], tuple[Any, ...]]:
        """Plans travel to worker processes, and a read-only view of a dictionary cannot be pickled."""
        maps = (dict(self.units), dict(self.group_sizes), dict(self.weights))
        return Plan, (self.model_hash, *maps, self.options, dict(self.recipe), self.model_name)

    @property
    def removed_units(self) -> int:
        """Number of units removed, over all groups."""
        return sum(removed.size for removed in self.units.values())

    @property
    def removed_weights(self) -> int:
        """Number of single weights removed by the masks."""
        return sum(int(mask.sum()) for mask in self.weights.values())

    def to_json(self) -> str:
        """The plan as readable JSON, one line for each group and each mask."""
        return _plan_json.encode(
            model={"hash": self.model_hash, "name": self.model_name},
            options=self.options,
            recipe=self.recipe,
            groups={name: (size, _of(self, name).tolist()) for name, size in self.group_sizes.items()},
            weights=self.weights,
        )

    @classmethod
    def from_json(cls, text: str, where: str = "plan") -> Plan:
        """The inverse of :meth:`to_json`; raises PlanError that names ``where`` (a file name) and the row."""
        try:
            return cls(**_plan_json.decode(text))
        except PlanError as error:
            raise PlanError(f"{where}: {error.message}", error.hint) from None

    def save(self, path: str | Path) -> None:
        """Write the plan as JSON; on failure raises PlanError, and whatever was at ``path`` is still there."""
        try:
            with replacing(Path(path)) as file:
                # A lone surrogate (a file name that was not UTF-8) becomes the escape that JSON has for it.
                file.write(self.to_json().encode("utf-8", "backslashreplace"))
        except OSError as error:
            reason = error.strerror or str(error)
            raise PlanError(f"{path}: cannot write the plan: {reason}", "Choose another place to save it.") from error

    @classmethod
    def load(cls, path: str | Path) -> Plan:
        """Read a plan file; raises PlanError that names the file and the row."""
        try:
            text = Path(path).read_bytes().decode("utf-8")
        except OSError as error:
            raise PlanError(f"{path}: cannot read the plan: {error.strerror}", "Check the file's name.") from error
        except UnicodeDecodeError as error:
            hint = "Give the .json file that `onnxprune prune --save-plan` wrote."
            raise PlanError(f"{path}: not a plan: not UTF-8 text (byte {error.start})", hint) from None
        return cls.from_json(text, str(path))


@dataclass(frozen=True, eq=False)
class GroupDiff:
    """One group in two plans: units removed by both, only by the first, only by the second (sorted int64)."""

    group: str
    both: Ints
    only_a: Ints
    only_b: Ints


@dataclass(frozen=True)
class MaskDiff:
    """One weight mask in two plans: numbers of weights removed by both, only by the first, only by the second."""

    weight: str
    both: int
    only_a: int
    only_b: int


@dataclass(frozen=True, eq=False)
class PlanDiff:
    """What two plans of one model have in common and where they differ; what neither removes is left out."""

    groups: tuple[GroupDiff, ...]
    weights: tuple[MaskDiff, ...]

    @property
    def same(self) -> bool:
        """Both plans remove exactly the same."""
        units = any(group.only_a.size or group.only_b.size for group in self.groups)
        return not units and not any(mask.only_a or mask.only_b for mask in self.weights)


def diff(a: Plan, b: Plan) -> PlanDiff:
    """Compare two plans of one model, group by group and mask by mask.

    Raises PlanMismatch for plans of different models, PlanError where a group or a mask has another size in each.
    """
    _check_comparable(a, b)
    groups = (_group_diff(name, a, b) for name in _names(a.units, b.units))
    masks = (_mask_diff(name, a, b) for name in _names(a.weights, b.weights))
    return PlanDiff(tuple(groups), tuple(mask for mask in masks if mask.both or mask.only_a or mask.only_b))


def merge(a: Plan, b: Plan) -> Plan:
    """The union: whatever either plan removes. The name of the model is that of ``a``.

    Raises PlanMismatch for plans of different models, PlanError where the options or sizes differ. That blocks of a
    grouped convolution lose equal counts cannot be seen from two plans alone: :func:`check_coupling` checks it.
    """
    _check_comparable(a, b)
    if a.options != b.options:
        raise PlanError(
            f"these plans were made with different options: {a.options} and {b.options}",
            "What the groups are depends on the options: make both plans with the same ones.",
        )
    units = {name: np.union1d(_of(a, name), _of(b, name)) for name in _names(a.units, b.units)}
    weights = {name: _mask_of(a, b, name) | _mask_of(b, a, name) for name in _names(a.weights, b.weights)}
    recipe = a.recipe if a.recipe == b.recipe else {"operation": "merge", "of": [dict(a.recipe), dict(b.recipe)]}
    sizes = {**a.group_sizes, **b.group_sizes}
    return replace(a, units=units, group_sizes=sizes, weights=weights, recipe=recipe)


def invert(plan: Plan, group_sizes: Mapping[str, int] | None = None) -> Plan:
    """Removed becomes kept and kept becomes removed, in every group of ``group_sizes`` and in every mask.

    ``group_sizes`` defaults to the plan's own; a group that is not in it is not touched, since its size is not
    known. The result may empty a group (one that lost nothing before): refusing that is the task of whoever
    applies the plan. Inverting twice gives the plan back. Raises PlanError where the sizes differ from the plan's.
    """
    sizes = dict(plan.group_sizes if group_sizes is None else group_sizes)
    _check_sizes(plan.group_sizes, sizes, "the plan", "the sizes given")
    sizes = {**plan.group_sizes, **sizes}
    units = {name: np.setdiff1d(np.arange(size, dtype=np.int64), _of(plan, name)) for name, size in sizes.items()}
    weights = {name: ~mask for name, mask in plan.weights.items()}
    twice = plan.recipe.get("operation") == "invert" and isinstance(plan.recipe.get("of"), dict)
    recipe = plan.recipe["of"] if twice else {"operation": "invert", "of": dict(plan.recipe)}
    return replace(plan, units=units, group_sizes=sizes, weights=weights, recipe=recipe)


def check_model(plan: Plan, model_hash: str, model_name: str = "") -> None:
    """Raise PlanMismatch, with both names and both hashes, unless the plan was made for the model of this hash."""
    if plan.model_hash != model_hash:
        raise PlanMismatch(
            f"the plan was made for {_model(plan.model_name, plan.model_hash)},"
            f" not for {_model(model_name, model_hash)}",
            "Apply it to the model that it was made for, or make a new plan for this one.",
        )


def check_coupling(plan: Plan, coupling: Coupling) -> None:
    """Hold the plan against the groups of its model, as they were found with the plan's own options.

    Raises PlanMismatch (another model), GroupNotFound (the nearest names are offered) and PlanError (other options,
    a group of another size, or blocks that must lose the same number of elements and do not).
    """
    check_model(plan, coupling.model_hash)
    if plan.options != coupling.options:
        raise PlanError(
            f"the plan was made with {plan.options}, the groups were found with {coupling.options}",
            "Find the groups again with the options of the plan.",
        )
    for name in plan.group_sizes:
        if name not in coupling.by_name:
            near = get_close_matches(name, coupling.by_name, cutoff=0.4)
            hint = f"Nearest: {', '.join(near)}." if near else "`onnxprune inspect` lists the groups."
            raise GroupNotFound(f"the model has no group {name!r}", hint)
    _check_sizes(plan.group_sizes, {group.name: group.units for group in coupling.groups}, "the plan", "the model")
    removed = _removed_flags(plan, coupling)
    for constraint in coupling.constraints:
        _check_balance(constraint, removed)


def _removed_flags(plan: Plan, coupling: Coupling) -> list[Mask]:
    """One boolean per unit for every group of the coupling, in its order."""
    flags = [np.zeros(group.units, np.bool_) for group in coupling.groups]
    for name, units in plan.units.items():
        flags[coupling.by_name[name]][units] = True
    return flags


def _check_balance(constraint: EqualCount, removed: Sequence[Mask]) -> None:
    starts = np.cumsum([0, *(flags.size for flags in removed)])
    flat = np.concatenate([*removed, np.zeros(0, np.bool_)])
    counts = [int(flat[starts[block[:, 0]] + block[:, 1]].sum()) for block in constraint.blocks]
    if len(set(counts)) > 1:
        raise PlanError(
            f"{constraint.reason}: the blocks must lose the same number of elements, but lose {counts}",
            "Remove as many from each block.",
        )


def _check_comparable(a: Plan, b: Plan) -> None:
    if a.model_hash != b.model_hash:
        raise PlanMismatch(
            f"the plans belong to different models: {_model(a.model_name, a.model_hash)}"
            f" and {_model(b.model_name, b.model_hash)}",
            "Only plans of one model can be compared or merged.",
        )
    _check_sizes(a.group_sizes, b.group_sizes, "one plan", "the other")
    for name in a.weights.keys() & b.weights.keys():
        in_a, in_b = a.weights[name].shape, b.weights[name].shape
        if in_a != in_b:
            raise PlanError(
                f"{fields.row('weights', name)}: shape {in_a} in one plan, {in_b} in the other",
                "One of the two plans does not fit its model: make it again.",
            )


def _check_sizes(a: Mapping[str, int], b: Mapping[str, int], in_a: str, in_b: str) -> None:
    for name, size in a.items():
        if b.get(name, size) != size:
            raise PlanError(
                f"{fields.row('groups', name)}: {size} units in {in_a}, {b[name]} in {in_b}",
                "The groups were found with different options: make the plan again.",
            )


def _group_diff(name: str, a: Plan, b: Plan) -> GroupDiff:
    in_a, in_b = _of(a, name), _of(b, name)
    return GroupDiff(name, np.intersect1d(in_a, in_b), np.setdiff1d(in_a, in_b), np.setdiff1d(in_b, in_a))


def _mask_diff(name: str, a: Plan, b: Plan) -> MaskDiff:
    in_a, in_b = _mask_of(a, b, name), _mask_of(b, a, name)
    return MaskDiff(name, int((in_a & in_b).sum()), int((in_a & ~in_b).sum()), int((in_b & ~in_a).sum()))


def _of(plan: Plan, name: str) -> Ints:
    return plan.units.get(name, np.zeros(0, np.int64))


def _mask_of(plan: Plan, other: Plan, name: str) -> Mask:
    """The plan's mask, or an empty one in the shape that the other plan has."""
    mask = plan.weights.get(name)
    return np.zeros(other.weights[name].shape, np.bool_) if mask is None else mask


def _names(a: Mapping[str, object], b: Mapping[str, object]) -> list[str]:
    """The names of both, in the order of the first and then of the second."""
    return list(dict.fromkeys([*a, *b]))


def _model(name: str, model_hash: str) -> str:
    return f"{name or 'a model'} (hash {model_hash})"


def _same_arrays(a: Mapping[str, NDArray[Any]], b: Mapping[str, NDArray[Any]]) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)
