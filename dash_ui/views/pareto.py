"""Pareto: any metric against any other over all steps of the tree."""

from __future__ import annotations

from typing import Any

from dash import ClientsideFunction, Dash, Input, Output, State, dcc, html, no_update

from dash_ui import ids
from dash_ui.desk import Desk
from dash_ui.figures.pareto import pareto_figure
from dash_ui.figures.steps import basis_of, label_of
from dash_ui.parts import csv_button
from dash_ui.rows.statistics import quality_names
from dash_ui.statistics import frame, panel, plot, register
from dash_ui.theme import theme_of
from dash_ui.views import View
from onnxprune.evaluate import kind_of
from onnxprune.workspace.paths import COSTS, FIRST, Row, to_csv, tree_rows

__all__ = ["VIEW"]

NAME = "pareto"
HINT = (
    "Line: the front, which no other step beats in both. Ring: the selected step. Square: the baseline. "
    "A click selects a step."
)
OPTIONS = {"relative": "% of original", "log": "log"}


def layout() -> html.Div:
    """Two metrics to choose, and the plot."""
    tools = [
        html.Div(
            [
                html.Label(axis, htmlFor=f"{NAME}-{axis}", className="stat-word"),
                dcc.Dropdown(id=f"{NAME}-{axis}", clearable=False, className="stat-metric"),
                html.Div(
                    dcc.Checklist(
                        id=f"{NAME}-{axis}-scale", value=[], inline=True,
                        options=[{"label": text, "value": key} for key, text in OPTIONS.items()],
                    ),
                    className="stat-choice", role="group", **{"aria-label": f"Scale of {axis}"},
                ),
            ],
            className="stat-axis",
        )
        for axis in ("y", "x")
    ]  # fmt: skip
    save = csv_button(f"{NAME}-csv", "Download all steps of the tree with their metrics as CSV", "Tree as CSV")
    body = [
        panel(
            "All steps of the tree", [plot(f"{NAME}-plot", "Two metrics of every step, with the Pareto front")],
            tools=[save, dcc.Download(id=f"{NAME}-file")], kind="stat-fill",
        ),
        html.P(HINT, className="stat-note"),
    ]  # fmt: skip
    return frame(NAME, tools, body, compares=False)


def register_view(app: Dash, desk: Desk) -> None:
    """The plot follows the tree and the chosen metrics; a click selects a step."""
    register(app, desk, NAME, compares=False)
    app.clientside_callback(
        ClientsideFunction("statistics", "select"),
        Output(ids.SELECTION, "data", allow_duplicate=True),
        Input(f"{NAME}-plot", "clickData"),
        State(ids.SELECTION, "data"),
        prevent_initial_call=True,
    )

    @app.callback(
        Output(f"{NAME}-body", "hidden"),
        Output(f"{NAME}-x", "options"),
        Output(f"{NAME}-x", "value"),
        Output(f"{NAME}-y", "options"),
        Output(f"{NAME}-y", "value"),
        Input(f"{NAME}-focus", "data"),
        State(f"{NAME}-x", "value"),
        State(f"{NAME}-y", "value"),
        prevent_initial_call=True,
    )
    def offer(stored: dict[str, Any] | None, x: str | None, y: str | None) -> Any:
        if stored is None:
            return (no_update,) * 5
        with desk.workspace() as workspace:
            names = axes_of(tree_rows(workspace, stored["step"]))
        options = [{"label": f"{label_of(name, unit=False)} ({basis_of(name)})", "value": name} for name in names]
        first_x, first_y = first_axes(names)
        return (
            False,
            options,
            no_update if x in names else first_x,
            options,
            no_update if y in names else first_y,
        )

    @app.callback(
        Output(f"{NAME}-plot", "figure"),
        Input(f"{NAME}-focus", "data"),
        Input(f"{NAME}-x", "value"),
        Input(f"{NAME}-y", "value"),
        Input(f"{NAME}-x-scale", "value"),
        Input(f"{NAME}-y-scale", "value"),
        Input(ids.THEME, "data"),
        prevent_initial_call=True,
    )
    def draw(
        stored: dict[str, Any] | None, x: str | None, y: str | None, x_scale: list[str], y_scale: list[str], theme: str
    ) -> Any:  # fmt: skip
        if stored is None or x is None or y is None:
            return no_update
        with desk.workspace() as workspace:
            rows = tree_rows(workspace, stored["step"])
        baseline = next((row["step"] for row in rows if row["pinned"]), rows[0]["step"])
        scales = x_scale or (), y_scale or ()
        return pareto_figure(
            rows, x, y, theme_of(theme), selected=stored["step"], baseline=baseline,
            relative=("relative" in scales[0], "relative" in scales[1]), log=("log" in scales[0], "log" in scales[1]),
        )  # fmt: skip

    @app.callback(
        Output(f"{NAME}-file", "data"),
        Input(f"{NAME}-csv", "n_clicks"),
        State(f"{NAME}-focus", "data"),
        prevent_initial_call=True,
    )
    def download(clicks: int | None, stored: dict[str, Any] | None) -> Any:
        if not clicks or stored is None:
            return no_update
        with desk.workspace() as workspace:
            text = to_csv(tree_rows(workspace, stored["step"]))
        return {"content": text, "filename": "tree.csv", "type": "text/csv"}


def axes_of(rows: list[Row]) -> list[str]:
    """The metrics that some step has: how good first, then how large."""
    there = {name for row in rows for name, value in row.items() if value is not None and kind_of(name) is not None}
    quality = [name for name in quality_names(rows) if name in there]
    return quality + sorted(there - set(quality), key=lambda name: COSTS.index(name) if name in COSTS else len(COSTS))


def first_axes(names: list[str]) -> tuple[str | None, str | None]:
    """What is shown before anybody chose: what the task is judged by over the parameters."""
    size = next((name for name in COSTS if name in names), names[0] if names else None)
    good = next((name for name in FIRST if name in names), None)
    return size, good or next((name for name in ("macs", *names) if name in names and name != size), size)


VIEW = View(NAME, "Pareto", "statistics", layout, register_view, 4)
