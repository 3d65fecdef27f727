"""What can be downloaded: a step's model, its plan and its report, and the figures of its path, each at an address."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping

from dash import Dash
from flask import Response, abort, make_response, send_file

from dash_ui.desk import Desk
from onnxprune.errors import OnnxPruneError
from onnxprune.workspace.paths import class_rows, confusion_rows, path_rows, to_csv
from onnxprune.workspace.values import Step
from onnxprune.workspace.workspace import Workspace

__all__ = ["address", "files_of", "register"]

TABLES: Mapping[str, Callable[[Workspace, int], list[dict[str, object]]]] = {
    "path.csv": path_rows, "classes.csv": class_rows, "confusion.csv": confusion_rows,
}  # fmt: skip


def address(step: int, name: str) -> str:
    """Where a file of a step is."""
    return f"/download/{step}/{name}"


def files_of(workspace: Workspace, step: Step) -> list[tuple[str, str]]:
    """Name and description of what there is of a step."""
    found = [("model.onnx", "the model")]
    if step.plan is not None:
        found.append(("plan.json", "what was removed, to be replayed or shared"))
    found.append(("report.json", "everything that is known about it"))
    found.append(("path.csv", "figures from the original to this step"))
    if "evaluation" in workspace.steps.documents(step.number):
        found += [("classes.csv", "figures of every class"), ("confusion.csv", "which classes were confused")]
    return found


def register(app: Dash, desk: Desk) -> None:
    """Add the addresses."""

    def download(step: int, name: str) -> Response:
        try:
            with desk.workspace() as workspace:
                return _answer(workspace, workspace.steps.get(step), name)
        except OnnxPruneError as error:
            found = make_response(f"{error.message}\n{error.hint}\n", 404)
            found.mimetype = "text/plain"
            return found

    app.server.add_url_rule("/download/<int:step>/<name>", "download", download)


def _answer(workspace: Workspace, step: Step, name: str) -> Response:
    title = f"{_plain(step.name or workspace.steps.get(step.root).name or 'model')}-step{step.number}-{name}"
    if name == "model.onnx":
        if "weights" in workspace.steps.documents(step.number):
            abort(Response(f"onnxprune ws export {step.number} DIR writes it: it is over 2 GB.\n", 413))
        return send_file(workspace.blobs.check(step.model), as_attachment=True, download_name=title)
    if name == "plan.json" and step.plan is not None:
        return send_file(workspace.blobs.check(step.plan), as_attachment=True, download_name=title)
    if name == "report.json":
        data = workspace.report(step.number)
    elif name in TABLES:
        data = to_csv(TABLES[name](workspace, step.number)).encode()
    else:
        abort(404)
    return send_file(io.BytesIO(data), as_attachment=True, download_name=title)


def _plain(name: str) -> str:
    """A name that every file system takes."""
    return re.sub(r"[^\w.-]+", "-", name)[:60]
