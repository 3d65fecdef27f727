"""Arrays in ``.npy`` and ``.npz`` files, read in slices where they lie.

A member of an archive that is stored as it is (``numpy.savez``) begins at a known byte, so it is read like a file of
its own. A compressed one (``numpy.savez_compressed``) can only be read from its beginning: batches in their order cost
one decompression for each pass. Small members are read whole, which checks their checksum, too.
"""

from __future__ import annotations

import os
import struct
import threading
import zipfile
from collections.abc import Callable, Iterator, Mapping
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np

from onnxprune.data.rows import Array, Lazy, Rows, Stored, filled, reading
from onnxprune.errors import DataError

__all__ = ["Arrays", "npy", "npz"]

SMALL = 1 << 24  # bytes: a stored member up to this size is read whole
MEDIUM = 1 << 28  # bytes: so is a compressed one up to this size
LOCAL_HEADER = struct.Struct("<26xHH")  # of a member of a zip file: the lengths of its name and of its extra field
ENCRYPTED = 1


class Arrays(Mapping[str, Rows]):
    """Columns by name, each opened when it is asked for."""

    def __init__(self, openers: Mapping[str, Callable[[], Rows]]) -> None:
        self.openers = openers

    def __getitem__(self, name: str) -> Rows:
        return self.openers[name]()

    def __iter__(self) -> Iterator[str]:
        return iter(self.openers)

    def __len__(self) -> int:
        return len(self.openers)


class Inflated(Lazy):
    """A compressed member of an archive: every thread reads forward through it, and from the beginning to go back."""

    def __init__(self, path: Path, member: str, offset: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        super().__init__(shape, dtype)
        self.path, self.member, self.offset = path, member, offset
        self.here = threading.local()

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "here"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, here=threading.local())

    def read(self, start: int, stop: int) -> Array:
        with reading(self.path, f"`{self.member}` "):
            file = self._file()
            file.seek(self.offset + start * self.row_bytes)
            return filled(file, (stop - start, *self.shape[1:]), self.dtype)

    def _file(self) -> IO[bytes]:
        """This thread's own reader; a forked process shares the file's position with its parent and needs another."""
        if getattr(self.here, "process", None) != os.getpid():
            with zipfile.ZipFile(self.path) as archive:
                self.here.file = archive.open(self.member)  # stays open when the archive is closed
            self.here.process = os.getpid()
        file: IO[bytes] = self.here.file
        return file


def npy(path: Path) -> Rows:
    """The array of a ``.npy`` file; no more than its header is read now."""
    with reading(path):
        with path.open("rb") as file:
            shape, fortran, dtype = _header(file)
            offset = file.tell()
        if fortran and len(shape) > 1:  # a row is not in one piece: the system pages in what is touched
            mapped: Array = np.load(path, mmap_mode="r", allow_pickle=False)
            return mapped
        return Stored(path, offset, shape, dtype)


def npz(path: Path) -> Arrays:
    """The arrays of a ``.npz`` file by name. Raises DataError where it is none."""
    with reading(path):
        with path.open("rb") as file:
            if file.read(6) == b"\x93NUMPY":
                raise DataError(f"{path}: holds one array, not an archive of arrays", "Write it with numpy.savez.")
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    return Arrays({info.filename.removesuffix(".npy"): _opener(path, info) for info in members})


def _opener(path: Path, info: zipfile.ZipInfo) -> Callable[[], Rows]:
    return lambda: _member(path, info)


def _member(path: Path, info: zipfile.ZipInfo) -> Rows:
    stored = info.compress_type == zipfile.ZIP_STORED and not info.flag_bits & ENCRYPTED
    with reading(path), zipfile.ZipFile(path) as archive, archive.open(info) as file:
        shape, fortran, dtype = _header(file)
        offset = file.tell()
        fortran = fortran and len(shape) > 1
        if offset + prod(shape) * dtype.itemsize > info.file_size:
            raise ValueError(f"`{info.filename}` ends too early")
        if info.file_size <= (SMALL if stored else MEDIUM):
            whole = filled(file, shape[::-1] if fortran else shape, dtype)
            file.read()  # the checksum is compared at the end
            return whole.T if fortran else whole
    if stored:
        return _in_place(path, info, offset, shape, dtype, fortran)
    if fortran:
        raise DataError(
            f"{path}: `{info.filename}` is compressed, in Fortran order and {info.file_size / 1e9:.1f} GB: its rows"
            " cannot be read one after the other",
            "Write it again with numpy.savez_compressed(..., x=numpy.ascontiguousarray(x)).",
        )
    return Inflated(path, info.filename, offset, shape, dtype)


def _in_place(
    path: Path, info: zipfile.ZipInfo, offset: int, shape: tuple[int, ...], dtype: np.dtype[Any], fortran: bool
) -> Rows:
    """The array behind a member's two headers, its own and that of the zip file."""
    with path.open("rb") as file:
        file.seek(info.header_offset)
        name, extra = LOCAL_HEADER.unpack(file.read(LOCAL_HEADER.size))
    start = info.header_offset + LOCAL_HEADER.size + name + extra + offset
    if fortran:
        return np.memmap(path, dtype, "r", start, shape, "F")
    return Stored(path, start, shape, dtype)


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether in Fortran order, type; the file stands behind it then."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"version {version[0]}.{version[1]} of the .npy format is for records, not for numbers")
    shape, fortran, dtype = read(file)
    if dtype.hasobject:
        raise ValueError("Object arrays (variable lengths, mixed types) are not read; pad them to one length")
    return shape, fortran, dtype
