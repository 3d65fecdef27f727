"""Path: what the steps of a path lost, won back, cost and saved, on one axis of steps."""

from __future__ import annotations

from typing import Any

from dash import Dash, Input, Output, State, dcc, html, no_update

from dash_ui import ids
from dash_ui.desk import Desk
from dash_ui.figures.cost import cost_figure, moves_figure, sizes_figure
from dash_ui.figures.loss import loss_figure
from dash_ui.figures.recovery import recovery_figure
from dash_ui.figures.steps import label_of
from dash_ui.rows.statistics import Focus, metric_rows, quality_names
from dash_ui.statistics import choice, clicks, follows, frame, panel, plot, register, rows_button, saves_rows
from dash_ui.theme import theme_of
from dash_ui.views import View
from onnxprune.workspace.evaluations import Documents
from onnxprune.workspace.paths import Row, epoch_rows, loss_rows, main_metric, path_rows

__all__ = ["VIEW"]

NAME = "recovery"
LINES = {"parameters": "parameters", "nonzero": "non-zero", "file_bytes": "bytes", "activation_bytes": "activations"}
CLICKED = ("capability", "cost", "sizes", "moves")


def layout() -> html.Div:
    """Five plots, one below the other."""
    tools = [
        dcc.Dropdown(id=f"{NAME}-metric", clearable=False, className="stat-metric"),
        *rows_button(NAME, "Download the rows of the path as CSV", "Path as CSV"),
    ]
    body = [
        panel("Recovery capability", [plot(
            f"{NAME}-capability", "Metric of each step, with a stripe for the values that each fine-tuning went through"
        )], kind="stat-tall"),
        panel("Loss fluctuation", [plot(f"{NAME}-loss", "Training loss between the steps")]),
        panel("Recovery cost", [plot(f"{NAME}-cost", "Epochs of each fine-tuning")]),
        panel("Parameters and MACs", [plot(f"{NAME}-sizes", "What each step saved against the original")], tools=[
            choice(f"{NAME}-line", "The line", LINES, "parameters")
        ]),
        panel("Instances", [plot(f"{NAME}-moves", "Instances that became right and wrong")], tools=[
            choice(f"{NAME}-since", "Against", {"step": "step by step", "root": "since the original"}, "step")
        ]),
    ]  # fmt: skip
    return frame(NAME, tools, body)


def register_view(app: Dash, desk: Desk) -> None:
    """All plots follow the path; a click on a step compares with it."""
    register(app, desk, NAME)
    clicks(app, *(f"{NAME}-{name}" for name in CLICKED))
    saves_rows(app, desk, NAME, _file, State(f"{NAME}-metric", "value"))

    @follows(
        app, desk, NAME,
        [
            Output(f"{NAME}-state", "children"), Output(f"{NAME}-body", "hidden"),
            Output(f"{NAME}-metric", "options"), Output(f"{NAME}-metric", "value"),
        ],
        State(f"{NAME}-metric", "value"),
    )  # fmt: skip
    def offer(focus: Focus, documents: Documents, chosen: str | None) -> Any:
        steps = documents.workspace.steps.path(focus.step.number)
        path_rows(documents.workspace, focus.step.number, None, documents.keep)  # raises where any of them is damaged
        names = quality_names(metric_rows(documents.workspace, focus.step.number))
        value = chosen if chosen in names else main_metric(steps)
        options = [{"label": label_of(name, unit=False), "value": name} for name in names]
        return None, False, options, no_update if value == chosen else value

    @follows(
        app, desk, NAME, [Output(f"{NAME}-capability", "figure"), Output(f"{NAME}-cost", "figure")],
        Input(f"{NAME}-metric", "value"),
        Input(ids.THEME, "data"),
    )  # fmt: skip
    def draw_recovery(focus: Focus, documents: Documents, metric: str | None, theme: str) -> Any:
        told = documents.workspace, focus.step.number, metric, documents.keep
        rows, epochs, look = path_rows(*told), epoch_rows(*told), theme_of(theme)
        return recovery_figure(rows, epochs, look, focus.other), cost_figure(rows, look, focus.other)

    @follows(app, desk, NAME, [Output(f"{NAME}-loss", "figure")], Input(ids.THEME, "data"))
    def draw_loss(focus: Focus, documents: Documents, theme: str) -> Any:
        rows = metric_rows(documents.workspace, focus.step.number)
        losses = loss_rows(documents.workspace, focus.step.number, documents.keep)
        return loss_figure(rows, losses, theme_of(theme), focus.other)

    @follows(
        app, desk, NAME, [Output(f"{NAME}-sizes", "figure"), Output(f"{NAME}-moves", "figure")],
        Input(f"{NAME}-line", "value"),
        Input(f"{NAME}-since", "value"),
        Input(ids.THEME, "data"),
    )  # fmt: skip
    def draw_sizes(focus: Focus, documents: Documents, line: str, since: str, theme: str) -> Any:
        rows = path_rows(documents.workspace, focus.step.number, None, documents.keep)
        look = theme_of(theme)
        return (
            sizes_figure(rows, look, line, focus.other),
            moves_figure(rows, look, since=since == "root", other=focus.other),
        )


def _file(focus: Focus, documents: Documents, metric: str | None) -> tuple[str, list[Row]]:
    number = focus.step.number
    return f"path-to-{number}.csv", path_rows(documents.workspace, number, metric, documents.keep)


VIEW = View(NAME, "Path", "statistics", layout, register_view, 2)
