"""A folder with a path of steps that were trained and measured, for the tests of the statistics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from onnxprune.workspace.actions import ACTIONS
from onnxprune.workspace.workspace import Workspace

__all__ = ["grow"]

# 1 original, 2 trained of it, 3 pruned, 4 trained again; 5 is another pruning of 2.
WORK: tuple[tuple[str, int, dict[str, Any]], ...] = (
    ("fine-tune", 1, {"epochs": 8, "rate": 0.03}),
    ("prune", 2, {"ratio": 0.75}),
    ("fine-tune", 3, {"epochs": 3}),
    ("prune", 2, {"ratio": 0.25}),
)


def grow(folder: Path) -> Path:
    """Carry WORK out in a folder with one model; its original is measured as well."""
    with Workspace.open(folder) as workspace:
        workspace.measure(1, threads=1)
        for action, step, options in WORK:
            ACTIONS[action](workspace, step, {**options, "threads": 1}, lambda *_: None, lambda: False)
    return folder
