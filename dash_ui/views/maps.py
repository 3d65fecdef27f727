"""Feature maps: what the units of a group make of an instance, before and after a step (V14), marked by a click (V15).

The server tells which maps there are and what comes out of the models; the browser draws them (``assets/maps.js``): all
pictures are parts of one image, however many units there are.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

import numpy as np
from dash import ClientsideFunction, Dash, Input, Output, State, ctx, no_update, set_props

from dash_ui import ids
from dash_ui.desk import Desk
from dash_ui.maps_parts import NAME, effect_table, group_words, layout, nothing, portrait_of
from dash_ui.parts import problem
from dash_ui.rows.draft import draft_of
from dash_ui.rows.effects import draft_effect, outcome_of
from dash_ui.rows.instances import Chosen, Source, effect_of, mean_rows, move, portrait, source_for, wrong_rows
from dash_ui.rows.maps import browser_maps, sides, view_of
from dash_ui.rows.statistics import focus_of, keep_of
from dash_ui.theme import theme_of
from dash_ui.views import View
from onnxprune.errors import OnnxPruneError, OptionError
from onnxprune.explain import default_layer
from onnxprune.workspace.drafting import DraftState
from onnxprune.workspace.evaluations import Documents
from onnxprune.workspace.values import Step
from onnxprune.workspace.workspace import Workspace

__all__ = ["VIEW"]

Stored = Mapping[str, Any]
NO_WRONG = "Which instances this step gets wrong is not known: measure it on these data first"
WRONG = "The next instance that this step gets wrong"


def register(app: Dash, desk: Desk) -> None:
    """Add the callbacks."""
    app.clientside_callback(
        ClientsideFunction(NAME, "focus"),
        Output(f"{NAME}-focus", "data"),
        Input(ids.SELECTION, "data"),
        State(f"{NAME}-focus", "data"),
    )
    app.clientside_callback(
        ClientsideFunction(NAME, "paint"),
        Output(f"{NAME}-units", "title"),
        Input(f"{NAME}-shown", "data"),
        Input(f"{NAME}-draft", "data"),
        Input(f"{NAME}-sort", "value"),
    )
    _register_choice(app, desk)
    _register_draw(app, desk)
    _register_draft(app, desk)


def _register_choice(app: Dash, desk: Desk) -> None:
    @app.callback(
        Output(f"{NAME}-ask", "data"),
        Output(f"{NAME}-row", "value"),
        Output(f"{NAME}-of", "children"),
        Output(f"{NAME}-class", "options"),
        Output(f"{NAME}-wrong", "disabled"),
        Output(f"{NAME}-wrong", "title"),
        Output(f"{NAME}-walk", "hidden"),
        Input(f"{NAME}-focus", "data"),
        Input(f"{NAME}-previous", "n_clicks"),
        Input(f"{NAME}-next", "n_clicks"),
        Input(f"{NAME}-random", "n_clicks"),
        Input(f"{NAME}-wrong", "n_clicks"),
        Input(f"{NAME}-row", "value"),
        Input(f"{NAME}-class", "value"),
        Input(f"{NAME}-mode", "value"),
        State(f"{NAME}-ask", "data"),
        State(f"{NAME}-class", "options"),
        prevent_initial_call=True,
    )
    def choose(
        focus: Stored | None, _p: Any, _n: Any, _r: Any, _w: Any, row: int | None, cls: int | None, mode: str,
        asked: Stored | None, options: Any,
    ) -> Any:  # fmt: skip
        if focus is None:
            return [no_update] * 7
        with desk.workspace() as workspace:
            try:
                source = source_for(desk, workspace, focus["step"], focus["data"])
            except OnnxPruneError:  # `draw` tells
                source = None
            if source is None:
                return None, no_update, "", [], True, NO_WRONG, mode == "mean"
            wrong = wrong_rows(Documents(workspace, keep_of(desk)), focus["step"], source)
        cls = cls if cls in source.classes else None
        found = _chosen(source, ctx.triggered_id, int((asked or {}).get("row", 0)), row, cls, wrong)
        ask = {"row": found, "cls": cls, "mode": mode, "path": source.path}
        offered = [{"label": f"class {source.name(c)}", "value": c} for c in source.classes]
        return (
            no_update if ask == asked else ask, found, f"of {len(source):,}",
            no_update if offered == options else offered,
            wrong is None, NO_WRONG if wrong is None else WRONG, mode == "mean",
        )  # fmt: skip


def _chosen(source: Source, trigger: Any, now: int, typed: int | None, cls: int | None, wrong: Any) -> int:
    """Number of the instance after what was clicked or typed."""
    among = None if cls is None or source.labels is None else np.flatnonzero(source.labels == cls)
    action = str(trigger or "").removeprefix(f"{NAME}-")
    total = len(source)
    if action == "wrong" and wrong is not None:
        left = wrong if among is None else np.intersect1d(wrong, among)
        if not left.size:
            text = "This step gets none of these instances wrong."
            set_props(ids.TOAST, {"data": {"kind": "info", "text": text, "hint": ""}})
            return now
        return move(now, "next", total, left)
    if action == "row":
        return move(min(max(int(typed or 0), 0), total - 1), "stay", total, among)
    if action in ("previous", "next", "random"):
        return move(now, action, total, among, secrets.randbits(32))
    return move(min(now, total - 1), "stay", total, among)


def _register_draw(app: Dash, desk: Desk) -> None:
    @app.callback(
        Output(f"{NAME}-shown", "data"),
        Output(f"{NAME}-key", "data"),
        Output(f"{NAME}-state", "children"),
        Output(f"{NAME}-body", "hidden"),
        Output(f"{NAME}-instance", "children"),
        Output(f"{NAME}-words", "children"),
        Input(f"{NAME}-focus", "data"),
        Input(f"{NAME}-ask", "data"),
        Input(f"{NAME}-scale", "value"),
        Input(ids.THEME, "data"),
        running=[(Output(f"{NAME}-busy", "hidden"), False, True)],
        prevent_initial_call=True,
    )
    def draw(focus: Stored | None, ask: Stored | None, scale: str, theme: str | None) -> Any:
        if focus is None:
            return [no_update] * 6
        with desk.workspace() as workspace:
            return _drawn(desk, workspace, focus, ask, scale, theme)


def _drawn(
    desk: Desk, workspace: Workspace, focus: Stored, ask: Stored | None, scale: str, theme: str | None
) -> tuple[Any, ...]:
    """What `draw` answers. What cannot be put through the model is told in place of the maps."""
    step = workspace.steps.get(focus["step"])
    try:
        source = source_for(desk, workspace, step.number, focus["data"])
        view = view_of(desk, workspace, step)
        if source is None or not view.coupling.groups:
            return _instead(nothing(source))
        if ask is None:
            return _instead(None)
        group, guessed = focus["group"], False
        if group not in view.coupling.by_name:
            group, guessed = default_layer(view).group, True
        if group is None:
            raise OptionError("no group of this model has activations to show", "Look at its masks instead.")
        chosen = _instances(source, ask, step.metrics.get("macs"))
        other = focus_of(workspace, focus).other
        found = sides(desk, workspace, source, chosen, (step.number, other), group, focus["criterion"])
        after = outcome_of(desk, workspace, source, chosen, step.number)
        before = None if other is None else outcome_of(desk, workspace, source, chosen, other)
        seen = None if chosen.mean else portrait(view.model, source, chosen.rows[0])
    except OnnxPruneError as error:
        return _instead(problem(error.message, error.hint), body=ask is not None)
    effect = effect_of(source, chosen, {"before": before, "after": after})
    key = {
        "step": step.number, "other": other, "group": group, "rows": list(chosen.rows), "mean": chosen.mean,
        "data": source.path,
    }  # fmt: skip
    shown = browser_maps(found, theme_of(theme), common=scale == "common")
    words = group_words(found, guessed=guessed)
    return shown, key, None, False, portrait_of(seen, source, chosen, effect), words


def _instances(source: Source, ask: Stored, macs: float | None) -> Chosen:
    if ask["mode"] == "mean":
        return Chosen(mean_rows(source, ask["cls"], macs), mean=True)
    return Chosen((min(int(ask["row"]), len(source) - 1),), sees=ask["mode"] == "sees")


def _instead(children: Any, *, body: bool = False) -> tuple[Any, ...]:
    """Without maps. ``body``: another instance may do, so that one can still be chosen."""
    return None, None, children, not body, [], ""


def _register_draft(app: Dash, desk: Desk) -> None:
    @app.callback(
        Output(f"{NAME}-draft", "data"),
        Output(f"{NAME}-effect", "children"),
        Input(f"{NAME}-key", "data"),
        Input(ids.DRAFT_CHANGED, "data"),
        Input(f"{NAME}-again", "data"),
        running=[(Output(f"{NAME}-effect", "className"), "maps-effect working", "maps-effect")],
        prevent_initial_call=True,
    )
    def follow(key: Stored | None, _changed: Any, _again: Any) -> Any:
        if key is None:
            return None, []
        with desk.workspace() as workspace:
            step = workspace.steps.get(key["step"])
            state, revision = draft_of(desk, workspace, step)
            effect = _effect(desk, workspace, key, step, state)
            readonly = workspace.readonly
        draft = {
            "step": step.number, "group": key["group"], "revision": revision, "readonly": readonly,
            "gone": np.flatnonzero(state.gone[key["group"]]).tolist(),
        }  # fmt: skip
        return draft, effect

    @app.callback(
        Output(ids.DRAFT_CHANGED, "data", allow_duplicate=True),
        Output(f"{NAME}-again", "data"),
        Input(f"{NAME}-click", "data"),
        prevent_initial_call=True,
    )
    def change(clicked: Stored | None) -> Any:
        if clicked is None:
            return no_update, no_update
        verb = "remove" if clicked["goes"] else "restore"
        edit = {"group": clicked["group"], verb: sorted(clicked["units"]), "view": NAME}
        try:
            return desk.edit(clicked["step"], edit, clicked["revision"]), clicked["nonce"]
        except OnnxPruneError as error:  # the page shows what it wanted already: it must hear what holds
            set_props(ids.TOAST, {"data": {"kind": "error", "text": error.message, "hint": error.hint}})
        return no_update, clicked["nonce"]


def _effect(desk: Desk, workspace: Workspace, key: Stored, step: Step, state: DraftState) -> Any:
    """What comes out, or why it cannot be told: the marks of the units are shown in any case."""
    try:
        source = source_for(desk, workspace, step.number, key["data"])
        if source is None:
            return []
        chosen = Chosen(tuple(key["rows"]), key["mean"])
        found = draft_effect(desk, workspace, source, chosen, (step, key["other"]), state)
    except OnnxPruneError as error:
        return problem(error.message, error.hint)
    return effect_table(found, state.notes)


VIEW = View(NAME, "Feature maps", "inspect", layout, register, 10)
