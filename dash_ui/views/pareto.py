"""Pareto: any metric against any other over all steps of the tree."""

from __future__ import annotations

from typing import Any

from dash import Dash, Input, Output, State, dcc, html, no_update

from dash_ui import ids
from dash_ui.desk import Desk
from dash_ui.figures.pareto import pareto_figure
from dash_ui.figures.steps import basis_of, label_of
from dash_ui.rows.statistics import Focus, quality_names
from dash_ui.statistics import clicks, follows, frame, panel, plot, register, rows_button, saves_rows
from dash_ui.theme import theme_of
from dash_ui.views import View
from onnxprune.evaluate import kind_of
from onnxprune.workspace.evaluations import Documents
from onnxprune.workspace.paths import COSTS, FIRST, Row, tree_rows

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
    save = rows_button(NAME, "Download all steps of the tree with their metrics as CSV", "Tree as CSV")
    body = [
        panel(
            "All steps of the tree", [plot(f"{NAME}-plot", "Two metrics of every step, with the Pareto front")],
            tools=save, kind="stat-fill",
        ),
        html.P(HINT, className="stat-note"),
    ]  # fmt: skip
    return frame(NAME, tools, body, compares=False)


def register_view(app: Dash, desk: Desk) -> None:
    """The plot follows the tree and the chosen metrics; a click selects a step."""
    register(app, desk, NAME, compares=False)
    clicks(app, f"{NAME}-plot", what="select")
    saves_rows(app, desk, NAME, lambda focus, documents: ("tree.csv", _rows(focus, documents)))

    @follows(
        app, desk, NAME,
        [
            Output(f"{NAME}-body", "hidden"),
            *(Output(f"{NAME}-{axis}", what) for axis in "xy" for what in ("options", "value")),
        ],
        State(f"{NAME}-x", "value"),
        State(f"{NAME}-y", "value"),
    )  # fmt: skip
    def offer(focus: Focus, documents: Documents, x: str | None, y: str | None) -> Any:
        names = axes_of(_rows(focus, documents))
        options = [{"label": f"{label_of(name, unit=False)} ({basis_of(name)})", "value": name} for name in names]
        first_x, first_y = first_axes(names)
        return False, options, no_update if x in names else first_x, options, no_update if y in names else first_y

    @follows(
        app, desk, NAME, [Output(f"{NAME}-plot", "figure")],
        Input(f"{NAME}-x", "value"),
        Input(f"{NAME}-y", "value"),
        Input(f"{NAME}-x-scale", "value"),
        Input(f"{NAME}-y-scale", "value"),
        Input(ids.THEME, "data"),
    )  # fmt: skip
    def draw(
        focus: Focus, documents: Documents, x: str | None, y: str | None, x_scale: list[str], y_scale: list[str],
        theme: str,
    ) -> Any:  # fmt: skip
        if x is None or y is None:
            return no_update
        rows = _rows(focus, documents)
        baseline = next((row["step"] for row in rows if row["pinned"]), rows[0]["step"])
        scales = x_scale or (), y_scale or ()
        return pareto_figure(
            rows, x, y, theme_of(theme), selected=focus.step.number, baseline=baseline,
            relative=("relative" in scales[0], "relative" in scales[1]), log=("log" in scales[0], "log" in scales[1]),
        )  # fmt: skip


def _rows(focus: Focus, documents: Documents) -> list[Row]:
    return tree_rows(documents.workspace, focus.step.number)


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
