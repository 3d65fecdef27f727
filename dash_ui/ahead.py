"""Looking ahead: while nobody does anything and nothing runs, likely next plans for the selected step are measured.

The browser says when a person has paused (``assets/ahead.js``); what is measured, and whether it is done at all, is
`onnxprune.guidance.speculate`'s to say. What comes of it stands as marks on the threshold axis.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dash import ClientsideFunction, Dash, Input, Output, State, dcc, html

from dash_ui import ids
from dash_ui.desk import Desk
from dash_ui.rows.units import first_choice, options_of
from dash_ui.state import Selection
from onnxprune.guidance import kept_scores, speculate
from onnxprune.workspace.job import BACKGROUND, Job
from onnxprune.workspace.jobs import Jobs
from onnxprune.workspace.workspace import Workspace

__all__ = ["look_ahead", "register", "stores"]

PAUSED = "ahead-paused"  # Store: the selection that nobody has changed for some seconds
OPEN = ("queued", "running")


def stores() -> list[Any]:
    """What the page needs for it."""
    return [dcc.Store(id=PAUSED), html.Div(id="ahead-timer", hidden=True)]


def look_ahead(desk: Desk, now: Selection) -> Job | None:
    """Queue the measuring of likely plans for the selected step and start a worker.

    None where there is nothing to measure, where it is turned off, and while a person's job waits or runs. Raises
    StepNotFound.
    """
    if now.step is None:
        return None
    with desk.workspace() as workspace:
        if workspace.readonly or any(job.priority > BACKGROUND for job in Jobs(workspace.database).all(OPEN)):
            return None
        threshold, criterion = _threshold(workspace, now.step), _criterion(workspace, now.step, now)
        data: dict[str, Any] = {} if now.data is None else {"data": now.data}
        job = speculate(workspace, now.step, criterion, threshold=threshold, **data)
        if job is not None and not Jobs(workspace.database).all(("running",)):
            Jobs(workspace.database).start_worker(workspace.folder)
        return job


def _criterion(workspace: Workspace, step: int, now: Selection) -> str:
    """The criterion that is shown where its scores are there, else l2: scores that take long are not asked for here."""
    shown = now.criterion or first_choice(workspace, step, now.data or workspace.dataset_name(step))[0]
    options = options_of(workspace, step, shown, now.data)
    known = options is None or kept_scores(workspace, step, shown, **options) is not None
    return shown if known else "l2"


def _threshold(workspace: Workspace, step: int) -> Mapping[str, Any] | None:
    """The last threshold of the draft; its neighbourhood is what a person looks at."""
    edits = [entry.edit for entry in workspace.drafts.entries(step) if not entry.undone]
    last = next((edit for edit in reversed(edits) if "threshold" in edit), None)
    return None if last is None else {name: last[name] for name in ("criterion", "threshold", "scale") if name in last}


def register(app: Dash, desk: Desk) -> None:
    """Add the callbacks."""
    app.clientside_callback(
        ClientsideFunction("ahead", "wait"),
        Output("ahead-timer", "title"),
        Input(ids.SELECTION, "data"),
        Input(ids.DRAFT_CHANGED, "data"),
        Input(ids.REVISION, "data"),
        State(ids.RUNNING, "data"),
    )

    @app.callback(Output("ahead-timer", "lang"), Input(PAUSED, "data"), prevent_initial_call=True)
    def paused(selection: dict[str, Any] | None) -> str:
        job = look_ahead(desk, Selection.of(selection))
        return "" if job is None else str(job.number)
