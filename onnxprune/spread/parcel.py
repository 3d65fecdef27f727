"""What tasks have in common, on its way to workers: models, datasets, and the rest.

Each travels on its own, so that a model that several works share goes to a worker once. A worker keeps what came last,
and each of its threads what it made of it (`own`).
"""

from __future__ import annotations

import itertools
import os
import pickle
import shutil
import tempfile
import threading
import weakref
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from onnxprune.data import Dataset, fit
from onnxprune.model import ArrayWeight, MappedWeight, Model
from onnxprune.runtime import TensorInfo

__all__ = [
    "KEPT",
    "REST",
    "Files",
    "Parcel",
    "Part",
    "Share",
    "Stored",
    "at_home",
    "forget",
    "opened",
    "own",
    "portable_dataset",
    "portable_model",
    "split",
]

W = TypeVar("W")
D = TypeVar("D")

# Takes what tasks have in common, gives what stands for it in a call of ``submit``; `opened` makes it whole again.
Share = Callable[[Any], Any]

REST = ""  # the part that is neither a model nor a dataset
KEPT = 4  # models and datasets that stay with the workers for the next work
_NUMBERS = itertools.count()
_LOCK = threading.Lock()
_OPENED: OrderedDict[str, Any] = OrderedDict()  # in a worker: parcels that were put together, the last few
_PARTS: OrderedDict[Part, Any] = OrderedDict()  # in a worker: models and datasets that came to it
_OWN: dict[int, tuple[Any, Any]] = {}  # in a worker: thread -> what it works on, and what it made of it


class Part(ABC):
    """What stands for a part; equal for equal parts."""

    @abstractmethod
    def load(self) -> Any:
        """The part, in a worker."""


@dataclass(frozen=True)
class Stored(Part):
    """A part in a file of this machine."""

    path: Path

    def load(self) -> Any:
        return pickle.loads(self.path.read_bytes())  # noqa: S301 - the process above this one wrote it


def split(common: Any) -> dict[str, Any]:
    """The models and datasets among the fields, by field, and under `REST` the same without them (None instead)."""
    parts = {f.name: getattr(common, f.name) for f in fields(common)}
    large = {name: value for name, value in parts.items() if isinstance(value, Model | Dataset)}
    return {REST: replace(common, **dict.fromkeys(large)), **large}


@dataclass(frozen=True, eq=False)
class Parcel:
    """What stands for a work: for each of its parts, under a ``key`` that no other parcel has."""

    parts: Mapping[str, Part]
    key: str = field(default_factory=lambda: os.urandom(16).hex())


def opened(handle: Any) -> Any:
    """In the worker: what the parcel is made of, as one again; the same object for the same parcel."""
    if not isinstance(handle, Parcel):
        return handle
    with _LOCK:
        key = handle.key
        if key not in _OPENED:
            parts = dict(handle.parts)
            rest = parts.pop(REST).load()
            _OPENED[key] = replace(rest, **{name: _kept(part) for name, part in parts.items()})
            while len(_OPENED) > 1:
                _OPENED.popitem(last=False)
        return _OPENED[key]


def _kept(part: Part) -> Any:
    """A part, which comes once."""
    if part not in _PARTS:
        _PARTS[part] = part.load()
        while len(_PARTS) > KEPT:
            _PARTS.popitem(last=False)
    _PARTS.move_to_end(part)
    return _PARTS[part]


def own(common: W, make: Callable[[W], D]) -> D:
    """In the worker: ``make(common)``, made once in each of its threads and kept until other work comes."""
    me = threading.get_ident()
    found = _OWN.get(me)
    if found is None or found[0] is not common:
        _OWN.pop(me, None)  # the old one goes before there is a new one
        found = _OWN[me] = common, make(common)
    made: D = found[1]
    return made


@contextmanager
def at_home() -> Iterator[None]:
    """Work is done in this thread: what it makes its `own` goes when it is done."""
    me = threading.get_ident()
    before = _OWN.pop(me, None)
    try:
        yield
    finally:
        _OWN.pop(me, None)
        if before is not None:
            _OWN[me] = before


def forget() -> None:
    """In a worker: let go of everything that is kept there."""
    with _LOCK:
        _OPENED.clear()
        _PARTS.clear()
        _OWN.clear()


def portable_model(model: Model) -> Model:
    """The same with all weights in memory, for workers that do not see the files of this machine."""
    mapped = {name: w for name, w in model.weights.items() if isinstance(w, MappedWeight)}
    if not mapped:
        return model
    editor = model.edit()
    for name, weight in mapped.items():
        editor.set_weight(name, ArrayWeight(np.array(weight.array()), weight.onnx_type))
    return editor.build()


def portable_dataset(dataset: Dataset, inputs: Sequence[TensorInfo] | None) -> Dataset:
    """The same with all rows in memory, prepared as a model with these inputs takes them."""
    fitted = dataset if inputs is None else fit(dataset, inputs)
    columns = {name: np.asarray(rows) for name, rows in fitted.inputs.items()}
    return replace(fitted, inputs=columns, labels=None if fitted.labels is None else np.asarray(fitted.labels))


class Files:
    """The share of processes of this machine: each part in a file, a model by its hash, a dataset as the object it is.

    A file lives as long as what stands for it, and all of them no longer than the executor that they are for.
    """

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="onnxprune-"))
        weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        self._kept: OrderedDict[object, tuple[Stored, object]] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, common: Any) -> Parcel:
        parts = split(common)
        rest = self._write(parts.pop(REST))
        with self._lock:
            return Parcel({REST: rest, **{name: self._stored(part) for name, part in parts.items()}})

    def _stored(self, part: Model | Dataset) -> Stored:
        key: object = part.hash if isinstance(part, Model) else id(part)
        if key not in self._kept:
            self._kept[key] = self._write(part), part  # held, so that no other object is given its id
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key][0]

    def _write(self, part: Any) -> Stored:
        path = self._folder / f"{next(_NUMBERS)}.pickle"
        with path.open("wb") as file:
            pickle.dump(part, file, protocol=pickle.HIGHEST_PROTOCOL)
        stored = Stored(path)
        weakref.finalize(stored, path.unlink, missing_ok=True)
        return stored

    @classmethod
    def of(cls, executor: Executor) -> Files:
        """Those of this executor."""
        with _LOCK:
            if executor not in _FILES:
                _FILES[executor] = cls()
            return _FILES[executor]


_FILES: weakref.WeakKeyDictionary[Executor, Files] = weakref.WeakKeyDictionary()
