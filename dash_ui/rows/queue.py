"""Work that takes longer than a request: handed to the queue of the workspace, and shown while it runs."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from dash_ui.desk import Desk
from onnxprune.workspace.actions import ACTIONS, check_options
from onnxprune.workspace.job import Job
from onnxprune.workspace.jobs import Jobs
from onnxprune.workspace.workspace import Workspace

__all__ = ["job_rows", "queue", "words_of"]

SHOWN = 40  # jobs
VERBS = {
    "prune": "Prune", "fine-tune": "Fine-tune", "edit": "Apply the draft to", "recover": "Repair",
    "import": "Import into", "auto": "Prune automatically from", "score": "Score",
    "instability": "Measure the instability of",
    "scan": "Scan the sensitivity of", "activity": "Watch the activity of", "preview": "Look ahead from",
    "measure": "Measure", "latency": "Time the groups of", "time-layers": "Time the layers of",
}  # fmt: skip


def queue(desk: Desk, action: str, step: int, options: Mapping[str, Any], *, data: str | None = None) -> Job:
    """Queue an action on a step, and start a worker. ``data``: of the folder, where the step's own are not meant.

    Raises OptionError for a wrong option, WorkspaceError where nothing may be recorded.
    """
    given = dict(options)
    if data is not None:
        given.setdefault("data", data)
    if action in ACTIONS:
        check_options(action, given)
    with desk.workspace() as workspace:
        workspace.check_writable()
        jobs = Jobs(workspace.database)
        job = jobs.add(action, step, given)
        jobs.start_worker(workspace.folder)
    return job


def words_of(job: Job) -> str:
    """What a job does, in words: ``Fine-tune step 3``."""
    verb = VERBS.get(job.action, job.action.capitalize())
    return f"{verb} step {job.step}" if job.step else verb.removesuffix(" into")


def job_rows(workspace: Workspace) -> list[dict[str, Any]]:
    """The newest jobs, those that run or wait first: what, state, progress (0 to 1 or None), seconds, message."""
    jobs = Jobs(workspace.database)
    if not workspace.readonly:
        jobs.mark_lost()
    found = sorted(jobs.all()[-SHOWN * 4 :], key=lambda job: (job.state not in ("running", "queued"), -job.number))
    return [_row(job) for job in found[:SHOWN]]


def _row(job: Job) -> dict[str, Any]:
    running = job.state == "running"
    return {
        "number": job.number,
        "what": words_of(job),
        "action": job.action,
        "step": job.step,
        "state": "ending" if running and job.cancel else job.state,
        "background": job.priority <= 0,
        "stage": job.stage if running else "",
        "share": job.done / job.total if running and job.total else None,
        "eta": job.eta,
        "seconds": None if job.started is None else (job.ended or time.time()) - job.started,
        "result": job.result,
        "error": job.error if job.state in ("failed", "lost") else "",
        "hint": job.hint if job.state in ("failed", "lost") else "",
    }
