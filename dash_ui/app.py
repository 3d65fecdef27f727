"""The page: what all views share, and the panels that they stand in."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path
from typing import Any

from dash import Dash, Input, Output, State, dcc, html, no_update, set_props

from dash_ui import ids, views
from dash_ui.desk import Desk
from dash_ui.state import Selection, from_query
from dash_ui.views import AREAS, View
from onnxprune.errors import OnnxPruneError

__all__ = ["all_views", "create"]


def all_views() -> tuple[View, ...]:
    """The ``VIEW`` of every module in `views`, by area and order."""
    names = [found.name for found in pkgutil.iter_modules(views.__path__)]
    modules = [importlib.import_module(f"{views.__name__}.{name}") for name in names]
    found = [module.VIEW for module in modules if hasattr(module, "VIEW")]
    return tuple(sorted(found, key=lambda view: (AREAS.index(view.area), view.order, view.name)))


def create(folder: Path) -> Dash:
    """The app for one folder."""
    desk = Desk(folder)
    with desk.workspace(scan=True):
        pass  # a folder that becomes a workspace does so now, and one that cannot be opened says so here
    app = Dash(
        "onnxprune", title="onnxprune", update_title=None, serve_locally=True, assets_folder=str(_assets()),
        on_error=_told, suppress_callback_exceptions=True,
    )  # fmt: skip
    found = all_views()
    app.layout = lambda: _layout(found)
    for view in found:
        view.register(app, desk)
    _register(app, desk)
    return app


def _assets() -> Path:
    return Path(__file__).parent / "assets"


def _layout(found: tuple[View, ...]) -> html.Div:
    stores = [
        dcc.Location(id=ids.URL, refresh=False),
        dcc.Interval(id=ids.TICK, interval=1000),
        *(
            dcc.Store(id=name)
            for name in (ids.SELECTION, ids.REVISION, ids.DRAFT_CHANGED, ids.TOAST, ids.LIVE, ids.ESTIMATE)
        ),
        dcc.Store(id=ids.THEME, data="light"),
    ]
    areas = [
        html.Section([view.layout() for view in found if view.area == area], className=f"area area-{area}")
        for area in AREAS
    ]
    return html.Div([*stores, *areas], className="page")


def _register(app: Dash, desk: Desk) -> None:
    @app.callback(Output(ids.SELECTION, "data"), Input(ids.URL, "search"), State(ids.SELECTION, "data"))
    def select(search: str | None, now: dict[str, Any] | None) -> Any:
        if now is not None:
            return no_update
        found = from_query(search)
        if found.step is None:
            with desk.workspace() as workspace:
                steps = workspace.steps.all()
            return found.changed(step=steps[0].number if steps else None)
        return found.changed()

    @app.callback(
        Output(ids.REVISION, "data"),
        Output(ids.DRAFT_CHANGED, "data"),
        Input(ids.TICK, "n_intervals"),
        Input(ids.SELECTION, "data"),
        State(ids.REVISION, "data"),
        State(ids.DRAFT_CHANGED, "data"),
    )
    def look(_: int, selection: dict[str, Any] | None, tree: dict[str, str] | None, draft: str | None) -> Any:
        step, now = Selection.of(selection).step, desk.revisions()
        fresh = None if step is None else desk.draft_revision(step)
        return (no_update if now == tree else now), (no_update if fresh == draft else fresh)


def _told(error: Exception) -> None:
    """What goes wrong in a callback, as a message to the person."""
    if not isinstance(error, OnnxPruneError):
        raise error
    set_props(ids.TOAST, {"data": {"kind": "error", "text": error.message, "hint": error.hint}})
