"""The folder of a schedule: one model and one plan for each finished round, and the rounds as JSON.

``schedule.json`` names a round once its files are whole on the disk; whatever is interrupted loses at most the round
under way, and of that no more than since the last checkpoint of its training.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from onnxprune._atomic import replacing
from onnxprune.errors import DataError, OptionError
from onnxprune.evaluate import Metric
from onnxprune.model import Model, load, save
from onnxprune.plan import Plan

__all__ = ["Journal", "Round"]

FORMAT = 1
FILE = "schedule.json"


@dataclass(frozen=True)
class Round:
    """One finished round; number 0 is the model at the start.

    ``asked`` and ``reached``: share that is gone of the original. ``before`` and ``after``: metrics around the
    training. ``epochs`` of training, the best being ``best_epoch``; ``stopped``: why it ended. ``held``: the floors
    hold. ``parameters``: of the model, ``nonzero`` of them not zero; ``seconds`` for everything.
    ``proof_error``: by which the removed model differs from the masked one, None where nothing was removed.
    """

    number: int
    asked: float
    reached: float
    parameters: int
    nonzero: int
    macs: int
    before: tuple[Metric, ...] = ()
    after: tuple[Metric, ...] = ()
    epochs: int = 0
    best_epoch: int = 0
    stopped: str = ""
    seconds: float = 0.0
    held: bool = True
    proof_error: float | None = None

    def metric(self, name: str) -> Metric | None:
        """A metric after the training."""
        return next((metric for metric in self.after if metric.name == name), None)


@dataclass(frozen=True, eq=False)
class Journal:
    """``folder``: None keeps nothing. ``settings``: what must be the same to go on."""

    folder: Path | None
    model_hash: str
    settings: Mapping[str, Any]
    rounds: tuple[Round, ...] = field(default=())

    @classmethod
    def open(cls, folder: Path | None, model_hash: str, settings: Mapping[str, Any], *, resume: bool) -> Journal:
        """A new one, or the one that is there with ``resume``. Raises OptionError and DataError."""
        if folder is None:
            if resume:
                raise OptionError("resume, but no folder is named", "Name the folder of the schedule.")
            return cls(None, model_hash, settings)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / FILE
        if not path.exists():
            return cls(folder, model_hash, settings)
        if not resume:
            raise OptionError(f"{path} is there already", "Go on from it with --resume, or name another folder.")
        found = _read(path)
        if found["model"] != model_hash:
            raise DataError(f"{path}: a schedule of another model", "Name the model that it was made for.")
        wanted = json.loads(json.dumps(dict(settings)))
        different = [name for name in wanted if wanted[name] != found["settings"].get(name)]
        if different:
            told = ", ".join(f"{n} ({wanted[n]}, was {found['settings'].get(n)})" for n in different)
            raise OptionError(f"{path}: a schedule with other settings: {told}", "Use the same, or another folder.")
        return cls(folder, model_hash, settings, tuple(_round(row) for row in found["rounds"]))

    def path(self, name: str) -> Path | None:
        """A file of the folder."""
        return None if self.folder is None else self.folder / name

    def model(self, number: int) -> Model:
        """The model of a finished round, as it was written."""
        return load(self._file(number, "onnx"))

    def plan(self, number: int) -> Plan:
        """What was gone of the original after a finished round."""
        return Plan.load(self._file(number, "plan.json"))

    def _file(self, number: int, ending: str) -> Path:
        if self.folder is None:
            raise OptionError("this schedule keeps no files", "Name a folder for them.")
        return self.folder / f"round-{number:02d}.{ending}"

    def with_round(self, row: Round, model: Model, plan: Plan) -> Journal:
        """The journal with one more round, all of it on the disk."""
        done = Journal(self.folder, self.model_hash, self.settings, (*self.rounds, row))
        if self.folder is not None:
            save(model, self._file(row.number, "onnx"))
            plan.save(self._file(row.number, "plan.json"))
            done.write()
        return done

    def write(self) -> None:
        """Write ``schedule.json``. Raises DataError."""
        path = self.path(FILE)
        if path is None:
            return
        document = {
            "onnxprune_schedule": FORMAT,
            "model": self.model_hash,
            "settings": dict(self.settings),
            "rounds": [_plain(asdict(row)) for row in self.rounds],
        }
        try:
            with replacing(path) as file:
                file.write(json.dumps(document, indent=1, allow_nan=False).encode())
        except OSError as error:
            raise DataError(f"{path}: cannot be written: {error.strerror or error}", "Check the free space.") from error


def _read(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if found["onnxprune_schedule"] != FORMAT:
            raise ValueError("written by another version")
        _ = found["model"], found["settings"], [_round(row) for row in found["rounds"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: not a schedule: {error}", "Name another folder.") from error
    return found


def _round(row: Mapping[str, Any]) -> Round:
    metrics = {name: tuple(_metric(m) for m in row[name]) for name in ("before", "after")}
    return Round(**{**row, **metrics})


def _metric(content: Mapping[str, Any]) -> Metric:
    return Metric(**{**content, "value": math.nan if content["value"] is None else content["value"]})


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
