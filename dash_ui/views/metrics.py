"""Metrics: all that was measured of a step beside another one, and over the path; of every task."""

from __future__ import annotations

from typing import Any

from dash import Dash, Input, Output, State, dcc, html, no_update

from dash_ui import ids
from dash_ui.desk import Desk
from dash_ui.figures.metrics import metrics_figure
from dash_ui.figures.steps import label_of
from dash_ui.parts import csv_button
from dash_ui.rows.metrics import comparison_rows, first_metrics
from dash_ui.rows.statistics import Focus, metric_rows, quality_names, standing
from dash_ui.statistics import clicks, column, follows, frame, panel, plot, register, table, told
from dash_ui.theme import theme_of
from dash_ui.views import View
from onnxprune.workspace.evaluations import Documents

__all__ = ["VIEW"]

NAME = "metrics"


def layout() -> html.Div:
    """A table of the two steps, and a line for each of some metrics."""
    plain = {"type": "rightAligned"}
    columns = [
        column("label", "metric", width=112, flex=None, pinned="left", tooltipField="meaning"),
        column("after", "now", minWidth=76, **plain),
        column("change", "change", minWidth=116, **plain, cellClassRules={
            "stat-good": "params.data.verdict === 'better'", "stat-bad": "params.data.verdict === 'worse'"}),
        column("before", "before", minWidth=84, **plain),
        column("basis", "known by", minWidth=84),
    ]  # fmt: skip
    body = [
        panel("Selected step", [table(f"{NAME}-table", columns, height="280px")], tools=[
            csv_button(f"{NAME}-csv", "Download the metrics as CSV", table=f"{NAME}-table", file=NAME),
        ]),
        panel("Over the path", [
            html.Div(dcc.Dropdown(id=f"{NAME}-chosen", multi=True, className="stat-classes"), className="stat-bar"),
            plot(f"{NAME}-lines", "The chosen metrics over the steps of the path"),
        ], kind="stat-free"),
    ]  # fmt: skip
    return frame(NAME, [], body)


def register_view(app: Dash, desk: Desk) -> None:
    """The table follows the two steps, the lines the path."""
    register(app, desk, NAME)
    clicks(app, f"{NAME}-lines")

    @follows(
        app, desk, NAME,
        [
            Output(f"{NAME}-state", "children"), Output(f"{NAME}-body", "hidden"),
            Output(f"{NAME}-table", "rowData"), Output(f"{NAME}-chosen", "options"), Output(f"{NAME}-chosen", "value"),
        ],
        State(f"{NAME}-chosen", "value"),
    )  # fmt: skip
    def fill(focus: Focus, documents: Documents, chosen: list[str] | None) -> Any:
        steps = documents.workspace.steps
        found = standing(documents.workspace, documents, focus.step)
        other = None if focus.other is None else steps.get(focus.other)
        names = quality_names(metric_rows(documents.workspace, focus.step.number))
        why = told(found, NAME) if found.kind in ("failed", "no data", "none", "original") else None
        kept = [name for name in chosen or () if name in names] or first_metrics(names)
        options = [{"label": label_of(name, unit=False), "value": name} for name in names]
        return why, False, comparison_rows(focus.step, other), options, no_update if kept == chosen else kept

    @follows(
        app, desk, NAME, [Output(f"{NAME}-lines", "figure")],
        Input(f"{NAME}-chosen", "value"),
        Input(ids.THEME, "data"),
    )  # fmt: skip
    def draw(focus: Focus, documents: Documents, chosen: list[str] | None, theme: str) -> Any:
        rows = metric_rows(documents.workspace, focus.step.number)
        return metrics_figure(rows, chosen or (), theme_of(theme), focus.other)


VIEW = View(NAME, "Metrics", "statistics", layout, register_view, 3)
