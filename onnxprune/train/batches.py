"""The samples of an epoch in their order, batch by batch, augmented; all drawn from a seed, so that any can be redone.

An epoch's batches are equally large but for one sample, never larger than asked: a last batch of three samples would
make BatchNorm's statistics worthless. A model with a fixed batch gets that many, the last one filled up.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.data import Batch, Dataset, batches, check_finite
from onnxprune.errors import DataError, OptionError
from onnxprune.values import Ints

__all__ = ["Augment", "Feeder"]

Array = NDArray[Any]
Feeds = Mapping[str, Array]

# What a user's function does to a batch: inputs by name, labels (or None), a seeded generator.
Augment = Callable[[dict[str, Array], Array | None, np.random.Generator], tuple[Feeds, Array | None]]
ORDER, MOVES = 0, 1  # streams of random numbers that must not be the same


class Feeder:
    """Batches of a dataset that was held against the model (`data.fit`).

    ``size``: samples at a time. ``seed``: of the order and of what ``augment`` draws. Raises OptionError.
    """

    def __init__(self, dataset: Dataset, size: int, seed: int, augment: Augment | None = None) -> None:
        if size < 1:
            raise OptionError(f"batch: got {size}, expected at least 1 sample", "For example 64.")
        self.dataset, self.seed, self.augment = dataset, seed, augment
        self.size = dataset.fixed or min(size, len(dataset))

    def __len__(self) -> int:
        """Batches of an epoch."""
        return math.ceil(len(self.dataset) / self.size)

    def order(self, epoch: int) -> list[Ints]:
        """The row numbers of every batch."""
        rows = np.random.default_rng([self.seed, ORDER, epoch]).permutation(len(self.dataset))
        if self.dataset.fixed:
            return np.split(rows, range(self.size, len(rows), self.size))
        return np.array_split(rows, len(self))

    def batch(self, rows: Ints, epoch: int, number: int) -> Batch:
        """Batch ``number`` of an epoch. Raises DataError for NaN in it, and for what ``augment`` does wrong."""
        part = self.dataset.select(rows)
        try:
            batch = next(batches(part, len(rows)))
        except DataError:
            check_finite(part)  # says the same with the numbers of the rows alone
            raise
        if self.augment is None:
            return batch
        return _augmented(batch, self.augment, np.random.default_rng([self.seed, MOVES, epoch, number]))


def _augmented(batch: Batch, augment: Augment, rng: np.random.Generator) -> Batch:
    given = {name: np.array(array[: batch.count]) for name, array in batch.feeds.items()}
    labels = None if batch.labels is None else np.array(batch.labels)
    try:
        feeds, labels = augment(given, labels, rng)
        feeds = {name: np.asarray(array) for name, array in feeds.items()}
        labels = None if labels is None else np.asarray(labels)
    except Exception as error:
        raise DataError(
            f"the augmentation failed: {type(error).__name__}: {error}",
            "It is called with (feeds, labels, rng) and returns (feeds, labels).",
        ) from error
    for name, array in batch.feeds.items():
        _check_same(f"input `{name}`", array[: batch.count], feeds.get(name))
    if batch.labels is not None:
        _check_same("labels", batch.labels, labels)
    return replace(
        batch, feeds={name: _filled(feeds[name], array) for name, array in batch.feeds.items()}, labels=labels
    )


def _check_same(what: str, before: Array, after: Array | None) -> None:
    if after is None or (after.shape, after.dtype) != (before.shape, before.dtype):
        got = "nothing" if after is None else f"{after.dtype.name} {after.shape}"
        raise DataError(
            f"the augmentation returned {got} for the {what}, expected {before.dtype.name} {before.shape}",
            "It must keep shapes and types; x.astype(...) at its end helps.",
        )


def _filled(array: Array, before: Array) -> Array:
    """In C order; what only fills up a fixed batch as it was."""
    return np.ascontiguousarray(np.concatenate([array, before[len(array) :]]))
