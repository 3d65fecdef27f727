"""The queue: what is to be done to which step, who is doing it, how far it is, and how it ended.

A job is done in the very moment in which its step is recorded: `Jobs.recording` puts a trigger on the connection that
records, which marks the job in the step's own transaction and refuses the step where the job belongs to somebody else
by now. So a step comes from one job at most, a job that counts as lost records nothing, and there is no moment at which
a kill leaves one without the other. A job that has ended is never changed: trying again makes a new one.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from onnxprune.errors import OptionError, StepNotFound, WorkspaceError
from onnxprune.workspace.database import Database

__all__ = ["BACKGROUND", "ENDED", "PERSON", "STATES", "Job", "Jobs", "Line"]

STATES = ("queued", "running", "done", "failed", "cancelled", "lost")
ENDED = STATES[2:]
PERSON, BACKGROUND = 100, 0  # priorities
FRESH = 10.0  # seconds: whose last sign is younger than this is alive if there is a process of its number
SILENT = 180.0  # seconds without a sign after which a worker counts as dead, whatever the process list says
LOG_BYTES = 1 << 20


@dataclass(frozen=True)
class Job:
    """One piece of work.

    ``action``: a name in `actions.ACTIONS`. ``step``: what it is done to. ``options``: its own, as JSON values.
    ``priority``: higher goes first. ``heavy``: counts against the limit. ``state``: one of STATES. ``created``,
    ``started``, ``ended``, ``beat`` (the worker's last sign), ``staged`` (when the stage began): seconds since 1970.
    ``host``, ``pid``, ``born``: the worker, and when its process began. ``cancel``: it is to end. ``stage``, ``done``,
    ``total``: how far it is (total 0: unknown). ``result``: the step that it made. ``error``, ``hint``: why it did not.
    ``again``: the job that this one tries again.
    """

    number: int
    action: str
    step: int
    options: Mapping[str, Any] = field(hash=False)
    priority: int
    heavy: bool
    state: str
    created: float
    started: float | None
    ended: float | None
    host: str
    pid: int
    born: float
    beat: float | None
    cancel: bool
    stage: str
    staged: float | None
    done: int
    total: int
    result: int | None
    error: str
    hint: str
    again: int | None

    @property
    def eta(self) -> float | None:
        """Seconds until the stage is over, from its mean pace up to the last sign; None where it cannot be told."""
        if self.state != "running" or self.beat is None or self.staged is None or not 0 < self.done <= self.total:
            return None
        return (self.beat - self.staged) * (self.total - self.done) / self.done


@dataclass(frozen=True)
class Line:
    """A line of a job's log; ``time``: seconds since 1970."""

    time: float
    text: str


class Jobs:
    """The jobs in a database, which several programs may write."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def add(
        self,
        action: str,
        step: int,
        options: Mapping[str, Any] | None = None,
        *,
        priority: int = PERSON,
        heavy: bool = True,
        again: int | None = None,
    ) -> Job:
        """Queue a job. What runs with the priority BACKGROUND makes room for one with a higher priority.

        Raises StepNotFound, and OptionError for options that JSON cannot hold.
        """
        try:
            text = json.dumps(dict(options or {}), sort_keys=True, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise OptionError(f"the options of {action!r} are not JSON values: {error}", "Give plain values.") from error
        with self.database.writing() as connection:
            if connection.execute("SELECT 1 FROM step WHERE number = ?", (step,)).fetchone() is None:
                raise StepNotFound(f"there is no step {step}", "`onnxprune ws tree` lists the steps.")
            number = connection.execute(
                "INSERT INTO job (action, step, options, priority, heavy, created, again) VALUES (?, ?, ?, ?, ?, ?, ?)",
                (action, step, text, priority, heavy, time.time(), again),
            ).lastrowid
            if heavy:
                connection.execute(
                    "UPDATE job SET cancel = 1 WHERE state = 'running' AND heavy AND priority <= ? AND priority < ?",
                    (BACKGROUND, priority),
                )
        return self.get(int(number or 0))

    def all(self, states: Sequence[str] = STATES) -> list[Job]:
        """The jobs in one of these states, in the order of their numbers."""
        marks = ", ".join("?" * len(states))
        rows = self.database.rows(f"SELECT * FROM job WHERE state IN ({marks}) ORDER BY number", *states)  # noqa: S608 - question marks
        return [_job(row) for row in rows]

    def get(self, number: int) -> Job:
        """One job. Raises WorkspaceError where there is none of that number."""
        row = self.database.row("SELECT * FROM job WHERE number = ?", number)
        if row is None:
            raise WorkspaceError(f"there is no job {number}", "`onnxprune jobs list` lists the jobs.")
        return _job(row)

    def lines(self, number: int, after: int = 0) -> list[Line]:
        """The log of a job without its first ``after`` lines. Raises WorkspaceError."""
        self.get(number)
        query = "SELECT time, text FROM line WHERE job = ? ORDER BY number LIMIT -1 OFFSET ?"
        return [Line(row["time"], row["text"]) for row in self.database.rows(query, number, after)]

    def say(self, number: int, *texts: str) -> None:
        """Add lines to the log of a job."""
        with self.database.writing() as connection:
            values = [(number, time.time(), line) for text in texts for line in text.splitlines()]
            connection.executemany("INSERT INTO line (job, time, text) VALUES (?, ?, ?)", values)

    def cancel(self, number: int) -> Job:
        """Let a job end: at once where nobody has begun it, else the worker stops. Raises WorkspaceError if it is over."""
        with self.database.writing() as connection:
            connection.execute(
                "UPDATE job SET state = 'cancelled', ended = ?, error = 'cancelled before it began' "
                "WHERE number = ? AND state = 'queued'",
                (time.time(), number),
            )
            connection.execute("UPDATE job SET cancel = 1 WHERE number = ? AND state = 'running'", (number,))
            changed = connection.execute("SELECT changes() + total_changes()").fetchone() is not None
        job = self.get(number)
        if not changed or (job.state in ENDED and job.error != "cancelled before it began"):
            raise WorkspaceError(f"job {number} is {job.state} already", "Only jobs that wait or run can be cancelled.")
        return job
