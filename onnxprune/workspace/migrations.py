"""The tables of a workspace, as a list of changes that only grows; a test compares what they come to.

Each change runs in a transaction of its own together with the new version number (``PRAGMA user_version``), so that a
process that dies in the middle leaves the version before. Rows of ``step``, ``metric`` and ``document`` are never
changed: a person's own words about a step (its name, a note, the pin, the trash) are in ``label``, with a copy of its
metrics, so that a tree is read by one query. ``kept`` and ``preview`` hold what was measured of a model for guidance
(`onnxprune.guidance`), under the hash of the model, so that it outlives a step in the trash.
"""

from __future__ import annotations

import sqlite3

from onnxprune.errors import WorkspaceError

__all__ = ["MIGRATIONS", "VERSION", "migrate"]

MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE step (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        parent INTEGER REFERENCES step (number),
        root INTEGER NOT NULL,
        kind TEXT NOT NULL CHECK (kind IN ('original', 'prune', 'edit', 'recover', 'fine-tune', 'import')),
        created REAL NOT NULL,
        seconds REAL NOT NULL,
        model TEXT NOT NULL,
        model_hash TEXT NOT NULL,
        plan TEXT,
        dataset TEXT,
        seed INTEGER,
        command TEXT NOT NULL,
        promise TEXT NOT NULL CHECK (promise IN ('identical', 'close')),
        versions TEXT NOT NULL
    );
    CREATE INDEX step_by_parent ON step (parent);
    CREATE TABLE label (
        step INTEGER PRIMARY KEY REFERENCES step (number),
        name TEXT NOT NULL DEFAULT '',
        note TEXT NOT NULL DEFAULT '',
        pinned INTEGER NOT NULL DEFAULT 0,
        trashed REAL,
        damaged TEXT NOT NULL DEFAULT ''
    );
    CREATE TABLE metric (
        step INTEGER NOT NULL REFERENCES step (number),
        name TEXT NOT NULL,
        class TEXT NOT NULL DEFAULT '',
        value REAL,
        PRIMARY KEY (step, name, class)
    ) WITHOUT ROWID;
    CREATE TABLE document (
        step INTEGER NOT NULL REFERENCES step (number),
        name TEXT NOT NULL,
        blob TEXT NOT NULL,
        PRIMARY KEY (step, name)
    ) WITHOUT ROWID;
    CREATE TABLE entry (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        step INTEGER NOT NULL REFERENCES step (number),
        place INTEGER NOT NULL,
        undone INTEGER NOT NULL DEFAULT 0,
        created REAL NOT NULL,
        edit TEXT NOT NULL,
        UNIQUE (step, place)
    );
    CREATE TRIGGER step_stays BEFORE UPDATE ON step
        BEGIN SELECT RAISE (ABORT, 'a step is never changed'); END;
    CREATE TRIGGER metric_stays BEFORE UPDATE ON metric
        BEGIN SELECT RAISE (ABORT, 'a metric is never changed'); END;
    CREATE TRIGGER document_stays BEFORE UPDATE ON document
        BEGIN SELECT RAISE (ABORT, 'a document is never changed'); END;
    """,
    """
    CREATE TABLE file (
        path TEXT PRIMARY KEY,
        kind TEXT NOT NULL CHECK (kind IN ('model', 'data')),
        size INTEGER NOT NULL,
        changed INTEGER NOT NULL,
        hash TEXT NOT NULL DEFAULT '',
        problem TEXT NOT NULL DEFAULT '',
        step INTEGER REFERENCES step (number)
    ) WITHOUT ROWID;
    CREATE TABLE pair (
        model TEXT NOT NULL,
        data TEXT NOT NULL,
        problem TEXT NOT NULL DEFAULT '',
        PRIMARY KEY (model, data)
    ) WITHOUT ROWID;
    ALTER TABLE label ADD COLUMN metrics TEXT NOT NULL DEFAULT '{}';
    UPDATE label SET metrics = (
        SELECT json_group_object(name, json(printf('%!.17g', value))) FROM metric
        WHERE metric.step = label.step AND class = '' AND value IS NOT NULL
    );
    """,
    """
    CREATE TABLE job (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        action TEXT NOT NULL,
        step INTEGER REFERENCES step (number) ON DELETE CASCADE,
        options TEXT NOT NULL,
        priority INTEGER NOT NULL,
        heavy INTEGER NOT NULL,
        state TEXT NOT NULL DEFAULT 'queued'
            CHECK (state IN ('queued', 'running', 'done', 'failed', 'cancelled', 'lost')),
        created REAL NOT NULL,
        started REAL,
        ended REAL,
        host TEXT NOT NULL DEFAULT '',
        pid INTEGER NOT NULL DEFAULT 0,
        born REAL NOT NULL DEFAULT 0,
        beat REAL,
        cancel INTEGER NOT NULL DEFAULT 0,
        stage TEXT NOT NULL DEFAULT '',
        staged REAL,
        done INTEGER NOT NULL DEFAULT 0,
        total INTEGER NOT NULL DEFAULT 0,
        result INTEGER REFERENCES step (number) ON DELETE SET NULL,
        error TEXT NOT NULL DEFAULT '',
        hint TEXT NOT NULL DEFAULT '',
        again INTEGER REFERENCES job (number) ON DELETE SET NULL
    );
    CREATE INDEX job_by_state ON job (state, priority, number);
    CREATE INDEX job_by_step ON job (step);
    CREATE INDEX job_by_result ON job (result);
    CREATE INDEX job_by_again ON job (again);
    CREATE TRIGGER job_stays BEFORE UPDATE OF state ON job WHEN OLD.state NOT IN ('queued', 'running')
        BEGIN SELECT RAISE (ABORT, 'a job that has ended is never changed'); END;
    CREATE TABLE line (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        job INTEGER NOT NULL REFERENCES job (number) ON DELETE CASCADE,
        time REAL NOT NULL,
        text TEXT NOT NULL
    );
    CREATE INDEX line_by_job ON line (job);
    """,
    "ALTER TABLE job ADD COLUMN returns INTEGER NOT NULL DEFAULT 0;",
    """
    CREATE TABLE kept (
        model TEXT NOT NULL,
        kind TEXT NOT NULL,
        settings TEXT NOT NULL,
        created REAL NOT NULL,
        blob TEXT NOT NULL,
        PRIMARY KEY (model, kind, settings)
    ) WITHOUT ROWID;
    CREATE INDEX kept_by_blob ON kept (blob);
    CREATE TABLE preview (
        model TEXT NOT NULL,
        subset TEXT NOT NULL,
        plan TEXT NOT NULL,
        created REAL NOT NULL,
        content TEXT NOT NULL,
        PRIMARY KEY (model, subset, plan)
    ) WITHOUT ROWID;
    CREATE TABLE setting (
        name TEXT PRIMARY KEY,
        value TEXT NOT NULL
    ) WITHOUT ROWID;
    """,
)
VERSION = len(MIGRATIONS)


def migrate(connection: sqlite3.Connection) -> int:
    """Bring a database to the newest version; returns the version that it had.

    Raises WorkspaceError for a database of a newer version than this program knows.
    """
    before = _version(connection)
    if before > VERSION:
        raise WorkspaceError(
            f"the workspace has version {before}, and this onnxprune knows up to {VERSION}",
            "Install the onnxprune that made it, or a later one.",
        )
    for number in range(before, VERSION):
        connection.execute("BEGIN IMMEDIATE")
        try:
            if _version(connection) == number:  # somebody else may have been quicker
                for statement in _statements(MIGRATIONS[number]):
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {number + 1}")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
    return before


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _statements(script: str) -> list[str]:
    """One by one: ``executescript`` would commit in between."""
    found, part = [], ""
    for line in script.splitlines():
        part += line + "\n"
        if sqlite3.complete_statement(part):
            found.append(part)
            part = ""
    return found
