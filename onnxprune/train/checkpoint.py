"""Checkpoints: a training at some moment, in one file, wholly or not at all.

The file is an .npz: ``meta`` holds JSON, and the arrays are numbered in the order in which ``meta`` names them, since
names of tensors are not always names of files.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import ml_dtypes  # noqa: F401 - makes NumPy know bfloat16 by its name
import numpy as np
from numpy.typing import NDArray

from onnxprune._atomic import replacing
from onnxprune.errors import DataError
from onnxprune.train.history import History
from onnxprune.train.stops import Watch

__all__ = ["Checkpoint", "Position", "load_checkpoint", "weights_at"]

Array = NDArray[Any]
FORMAT = 1
UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True)
class Position:
    """Where a training is: ``epoch`` (from 1) of which ``batch`` batches are done, and ``step`` of all epochs.

    ``seconds``: spent so far. ``loss`` and ``samples``: sum and number of this epoch's losses; ``row_loss``,
    ``row_steps``: of the steps since the last row of the history.
    """

    epoch: int = 1
    batch: int = 0
    step: int = 0
    seconds: float = 0.0
    loss: float = 0.0
    samples: int = 0
    row_loss: float = 0.0
    row_steps: int = 0


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """All that is needed to go on. ``settings``: as `Settings.as_dict` gives them.

    ``state``: of the Step. ``best``: the best epoch so far and its weights.
    ``kept``: weights of chosen epochs.
    """

    model_hash: str
    settings: Mapping[str, Any]
    position: Position
    history: History
    watch: Watch
    state: Mapping[str, Array] = field(repr=False)
    best: tuple[int, Mapping[str, Array]] = field(repr=False)
    kept: Mapping[int, Mapping[str, Array]] = field(default_factory=dict, repr=False)

    def save(self, path: Path) -> None:
        """Write it; the file is either the new one or still the old one. Raises DataError."""
        parts = {
            "state": self.state,
            "best": self.best[1],
            **{f"kept {epoch}": weights for epoch, weights in self.kept.items()},
        }
        names = [(part, name, array.dtype.name) for part, arrays in parts.items() for name, array in arrays.items()]
        meta = {
            "onnxprune_checkpoint": FORMAT,
            "model": self.model_hash,
            "settings": self.settings,
            "position": asdict(self.position),
            "history": self.history.as_dict(),
            "watch": self.watch.as_dict(),
            "best": self.best[0],
            "kept": list(self.kept),
            "arrays": names,
        }
        arrays = {f"a{k}": _bytes(parts[part][name]) for k, (part, name, _) in enumerate(names)}
        try:
            with replacing(path) as file:
                np.savez(file, meta=np.frombuffer(json.dumps(meta).encode(), np.uint8), **arrays)  # type: ignore[arg-type]
        except OSError as error:
            reason = error.strerror or str(error)
            raise DataError(
                f"{path}: cannot write the checkpoint: {reason}", "Choose another place; the old one is unchanged."
            ) from error


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Read a checkpoint. Raises DataError for a file that is none."""
    try:
        with Path(path).open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            meta = json.loads(file["meta"].tobytes())
            if meta["onnxprune_checkpoint"] != FORMAT:
                raise ValueError("written by another version")
            parts: dict[str, dict[str, Array]] = {}
            for k, (part, name, dtype) in enumerate(meta["arrays"]):
                parts.setdefault(part, {})[name] = _typed(file[f"a{k}"], dtype)
        best = (int(meta["best"]), parts.get("best", {}))
        return Checkpoint(
            meta["model"], meta["settings"], Position(**meta["position"]), History.from_dict(meta["history"]),
            Watch.from_dict(meta["watch"]), parts.get("state", {}), best,
            {int(epoch): parts.get(f"kept {epoch}", {}) for epoch in meta["kept"]},
        )  # fmt: skip
    except UNREADABLE as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DataError(
            f"{path}: not the checkpoint of a training: {reason}", "Name a file of --checkpoint."
        ) from error


def weights_at(checkpoint: str | Path | Checkpoint, epoch: int) -> dict[str, Array]:
    """The weights after an epoch that was to be kept (``keep_epochs``); epoch 0 is before the first step.

    Raises DataError where that epoch was not kept.
    """
    found = checkpoint if isinstance(checkpoint, Checkpoint) else load_checkpoint(checkpoint)
    if epoch not in found.kept:
        there = ", ".join(map(str, found.kept)) or "none"
        raise DataError(
            f"{'the checkpoint' if found is checkpoint else checkpoint}: the weights of epoch {epoch} are not in it",
            f"Epochs in it: {there}. `--keep-epochs` names those to keep.",
        )
    return dict(found.kept[epoch])


def _bytes(array: Array) -> Array:
    """What NumPy's format holds: types that it does not know as bytes."""
    return array if array.dtype.kind in "fiub" else np.ascontiguousarray(array).view(f"u{array.dtype.itemsize}")


def _typed(array: Array, dtype: str) -> Array:
    return array if array.dtype.name == dtype else array.view(np.dtype(dtype))
