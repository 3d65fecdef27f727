"""The tree of steps: see the whole history, select, compare, continue from anywhere, name, pin, delete, bring back."""

from __future__ import annotations

from typing import Any

from dash import ClientsideFunction, Dash, Input, Output, State, ctx, html, no_update, set_props
from dash.development.base_component import Component
from dash.exceptions import PreventUpdate

from dash_ui import ids
from dash_ui.desk import Desk
from dash_ui.figures.tree import draw
from dash_ui.rows.estimator import estimator_points, samples_of
from dash_ui.rows.history import (
    Node,
    Tree,
    Words,
    edge_words,
    label_of,
    put_away,
    shown,
    steps_words,
    tree_of,
    words_of,
)
from dash_ui.state import Selection
from dash_ui.theme import theme_of
from dash_ui.tree_parts import BASE, POINTS, SHOWN, WANTED, WORDS, layout
from dash_ui.views import View

__all__ = ["VIEW", "WANTED"]

CONTINUES = "The next action starts at step {}; what comes of it is a branch of its own where others went on before."


def _register(app: Dash, desk: Desk) -> None:
    _draws(app, desk)
    _tells(app, desk)
    _acts(app, desk)
    _moves(app, desk)
    _clientside(app)


def _draws(app: Dash, desk: Desk) -> None:
    @app.callback(Output(WORDS, "data"), Input(ids.PLACE, "data"), State(WORDS, "data"))
    def words(selection: dict[str, Any] | None, known: dict[str, Any] | None) -> Any:
        """The words for units come from an analysis, which may take a while; the tree is drawn before."""
        found = words_of(desk, Selection.of(selection).step, known or {})
        return no_update if found is None else found

    @app.callback(
        Output(BASE, "data"),
        Output("tree-none", "hidden"),
        Output("tree-metric", "children"),
        Output("tree-keys", "className"),
        Input("tree-missing", "data"),
        Input(ids.TREE, "data"),
        Input(ids.THEME, "data"),
        Input(WORDS, "data"),
        Input("tree-trash-shown", "data"),
        State(ids.SELECTION, "data"),
        State(BASE, "data"),
        prevent_initial_call=True,
    )
    def base(
        _: Any, now: str | None, theme: str | None, words: dict[str, Any] | None, trash: bool | None,
        selection: dict[str, Any] | None, drawn: dict[str, Any] | None,
    ) -> Any:  # fmt: skip
        """The whole tree; another selection within it only moves an outline, and the browser does that."""
        step = Selection.of(selection).step
        if drawn and ctx.triggered_id == ids.TREE and drawn["layout"]["meta"].get("tree") == now:
            raise PreventUpdate  # jobs moved on, the tree did not
        tree = _tree(desk, step, words, trashed=bool(trash))
        if tree is None:
            return None, False, "quality", "tree-plot"
        found = draw(tree, theme_of(theme)).to_plotly_json()
        found["layout"]["meta"]["tree"] = now
        given_up = any(node.edge == "failed" for node in tree.nodes)
        return found, True, tree.metric_label, f"tree-plot{' has-failed' if given_up else ''}"


def _tree(desk: Desk, step: int | None, words: dict[str, Any] | None, *, trashed: bool = True) -> Tree | None:
    with desk.workspace() as workspace:
        return tree_of(
            desk, workspace, step, {key: Words(**value) for key, value in (words or {}).items()}, trashed=trashed
        )


def _tells(app: Dash, desk: Desk) -> None:
    @app.callback(
        Output("tree-facts", "children"),
        Output("tree-name", "value"),
        Output("tree-note", "value"),
        Output(SHOWN, "data"),
        Output("tree-command", "data"),
        Output("tree-delete", "hidden"),
        Output("tree-restore", "hidden"),
        Output("tree-pin", "disabled"),
        Output("tree-selected", "hidden"),
        Input(ids.PLACE, "data"),
        Input(ids.TREE, "data"),
        Input(WORDS, "data"),
    )
    def tell(selection: dict[str, Any] | None, _: Any, words: dict[str, Any] | None) -> Any:
        step = Selection.of(selection).step
        tree = _tree(desk, step, words)
        node = None if tree is None else tree.get(step)
        if tree is None or node is None:
            return [], "", "", None, None, True, True, True, True
        kept = {"step": node.number, "name": node.name, "note": node.note}
        gone, original = node.trashed, node.parent is None
        return (
            _facts(tree, node),
            node.name,
            node.note,
            kept,
            node.command,
            gone or original,
            not gone,
            node.pinned,
            False,
        )

    @app.callback(
        Output(POINTS, "data"),
        Output("tree-estimator-metric", "children"),
        Output("tree-estimator-basis", "children"),
        Input("tree-estimate", "aria-pressed"),
        Input(ids.PLACE, "data"),
        Input(ids.TREE, "data"),
        Input(WORDS, "data"),
    )
    def points(pressed: str, selection: dict[str, Any] | None, _: Any, words: dict[str, Any] | None) -> Any:
        step = Selection.of(selection).step
        tree = _tree(desk, step, words, trashed=False) if pressed == "true" else None
        found = None if tree is None or step is None else estimator_points(tree, step, samples_of(desk, tree))
        if found is None:
            if pressed == "true":
                hint = "It needs the units of a step: select one whose groups are known."
                set_props(
                    ids.TOAST, {"data": {"kind": "info", "text": "There is nothing to estimate here.", "hint": hint}}
                )
            return None, "", ""
        return found, found["metric"], found["basis"]


def _facts(tree: Tree, node: Node) -> list[Component]:
    """The selected step in a few lines."""
    names = [name for name in (tree.metric, "parameters", "macs", "file_bytes") if name and name in node.metrics]
    pairs = [(label_of(name), shown(name, node.metrics[name])) for name in names]
    if node.units is not None:
        of = f" of {tree.root.units:,}" if tree.root.units and node is not tree.root else ""
        pairs.insert(0, (tree.words.noun(), f"{node.units:,}{of}"))
    figures = [html.Span([html.Span(label, className="quiet"), f" {value}"]) for label, value in pairs]
    if node.parent is not None:
        figures.append(html.Span(edge_words(node), className="quiet"))
    marks = {"baseline": node.pinned, "in the trash": node.trashed, "damaged": bool(node.damaged)}
    badges = [html.Span(word, className="badge") for word, there in marks.items() if there]
    return [
        html.Div([html.Strong(node.title), *badges], className="tree-title"),
        html.Div(figures, className="figures"),
        *([html.Div(f"✓ {node.proof}", className="quiet", title=node.proof)] if node.proof else []),
        *([html.Div(node.note, className="tree-note")] if node.note else []),
        *([html.Div(node.damaged, className="problem")] if node.damaged else []),
    ]


def _acts(app: Dash, desk: Desk) -> None:
    @app.callback(
        Output("tree-trash-shown", "data"), Output("tree-trash", "aria-pressed"),
        Input("tree-trash", "n_clicks"), prevent_initial_call=True,
    )  # fmt: skip
    def trash(clicks: int | None) -> Any:
        on = bool((clicks or 0) % 2)
        return on, "true" if on else "false"

    @app.callback(
        Output("tree-own", "hidden"), Output("tree-edit", "aria-pressed"),
        Input("tree-edit", "n_clicks"), prevent_initial_call=True,
    )  # fmt: skip
    def edit(clicks: int | None) -> Any:
        on = bool((clicks or 0) % 2)
        return not on, "true" if on else "false"

    @app.callback(
        Output("tree-estimate", "aria-pressed"), Input("tree-estimate", "n_clicks"), prevent_initial_call=True
    )
    def toggle(clicks: int | None) -> str:
        return "true" if (clicks or 0) % 2 else "false"

    @app.callback(
        Output(SHOWN, "data", allow_duplicate=True),
        [Input(f"tree-{field}", event) for field in ("name", "note") for event in ("n_blur", "n_submit")],
        State("tree-name", "value"),
        State("tree-note", "value"),
        State(SHOWN, "data"),
        prevent_initial_call=True,
    )
    def describe(*given: Any) -> Any:
        """The fields are filled together with ``was``, so that a change is one of the step that is shown."""
        *_, name, note, was = given
        now = {"name": (name or "").strip(), "note": (note or "").strip()}
        if was is None or now == {key: was[key] for key in now}:
            raise PreventUpdate
        with desk.workspace() as workspace:
            workspace.check_writable()
            workspace.steps.describe(was["step"], **now)
        return {**was, **now}

    @app.callback(Input("tree-pin", "n_clicks"), State(SHOWN, "data"), prevent_initial_call=True)
    def pin(clicks: int | None, was: dict[str, Any] | None) -> None:
        if clicks and was:
            with desk.workspace() as workspace:
                workspace.check_writable()
                workspace.steps.pin(was["step"])
            _say("done", f"Step {was['step']} is the baseline now.")

    @app.callback(Input("tree-branch", "n_clicks"), State(SHOWN, "data"), prevent_initial_call=True)
    def branch(clicks: int | None, was: dict[str, Any] | None) -> None:
        if clicks and was:
            _say("info", f"You continue at step {was['step']}.", CONTINUES.format(was["step"]))


def _moves(app: Dash, desk: Desk) -> None:
    @app.callback(
        Output(ids.SELECTION, "data", allow_duplicate=True),
        Output("tree-undo-step", "data"),
        Output("tree-undo-words", "children"),
        Output("tree-undo-bar", "hidden"),
        Input("tree-delete", "n_clicks"),
        Input("tree-restore", "n_clicks"),
        Input("tree-undo", "n_clicks"),
        State(SHOWN, "data"),
        State("tree-undo-step", "data"),
        State(ids.SELECTION, "data"),
        prevent_initial_call=True,
    )
    def move(
        deleted: int | None, restored: int | None, undone: int | None,
        was: dict[str, Any] | None, undo: int | None, selection: dict[str, Any] | None,
    ) -> Any:  # fmt: skip
        if not (deleted or restored or undone):
            raise PreventUpdate
        if ctx.triggered_id == "tree-delete" and was:
            parent, words = put_away(desk, was["step"])
            return Selection.of(selection).changed(step=parent), was["step"], words, False
        step = undo if ctx.triggered_id == "tree-undo" else (was or {}).get("step")
        if step is None:
            raise PreventUpdate
        with desk.workspace() as workspace:
            workspace.check_writable()
            back = workspace.steps.restore(step)
        _say("done", f"{steps_words(back)} {'is' if len(back) == 1 else 'are'} back.")
        return Selection.of(selection).changed(step=step), None, "", True


def _say(kind: str, text: str, hint: str = "") -> None:
    set_props(ids.TOAST, {"data": {"kind": kind, "text": text, "hint": hint}})


def _clientside(app: Dash) -> None:
    app.clientside_callback(
        ClientsideFunction("tree", "missing"), Output("tree-missing", "data"),
        Input(ids.PLACE, "data"), State(BASE, "data"),
    )  # fmt: skip
    app.clientside_callback(
        ClientsideFunction("tree", "draw"),
        Output("tree-graph", "figure"),
        Input(BASE, "data"),
        Input(ids.PLACE, "data"),
        Input("tree-graph", "relayoutData"),
        Input("tree-room", "data"),
        Input("tree-filter", "value"),
        Input("tree-fit", "n_clicks"),
    )
    app.clientside_callback(
        ClientsideFunction("tree", "estimator"), Output("tree-estimator-knob", "title"), Input(POINTS, "data")
    )
    app.clientside_callback(
        ClientsideFunction("tree", "wanted"), Output(WANTED, "data"),
        Input("tree-estimator-go", "n_clicks"), prevent_initial_call=True,
    )  # fmt: skip
    app.clientside_callback(
        ClientsideFunction("tree", "copy"), Output("tree-copy", "data-done"),
        Input("tree-copy", "n_clicks"), State("tree-command", "data"), prevent_initial_call=True,
    )  # fmt: skip
    app.clientside_callback(
        ClientsideFunction("tree", "compare"), Output(ids.SELECTION, "data", allow_duplicate=True),
        Input("tree-compare", "n_clicks"), State(ids.SELECTION, "data"), prevent_initial_call=True,
    )  # fmt: skip


VIEW = View("tree", "Tree", "history", layout, _register, order=0)
