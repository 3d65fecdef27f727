"""The tree: steps are added whole, read, named, put into the trash and taken out of it, never changed."""

from __future__ import annotations

import json
import math
import re
import sqlite3
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from onnxprune.errors import StaleDraft, StepNotFound, WorkspaceError
from onnxprune.workspace.database import Database
from onnxprune.workspace.values import Entry, NewStep, Step

__all__ = ["Drafts", "Steps"]

BLOB = re.compile(r"/blobs/([0-9a-f]{64})\b")
COLUMNS = (
    "SELECT number, parent, root, kind, created, seconds, model, model_hash, plan, dataset, seed, command, promise, "
    "versions, name, note, pinned, trashed, damaged, metrics FROM step JOIN label ON label.step = step.number"
)

REVISION = "SELECT coalesce(max(number), 0), count(*), coalesce(sum(undone), 0) FROM entry WHERE step = ?"


class Steps:
    """The steps in a database. Whoever adds one has written its blobs before."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def add(self, new: NewStep) -> Step:
        """Record a step with all that belongs to it, in one transaction. Raises StepNotFound for an unknown parent."""
        with self.database.writing() as connection:
            number = self.insert(connection, new)
        return self.get(number)

    def insert(self, connection: sqlite3.Connection, new: NewStep) -> int:
        """Record a step within a transaction of somebody else's; returns its number. Raises as ``add`` does."""
        root = None
        if new.parent is not None:
            parent = connection.execute("SELECT root FROM step WHERE number = ?", (new.parent,)).fetchone()
            if parent is None:
                raise self._absent(new.parent)
            root = parent["root"]
        found = connection.execute("SELECT coalesce(max(seq), 0) + 1 FROM sqlite_sequence WHERE name = 'step'")
        number = int(found.fetchone()[0])
        connection.execute(
            "INSERT INTO step VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                number, new.parent, number if root is None else root, new.kind, time.time(), new.seconds,
                new.model, new.model_hash, new.plan, new.dataset, new.seed, json.dumps(new.command), new.promise,
                json.dumps(dict(new.versions), sort_keys=True),
            ),
        )  # fmt: skip
        connection.execute("INSERT INTO label (step, name) VALUES (?, ?)", (number, new.name))
        _add_measured(connection, number, new.metrics, new.documents)
        return number

    def original(self, connection: sqlite3.Connection, new: NewStep) -> int:
        """The original with this model, recorded now if there is none; one that was put aside comes back."""
        query = "SELECT number FROM step WHERE kind = 'original' AND model_hash = ?"
        row = connection.execute(query, (new.model_hash,)).fetchone()
        if row is None:
            return self.insert(connection, new)
        number = int(row["number"])
        connection.execute("UPDATE label SET trashed = NULL WHERE step = ? AND trashed IS NOT NULL", (number,))
        return number

    def put_aside(self, connection: sqlite3.Connection, number: int) -> None:
        """Put an original whose file has gone into the trash, unless something was made of it."""
        connection.execute(
            "UPDATE label SET trashed = ? WHERE step = ? AND trashed IS NULL "
            "AND NOT EXISTS (SELECT 1 FROM step WHERE parent = ?)",
            (time.time(), number, number),
        )

    def measured(
        self, number: int, metrics: Mapping[tuple[str, str], float], documents: Mapping[str, str],
        instead_of: Iterable[str] = (),
    ) -> Step:  # fmt: skip
        """Add what was measured of a step later; what is known already stays as it is. Raises StepNotFound.

        ``instead_of``: documents that are forgotten, since they cannot be read any more.
        """
        self.get(number)
        with self.database.writing() as connection:
            connection.executemany(
                "DELETE FROM document WHERE step = ? AND name = ?", [(number, name) for name in instead_of]
            )
            _add_measured(connection, number, metrics, documents)
        return self.get(number)

    def all(self, *, trashed: bool = False) -> list[Step]:
        """The tree in the order of making; with ``trashed`` what is in the trash as well."""
        condition = "" if trashed else " WHERE trashed IS NULL"
        return _read(self.database.rows(f"{COLUMNS}{condition} ORDER BY number"))

    def get(self, number: int) -> Step:
        """One step. Raises StepNotFound."""
        found = _read(self.database.rows(f"{COLUMNS} WHERE number = ?", number))
        if not found:
            raise self._absent(number)
        return found[0]

    def named(self, name: str) -> list[Step]:
        """The steps of this name, those in the trash included."""
        return _read(self.database.rows(f"{COLUMNS} WHERE name = ? ORDER BY number", name))

    def path(self, number: int) -> list[Step]:
        """From the root to a step. Raises StepNotFound."""
        above = (
            "(WITH RECURSIVE above (n) AS (VALUES (?) UNION ALL SELECT parent FROM step JOIN above ON number = n "
            "WHERE parent IS NOT NULL) SELECT n FROM above)"
        )
        found = _read(self.database.rows(f"{COLUMNS} WHERE number IN {above} ORDER BY number", number))
        if not found:
            raise self._absent(number)
        return found

    def class_metrics(self, number: int) -> Mapping[tuple[str, str], float]:
        """(metric, class) -> value of one step."""
        rows = self.database.rows("SELECT name, class, value FROM metric WHERE step = ? AND class <> ''", number)
        return {(row["name"], row["class"]): row["value"] for row in rows}

    def documents(self, number: int) -> Mapping[str, str]:
        """Name -> blob of one step."""
        return {
            r["name"]: r["blob"] for r in self.database.rows("SELECT name, blob FROM document WHERE step = ?", number)
        }

    def describe(self, number: int, *, name: str | None = None, note: str | None = None) -> Step:
        """Give a step a name or a note."""
        self._label(number, "UPDATE label SET name = coalesce(?, name), note = coalesce(?, note)", name, note)
        return self.get(number)

    def pin(self, number: int) -> Step:
        """Make a step the baseline of its tree; another one is it no longer."""
        root = self.get(number).root
        with self.database.writing() as connection:
            connection.execute(
                "UPDATE label SET pinned = (step = ?) WHERE step IN (SELECT number FROM step WHERE root = ?)",
                (number, root),
            )
        return self.get(number)

    def trash(self, number: int) -> list[int]:
        """Put a step and all that was made of it into the trash; returns their numbers.

        Raises WorkspaceError for an original: its file in the folder is what brings it.
        """
        if self.get(number).parent is None:
            raise WorkspaceError(f"step {number} is an original", "Take its file out of the folder instead.")
        numbers = [n for n in self._descendants(number) if not self.get(n).trashed]
        self._mark(numbers, time.time())
        return numbers

    def restore(self, number: int) -> list[int]:
        """Take a step out of the trash, with what went there together with it, and with what it was made of."""
        step = self.get(number)
        when = self.database.row("SELECT trashed FROM label WHERE step = ?", number)
        if not step.trashed or when is None:
            raise WorkspaceError(f"step {number} is not in the trash", "`onnxprune ws tree --trash` lists what is.")
        together = self.database.rows("SELECT step FROM label WHERE trashed = ?", when["trashed"])
        below = set(self._descendants(number)) & {row["step"] for row in together}
        numbers = sorted(below | {s.number for s in self.path(number) if s.trashed})
        self._mark(numbers, None)
        return numbers

    def mark_damaged(self, number: int, reason: str) -> None:
        """Note what is wrong with the blobs of a step ("" for nothing)."""
        self._label(number, "UPDATE label SET damaged = ?", reason)

    def blobs(self) -> set[str]:
        """All blobs that a row names: of steps, also in the trash, of guidance, and in the options of jobs.

        A job that failed can be tried again, with the plan that it was given.
        """
        query = (
            "SELECT model AS b FROM step UNION SELECT plan FROM step UNION SELECT blob FROM document "
            "UNION SELECT blob FROM kept"
        )
        jobs = self.database.rows("SELECT options FROM job WHERE state <> 'done' AND options LIKE '%/blobs/%'")
        named = {name for row in jobs for name in BLOB.findall(row["options"])}
        return {row["b"] for row in self.database.rows(query) if row["b"]} | named

    def _descendants(self, number: int) -> list[int]:
        rows = self.database.rows(
            "WITH RECURSIVE below (n) AS (VALUES (?) UNION ALL SELECT step.number FROM step JOIN below "
            "ON step.parent = below.n) SELECT n FROM below ORDER BY n",
            number,
        )
        return [row["n"] for row in rows]

    def _mark(self, numbers: Iterable[int], when: float | None) -> None:
        with self.database.writing() as connection:
            connection.executemany("UPDATE label SET trashed = ? WHERE step = ?", [(when, n) for n in numbers])

    def _label(self, number: int, change: str, *values: str | None) -> None:
        self.get(number)
        with self.database.writing() as connection:
            connection.execute(f"{change} WHERE step = ?", (*values, number))

    def _absent(self, number: int) -> StepNotFound:
        return StepNotFound(f"there is no step {number}", "`onnxprune ws tree` lists the steps.")


class Drafts:
    """Edits of a step that are not applied yet, each of which can be undone and done again.

    Whoever changes a draft may say which one they saw (``expected``, a `revision`): StaleDraft is raised where it is
    another one by now, and nothing is changed.
    """

    def __init__(self, database: Database) -> None:
        self.database = database

    def revision(self, step: int) -> str:
        """A text that is another one after every change of the draft of a step."""
        found = self.database.row(REVISION, step)
        return _revision(step, found)

    def add(self, step: int, edit: Mapping[str, Any], expected: str | None = None) -> Entry:
        """A new edit; what was undone before it is gone."""
        with self.database.writing() as connection:
            _check(connection, step, expected)
            connection.execute("DELETE FROM entry WHERE step = ? AND undone", (step,))
            place = connection.execute("SELECT coalesce(max(place), 0) + 1 FROM entry WHERE step = ?", (step,))
            values = (step, int(place.fetchone()[0]), time.time(), json.dumps(dict(edit)))
            connection.execute("INSERT INTO entry (step, place, created, edit) VALUES (?, ?, ?, ?)", values)
        return self.entries(step)[-1]

    def entries(self, step: int) -> list[Entry]:
        """All edits in their order, those that were undone last."""
        rows = self.database.rows("SELECT * FROM entry WHERE step = ? ORDER BY place", step)
        return [
            Entry(r["number"], r["step"], r["place"], r["created"], json.loads(r["edit"]), bool(r["undone"]))
            for r in rows
        ]

    def undo(self, step: int, expected: str | None = None) -> Entry | None:
        """Undo the last edit that holds; None where there is none."""
        return self._move(step, "SELECT max(place) FROM entry WHERE step = ? AND NOT undone", expected, undone=True)

    def redo(self, step: int, expected: str | None = None) -> Entry | None:
        """Do the first edit that was undone again; None where there is none."""
        return self._move(step, "SELECT min(place) FROM entry WHERE step = ? AND undone", expected, undone=False)

    def clear(self, step: int, expected: str | None = None) -> None:
        """Forget the draft, as when it has become a step."""
        with self.database.writing() as connection:
            _check(connection, step, expected)
            connection.execute("DELETE FROM entry WHERE step = ?", (step,))

    def _move(self, step: int, query: str, expected: str | None, *, undone: bool) -> Entry | None:
        with self.database.writing() as connection:
            _check(connection, step, expected)
            place = connection.execute(query, (step,)).fetchone()[0]
            if place is not None:
                connection.execute("UPDATE entry SET undone = ? WHERE step = ? AND place = ?", (undone, step, place))
        return None if place is None else next(e for e in self.entries(step) if e.place == place)


def _revision(step: int, found: sqlite3.Row | None) -> str:
    """Numbers are never used again, and what is undone are the last ones: three numbers tell any two drafts apart."""
    newest, count, undone = (0, 0, 0) if found is None else tuple(found)
    return f"{step}-{newest}-{count}-{undone}"


def _check(connection: sqlite3.Connection, step: int, expected: str | None) -> None:
    """Raise StaleDraft where the draft is not the expected one."""
    if expected is not None and expected != _revision(step, connection.execute(REVISION, (step,)).fetchone()):
        raise StaleDraft(f"the draft of step {step} was changed elsewhere", "Look at it as it is now, and try again.")


def _add_measured(
    connection: sqlite3.Connection,
    number: int,
    metrics: Mapping[tuple[str, str], float],
    documents: Mapping[str, str],
) -> None:
    """What is not a number is left out: it would come back as None."""
    connection.executemany(
        "INSERT OR IGNORE INTO metric VALUES (?, ?, ?, ?)",
        [(number, name, cls, float(value)) for (name, cls), value in metrics.items() if math.isfinite(value)],
    )
    connection.executemany(
        "INSERT OR IGNORE INTO document VALUES (?, ?, ?)", [(number, *pair) for pair in documents.items()]
    )
    rows = connection.execute("SELECT name, value FROM metric WHERE step = ? AND class = ''", (number,))
    # Written by Python: SQLite gives numbers fifteen digits.
    connection.execute("UPDATE label SET metrics = ? WHERE step = ?", (json.dumps(dict(map(tuple, rows))), number))


def _read(rows: Sequence[sqlite3.Row]) -> list[Step]:
    """Rows as steps.

    Made for 10,000 of them: all their JSON is parsed in one go, and a step is made without the twenty calls that the
    constructor of a frozen dataclass makes.
    """
    if not rows:
        return []
    commands, metrics = (json.loads(f"[{','.join([row[k] for row in rows])}]") for k in ("command", "metrics"))
    libraries = {text: json.loads(text) for text in {row["versions"] for row in rows}}
    found = []
    for row, command, values in zip(rows, commands, metrics, strict=True):
        (
            number, parent, root, kind, created, seconds, model, model_hash, plan, dataset, seed, _, promise,
            versions, name, note, pinned, trashed, damaged, _,
        ) = row  # fmt: skip
        step = Step.__new__(Step)
        step.__dict__.update(
            number=number, parent=parent, root=root, kind=kind, created=created, seconds=seconds, model=model,
            model_hash=model_hash, plan=plan, dataset=dataset, seed=seed, command=tuple(command),
            promise=promise, versions=libraries[versions], metrics=values, name=name,
            note=note, pinned=bool(pinned), trashed=trashed is not None, damaged=damaged,
        )  # fmt: skip
        found.append(step)
    return found
