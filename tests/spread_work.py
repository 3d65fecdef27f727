"""Tasks for the tests of spreading: a worker that takes them has little to import."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import Any

from onnxprune.data import Dataset
from onnxprune.errors import DataError
from onnxprune.model import MappedWeight, Model
from onnxprune.spread import cluster, own
from onnxprune.spread import parcel as parcels


@dataclass(frozen=True, eq=False)
class Common:
    """What the tasks here have in common."""

    model: Model | None = None
    dataset: Dataset | None = None
    factor: int = 3


def times(common: Common, task: int) -> int:
    return common.factor * task


def weights(common: Common, task: int) -> tuple[int, int, int]:
    assert common.model is not None
    assert common.dataset is not None
    return task, common.model.nbytes, len(common.dataset)


def refuse(_: Common, task: int) -> int:
    raise DataError(f"row {task}", "Leave it out.")


def die(_: Common, __: int) -> int:
    os._exit(3)


def desk(common: Common, _: int) -> int:
    return id(own(common, lambda c: [c.factor]))


def times_own(common: Common, task: int) -> int:
    return own(common, lambda c: c.factor) * task


def slow(common: Common, task: int) -> tuple[int, int]:
    time.sleep(0.1)
    return common.factor * task, os.getpid()


ARRIVED: list[str] = []  # in a worker


def count_arrivals() -> None:
    """Have the worker count what comes to it."""
    load = cluster.Remote.load

    def counting(self: cluster.Remote) -> Any:
        ARRIVED.append(self.key)
        return load(self)

    cluster.Remote.load = counting  # type: ignore[method-assign]


def arrived() -> list[str]:
    return ARRIVED


def mapped() -> list[bool]:
    """Whether weights of the models that a worker has are in a file."""
    models = [part for part in parcels._PARTS.values() if isinstance(part, Model)]
    return [any(isinstance(weight, MappedWeight) for weight in model.weights.values()) for model in models]
