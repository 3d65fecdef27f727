"""From a brush to the entry of a draft that it means, or to words that say why it means none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from dash_ui.rows.brush import Area, area_of, fewest, units_in, whole_kernels
from dash_ui.rows.mask import AUTO, HAND, SINGLE, ZERO, Mask
from onnxprune import Coupling
from onnxprune.errors import OptionError
from onnxprune.masks import Matrix
from onnxprune.workspace.drafting import between

__all__ = ["SNAPS", "edit_for"]

SNAPS = ("weight", "kernel", "unit")
UNITS_HINT = "Restore whole units: snap to units, or click at the edge of the picture."


def edit_for(mask: Mask, coupling: Coupling, event: Mapping[str, Any], group: str | None = None) -> dict[str, Any]:
    """The entry that an event means.

    ``event``: a place as `area_of` takes it, or ``"magnitude": [low, high]``, with ``verb`` (remove or restore) and
    ``snap`` (one of SNAPS). ``group``: the selected one, which decides between units of rows and of columns. A brush
    at the edge of the picture (``rows``, ``columns``) means units.

    Raises OptionError where nothing changes.
    """
    verb = "restore" if event.get("verb") == "restore" else "remove"
    if event.get("magnitude") is not None:
        return _by_magnitude(mask, verb, *event["magnitude"])
    area = area_of(event, (mask.codes.shape[0], mask.codes.shape[1]))
    if area is None:
        raise OptionError("the brush covers no weight", "Draw over the cells of the picture, or click on one.")
    if event.get("snap") == "unit" or "rows" in event or "columns" in event:
        return _units(mask, coupling, verb, area, columns=_by_columns(mask.layer.matrix, coupling, event, group))
    if event.get("snap") == "kernel":
        area = whole_kernels(mask.layer.matrix, area)
    return _weights(mask, verb, area)


def _by_columns(matrix: Matrix, coupling: Coupling, event: Mapping[str, Any], group: str | None) -> bool:
    if "rows" in event or "columns" in event:
        return "columns" in event
    number = coupling.by_name.get(group or "", -2)
    if (matrix.rows.group == number).any():
        return False
    return bool((matrix.columns.group == number).any() or not (matrix.rows.group >= 0).any())


def _units(mask: Mask, coupling: Coupling, verb: str, area: Area, *, columns: bool) -> dict[str, Any]:
    found = units_in(mask.layer.matrix, area, columns=columns)
    if not found:
        side = "columns" if columns else "rows"
        raise OptionError(
            f"these {side} are no units that can be removed",
            "The drawing of the model says why; brush weights instead.",
        )
    number = max(found, key=lambda one: len(found[one]))
    name, kind = coupling.groups[number].name, coupling.groups[number].kind
    gone = mask.state.gone[name]
    units = [unit for unit in found[number] if bool(gone[unit]) == (verb == "restore")]
    if not units and verb == "remove":
        raise OptionError(f"these {kind} of {name} go already", "Switch to Restore to bring them back.")
    if not units:
        raise OptionError(f"none of these {kind} of {name} goes", "Only what the draft removes can be restored here.")
    return {"group": name, verb: units, "view": "mask"}


def _weights(mask: Mask, verb: str, area: Area) -> dict[str, Any]:
    name = _brushable(mask)
    here = mask.codes[area.rows, area.columns]
    taken = area.inside & (((here & SINGLE) != 0) if verb == "restore" else (here == 0))
    if not taken.any():
        raise _nothing(here[area.inside], verb)
    several = fewest(mask.layer.matrix, area, replace(area, inside=taken))
    if sum(stop - start for start, stop in several) <= len(several) * 2:  # a list of numbers is as short
        return {"weight": name, verb: [n for start, stop in several for n in range(start, stop)], "view": "mask"}
    return {"weight": name, verb: [], "ranges": several, "view": "mask"}


def _by_magnitude(mask: Mask, verb: str, low: float, high: float | None) -> dict[str, Any]:
    name = _brushable(mask)
    cells = np.asarray(mask.layer.values, order="K").ravel(order="K"), mask.codes.ravel(order="K")
    inside = False
    for start, found in between(cells[0], low, high):  # ends early: most ranges hold something at once
        here = cells[1][start : start + found.size][found]
        inside = inside or bool(here.size)
        if ((here & SINGLE) != 0 if verb == "restore" else here == 0).any():
            return {"weight": name, verb: [], "magnitude": [low, high], "view": "mask"}
    if not inside:
        raise _nothing(mask.codes[:0], verb)
    size = np.abs(mask.layer.values)
    raise _nothing(mask.codes[(size >= low) & (size < (np.inf if high is None else high))], verb)


def _brushable(mask: Mask) -> str:
    if not mask.single:
        raise OptionError(
            "single weights of this constant cannot be removed: it lies inside of control flow",
            "Snap to units to remove whole units.",
        )
    return mask.layer.matrix.name


def _nothing(codes: Any, verb: str) -> OptionError:
    if not codes.size:
        return OptionError("no weight lies there", "Choose a range that holds some.")
    if verb == "remove":
        return OptionError("all of these weights are gone already", "Switch to Restore to bring some back.")
    if (codes & (AUTO | HAND)).any():
        return OptionError("these weights belong to units that the draft removes", UNITS_HINT)
    if (codes & ZERO).any():
        return OptionError(
            "these weights are zero in the model of this step, as an earlier step left them",
            "Select the step before it, and branch from there.",
        )
    return OptionError("none of these weights was removed", "Switch to Remove to take them out.")
