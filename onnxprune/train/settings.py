"""Everything that decides which weights a training ends with, as one value; two of them can be compared."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.data import Dataset, Rows
from onnxprune.errors import OptionError
from onnxprune.train.schedules import Schedule

__all__ = ["BATCHNORMS", "Settings", "data_print", "differences", "masks_print"]

BATCHNORMS = ("frozen", "batch")
ROWS = 64  # samples at either end of the data that tell them apart from other data
WORDS = {
    "data": "training data", "loss": "loss", "teacher": "teacher", "optimizer": "optimizer",
    "rate": "learning rate", "schedule": "schedule", "batch": "batch size", "epochs": "number of epochs",
    "seed": "seed", "augment": "augmentation", "freeze": "frozen weights", "masks": "zeros that are kept",
    "batchnorm": "treatment of BatchNorm", "clip": "clipping of gradients", "metric": "metric of the best epoch",
}  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """The settings of a training, data and teacher included by their fingerprints. Raises OptionError."""

    data: str
    loss: str
    optimizer: Mapping[str, Any]
    rate: float
    schedule: Schedule
    batch: int
    epochs: int
    seed: int
    teacher: str = ""
    augment: str = ""
    freeze: tuple[str, ...] = ()
    masks: str = ""
    batchnorm: str = BATCHNORMS[0]
    clip: float | None = None
    metric: str = field(default="")

    def __post_init__(self) -> None:
        if not 0 < self.rate < np.inf:
            raise OptionError(f"learning rate: got {self.rate}, expected more than 0", "For example 0.001.")
        if self.batchnorm not in BATCHNORMS:
            raise OptionError(
                f"batchnorm: got {self.batchnorm!r}, expected {' or '.join(BATCHNORMS)}",
                "frozen: with its statistics as they are; batch: with those of each batch, which also renew them.",
            )
        if self.clip is not None and not 0 < self.clip < np.inf:
            raise OptionError(
                f"clip: got {self.clip}, expected a norm above 0", "For example 1; leave it out for none."
            )
        if self.seed < 0:
            raise OptionError(f"seed: got {self.seed}, expected 0 or more", "For example 0.")

    def as_dict(self) -> dict[str, Any]:
        """For JSON. A number of epochs that changes nothing but the end is left out."""
        result: dict[str, Any] = {name: getattr(self, name) for name in WORDS}
        result |= {"optimizer": dict(self.optimizer), "schedule": str(self.schedule), "freeze": list(self.freeze)}
        if not self.schedule.depends_on_total:
            del result["epochs"]
        plain: dict[str, Any] = json.loads(json.dumps(result))
        return plain


def differences(now: Mapping[str, Any], then: Mapping[str, Any]) -> Iterator[str]:
    """What differs, in words: "learning rate (0.01, was 0.001)"; fingerprints are not shown."""
    for name, words in WORDS.items():
        new, old = now.get(name), then.get(name)
        if isinstance(new, Mapping) and isinstance(old, Mapping):
            keys = [key for key in {**old, **new} if new.get(key) != old.get(key)]
            new, old = ({key: each[key] for key in keys if key in each} for each in (new, old))
        if new != old:
            hidden = name in {"data", "teacher", "masks"}
            yield words if hidden else f"{words} ({_shown(new)}, was {_shown(old)})"


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return " ".join(f"{key}={item}" for key, item in value.items())
    return "none" if value in (None, "", []) else str(value)


def data_print(dataset: Dataset) -> str:
    """Hexadecimal: shapes, types, and the samples at both ends of a dataset."""
    digest = hashlib.sha256()
    for name, rows in dataset.columns():
        digest.update(f"{name} {tuple(rows.shape)} {rows.dtype}".encode())
        for part in _ends(rows):
            digest.update(np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()[:16]


def _ends(rows: Rows) -> Iterator[NDArray[Any]]:
    yield np.asarray(rows[:ROWS])
    yield np.asarray(rows[max(len(rows) - ROWS, 0) :])


def masks_print(masks: Mapping[str, NDArray[np.bool_]]) -> str:
    """Hexadecimal; "" where there are none."""
    digest = hashlib.sha256()
    for name in sorted(masks):
        digest.update(name.encode() + np.packbits(masks[name]).tobytes())
    return digest.hexdigest()[:16] if masks else ""
