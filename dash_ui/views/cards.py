"""The history as cards, one below the other: a drawing of what is left, the figures of a step and how they changed."""

from __future__ import annotations

from typing import Any

from dash import ClientsideFunction, Dash, Input, Output, State, ctx, dcc, html
from dash.development.base_component import Component
from dash.exceptions import PreventUpdate

from dash_ui import ids
from dash_ui.desk import Desk
from dash_ui.parts import csv_button, empty
from dash_ui.rows.cards import card_rows
from dash_ui.rows.history import Words, put_away, tree_of, words_of
from dash_ui.state import Selection
from dash_ui.views import View
from onnxprune.workspace.paths import to_csv, tree_rows

__all__ = ["VIEW"]

ROWS, WORDS, DELETE, CHOOSE, GONE = (f"cards-{name}" for name in ("rows", "words", "delete", "choose", "gone"))


def _layout() -> Component:
    buttons = (
        ("columns", "Columns", "Show the cards in columns, to compare them"),
        ("fold", "Fold all", "Make all cards small"),
        ("unfold", "Unfold all", "Make all cards large, and show the hidden ones"),
    )
    return html.Div(
        [
            *(dcc.Store(id=name) for name in (ROWS, WORDS, DELETE, CHOOSE, GONE)),
            html.Div(
                [
                    *(
                        html.Button(text, className="ghost", title=title, **{"data-cards": name})
                        for name, text, title in buttons
                    ),
                    csv_button("cards-csv", "Download the figures of all steps as CSV"),
                    dcc.Download(id="cards-file"),
                    html.Span(id="cards-hidden", className="quiet", role="status"),
                ],
                className="cards-tools",
            ),
            html.Div(
                empty("There are no steps yet.", "Put an ONNX model into the folder of this workspace."),
                id="cards-none", hidden=True,
            ),
            html.Div(
                [html.Span(id="cards-undo-words"), html.Button("Undo", id="cards-undo", className="plain")],
                id="cards-undo-bar", className="tree-undo", hidden=True, role="status",
            ),
            html.Div(id="cards-list", className="cards-list", role="list", **{"aria-label": "From the original on"}),
        ],
        className="cards", id="cards",
    )  # fmt: skip


def _register(app: Dash, desk: Desk) -> None:
    @app.callback(Output(WORDS, "data"), Input(ids.PLACE, "data"), State(WORDS, "data"))
    def words(selection: dict[str, Any] | None, known: dict[str, Any] | None) -> Any:
        found = words_of(desk, Selection.of(selection).step, known or {})
        if found is None:
            raise PreventUpdate
        return found

    @app.callback(
        Output(ROWS, "data"),
        Output("cards-none", "hidden"),
        Input(ids.PLACE, "data"),
        Input(ids.REVISION, "data"),
        Input(WORDS, "data"),
        State(ROWS, "data"),
    )
    def rows(
        selection: dict[str, Any] | None, _: Any, words: dict[str, Any] | None, drawn: dict[str, Any] | None
    ) -> Any:
        chosen = Selection.of(selection)
        known = {key: Words(**value) for key, value in (words or {}).items()}
        with desk.workspace() as workspace:
            tree = tree_of(desk, workspace, chosen.step, known, trashed=True)
        if tree is None:
            return {"folder": str(desk.folder), "cards": []}, False
        found = {"folder": str(desk.folder), "cards": card_rows(tree, chosen.step, chosen.other)}
        if found == drawn:
            raise PreventUpdate
        return found, True

    @app.callback(
        Output(ids.SELECTION, "data", allow_duplicate=True),
        Output(GONE, "data"),
        Output("cards-undo-words", "children"),
        Output("cards-undo-bar", "hidden"),
        Input(DELETE, "data"),
        Input("cards-undo", "n_clicks"),
        State(GONE, "data"),
        State(ids.SELECTION, "data"),
        prevent_initial_call=True,
    )
    def move(
        asked: dict[str, int] | None, undone: int | None, gone: int | None, selection: dict[str, Any] | None
    ) -> Any:
        chosen = Selection.of(selection)
        if ctx.triggered_id == DELETE and asked:
            parent, words = put_away(desk, asked["step"])
            return chosen.changed(step=parent), asked["step"], words, False
        if not undone or gone is None:
            raise PreventUpdate
        with desk.workspace() as workspace:
            workspace.check_writable()
            workspace.steps.restore(gone)
        return chosen.changed(step=gone), None, "", True

    @app.callback(
        Output("cards-file", "data"),
        Input("cards-csv", "n_clicks"),
        State(ids.SELECTION, "data"),
        prevent_initial_call=True,
    )
    def save(clicks: int | None, selection: dict[str, Any] | None) -> Any:
        step = Selection.of(selection).step
        if not clicks or step is None:
            raise PreventUpdate
        with desk.workspace() as workspace:
            text = to_csv(tree_rows(workspace, step))
        return {"content": text, "filename": "tree.csv", "type": "text/csv"}

    app.clientside_callback(
        ClientsideFunction("cards", "show"), Output("cards-list", "data-shown"), Input(ROWS, "data")
    )
    app.clientside_callback(
        ClientsideFunction("cards", "choose"), Output(ids.SELECTION, "data", allow_duplicate=True),
        Input(CHOOSE, "data"), State(ids.SELECTION, "data"), prevent_initial_call=True,
    )  # fmt: skip


VIEW = View("cards", "Cards", "history", _layout, _register, order=1)
