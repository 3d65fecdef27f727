"""Results that are slow to measure, kept in the workspace: a row that names a blob, by model, kind and settings.

They belong to what a model computes (its hash), not to a step: a step that comes out of the trash, or another one with
the same model, finds them again. A result whose blob is damaged counts as not measured, and may be measured again.
"""

from __future__ import annotations

import time
from pathlib import Path

from onnxprune.errors import StoreDamaged
from onnxprune.workspace.workspace import Workspace

__all__ = ["keep", "recall", "there"]

SINCE = 5  # the version of a workspace that has the table


def there(workspace: Workspace) -> bool:
    """Whether the workspace has tables for guidance: one of an older version, opened for viewing, has not."""
    row = workspace.database.row("PRAGMA user_version")
    return row is not None and int(row[0]) >= SINCE


def recall(workspace: Workspace, model: str, kind: str, settings: str) -> Path | None:
    """The file of a kept result, checked; None where there is none, or where it is damaged."""
    if not there(workspace):
        return None
    query = "SELECT blob FROM kept WHERE model = ? AND kind = ? AND settings = ?"
    row = workspace.database.row(query, model, kind, settings)
    if row is None:
        return None
    try:
        return workspace.blobs.check(row["blob"])
    except StoreDamaged:
        return None


def keep(workspace: Workspace, model: str, kind: str, settings: str, content: bytes) -> None:
    """Keep a result in the place of an earlier one. Raises WorkspaceError where nothing can be written."""
    workspace.check_writable()
    blob = workspace.blobs.put(content)
    try:
        workspace.blobs.check(blob)
    except StoreDamaged:  # the same result was kept before, and damaged since
        workspace.blobs.path(blob).unlink(missing_ok=True)
        workspace.blobs.put(content)
    with workspace.database.writing() as connection:
        connection.execute(
            "INSERT OR REPLACE INTO kept VALUES (?, ?, ?, ?, ?)", (model, kind, settings, time.time(), blob)
        )
