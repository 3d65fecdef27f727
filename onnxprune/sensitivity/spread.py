"""Portions over the workers of an executor.

What all portions have in common goes to each worker once: as a file for processes of this machine, or in the way that a
cluster has for it (``share``). A worker, that is a thread of a process, keeps its desk from one portion to the next;
since portions are handed out in the order of the model, its frontier moves forwards.
"""

from __future__ import annotations

import pickle
import tempfile
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np

from onnxprune.data import Dataset, fit
from onnxprune.errors import OptionError
from onnxprune.model import ArrayWeight, MappedWeight, Model
from onnxprune.runtime import model_inputs
from onnxprune.sensitivity.desk import Desk, Portion, Work
from onnxprune.sensitivity.table import Failure, Row

__all__ = ["Share", "Shared", "handed", "portable", "spread"]


class Portable(Protocol):
    """What workers have in common: a frozen dataclass."""

    @property
    def model(self) -> Model: ...
    @property
    def dataset(self) -> Dataset: ...


W = TypeVar("W", bound=Portable)

# Takes the work, gives what stands for it in a call of ``submit``; the worker gets the work itself.
Share = Callable[[Any], Any]

_MINE = threading.local()


@dataclass(frozen=True)
class Shared:
    """Work in a file of this machine."""

    path: Path

    def load(self) -> Any:
        """The work, in a worker."""
        return pickle.loads(self.path.read_bytes())  # noqa: S301 - this process, or the one above it, wrote it


def spread(
    work: Work, portions: Sequence[Portion], executor: Executor, share: Share | None = None
) -> Generator[Row | Failure]:
    """Rows as portions are finished. What has not begun is cancelled when the caller stops listening."""
    with handed(work, share) as handle:
        futures = [executor.submit(_measure, handle, portion) for portion in portions]
        try:
            for future in as_completed(futures):
                yield from future.result()
        except BrokenExecutor as error:
            raise OptionError(
                f"a worker ended without an answer: {error}",
                "It may have run out of memory: take fewer workers or samples. What was finished is kept, if anywhere.",
            ) from error
        finally:
            for future in futures:
                future.cancel()


def portable(work: W) -> W:
    """The same with everything in memory, for workers that do not see the files of this machine."""
    editor = work.model.edit()
    for name, weight in work.model.weights.items():
        if isinstance(weight, MappedWeight):
            editor.set_weight(name, ArrayWeight(np.array(weight.array()), weight.onnx_type))
    fitted = fit(work.dataset, model_inputs(work.model))
    inputs = {name: np.asarray(rows) for name, rows in fitted.inputs.items()}
    labels = None if fitted.labels is None else np.asarray(fitted.labels)
    dataset = replace(fitted, inputs=inputs, labels=labels)
    return replace(work, model=editor.build(), dataset=dataset)  # type: ignore[type-var]


@contextmanager
def handed(work: Any, share: Share | None) -> Iterator[Any]:
    """What stands for the work in a call of ``submit``: what ``share`` makes of it, or a file (`Shared`)."""
    if share is not None:
        yield share(work)
        return
    with tempfile.TemporaryDirectory(prefix="onnxprune-") as folder:
        path = Path(folder, "work.pickle")
        with path.open("wb") as file:
            pickle.dump(work, file, protocol=pickle.HIGHEST_PROTOCOL)
        yield Shared(path)


def _measure(handle: Shared | Work, portion: Portion) -> list[Row | Failure]:
    """In the worker."""
    return list(_desk(handle).measure(portion))


def _desk(handle: Shared | Work) -> Desk:
    """The desk that this worker has for this work."""
    key = str(handle.path) if isinstance(handle, Shared) else handle.key
    if getattr(_MINE, "key", None) != key:
        _MINE.desk = Desk(handle.load() if isinstance(handle, Shared) else handle)
        _MINE.key = key
    desk: Desk = _MINE.desk
    return desk
