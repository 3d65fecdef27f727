"""Checkpoints of trainings that were broken off, so that the same training goes on where it was.

They lie in ``.onnxprune/checkpoints/``, named by what the training depends on: the model, the data, every option and
the version of onnxprune. A training that is done takes its own away; those that nobody came back to, `sweep` does.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

from onnxprune.errors import DataError, WorkspaceError
from onnxprune.train.checkpoint import load_checkpoint

__all__ = ["KEEP", "checkpoint_file", "sweep"]

FOLDER = "checkpoints"
KEEP = 7 * 24 * 3600.0  # seconds


def checkpoint_file(store: Path, model_hash: str, data: str, options: Mapping[str, Any]) -> Path:
    """Where this very training keeps its checkpoint; one that cannot be read is taken away.

    ``data``: a hash of the data. Raises WorkspaceError where the folder cannot be made.
    """
    facts = [model_hash, data, dict(options), version("onnxprune")]
    key = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()
    path = store / FOLDER / f"{key[:32]}.npz"
    try:
        path.parent.mkdir(exist_ok=True)
    except OSError as error:
        raise WorkspaceError(
            f"{path.parent}: cannot be made: {error.strerror or error}", "Free some space, and try again."
        ) from error
    if path.exists():
        try:
            load_checkpoint(path)
        except DataError:
            path.unlink(missing_ok=True)
    return path


def sweep(store: Path, keep: float = KEEP) -> tuple[int, int]:
    """Take away checkpoints that are older than ``keep`` seconds; how many, and their bytes."""
    count = size = 0
    for path in (store / FOLDER).glob("*"):
        with suppress(FileNotFoundError):
            facts = path.stat()
            if time.time() - facts.st_mtime >= keep:
                path.unlink()
                count, size = count + 1, size + facts.st_size
    return count, size
