"""Path: what the steps of a path lost, won back, cost and saved, on one axis of steps."""

from __future__ import annotations

from typing import Any

from dash import ClientsideFunction, Dash, Input, Output, State, dcc, html, no_update

from dash_ui import ids
from dash_ui.desk import Desk
from dash_ui.figures.cost import cost_figure, moves_figure, sizes_figure
from dash_ui.figures.loss import loss_figure
from dash_ui.figures.recovery import recovery_figure
from dash_ui.figures.steps import label_of
from dash_ui.parts import csv_button
from dash_ui.rows.statistics import keep_of, metric_rows, quality_names
from dash_ui.statistics import choice, frame, panel, plot, register, shown
from dash_ui.theme import theme_of
from dash_ui.views import View
from onnxprune.workspace.paths import epoch_rows, loss_rows, main_metric, path_rows, to_csv

__all__ = ["VIEW"]

NAME = "recovery"
LINES = {"parameters": "parameters", "nonzero": "non-zero", "file_bytes": "bytes", "activation_bytes": "activations"}
CLICKED = ("capability", "cost", "sizes", "moves")


def layout() -> html.Div:
    """Five plots, one below the other."""
    tools = [
        dcc.Dropdown(id=f"{NAME}-metric", clearable=False, className="stat-metric"),
        csv_button(f"{NAME}-csv", "Download the rows of the path as CSV", "Path as CSV"),
        dcc.Download(id=f"{NAME}-file"),
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
    app.clientside_callback(
        ClientsideFunction("statistics", "compare"),
        Output(ids.SELECTION, "data", allow_duplicate=True),
        *(Input(f"{NAME}-{name}", "clickData") for name in CLICKED),
        State(ids.SELECTION, "data"),
        prevent_initial_call=True,
    )

    @app.callback(
        Output(f"{NAME}-body", "hidden"),
        Output(f"{NAME}-metric", "options"),
        Output(f"{NAME}-metric", "value"),
        Input(f"{NAME}-focus", "data"),
        State(f"{NAME}-metric", "value"),
        prevent_initial_call=True,
    )
    def offer(stored: dict[str, Any] | None, chosen: str | None) -> Any:
        if stored is None:
            return (no_update,) * 3
        with desk.workspace() as workspace:
            steps = workspace.steps.path(stored["step"])
            names = quality_names(metric_rows(workspace, stored["step"]))
        value = chosen if chosen in names else main_metric(steps)
        options = [{"label": label_of(name, unit=False), "value": name} for name in names]
        return False, options, no_update if value == chosen else value

    @app.callback(
        Output(f"{NAME}-capability", "figure"),
        Output(f"{NAME}-cost", "figure"),
        Input(f"{NAME}-focus", "data"),
        Input(f"{NAME}-metric", "value"),
        Input(ids.THEME, "data"),
        prevent_initial_call=True,
    )
    def draw_recovery(stored: dict[str, Any] | None, metric: str | None, theme: str) -> Any:
        if stored is None:
            return no_update, no_update
        with desk.workspace() as workspace:
            focus, documents = shown(desk, workspace, stored)
            rows = path_rows(workspace, focus.step.number, metric, documents.keep)
            epochs = epoch_rows(workspace, focus.step.number, metric, documents.keep)
        look = theme_of(theme)
        return recovery_figure(rows, epochs, look, focus.other), cost_figure(rows, look, focus.other)

    @app.callback(
        Output(f"{NAME}-loss", "figure"),
        Input(f"{NAME}-focus", "data"),
        Input(ids.THEME, "data"),
        prevent_initial_call=True,
    )
    def draw_loss(stored: dict[str, Any] | None, theme: str) -> Any:
        if stored is None:
            return no_update
        with desk.workspace() as workspace:
            focus, documents = shown(desk, workspace, stored)
            rows = metric_rows(workspace, focus.step.number)
            losses = loss_rows(workspace, focus.step.number, documents.keep)
        return loss_figure(rows, losses, theme_of(theme), focus.other)

    @app.callback(
        Output(f"{NAME}-sizes", "figure"),
        Output(f"{NAME}-moves", "figure"),
        Input(f"{NAME}-focus", "data"),
        Input(f"{NAME}-line", "value"),
        Input(f"{NAME}-since", "value"),
        Input(ids.THEME, "data"),
        prevent_initial_call=True,
    )
    def draw_sizes(stored: dict[str, Any] | None, line: str, since: str, theme: str) -> Any:
        if stored is None:
            return no_update, no_update
        with desk.workspace() as workspace:
            focus, documents = shown(desk, workspace, stored)
            rows = path_rows(workspace, focus.step.number, None, documents.keep)
        look = theme_of(theme)
        return (
            sizes_figure(rows, look, line, focus.other),
            moves_figure(rows, look, since=since == "root", other=focus.other),
        )

    @app.callback(
        Output(f"{NAME}-file", "data"),
        Input(f"{NAME}-csv", "n_clicks"),
        State(f"{NAME}-focus", "data"),
        State(f"{NAME}-metric", "value"),
        prevent_initial_call=True,
    )
    def download(clicks: int | None, stored: dict[str, Any] | None, metric: str | None) -> Any:
        if not clicks or stored is None:
            return no_update
        with desk.workspace() as workspace:
            text = to_csv(path_rows(workspace, stored["step"], metric, keep_of(desk)))
        return {"content": text, "filename": f"path-to-{stored['step']}.csv", "type": "text/csv"}


VIEW = View(NAME, "Path", "statistics", layout, register_view, 2)
