"""Any Python source of samples as columns: a sample is (inputs, label), or inputs alone.

Inputs are one array, or a mapping of the model's input names to arrays. A source with ``len`` and ``source[i]`` (a
list, a PyTorch dataset) is asked for single samples; another is walked through, from the beginning whenever earlier
rows are wanted. All columns of a batch are filled by one reading.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from onnxprune.data.rows import Array, Ints, Lazy
from onnxprune.errors import DataError

__all__ = ["Column", "Samples", "columns"]

LABEL = "y"
PAD = "Samples of several lengths go into one batch only when they are padded to one length."


class Samples:
    """A source of samples that can be read again and again.

    Raises DataError for an iterator that is used up after one pass, and for samples that do not look alike.
    """

    def __init__(self, source: Any, name: str) -> None:
        self.source, self.name = source, name
        self.indexed = hasattr(source, "__getitem__") and hasattr(source, "__len__")
        if not self.indexed and isinstance(source, Iterator):
            raise DataError(
                f"{name}: a {type(source).__name__} can be read only once, but a dataset is read several times",
                "Give a function that makes a new one (open_dataset(make_samples), without calling it), or a list.",
            )
        self.here = threading.local()
        try:
            first = next(self._walk(), None)
        except NotImplementedError:  # a PyTorch IterableDataset inherits a `[]` that does not work
            self.indexed = False
            first = next(self._walk(), None)
        if first is None:
            raise DataError(f"{name}: it gives no samples", "It must yield (inputs, label), one sample at a time.")
        self.first = self._arrays(first, 0)
        self.count = len(source) if hasattr(source, "__len__") else sum(1 for _ in self._walk())

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "here"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, here=threading.local())

    def rows(self, index: Ints) -> dict[str, Array]:
        """All columns of these rows; the last answer is kept, since it is asked for once by each column."""
        if getattr(self.here, "process", None) != os.getpid():
            self.here.process, self.here.key, self.here.stream = os.getpid(), None, None
        key = index.tobytes()
        if self.here.key != key:
            self.here.key, self.here.answer = None, self._read(index)
            self.here.key = key
        answer: dict[str, Array] = self.here.answer
        return answer

    def _read(self, index: Ints) -> dict[str, Array]:
        result = {name: np.empty((len(index), *a.shape), a.dtype) for name, a in self.first.items()}
        order = np.argsort(index, kind="stable")
        for place, row in zip(order, index[order], strict=True):
            for name, array in self._arrays(self._sample(int(row)), int(row)).items():
                result[name][place] = array
        return result

    def _sample(self, row: int) -> Any:
        """One sample; ``here.last`` is the one that was read last, so that a row can be asked for twice."""
        if self.indexed:
            return self.source[row]
        if self.here.stream is None or row < self.here.row:
            self.here.stream, self.here.row = self._walk(), -1
        while self.here.row < row:
            try:
                self.here.last = next(self.here.stream)
            except StopIteration:
                self.here.stream = None
                raise DataError(
                    f"{self.name}: it gave {self.here.row + 1} samples in this pass, but there should be {self.count}",
                    "Every pass must give the same samples; `__len__`, where there is one, their number.",
                ) from None
            self.here.row += 1
        return self.here.last

    def _walk(self) -> Iterator[Any]:
        if self.indexed:
            return (self.source[row] for row in range(len(self.source)))
        made = self.source if isinstance(self.source, Iterable) else self.source()
        if not isinstance(made, Iterable):
            raise DataError(f"{self.name}: it gives a {type(made).__name__}", "It must give samples one by one.")
        return iter(made)

    def _arrays(self, sample: Any, row: int) -> dict[str, Array]:
        """A sample's arrays by name, checked against those of the first."""
        inputs, label = sample if _is_pair(sample) else (sample, None)
        named = dict(inputs) if isinstance(inputs, Mapping) else {"x": inputs}
        if label is not None:
            named[LABEL] = label
        try:
            arrays = {str(name): _array(value) for name, value in named.items()}
        except (ValueError, TypeError) as error:
            raise DataError(f"{self.name}: sample {row} is not made of arrays: {error}", PAD) from error
        if row:
            self._check(arrays, row)
        return arrays

    def _check(self, arrays: Mapping[str, Array], row: int) -> None:
        if arrays.keys() != self.first.keys():
            names = [", ".join(f"`{name}`" for name in held) for held in (arrays, self.first)]
            raise DataError(
                f"{self.name}: sample {row} has {names[0]}, the first has {names[1]}", "All need the same parts."
            )
        for name, array in arrays.items():
            first = self.first[name]
            if array.shape != first.shape or not np.can_cast(array.dtype, first.dtype, "same_kind"):
                raise DataError(
                    f"{self.name}: `{name}` of sample {row} is {array.dtype} {array.shape}, of the first"
                    f" {first.dtype} {first.shape}",
                    PAD if array.shape != first.shape else "All samples need one type.",
                )


def _is_pair(sample: Any) -> bool:
    """(inputs, label): a tuple of two, or a list that begins with an array, as PyTorch collates them."""
    pair = isinstance(sample, tuple | list) and len(sample) == 2
    return pair and (isinstance(sample, tuple) or isinstance(sample[0], Mapping) or hasattr(sample[0], "shape"))


def _array(value: Any) -> Array:
    array = np.asarray(value)
    if array.dtype.kind == "U":
        return array.astype(object)  # or the first string would say how long the others may be
    if array.dtype.kind == "O" and not all(isinstance(item, str | bytes) for item in array.flat):
        raise TypeError(f"{type(value).__name__} holds neither numbers nor text")
    return array


class Column(Lazy):
    """One part of all samples."""

    def __init__(self, samples: Samples, name: str) -> None:
        first = samples.first[name]
        super().__init__((samples.count, *first.shape), first.dtype)
        self.samples, self.name = samples, name

    def read(self, start: int, stop: int) -> Array:
        return self.take(np.arange(start, stop))

    def take(self, index: Ints) -> Array:
        return self.samples.rows(index)[self.name]


def columns(source: Iterable[Any] | Callable[[], Iterable[Any]], name: str) -> dict[str, Column]:
    """The columns of a source of samples: its inputs, and ``y`` where the samples have labels."""
    samples = Samples(source, name)
    return {part: Column(samples, part) for part in samples.first}
