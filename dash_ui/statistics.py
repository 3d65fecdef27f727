"""What the tabs of the statistics have in common on the page: their frame, their step, and what to compare it with.

Each tab has a store ``NAME-focus`` that the browser fills with the selected steps, only while the tab is open and only
when they changed; the tab's callbacks listen to it (`follows`), so that a closed tab computes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import dash_ag_grid
from dash import ClientsideFunction, Dash, Input, Output, State, dcc, html, no_update, set_props
from dash.dependencies import DashDependency
from dash.development.base_component import Component
from dash.exceptions import PreventUpdate

from dash_ui import ids
from dash_ui.desk import Desk
from dash_ui.parts import csv_button, empty, graph, problem
from dash_ui.rows.statistics import Focus, Standing, damaged, focus_of, keep_of, step_options
from dash_ui.state import Selection
from onnxprune.errors import StoreDamaged
from onnxprune.workspace.evaluations import Documents
from onnxprune.workspace.jobs import Jobs
from onnxprune.workspace.paths import Row, to_csv

__all__ = [
    "COUNT",
    "POINTS",
    "SHARE",
    "SIGNED",
    "choice",
    "clicks",
    "column",
    "follows",
    "frame",
    "panel",
    "plot",
    "register",
    "rows_button",
    "saves_rows",
    "table",
    "told",
]

Told = Callable[..., Any]  # (focus, documents, what the inputs hold ...) -> what the outputs show
SHARE, COUNT, POINTS, SIGNED = "statShare", "statCount", "statPoints", "statSigned"


def frame(name: str, tools: Sequence[Component], body: Sequence[Component], *, compares: bool = True) -> html.Div:
    """A tab: what it is compared with and its tools above, and below them its panels or why there are none."""
    compare = [
        html.Label("compared with", htmlFor=f"{name}-other", className="stat-word"),
        dcc.Dropdown(id=f"{name}-other", clearable=False, className="stat-other", placeholder="no other step"),
        dcc.Store(id=f"{name}-other-shown"),
    ]
    return html.Div(
        [
            dcc.Store(id=f"{name}-focus"),
            html.Div(id=f"{name}-state"),
            html.Div(
                [html.Div([*(compare if compares else []), *tools], className="stat-bar"), *body],
                id=f"{name}-body", hidden=True, className="stat-body",
            ),
        ],
        className=f"stat stat-{name}",
    )  # fmt: skip


def panel(
    title: str, children: Sequence[Component], *, tools: Sequence[Component] = (), kind: str = ""
) -> html.Section:
    """A part of a tab with a heading; a double-click, or its button, shows it alone."""
    whole = html.Button(
        "⤢", className="stat-whole ghost", title="Show this panel alone",
        **{"aria-label": f"Show {title} alone", "aria-pressed": "false"},
    )  # fmt: skip
    head = html.Header([html.H3(title), *tools, whole], className="stat-head")
    return html.Section(
        [head, *children], className=f"stat-panel keeps-dblclick {kind}".strip(), **{"aria-label": title}
    )


def plot(name: str, label: str) -> html.Div:
    """A figure whose double-click is left to its panel; its modebar resets the zoom."""
    return graph(name, label=label, config={"doubleClick": False})


def choice(name: str, label: str, options: Mapping[str, str], value: str) -> html.Div:
    """A few options side by side, of which one holds. ``label``: what they choose, for those who cannot see them."""
    found = dcc.RadioItems(
        id=name, options=[{"label": text, "value": key} for key, text in options.items()], value=value, inline=True
    )
    return html.Div(found, className="stat-choice", role="radiogroup", **{"aria-label": label})


def rows_button(name: str, title: str, text: str = "CSV") -> list[Component]:
    """A button that fetches rows as a file, see `saves_rows`; of more rows than a table shows, or of a plot."""
    return [csv_button(f"{name}-csv", title, text), dcc.Download(id=f"{name}-file")]


def column(field: str, title: str, written: str | None = None, **more: Any) -> dict[str, Any]:
    """A column of a table. ``written``: a function of the browser that writes its numbers."""
    found: dict[str, Any] = {"field": field, "headerName": title, **more}
    if written is not None:
        found |= {"type": "rightAligned", "valueFormatter": {"function": f"{written}(params.value)"}}
    if written in (POINTS, SIGNED):
        up, down = ("stat-good", "stat-bad") if written == POINTS else ("stat-bad", "stat-good")
        found["cellClassRules"] = {up: "params.value > 0.0005", down: "params.value < -0.0005"}
    return found


def table(name: str, columns: Sequence[Mapping[str, Any]], *, height: str = "260px", **options: Any) -> Any:
    """A table that sorts and filters; `dash_ui.parts.csv_button` writes it to a file."""
    return dash_ag_grid.AgGrid(
        id=name, columnDefs=list(columns), rowData=[], className="stat-table", style={"height": height},
        defaultColDef={"sortable": True, "resizable": True, "minWidth": 72, "flex": 1},
        dashGridOptions={
            "rowHeight": 26, "headerHeight": 28, "animateRows": False, "suppressCellFocus": False,
            "tooltipShowDelay": 300, "enableCellTextSelection": True, **options,
        },
    )  # fmt: skip


def register(app: Dash, desk: Desk, name: str, *, compares: bool = True) -> None:
    """The callbacks that every tab has."""
    _register_measure(app, desk, name)
    app.clientside_callback(
        ClientsideFunction("statistics", "focus"),
        Output(f"{name}-focus", "data"),
        Input(ids.SELECTION, "data"),
        Input(ids.REVISION, "data"),
        State(f"{name}-focus", "id"),
        State(f"{name}-focus", "data"),
    )
    if not compares:
        return
    app.clientside_callback(
        ClientsideFunction("statistics", "other"),
        Output(ids.SELECTION, "data", allow_duplicate=True),
        Input(f"{name}-other", "value"),
        State(f"{name}-other-shown", "data"),
        State(ids.SELECTION, "data"),
        prevent_initial_call=True,
    )

    @follows(
        app, desk, name,
        [Output(f"{name}-other", "options"), Output(f"{name}-other", "value"), Output(f"{name}-other-shown", "data")],
    )  # fmt: skip
    def offer(focus: Focus, documents: Documents) -> Any:
        return step_options(documents.workspace, focus.step), focus.other, focus.other


def _register_measure(app: Dash, desk: Desk, name: str) -> None:
    @app.callback(
        Output({"measure": name}, "disabled"),
        Input({"measure": name}, "n_clicks"),
        State(ids.SELECTION, "data"),
        prevent_initial_call=True,
    )
    def measure(clicks: int | None, selection: dict[str, Any]) -> bool:
        step = Selection.of(selection).step
        if not clicks or step is None:
            return False
        with desk.workspace() as workspace:
            jobs = Jobs(workspace.database)
            jobs.add("measure", step)
            jobs.start_worker(workspace.folder)
        text = f"Step {step} is being measured."
        set_props(ids.TOAST, {"data": {"kind": "info", "text": text, "hint": "Its statistics appear when it is done."}})
        return True


def follows(
    app: Dash, desk: Desk, name: str, outputs: Sequence[Output], *more: DashDependency
) -> Callable[[Told], Told]:
    """Make a function a callback of a tab: ``f(focus, documents, *more)``, called for each step that the tab shows.

    ``focus``: the step and the one it is compared with; ``documents``: what was measured of the steps, with the
    workspace in it, open while the function runs. ``more``: further Inputs and States. Where the other step's documents
    are damaged it is called without one; where those of the step are, the tab says so in place of its panels, once for
    all of its callbacks.
    """
    single = outputs[0] if len(outputs) == 1 else list(outputs)

    def made(function: Told) -> Told:
        @app.callback(single, Input(f"{name}-focus", "data"), *more, prevent_initial_call=True)
        def answer(stored: dict[str, Any] | None, *values: Any) -> Any:
            if stored is None:
                raise PreventUpdate
            with desk.workspace() as workspace:
                focus, documents = focus_of(workspace, stored), Documents(workspace, keep_of(desk))
                alone = replace(focus, other=None)
                for tried in (focus, alone) if focus.other is not None else (alone,):
                    try:
                        return function(tried, documents, *values)
                    except StoreDamaged as error:
                        why = damaged(workspace, focus, error)
                set_props(f"{name}-state", {"children": told(why, name)})
                set_props(f"{name}-body", {"hidden": True})
                return no_update if len(outputs) == 1 else [no_update] * len(outputs)

        return function

    return made


def saves_rows(
    app: Dash, desk: Desk, name: str, make: Callable[..., tuple[str, Sequence[Row]]], *more: State, part: str = ""
) -> None:
    """A `rows_button` fetches what ``make(focus, documents, *more)`` tells: the name of a file, and its rows.

    ``name``: of the tab; ``part``: of the button, where that is not the tab's own.
    """
    whole = part or name

    @app.callback(
        Output(f"{whole}-file", "data"),
        Input(f"{whole}-csv", "n_clicks"),
        State(f"{name}-focus", "data"),
        *more,
        prevent_initial_call=True,
    )
    def download(clicks: int | None, stored: dict[str, Any] | None, *values: Any) -> Any:
        if not clicks or stored is None:
            raise PreventUpdate
        with desk.workspace() as workspace:
            file, rows = make(focus_of(workspace, stored), Documents(workspace, keep_of(desk)), *values)
        return {"content": to_csv(rows), "filename": file, "type": "text/csv"}


def clicks(app: Dash, *plots: str, what: str = "compare") -> None:
    """A click on a step in one of these plots compares the selected step with it, or selects it (``what="select"``)."""
    app.clientside_callback(
        ClientsideFunction("statistics", what),
        Output(ids.SELECTION, "data", allow_duplicate=True),
        *(Input(plot, "clickData") for plot in plots),
        State(ids.SELECTION, "data"),
        prevent_initial_call=True,
    )


def told(standing: Standing, name: str) -> Component:
    """Why a tab has nothing to show, and what to do about it."""
    shown = problem if standing.kind in ("failed", "damaged") else empty
    parts: list[Component] = [shown(standing.text, standing.hint)]
    if standing.measurable:
        parts.append(html.Button("Measure this step", id={"measure": name}, className="stat-measure primary"))
    if standing.kind in ("numbers", "fidelity"):
        parts.append(html.Button("Open Metrics", className="stat-tab plain", **{"data-view": "metrics"}))
    return html.Div(parts, className="stat-empty")
