"""The top bar: which folder, model and data; undo and redo; what is to go; the actions; drawers; light and dark."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

from dash import ClientsideFunction, Dash, Input, Output, State, dcc, html, no_update

from dash_ui import ids
from dash_ui.desk import Desk
from dash_ui.state import Selection
from dash_ui.views import View
from onnxprune.workspace.edits import edit_words
from onnxprune.workspace.folder import Listed
from onnxprune.workspace.steps import Drafts
from onnxprune.workspace.workspace import Workspace

__all__ = ["datasets", "layout", "models", "register", "why_not"]


def layout(workspace: str, drawers: Sequence[View]) -> html.Header:
    """The bar. Its actions are disabled until a view wires them."""
    return html.Header(
        [
            html.Div(
                [
                    html.Span("onnxprune", className="brand"),
                    html.Span(workspace, className="workspace", title="The folder of this workspace"),
                    html.Button(
                        html.Span(className="icon icon-again"), id="top-scan", className="ghost",
                        title="Look for new models and data in the folder",
                        **{"aria-label": "Look for new models and data in the folder"},
                    ),
                    _choice(ids.MODEL, "Model"),
                    _choice(ids.DATASET, "Data"),
                ],
                className="top-part top-where",
            ),
            html.Div(
                [
                    _icon(ids.UNDO, "undo", "Undo", disabled=True),
                    _icon(ids.REDO, "redo", "Redo", disabled=True),
                    html.Div(id=ids.SUMMARY, className="summary", role="status"),
                ],
                className="top-part top-draft",
            ),
            html.Div(
                [
                    html.Button("Apply", id=ids.APPLY, className="primary", disabled=True),
                    html.Button("Fine-tune", id=ids.FINE_TUNE, className="plain", disabled=True),
                    html.Button("Auto", id=ids.AUTO, className="plain", disabled=True),
                ],
                className="top-part",
                id="top-actions",
            ),
            html.Div(
                [
                    html.Label(
                        [
                            html.Span("Find a layer", className="unseen"),
                            dcc.Input(
                                id="find-text", type="search", placeholder="Find a layer", autoComplete="off",
                                className="find",
                            ),
                        ]
                    ),
                    *(_opens(view) for view in drawers),
                    _icon(ids.THEME_BUTTON, "theme", "Light or dark"),
                    html.Button("?", id="top-help", className="ghost", title="Keys and tour (?)"),
                ],
                className="top-part top-right",
            ),
        ],
        className="top",
    )  # fmt: skip


def _icon(name: str, icon: str, label: str, **properties: Any) -> html.Button:
    return html.Button(
        html.Span(className=f"icon icon-{icon}"), id=name, className="ghost", title=label,
        **{"aria-label": label}, **properties,
    )  # fmt: skip


def _choice(name: str, label: str) -> html.Label:
    found = dcc.Dropdown(id=name, clearable=False, searchable=False, placeholder="none", className="choice")
    return html.Label([html.Span(label, className="choice-label"), found], className="choice-frame")


def _opens(view: View) -> html.Button:
    """The button of a drawer. ``data-count`` is for a view that has something to tell, as how many jobs run."""
    return html.Button(
        view.title, id=f"open-{view.name}", className="ghost opens-drawer",
        **{"data-view": view.name, "aria-expanded": "false", "aria-controls": f"drawer-{view.name}"},
    )  # fmt: skip


def models(workspace: Workspace) -> list[dict[str, Any]]:
    """The originals, as choices: by the name of their file, of their step, or their number."""
    paths = {entry.step: PurePosixPath(entry.path).stem for entry in workspace.files.listed("model") if entry.step}
    return [
        {"value": step.number, "label": paths.get(step.number) or step.name or f"model {step.number}"}
        for step in workspace.steps.all()
        if step.parent is None
    ]


def datasets(workspace: Workspace, step: int) -> list[dict[str, Any]]:
    """The data that fit a step, as choices."""
    root = workspace.steps.get(workspace.steps.get(step).root)
    return [{"value": path, "label": PurePosixPath(path).name} for path in workspace.files.fitting(root.model_hash)]


def why_not(workspace: Workspace, entry: Listed) -> str:
    """Why a file of the folder cannot be used, in a line that does not repeat where it lies."""
    first = (entry.problem or "").splitlines()[0]
    return first.replace(str(workspace.folder / entry.path), "").removeprefix(":").strip()


def _choices(workspace: Workspace, now: Selection) -> tuple[list[dict[str, Any]], int | None, list[Any], str | None]:
    """Models, the one that is shown, data, those that are in use."""
    there = models(workspace)
    if now.step is None:
        return there, None, [], None
    root = workspace.steps.get(now.step).root
    if root not in {choice["value"] for choice in there}:  # it is in the trash
        there.append({"value": root, "label": f"model {root}"})
    data = datasets(workspace, now.step)
    paths = [choice["value"] for choice in data]
    own = now.data if now.data in paths else workspace.dataset_name(now.step)
    return there, root, data, own if own in paths else None


def register(app: Dash, desk: Desk) -> None:
    """Add the callbacks of the bar."""
    _register_choices(app, desk)
    _register_draft(app, desk)
    app.clientside_callback(
        ClientsideFunction("shell", "summary"),
        Output(ids.SUMMARY, "children"),
        Input(ids.LIVE, "data"),
        Input(ids.ESTIMATE, "data"),
    )
    app.clientside_callback(
        ClientsideFunction("shell", "theme"), Output(ids.THEME, "data"), Input(ids.THEME_BUTTON, "n_clicks")
    )
    app.clientside_callback(
        ClientsideFunction("shell", "find"),
        Output(ids.FIND, "data"),
        Input("find-text", "value"),
        Input("find-text", "n_submit"),
        prevent_initial_call=True,
    )


def _register_choices(app: Dash, desk: Desk) -> None:
    shown = [(ids.MODEL, "options"), (ids.MODEL, "value"), (ids.DATASET, "options"), (ids.DATASET, "value")]

    @app.callback(
        [Output(*pair) for pair in shown],
        Input(ids.PLACE, "data"),
        Input(ids.TREE, "data"),
        [State(*pair) for pair in shown],
    )
    def choices(selection: dict[str, Any] | None, _: Any, *before: Any) -> Any:
        now = Selection.of(selection)
        with desk.workspace() as workspace:
            found = _choices(workspace, now)
        return [no_update if new == old else new for new, old in zip(found, before, strict=True)]

    @app.callback(
        Output(ids.SELECTION, "data", allow_duplicate=True),
        Input(ids.MODEL, "value"),
        Input(ids.DATASET, "value"),
        State(ids.SELECTION, "data"),
        prevent_initial_call=True,
    )
    def choose(model: int | None, data: str | None, selection: dict[str, Any] | None) -> Any:
        now = Selection.of(selection)
        if now.step is None or model is None:
            return no_update
        with desk.workspace() as workspace:
            if workspace.steps.get(now.step).root != model:
                return Selection(step=model, criterion=now.criterion, tab=now.tab).changed()
            own = now.data or workspace.dataset_name(now.step)
        return no_update if data is None or data == own else now.changed(data=data)

    @app.callback(
        Output(ids.TOAST, "data", allow_duplicate=True), Input("top-scan", "n_clicks"), prevent_initial_call=True
    )
    def scan(_: int) -> Any:
        with desk.workspace(scan=True) as workspace:
            change, problems = workspace.change, [entry for entry in workspace.files.listed() if entry.problem]
        words = [
            f"{len(paths)} {word}: {', '.join(paths)}"
            for word, paths in (("new", change.came), ("changed", change.changed), ("gone", change.went))
            if paths
        ]
        hint = "; ".join(f"{entry.path} cannot be used: {why_not(workspace, entry)}" for entry in problems)
        return {"kind": "info", "text": "; ".join(words) or "Nothing new in the folder.", "hint": hint}


def _register_draft(app: Dash, desk: Desk) -> None:
    @app.callback(
        Output(ids.UNDO, "disabled"),
        Output(ids.UNDO, "title"),
        Output(ids.REDO, "disabled"),
        Output(ids.REDO, "title"),
        Input(ids.DRAFT_CHANGED, "data"),
        State(ids.SELECTION, "data"),
    )
    def offer(_: str | None, selection: dict[str, Any] | None) -> Any:
        step = Selection.of(selection).step
        if step is None:
            return True, "Nothing to undo", True, "Nothing to redo"
        with desk.workspace() as workspace:
            entries = [] if workspace.readonly else workspace.drafts.entries(step)
        done, undone = [e for e in entries if not e.undone], [e for e in entries if e.undone]
        return (
            not done,
            f"Undo: {edit_words(done[-1].edit)} (Ctrl+Z)" if done else "Nothing to undo",
            not undone,
            f"Redo: {edit_words(undone[0].edit)} (Ctrl+Shift+Z)" if undone else "Nothing to redo",
        )

    def move(act: Any, selection: dict[str, Any] | None, revision: str | None) -> Any:
        step = Selection.of(selection).step
        if step is None:
            return no_update
        with desk.workspace() as workspace:
            workspace.check_writable()
            act(workspace.drafts, step, revision)
            return workspace.drafts.revision(step)

    for name, act in ((ids.UNDO, Drafts.undo), (ids.REDO, Drafts.redo)):

        @app.callback(
            Output(ids.DRAFT_CHANGED, "data", allow_duplicate=True),
            Input(name, "n_clicks"),
            State(ids.SELECTION, "data"),
            State(ids.DRAFT_CHANGED, "data"),
            prevent_initial_call=True,
        )
        def moved(_: int, selection: Any, revision: str | None, act: Any = act) -> Any:
            return move(act, selection, revision)
