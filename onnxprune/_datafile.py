"""Bytes of a file, without reading the file."""

from __future__ import annotations

import mmap
import os
import weakref
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from onnxprune.errors import ModelLoadError

__all__ = ["DataFile", "MemoryFile"]

MAP_FROM = 1 << 20  # bytes: shorter pieces are copied out of the file, longer ones stay mapped
MAPS_AT_ONCE = 256  # each map holds a file descriptor, of which a process often has 1024
_MAPS: weakref.WeakSet[mmap.mmap] = weakref.WeakSet()


class MemoryFile:
    """Bytes in memory that are read as if they were a file."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    @property
    def size(self) -> int:
        return len(self.content)

    def bytes_at(self, offset: int, length: int) -> NDArray[np.uint8]:
        """``length`` bytes from ``offset``, not copied."""
        return np.frombuffer(self.content, np.uint8, length, offset)


class DataFile:
    """A file held open, so that replacing it on the disk does not change a model that was loaded from it.

    Sent to another process, it is opened there again; it must still be the same file then. Raises OSError where
    the file cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._descriptor = -1
        self._stamp = self._open()

    @property
    def size(self) -> int:
        """Bytes in the file when it was opened."""
        return self._stamp[0]

    def bytes_at(self, offset: int, length: int) -> NDArray[np.uint8]:
        """``length`` bytes from ``offset``: a map of the file where they are many, a copy otherwise."""
        if length == 0:
            return np.empty(0, np.uint8)
        start = offset - offset % mmap.ALLOCATIONGRANULARITY
        mapped = mmap.mmap(self._handle(), length + offset - start, access=mmap.ACCESS_READ, offset=start)
        found = np.frombuffer(mapped, np.uint8, length, offset - start)
        if length < MAP_FROM or len(_MAPS) >= MAPS_AT_ONCE:
            return found.copy()
        _MAPS.add(mapped)
        return found

    def whole(self) -> mmap.mmap:
        """A map of the whole file, which must not be empty."""
        return mmap.mmap(self._handle(), 0, access=mmap.ACCESS_READ)

    def _handle(self) -> int:
        if self._descriptor < 0 and self._open() != self._stamp:
            raise ModelLoadError(f"{self.path} has changed since the model was loaded", "Load the model again.")
        return self._descriptor

    def _open(self) -> tuple[int, int]:
        self._descriptor = os.open(self.path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        weakref.finalize(self, os.close, self._descriptor)
        found = os.fstat(self._descriptor)
        return found.st_size, found.st_mtime_ns

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_descriptor": -1}
