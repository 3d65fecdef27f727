"""Classes: precision-recall curves of two steps, what changed in each class, and the table of all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dash import Dash, Input, Output, State, dcc, html, no_update

from dash_ui import ids
from dash_ui.desk import Desk
from dash_ui.figures.classes import change_figure, curves_figure
from dash_ui.parts import csv_button
from dash_ui.rows.classes import AVERAGES, METRICS, change_rows, curves_of, mean_rows, why_no_curves
from dash_ui.rows.confusion import class_options
from dash_ui.rows.statistics import Focus, standing
from dash_ui.statistics import (
    COUNT,
    POINTS,
    SHARE,
    choice,
    column,
    follows,
    frame,
    panel,
    plot,
    register,
    table,
    told,
)
from dash_ui.theme import theme_of
from dash_ui.views import View
from onnxprune.workspace.evaluations import Documents

__all__ = ["VIEW"]

NAME = "classes"
CURVES = 6  # at once: more cannot be told apart
SHORT = {"precision": "precision", "recall": "recall", "f1": "F1", "average_precision": "AP"}


def layout() -> html.Div:
    """Curves, changes, table."""
    columns = [column("class", "class", pinned="left", width=110, flex=None, filter=True, tooltipField="class")]
    columns.append(column("support", "support", COUNT))
    for metric in METRICS:
        columns += [
            column(metric, SHORT[metric], SHARE, minWidth=78),
            column(f"d_{metric}", f"Δ {SHORT[metric]}", POINTS, minWidth=92),
        ]
    columns += [
        column("degenerated", "became wrong", COUNT, minWidth=110),
        column("improved", "became right", COUNT, minWidth=110),
    ]
    chooser = dcc.Dropdown(
        id=f"{NAME}-curves", multi=True, className="stat-classes", options=[], placeholder="classes of the curves"
    )
    body = [
        panel("Precision and recall", [
            html.Div(chooser, className="stat-bar"),
            html.P(id=f"{NAME}-note", className="stat-note"),
            plot(
                f"{NAME}-pr", "Precision over recall of the chosen classes, in the selected step and in the other one"
            ),
        ], kind="stat-tall"),
        panel(
            "Changed most",
            [plot(f"{NAME}-change", "The classes that changed most, before and after")],
            tools=[choice(f"{NAME}-metric", "Metric of the changes", SHORT, "recall")], kind="stat-rows",
        ),
        panel("All classes", [table(f"{NAME}-table", columns, height="340px")], tools=[
            csv_button(f"{NAME}-csv", "Download the classes as CSV", table=f"{NAME}-table", file=NAME),
        ], kind="stat-wide"),
    ]  # fmt: skip
    return frame(NAME, [], body)


def register_view(app: Dash, desk: Desk) -> None:
    """The table and the changes follow the two steps, the curves also the chosen classes."""
    register(app, desk, NAME)

    @follows(
        app, desk, NAME,
        [
            Output(f"{NAME}-state", "children"), Output(f"{NAME}-body", "hidden"), Output(f"{NAME}-table", "rowData"),
            Output(f"{NAME}-table", "dashGridOptions"), Output(f"{NAME}-curves", "options"),
            Output(f"{NAME}-curves", "value"),
        ],
        State(f"{NAME}-curves", "options"),
        State(f"{NAME}-curves", "value"),
        State(f"{NAME}-table", "dashGridOptions"),
    )  # fmt: skip
    def fill(
        focus: Focus, documents: Documents, options: Sequence[Any], chosen: list[Any] | None, grid: dict[str, Any]
    ) -> Any:
        found = standing(documents.workspace, documents, focus.step)
        head = documents.head(focus.step.number)
        if found.kind != "classes" or head is None:
            return told(found, NAME), True, no_update, no_update, no_update, no_update
        rows = change_rows(documents, focus.step.number, focus.other)
        offered = [{"label": text, "value": key} for key, text in AVERAGES.items()] + class_options(head.names)
        same = options == offered
        return (
            None, False, rows, {**grid, "pinnedTopRowData": mean_rows(rows)}, no_update if same else offered,
            no_update if same and chosen else ["macro"],
        )  # fmt: skip

    @follows(
        app, desk, NAME, [Output(f"{NAME}-pr", "figure"), Output(f"{NAME}-note", "children")],
        Input(f"{NAME}-curves", "value"),
        Input(ids.THEME, "data"),
    )  # fmt: skip
    def draw_curves(focus: Focus, documents: Documents, chosen: list[Any] | None, theme: str) -> Any:
        head = documents.head(focus.step.number)
        if head is None or not chosen:
            return no_update, no_update
        wanted = chosen[:CURVES]
        after = curves_of(documents, focus.step.number, wanted) if head.curves else []
        before = curves_of(documents, focus.other, wanted) if after else []
        why = "" if head.curves else why_no_curves(head)
        words = f"#{focus.step.number}", f"#{focus.other}"
        more = f"The first {CURVES} of {len(chosen):,} chosen classes." if after and len(chosen) > CURVES else ""
        return curves_figure(after, before, theme_of(theme), words, why), more

    @follows(
        app, desk, NAME, [Output(f"{NAME}-change", "figure")],
        Input(f"{NAME}-metric", "value"),
        Input(ids.THEME, "data"),
    )  # fmt: skip
    def draw_changes(focus: Focus, documents: Documents, metric: str, theme: str) -> Any:
        return change_figure(change_rows(documents, focus.step.number, focus.other), theme_of(theme), metric)


VIEW = View(NAME, "Classes", "statistics", layout, register_view, 1)
