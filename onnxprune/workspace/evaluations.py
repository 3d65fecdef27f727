"""The documents of a step as values, read piece by piece, because those of 1,000 classes are large.

An evaluation of 1,000 classes was 50 MB of JSON before curves were their corners and the empty cells of a matrix were
left out, and such documents stay in workspaces. So the parts are found by the names that `Evaluation.as_dict` gives
them, in that order, and only what is asked for is parsed. (A name in quotes cannot occur within a text, where JSON
writes quotes with a backslash.)

Documents never change, so that whoever asks often may keep what was read: ``keep(key, make)`` returns what it has for
the key, or makes it; by default everything is read anew.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from onnxprune.errors import StoreDamaged
from onnxprune.evaluate import Curve
from onnxprune.evaluate.tally import unpacked
from onnxprune.train import History
from onnxprune.workspace.recording import predictions_of
from onnxprune.workspace.workspace import Workspace

__all__ = ["Documents", "Head", "Keep", "anew", "mean_curve"]

T = TypeVar("T")
Arrays = Mapping[str, NDArray[Any]]
PARTS = (b',"confusion":', b',"curves":', b',"notes":')  # what an evaluation holds behind its metrics and classes
CURVE = b'{"name":'
GRID = 201  # recalls at which curves are averaged


class Keep(Protocol):
    """Returns what it has for the key, or what ``make`` makes."""

    def __call__(self, key: Hashable, make: Callable[[], T], /) -> T: ...


def anew(key: Hashable, make: Callable[[], T], /) -> T:  # noqa: ARG001 - one signature
    """Keeps nothing."""
    return make()


@dataclass(frozen=True)
class Head:
    """An evaluation without its matrix and curves.

    ``classes``: for each class index, name, support and its metrics, None for what is not defined; in the order of
    their indices. ``curves``: whether there are any.
    """

    task: str
    samples: int
    classes: tuple[Mapping[str, Any], ...]
    notes: tuple[str, ...]
    curves: bool

    @property
    def names(self) -> tuple[str, ...]:
        """The classes' names."""
        return tuple(entry["name"] for entry in self.classes)


class Documents:
    """What was measured of the steps of a workspace. All raise StepNotFound and StoreDamaged; None: there is none."""

    def __init__(self, workspace: Workspace, keep: Keep = anew) -> None:
        self.workspace, self.keep = workspace, keep
        self._names: dict[int, Mapping[str, str]] = {}

    def names(self, number: int) -> Mapping[str, str]:
        """Document -> blob, as they were when they were asked for first."""
        if number not in self._names:
            self._names[number] = self.workspace.steps.documents(number)
        return self._names[number]

    def head(self, number: int) -> Head | None:
        """Task, classes and notes of an evaluation."""
        return self._read(number, "evaluation", "head", _head)

    def curve(self, number: int, index: int) -> Curve | None:
        """The precision-recall curve of a class."""
        return self._read(number, "evaluation", ("curve", index), lambda text: _curve(text, index))

    def mean_curve(self, number: int, *, weighted: bool = False) -> Curve | None:
        """The mean of the classes' curves, see `mean_curve`."""

        def make(text: bytes) -> Curve | None:
            classes = _json(text[: _starts(text)[0]] + b"}")["classes"]
            return mean_curve(_curves(text), [entry["support"] for entry in classes] if weighted else None)

        return self._read(number, "evaluation", ("mean curve", weighted), make)

    def predictions(self, number: int) -> Arrays | None:
        """``labels``, ``predictions``, ``right`` of each sample, those that there are."""
        blob = self.names(number).get("predictions")
        if blob is None:
            return None

        def make() -> Arrays:
            with self.workspace.marking(self.workspace.steps.get(number)):
                found = predictions_of(self.workspace.blobs, blob)
            if "labels" in found:  # all steps of a tree have the same, which is kept once
                labels = found["labels"]
                found["labels"] = self.keep(("labels", hashlib.sha256(labels.tobytes()).digest()), lambda: labels)
            return found

        return self.keep(("predictions", blob), make)

    def history(self, number: int) -> History | None:
        """The training that made a step."""
        return self._read(number, "history", "history", lambda text: History.from_dict(json.loads(text)))

    def confusion(self, number: int) -> NDArray[np.int64] | None:
        """``[i, j]``: labels of class i taken for class j; None for tasks without classes, or with too many."""
        head = self.head(number)
        if head is None or not head.classes:
            return None
        arrays, size = self.predictions(number) or {}, len(head.classes)
        if "labels" not in arrays or "predictions" not in arrays:
            return self._read(number, "evaluation", "confusion", _confusion)
        known = arrays["labels"] >= 0
        places = arrays["labels"][known].astype(np.int64) * size + arrays["predictions"][known]
        return np.bincount(places, minlength=size * size).reshape(size, size)

    def cell(self, number: int, label: int, prediction: int) -> tuple[int, int] | None:
        """How many labels of a class were taken for another one, and how many there are."""
        arrays = self.predictions(number) or {}
        if "labels" in arrays and "predictions" in arrays:
            own = arrays["labels"] == label
            return int(np.count_nonzero(own & (arrays["predictions"] == prediction))), int(np.count_nonzero(own))
        confusion = self.confusion(number)
        if confusion is None or max(label, prediction) >= len(confusion):
            return None
        return int(confusion[label, prediction]), int(confusion[label].sum())

    def _read(self, number: int, name: str, what: Hashable, make: Callable[[bytes], T]) -> T | None:
        blob = self.names(number).get(name)
        if blob is None:
            return None

        def read() -> T:
            text = self.workspace.document(number, name)
            try:
                return make(text or b"")
            except (ValueError, KeyError, TypeError, IndexError) as error:
                path = self.workspace.blobs.path(blob)
                raise StoreDamaged(f"{path} holds no {name}: {error}", "Measure the step again.") from error

        return self.keep((what, blob), read)


def mean_curve(curves: Sequence[Curve], weights: Sequence[float] | None = None) -> Curve | None:
    """The mean precision of classes at equal recall: sum w_c max_{r' >= r} P_c(r') / sum w_c at ``GRID`` recalls.

    Every class counts alike, or by ``weights`` (its support). Classes without a curve are left out; None where none
    has one. The average precision is the mean of the classes'.
    """
    there = [i for i, curve in enumerate(curves) if curve.recall.size]
    if not there:
        return None
    recall = np.linspace(0, 1, GRID)
    shares = np.array([1 if weights is None else weights[i] for i in there], np.float64)
    shares /= shares.sum()
    precision = np.zeros(GRID)
    for share, i in zip(shares, there, strict=True):
        curve = curves[i]  # its recall falls, so that the best precision at that recall or more comes before
        best = np.maximum.accumulate(curve.precision)
        places = np.searchsorted(-curve.recall, -recall, side="right") - 1
        precision += share * best[np.maximum(places, 0)]
    average = float(sum(s * curves[i].average_precision for s, i in zip(shares, there, strict=True)))
    points = precision[::-1].astype(np.float32), recall[::-1].astype(np.float32)
    exact = all(curves[i].exact for i in there)
    name = "mean over classes" if weights is None else "mean over classes, weighted by support"
    return Curve(name, *points, np.zeros(0, np.float32), average, exact)


def _starts(text: bytes) -> list[int]:
    """Where the parts begin, each behind the one before it."""
    found, place = [], 0
    for name in PARTS:
        place = text.index(name, place)
        found.append(place)
    return found


def _json(text: bytes) -> Any:
    return json.loads(text)


def _head(text: bytes) -> Head:
    confusion, curves, notes = _starts(text)
    found = _json(text[:confusion] + b"}")
    classes = tuple(sorted(found["classes"], key=lambda entry: int(entry["index"])))
    told = _json(b"{" + text[notes + 1 :])["notes"]
    there = text[curves + len(PARTS[1]) : notes] != b"[]"
    return Head(found["task"], found["samples"], classes, tuple(told), there)


def _confusion(text: bytes) -> NDArray[np.int64] | None:
    confusion, curves, _ = _starts(text)
    found = _json(text[confusion + len(PARTS[0]) : curves])
    if isinstance(found, dict):
        places, counts = (np.asarray(found[name], np.int64) for name in ("places", "counts"))
        return unpacked((tuple(found["shape"]), places, counts))
    return None if found is None else np.asarray(found, np.int64)


def _curve(text: bytes, index: int) -> Curve | None:
    """One of many, without parsing the others."""
    _, curves, notes = _starts(text)
    place = curves
    for _ in range(index + 1):
        place = text.find(CURVE, place + 1, notes)
        if place < 0:
            return None
    end = text.find(CURVE, place + 1, notes)
    return _made(_json(text[place : end - 1] if end > 0 else text[place : notes - 1]))


def _curves(text: bytes) -> list[Curve]:
    _, curves, notes = _starts(text)
    return [_made(entry) for entry in _json(text[curves + len(PARTS[1]) : notes])]


def _made(entry: Mapping[str, Any]) -> Curve:
    precision, recall, thresholds = (
        np.asarray(entry[name], np.float32) for name in ("precision", "recall", "thresholds")
    )
    average = math.nan if entry["average_precision"] is None else float(entry["average_precision"])
    return Curve(entry["name"], precision, recall, thresholds, average, bool(entry["exact"]))
