"""A dataset: one column per model input, samples along axis 0, with or without labels, read in batches.

Only the rows of one batch are in memory at a time, whatever the columns are made from (:mod:`onnxprune.data.rows`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import ArrayLike

from onnxprune.data.prepare import Preprocess, is_float
from onnxprune.data.rows import Array, Ints, Rows, kind, source_rows, taken
from onnxprune.data.subsets import are_classes, rows_of, stratified
from onnxprune.errors import DataError, OptionError

__all__ = ["LAYOUT", "Batch", "Dataset", "batches", "check_finite"]

LAYOUT = "A dataset has `x` and `y`, or `x_train`, `y_train`, `x_test`, `y_test`, or the model's input names."
SHOWN = 5  # row numbers in a message
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, eq=False)
class Batch:
    """Some samples: ``feeds`` by model input, ``labels`` of the first ``count`` rows; rows after those are padding."""

    feeds: Mapping[str, Array]
    labels: Array | None
    count: int


@dataclass(frozen=True, eq=False)
class Dataset:
    """``inputs``: name -> (samples, ...); ``labels``: (samples, ...) or None; ``name`` is for messages.

    ``prepare``: what :func:`~onnxprune.data.fit` does to an input, "" for those not named. ``allow_nan``: for models
    that take missing values. ``fixed``: the batch size that the model insists on. Raises DataError when there are no
    samples, or when the columns do not have equally many.
    """

    inputs: Mapping[str, Rows]
    labels: Rows | None = None
    class_names: tuple[str, ...] = ()
    name: str = "the dataset"
    prepare: Mapping[str, Preprocess] = field(default_factory=dict)
    allow_nan: bool = False
    fixed: int | None = None

    def __post_init__(self) -> None:
        if not self.inputs:
            raise DataError(f"{self.name}: no samples in it", LAYOUT)
        counts = {key: _count(self.name, key, rows) for key, rows in self.columns()}
        if len(set(counts.values())) > 1:
            raise DataError(
                f"{self.name}: the arrays have different numbers of samples: {_pairs(counts)}",
                "Axis 0 counts the samples and must be equally long in all of them.",
            )
        if 0 in counts.values():
            raise DataError(f"{self.name}: it holds 0 samples", "Axis 0 counts the samples.")

    def __len__(self) -> int:
        return int(next(iter(self.inputs.values())).shape[0])

    def select(self, rows: ArrayLike) -> Dataset:
        """The samples of these numbers, in this order; nothing is read yet. Raises OptionError where one is absent."""
        try:
            inputs = {key: taken(column, np.asarray(rows)) for key, column in self.inputs.items()}
            labels = None if self.labels is None else taken(self.labels, np.asarray(rows))
        except IndexError as error:
            raise OptionError(f"{self.name}: {error}", f"Its samples are 0 to {len(self) - 1}.") from error
        return replace(self, inputs=inputs, labels=labels)

    def subset(self, limit: int, seed: int = 0) -> Dataset:
        """At most ``limit`` samples drawn without replacement, in their order, as for calibration.

        Where the labels are classes, each class has its share, and at least one sample if there is room for all.
        Raises OptionError for a limit below 1.
        """
        if limit < 1:
            raise OptionError(f"limit: got {limit}, expected at least 1 sample", "Leave it out for all samples.")
        if limit >= len(self):
            return self
        rng = np.random.default_rng(seed)
        if self.labels is not None and are_classes(self.labels):
            rows = stratified(self.labels, limit, rng)
        else:
            rows = np.sort(rng.choice(len(self), limit, replace=False, shuffle=False))
        part = self.select(rows)
        return replace(part, name=f"{self.name}, {limit} of {len(self)} samples")

    def of_classes(self, classes: Sequence[str | int]) -> Dataset:
        """The samples of these classes, by name or number, in their order: on them one sees what matters for a class.

        Raises DataError where the labels are no classes, OptionError for a class that no sample has.
        """
        if self.labels is None or not are_classes(self.labels):
            raise DataError(
                f"{self.name}: there is not one class for each sample", "Samples of a class are found by its label."
            )
        numbers = {one: self._class_number(one) for one in classes}
        for one, number in numbers.items():
            if not len(rows_of(self.labels, (number,))):
                raise OptionError(f"{self.name}: no sample is of class {one!r}", "Name a class that is in the data.")
        part = self.select(rows_of(self.labels, tuple(numbers.values())))
        names = ", ".join(str(one) for one in numbers)
        return replace(part, name=f"{self.name}, {len(part)} of {len(self)} samples: class {names}")

    def _class_number(self, one: str | int) -> int:
        """The number of a class that is given by its name, or by its number."""
        if str(one) in self.class_names:
            return self.class_names.index(str(one))
        try:
            return int(one)
        except ValueError:
            known = ", ".join(self.class_names[:SHOWN]) + (", ..." if len(self.class_names) > SHOWN else "")
            raise OptionError(
                f"{self.name}: there is no class {one!r}", f"Classes: {known}." if known else "Give its number."
            ) from None

    def head(self, count: int) -> dict[str, Array]:
        """The first ``count`` samples of each input (fewer where there are no more), as arrays."""
        return {name: np.asarray(rows[:count]) for name, rows in self.inputs.items()}

    def columns(self) -> Iterator[tuple[str, Rows]]:
        """All columns by name, the labels as ``y``."""
        yield from self.inputs.items()
        if self.labels is not None:
            yield "y", self.labels


def batches(
    dataset: Dataset, size: int = 64, limit: int | None = None, *, finite: bool = True, start: int = 0
) -> Iterator[Batch]:
    """Samples in their order, ``size`` at a time, at most the first ``limit`` of them, those before ``start`` left out.

    A model with a fixed batch gets that many, the last batch filled up with copies of its last sample. Raises DataError
    with row numbers for NaN or Inf, unless ``finite`` is False or the dataset allows them.
    """
    if size < 1:
        raise OptionError(f"batch size: got {size}, expected at least 1 sample", "Leave it out for 64.")
    size = dataset.fixed or size
    total = len(dataset) if limit is None else min(limit, len(dataset))
    for first in range(start, total, size):
        rows = slice(first, min(first + size, total))
        inputs = {name: np.asarray(column[rows]) for name, column in dataset.inputs.items()}
        labels = None if dataset.labels is None else np.asarray(dataset.labels[rows])
        if finite and not dataset.allow_nan:
            _check_batch(dataset, inputs if labels is None else {**inputs, "y": labels}, first)
        count = rows.stop - rows.start
        missing = size - count if dataset.fixed else 0
        yield Batch({name: _filled_up(array, missing) for name, array in inputs.items()}, labels, count)


def check_finite(dataset: Dataset, progress: Progress | None = None) -> None:
    """One pass over the dataset. Raises DataError with the numbers of the rows that hold NaN or Inf."""
    bad: dict[str, list[Ints]] = {}
    done = 0
    for batch in batches(dataset, finite=False):
        arrays = {name: array[: batch.count] for name, array in batch.feeds.items()}
        for name, rows in _broken_rows(arrays if batch.labels is None else {**arrays, "y": batch.labels}):
            bad.setdefault(name, []).append(rows + done)
        done += batch.count
        if progress:
            progress("looking for NaN", done, len(dataset))
    for name, found in bad.items():
        raise _not_finite(dataset, name, np.concatenate(found), "")


def _check_batch(dataset: Dataset, arrays: Mapping[str, Array], start: int) -> None:
    for name, rows in _broken_rows(arrays):
        raise _not_finite(dataset, name, rows + start, f" of the {len(arrays[name])} from row {start} on")


def _broken_rows(arrays: Mapping[str, Array]) -> Iterator[tuple[str, Ints]]:
    """Name and row numbers of what holds NaN or Inf."""
    for name, array in arrays.items():
        if is_float(array.dtype) and not np.isfinite(array).all():
            yield name, np.flatnonzero(~np.isfinite(array).reshape(len(array), -1).all(axis=1))


def _not_finite(dataset: Dataset, name: str, rows: Ints, of: str) -> DataError:
    column = dict(dataset.columns())[name]
    numbers = source_rows(column, rows)
    listed = ", ".join(str(n) for n in numbers[:SHOWN]) + (", ..." if len(numbers) > SHOWN else "")
    return DataError(
        f"{dataset.name}: `{name}` holds NaN or Inf in {len(rows)} rows{of}: {listed}",
        "Take these rows out. For a model that takes missing values put allow_nan = true into dataset.toml.",
    )


def _filled_up(array: Array, missing: int) -> Array:
    """In C order and aligned, as onnxruntime wants it, with copies of the last row."""
    array = np.require(array, requirements=["C", "A"])
    return np.concatenate([array, np.repeat(array[-1:], missing, axis=0)]) if missing else array


def _count(name: str, key: str, rows: Rows) -> int:
    if len(rows.shape) == 0:
        raise DataError(f"{name}: `{key}` is a single value, {kind(rows)}", "Axis 0 counts the samples.")
    return int(rows.shape[0])


def _pairs(counts: Mapping[str, int]) -> str:
    return ", ".join(f"`{key}` {count}" for key, count in counts.items())
