"""The app: the page for a folder, its callbacks, and what happens when one of them fails."""

from __future__ import annotations

import importlib
import logging
import pkgutil
from collections.abc import Sequence
from html import escape
from importlib import resources
from pathlib import Path

from dash import Dash, html, set_props

from dash_ui import ahead, ids, shell, top, views
from dash_ui.desk import Desk
from dash_ui.gate import policy
from dash_ui.nothing import nothing
from dash_ui.page import DRAWER, page
from dash_ui.views import AREAS, View
from onnxprune.errors import OnnxPruneError
from onnxprune.workspace.workspace import Workspace

__all__ = ["DEMO", "LOG", "all_views", "content_policy", "create"]

LOG = logging.getLogger("dash_ui")
DEMO = "digits_cnn.onnx"


def all_views() -> tuple[View, ...]:
    """The ``VIEW`` of every module in `views`, by area and order."""
    names = [found.name for found in pkgutil.iter_modules(views.__path__)]
    modules = [importlib.import_module(f"{views.__name__}.{name}") for name in names]
    found = [module.VIEW for module in modules if hasattr(module, "VIEW")]
    return tuple(sorted(found, key=lambda view: (AREAS.index(view.area), view.order, view.name)))


def create(folder: Path, found: Sequence[View] | None = None, *, looks_ahead: bool = True) -> Dash:
    """The app for one folder. ``found``: its views, `all_views` unless given. Raises WorkspaceError, StoreDamaged.

    ``looks_ahead``: likely plans are measured while nothing else runs, unless the folder's setting says otherwise.
    """
    desk = Desk(folder)
    desk.open()
    app = Dash(
        "onnxprune", title=f"{escape(folder.resolve().name)} · onnxprune", update_title="", serve_locally=True,
        assets_folder=str(resources.files("dash_ui") / "assets"), on_error=_told, suppress_callback_exceptions=True,
        enable_mcp=False,
    )  # fmt: skip
    known = all_views() if found is None else tuple(found)
    app.layout = lambda: _layout(desk, known)
    top.register(app, desk)
    shell.register(app, desk, known)
    if looks_ahead:
        ahead.register(app, desk)
    for view in known:
        view.register(app, desk)
    app.server.config["desk"] = desk
    return app


def content_policy(app: Dash) -> str:
    """What its page may load and run: the one script that Dash puts into it, and what this server sends."""
    return policy(app.csp_hashes())


def _layout(desk: Desk, known: Sequence[View]) -> html.Div:
    """The page as it is now; another one where the folder has no model yet."""
    with desk.workspace() as workspace:
        name, demo = workspace.folder.name, is_demo(workspace)
        if not workspace.steps.all(trashed=True):
            return nothing(workspace, desk.revisions(), [view for view in known if view.area == DRAWER])
    return page(known, name, desk.revisions(), demo=demo)


def is_demo(workspace: Workspace) -> bool:
    """Whether the folder holds the bundled example."""
    return any(Path(entry.path).name == DEMO for entry in workspace.files.listed("model"))


def _told(error: Exception) -> None:
    """What goes wrong in a callback, as a message to the person; what is a fault of ours goes to the log as well."""
    if isinstance(error, OnnxPruneError):
        message = {"kind": "error", "text": error.message, "hint": error.hint}
    else:
        LOG.error("a callback failed", exc_info=error)
        hint = "Nothing was changed. This is a fault of onnxprune; the terminal that runs it shows where."
        message = {"kind": "error", "text": f"Something went wrong: {type(error).__name__}", "hint": hint}
    set_props(ids.TOAST, {"data": message})
