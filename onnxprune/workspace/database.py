"""The database of a workspace: who may write, what a transaction is, and what happens when something is wrong.

SQLite with a write-ahead log: readers never wait, writers wait for each other, and what ``writing`` has committed is on
the disk. A copy is kept beside the database (``backup``), made whenever a workspace is opened for writing and the copy
is older than an hour, and checked before it takes the place of the older one.
"""

from __future__ import annotations

import sqlite3
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from onnxprune.errors import StoreDamaged, WorkspaceError
from onnxprune.workspace.migrations import migrate

__all__ = ["Database"]

WAIT = 60.0  # seconds for other writers
PAUSE = 0.01  # seconds between two tries
BACKUP_AFTER = 3600.0  # seconds
MEANINGS = {
    "full": ("the disk is full", "Nothing was recorded. Free some space and try again."),
    "locked": ("another program keeps writing to it", "Try again when that is done."),
    "readonly": ("it may only be read", "Open a workspace in a folder that can be written."),
}


class Database:
    """One connection to one database file. ``readonly``: nothing may be written, not even a log.

    ``shared``: several threads use it, which see to it that they do so one after the other.
    """

    def __init__(self, path: Path, *, readonly: bool = False, shared: bool = False) -> None:
        self.path, self.readonly, self._shared = path, readonly, shared
        self.backup = path.with_suffix(".backup")
        with self._explained():
            self._connection = self._open()
            if not readonly:
                migrate(self._connection)
                self._keep_copy()

    def _open(self) -> sqlite3.Connection:
        mode = "mode=ro&immutable=1" if self.readonly else "mode=rwc"
        connection = sqlite3.connect(
            f"{self.path.resolve().as_uri()}?{mode}", uri=True, timeout=WAIT, isolation_level=None,
            check_same_thread=not self._shared,
        )  # fmt: skip
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA foreign_keys = ON")
        if not self.readonly:
            _keep_log(connection)
            connection.execute("PRAGMA synchronous = FULL")
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()  # a damaged file says so here
        return connection

    def rows(self, query: str, *values: Any) -> list[sqlite3.Row]:
        """All rows of a query."""
        with self._explained():
            return self._connection.execute(query, values).fetchall()

    def row(self, query: str, *values: Any) -> sqlite3.Row | None:
        """The first row of a query, or None."""
        with self._explained():
            found: sqlite3.Row | None = self._connection.execute(query, values).fetchone()
            return found

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction: all of it is on the disk at the end, or nothing of it when the block raises."""
        with self._explained():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    @property
    def changes(self) -> int:
        """A number that is another one when somebody else has written."""
        found = self.row("PRAGMA data_version")
        return 0 if found is None else int(found[0])

    def check(self) -> None:
        """Read all of it. Raises StoreDamaged."""
        found = self.row("PRAGMA integrity_check")
        if found is None or found[0] != "ok":
            raise self._damaged(str(found[0] if found else "unreadable"))

    def close(self) -> None:
        self._connection.close()

    def _keep_copy(self) -> None:
        if self.backup.exists() and time.time() - self.backup.stat().st_mtime < BACKUP_AFTER:
            return
        fresh = self.backup.with_name(f"{self.backup.name}-{uuid.uuid4().hex}")  # others may be at it as well
        try:
            copy = sqlite3.connect(fresh)
            try:
                self._connection.backup(copy)
                whole = copy.execute("PRAGMA quick_check").fetchone()[0] == "ok"
            finally:
                copy.close()
            if whole:
                fresh.replace(self.backup)
        finally:
            fresh.unlink(missing_ok=True)
        for left in self.backup.parent.glob(f"{self.backup.name}-*"):  # by programs that were killed
            with suppress(FileNotFoundError):
                if time.time() - left.stat().st_mtime >= BACKUP_AFTER:
                    left.unlink()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """SQLite's errors as ours."""
        try:
            yield
        except sqlite3.OperationalError as error:
            for word, (meaning, hint) in MEANINGS.items():
                if word in str(error):
                    raise WorkspaceError(f"{self.path}: {meaning}", hint) from error
            raise WorkspaceError(f"{self.path}: {error}", "Look at the folder's permissions and free space.") from error
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.IntegrityError):
                raise WorkspaceError(
                    f"{self.path}: {error}", "This is a fault of onnxprune; please report it."
                ) from error
            raise self._damaged(str(error)) from error

    def _damaged(self, found: str) -> StoreDamaged:
        copy = f" A copy is in {self.backup}: put it in its place." if self.backup.exists() else ""
        return StoreDamaged(f"{self.path} is damaged: {found}", f"The models and data are not affected.{copy}")


def _keep_log(connection: sqlite3.Connection) -> None:
    """Switch to a write-ahead log. SQLite does not wait for others here, as it does everywhere else."""
    until = time.monotonic() + WAIT
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > until:
                raise
        time.sleep(PAUSE)
