"""Import and export: files of the selected step, its command lines, and files that a person brings."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

from dash import Dash, Input, Output, State, dcc, html, no_update
from dash.development.base_component import Component

from dash_ui import files, ids
from dash_ui.desk import Desk
from dash_ui.parts import empty
from dash_ui.rows.queue import queue
from dash_ui.rows.uploads import fits, receive
from dash_ui.state import Selection
from dash_ui.views import View
from onnxprune.workspace.values import Step
from onnxprune.workspace.workspace import BLOBS, STORE

__all__ = ["VIEW", "commands"]

MEGABYTES = 380  # that fit into a request, whose form takes a third more


def layout() -> html.Div:
    """Downloads, command lines, and a place to drop files on."""
    return html.Div(
        [
            html.Section([html.H3("Take out"), html.Div(id="export-files")]),
            html.Section(
                [
                    html.H3("Do it again on the command line"),
                    html.Div(
                        [
                            html.Pre(id="export-commands", tabIndex=0),
                            dcc.Clipboard(target_id="export-commands", className="ghost copy", title="Copy"),
                        ],
                        className="export-commands",
                    ),
                ]
            ),
            html.Section(
                [
                    html.H3("Bring in"),
                    dcc.Upload(
                        html.Button("Drop a file here, or choose one", className="plain", id="export-choose"),
                        id="export-upload", max_size=MEGABYTES * 1024 * 1024, multiple=False, className="upload",
                        className_active="upload upload-active", className_reject="upload upload-reject",
                    ),
                    html.Div(id="export-limit", hidden=True, **{"data-megabytes": str(MEGABYTES)}),
                    html.P(
                        "A model (.onnx) and data (.npz) go into the folder, a plan (.json) is carried out on the "
                        f"selected step. Up to {MEGABYTES} MB; put larger files into the folder yourself.",
                        className="hint",
                    ),
                ]
            ),
        ],
        className="export",
    )  # fmt: skip


def commands(path: Sequence[Step]) -> str:
    """The command lines from the original to a step."""
    return "\n".join(shlex.join(step.command) for step in path if step.parent is not None) or shlex.join(
        path[0].command
    )


def register(app: Dash, desk: Desk) -> None:
    """Add the callbacks, and the addresses of the downloads."""
    files.register(app, desk)

    @app.callback(
        Output("export-files", "children"),
        Output("export-commands", "children"),
        Input(ids.SELECTION, "data"),
        Input(ids.TREE, "data"),
    )
    def fill(selection: dict[str, Any] | None, _: Any) -> tuple[Component, str]:
        number = Selection.of(selection).step
        if number is None:
            return empty("No step is selected."), ""
        with desk.workspace() as workspace:
            step = workspace.steps.get(number)
            there = files.files_of(workspace, step)
            text = commands(workspace.steps.path(number))
        links = [
            html.Li(
                [html.A(name, href=files.address(number, name), download=""), html.Span(f" {words}", className="quiet")]
            )
            for name, words in there
        ]
        return html.Div([html.P(f"Step {number}, {step.kind} {step.name}"), html.Ul(links)]), text

    @app.callback(
        Output(ids.TOAST, "data", allow_duplicate=True),
        Output("export-upload", "contents"),
        Input("export-upload", "contents"),
        State("export-upload", "filename"),
        State(ids.SELECTION, "data"),
        prevent_initial_call=True,
    )
    def bring(contents: str | None, name: str | None, selection: dict[str, Any] | None) -> Any:
        if contents is None or name is None:
            return no_update, no_update
        now = Selection.of(selection)
        with desk.workspace() as workspace:
            found = receive(workspace, name, contents)
        if found.kind == "plan" and now.step is not None:
            job = queue(desk, "import", now.step, {"plan": f"{STORE}/{BLOBS}/{found.path}"}, data=now.data)
            text = f"{found.name} is carried out on step {now.step}: job {job.number}."
            return {"kind": "info", "text": text, "hint": ""}, None
        with desk.workspace(scan=True) as workspace:  # it becomes an original, or is paired with the models
            if found.kind == "data":
                text, why = fits(workspace, found.path)
            else:
                text, why = f"{found.path} is a model of this workspace now.", ""
        return {"kind": "info" if why else "done", "text": text, "hint": why}, None


VIEW = View("export", "Export", "drawer", layout, register, 40)
