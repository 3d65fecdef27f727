"""The draft of a step as views need it: what goes and why, what would be left, and where to put the threshold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dash_ui.desk import Desk
from dash_ui.figures.bubbles import DRAWN_UP_TO, drawn_at, lanes, sizes
from dash_ui.rows.units import NotMeasured, Units, source_of
from dash_ui.rows.weights import brushed
from onnxprune import Coupling, Plan
from onnxprune.allocate.balance import cells_of
from onnxprune.cost import CostModel, example_graph
from onnxprune.evaluate import measured
from onnxprune.guidance import effect_of, previews
from onnxprune.values import Ints
from onnxprune.workspace.drafting import DraftState, draft_state
from onnxprune.workspace.edits import check_edit
from onnxprune.workspace.values import Step
from onnxprune.workspace.workspace import Workspace

__all__ = ["PRESETS", "SHOWN_BY", "browser_units", "draft_of", "estimate", "marks", "payload", "presets"]

PRESETS = (0.1, 0.2, 0.3, 0.5)
SHOWN_BY = ("key", "stamp", "step", "readonly", "measured", "criterion", "scale")
"""Of what the browser is told: what a request tells again."""

Mask = NDArray[np.bool_]
Floats = NDArray[np.float64]


def draft_of(
    desk: Desk, workspace: Workspace, step: Step, more: Sequence[Mapping[str, Any]] = ()
) -> tuple[DraftState, str]:
    """What the draft of a step comes to, with ``more`` entries after it, and the revision that it has.

    An entry whose scores are not kept any longer is left out, and ``notes`` tell. Raises OptionError, GroupNotFound.
    """
    model, coupling = desk.analysis(workspace, step)
    revision = workspace.drafts.revision(step.number)
    entries = [entry for entry in workspace.drafts.entries(step.number) if not entry.undone]
    edits = [entry.edit for entry in entries]
    cells = desk.kept.get(("cells", step.model_hash), lambda: cells_of(coupling)) if coupling.constraints else None
    source, lost = source_of(desk, workspace, step), []
    checked: set[int] = desk.kept.get(("checked",), set)  # once is enough: numbers are never used again
    for entry in entries:
        if entry.number not in checked:
            check_edit(entry.edit)
            checked.add(entry.number)
    for edit in more:
        check_edit(edit)
    for edit in (*edits, *more):
        if "criterion" in edit:
            try:
                source(edit)
            except NotMeasured:
                lost.append(edit)
    held = [edit for edit in (*edits, *more) if "weight" not in edit and edit not in lost]
    single = [*((entry.number, entry.edit) for entry in entries), *((None, edit) for edit in more)]
    weights = brushed(desk, model, step.model_hash, single)
    state = replace(draft_state(model, coupling, held, source, cells), weights=weights)
    if lost:
        names = ", ".join(dict.fromkeys(str(edit["criterion"]) for edit in lost))
        told = f"{len(lost)} entries by {names} do not count: the scores are not kept for this step"
        state = replace(state, notes=(*state.notes, told))
    return state, revision


def payload(units: Units, state: DraftState, revision: str) -> dict[str, Any]:
    """For the browser: numbers of units in the order of ``units``, of groups in theirs.

    ``threshold``: of the draft, where it is on the criterion and scale that are shown, else None and ``other`` says
    what it is. ``weights``: single ones that become zero, be their unit gone or not.
    """
    places = {group.name: number for number, group in enumerate(units.groups)}
    entry = state.threshold
    shown = entry is not None and _same(units, entry)
    return {
        "key": units.key,
        "revision": revision,
        "threshold": entry["threshold"] if entry is not None and shown else None,
        "other": "" if entry is None or shown else threshold_words(entry),
        "empty": state.empty,
        "gone": _numbers(units, state.gone),
        "fixed": _numbers(units, state.fixed),
        "automatic": _numbers(units, state.automatic),
        "removed": _numbers(units, state.by_hand),
        "restored": _numbers(units, state.restored),
        "locked": [places[name] for name in state.locked],
        "shares": {str(places[name]): share for name, share in state.shares.items()},
        "weights": sum(int(np.count_nonzero(gone)) for gone in state.weights.values()),
        "notes": list(state.notes),
        "presets": presets(units, state.locked | set(state.shares)),
    }


def _same(units: Units, entry: Mapping[str, Any]) -> bool:
    same = units.entry(float(entry["threshold"]))
    return {"scale": "score", **entry, "scores": entry.get("scores")}.items() >= {"scores": None, **same}.items()


def threshold_words(entry: Mapping[str, Any]) -> str:
    """A threshold in a few words."""
    scale = entry.get("scale", "score")
    return f"{entry['criterion']} below {float(entry['threshold']):.4g}" + ("" if scale == "score" else f" ({scale})")


def _numbers(units: Units, masks: Mapping[str, Mask]) -> list[int]:
    found: list[int] = np.flatnonzero(units.mask(masks)).tolist()
    return found


def presets(units: Units, left_alone: frozenset[str] | set[str] = frozenset()) -> dict[str, float | None]:
    """Thresholds worth a button: PRESETS shares of the units, those that score 0 ("dead"), and the "knee".

    ``left_alone``: groups that thresholds do not touch. None where a button would do nothing. The knee is the place
    where the sorted scores, as shares of the largest, lie deepest below the straight line from the lowest to the
    largest: beyond it each further unit costs visibly more.
    """
    alone = np.array([group.name in left_alone for group in units.groups], np.bool_)
    values = np.sort(units.x[np.isfinite(units.x) & ~alone[units.group]]) if alone.size else np.zeros(0)
    found: dict[str, float | None] = {f"{share:.0%}": _above(values, round(share * values.size)) for share in PRESETS}
    raw = units.flat(units.scores)
    dead = units.x[(raw == 0) & ~alone[units.group]] if alone.size else np.zeros(0)
    found["dead"] = _above(values, int(np.searchsorted(values, dead.max(), "right"))) if dead.size else None
    found["knee"] = _above(values, _knee(values))
    return found


def _above(values: Floats, count: int) -> float | None:
    """The threshold below which the first ``count`` of the sorted values are, fewer where the next one is equal."""
    if not 0 < count < values.size:
        return None
    below = np.searchsorted(values, values[count], "left")
    return float(values[count]) if below else None


def _knee(values: Floats) -> int:
    if values.size < 3 or values[-1] <= values[0]:
        return 0
    height = (values - values[0]) / (values[-1] - values[0])
    return int(np.argmax(np.linspace(0, 1, values.size) - height))


def estimate(
    desk: Desk, workspace: Workspace, step: Step, state: DraftState, criterion: str, data: str | None = None
) -> dict[str, Any]:
    """What would be left of the model, from shapes alone, as shares and as numbers: the content of the store ESTIMATE.

    ``accuracy``: of the step's first metric (``metric``), where previews by ``criterion`` were measured.
    """
    model, coupling = desk.analysis(workspace, step)
    costs = desk.kept.get(
        ("costs", step.model_hash), lambda: CostModel(coupling, example_graph(model, dict(coupling.options.shapes)))
    )
    chosen = {name: np.flatnonzero(gone) for name, gone in state.gone.items() if gone.any()}
    after, before = costs.after(chosen), costs.before
    foreseen = effect_of(workspace, step.number, _plan(coupling, chosen), criterion, data=data) if chosen else None
    return {
        "units": state.units,
        "of": coupling.units,
        "parameters_left": after.parameters / max(before.parameters, 1),
        "macs_left": after.macs / max(before.macs, 1),
        "bytes_left": after.bytes / max(before.bytes, 1),
        "parameters": after.parameters,
        "macs": after.macs,
        "bytes": after.bytes,
        "metric": None if foreseen is None else foreseen.metric,
        "accuracy": None if foreseen is None else foreseen.value,
        "accuracy_kind": None if foreseen is None else "measured" if foreseen.basis == "measured" else "estimated",
    }


def _plan(coupling: Coupling, chosen: Mapping[str, Ints]) -> Plan:
    sizes_of = {group.name: group.units for group in coupling.groups}
    return Plan(coupling.model_hash, chosen, sizes_of, options=coupling.options)


def marks(workspace: Workspace, step: Step, units: Units, data: str | None = None) -> list[dict[str, Any]]:
    """What was measured by plans of this criterion, at their places on the axis, for the browser.

    A plan by a ratio stands where a threshold takes as many units; ``kind`` is "near" then, not "measured".
    """
    values = np.sort(units.x[np.isfinite(units.x)])
    found = []
    for preview in previews(workspace, step.number, units.criterion, data=data) if units.measured else ():
        exact = preview.threshold_of(units.criterion) if units.scale == "score" else None
        place = exact if exact is not None else _above(values, preview.removed)
        if place is None:
            continue
        metric = measured(preview.metric, preview.value)
        of = f"{preview.removed:,} of {preview.units:,} units removed, on {preview.samples:,} samples, before training"
        what = "this threshold" if exact is not None else "as many units by a ratio"
        found.append(
            {
                "x": place, "kind": "measured" if exact is not None else "near", "text": str(metric),
                "title": f"{metric.label} {metric} measured for {what}: {of}",
            }
        )  # fmt: skip
    return found


def browser_units(units: Units, colours: tuple[str, ...], *, log: bool, step: int, readonly: bool) -> dict[str, Any]:
    """What the browser is told of the units once."""
    kinds = {group.kind for group in units.groups}
    return {
        "key": units.key,
        "stamp": "|".join(map(str, (units.key, log, colours[:1], units.unsteady_key, readonly))),
        "step": step,
        "readonly": readonly,
        "canvas": units.index.size > DRAWN_UP_TO,
        "size": int(units.index.size),
        "words": kinds.pop() if len(kinds) == 1 else "units",
        "groups": [
            {
                "name": g.name,
                "kind": g.kind,
                "noun": g.noun,
                "units": g.units,
                "start": g.start,
                "along": g.along,
                "colour": colour,
            }
            for g, colour in zip(units.groups, colours, strict=True)
        ],
        "measured": units.measured,
        "criterion": units.criterion,
        "scale": units.scale,
        "entry": {name: value for name, value in units.entry(0.0).items() if name != "threshold"} | {"view": "plan"},
        "x": _exactly(units.x) if units.measured else None,
        "drawn": _exactly(drawn_at(units, log=log)) if units.measured else None,
        "y": lanes(units).round(3).tolist(),
        "sizes": sizes(units).tolist(),
        "normalised": _short(units.normalised),
        "instability": None if units.instability is None else _short(np.nan_to_num(units.instability)),
        "parameters": units.parameters.tolist(),
    }


def _exactly(values: Floats) -> list[float | None]:
    """These very numbers, because the browser compares them with thresholds as the server does; None for NaN."""
    return [value if np.isfinite(value) else None for value in values.tolist()]


def _short(values: Floats) -> list[float]:
    """For sums: six digits do."""
    return [float(f"{value:.6g}") for value in values.tolist()]
