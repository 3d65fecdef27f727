"""What a job is, as a value, and whether its worker is still alive."""

from __future__ import annotations

import json
import os
import platform
import sqlite3
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import psutil

__all__ = ["BACKGROUND", "PERSON", "STATES", "Job", "Line", "Worker", "alive", "job_of", "this_worker"]

STATES = ("queued", "running", "done", "failed", "cancelled", "lost")
PERSON, BACKGROUND = 100, 0  # priorities
FRESH = 10.0  # seconds: a sign younger than this is from the process of that number, whenever that seems to have begun
SILENT = 180.0  # seconds without a sign after which a worker counts as dead, whatever the list of processes says


@dataclass(frozen=True)
class Worker:
    """Who does a job: a process of a machine. ``born``: when it began, because numbers are used again."""

    host: str
    pid: int
    born: float

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


@dataclass(frozen=True)
class Job:
    """One piece of work.

    ``action``: a name in `registry.ALL_ACTIONS`. ``step``: what it is done to, 0 for nothing. ``options``: its own, as
    JSON values. ``priority``: higher goes first. ``heavy``: counts against the limit. ``state``: one of STATES.
    ``created``, ``started``, ``ended``, ``beat`` (the worker's last sign), ``staged`` (when ``done`` began to grow):
    seconds since 1970. ``cancel``: it is to end. ``stage``, ``done``, ``total``: how far it is (total 0: unknown).
    ``result``: the step that it made; of several the newest, and at the end the one that counts. ``error``, ``hint``:
    why it did not. ``again``: the job that this one tries again. ``returns``: how often it is queued again by itself
    after it ended to make room.
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
    worker: Worker
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
    returns: int

    @property
    def eta(self) -> float | None:
        """Seconds until ``done`` is ``total``, from the mean pace up to the last sign; None where it cannot be told."""
        if self.state != "running" or self.beat is None or self.staged is None or not 0 < self.done <= self.total:
            return None
        return (self.beat - self.staged) * (self.total - self.done) / self.done


@dataclass(frozen=True)
class Line:
    """A line of a job's log. ``time``: seconds since 1970."""

    time: float
    text: str


def job_of(row: sqlite3.Row) -> Job:
    """A row of the table ``job``."""
    values = {name: row[name] for name in row.keys()}  # noqa: SIM118 - iterating over a row gives its values
    worker = Worker(values.pop("host"), values.pop("pid"), values.pop("born"))
    changed = {
        "step": row["step"] or 0,
        "options": json.loads(row["options"]),
        "heavy": bool(row["heavy"]),
        "cancel": bool(row["cancel"]),
    }
    return Job(**{**values, **changed}, worker=worker)


def this_worker() -> Worker:
    """This process."""
    return Worker(platform.node(), os.getpid(), psutil.Process().create_time())


def alive(job: Job) -> bool:
    """Whether the worker of a running job may still be at it.

    Not if it gave no sign for SILENT seconds, nor, on this machine, if its process is gone or another one has its
    number. Processes of other machines cannot be seen: only their signs count. A clock that was set changes when a
    process seems to have begun, so that a fresh sign counts for more than that.
    """
    silence = time.time() - (job.beat or 0.0)
    if silence > SILENT:
        return False
    if job.worker.host != platform.node():
        return True
    try:
        process = psutil.Process(job.worker.pid)
        same = process.status() != psutil.STATUS_ZOMBIE and (
            0 <= silence < FRESH or abs(process.create_time() - job.worker.born) < 1.0
        )
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True
    return same
