"""The page of a folder without models: why it is empty, and what to do about it."""

from __future__ import annotations

from collections.abc import Sequence

from dash import html

from dash_ui import top
from dash_ui.page import drawer, overlays, stores
from dash_ui.views import View
from onnxprune.workspace.workspace import Workspace

__all__ = ["nothing"]


def nothing(workspace: Workspace, revisions: dict[str, str], drawers: Sequence[View]) -> html.Div:
    """It turns into the page by itself when a model appears in the folder."""
    listed = workspace.files.listed()
    broken = [
        html.Li([html.Code(entry.path), html.Span(top.why_not(workspace, entry))]) for entry in listed if entry.problem
    ]
    parts = [
        html.H1("There is no model in this folder yet"),
        html.P(html.Code(str(workspace.folder)), className="empty-path"),
        html.P(
            [
                *("Put ONNX files into it, or into ", html.Code("models/"), ", and data into ", html.Code("data/")),
                *(": ", html.Code(".npz"), " files with x and y, or folders with one of images for each class"),
                ". Then look again.",
            ]
        ),
        html.P(html.Button("Look again", id="empty-scan", className="primary")),
        html.P(["To try it without a model of your own: ", html.Code("onnxprune ui --demo")], className="hint"),
    ]  # fmt: skip
    if broken:
        parts += [html.H2("What is there cannot be used"), html.Ul(broken, className="broken")]
    return html.Div(
        [
            *stores(revisions),
            top.layout(workspace.folder.name, drawers),
            html.Main(html.Div(parts, className="nothing")),
            *(drawer(view) for view in drawers),
            *overlays(),
        ],
        className="page",
        id="page",
        **{"data-demo": "no", "data-empty": "yes"},
    )
