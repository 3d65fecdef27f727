"""Settings: how the selected step is to be pruned and fine-tuned, checked as one types, with the effect at once."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import dash_ag_grid as dag
from dash import ALL, Dash, Input, Output, State, ctx, dcc, html, no_update
from dash.development.base_component import Component

from dash_ui import ids
from dash_ui.desk import Desk
from dash_ui.parts import csv_button
from dash_ui.rows.effect import Effect, effect_of, group_rows
from dash_ui.rows.fields import ACTIONS, Field, fields_of
from dash_ui.rows.form import options_of_form
from dash_ui.rows.queue import queue, words_of
from dash_ui.state import Selection
from dash_ui.tree_parts import WANTED
from dash_ui.views import View
from onnxprune.automatic.amount import removal_options
from onnxprune.cost import CostModel
from onnxprune.errors import OnnxPruneError, OptionError
from onnxprune.values import Coupling
from onnxprune.workspace.job import Job
from onnxprune.workspace.recording import command_of

__all__ = ["VIEW", "applied", "command_line", "effect_words", "usual"]

TITLES = {"prune": "Prune", "recover": "Repair", "fine-tune": "Fine-tune", "auto": "Prune automatically"}
VERBS = {"prune": "prune", "recover": "recover", "fine-tune": "finetune"}  # of `onnxprune ws`
APPLIES = ("mode", "recover", "samples")  # what the settings of pruning say about a draft as well
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
    return html.Div(
        [
            html.Label(
                [
                    html.Span(field.label, className="field-label"),
                    html.Div(_control(action, field), className="field-control"),
                ]
            ),
            html.Span(field.unit, className="field-unit quiet"),
            html.Div(id={"type": "settings-problem", "action": action, "name": field.name}, className="field-problem"),
        ],
        className="field-row",
        title=field.hint or None,
    )


def _control(action: str, field: Field) -> Component:
    name = {"type": "settings-field", "action": action, "name": field.name}
    kept = {"persistence": f"{action}-{field.name}", "persistence_type": "local"}
    if field.kind == "choice":
        options = [{"value": value, "label": words} for value, words in field.choices]
        return dcc.Dropdown(
            options, field.value, id=name, placeholder="by default", clearable=field.value is None,
            searchable=len(options) > 8, className="choice", **kept,
        )  # fmt: skip
    if field.kind == "flag":
        return dcc.Checklist([{"value": "yes", "label": "yes"}], [], id=name, className="flag", **kept)
    return dcc.Input(
        id=name, type="text", value=field.value, placeholder=field.example, autoComplete="off", className="field",
        **kept,
    )  # fmt: skip


def _groups() -> list[Component]:
    columns = [
        {"field": "group", "headerName": "Group", "flex": 2, "minWidth": 118, "filter": True},
        {"field": "units", "headerName": "Units", "width": 62, "type": "rightAligned"},
        {"field": "parameters", "headerName": "Params", "width": 72, "type": "rightAligned",
         "valueFormatter": {"function": "d3.format('.1%')(params.value)"}},
        {"field": "macs", "headerName": "MACs", "width": 70, "type": "rightAligned",
         "valueFormatter": {"function": "d3.format('.1%')(params.value)"}},
        {"field": "ratio", "headerName": "Remove", "width": 76, "editable": True, "type": "rightAligned",
         "cellClass": "editable"},
        {"field": "locked", "headerName": LOCKED, "width": 104, "editable": True, "cellDataType": "boolean"},
    ]  # fmt: skip
    grid = dag.AgGrid(
        id="settings-groups", columnDefs=columns, rowData=[], getRowId="params.data.group",
        defaultColDef={"sortable": True, "resizable": True},
        dashGridOptions={"rowSelection": {"mode": "multiRow", "enableClickSelection": False}, "rowHeight": 28,
                         "headerHeight": 30, "stopEditingWhenCellsLoseFocus": True, "singleClickEdit": True},
        className="grid",
    )  # fmt: skip
    many = html.Div(
        [
            html.Label(
                [
                    html.Span("Remove of the selected rows", className="quiet"),
                    dcc.Input(id="settings-many", type="text", placeholder="50%", className="field short"),
                ]
            ),
            html.Button("Set", id="settings-set", className="small"),
            html.Button(LOCKED, id="settings-lock", className="small"),
            html.Button("Clear", id="settings-clear", className="small"),
            csv_button(
                "settings-groups-csv", "Download the table of groups as CSV", table="settings-groups", file="groups"
            ),
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
    @app.callback(Output("settings-groups", "rowData"), Input(ids.PLACE, "data"), State("settings-groups", "rowData"))
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
        [Output(f"settings-{action}", "disabled") for action in TITLES],
        Input({"type": "settings-field", "action": ALL, "name": ALL}, "value"),
        Input("settings-groups", "rowData"),
        Input("settings-groups", "cellValueChanged"),
        State({"type": "settings-field", "action": ALL, "name": ALL}, "id"),
        State({"type": "settings-problem", "action": ALL, "name": ALL}, "id"),
    )
    def read(values: Any, groups: Any, _changed: Any, names: Any, places: Any) -> Any:
        found = {
            action: options_of_form(action, form_of(values, names, action), groups or () if action == "prune" else ())
            for action in TITLES
        }
        texts = [found[place["action"]].problems.get(place["name"], "") for place in places]
        usable = {action: dict(options.given) for action, options in found.items() if not options.problems}
        return usable, texts, *(action not in usable for action in TITLES)

    @app.callback(
        Output("settings-effect", "children"),
        [Output(f"settings-{action}", "children") for action in TITLES],
        [Output(f"settings-copy-{action}", "content") for action in TITLES],
        Input(ids.OPTIONS, "data"),
        Input(ids.PLACE, "data"),
        Input(ids.ENDED, "data"),
    )
    def foresee(options: dict[str, Any] | None, selection: dict[str, Any] | None, _: Any) -> Any:
        number, known = Selection.of(selection).step, options or {}
        if number is None:
            return None, *TITLES.values(), *("" for _ in TITLES)
        effect: Sequence[Component] = []
        if "prune" in known:
            with desk.workspace() as workspace:
                effect = effect_words(effect_of(desk, workspace, workspace.steps.get(number), known["prune"]))
        titles = [TITLES[action].replace("automatically", "automatically from") for action in TITLES]
        return (
            effect,
            *(f"{title} step {number}" for title in titles),
            *(command_line(action, number, known.get(action, {})) for action in TITLES),
        )


def command_line(action: str, step: int, options: Mapping[str, Any]) -> str:
    """What does the same on the command line."""
    words = list(command_of(VERBS.get(action, action), step, options))
    return shlex.join(words if action in VERBS else ["onnxprune", "jobs", "add", *words[2:], "--start"])


def _register_actions(app: Dash, desk: Desk) -> None:
    @app.callback(
        Output(ids.TOAST, "data", allow_duplicate=True),
        [Input(f"settings-{action}", "n_clicks") for action in TITLES],
        State(ids.SELECTION, "data"),
        State(ids.OPTIONS, "data"),
        prevent_initial_call=True,
    )
    def start(*given: Any) -> Any:
        *clicks, selection, options = given
        now = Selection.of(selection)
        if not any(clicks) or ctx.triggered_id is None or now.step is None:
            return no_update
        action = str(ctx.triggered_id).removeprefix("settings-")
        return queued(queue(desk, action, now.step, (options or {}).get(action, {}), data=now.data))

    @app.callback(
        Output(ids.APPLY, "disabled"),
        Output(ids.FINE_TUNE, "disabled"),
        Output(ids.AUTO, "disabled"),
        Input(ids.DRAFT_CHANGED, "data"),
        Input(ids.PLACE, "data"),
    )
    def offer(_: str | None, selection: dict[str, Any] | None) -> tuple[bool, bool, bool]:
        step = Selection.of(selection).step
        if step is None:
            return True, True, True
        with desk.workspace() as workspace:
            drafted = any(not entry.undone for entry in workspace.drafts.entries(step))
            trained = workspace.dataset_name(step) is not None
            locked = workspace.readonly
        return locked or not drafted, locked or not trained, locked or not trained

    @app.callback(
        Output(ids.TOAST, "data", allow_duplicate=True),
        Input(ids.APPLY, "n_clicks"),
        Input(ids.FINE_TUNE, "n_clicks"),
        Input(ids.AUTO, "n_clicks"),
        State(ids.SELECTION, "data"),
        State(ids.OPTIONS, "data"),
        prevent_initial_call=True,
    )
    def act(*given: Any) -> Any:
        *clicks, selection, options = given
        now = Selection.of(selection)
        if not any(clicks) or now.step is None:
            return no_update
        action = {ids.APPLY: "edit", ids.FINE_TUNE: "fine-tune", ids.AUTO: "auto"}[str(ctx.triggered_id)]
        known = applied(options) if action == "edit" else (options or {}).get(action) or usual(action)
        return queued(queue(desk, action, now.step, known, data=now.data))

    @app.callback(Output(ids.APPLY, "title"), Input(ids.OPTIONS, "data"))
    def says(options: dict[str, Any] | None) -> str:
        given = applied(options)
        how = "set what goes to zero" if given.get("mode") == "mask" else "take out what goes"
        repair = given.get("recover", "none")
        return f"Apply the draft: {how}{'' if repair == 'none' else f', repair by {repair}'} (as the settings say)"

    @app.callback(
        Output(ids.TOAST, "data", allow_duplicate=True),
        Input(WANTED, "data"),
        State(ids.OPTIONS, "data"),
        State(ids.SELECTION, "data"),
        prevent_initial_call=True,
    )
    def prune_to(wanted: dict[str, Any] | None, options: Any, selection: dict[str, Any] | None) -> Any:
        if not wanted or not wanted.get("asked"):
            return no_update
        with desk.workspace() as workspace:
            _, coupling = desk.analysis(workspace, workspace.steps.get(int(wanted["step"])))
        chosen = pruned_to(wanted, (options or {}).get("prune"), coupling)
        return queued(queue(desk, "prune", int(wanted["step"]), chosen, data=Selection.of(selection).data))


def pruned_to(wanted: Mapping[str, Any], options: Mapping[str, Any] | None, coupling: Coupling) -> dict[str, Any]:
    """The options of a pruning to a number of units: those that are set, and amounts by which exactly so many go."""
    amounts = ("ratio", "group_ratios", "preset", "preset_step", "pattern", "min", "round_to")
    given = {
        name: value
        for name, value in (options or usual("prune")).items()
        if name not in amounts and not name.startswith("target_")
    }
    if given.get("distribution") in ("knapsack", "preset"):  # they need a target, or know their own ratios
        del given["distribution"]
    found = removal_options(coupling, int(wanted["of"]) - int(wanted["units"]), given)
    if not found:
        raise OptionError("no unit of this step can go", "Leave fewer groups alone.")
    if "group_ratios" in found:
        given.pop("distribution", None)
    return {**given, "round_to": 1, **found}


def applied(options: Mapping[str, Any] | None) -> dict[str, Any]:
    """What the settings of pruning say about applying a draft: remove or mask, and the repair."""
    given = (options or {}).get("prune") or {}
    usual_mode = ("mode", "remove")  # not said: a draft of single weights has no other one than zeros
    return {name: given[name] for name in APPLIES if name in given and (name, given[name]) != usual_mode}


def usual(action: str) -> dict[str, Any]:
    """The options of an action where the settings were never opened."""
    return dict(options_of_form(action, {field.name: field.value for field in ACTIONS[action]}).given)


def queued(job: Job) -> dict[str, str]:
    """The message that a job waits."""
    return {
        "kind": "info",
        "text": f"{words_of(job)}: job {job.number} is queued.",
        "hint": "Jobs shows how far it is.",
    }


VIEW = View("settings", "Settings", "drawer", layout, register, 10)
