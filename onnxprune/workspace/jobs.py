"""The queue: what is to be done to which step, who is doing it, how far it is, and how it ended.

A job is done in the very moment in which its step is recorded: `Jobs.recording` puts a trigger on the connection that
records, which marks the job in the step's own transaction, and refuses the step where the job has ended. So a job makes
one step at most, a job that counts as lost records nothing, and there is no moment at which a kill leaves one without
the other. Jobs that make many steps are done when their action says so; each of their steps becomes the job's result in
its own transaction, and trying again goes on after it. A job that has ended is never changed, and never begun again:
trying again makes a new one.
"""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from onnxprune.errors import OptionError, StepNotFound, WorkspaceError
from onnxprune.workspace.database import Database
from onnxprune.workspace.job import BACKGROUND, PERSON, STATES, Job, Line, alive, job_of, this_worker

__all__ = ["WORKER", "Jobs"]

WORKER = "onnxprune.workspace.worker"
CANCELLED, MAKING_ROOM = 1, 2  # why a job is to end: somebody wanted it, or a person's job came
LOG_BYTES = 1 << 20  # a log of workers larger than this is begun anew


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
        returns: int = 0,
    ) -> Job:
        """Queue a job. What runs with the priority BACKGROUND ends to make room for one with a higher priority.

        ``step``: what it is done to, 0 for nothing that is there. ``heavy``: it counts against the limit of workers.
        ``returns``: how often it is queued again by itself after it ended to make room. Raises StepNotFound, and
        OptionError for options that JSON cannot hold.
        """
        try:
            text = json.dumps(dict(options or {}), sort_keys=True, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise OptionError(
                f"the options of {action!r} are not JSON values: {error}", "Give plain values."
            ) from error
        with self.database.writing() as connection:
            if step and connection.execute("SELECT 1 FROM step WHERE number = ?", (step,)).fetchone() is None:
                raise StepNotFound(f"there is no step {step}", "`onnxprune ws tree` lists the steps.")
            number = connection.execute(
                "INSERT INTO job (action, step, options, priority, heavy, created, again, returns) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (action, step or None, text, priority, heavy, time.time(), again, returns),
            ).lastrowid
            if heavy and priority > BACKGROUND:
                connection.execute(
                    "UPDATE job SET cancel = ? WHERE state = 'running' AND heavy AND priority <= ? AND NOT cancel",
                    (MAKING_ROOM, BACKGROUND),
                )
        return self.get(int(number or 0))

    def all(self, states: Sequence[str] = STATES) -> list[Job]:
        """The jobs in one of these states, in the order of their numbers."""
        rows = self.database.rows(
            "SELECT * FROM job WHERE state IN (SELECT value FROM json_each(?)) ORDER BY number",
            json.dumps(list(states)),
        )
        return [job_of(row) for row in rows]

    def get(self, number: int) -> Job:
        """One job. Raises WorkspaceError where there is none of that number."""
        row = self.database.row("SELECT * FROM job WHERE number = ?", number)
        if row is None:
            raise WorkspaceError(f"there is no job {number}", "`onnxprune jobs list` lists the jobs.")
        return job_of(row)

    def lines(self, number: int, after: int = 0) -> list[Line]:
        """The log of a job without its first ``after`` lines. Raises WorkspaceError."""
        self.get(number)
        query = "SELECT time, text FROM line WHERE job = ? ORDER BY number LIMIT -1 OFFSET ?"
        return [Line(row["time"], row["text"]) for row in self.database.rows(query, number, after)]

    def say(self, number: int, *texts: str) -> None:
        """Add lines to the log of a job."""
        values = [(number, time.time(), line) for text in texts for line in text.splitlines()]
        with self.database.writing() as connection:
            connection.executemany("INSERT INTO line (job, time, text) VALUES (?, ?, ?)", values)

    def cancel(self, number: int) -> Job:
        """Let a job end: at once where nobody has begun it, else its worker ends it.

        Raises WorkspaceError where it is over.
        """
        self.mark_lost()
        with self.database.writing() as connection:
            ended = connection.execute(
                "UPDATE job SET state = 'cancelled', ended = ?, error = 'cancelled before it began' "
                "WHERE number = ? AND state = 'queued'",
                (time.time(), number),
            ).rowcount
            asked = connection.execute(
                "UPDATE job SET cancel = ? WHERE number = ? AND state = 'running'", (CANCELLED, number)
            ).rowcount
        job = self.get(number)
        if not ended and not asked:
            raise WorkspaceError(f"job {number} is {job.state} already", "Jobs that wait or run can be cancelled.")
        return job

    def retry(self, number: int) -> Job:
        """A new job that does the same. Raises WorkspaceError where this one waits, runs or is done."""
        self.mark_lost()
        job = self.get(number)
        if job.state not in ("failed", "cancelled", "lost"):
            raise WorkspaceError(f"job {number} is {job.state}", "What failed, was cancelled or lost can be retried.")
        return self.add(
            job.action, job.step, job.options,
            priority=job.priority, heavy=job.heavy, again=number, returns=job.returns,
        )  # fmt: skip

    def run_of(self, job: Job) -> str:
        """A key that a job shares with those that it tries again."""
        first = job
        while first.again is not None:
            first = self.get(first.again)
        return f"job-{first.number}"

    def mark_lost(self) -> list[Job]:
        """Find the running jobs whose worker died, and mark them; returns them."""
        found = []
        for job in self.all(("running",)):
            if alive(job):
                continue
            state, error, hint = "lost", f"{job.worker} died", f"`onnxprune jobs retry {job.number}` tries again."
            if job.cancel:
                state, error, hint = "cancelled", f"cancelled; {job.worker} is gone", ""
            with self.database.writing() as connection:
                # a worker that only seemed dead, and has given a sign since, keeps its job
                now = connection.execute("SELECT beat FROM job WHERE number = ?", (job.number,)).fetchone()
                if now["beat"] == job.beat and _end(connection, job, state, None, error, hint):
                    found.append(job.number)
        return [self.get(number) for number in found]

    def claim(self, limit: int = 1) -> Job | None:
        """Take the next job for this process: the highest priority, then the oldest.

        A heavy one only while fewer than ``limit`` heavy ones run. None where nothing can be taken.
        """
        self.mark_lost()
        worker, now = this_worker(), time.time()
        with self.database.writing() as connection:
            row = connection.execute(
                "SELECT number FROM job WHERE state = 'queued' AND (NOT heavy OR ? > "
                "(SELECT count(*) FROM job WHERE state = 'running' AND heavy)) ORDER BY priority DESC, number LIMIT 1",
                (limit,),
            ).fetchone()
            if row is None:
                return None
            connection.execute(
                "UPDATE job SET state = 'running', started = ?, beat = ?, host = ?, pid = ?, born = ? WHERE number = ?",
                (now, now, worker.host, worker.pid, worker.born, row["number"]),
            )
        return self.get(row["number"])

    def beat(self, job: Job, stage: str, staged: float, done: int, total: int) -> None:
        """A sign of life of this job's worker, and how far it is."""
        with self.database.writing() as connection:
            connection.execute(
                "UPDATE job SET beat = ?, stage = ?, staged = ?, done = ?, total = ? "
                "WHERE number = ? AND state = 'running'",
                (time.time(), stage, staged, done, total, job.number),
            )

    def finish(self, job: Job, state: str, *, result: int | None = None, error: str = "", hint: str = "") -> bool:
        """Say how a job ended. False where it has ended before: nothing is changed then."""
        with self.database.writing() as connection:
            return _end(connection, job, state, result, error, hint)

    @contextmanager
    def recording(self, job: Job, *, many: bool = False) -> Iterator[None]:
        """While the block runs, the step that this connection records makes the job done, in the same transaction.

        With ``many`` it becomes the job's result, and the job goes on. Originals, which come with files, are no such
        step. A step is refused (WorkspaceError) where the job has ended: it was given up as lost, or has made its step.
        """
        number = int(job.number)
        done = "" if many else ", state = 'done', ended = (julianday('now') - 2440587.5) * 86400.0"
        trigger = f"""
            CREATE TEMP TRIGGER job_makes_step AFTER INSERT ON main.step WHEN NEW.kind <> 'original'
            BEGIN
                SELECT RAISE (ABORT, 'job {number} has ended: its step is not recorded')
                    WHERE NOT EXISTS (SELECT 1 FROM job WHERE number = {number} AND state = 'running');
                UPDATE job SET result = NEW.number{done} WHERE number = {number};
            END
            """  # noqa: S608 - a number, and words of this function
        with self.database.writing() as connection:
            connection.execute(trigger)
        try:
            yield
        finally:
            with self.database.writing() as connection:
                connection.execute("DROP TRIGGER temp.job_makes_step")

    def resume(self, folder: Path) -> int | None:
        """Start a worker where jobs wait and none is at work, as after the machine went down; None where not."""
        self.mark_lost()
        if not self.all(("queued",)) or self.all(("running",)):
            return None
        return self.start_worker(folder)

    def start_worker(self, folder: Path, limit: int = 1) -> int:
        """Start a process that does what is queued in the workspace of a folder, and outlives this one; its number.

        What it prints goes to ``worker.log`` beside the database. Call it after `add`: a worker that finds nothing that
        it may take ends, and one that runs looks for more before it does.
        """
        log = self.database.path.with_name("worker.log")
        arguments = [sys.executable, "-P", "-m", WORKER, str(folder.resolve()), "--limit", str(limit)]
        try:
            long = log.exists() and log.stat().st_size > LOG_BYTES
            with log.open("wb" if long else "ab") as file:
                process = subprocess.Popen(  # noqa: S603 - this program itself
                    arguments, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True
                )
        except OSError as error:
            raise WorkspaceError(
                f"a worker cannot be started: {error}", "`onnxprune jobs run` does the jobs without one."
            ) from error
        threading.Thread(target=process.wait, daemon=True).start()  # a child that nobody waits for stays in the list
        return process.pid


def _end(
    connection: sqlite3.Connection, job: Job, state: str, result: int | None, error: str = "", hint: str = ""
) -> bool:
    """End a job if it has not ended. It is begun once at most, so that one that runs is still its worker's.

    One that ended to make room is queued again in the same transaction, once less each time, so that it ends someday.
    """
    now = time.time()
    query = (
        "UPDATE job SET state = ?, ended = ?, result = coalesce(?, result), error = ?, hint = ? "
        "WHERE number = ? AND state = 'running'"
    )
    ended = connection.execute(query, (state, now, result, error, hint, job.number)).rowcount == 1
    if ended and state == "cancelled":
        connection.execute(
            "INSERT INTO job (action, step, options, priority, heavy, created, again, returns) "
            "SELECT action, step, options, priority, heavy, ?, number, returns - 1 FROM job "
            "WHERE number = ? AND cancel = ? AND returns > 0",
            (now, job.number, MAKING_ROOM),
        )
    return ended
