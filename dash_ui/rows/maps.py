"""Feature maps of a group in a step and in the one before it, unit beside unit, as the browser draws them."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dash_ui.desk import Desk, Kept
from dash_ui.rows.instances import Chosen, Source
from dash_ui.rows.units import NotMeasured, first_choice, options_of, source_of
from dash_ui.theme import Theme
from onnxprune.drawing import singular
from onnxprune.errors import OptionError
from onnxprune.explain import (
    Attribution,
    FeatureMaps,
    Layer,
    UnitStatistics,
    View,
    attribute,
    feature_maps,
    find_layer,
    is_pictures,
    look_at,
    map_change,
    mean_maps,
    suggest_method,
    to_pictures,
)
from onnxprune.explain.maps import statistics
from onnxprune.explain.sheet import levels_of, png, sheet, tiled
from onnxprune.values import Group
from onnxprune.workspace.lineage import Match, matched
from onnxprune.workspace.values import Step
from onnxprune.workspace.workspace import Workspace

__all__ = ["Side", "Sides", "browser_maps", "kept_maps", "palette", "shaped", "sides", "view_of"]

Array = NDArray[Any]
Floats = NDArray[np.float64]
GRADIENT_MACS = 2e11  # some ten seconds
KEPT = 12  # feature maps, and what comes out of models
SIDES = ((256, 64), (1024, 32), (1 << 40, 16))  # maps up to which each keeps so many places
LONGEST = 96  # places of a line
PICTURE, LINE = 3, 2  # axes of the maps of all units
DIRECTIONS = 2
METHOD_WORDS = {"guided": "guided back-propagation", "gradient-x-input": "gradient times input"}


@dataclass(frozen=True, eq=False)
class Side:
    """What a group puts out in one step. ``values``: (units, ...) of one instance, or of the mean of several.

    ``form``: "pictures", "lines" or "bars". ``notes``: what a person should know about them.
    """

    step: Step
    group: Group
    statistics: UnitStatistics
    values: Array
    form: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Sides:
    """``before``: None without a step to compare with, and ``why`` in words. ``scores``: of the units of ``after``."""

    after: Side
    before: Side | None
    match: Match | None
    why: str = ""
    criterion: str = ""
    scores: Floats | None = None
    change: Floats | None = field(default=None)


def kept_maps(desk: Desk) -> Kept:
    """Where maps and outcomes are kept, by model, data and instances."""
    return desk.kept.get(("feature maps",), lambda: Kept(KEPT))


def view_of(desk: Desk, workspace: Workspace, step: Step) -> View:
    """The model of a step as its layers are looked at."""
    return desk.kept.get(("view", step.model_hash), lambda: look_at(*desk.analysis(workspace, step)))


def sides(
    desk: Desk, workspace: Workspace, source: Source, chosen: Chosen, names: tuple[int, int | None], group: str,
    criterion: str | None = None,
) -> Sides:  # fmt: skip
    """The maps of ``group`` in two steps. ``names``: the step, and the one to compare it with, or None.

    Raises OptionError for a group or an instance that is not there, DataError for one that the model cannot take.
    """
    number, other = names
    after = _side(desk, workspace, source, chosen, workspace.steps.get(number), group)
    if after is None:
        raise OptionError(f"step {number} has no group {group!r}", "Choose another layer in the drawing above.")
    word, scores = _scores(desk, workspace, after, criterion, source.path)
    if other is None:
        return Sides(after, None, None, "an original, with nothing before it", word, scores)
    before = _side(desk, workspace, source, chosen, workspace.steps.get(other), group)
    if before is None:
        return Sides(after, None, None, f"#{other} has no group {group}", word, scores)
    match = matched(workspace, other, number, group, (before.group.units, after.group.units))
    if before.form != after.form or before.values.shape[1:] != after.values.shape[1:]:
        return Sides(after, None, None, f"the maps of #{other} are of another size", word, scores)
    return Sides(after, before, match, "", word, scores, _change(before, after, match))


def _side(desk: Desk, workspace: Workspace, source: Source, chosen: Chosen, step: Step, group: str) -> Side | None:
    view = view_of(desk, workspace, step)
    if group not in view.coupling.by_name:
        return None

    def make() -> Side:
        unit_group = view.coupling.groups[view.coupling.by_name[group]]
        layer = find_layer(view, group)
        if chosen.sees:
            _check_cost(step, layer)
            return _seen(
                step,
                unit_group,
                view,
                attribute(view, source.dataset, layer, method=suggest_method(view, layer), rows=chosen.rows),
            )
        run = mean_maps if chosen.mean else feature_maps
        found = run(view, source.dataset, layer, rows=chosen.rows)
        form, values, notes = shaped(found)
        return Side(step, unit_group, found.statistics, values, form, notes)

    return kept_maps(desk).get(("maps", step.model_hash, group, source.key, chosen.key), make)


def _check_cost(step: Step, layer: Layer) -> None:
    """A gradient of each unit takes about three runs of the model. Raises OptionError where that is too much."""
    needed = 3 * layer.units * step.metrics.get("macs", 0)
    if needed > GRADIENT_MACS:
        units = max(1, int(GRADIENT_MACS / needed * layer.units))
        raise OptionError(
            f"what each of {layer.units:,} {layer.kind} looks at takes {needed / 1e9:,.0f} billion multiplications: "
            "too much to wait for here",
            f"`onnxprune explain` shows some of them: --layer {layer.name} --units 0-{units - 1} --plot filters.png.",
        )


def _seen(step: Step, group: Group, view: View, found: Attribution) -> Side:
    """What in the instance moves each unit, in the form of the instance; several colours are added up."""
    values, name = found.values[found.main][0], found.main
    notes = [f"What in the instance moves each of them: {METHOD_WORDS[found.method]}."]
    if found.kinds[name] == "input" and is_pictures(view.model, name):
        shown = to_pictures(view.model, name, values)
        return Side(step, group, statistics(values[None]), shown.sum(-1), "pictures", tuple(notes))
    flat = values.reshape(values.shape[0], -1) if values.ndim != PICTURE else values.swapaxes(1, 2)
    if flat.ndim == PICTURE:
        return Side(step, group, statistics(values[None]), flat, "pictures", (*notes, "Time runs to the right."))
    form = "lines" if flat.shape[1] > 1 else "bars"
    return Side(step, group, statistics(values[None]), flat if form == "lines" else flat[:, 0], form, tuple(notes))


def _scores(
    desk: Desk, workspace: Workspace, after: Side, criterion: str | None, data: str
) -> tuple[str, Floats | None]:
    name = criterion or first_choice(workspace, after.step.number, data)[0]
    options = options_of(workspace, after.step.number, name, data)
    try:
        found = source_of(desk, workspace, after.step)({"criterion": name, "scores": options})
    except (NotMeasured, OptionError):
        return name, None
    scores = found.get(after.group.name)
    return name, scores if scores is not None and scores.size == after.group.units else None


def _change(before: Side, after: Side, match: Match) -> Floats:
    """Of each unit of ``after``; NaN for those that were not there before."""
    known = match.before >= 0
    change = np.full(known.size, np.nan)
    if known.any():
        change[known] = map_change(before.values[match.before[known]][None], after.values[known][None])
    return change


def shaped(found: FeatureMaps) -> tuple[str, Array, tuple[str, ...]]:
    """The form ("pictures", "lines", "bars"), the maps of the first instance in it, and what a person should know."""
    values, kind = found.values[0], found.layer.kind
    units, rest = values.shape[0], values.shape[1:]
    notes = []
    if kind.startswith("head") and values.ndim < PICTURE:
        notes.append("The graph holds no attention weights of these heads: the mean of what each puts out is shown.")
    if int(np.prod(rest)) == 1:
        return "bars", values.reshape(units), tuple(notes)
    if kind == "cells" and len(rest) == LINE and rest[-1] == DIRECTIONS:
        notes.append("Forward in time, then backward.")
        return "lines", values.swapaxes(1, 2).reshape(units, -1), tuple(notes)
    wide = [size for size in rest if size > 1]
    if len(wide) == 1:
        return "lines", values.reshape(units, -1), tuple(notes)
    if values.ndim > PICTURE:
        notes.append(f"The mean over the first {values.ndim - PICTURE} of the axes of each map.")
        values = values.mean(tuple(range(1, values.ndim - PICTURE + 1)))
    return "pictures", values, tuple(notes)


def palette(theme: Theme, *, signed: bool) -> list[tuple[int, int, int]]:
    """256 colours: small to large, or negative (orange) through zero to positive (blue); the last: not finite."""
    ramp = [_rgb(colour) for colour in theme.ramp]
    if signed:
        orange, zero = _rgb(theme.palette[1]), ramp[0]
        stops = [_mix(orange, zero, 0.0), _mix(orange, zero, 0.45), zero, ramp[len(ramp) // 2], ramp[-1]]
    else:
        stops = ramp
    places = np.linspace(0, 1, len(stops))
    parts = [np.interp(np.linspace(0, 1, 255), places, [stop[k] for stop in stops]) for k in range(3)]
    return [*((int(r), int(g), int(b)) for r, g, b in zip(*parts, strict=True)), _rgb(theme.gone)]


def _rgb(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def _mix(one: Sequence[int], two: Sequence[int], share: float) -> tuple[int, int, int]:
    return tuple(round((1 - share) * a + share * b) for a, b in zip(one, two, strict=True))  # type: ignore[return-value]


def browser_maps(found: Sides, theme: Theme, *, common: bool) -> dict[str, Any]:
    """What the browser draws. ``common``: one scale for all units, else one for each (before and after alike).

    ``units``: for each unit, those that are gone included, its numbers in both steps and in the original, and what is
    known of it; ``sheet``: of pictures, first the units of after, then those of before; ``lines``: likewise.
    """
    after, before = found.after, found.before
    numbers = _pairs(found)
    stacked = after.values if before is None else np.concatenate([after.values, before.values])
    shown: dict[str, Any] = {
        "form": after.form,
        "step": after.step.number,
        "before": None if before is None else before.step.number,
        "group": after.group.name,
        "kinds": after.group.kind,
        "noun": singular(after.group.kind),
        "criterion": found.criterion if found.scores is not None else "",
        "after": after.group.units,
        "was": 0 if before is None else before.group.units,
        "units": _facts(found, numbers),
        "common": common,
    }
    scale = _scales(found, stacked, numbers, common=common)
    if after.form == "pictures":
        return shown | _sheet(stacked, scale, theme)
    lines = np.nan_to_num(stacked.astype(np.float64).reshape(len(stacked), -1))
    if lines.shape[1] > LONGEST:
        lines = tiled(lines[:, None], LONGEST)[:, 0].astype(np.float64)
    share = lines / scale[:, None]
    return shown | {"lines": [[round(value, 4) for value in row] for row in share.tolist()]}


def _pairs(found: Sides) -> list[tuple[int | None, int | None]]:
    """(number after, number before) of every unit, in the order of before; those that are gone at their old place."""
    if found.match is None:
        return [(unit, None) for unit in range(found.after.group.units)]
    was = found.match.before.tolist()
    pairs: list[tuple[int | None, int | None]] = [(unit, old if old >= 0 else None) for unit, old in enumerate(was)]
    gone: list[tuple[int | None, int | None]] = [(None, int(old)) for old in found.match.gone]
    return sorted([*pairs, *gone], key=lambda pair: pair[1] if pair[1] is not None else pair[0] or 0)


def _facts(found: Sides, numbers: Sequence[tuple[int | None, int | None]]) -> list[dict[str, Any]]:
    after, before, match = found.after, found.before, found.match
    facts = []
    for unit, old in numbers:
        fact: dict[str, Any] = {"u": unit, "b": old}
        if unit is not None:
            fact |= _known(after, unit, "")
            if match is not None:
                fact["o"] = int(match.original[unit]) if match.original[unit] >= 0 else None
                fact["zeroed"] = bool(match.zeroed[unit])
            fact["score"] = None if found.scores is None else _number(found.scores[unit])
            fact["change"] = None if found.change is None else _number(found.change[unit])
        if old is not None and before is not None:
            fact |= _known(before, old, "_before")
        facts.append(fact)
    return facts


def _known(side: Side, unit: int, suffix: str) -> dict[str, Any]:
    stats = side.statistics
    size = float(np.abs(np.nan_to_num(side.values[unit])).mean())
    return {
        f"mean{suffix}": _number(stats.mean[unit]), f"most{suffix}": _number(stats.largest[unit]),
        f"size{suffix}": _number(size),
    }  # fmt: skip


def _number(value: float) -> float | str | None:
    """Four digits; JSON has no infinity, and what is no number is None."""
    if np.isnan(value):
        return None
    return float(f"{value:.4g}") if np.isfinite(value) else "inf"


def _scales(found: Sides, stacked: Array, numbers: Sequence[tuple[int | None, int | None]], *, common: bool) -> Floats:
    """The magnitude that is drawn as the largest, for each map of ``stacked``: the same for a unit before and after."""
    finite = np.where(np.isfinite(stacked), stacked, 0).astype(np.float64)
    most = np.abs(finite).reshape(len(stacked), -1).max(1, initial=0)
    if common or found.after.form == "bars":
        most[:] = most.max(initial=0)
    else:
        first = found.after.group.units
        for unit, old in numbers:
            if unit is not None and old is not None:
                most[unit] = most[first + old] = max(most[unit], most[first + old])
    return np.where(most > 0, most, 1.0)


def _sheet(stacked: Array, scale: Floats, theme: Theme) -> dict[str, Any]:
    side = next(side for units, side in SIDES if len(stacked) <= units)
    tiles = tiled(stacked, side)
    signed = bool((tiles < 0).any())
    columns = int(np.ceil(np.sqrt(len(tiles))))
    picture = png(sheet(levels_of(tiles, scale, signed=signed), columns), palette(theme, signed=signed))
    return {
        "sheet": "data:image/png;base64," + b64encode(picture).decode(), "columns": columns,
        "rows": -(-len(tiles) // columns), "tile": list(tiles.shape[1:]), "signed": signed,
    }  # fmt: skip
