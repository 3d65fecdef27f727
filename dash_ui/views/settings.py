"""Settings: how the selected step is to be pruned and fine-tuned, checked as one types, with the effect at once."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import dash_ag_grid as dag
from dash import ALL, Dash, Input, Output, State, ctx, dcc, html, no_update
from dash.development.base_component import Component

from dash_ui import ids
from dash_ui.desk import Desk
from dash_ui.rows.effect import Effect, effect_of, group_rows
from dash_ui.rows.fields import ACTIONS, Field, fields_of, options_of_form
from dash_ui.rows.queue import queue, words_of
from dash_ui.state import Selection
from dash_ui.views import View
from onnxprune.cost import CostModel
from onnxprune.errors import OnnxPruneError
from onnxprune.workspace.recording import command_of

__all__ = ["VIEW", "effect_words"]

TITLES = {"prune": "Prune", "fine-tune": "Fine-tune"}
VERBS = {"prune": "prune", "fine-tune": "finetune"}
LOCKED = "Leave alone"


def layout() -> html.Div:
    """A form for each action; the rarer fields are folded away."""
    return html.Div([_section(action) for action in ACTIONS], className="settings")


def _section(action: str) -> html.Section:
    fields = fields_of(action)
    usual = [_row(action, field) for field in fields if not field.more]
    rare = [_row(action, field) for field in fields if field.more]
    parts: list[Component] = [html.H3(TITLES[action], id=f"settings-head-{action}"), *usual]
    if action == "prune":
        parts.append(html.Details([html.Summary("Group by group"), *_groups()], id="settings-groups-frame"))
    parts += [
        html.Details([html.Summary("More"), *rare]),
        html.Div(
            id={"type": "settings-problem", "action": action, "name": ""}, className="field-problem", role="alert"
        ),
    ]
    if action == "prune":
        parts.append(html.Div(id="settings-effect", className="settings-effect", role="status"))
    parts.append(
        html.Div(
            [
                html.Button(TITLES[action], id=f"settings-{action}", className="primary", disabled=True),
                dcc.Clipboard(
                    id=f"settings-copy-{action}", className="ghost copy", title="Copy the command line that does this",
                ),
            ],
            className="settings-buttons",
        )
    )  # fmt: skip
    return html.Section(parts, className="settings-section")


def _row(action: str, field: Field) -> html.Div:
    """Label, control, unit, and what is wrong with it."""
    name = {"type": "settings-field", "action": action, "name": field.name}
    label = f"settings-{action}-{field.name}"
    kept = {"persistence": f"{action}-{field.name}", "persistence_type": "local"}
    control: Component
    if field.kind == "choice":
        options = [{"value": value, "label": words} for value, words in field.choices]
        control = dcc.Dropdown(
            options, field.value, id=name, placeholder="by default", clearable=field.value is None,
            searchable=len(options) > 8, className="choice", **kept,
        )  # fmt: skip
    elif field.kind == "flag":
        control = dcc.Checklist([{"value": "yes", "label": ""}], [], id=name, className="flag", **kept)
    else:
        control = dcc.Input(
            id=name, type="text", value=field.value, placeholder=field.example, autoComplete="off",
            className="field", **{"aria-label": field.label}, **kept,
        )  # fmt: skip
    return html.Div(
        [
            html.Span(field.label, className="field-label", id=label),
            html.Div(control, className="field-control"),
            html.Span(field.unit, className="field-unit quiet"),
            html.Div(id={"type": "settings-problem", "action": action, "name": field.name}, className="field-problem"),
        ],
        className="field-row",
        title=field.hint or None,
        role="group",
        **{"aria-labelledby": label},
    )


def _groups() -> list[Component]:
    columns = [
        {"field": "group", "headerName": "Group", "flex": 2, "filter": True, "checkboxSelection": True,
         "headerCheckboxSelection": True},
        {"field": "units", "headerName": "Units", "width": 74, "type": "rightAligned"},
        {"field": "parameters", "headerName": "Params", "width": 84, "type": "rightAligned",
         "valueFormatter": {"function": "d3.format('.1%')(params.value)"}},
        {"field": "macs", "headerName": "MACs", "width": 80, "type": "rightAligned",
         "valueFormatter": {"function": "d3.format('.1%')(params.value)"}},
        {"field": "ratio", "headerName": "Remove", "width": 88, "editable": True, "type": "rightAligned",
         "cellClass": "editable"},
        {"field": "locked", "headerName": LOCKED, "width": 104, "editable": True, "cellDataType": "boolean"},
    ]  # fmt: skip
    grid = dag.AgGrid(
        id="settings-groups", columnDefs=columns, rowData=[], getRowId="params.data.group",
        defaultColDef={"sortable": True, "resizable": True},
        dashGridOptions={"rowSelection": "multiple", "suppressRowClickSelection": True, "rowHeight": 28,
                         "headerHeight": 30, "stopEditingWhenCellsLoseFocus": True, "singleClickEdit": True},
        className="grid",
    )  # fmt: skip
    many = html.Div(
        [
            html.Span("Selected rows:", className="quiet"),
            dcc.Input(id="settings-many", type="text", placeholder="50%", className="field short",
                      **{"aria-label": "Share to remove of the selected groups"}),
            html.Button("Set", id="settings-set", className="small"),
            html.Button(LOCKED, id="settings-lock", className="small"),
            html.Button("Clear", id="settings-clear", className="small"),
        ],
        className="settings-many",
    )  # fmt: skip
    return [
        many,
        grid,
        html.Div(id={"type": "settings-problem", "action": "prune", "name": "groups"}, className="field-problem"),
    ]


def effect_words(effect: Effect) -> list[Component]:
    """The effect as a person reads it."""
    if effect.problem:
        return [html.P(effect.problem), html.P(effect.hint, className="hint")]
    about = "" if effect.exact else "about "
    words = [f"{about}{effect.units:,} of {effect.of:,} units go"]
    if effect.parameters_left is not None and effect.parameters_left < 1:
        words.append(f"{about}{1 - effect.parameters_left:.1%} of the parameters")
    if effect.macs_left is not None and effect.macs_left < 1:
        words.append(f"{about}{1 - effect.macs_left:.1%} of the MACs")
    note = "Estimated from shapes." if effect.exact else "The criterion looks at data; counted here with l2 instead."
    return [html.P(", ".join(words), className="number"), html.P(note, className="hint")]


def form_of(values: Sequence[Any], names: Sequence[Mapping[str, Any]], action: str) -> dict[str, Any]:
    """The values of the fields of one action by name."""
    return {
        id_["name"]: (value == ["yes"] if isinstance(value, list) else value)
        for id_, value in zip(names, values, strict=True)
        if id_["action"] == action
    }


def register(app: Dash, desk: Desk) -> None:
    """Add the callbacks."""
    _register_groups(app, desk)
    _register_form(app, desk)
    _register_actions(app, desk)


def _register_groups(app: Dash, desk: Desk) -> None:
    @app.callback(
        Output("settings-groups", "rowData"), Input(ids.SELECTION, "data"), State("settings-groups", "rowData")
    )
    def fill(selection: dict[str, Any] | None, before: list[dict[str, Any]] | None) -> Any:
        number = Selection.of(selection).step
        if number is None:
            return []
        with desk.workspace() as workspace:
            step = workspace.steps.get(number)
            try:
                _, coupling = desk.analysis(workspace, step)
            except OnnxPruneError:
                return []
        rows = group_rows(coupling, desk.kept.get(("cost model", step.model_hash), lambda: CostModel(coupling)))
        known = {row["group"]: row for row in before or ()}
        for row in rows:  # a ratio or a lock stays with its group on the way from step to step
            old = known.get(row["group"], {})
            row["ratio"], row["locked"] = old.get("ratio"), bool(old.get("locked"))
        return rows

    @app.callback(
        Output("settings-groups", "rowData", allow_duplicate=True),
        Input("settings-set", "n_clicks"),
        Input("settings-lock", "n_clicks"),
        Input("settings-clear", "n_clicks"),
        State("settings-many", "value"),
        State("settings-groups", "selectedRows"),
        State("settings-groups", "rowData"),
        prevent_initial_call=True,
    )
    def many(_set: Any, _lock: Any, _clear: Any, text: str | None, chosen: Any, rows: list[dict[str, Any]]) -> Any:
        names = {row["group"] for row in chosen or ()}
        changes: dict[str, dict[str, Any]] = {
            "settings-set": {"ratio": text, "locked": False},
            "settings-lock": {"locked": True},
            "settings-clear": {"ratio": None, "locked": False},
        }
        change = changes.get(str(ctx.triggered_id))
        return no_update if change is None else [row | change if row["group"] in names else row for row in rows]


def _register_form(app: Dash, desk: Desk) -> None:
    @app.callback(
        Output(ids.OPTIONS, "data"),
        Output({"type": "settings-problem", "action": ALL, "name": ALL}, "children"),
        Output("settings-prune", "disabled"),
        Output("settings-fine-tune", "disabled"),
        Input({"type": "settings-field", "action": ALL, "name": ALL}, "value"),
        Input("settings-groups", "rowData"),
        Input("settings-groups", "cellValueChanged"),
        State({"type": "settings-field", "action": ALL, "name": ALL}, "id"),
        State({"type": "settings-problem", "action": ALL, "name": ALL}, "id"),
    )
    def read(values: Any, groups: Any, _changed: Any, names: Any, places: Any) -> Any:
        given, wrong = {}, {}
        for action in ACTIONS:
            found = options_of_form(action, form_of(values, names, action), groups or () if action == "prune" else ())
            given[action], wrong[action] = dict(found.given), found.problems
        texts = [wrong[place["action"]].get(place["name"], "") for place in places]
        blocked = [bool(wrong[action]) for action in ("prune", "fine-tune")]
        return {name: options for name, options in given.items() if not wrong[name]}, texts, *blocked

    @app.callback(
        Output("settings-effect", "children"),
        Output("settings-prune", "children"),
        Output("settings-fine-tune", "children"),
        Output("settings-copy-prune", "content"),
        Output("settings-copy-fine-tune", "content"),
        Input(ids.OPTIONS, "data"),
        Input(ids.SELECTION, "data"),
        Input(ids.REVISION, "data"),
    )
    def foresee(options: dict[str, Any] | None, selection: dict[str, Any] | None, _: Any) -> Any:
        number, known = Selection.of(selection).step, options or {}
        if number is None:
            return None, *TITLES.values(), "", ""
        commands = [shlex.join(command_of(VERBS[action], number, known.get(action, {}))) for action in TITLES]
        effect: Sequence[Component] = []
        if "prune" in known:
            with desk.workspace() as workspace:
                effect = effect_words(effect_of(desk, workspace, workspace.steps.get(number), known["prune"]))
        return effect, *(f"{title} step {number}" for title in TITLES.values()), *commands


def _register_actions(app: Dash, desk: Desk) -> None:
    @app.callback(
        Output(ids.TOAST, "data", allow_duplicate=True),
        Input("settings-prune", "n_clicks"),
        Input("settings-fine-tune", "n_clicks"),
        State(ids.SELECTION, "data"),
        State(ids.OPTIONS, "data"),
        prevent_initial_call=True,
    )
    def start(_prune: Any, _tune: Any, selection: dict[str, Any] | None, options: dict[str, Any] | None) -> Any:
        if not any((_prune, _tune)) or ctx.triggered_id is None:
            return no_update
        action, now = str(ctx.triggered_id).removeprefix("settings-"), Selection.of(selection)
        if now.step is None:
            return no_update
        job = queue(desk, action, now.step, (options or {}).get(action, {}), data=now.data)
        return {
            "kind": "info",
            "text": f"{words_of(job)}: job {job.number} is queued.",
            "hint": "Jobs shows how far it is.",
        }


VIEW = View("settings", "Settings", "drawer", layout, register, 10)
