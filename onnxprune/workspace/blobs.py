"""Files named by the SHA-256 of what is in them: written whole, flushed and renamed, never changed.

All blobs of a workspace lie in one folder, so that a model over 2 GB can refer to its weights by the name of the blob
that holds them. A blob is there before the database names it; what no row names is an orphan, and ``sweep`` takes it
away once it is old enough not to belong to somebody who is just about to name it.
"""

from __future__ import annotations

import hashlib
import os
import time
import uuid
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from onnxprune._atomic import sync_folder
from onnxprune.errors import StoreDamaged, WorkspaceError

__all__ = ["Blobs"]

PIECE = 1 << 20  # bytes read at a time
TEMPORARY = ".tmp"
GRACE = 3600.0  # seconds that an orphan or a temporary file may still belong to somebody


class Blobs:
    """The blobs in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(self, data: bytes | Iterable[bytes | memoryview]) -> str:
        """Write a blob and return its name; one that is there already is not written again.

        Raises WorkspaceError where the disk is full or may not be written: nothing is left behind then.
        """
        pieces = (data,) if isinstance(data, bytes) else data
        temporary = self.folder / f"{uuid.uuid4().hex}{TEMPORARY}"
        digest = hashlib.sha256()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with temporary.open("xb") as file:
                for piece in pieces:
                    digest.update(piece)
                    file.write(piece)
                file.flush()
                os.fsync(file.fileno())
            path = self.path(digest.hexdigest())
            if path.exists():
                os.utime(path)  # it is wanted again: an orphan no longer counts as old
                temporary.unlink()
            else:
                temporary.replace(path)
                sync_folder(self.folder)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise WorkspaceError(
                f"{self.folder}: a blob cannot be written: {error.strerror or error}",
                "Nothing was recorded. Free some space, or open a workspace in a folder that can be written.",
            ) from error
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        return digest.hexdigest()

    def path(self, name: str) -> Path:
        """Where the blob of this name lies, or would lie. Raises WorkspaceError for what is no name of a blob."""
        if len(name) != 64 or not all(c in "0123456789abcdef" for c in name):
            raise WorkspaceError(f"{name!r} is not the name of a blob", "A blob is named by 64 hexadecimal digits.")
        return self.folder / name

    def read(self, name: str) -> bytes:
        """The bytes of a blob, checked. Raises StoreDamaged where it is missing or not what was written."""
        path = self.path(name)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise self._missing(name, error) from error
        if hashlib.sha256(data).hexdigest() != name:
            raise self._damaged(name)
        return data

    def check(self, name: str) -> Path:
        """The path of a blob whose content was checked, piece by piece. Raises StoreDamaged."""
        path, digest = self.path(name), hashlib.sha256()
        try:
            with path.open("rb") as file:
                while piece := file.read(PIECE):
                    digest.update(piece)
        except OSError as error:
            raise self._missing(name, error) from error
        if digest.hexdigest() != name:
            raise self._damaged(name)
        return path

    def names(self) -> Iterator[str]:
        """The blobs that are there, unchecked."""
        if self.folder.is_dir():
            for entry in os.scandir(self.folder):
                if not entry.name.endswith(TEMPORARY):
                    yield entry.name

    def sweep(self, wanted: Collection[str], grace: float = GRACE) -> tuple[int, int]:
        """Take away blobs that are not ``wanted`` and files that nobody finished, older than ``grace`` seconds.

        Returns how many, and their bytes.
        """
        count = size = 0
        if not self.folder.is_dir():
            return count, size
        for entry in list(os.scandir(self.folder)):
            if entry.name in wanted:
                continue
            try:
                facts = entry.stat()
                if time.time() - facts.st_mtime >= grace:
                    Path(entry.path).unlink()
                    count, size = count + 1, size + facts.st_size
            except FileNotFoundError:
                continue  # somebody else was quicker
        return count, size

    def _missing(self, name: str, error: OSError) -> StoreDamaged:
        return StoreDamaged(
            f"{self.path(name)} cannot be read: {error.strerror or error}",
            "The other steps are not affected; `onnxprune ws check` lists what is damaged.",
        )

    def _damaged(self, name: str) -> StoreDamaged:
        return StoreDamaged(
            f"{self.path(name)} is damaged: its content does not have the hash that names it",
            "The other steps are not affected; `onnxprune ws check` lists what is damaged.",
        )
