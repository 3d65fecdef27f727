"""Radar, bubbles with the threshold, the groups, and the plan as circles: what is to go, seen and changed (C20-C26).

Server and browser share the work. The units and the draft go to the browser as two stores, and while a threshold is
dragged everything is drawn there (``assets/plan.js``); the server is asked for what is left of the model, and at the
end for one entry in the draft.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from dash import ClientsideFunction, Dash, Input, Output, State, ctx, html, no_update, set_props
from dash.development.base_component import Component

from dash_ui import ids, parts
from dash_ui.desk import Desk
from dash_ui.figures.bubbles import bubbles
from dash_ui.figures.circles import circles_svg
from dash_ui.figures.layers import layer_colours
from dash_ui.figures.radar import radar
from dash_ui.plan_layout import (
    ASKED,
    CRITERION,
    DRAFT,
    FORESEEN,
    GRAPH,
    KNOWN,
    LOG,
    OFFERED,
    PREVIEW,
    RADAR,
    RUNS_OF,
    SCALE,
    SHOWN,
    UNITS,
    layout,
    tools,
)
from dash_ui.rows.draft import SHOWN_BY, browser_units, draft_of, estimate, marks, payload
from dash_ui.rows.units import SENSITIVITY, Units, choices, first_choice, options_of, units_of
from dash_ui.state import Selection
from dash_ui.theme import theme_of
from dash_ui.views import View
from onnxprune.errors import OnnxPruneError
from onnxprune.guidance import ask, is_quick
from onnxprune.instability import RUNS
from onnxprune.workspace.job import Job
from onnxprune.workspace.jobs import Jobs
from onnxprune.workspace.values import Step
from onnxprune.workspace.workspace import Workspace

__all__ = ["VIEW", "answer"]

MEASURING = ("score", "instability")
Stored = Mapping[str, Any]


def register(app: Dash, desk: Desk) -> None:
    """Add the callbacks."""
    _register_choice(app, desk)
    _register_show(app, desk)
    _register_follow(app, desk)
    _register_change(app, desk)
    _register_others(app, desk)
    _register_measuring(app, desk)
    app.clientside_callback(
        ClientsideFunction("plan", "received"),
        Output("plan-tip", "title"),
        Input(UNITS, "data"),
        Input(DRAFT, "data"),
        Input(ids.SELECTION, "data"),
    )
    app.clientside_callback(ClientsideFunction("plan", "foreseen"), Output("plan-tip", "lang"), Input(FORESEEN, "data"))


def _now(workspace: Workspace, selection: Stored | None) -> tuple[Selection, Step | None]:
    now = Selection.of(selection)
    return now, None if now.step is None else workspace.steps.get(now.step)


def _register_choice(app: Dash, desk: Desk) -> None:
    @app.callback(
        Output(CRITERION, "options"),
        Output(CRITERION, "value"),
        Output(SCALE, "value"),
        Output(OFFERED, "data"),
        Input(ids.PLACE, "data"),
        State(CRITERION, "options"),
        State(CRITERION, "value"),
        State(SCALE, "value"),
    )
    def offer(selection: Stored | None, options: list[str] | None, criterion: str | None, scale: str | None) -> Any:
        with desk.workspace() as workspace:
            now, step = _now(workspace, selection)
            if step is None:
                return [no_update] * 4
            _, coupling = desk.analysis(workspace, step)
            data = now.data or workspace.dataset_name(step.number)
            known = choices(coupling, data=data is not None)
            first, first_scale = first_choice(workspace, step.number, data)
        wanted = next((name for name in (now.criterion, criterion, first) if name in known), known[0])
        found, before = (known, wanted, scale or first_scale), (options, criterion, scale)
        return *(no_update if new == old else new for new, old in zip(found, before, strict=True)), wanted

    @app.callback(
        Output(ids.SELECTION, "data", allow_duplicate=True),
        Output(SCALE, "value", allow_duplicate=True),
        Input(CRITERION, "value"),
        State(ids.SELECTION, "data"),
        State(OFFERED, "data"),
        prevent_initial_call=True,
    )
    def choose(criterion: str | None, selection: Stored | None, offered: str | None) -> Any:
        now = Selection.of(selection)
        if criterion is None or now.step is None or criterion == (now.criterion or offered):
            return no_update, no_update
        return now.changed(criterion=criterion), "layer" if criterion == SENSITIVITY else no_update


def _register_show(app: Dash, desk: Desk) -> None:
    @app.callback(
        Output(UNITS, "data"),
        Output(SHOWN, "data"),
        Output(GRAPH, "figure"),
        Output(RADAR, "figure"),
        Output("plan-empty", "children"),
        Output("plan-size", "children"),
        Output("plan-word-score", "children"),
        Output(DRAFT, "data", allow_duplicate=True),
        Output(KNOWN, "data", allow_duplicate=True),
        Output("plan-measure", "children"),
        Output("plan-measure", "hidden"),
        Output("plan-unsteady", "disabled"),
        Input(ids.PLACE, "data"),
        Input(CRITERION, "value"),
        Input(SCALE, "value"),
        Input(LOG, "value"),
        Input(RUNS_OF, "value"),
        Input(ids.THEME, "data"),
        Input(ids.ENDED, "data"),
        State(SHOWN, "data"),
        prevent_initial_call="initial_duplicate",
    )
    def show(
        selection: Stored | None, criterion: str | None, scale: str | None, log: list[str], runs: int | None,
        theme: str | None, _: Any, before: Stored | None,
    ) -> Any:  # fmt: skip
        """The draft comes with the units: a second question would cost as much again as the first one."""
        same = [no_update] * 12
        if criterion is None or scale is None:
            return same
        with desk.workspace() as workspace:
            now, step = _now(workspace, selection)
            if step is None:
                return same
            units = units_of(desk, workspace, step, criterion, scale, data=now.data, runs=runs or RUNS)
            drafted, left, _ = drafted_of(desk, workspace, step, units, now.data)
            readonly = workspace.readonly
            data = now.data or workspace.dataset_name(step.number)
        look, logarithmic = theme_of(theme), bool(log) and not scale.endswith("rank")
        colours = layer_colours(look, len(units.groups))
        found = browser_units(units, colours, log=logarithmic, step=step.number, readonly=readonly)
        if before is not None and (before["stamp"], before["step"]) == (found["stamp"], found["step"]):
            return same
        figure = bubbles(units, look, log=logarithmic)
        words = radar_words(units)
        whole = radar(dict.fromkeys(words.values(), 1.0), look).update_layout(meta=list(words))
        shown = {name: found[name] for name in SHOWN_BY}
        said = _missing(units, step), _size_words(units), words.get("score", "score")
        set_props(ids.ESTIMATE, {"data": left})  # no output: a page without models has it, and no units
        measuring = measured_by(criterion, known=units.measured, data=data, readonly=readonly)
        return found, shown, figure, whole, *said, drafted, _known(drafted), *measuring


def measured_by(criterion: str, *, known: bool, data: str | None, readonly: bool) -> tuple[str, bool, bool]:
    """Words on the button that measures scores, whether it is hidden, whether that for instability is disabled."""
    quick = is_quick(criterion)
    return f"Measure {SENSITIVITY if quick else criterion}", (known and not quick) or data is None, not data or readonly


def radar_words(units: Units) -> dict[str, str]:
    """What the radar shows of these units, and the words for it."""
    kinds = {group.kind for group in units.groups}
    words = {"units": kinds.pop() if len(kinds) == 1 else "units"}
    if units.measured:
        words["score"] = units.criterion
    if units.instability is not None:
        words["instability"] = "instability"
    return {**words, "parameters": "parameters", "macs": "MACs"}


def _missing(units: Units, step: Step) -> Component | None:
    if not units.groups:
        return parts.empty(f"Nothing can be removed from step {step.number}.", "The drawing of the model lists why.")
    if units.measured:
        return None
    return parts.empty(
        f"{units.criterion} of step {step.number} was not measured yet.",
        "Measure it, or choose a score that looks at weights only, as l2.",
    )


def _size_words(units: Units) -> str:
    if not units.measured:
        return ""
    return "size: instability" if units.instability is not None else "size: all alike, instability was not measured"


def answer(
    desk: Desk, workspace: Workspace, shown: Stored, selection: Stored | None, runs: int | None
) -> tuple[dict[str, Any], dict[str, Any], str] | None:
    """The draft of the step that is shown, what it would leave, its revision; None where another step is selected.

    ``shown``: the store SHOWN.
    """
    now, step = _now(workspace, selection)
    if step is None or step.number != shown["step"]:
        return None
    units = units_of(desk, workspace, step, shown["criterion"], shown["scale"], data=now.data, runs=runs or RUNS)
    return drafted_of(desk, workspace, step, units, now.data)


def drafted_of(
    desk: Desk, workspace: Workspace, step: Step, units: Units, data: str | None
) -> tuple[dict[str, Any], dict[str, Any], str]:
    """The draft of a step for the browser, what it would leave, its revision."""
    state, revision = draft_of(desk, workspace, step)
    left = estimate(desk, workspace, step, state, units.criterion, data)
    drafted = {**payload(units, state, revision), "left": left, "marks": marks(workspace, step, units, data)}
    return drafted, left, revision


def _known(drafted: Stored) -> dict[str, Any]:
    """The store KNOWN for a draft."""
    text = json.dumps({**drafted, "nonce": None}, sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    return {name: drafted[name] for name in ("key", "revision", "empty")} | {"digest": digest}


def _register_follow(app: Dash, desk: Desk) -> None:
    @app.callback(
        Output(DRAFT, "data"),
        Output(KNOWN, "data"),
        Output(ids.ESTIMATE, "data", allow_duplicate=True),
        Input(ids.DRAFT_CHANGED, "data"),
        Input(ids.ENDED, "data"),
        State(SHOWN, "data"),
        State(ids.SELECTION, "data"),
        State(RUNS_OF, "value"),
        State(KNOWN, "data"),
        prevent_initial_call=True,
    )
    def follow(revision: str | None, _: Any, shown: Any, selection: Any, runs: int | None, before: Any) -> Any:
        """Other units bring their draft with them."""
        same = [no_update] * 3
        if shown is None:
            return same
        known = before is not None and (before["key"], before["revision"]) == (shown["key"], revision)
        if known and ids.ENDED not in {name.split(".")[0] for name in ctx.triggered_prop_ids}:
            return same
        with desk.workspace() as workspace:
            found = answer(desk, workspace, shown, selection, runs)
        if found is None or _known(found[0]) == before:
            return same
        return found[0], _known(found[0]), found[1]


def _register_change(app: Dash, desk: Desk) -> None:
    @app.callback(
        Output(DRAFT, "data", allow_duplicate=True),
        Output(KNOWN, "data", allow_duplicate=True),
        Output(ids.ESTIMATE, "data", allow_duplicate=True),
        Output(ids.DRAFT_CHANGED, "data", allow_duplicate=True),
        Input(ASKED, "data"),
        State(SHOWN, "data"),
        State(ids.SELECTION, "data"),
        State(RUNS_OF, "value"),
        prevent_initial_call=True,
    )
    def change(asked: Stored | None, shown: Stored | None, selection: Any, runs: int | None) -> Any:
        if asked is None or shown is None:
            return [no_update] * 4
        try:
            desk.edit(asked["step"], asked["edit"], asked["revision"])
        except OnnxPruneError as error:  # the page shows what it wanted already: it must hear what holds
            set_props(ids.TOAST, {"data": {"kind": "error", "text": error.message, "hint": error.hint}})
        with desk.workspace() as workspace:
            found = answer(desk, workspace, shown, selection, runs)
        if found is None:
            return [no_update] * 4
        return {**found[0], "nonce": asked["nonce"]}, _known(found[0]), found[1], found[2]

    @app.callback(
        Output(FORESEEN, "data"),
        Output(ids.ESTIMATE, "data", allow_duplicate=True),
        Input(PREVIEW, "data"),
        State(ids.SELECTION, "data"),
        prevent_initial_call=True,
    )
    def foresee(preview: Stored | None, selection: Any) -> Any:
        if preview is None:
            return no_update, no_update
        with desk.workspace() as workspace:
            now, step = _now(workspace, selection)
            if step is None or step.number != preview["step"]:
                return None, no_update
            state, _ = draft_of(desk, workspace, step, [preview["edit"]])
            left = estimate(desk, workspace, step, state, preview["edit"]["criterion"], now.data)
        return left, left


def _register_others(app: Dash, desk: Desk) -> None:
    @app.callback(
        Output(ids.DRAFT_CHANGED, "data", allow_duplicate=True),
        Input("plan-clear", "n_clicks"),
        State(ids.SELECTION, "data"),
        State(KNOWN, "data"),
        prevent_initial_call=True,
    )
    def clear(_: int, selection: Any, draft: Any) -> Any:
        step = Selection.of(selection).step
        if step is None or draft is None or draft["empty"]:
            return no_update
        return desk.edit(step, {"clear": True, "view": "plan"}, draft["revision"])

    @app.callback(
        Output("plan-file", "data"),
        Input("plan-save", "n_clicks"),
        State(SHOWN, "data"),
        State(ids.SELECTION, "data"),
        State(ids.THEME, "data"),
        prevent_initial_call=True,
    )
    def save(_: int, shown: Any, selection: Any, theme: str | None) -> Any:
        if shown is None:
            return no_update
        with desk.workspace() as workspace:
            now, step = _now(workspace, selection)
            if step is None:
                return no_update
            rows = units_of(desk, workspace, step, shown["criterion"], shown["scale"], data=now.data)
            state, _revision = draft_of(desk, workspace, step)
        return {
            "content": circles_svg(rows, rows.mask(state.gone), theme_of(theme)), "filename": f"plan-{step.number}.svg",
            "type": "image/svg+xml",
        }  # fmt: skip


def _register_measuring(app: Dash, desk: Desk) -> None:
    @app.callback(
        Output(ids.TOAST, "data", allow_duplicate=True),
        Input("plan-measure", "n_clicks"),
        Input("plan-unsteady", "n_clicks"),
        State(ids.SELECTION, "data"),
        State(CRITERION, "value"),
        State(RUNS_OF, "value"),
        prevent_initial_call=True,
    )
    def measure(_: int, __: int, selection: Any, criterion: str | None, runs: int | None) -> Any:
        with desk.workspace() as workspace:
            now, step = _now(workspace, selection)
            if step is None:
                return no_update
            if ctx.triggered_id == "plan-unsteady":
                what, data = "instability", now.data or workspace.dataset_name(step.number)
                job = ask(workspace, step.number, "instability", data=data, runs=runs or RUNS)
            else:
                what = criterion if criterion is not None and not is_quick(criterion) else SENSITIVITY
                options = options_of(workspace, step.number, what, now.data) or {}
                job = ask(workspace, step.number, "score", criterion=what, **options)
            if job is None:
                hint = "It is the size of the bubbles." if what == "instability" else "Choose it as the score."
                return {"kind": "info", "text": f"{what} is known already.", "hint": hint}
            Jobs(workspace.database).start_worker(workspace.folder)
        return {"kind": "info", "text": f"{what} is being measured (job {job.number}).", "hint": ""}

    @app.callback(Output("plan-progress", "children"), Input(ids.REVISION, "data"), Input(ids.PLACE, "data"))
    def progress(_: Any, selection: Any) -> Any:
        step = Selection.of(selection).step
        with desk.workspace() as workspace:
            open_jobs = Jobs(workspace.database).all(("queued", "running"))
        return [_job(job) for job in open_jobs if job.step == step and job.action in MEASURING][:2]


def _job(job: Job) -> html.Span:
    what = job.options.get("criterion", SENSITIVITY) if job.action == "score" else "instability"
    if not job.total:
        return html.Span([f"{what}: {job.stage or job.state} ", html.Progress()])
    bar = html.Progress(value=str(job.done), max=str(job.total))
    return html.Span([f"{what}: {job.stage} ", bar, f" {job.done:,} of {job.total:,}"])


VIEW = View("plan", "Plan", "model", layout, register, order=10, tools=tools, whole=("plan-save", "all that goes"))
