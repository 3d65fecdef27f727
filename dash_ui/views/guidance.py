"""Guidance: what to do next with the selected step, why, and what it is expected to do."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from dash import ALL, Dash, Input, Output, State, ctx, dcc, html, no_update
from dash.development.base_component import Component

from dash_ui import ids
from dash_ui.desk import Desk
from dash_ui.parts import empty, problem
from dash_ui.rows.draft import draft_of
from dash_ui.rows.queue import queue
from dash_ui.state import Selection, opened
from dash_ui.views import View
from onnxprune.errors import OnnxPruneError
from onnxprune.evaluate import kind_of, measured
from onnxprune.guidance import (
    Effect,
    Suggestion,
    accept,
    ask_missing,
    missing,
    set_speculation,
    speculation,
    suggest,
)
from onnxprune.workspace.drafting import DraftState
from onnxprune.workspace.jobs import Jobs

__all__ = ["VIEW", "card", "effect_text", "is_planned"]

SHOWN = 24  # suggestions
COSTS = {"parameters": "parameters", "macs": "MACs", "latency": "latency"}


def layout() -> html.Div:
    """A list that is filled while the drawer is open."""
    return html.Div(
        [
            html.Div(
                [
                    html.Button("Measure what is missing", id="guidance-measure", className="plain", disabled=True),
                    html.Span(id="guidance-missing", className="hint"),
                ],
                className="guide-head",
            ),
            dcc.Checklist(
                [{"value": "on", "label": "Measure likely plans while nothing else runs"}], [], id="guidance-ahead",
                className="flag guide-ahead",
            ),
            html.Div(id="guidance-list", className="guide-list"),
        ],
        className="guide",
    )  # fmt: skip


def effect_text(effect: Effect) -> str:
    """``parameters -3.1% (counted)``: a cost as a share, a metric as it was and is."""
    basis = f"({effect.basis})"
    if effect.name in COSTS:
        share = effect.share
        return f"{COSTS[effect.name]} {f'{share:+.1%}' if share else 'unchanged'} {basis}"
    if kind_of(effect.name) is not None:
        return f"{effect.name} {measured(effect.name, effect.before)} → {measured(effect.name, effect.after)} {basis}"
    return f"{effect.name} {effect.before:.4g} → {effect.after:.4g} {basis}"


def key_of(found: Suggestion) -> str:
    """What a suggestion is known by while others come and go."""
    text = json.dumps([found.kind, found.title, {name: list(units) for name, units in found.units.items()}])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def is_planned(found: Suggestion, state: DraftState, edits: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a draft has it: all its units go, or its entries are among those of the draft."""
    if found.units:
        masks = state.gone
        return all(name in masks and bool(masks[name][list(units)].all()) for name, units in found.units.items())
    return bool(found.edits) and all(any(wanted.items() <= edit.items() for edit in edits) for wanted in found.edits)


def card(found: Suggestion, *, planned: bool = False) -> html.Article:
    """One suggestion, with the button that accepts it or starts what it proposes. ``planned``: the draft has it."""
    buttons: list[Component] = []
    if planned:
        buttons.append(html.Span("In the plan", className="guide-planned", title="Undo takes it back"))
    elif found.edits:
        title = "Add it to the draft; nothing is removed before it is applied"
        buttons.append(_button("accept", key_of(found), "Put into the plan", title))
    elif found.action is not None:
        words = "Measure" if found.kind == "measure" else found.action.name.capitalize()
        buttons.append(_button("start", key_of(found), words, f"{found.action.name} of step {found.action.step}"))
    effects = [html.Li(effect_text(effect), title=effect.how or None) for effect in found.effects]
    return html.Article(
        [
            html.Header([html.Span(found.title, className="jobs-what"), html.Span(found.kind, className="quiet")]),
            html.P(found.reason),
            html.Ul(effects, className="guide-effects") if effects else None,
            html.Div(buttons, className="jobs-buttons"),
        ],
        className=f"job guide-{found.kind}",
    )


def _button(verb: str, key: str, label: str, title: str) -> html.Button:
    return html.Button(label, id={"type": "guidance-do", "verb": verb, "key": key}, className="small", title=title)


def register(app: Dash, desk: Desk) -> None:
    """Add the callbacks."""
    _register_ahead(app, desk)

    @app.callback(
        Output("guidance-list", "children"),
        Output("guidance-measure", "disabled"),
        Output("guidance-missing", "children"),
        Input(ids.SELECTION, "data"),
        Input(ids.ENDED, "data"),
        Input(ids.DRAFT_CHANGED, "data"),
    )
    def fill(selection: dict[str, Any] | None, *_: Any) -> Any:
        now = Selection.of(selection)
        if opened(now.tab).get("drawer") != VIEW.name:
            return no_update, no_update, no_update
        if now.step is None:
            return empty("No step is selected."), True, ""
        try:
            found, left = _suggestions(desk, now.step, now.data)
            planned = _planned(desk, now.step, found[:SHOWN])
        except OnnxPruneError as error:
            return problem(error.message, error.hint), True, ""
        words = f"Not measured yet: {', '.join(left)}." if left else "Everything was measured."
        cards = [card(one, planned=there) for one, there in zip(found, planned, strict=False)]
        return cards or empty("Nothing to suggest.", "Every unit seems to be needed."), not left, words

    @app.callback(
        Output(ids.TOAST, "data", allow_duplicate=True),
        Output(ids.DRAFT_CHANGED, "data", allow_duplicate=True),
        Input({"type": "guidance-do", "verb": ALL, "key": ALL}, "n_clicks"),
        State(ids.SELECTION, "data"),
        prevent_initial_call=True,
    )
    def act(clicks: Sequence[int | None], selection: dict[str, Any] | None) -> Any:
        now, asked = Selection.of(selection), ctx.triggered_id
        if not any(clicks) or asked is None or now.step is None:
            return no_update, no_update
        found, _ = _suggestions(desk, now.step, now.data)
        chosen = next((one for one in found if key_of(one) == asked["key"]), None)
        if chosen is None:
            return {
                "kind": "info",
                "text": "That is suggested no longer.",
                "hint": "More was measured since.",
            }, no_update
        if asked["verb"] == "start" and chosen.action is not None:
            job = queue(desk, chosen.action.name, chosen.action.step, chosen.action.options)
            return {
                "kind": "info",
                "text": f"Job {job.number} is queued.",
                "hint": "Jobs shows how far it is.",
            }, no_update
        with desk.workspace() as workspace:
            entries = accept(workspace, now.step, chosen)
        text = f"{chosen.title}: {len(entries)} {'entry' if len(entries) == 1 else 'entries'} in the plan."
        return {"kind": "done", "text": text, "hint": "Undo takes it back."}, desk.draft_revision(now.step)

    @app.callback(
        Output(ids.TOAST, "data", allow_duplicate=True),
        Input("guidance-measure", "n_clicks"),
        State(ids.SELECTION, "data"),
        prevent_initial_call=True,
    )
    def measure(_: int | None, selection: dict[str, Any] | None) -> Any:
        now = Selection.of(selection)
        if not _ or now.step is None:
            return no_update
        with desk.workspace() as workspace:
            workspace.check_writable()
            jobs = ask_missing(workspace, now.step, **({} if now.data is None else {"data": now.data}))
            Jobs(workspace.database).start_worker(workspace.folder)
        return {"kind": "info", "text": f"{len(jobs)} jobs are queued.", "hint": "Suggestions come as they are done."}


def _register_ahead(app: Dash, desk: Desk) -> None:
    @app.callback(Output("guidance-ahead", "value"), Input("slot-guidance", "children"))
    def known(_: Any) -> list[str]:
        with desk.workspace() as workspace:
            return ["on"] if speculation(workspace).on else []

    @app.callback(Input("guidance-ahead", "value"), prevent_initial_call=True)
    def set_ahead(value: list[str]) -> None:
        with desk.workspace() as workspace:
            if speculation(workspace).on != bool(value):
                set_speculation(workspace, on=bool(value))


def _suggestions(desk: Desk, step: int, data: str | None) -> tuple[tuple[Suggestion, ...], tuple[str, ...]]:
    """The suggestions for a step, and what was not measured; kept until something else was."""
    options: dict[str, Any] = {} if data is None else {"data": data}
    with desk.workspace() as workspace:
        left = missing(workspace, step, **options)
        known = workspace.steps.get(step)
        key = ("suggestions", known.number, known.model_hash, data, left, desk.revisions()["ended"])
        return desk.kept.get(key, lambda: suggest(workspace, step, **options)), left


def _planned(desk: Desk, number: int, found: Sequence[Suggestion]) -> list[bool]:
    """For each suggestion, whether the draft of the step has it."""
    with desk.workspace() as workspace:
        state, _ = draft_of(desk, workspace, workspace.steps.get(number))
        edits = [entry.edit for entry in workspace.drafts.entries(number) if not entry.undone]
    return [is_planned(one, state, edits) for one in found]


VIEW = View("guidance", "Guidance", "drawer", layout, register, 30)
