"""Columns of a dataset: arrays of which only the rows that are asked for are read.

A column has a shape and a type; ``column[a:b]`` and ``column[indices]`` are arrays, ``numpy.asarray(column)`` is all
of it. NumPy's arrays are columns, and so is what behaves like one (an HDF5 data set, say). The columns here read
from their file at each call and keep nothing, so that they are as good in another thread or process.
"""

from __future__ import annotations

import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import IO, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from onnxprune.errors import DataError

__all__ = ["Array", "Ints", "Lazy", "Rows", "Stored", "Taken", "kind", "reading", "source_rows", "taken"]

Array = NDArray[Any]
Ints = NDArray[np.integer[Any]]
SPAN = 1 << 18  # bytes: scattered rows no further apart than this are read in one go
PIECE = 1 << 22  # bytes: what is inflated is collected elsewhere before it is copied
UNREADABLE = (OSError, ValueError, EOFError, RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error)


@runtime_checkable
class Rows(Protocol):
    """Anything with a shape, a type and rows along axis 0; the rows are read when they are asked for."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype[Any]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any, /) -> Any: ...

    def __array__(self, dtype: Any = None, /) -> Array: ...


class Lazy(ABC):
    """A column that is made of ranges of rows: a kind of column says how to read one."""

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.shape, self.dtype = shape, dtype
        self.row_bytes = prod(shape[1:]) * dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice | Ints) -> Array:
        if isinstance(rows, slice):
            start, stop, step = rows.indices(len(self))
            if step == 1:
                return self.read(start, max(start, stop))
            return self.take(np.arange(start, stop, step))
        return self.take(_positions(rows, len(self)))

    def __array__(self, dtype: Any = None, /, *, copy: bool | None = None) -> Array:
        if copy is False:
            raise ValueError("these rows are not in memory: they cannot be had without a copy")
        return np.asarray(self.read(0, len(self)), dtype)

    @abstractmethod
    def read(self, start: int, stop: int) -> Array:
        """Rows from ``start`` to before ``stop``, both within the column."""

    def take(self, index: Ints) -> Array:
        """Rows in any order, with repetitions; near ones are read together, at most SPAN bytes at a time."""
        result = np.empty((len(index), *self.shape[1:]), self.dtype)
        order = np.argsort(index, kind="stable")
        ordered = index[order]
        together = max(1, SPAN // max(1, self.row_bytes))
        cuts = np.flatnonzero(np.diff(ordered // together)) + 1
        for places, rows in zip(np.split(order, cuts), np.split(ordered, cuts), strict=True):
            if rows.size:
                result[places] = self.read(int(rows[0]), int(rows[-1]) + 1)[rows - rows[0]]
        return result

    def source_rows(self, index: Ints) -> Ints:
        """Where these rows are in what the column was made from."""
        return index


class Stored(Lazy):
    """An array that lies in a file as it is: C order, from the byte ``offset`` on."""

    def __init__(self, path: Path, offset: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        super().__init__(shape, dtype)
        self.path, self.offset = path, offset
        missing = offset + self.row_bytes * shape[0] - path.stat().st_size if shape else 0
        if missing > 0:
            raise DataError(f"{path}: cannot be read: the file ends {missing} bytes too early", "Copy it again.")

    def read(self, start: int, stop: int) -> Array:
        with reading(self.path), self.path.open("rb") as file:
            file.seek(self.offset + start * self.row_bytes)
            return filled(file, (stop - start, *self.shape[1:]), self.dtype)


class Taken(Lazy):
    """Chosen rows of another column, in the order of ``index``."""

    def __init__(self, rows: Rows, index: Ints) -> None:
        super().__init__((len(index), *rows.shape[1:]), rows.dtype)
        self.rows, self.index = rows, index

    def read(self, start: int, stop: int) -> Array:
        return np.asarray(self.rows[self.index[start:stop]])

    def take(self, index: Ints) -> Array:
        return np.asarray(self.rows[self.index[index]])

    def source_rows(self, index: Ints) -> Ints:
        return source_rows(self.rows, self.index[index])


def taken(rows: Rows, index: Ints) -> Taken:
    """The column of these rows; negative indices and truth values as in NumPy."""
    index = _positions(index, len(rows))
    return Taken(rows.rows, rows.index[index]) if isinstance(rows, Taken) else Taken(rows, index)


def source_rows(rows: Rows, index: Ints) -> Ints:
    """The numbers that rows have in the file or array that they come from."""
    return rows.source_rows(index) if isinstance(rows, Lazy) else index


def filled(file: IO[bytes], shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """A new array with the next bytes of a file. Raises EOFError where it ends before."""
    result = np.empty(shape, dtype)
    target = result.reshape(-1).view(np.uint8).data if result.nbytes else bytearray()
    for start in range(0, len(target), PIECE):
        piece = target[start : start + PIECE]
        if file.readinto(piece) != len(piece):  # type: ignore[attr-defined]  # all binary files have it
            raise EOFError("the file ends too early")
    return result


@contextmanager
def reading(path: Path, what: str = "", errors: tuple[type[Exception], ...] = UNREADABLE) -> Iterator[None]:
    """What can go wrong with a file becomes a DataError that names it."""
    try:
        yield
    except errors as error:
        reason = getattr(error, "strerror", None) or str(error).partition("\n")[0] or type(error).__name__
        kind_of = f" as {path.suffix[1:].lower()}" if path.suffix else ""
        hint = "Write it with numpy.savez or numpy.save; arrays of Python objects need another type first."
        if isinstance(error, OSError):
            hint = "Look at its path and permissions, and whether the disk is still there."
        raise DataError(f"{path}: {what}cannot be read{kind_of}: {reason}", hint) from error


def kind(rows: Rows) -> str:
    """Type and shape in words."""
    return f"{rows.dtype.name} {tuple(rows.shape)}"


def _positions(index: Ints, count: int) -> Ints:
    index = np.asarray(index)
    if index.dtype.kind == "b":
        index = np.flatnonzero(index)
    elif index.dtype.kind not in "iu" and index.size:
        raise IndexError(f"rows are chosen by whole numbers, not by {index.dtype.name}")
    index = index.astype(np.int64).reshape(-1)
    if index.size and not -count <= index.min() <= index.max() < count:
        raise IndexError(f"rows {index.min()} to {index.max()} of a column with {count}")
    return np.where(index < 0, index + count, index)
