"""Callbacks of the shell: what is selected, which tabs are open, the next group, and what changed meanwhile."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from dash import ClientsideFunction, Dash, Input, Output, State, no_update, set_props
from flask import jsonify, request
from flask.wrappers import Response

from dash_ui import ids
from dash_ui.desk import Desk
from dash_ui.page import DRAWER, FOLDS, MODEL, slot
from dash_ui.state import LARGEST, Selection, from_query, opened
from dash_ui.views import View
from onnxprune.errors import StepNotFound
from onnxprune.workspace.workspace import Workspace

__all__ = ["NOW", "first_step", "next_group", "open_in", "register"]

NOW = "/_now"  # where the page asks once a second what changed


def register(app: Dash, desk: Desk, known: Sequence[View]) -> None:
    """Add the callbacks."""
    _register_now(app, desk)
    _register_selection(app, desk)
    _register_tabs(app, known)
    for name in ("address", "toast"):
        source = ids.SELECTION if name == "address" else ids.TOAST
        app.clientside_callback(
            ClientsideFunction("shell", name), Input(source, "data"), prevent_initial_call=name == "toast"
        )
    app.clientside_callback(
        ClientsideFunction("watch", "begin"), Input(ids.REVISION, "data"), Input(ids.DRAFT_CHANGED, "data")
    )


def first_step(workspace: Workspace) -> int | None:
    """The step that is shown where none was asked for: the first original."""
    found = workspace.steps.all() or workspace.steps.all(trashed=True)
    return found[0].number if found else None


def next_group(names: Sequence[str], now: str | None, by: int) -> str | None:
    """The group ``by`` places after the selected one, and round."""
    if not names:
        return None
    if now not in names:
        return names[0 if by > 0 else -1]
    return names[(names.index(now) + by) % len(names)]


def _register_now(app: Dash, desk: Desk) -> None:
    born = uuid.uuid4().hex

    def now() -> Response:
        text = request.args.get("step", "")
        step = int(text) if text.isascii() and text.isdecimal() and int(text[:12]) < LARGEST else None
        revisions, draft = desk.now(step)
        found = jsonify({"revision": revisions, "draft": draft, "server": born})
        found.headers["Cache-Control"] = "no-store"
        return found

    app.server.add_url_rule(NOW, "now", now)


def _register_selection(app: Dash, desk: Desk) -> None:
    @app.callback(Output(ids.SELECTION, "data"), Input(ids.URL, "search"))
    def select(search: str | None) -> Any:
        """Once in the beginning, and when a person goes back or forward."""
        found = from_query(search)
        with desk.workspace() as workspace:
            try:
                if found.step is not None:
                    workspace.steps.get(found.step)
                    return found.changed()
            except StepNotFound as error:
                set_props(ids.TOAST, {"data": {"kind": "error", "text": error.message, "hint": "Here is the first."}})
                found = Selection(tab=found.tab)
            return found.changed(step=first_step(workspace))

    @app.callback(Output(ids.DRAFT_CHANGED, "data"), Input(ids.PLACE, "data"), State(ids.DRAFT_CHANGED, "data"))
    def draft(selection: dict[str, Any] | None, before: str | None) -> Any:
        step = Selection.of(selection).step
        fresh = None if step is None else desk.draft_revision(step)
        return no_update if fresh == before else fresh

    @app.callback(
        Output(ids.SELECTION, "data", allow_duplicate=True),
        Input("shell-walk", "data"),
        State(ids.SELECTION, "data"),
        prevent_initial_call=True,
    )
    def walk(wanted: dict[str, int] | None, selection: dict[str, Any] | None) -> Any:
        now = Selection.of(selection)
        if wanted is None or now.step is None:
            return no_update
        with desk.workspace() as workspace:
            _, coupling = desk.analysis(workspace, workspace.steps.get(now.step))
        group = next_group([group.name for group in coupling.groups], now.group, wanted["by"])
        return no_update if group is None else now.changed(group=group)


def _register_tabs(app: Dash, known: Sequence[View]) -> None:
    """Which views are seen is the browser's business; one that was not seen before is made here."""
    first = {view.area: view.name for view in reversed(known) if view.area not in (DRAWER, FOLDS)}
    late = [view for view in known if view.area != MODEL and first.get(view.area) != view.name]
    app.clientside_callback(
        ClientsideFunction("shell", "tabs"),
        Output("shell-opened", "data"),
        Output(ids.PLACE, "data"),
        Input(ids.SELECTION, "data"),
        State("shell-opened", "data"),
    )
    if not late:
        return

    @app.callback(
        [Output(slot(view.name), "children") for view in late],
        Input("shell-opened", "data"),
        [State(slot(view.name), "children") for view in late],
        prevent_initial_call=True,
    )
    def fill(wanted: list[str], *there: Any) -> Any:
        return [
            view.layout() if view.name in wanted and children is None else no_update
            for view, children in zip(late, there, strict=True)
        ]


def open_in(selection: Selection, area: str, view: str | None) -> str | None:
    """The word ``tab`` of a selection after a tab of an area was opened; ``view`` None closes a drawer."""
    words = {name: value for name, value in opened(selection.tab).items() if name != area}
    if view is not None:
        words[area] = view
    return " ".join(f"{name}:{value}" for name, value in words.items()) or None
