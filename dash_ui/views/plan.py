"""Radar, bubbles with the threshold, the groups, and the plan as circles: what is to go, seen and changed (C20-C26).

Server and browser share the work. The units and the draft go to the browser as two stores, and while a threshold is
dragged everything is drawn there (``assets/plan.js``); the server is asked for what is left of the model, and at the
end for one entry in the draft.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from dash import ClientsideFunction, Dash, Input, Output, State, ctx, dcc, html, no_update, set_props
from dash.development.base_component import Component

from dash_ui import ids, parts
from dash_ui.desk import Desk
from dash_ui.figures.bubbles import bubbles, drawn_at, lanes, sizes
from dash_ui.figures.circles import circles_svg
from dash_ui.figures.layers import layer_colours
from dash_ui.figures.radar import radar
from dash_ui.rows.draft import PRESETS, draft_of, estimate, payload
from dash_ui.rows.units import SCALE_WORDS, SENSITIVITY, Units, choices, first_choice, options_of, units_of
from dash_ui.state import Selection
from dash_ui.theme import theme_of
from dash_ui.views import View
from onnxprune.errors import OnnxPruneError
from onnxprune.guidance import ask, is_quick
from onnxprune.instability import RUNS
from onnxprune.workspace.jobs import Jobs
from onnxprune.workspace.values import Step
from onnxprune.workspace.workspace import Workspace

__all__ = ["VIEW"]

UNITS, DRAFT, ASKED, PREVIEW, FORESEEN = "plan-units", "plan-draft", "plan-asked", "plan-preview", "plan-foreseen"
CRITERION, SCALE, LOG, RUNS_OF = "plan-criterion", "plan-scale", "plan-log", "plan-runs"
GRAPH, RADAR = "plan-graph", "plan-radar"
MEASURING = ("score", "instability")
LEFT = {"units": "units", "score": "score", "instability": "instability", "parameters": "parameters", "macs": "MACs"}


def layout() -> Component:
    """Tools, radar with its numbers, groups, bubbles with slider, circles with the bar."""
    stores = [dcc.Store(id=name) for name in (UNITS, DRAFT, ASKED, PREVIEW, FORESEEN)]
    return html.Div([*stores, _tools(), _left(), _groups(), _bubbles(), _circles()], className="plan")


def _tools() -> html.Div:
    presets = [
        *((f"{share:.0%}", f"{share:.0%}", f"The lowest {share:.0%} of all units go") for share in PRESETS),
        ("dead", "dead units", "Units that score 0 go"),
        ("knee", "knee", "The threshold beyond which each further unit costs visibly more"),
    ]
    return html.Div(
        [
            html.Div(
                [
                    html.Label(
                        [html.Span("Score"), dcc.Dropdown(id=CRITERION, clearable=False, className="plan-choice")]
                    ),
                    html.Label(
                        [
                            html.Span("Scale"),
                            dcc.Dropdown(
                                id=SCALE, clearable=False, searchable=False, className="plan-choice wide",
                                options=[{"value": name, "label": words} for name, words in SCALE_WORDS.items()],
                            ),
                        ]
                    ),
                    dcc.Checklist(id=LOG, options=[{"value": "log", "label": "log"}], value=[], className="plan-log"),
                ],
                className="plan-set",
            ),
            html.Div(
                [
                    html.Span("Threshold", className="plan-word"),
                    *(
                        html.Button(text, className="plain small", title=title, **{"data-preset": name})
                        for name, text, title in presets
                    ),
                    html.Button(
                        "empty", id="plan-clear", className="plain small", title="Take everything out of the plan (undo brings it back)"
                    ),
                ],
                className="plan-set", role="group", **{"aria-label": "Presets of the threshold"},
            ),
            html.Div(
                [
                    html.Button("Measure sensitivity", id="plan-measure", className="plain small"),
                    html.Button(
                        "Measure instability", id="plan-unsteady", className="plain small",
                        title="How far the ranks of units spread over several short trainings",
                    ),
                    html.Label(
                        [
                            dcc.Input(
                                id=RUNS_OF, type="number", min=2, max=50, step=1, value=RUNS, debounce=True,
                                className="plan-runs",
                            ),
                            html.Span("runs"),
                        ]
                    ),
                ],
                className="plan-set",
            ),
            html.Div(id="plan-progress", className="plan-progress", role="status"),
        ],
        id="plan-tools", className="plan-tools",
    )  # fmt: skip


def _left() -> html.Div:
    numbers = [
        html.Div([html.Dt(word, id=f"plan-word-{name}"), html.Dd("—", id=f"plan-left-{name}")])
        for name, word in LEFT.items()
    ]
    return html.Div(
        [
            html.H3("Left after the plan"),
            parts.graph(
                RADAR, label="Radar: shares of units, score, instability, parameters and MACs that are left",
                config={"displayModeBar": False, "staticPlot": False},
            ),
            html.Dl(numbers, className="plan-numbers"),
        ],
        className="plan-left",
    )  # fmt: skip


def _groups() -> html.Div:
    heads = ("layer", "", "goes", "own %", "")
    table = html.Table(
        [html.Thead(html.Tr([html.Th(word, scope="col") for word in heads])), html.Tbody()], className="plan-table"
    )
    return html.Div(table, id="plan-groups", className="plan-groups")


def _bubbles() -> html.Div:
    stretch = [
        html.Button(text, className="plain small", title=title, **{"data-stretch": how, "aria-label": title})
        for how, text, title in (
            ("in", "+", "Stretch the axis around the threshold"), ("out", "−", "Squeeze the axis"),
            ("all", "all", "Show the whole axis"),
        )
    ]  # fmt: skip
    graph = parts.graph(
        GRAPH, label="Bubbles: a bubble for each unit, its score, its instability as size, its layer as colour",
        config={"scrollZoom": True, "doubleClick": False},
    )  # fmt: skip
    graph.children = [graph.children, html.Div(id="plan-line", className="plan-line", hidden=True, **{"aria-hidden": "true"})]
    return html.Div(
        [
            html.Div(
                [
                    html.Strong(id="plan-counts", className="plan-counts"),
                    html.Span(id="plan-size", className="plan-hint"),
                    html.Div(stretch, id="plan-stretch", className="plan-set", role="group", **{"aria-label": "Stretch"}),
                ],
                className="plan-head",
            ),
            html.Div([graph, html.Div(id="plan-empty")], className="plan-stage"),
            html.Div(id="plan-marks", className="plan-marks"),
            _range(),
            html.Div(id="plan-notes", className="plan-hint"),
            html.Div(id="plan-said", className="plan-said", role="status"),
        ],
        className="plan-bubbles",
    )  # fmt: skip


def _range() -> dcc.Input:
    """The slider below the plot; it tells of every move."""
    return html.Div(
        dcc.Input(id="plan-range", type="range", min=0, max=2000, step=1, value=0, className="plan-range"),
        className="plan-slider",
    )


def _circles() -> html.Div:
    return html.Div(
        [
            html.Div(
                [
                    html.H3("Plan"),
                    html.Button("SVG", id="plan-save", className="plain small", title="Save the plan as a picture"),
                    dcc.Download(id="plan-file"),
                ],
                className="plan-head",
            ),
            html.Div(
                [html.Div(id="plan-tip", className="plan-tip", hidden=True)],
                id="plan-circles", className="plan-circles", role="img",
            ),
            html.Div(id="plan-bar", className="plan-bar", role="img", **{"aria-label": "Share of each layer in the plan"}),
        ],
        className="plan-circles-frame",
    )  # fmt: skip


def browser_units(units: Units, colours: tuple[str, ...], *, log: bool, step: int, readonly: bool) -> dict[str, Any]:
    """What the browser is told of the units once."""
    kinds = {group.kind for group in units.groups}
    drawn = drawn_at(units, log=log) if units.measured else None
    return {
        "key": units.key,
        "stamp": f"{units.key}|{log}|{colours[:1]}|{units.instability is not None}",
        "step": step,
        "readonly": readonly,
        "size": int(units.index.size),
        "words": kinds.pop() if len(kinds) == 1 else "units",
        "groups": [
            {"name": g.name, "kind": g.kind, "noun": g.noun, "units": g.units, "start": g.start, "colour": colour}
            for g, colour in zip(units.groups, colours, strict=True)
        ],
        "measured": units.measured,
        "criterion": units.criterion,
        "entry": {name: value for name, value in units.entry(0.0).items() if name != "threshold"} | {"view": "plan"},
        "x": _plain(units.x) if units.measured else None,
        "drawn": None if drawn is None else _plain(drawn),
        "y": lanes(units).round(3).tolist(),
        "sizes": sizes(units).tolist(),
        "normalised": _short(units.normalised),
        "instability": None if units.instability is None else _short(np.nan_to_num(units.instability)),
    }


def _plain(values: np.ndarray[Any, np.dtype[np.float64]]) -> list[float | None]:
    """Exactly these numbers, because the browser compares them with thresholds as the server does; None for NaN."""
    return [value if np.isfinite(value) else None for value in values.tolist()]


def _short(values: np.ndarray[Any, np.dtype[np.float64]]) -> list[float]:
    """For sums: six digits do."""
    return [float(f"{value:.6g}") for value in values.tolist()]


def _now(workspace: Workspace, selection: Mapping[str, Any] | None) -> tuple[Selection, Step | None]:
    now = Selection.of(selection)
    return now, None if now.step is None else workspace.steps.get(now.step)


def register(app: Dash, desk: Desk) -> None:
    """Add the callbacks."""
    _register_choice(app, desk)
    _register_show(app, desk)
    _register_draft(app, desk)
    _register_measuring(app, desk)
    app.clientside_callback(
        ClientsideFunction("plan", "received"),
        Output("plan-tip", "title"),
        Input(UNITS, "data"),
        Input(DRAFT, "data"),
        Input(ids.SELECTION, "data"),
    )
    app.clientside_callback(
        ClientsideFunction("plan", "foreseen"), Output("plan-tip", "lang"), Input(FORESEEN, "data")
    )


def _register_choice(app: Dash, desk: Desk) -> None:
    @app.callback(
        Output(CRITERION, "options"),
        Output(CRITERION, "value"),
        Output(SCALE, "value"),
        Input(ids.SELECTION, "data"),
        State(CRITERION, "options"),
        State(CRITERION, "value"),
        State(SCALE, "value"),
    )
    def offer(selection: dict[str, Any] | None, options: list[str] | None, criterion: str | None, scale: str | None) -> Any:
        with desk.workspace() as workspace:
            now, step = _now(workspace, selection)
            if step is None:
                return no_update
            _, coupling = desk.analysis(workspace, step)
            data = now.data or workspace.dataset_name(step.number)
            known = choices(coupling, data=data is not None)
            first, first_scale = first_choice(workspace, step.number, data)
        wanted = now.criterion if now.criterion in known else criterion if criterion in known else first
        found = (known, wanted, scale or first_scale)
        before = (options, criterion, scale)
        return [no_update if new == old else new for new, old in zip(found, before, strict=True)]

    @app.callback(
        Output(ids.SELECTION, "data", allow_duplicate=True),
        Output(SCALE, "value", allow_duplicate=True),
        Input(CRITERION, "value"),
        State(ids.SELECTION, "data"),
        prevent_initial_call=True,
    )
    def choose(criterion: str | None, selection: dict[str, Any] | None) -> Any:
        now = Selection.of(selection)
        if criterion is None or now.step is None or now.criterion == criterion:
            return no_update, no_update
        return now.changed(criterion=criterion), "layer" if criterion == SENSITIVITY else no_update


def _register_show(app: Dash, desk: Desk) -> None:
    @app.callback(
        Output(UNITS, "data"),
        Output(GRAPH, "figure"),
        Output(RADAR, "figure"),
        Output("plan-empty", "children"),
        Output("plan-size", "children"),
        Output("plan-word-score", "children"),
        Input(ids.SELECTION, "data"),
        Input(CRITERION, "value"),
        Input(SCALE, "value"),
        Input(LOG, "value"),
        Input(RUNS_OF, "value"),
        Input(ids.THEME, "data"),
        Input(ids.REVISION, "data"),
        State(UNITS, "data"),
    )
    def show(  # noqa: PLR0913 - one for each input
        selection: dict[str, Any] | None, criterion: str | None, scale: str | None, log: list[str], runs: int | None,
        theme: str | None, _: Any, before: dict[str, Any] | None,
    ) -> Any:  # fmt: skip
        if criterion is None or scale is None:
            return [no_update] * 6
        with desk.workspace() as workspace:
            now, step = _now(workspace, selection)
            if step is None:
                return [no_update] * 6
            units = units_of(desk, workspace, step, criterion, scale, data=now.data, runs=runs or RUNS)
            readonly = workspace.readonly
        look, logarithmic = theme_of(theme), bool(log) and not scale.endswith("rank")
        colours = layer_colours(look, len(units.groups))
        found = browser_units(units, colours, log=logarithmic, step=step.number, readonly=readonly)
        if before is not None and (before["stamp"], before["step"]) == (found["stamp"], found["step"]):
            return [no_update] * 6
        figure = bubbles(units, look, log=logarithmic)
        word = f"{criterion}" if criterion == SENSITIVITY else f"score ({criterion})"
        return found, figure, _radar(units, theme), _missing(units, step), _size_words(units), word

    def _radar(units: Units, theme: str | None) -> Any:
        words = {"units": units.groups[0].kind if len({g.kind for g in units.groups}) == 1 else "units"} if units.groups else {"units": "units"}
        words |= {"score": units.criterion} if units.measured else {}
        words |= {"instability": "instability"} if units.instability is not None else {}
        words |= {"parameters": "parameters", "macs": "MACs"}
        return radar(dict.fromkeys(words.values(), 1.0), theme_of(theme)).update_layout(meta=list(words))


def _missing(units: Units, step: Step) -> Component | None:
    if not units.groups:
        return parts.empty(f"Nothing can be removed from step {step.number}.", "The model view lists why.")
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


def _register_draft(app: Dash, desk: Desk) -> None:
    def answer(workspace: Workspace, units: dict[str, Any], selection: Any, scale: str, runs: int | None) -> Any:
        now, step = _now(workspace, selection)
        if step is None or step.number != units["step"]:
            return None
        rows = units_of(desk, workspace, step, units["criterion"], scale, data=now.data, runs=runs or RUNS)
        state, revision = draft_of(desk, workspace, step)
        left = estimate(desk, workspace, step, state)
        return {**payload(rows, state, revision), "left": left}, left, revision

    @app.callback(
        Output(DRAFT, "data"),
        Output(ids.ESTIMATE, "data", allow_duplicate=True),
        Input(UNITS, "data"),
        Input(ids.DRAFT_CHANGED, "data"),
        State(ids.SELECTION, "data"),
        State(RUNS_OF, "value"),
        State(DRAFT, "data"),
        prevent_initial_call=True,
    )
    def follow(units: Any, revision: str | None, selection: Any, runs: int | None, before: Any) -> Any:
        if units is None:
            return no_update, no_update
        if before is not None and (before["key"], before["revision"]) == (units["key"], revision):
            return no_update, no_update
        with desk.workspace() as workspace:
            found = answer(workspace, units, selection, units["entry"]["scale"], runs)
        return (no_update, no_update) if found is None else found[:2]

    @app.callback(
        Output(DRAFT, "data", allow_duplicate=True),
        Output(ids.ESTIMATE, "data", allow_duplicate=True),
        Output(ids.DRAFT_CHANGED, "data", allow_duplicate=True),
        Input(ASKED, "data"),
        State(UNITS, "data"),
        State(ids.SELECTION, "data"),
        State(RUNS_OF, "value"),
        prevent_initial_call=True,
    )
    def change(asked: dict[str, Any] | None, units: Any, selection: Any, runs: int | None) -> Any:
        if asked is None or units is None:
            return no_update, no_update, no_update
        try:
            desk.edit(asked["step"], asked["edit"], asked["revision"])
        except OnnxPruneError as error:  # the page shows what it wanted: it must hear what holds
            set_props(ids.TOAST, {"data": {"kind": "error", "text": error.message, "hint": error.hint}})
        with desk.workspace() as workspace:
            found = answer(workspace, units, selection, units["entry"]["scale"], runs)
        if found is None:
            return no_update, no_update, no_update
        drafted, left, revision = found
        return {**drafted, "nonce": asked["nonce"]}, left, revision

    @app.callback(
        Output(FORESEEN, "data"),
        Output(ids.ESTIMATE, "data", allow_duplicate=True),
        Input(PREVIEW, "data"),
        State(ids.SELECTION, "data"),
        prevent_initial_call=True,
    )
    def foresee(preview: dict[str, Any] | None, selection: Any) -> Any:
        if preview is None:
            return no_update, no_update
        with desk.workspace() as workspace:
            _, step = _now(workspace, selection)
            if step is None or step.number != preview["step"]:
                return None, no_update
            state, _ = draft_of(desk, workspace, step, [preview["edit"]])
            left = estimate(desk, workspace, step, state)
        return left, left

    @app.callback(
        Output(ids.DRAFT_CHANGED, "data", allow_duplicate=True),
        Input("plan-clear", "n_clicks"),
        State(ids.SELECTION, "data"),
        State(DRAFT, "data"),
        prevent_initial_call=True,
    )
    def clear(_: int, selection: Any, draft: Any) -> Any:
        step = Selection.of(selection).step
        if step is None or draft is None or not draft["gone"]:
            return no_update
        return desk.edit(step, {"clear": True, "view": "plan"}, draft["revision"])

    @app.callback(
        Output("plan-file", "data"),
        Input("plan-save", "n_clicks"),
        State(UNITS, "data"),
        State(ids.SELECTION, "data"),
        State(ids.THEME, "data"),
        prevent_initial_call=True,
    )
    def save(_: int, units: Any, selection: Any, theme: str | None) -> Any:
        if units is None:
            return no_update
        with desk.workspace() as workspace:
            now, step = _now(workspace, selection)
            if step is None:
                return no_update
            rows = units_of(desk, workspace, step, units["criterion"], units["entry"]["scale"], data=now.data)
            state, _revision = draft_of(desk, workspace, step)
        return {
            "content": circles_svg(rows, rows.mask(state.gone), theme_of(theme)), "filename": f"plan-{step.number}.svg",
            "type": "image/svg+xml",
        }  # fmt: skip


def _register_measuring(app: Dash, desk: Desk) -> None:
    @app.callback(
        Output("plan-measure", "children"),
        Output("plan-measure", "hidden"),
        Input(UNITS, "data"),
        prevent_initial_call=True,
    )
    def name(units: Any) -> Any:
        if units is None or (units["measured"] and units["criterion"] == SENSITIVITY):
            return no_update, units is not None
        criterion = SENSITIVITY if is_quick(units["criterion"]) else units["criterion"]
        return f"Measure {criterion}", units["measured"] and not is_quick(units["criterion"])

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
                what, options = "instability", {"data": now.data or workspace.dataset_name(step.number), "runs": runs}
                job = ask(workspace, step.number, "instability", **options)
            else:
                what = criterion if criterion is not None and not is_quick(criterion) else SENSITIVITY
                options = options_of(workspace, step.number, what, now.data) or {}
                job = ask(workspace, step.number, "score", criterion=what, **options)
            if job is None:
                return {"kind": "info", "text": f"{what} is known already.", "hint": "Choose it as the score."}
            Jobs(workspace.database).start_worker(workspace.folder)
        return {"kind": "info", "text": f"{what} is being measured (job {job.number}).", "hint": ""}

    @app.callback(
        Output("plan-progress", "children"), Input(ids.REVISION, "data"), Input(ids.SELECTION, "data")
    )
    def progress(_: Any, selection: Any) -> Any:
        step = Selection.of(selection).step
        with desk.workspace() as workspace:
            found = [
                job
                for job in Jobs(workspace.database).all(("queued", "running"))
                if job.step == step and job.action in MEASURING
            ]
        return [_job(job) for job in found[:2]]


def _job(job: Any) -> html.Span:
    what = job.options.get("criterion", SENSITIVITY) if job.action == "score" else "instability"
    stage = job.stage or job.state
    bar = html.Progress(value=str(job.done), max=str(job.total)) if job.total else html.Progress()
    return html.Span([f"{what}: {stage} ", bar, f" {job.done:,} of {job.total:,}" if job.total else ""])


VIEW = View("plan", "Plan", "model", layout, register, order=10)
