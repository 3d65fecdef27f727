"""What the app sets going when it is started: jobs that waited, and the measuring of models that are new."""

from __future__ import annotations

from pathlib import Path

from onnxprune.workspace.jobs import Jobs
from onnxprune.workspace.workspace import QUALITY, Workspace

__all__ = ["begin"]


def begin(folder: Path) -> list[int]:
    """Queue the measuring of originals that have data and no metrics; returns them. A worker does that, and the rest.

    Nothing happens in a folder that may only be read. Raises what `Workspace.open` does.
    """
    with Workspace.open(folder, scan=False) as workspace:
        if workspace.readonly:
            return []
        jobs = Jobs(workspace.database)
        asked = {job.step for job in jobs.all(("queued", "running")) if job.action == "measure"}
        fresh = [
            step.number
            for step in workspace.steps.all()
            if step.kind == "original" and step.number not in asked and _unmeasured(workspace, step.number)
        ]
        for number in fresh:
            jobs.add("measure", number)
        jobs.resume(workspace.folder)
        return fresh


def _unmeasured(workspace: Workspace, number: int) -> bool:
    documents = workspace.steps.documents(number)
    return QUALITY not in documents and "problem" not in documents and workspace.dataset_name(number) is not None
