"""Drafts: what a person removed and brought back by hand, one entry after the other, and the plan that they come to.

An entry is one of::

    {"group": "conv1", "remove": [3, 7]}             units, by their numbers in the model of the step
    {"group": "conv1", "restore": [7]}
    {"weight": "fc.weight", "remove": [0, 17]}       single weights, by their place in C order
    {"weight": "fc.weight", "restore": [17]}
    {"weight": "fc.weight", "remove": [], "ranges": [[0, 64], [128, 192]]}   places from .. to, the second left out
    {"weight": "fc.weight", "remove": [], "magnitude": [0, 0.01]}   those with 0 <= |w| < 0.01; null: up to the largest
    {"criterion": "l2", "ratio": 0.25}               the lowest quarter of every group, or of the one in "group"
    {"criterion": "l2", "threshold": 0.1}            all units whose score is lower, or those of the one in "group"
    {"criterion": "l2", "group": "conv1", "share": 0.5}   half of this group, whatever thresholds say; null: no longer
    {"group": "conv1", "lock": true}                 only what is done by hand holds for this group; false: no longer
    {"clear": true}                                  nothing before this entry holds any longer

What "scale" and "scores" mean in an entry with a criterion is said in `onnxprune.workspace.drafting`, which works out
what entries come to. Whatever else an entry holds (who brushed it, on which view) is kept and not looked at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from itertools import chain
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.criteria import Settings
from onnxprune.errors import DataError, NothingToPrune, OptionError
from onnxprune.graph import Graph
from onnxprune.model import Model
from onnxprune.plan import Plan
from onnxprune.values import Coupling
from onnxprune.workspace.drafting import SCALES, DraftState, Scores, Source, draft_state, scored_by
from onnxprune.workspace.workspace import Workspace

__all__ = ["FORMS", "check_edit", "draft_plan", "edit_words", "kept_or_computed", "weight_masks"]

VERBS = ("remove", "restore", "ratio", "threshold", "share", "lock", "clear")
KEPT = "onnxprune.guidance.scores", "kept_scores"  # by name, because it builds on this package
FORMS = 'An edit is {"group": name, "remove": [units]}, "restore" likewise, or {"criterion": name, "ratio": share}.'


def check_edit(edit: Mapping[str, Any]) -> None:
    """Raises OptionError for what is no edit, before it becomes an entry of a draft."""
    verbs = [key for key in VERBS if key in edit]
    if len(verbs) != 1:
        raise OptionError(f"an edit says one thing, this one {len(verbs)}: {', '.join(verbs) or 'none'}", FORMS)
    verb, value = verbs[0], edit[verbs[0]]
    if verb in ("remove", "restore"):
        if ("group" in edit) == ("weight" in edit):
            raise OptionError(f"{verb}: an edit names a group or a weight", FORMS)
        if not isinstance(value, Sequence) or isinstance(value, str) or not all(map(_is_place, value)):
            raise OptionError(f"{verb}: got {value!r}, expected a list of numbers from 0 up", FORMS)
        _check_many(edit)
    elif verb in ("lock", "clear"):
        _check_switch(edit, verb)
    else:
        _check_lowest(edit, verb)


def _check_many(edit: Mapping[str, Any]) -> None:
    """The short forms of many weights."""
    ranges, between = edit.get("ranges"), edit.get("magnitude")
    if (ranges is not None or between is not None) and "weight" not in edit:
        raise OptionError("ranges and magnitude are for single weights, this edit names a group", FORMS)
    if ranges is not None and not _are_ranges(ranges):
        raise OptionError("ranges: expected a list of [start, stop] with 0 <= start < stop", FORMS)
    if between is None:
        return
    if not _is_list(between) or len(between) != 2 or not _is_number(between[0]) or between[0] < 0:
        raise OptionError(f"magnitude: got {between!r}, expected [low, high] with 0 <= low < high", FORMS)
    if between[1] is not None and not (_is_number(between[1]) and between[1] > between[0]):
        raise OptionError(f"magnitude: got {between!r}, expected a high above the low, or null", FORMS)


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _are_ranges(value: Any) -> bool:
    """All at once: a brush over parts of kernels makes tens of thousands."""
    if not (_is_list(value) and all(map(_is_list, value)) and {2} >= set(map(len, value))):
        return False
    places = list(chain.from_iterable(value))
    if not {int} >= set(map(type, places)) or max(places, default=0) > np.iinfo(np.int64).max:
        return False
    pairs = np.array(places, np.int64).reshape(-1, 2)
    return bool((pairs[:, 0] >= 0).all() and (pairs[:, 0] < pairs[:, 1]).all())


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


def _check_switch(edit: Mapping[str, Any], verb: str) -> None:
    value = edit[verb]
    if not isinstance(value, bool) or (verb == "clear" and not value):
        raise OptionError(f"{verb}: got {value!r}, expected true{' or false' if verb == 'lock' else ''}", FORMS)
    if verb == "lock" and not isinstance(edit.get("group"), str):
        raise OptionError("lock: an edit names the group", 'For example {"group": "conv1", "lock": true}.')


def _check_lowest(edit: Mapping[str, Any], verb: str) -> None:
    """Of what goes by a score."""
    value = edit[verb]
    if verb == "share" and not isinstance(edit.get("group"), str):
        raise OptionError("share: an edit names the group", "A ratio is for every group.")
    if verb == "share" and value is None:
        return
    if "criterion" not in edit:
        raise OptionError(f"{verb} needs a criterion", FORMS)
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        raise OptionError(f"{verb}: got {value!r}, expected a number", FORMS)
    if verb != "threshold" and not 0 <= value <= 1:
        raise OptionError(f"{verb}: got {value}, expected 0 to 1", "It is the share of units that go.")
    if edit.get("scale", SCALES[0]) not in SCALES:
        raise OptionError(f"scale: got {edit['scale']!r}, expected one of {', '.join(SCALES)}", "Leave it out.")


def _is_place(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def kept_or_computed(workspace: Workspace, step: int, computed: Source) -> Source:
    """Scores that entries of this step's draft speak of: those that are kept, where an entry names them, else computed.

    What it gives raises DataError where they are not kept any longer.
    """

    def source(edit: Mapping[str, Any]) -> Scores:
        if edit.get("scores") is None:
            return computed(edit)
        kept_scores = getattr(import_module(KEPT[0]), KEPT[1])
        found: Scores | None = kept_scores(workspace, step, str(edit["criterion"]), **edit["scores"])
        if found is None:
            raise DataError(
                f"the draft of step {step} was made with scores by {edit['criterion']} that are not kept any longer",
                "Measure them again, or undo that entry.",
            )
        return found

    return source


def edit_words(edit: Mapping[str, Any]) -> str:
    """What an edit does, in a few words: ``remove 3 units of conv1``."""
    where = f" in {edit['group']}" if edit.get("group") is not None else ""
    verb = next((word for word in VERBS if word in edit), "clear")
    value = edit.get(verb)
    if verb in ("remove", "restore"):
        return _hand_words(edit, verb)
    if verb == "lock":
        return f"leave {edit['group']} alone" if value else f"{edit['group']} is no longer left alone"
    if verb == "clear":
        return "empty the plan"
    if value is None:
        return f"no share of its own for {edit['group']}"
    if verb == "threshold":
        return f"remove what {edit['criterion']} puts below {value:.4g}{where}"
    return f"remove the lowest {value:.0%} by {edit['criterion']}{where}"


def _hand_words(edit: Mapping[str, Any], verb: str) -> str:
    of = edit.get("group") or edit.get("weight")
    if edit.get("magnitude") is not None:
        low, high = edit["magnitude"]
        between = f"from {low:.4g} up" if high is None else f"from {low:.4g} to {high:.4g}"
        return f"{verb} the weights of {of} with |w| {between}"
    many = len(edit[verb] or ()) + sum(stop - start for start, stop in edit.get("ranges") or ())
    what = "unit" if "group" in edit else "weight"
    return f"{verb} {many:,} {what}{'' if many == 1 else 's'} of {of}"


def weight_masks(coupling: Coupling, state: DraftState) -> dict[str, NDArray[np.bool_]]:
    """The single weights that go, by name in the analysis, where a vector has a name for each node that reads it."""
    graph: Graph = coupling.graph
    masks = {name: gone for name, gone in state.weights.items() if gone.any()}
    return {**masks, **{copy: masks[name] for copy, name in graph.origin.items() if name in masks}}


def draft_plan(
    model: Model,
    coupling: Coupling,
    edits: Sequence[Mapping[str, Any]],
    settings: Settings | None = None,
    scores: Source | None = None,
) -> Plan:
    """The plan that the edits come to. ``settings``: of criteria; ``scores``: gives kept scores in their place.

    It holds whole units and single weights side by side, both in the coordinates of ``model``.

    Raises OptionError and GroupNotFound for an edit that does not fit the model, NothingToPrune where all was brought
    back.
    """
    for edit in edits:
        check_edit(edit)
    state = draft_state(model, coupling, edits, scores or scored_by(model, coupling, settings))
    chosen = {name: np.flatnonzero(gone) for name, gone in state.gone.items() if gone.any()}
    masks = weight_masks(coupling, state)
    if not chosen and not masks:
        raise NothingToPrune("the draft removes nothing", "Remove something with an edit first.")
    sizes = {group.name: group.units for group in coupling.groups}
    recipe = {"criterion": "by hand", "edits": [dict(edit) for edit in edits]}
    if state.notes:
        recipe["notes"] = list(state.notes)
    return Plan(coupling.model_hash, chosen, sizes if chosen else {}, masks, coupling.options, recipe)
