"""Jobs: what runs, waits and has ended, with its progress; cancel, retry, and what the worker said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dash import Dash, Input, Output, State, dcc, html, no_update
from dash.development.base_component import Component

from dash_ui import ids
from dash_ui.desk import Desk
from dash_ui.parts import csv_button, empty
from dash_ui.rows.queue import job_rows, words_of
from dash_ui.state import Selection
from dash_ui.views import View
from onnxprune.workspace.job import BACKGROUND, Job
from onnxprune.workspace.jobs import Jobs
from onnxprune.workspace.paths import to_csv

__all__ = ["VIEW", "job_card", "news"]

LINES = 60
OVER = ("done", "failed", "cancelled", "lost")
ENDS = {"failed": "failed", "cancelled": "was cancelled", "lost": "ended without a word"}


def layout() -> html.Div:
    """A list that is filled when jobs change, and the log of the one that is opened."""
    return html.Div(
        [
            html.Div(
                [csv_button("jobs-csv", "Download the list of jobs as CSV"), dcc.Download(id="jobs-file")],
                className="jobs-tools",
            ),
            html.Div(id="jobs-list", className="jobs-list", **{"aria-live": "polite"}),
            html.Div(id="jobs-log", className="jobs-log"),
            dcc.Store(id="jobs-open"),
            dcc.Store(id="jobs-asked"),
        ],
        className="jobs",
    )


def _clock(seconds: float) -> str:
    return (
        f"{seconds:.0f} s"
        if seconds < 90
        else f"{seconds / 60:.0f} min"
        if seconds < 5400
        else f"{seconds / 3600:.1f} h"
    )


def job_card(row: Mapping[str, Any]) -> html.Article:
    """One job."""
    number, state = row["number"], row["state"]
    facts = [state + (" in the background" if row["background"] else "")]
    if row["seconds"] is not None:
        facts.append(_clock(row["seconds"]))
    if row["eta"] is not None:
        facts.append(f"about {_clock(row['eta'])} left")
    buttons = [_button("log", number, "Log", f"What job {number} said")]
    if state in ("queued", "running"):
        buttons.append(_button("cancel", number, "Cancel", f"Cancel job {number}; nothing of it is recorded"))
    if state in ("failed", "cancelled", "lost"):
        buttons.append(_button("retry", number, "Try again", f"Queue job {number} once more"))
    if row["result"]:
        buttons.insert(0, _button("show", number, f"Show step {row['result']}", "Select the step that it made"))
    parts: list[Component] = [
        html.Header(
            [html.Span(row["what"], className="jobs-what"), html.Span(f"job {number}", className="quiet number")]
        ),
        html.P(" · ".join(facts), className="quiet number"),
    ]
    if state in ("running", "ending"):
        share = row["share"]
        done = {"value": str(share), "aria-label": "Progress"} if share is not None else {"aria-label": "Progress"}
        parts += [html.Progress(max="1", **done), html.P(row["stage"], className="quiet jobs-stage")]
    if row["error"]:
        parts.append(
            html.P([html.Span(row["error"]), html.Span(f" {row['hint']}", className="hint")], className="jobs-error")
        )
    return html.Article([*parts, html.Div(buttons, className="jobs-buttons")], className=f"job job-{state}")


def _button(verb: str, number: int, label: str, title: str) -> html.Button:
    """``assets/jobs.js`` hears of its click: cards are made anew while a job runs, and a click must not be lost."""
    return html.Button(label, className="small", title=title, **{"data-jobs": verb, "data-job": str(number)})


def register(app: Dash, desk: Desk) -> None:
    """Add the callbacks."""

    @app.callback(Output("jobs-list", "children"), Input(ids.REVISION, "data"))
    def fill(_: Any) -> Sequence[Component]:
        with desk.workspace() as workspace:
            rows = job_rows(workspace)
        if not rows:
            return [empty("No jobs yet.", "Pruning, fine-tuning and measuring are done as jobs, and are listed here.")]
        return [job_card(row) for row in rows]

    _register_file(app, desk)

    @app.callback(
        Output(ids.RUNNING, "data"),
        Output("open-jobs", "children"),
        Output(ids.TOAST, "data", allow_duplicate=True),
        Output(ids.SELECTION, "data", allow_duplicate=True),
        Input(ids.ENDED, "data"),
        State(ids.RUNNING, "data"),
        State(ids.SELECTION, "data"),
        prevent_initial_call="initial_duplicate",
    )
    def tell(_: Any, before: list[int] | None, selection: dict[str, Any] | None) -> Any:
        with desk.workspace() as workspace:
            jobs = Jobs(workspace.database).all()[-4 * LINES :]
        now, shown = [job.number for job in jobs if job.state not in OVER], Selection.of(selection)
        message, step = news(before, jobs, shown.step)
        mine = sum(job.priority > BACKGROUND for job in jobs if job.state not in OVER)
        title = f"Jobs · {mine}" if mine else "Jobs"
        go = no_update if step is None else shown.changed(step=step)
        return now, title, no_update if message is None else message, go

    @app.callback(
        Output("jobs-open", "data"),
        Output(ids.SELECTION, "data", allow_duplicate=True),
        Output(ids.TOAST, "data", allow_duplicate=True),
        Input("jobs-asked", "data"),
        State(ids.SELECTION, "data"),
        prevent_initial_call=True,
    )
    def act(asked: dict[str, Any] | None, selection: dict[str, Any] | None) -> Any:
        if asked is None:
            return no_update, no_update, no_update
        verb, number = asked["verb"], asked["job"]
        with desk.workspace() as workspace:
            jobs = Jobs(workspace.database)
            if verb == "log":
                return number, no_update, no_update
            if verb == "show":
                return no_update, Selection.of(selection).changed(step=jobs.get(number).result), no_update
            workspace.check_writable()
            if verb == "cancel":
                jobs.cancel(number)
                return (
                    no_update,
                    no_update,
                    {"kind": "info", "text": f"Job {number} ends.", "hint": "Nothing is recorded."},
                )
            again = jobs.retry(number)
            jobs.start_worker(workspace.folder)
        return no_update, no_update, {"kind": "info", "text": f"Job {again.number} is queued.", "hint": ""}

    @app.callback(Output("jobs-log", "children"), Input("jobs-open", "data"), Input(ids.REVISION, "data"))
    def log(number: int | None, _: Any) -> Any:
        if number is None:
            return None
        with desk.workspace() as workspace:
            lines = Jobs(workspace.database).lines(number)[-LINES:]
        text = "\n".join(line.text for line in lines) or "It has not said anything yet."
        return [html.H3(f"Log of job {number}"), html.Pre(text, tabIndex=0)]


def _register_file(app: Dash, desk: Desk) -> None:
    @app.callback(Output("jobs-file", "data"), Input("jobs-csv", "n_clicks"), prevent_initial_call=True)
    def save(clicks: int | None) -> Any:
        if not clicks:
            return no_update
        with desk.workspace() as workspace:
            text = to_csv(job_rows(workspace))
        return {"content": text, "filename": "jobs.csv", "type": "text/csv"}


def news(
    before: Sequence[int] | None, jobs: Sequence[Job], shown: int | None
) -> tuple[dict[str, Any] | None, int | None]:
    """A message about the last job that has ended since, and the step to show: what was made of the one that is shown.

    ``before``: the numbers that waited or ran the last time; None the first time, which tells nothing.
    """
    ended = [job for job in jobs if job.number in (before or ()) and job.state in OVER and job.priority > BACKGROUND]
    if not ended:
        return None, None
    job = ended[-1]
    if job.state != "done":
        kind = "info" if job.state == "cancelled" else "error"
        why = f": {job.error}" if job.error else "."
        return {"kind": kind, "text": f"{words_of(job)} {ENDS[job.state]}{why}", "hint": job.hint}, None
    made = "" if job.result is None else f" It made step {job.result}."
    step = job.result if job.step == shown else None
    return {"kind": "done", "text": f"{words_of(job)} is done.{made}", "hint": ""}, step


VIEW = View("jobs", "Jobs", "drawer", layout, register, 20)
