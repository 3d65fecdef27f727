"""Drafts: what a person removed and brought back by hand, one entry after the other, and the plan that they come to.

An entry is one of::

    {"group": "conv1", "remove": [3, 7]}             units, by their numbers in the model of the step
    {"group": "conv1", "restore": [7]}
    {"weight": "fc.weight", "remove": [0, 17]}       single weights, by their place in C order
    {"weight": "fc.weight", "restore": [17]}
    {"criterion": "l2", "ratio": 0.25}               the lowest quarter of every group, or of the one in "group"
    {"criterion": "l2", "threshold": 0.1}            all units whose score is lower

Whatever else an entry holds (who brushed it, on which view) is kept and not looked at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.criteria import Settings, score
from onnxprune.errors import GroupNotFound, NothingToPrune, OptionError
from onnxprune.model import Model
from onnxprune.plan import Plan
from onnxprune.values import Coupling

__all__ = ["check_edit", "draft_plan"]

Mask = NDArray[np.bool_]
FORMS = 'An edit is {"group": name, "remove": [units]}, "restore" likewise, or {"criterion": name, "ratio": share}.'


def check_edit(edit: Mapping[str, Any]) -> None:
    """Raises OptionError for what is no edit, before it becomes an entry of a draft."""
    verbs = [key for key in ("remove", "restore", "ratio", "threshold") if key in edit]
    if len(verbs) != 1:
        raise OptionError(f"an edit says one thing, this one {len(verbs)}: {', '.join(verbs) or 'none'}", FORMS)
    verb, value = verbs[0], edit[verbs[0]]
    if verb in ("remove", "restore"):
        if ("group" in edit) == ("weight" in edit):
            raise OptionError(f"{verb}: an edit names a group or a weight", FORMS)
        if not isinstance(value, Sequence) or isinstance(value, str) or not all(map(_is_place, value)):
            raise OptionError(f"{verb}: got {value!r}, expected a list of numbers from 0 up", FORMS)
        return
    if "criterion" not in edit:
        raise OptionError(f"{verb} needs a criterion", FORMS)
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        raise OptionError(f"{verb}: got {value!r}, expected a number", FORMS)
    if verb == "ratio" and not 0 <= value <= 1:
        raise OptionError(f"ratio: got {value}, expected 0 to 1", "It is the share of units that go.")


def _is_place(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def draft_plan(
    model: Model, coupling: Coupling, edits: Sequence[Mapping[str, Any]], settings: Settings | None = None
) -> Plan:
    """The plan that the edits come to, one after the other. ``settings``: of criteria.

    Raises OptionError and GroupNotFound for an edit that does not fit the model, NothingToPrune where all was brought
    back.
    """
    units = {group.name: np.zeros(group.units, np.bool_) for group in coupling.groups}
    weights: dict[str, Mask] = {}
    for edit in edits:
        check_edit(edit)
        if "weight" in edit:
            _mark(_weight(model, weights, str(edit["weight"])).reshape(-1), edit, str(edit["weight"]))
        elif "criterion" in edit:
            _lowest(model, coupling, edit, units, settings or Settings())
        else:
            _mark(_group(units, str(edit["group"])), edit, str(edit["group"]))
    chosen = {name: np.flatnonzero(gone) for name, gone in units.items() if gone.any()}
    masks = {name: gone for name, gone in weights.items() if gone.any()}
    if not chosen and not masks:
        raise NothingToPrune("the draft removes nothing", "Remove something with an edit first.")
    if chosen and masks:
        raise OptionError(
            "the draft removes whole units and single weights at once",
            "Apply one kind, and then the other to its step.",
        )
    sizes = {group.name: group.units for group in coupling.groups}
    recipe = {"criterion": "by hand", "edits": [dict(edit) for edit in edits]}
    return Plan(coupling.model_hash, chosen, sizes if chosen else {}, masks, coupling.options, recipe)


def _group(units: Mapping[str, Mask], name: str) -> Mask:
    if name not in units:
        raise GroupNotFound(f"there is no group {name!r}", f"Groups: {', '.join(units)}.")
    return units[name]


def _weight(model: Model, weights: dict[str, Mask], name: str) -> Mask:
    if name not in model.weights:
        raise OptionError(f"the model has no weight {name!r}", f"Weights: {', '.join(model.weights)}.")
    return weights.setdefault(name, np.zeros(model.weights[name].shape, np.bool_))


def _mark(gone: Mask, edit: Mapping[str, Any], name: str) -> None:
    removing = "remove" in edit
    places = np.asarray(edit["remove" if removing else "restore"], np.int64)
    if places.size and places.max() >= gone.size:
        raise OptionError(f"`{name}` has no number {places.max()}", f"Its numbers are 0 to {gone.size - 1}.")
    gone[places] = removing


def _lowest(
    model: Model, coupling: Coupling, edit: Mapping[str, Any], units: Mapping[str, Mask], settings: Settings
) -> None:
    """Mark what scores lowest."""
    scores = score(model, coupling, str(edit["criterion"]), settings)
    names = [str(edit["group"])] if edit.get("group") is not None else list(scores)
    for name in names:
        gone, values = _group(units, name), scores[name]
        if "threshold" in edit:
            gone |= values < edit["threshold"]
        else:
            gone[np.argsort(values, kind="stable")[: int(edit["ratio"] * values.size)]] = True
