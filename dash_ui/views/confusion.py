"""Confusion: the matrix of a step, one of its cells over the path, and the pairs of classes that are confused most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dash import ClientsideFunction, Dash, Input, Output, State, dcc, html, no_update
from dash.development.base_component import Component

from dash_ui import ids
from dash_ui.desk import Desk
from dash_ui.figures.confusion import cell_figure, confusion_figure
from dash_ui.parts import csv_button, empty, graph
from dash_ui.rows.confusion import Matrix, class_options, instances_in, matrix_of, pair_rows
from dash_ui.rows.statistics import Focus, standing
from dash_ui.statistics import (
    COUNT,
    SHARE,
    SIGNED,
    choice,
    column,
    follows,
    frame,
    panel,
    plot,
    register,
    rows_button,
    saves_rows,
    table,
    told,
)
from dash_ui.theme import theme_of
from dash_ui.views import View
from onnxprune.workspace.evaluations import Documents
from onnxprune.workspace.paths import Row, cell_rows

__all__ = ["VIEW"]

NAME = "confusion"
PAIRS = 500  # in the table; all are in the file
ONE = {"mode": "singleRow", "checkboxes": False, "enableClickSelection": True}
INSTANCES = 5000
SHOW = {"share": "% of label", "count": "count", "change": "change"}
ORDER = {"index": "in order", "error": "worst first", "change": "changed most"}


def layout() -> html.Div:
    """The matrix above, and below it what a click on a cell, or on a pair of the table at the bottom, tells."""
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
        column("label", "label", filter=True, minWidth=56, tooltipField="label"),
        column("prediction", "taken for", filter=True, minWidth=84, tooltipField="prediction"),
        column("count", "count", COUNT, minWidth=52, flex=0.4),
        column("share", "of label", SHARE, minWidth=64, flex=0.4),
        column("change", "change", SIGNED, minWidth=64, flex=0.4),
    ]
    instances = [
        column("instance", "instance", COUNT),
        column("before", "before", tooltipField="before"),
        column("after", "now", tooltipField="after"),
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
            table(f"{NAME}-pairs", pairs, rowSelection=ONE),
        ], tools=rows_button(f"{NAME}-pairs", "Download all confused classes as CSV")),
    ]  # fmt: skip
    return frame(NAME, tools, body)


def register_view(app: Dash, desk: Desk) -> None:
    """Matrix and pairs follow the step, the detail follows the cell or the pair that was clicked."""
    register(app, desk, NAME)
    saves_rows(app, desk, NAME, _file, State(f"{NAME}-classes", "value"), part=f"{NAME}-pairs")
    app.clientside_callback(
        ClientsideFunction("statistics", "cell"),
        Output(f"{NAME}-cell", "data"),
        Input(f"{NAME}-matrix", "clickData"),
        Input(f"{NAME}-pairs", "selectedRows"),
        State(f"{NAME}-shown", "data"),
        prevent_initial_call=True,
    )
    app.clientside_callback(
        ClientsideFunction("statistics", "come"),
        Input(f"{NAME}-line", "figure"),
        State(f"{NAME}-detail", "id"),
        prevent_initial_call=True,
    )

    @follows(
        app, desk, NAME,
        [
            Output(f"{NAME}-state", "children"), Output(f"{NAME}-body", "hidden"), Output(f"{NAME}-matrix", "figure"),
            Output(f"{NAME}-shown", "data"), Output(f"{NAME}-note", "children"), Output(f"{NAME}-classes", "options"),
        ],
        Input(f"{NAME}-show", "value"),
        Input(f"{NAME}-classes", "value"),
        Input(f"{NAME}-order", "value"),
        Input(f"{NAME}-cell", "data"),
        Input(ids.THEME, "data"),
        State(f"{NAME}-classes", "options"),
    )  # fmt: skip
    def draw(
        focus: Focus, documents: Documents, show: str, classes: list[int] | None, order: str, cell: list[int] | None,
        theme: str, options: Sequence[Mapping[str, Any]],
    ) -> Any:  # fmt: skip
        found = standing(documents.workspace, documents, focus.step)
        head = documents.head(focus.step.number)
        matrix = matrix_of(documents, focus.step.number, focus.other, classes or (), order) if head else None
        if head is None or matrix is None:
            why = told(found, NAME) if found.kind != "classes" else _no_matrix(head.notes if head else ())
            return why, True, no_update, no_update, no_update, no_update
        figure = confusion_figure(matrix, theme_of(theme), show, (cell[0], cell[1]) if cell else None)
        offered = class_options(head.names)
        picture = {"labels": matrix.labels, "indices": matrix.indices.tolist()}
        words = _said(matrix, focus, classes or [], order)
        return None, False, figure, picture, words, no_update if options == offered else offered

    @follows(
        app, desk, NAME, [Output(f"{NAME}-pairs", "rowData"), Output(f"{NAME}-pairs-note", "children")],
        Input(f"{NAME}-classes", "value"),
    )  # fmt: skip
    def list_pairs(focus: Focus, documents: Documents, classes: list[int] | None) -> Any:
        rows = pair_rows(documents, focus.step.number, focus.other, classes or ())
        more = f"The first {PAIRS} of {len(rows):,} pairs; the file has all. Choose classes above to see theirs."
        return rows[:PAIRS], more if len(rows) > PAIRS else ""

    @follows(
        app, desk, NAME,
        [
            Output(f"{NAME}-detail", "hidden"), Output(f"{NAME}-cell-words", "children"),
            Output(f"{NAME}-line", "figure"), Output(f"{NAME}-instances", "rowData"),
        ],
        Input(f"{NAME}-cell", "data"),
        Input(f"{NAME}-show", "value"),
        Input(ids.THEME, "data"),
    )  # fmt: skip
    def detail(focus: Focus, documents: Documents, cell: list[int] | None, show: str, theme: str) -> Any:
        step = focus.step.number
        head = documents.head(step)
        if not cell or head is None or max(cell) >= len(head.names):
            return True, no_update, no_update, no_update
        label, taken = cell
        names = head.names[label], head.names[taken]
        rows = cell_rows(documents.workspace, step, label, taken, documents.keep)
        instances = instances_in(documents, step, focus.other, label, taken)
        words = (
            f"Label {names[0]}, rightly taken for it" if label == taken else f"Label {names[0]}, taken for {names[1]}"
        )
        if instances is None:
            words += ". Instances are not known one by one."
        figure = cell_figure(rows, theme_of(theme), names, show, focus.other)
        return False, words, figure, (instances or [])[:INSTANCES]


def _file(focus: Focus, documents: Documents, classes: list[int] | None) -> tuple[str, list[Row]]:
    """All pairs, under the names that the table has for them."""
    rows = pair_rows(documents, focus.step.number, focus.other, classes or ())
    names = {"label": "label", "prediction": "taken for", "count": "count", "share": "share of label",
             "before": "count before", "change": "change"}  # fmt: skip
    return f"confusions-of-{focus.step.number}.csv", [
        {word: row[name] for name, word in names.items() if name in row} for row in rows
    ]


def _said(matrix: Matrix, focus: Focus, classes: Sequence[int], order: str) -> str:
    """What a person should know to read the matrix."""
    words = []
    if len(matrix.indices) < (len(classes) or matrix.of):
        which = "that changed most" if order == "change" and matrix.before is not None else "of the most confused pairs"
        words.append(
            f"{len(matrix.indices)} of {len(classes) or matrix.of:,} classes: those {which}. Choose others above."
        )
    if matrix.before is None and focus.other is not None:
        words.append(f"#{focus.other} has no matrix of the same classes.")
    return " ".join(words)


def _no_matrix(notes: Sequence[str]) -> Component:
    """Where classes are known, but not who was taken for whom."""
    hint = next((f"{note[0].upper()}{note[1:]}." for note in notes if "confusion" in note), "")
    return empty("There is no confusion matrix of this step.", hint or "A sample may be of several classes at once.")


VIEW = View(NAME, "Confusion", "statistics", layout, register_view, 0)
