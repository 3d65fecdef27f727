"""Chosen rows of a dataset, as the model takes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.data import Dataset, batches, fit
from onnxprune.errors import OptionError
from onnxprune.model import Model
from onnxprune.runtime import model_inputs

__all__ = ["chosen_rows", "feeds_of", "fitted", "labels_of", "rows_of_class"]

Array = NDArray[Any]
SIZE = 64


def chosen_rows(data: Dataset | Mapping[str, Array], rows: Sequence[int] | None) -> tuple[int, ...]:
    """The numbers, all of them by default. Raises OptionError for one that is not there."""
    total = len(data) if isinstance(data, Dataset) else len(np.asarray(next(iter(data.values()))))
    if rows is None:
        return tuple(range(total))
    bad = next((row for row in rows if not 0 <= row < total), None)
    if bad is not None or not len(rows):
        name = data.name if isinstance(data, Dataset) else "the data"
        told = "no instance is asked for" if bad is None else f"there is no instance {bad}"
        raise OptionError(f"{name}: {told}; it holds {total}, 0 to {total - 1}", "Choose among them.")
    return tuple(int(row) for row in rows)


def fitted(model: Model, data: Dataset | Mapping[str, Array], rows: Sequence[int]) -> Dataset:
    """The samples of these numbers under the model's input names. Raises DataError where they do not fit."""
    dataset = data if isinstance(data, Dataset) else Dataset({name: np.asarray(a) for name, a in data.items()})
    return fit(dataset, model_inputs(model)).select(np.asarray(rows, np.int64))


def feeds_of(dataset: Dataset) -> dict[str, Array]:
    """All samples in memory, without padding."""
    parts: dict[str, list[Array]] = {}
    for batch in batches(dataset, SIZE):
        for name, array in batch.feeds.items():
            parts.setdefault(name, []).append(array[: batch.count])
    return {name: np.concatenate(found) for name, found in parts.items()}


def labels_of(data: Dataset, rows: Sequence[int]) -> NDArray[np.int64]:
    """The classes of these samples. Raises OptionError where the labels are no class numbers."""
    if data.labels is None or np.dtype(data.labels.dtype).kind not in "iub" or len(data.labels.shape) != 1:
        raise OptionError(f"{data.name}: there is no class number for each sample", "Choose instances by number.")
    return np.asarray(data.labels[np.asarray(rows, np.int64)]).astype(np.int64)


def rows_of_class(data: Dataset, cls: int, most: int) -> tuple[int, ...]:
    """The first samples of a class. Raises OptionError where there is none."""
    labels = labels_of(data, range(len(data)))
    found = np.flatnonzero(labels == cls)
    if not found.size:
        known = ", ".join(str(label) for label in np.unique(labels)[:20])
        raise OptionError(f"{data.name}: no sample of class {cls}; there are {known}", "Choose one of these.")
    return tuple(int(row) for row in found[:most])
