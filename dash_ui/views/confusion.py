"""Confusion: the matrix of a step, one of its cells over the path, and the pairs of classes that are confused most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dash import ClientsideFunction, Dash, Input, Output, State, dcc, html, no_update
from dash.development.base_component import Component

from dash_ui import ids
from dash_ui.desk import Desk
from dash_ui.figures.confusion import cell_figure, confusion_figure
from dash_ui.parts import csv_button, graph
from dash_ui.rows.confusion import Matrix, class_options, instances_in, matrix_of, pair_rows
from dash_ui.rows.statistics import Focus, standing
from dash_ui.statistics import (
    COUNT,
    SHARE,
    SIGNED,
    choice,
    column,
    frame,
    panel,
    plot,
    register,
    shown,
    table,
    told,
)
from dash_ui.theme import theme_of
from dash_ui.views import View
from onnxprune.workspace.paths import cell_rows

__all__ = ["VIEW"]

NAME = "confusion"
PAIRS = 500  # in the table; all are in the file
INSTANCES = 5000
SHOW = {"share": "% of label", "count": "count", "change": "change"}
ORDER = {"index": "in order", "error": "worst first", "change": "changed most"}


def layout() -> html.Div:
    """The matrix above, and below it what a click on a cell tells, and the table of pairs."""
    tools = [choice(f"{NAME}-show", "What the cells hold", SHOW, "share")]
    filters = html.Div(
        [
            dcc.Dropdown(
                id=f"{NAME}-classes", multi=True, placeholder="all classes", className="stat-classes", options=[]
            ),
            dcc.Dropdown(
                id=f"{NAME}-order", options=[{"label": text, "value": key} for key, text in ORDER.items()],
                value="index", clearable=False, className="stat-order",
            ),
        ],
        className="stat-bar",
    )  # fmt: skip
    pairs = [
        column("label", "label", filter=True),
        column("prediction", "taken for", filter=True, minWidth=88),
        column("count", "count", COUNT),
        column("share", "of label", SHARE),
        column("change", "change", SIGNED, minWidth=76),
    ]
    instances = [
        column("instance", "instance", COUNT),
        column("before", "before"),
        column("after", "now"),
        column("moved", "moved"),
    ]
    body = [
        filters,
        dcc.Store(id=f"{NAME}-shown"),
        dcc.Store(id=f"{NAME}-cell"),
        html.Section(
            [
                html.P(id=f"{NAME}-note", className="stat-note"),
                graph(f"{NAME}-matrix", label="Confusion matrix: rows are labels, columns what they were taken for",
                      config={"doubleClick": "reset"}),
            ],
            className="stat-matrix", **{"aria-label": "Confusion matrix"},
        ),
        html.Div(
            [
                panel("Cell over the path", [
                    html.P(id=f"{NAME}-cell-words", className="stat-note"),
                    plot(f"{NAME}-line", "The chosen cell over the steps of the path"),
                ], kind="stat-short"),
                panel("Instances in the cell", [
                    table(f"{NAME}-instances", instances, height="200px"),
                ], tools=[
                    csv_button(f"{NAME}-instances-csv", "Download the instances as CSV",
                               table=f"{NAME}-instances", file="instances"),
                ]),
            ],
            id=f"{NAME}-detail", hidden=True,
        ),
        panel("Most confused classes", [
            html.P(id=f"{NAME}-pairs-note", className="stat-note"),
            table(f"{NAME}-pairs", pairs),
        ], tools=[
            csv_button(f"{NAME}-pairs-csv", "Download the confused classes as CSV",
                       table=f"{NAME}-pairs", file="confusions"),
        ]),
    ]  # fmt: skip
    return frame(NAME, tools, body)


def register_view(app: Dash, desk: Desk) -> None:
    """Matrix and pairs follow the step, the detail follows the cell that was clicked."""
    register(app, desk, NAME)
    app.clientside_callback(
        ClientsideFunction("statistics", "cell"),
        Output(f"{NAME}-cell", "data"),
        Input(f"{NAME}-matrix", "clickData"),
        State(f"{NAME}-shown", "data"),
        prevent_initial_call=True,
    )

    @app.callback(
        Output(f"{NAME}-state", "children"),
        Output(f"{NAME}-body", "hidden"),
        Output(f"{NAME}-matrix", "figure"),
        Output(f"{NAME}-shown", "data"),
        Output(f"{NAME}-note", "children"),
        Output(f"{NAME}-classes", "options"),
        Input(f"{NAME}-focus", "data"),
        Input(f"{NAME}-show", "value"),
        Input(f"{NAME}-classes", "value"),
        Input(f"{NAME}-order", "value"),
        Input(f"{NAME}-cell", "data"),
        Input(ids.THEME, "data"),
        State(f"{NAME}-classes", "options"),
        prevent_initial_call=True,
    )
    def draw(
        stored: dict[str, Any] | None, show: str, classes: list[int] | None, order: str, cell: list[int] | None,
        theme: str, options: Sequence[Mapping[str, Any]],
    ) -> Any:  # fmt: skip
        if stored is None:
            return (no_update,) * 6
        with desk.workspace() as workspace:
            focus, documents = shown(desk, workspace, stored)
            found = standing(workspace, documents, focus.step)
            head = documents.head(focus.step.number)
            matrix = matrix_of(documents, focus.step.number, focus.other, classes or (), order) if head else None
        if head is None or matrix is None:
            return _nothing(told(found, NAME) if found.kind != "classes" else _too_many(head.notes if head else ()))
        figure = confusion_figure(matrix, theme_of(theme), show, (cell[0], cell[1]) if cell else None)
        offered = no_update if len(options or ()) == len(head.names) else class_options(head.names)
        picture = {"labels": matrix.labels, "indices": matrix.indices.tolist()}
        return None, False, figure, picture, _said(matrix, focus, classes or []), offered

    @app.callback(
        Output(f"{NAME}-pairs", "rowData"),
        Output(f"{NAME}-pairs-note", "children"),
        Input(f"{NAME}-focus", "data"),
        Input(f"{NAME}-classes", "value"),
        prevent_initial_call=True,
    )
    def list_pairs(stored: dict[str, Any] | None, classes: list[int] | None) -> Any:
        if stored is None:
            return no_update, no_update
        with desk.workspace() as workspace:
            focus, documents = shown(desk, workspace, stored)
            rows = pair_rows(documents, focus.step.number, focus.other, classes or ())
        return rows[:PAIRS], f"{PAIRS} of {len(rows):,} pairs" if len(rows) > PAIRS else ""

    @app.callback(
        Output(f"{NAME}-detail", "hidden"),
        Output(f"{NAME}-cell-words", "children"),
        Output(f"{NAME}-line", "figure"),
        Output(f"{NAME}-instances", "rowData"),
        Input(f"{NAME}-focus", "data"),
        Input(f"{NAME}-cell", "data"),
        Input(f"{NAME}-show", "value"),
        Input(ids.THEME, "data"),
        prevent_initial_call=True,
    )
    def detail(stored: dict[str, Any] | None, cell: list[int] | None, show: str, theme: str) -> Any:
        if stored is None or not cell:
            return True, no_update, no_update, no_update
        with desk.workspace() as workspace:
            focus, documents = shown(desk, workspace, stored)
            step, (label, taken) = focus.step.number, cell
            head = documents.head(step)
            if head is None or max(cell) >= len(head.names):
                return True, no_update, no_update, no_update
            names = head.names[label], head.names[taken]
            rows = cell_rows(workspace, step, label, taken, documents.keep)
            instances = instances_in(documents, step, focus.other, label, taken)
        words = (
            f"Label {names[0]}, rightly taken for it" if label == taken else f"Label {names[0]}, taken for {names[1]}"
        )
        if instances is None:
            words += ". Instances are not known one by one."
        figure = cell_figure(rows, theme_of(theme), names, show, focus.other)
        return False, words, figure, (instances or [])[:INSTANCES]


def _said(matrix: Matrix, focus: Focus, classes: Sequence[int]) -> str:
    """What a person should know to read the matrix."""
    words = []
    if len(matrix.indices) < (len(classes) or matrix.of):
        words.append(
            f"{len(matrix.indices)} of {len(classes) or matrix.of:,} classes: those with the largest share of errors, "
            "or of change. Choose others above."
        )
    if matrix.before is None and focus.other is not None:
        words.append(f"#{focus.other} has no matrix of the same classes.")
    return " ".join(words)


def _too_many(notes: Sequence[str]) -> Component:
    hint = next((f"{note[0].upper()}{note[1:]}." for note in notes if "confusion" in note), "")
    return told_no_matrix(hint)


def told_no_matrix(hint: str) -> Component:
    """Where classes are known, but not who was taken for whom."""
    text = "There is no confusion matrix of this step."
    return html.Div([html.P(text), html.P(hint or "A sample may be of several classes at once.", className="hint")],
                    className="empty")  # fmt: skip


def _nothing(children: Component) -> tuple[Any, ...]:
    return children, True, no_update, no_update, no_update, no_update


VIEW = View(NAME, "Confusion", "statistics", layout, register_view, 0)
