"""A process that does the jobs of a workspace one after the other until there are none that it may take.

``python -m onnxprune.workspace.worker FOLDER [--limit N]``. A thread beside the work writes down how far it is, and
looks whether it is to end: because somebody cancelled the job or because of SIGTERM or SIGINT. The work then ends at
its next call of ``progress``. Work that makes none is ended with its process: what is recorded is recorded in one
transaction, so that nothing is half done then. A worker that leaves the queue so starts another one.
"""

from __future__ import annotations

import argparse
import os
import select
import signal
import socket
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import psutil

from onnxprune.errors import OnnxPruneError
from onnxprune.workspace.database import Database
from onnxprune.workspace.job import Job
from onnxprune.workspace.jobs import WORKER, Jobs
from onnxprune.workspace.registry import ALL_ACTIONS, MANY, JobAction
from onnxprune.workspace.values import Cancelled
from onnxprune.workspace.workspace import Workspace

__all__ = ["main", "serve", "work"]

Report = Callable[[str, int, int], None]
_Place = tuple[str, float, int, int]  # stage, since when, done, total
_Sign = tuple[float, _Place]  # when, and what was said

POLL = 0.25  # seconds between two looks at whether the job is to end
BEAT = 2.0  # seconds between two signs of life where nothing else is new
PAUSE = 5.0  # seconds between two lines of the log about the same stretch of work
PATIENCE = 1.25  # seconds that the work has to end by itself
KILLED, INTERRUPTED = 3, 130  # exit codes of a process that ended with its work: it was cancelled, or a signal came
SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Running:
    """A job at work: what its thread and the watching thread tell each other."""

    def __init__(self, job: Job, report: Report | None = None) -> None:
        self.job, self._report = job, report
        self.stop = threading.Event()
        self.reason, self.asked = "", 0.0
        self.at: _Place = ("", time.time(), 0, 0)
        self.news: deque[str] = deque()
        self._said = -PAUSE

    def progress(self, stage: str, done: int = 0, total: int = 0) -> None:
        """What the action calls. Raises Cancelled when it is to end."""
        if self.stop.is_set():
            raise Cancelled(self.reason)
        before, began, was, of = self.at
        if total != of or done < was or (stage != before and total == 0):
            began, self._said = time.time(), -PAUSE
        if stage != before and time.monotonic() - self._said > PAUSE:  # a stage may tell the loss, batch by batch
            self._said = time.monotonic()
            self.news.append(stage)
        self.at = (stage, began, done, total)
        if self._report is not None:
            self._report(stage, done, total)

    def ask(self, reason: str) -> None:
        """Ask the work to end."""
        if not self.stop.is_set():
            self.reason, self.asked = reason, time.monotonic()
            self.stop.set()

    @property
    def overdue(self) -> bool:
        return self.stop.is_set() and time.monotonic() - self.asked > PATIENCE


class Watch(threading.Thread):
    """Looks after the job at work, with a connection of its own.

    ``kill``: called when the work does not end by itself, with whether the queue is to go on; None: it is waited for.
    """

    def __init__(self, path: Path, kill: Callable[[bool], None] | None) -> None:
        super().__init__(daemon=True)
        self._path, self._kill = path, kill
        self._current: Running | None = None
        self._over = threading.Event()
        self._wake, self._woken = socket.socketpair()
        self.stopped = ""  # why the whole worker is to end

    @contextmanager
    def over(self, running: Running) -> Iterator[None]:
        """Look after a job while the block runs."""
        self._current = running
        try:
            yield
        finally:
            self._current = None

    @contextmanager
    def signals(self) -> Iterator[None]:
        """While the block runs, SIGTERM and SIGINT end the worker, even inside a long call of native code."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        self._wake.setblocking(False)
        before = {number: signal.signal(number, _noted) for number in SIGNALS}
        wakeup = signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(wakeup)
            for number, handler in before.items():
                signal.signal(number, handler)

    def run(self) -> None:
        while not self._over.is_set():
            try:
                with closing(Database(self._path)) as database:
                    self._watch(Jobs(database))
            except OnnxPruneError as error:  # the disk is full, say: what is recorded at the end will say so, too
                sys.stderr.write(f"{error}\n")
                self._over.wait(POLL)

    def _watch(self, jobs: Jobs) -> None:
        last: _Sign = (0.0, ("", 0.0, 0, 0))
        while not self._over.is_set():
            ready, _, _ = select.select([self._woken], [], [], POLL)
            for number in self._woken.recv(64) if ready else b"":
                if number in SIGNALS:
                    self.stopped = f"the worker was told to end ({signal.Signals(number).name})"
            running = self._current
            if running is not None:
                last = self._look(jobs, running, last)

    def end(self) -> None:
        """End the thread."""
        self._over.set()
        self._wake.send(b"\0")
        self.join()
        self._wake.close()
        self._woken.close()

    def _look(self, jobs: Jobs, running: Running, last: _Sign) -> _Sign:
        now = jobs.get(running.job.number)
        if self.stopped:
            running.ask(self.stopped)
        elif now.state == "lost":
            running.ask("the job was given up as lost")
        elif now.state == "running" and now.cancel:
            running.ask("cancelled")
        kill = self._kill if running.overdue and self._current is running else None
        if kill is not None and (jobs.finish(running.job, "cancelled", error=running.reason) or now.state == "lost"):
            jobs.say(running.job.number, f"{running.reason}: ended together with its process")
            kill(not self.stopped)
        flush(jobs, running)
        beat, at = last
        if running.at != at or time.monotonic() - beat > BEAT:
            beat, at = time.monotonic(), running.at
            jobs.beat(running.job, *at)
        return beat, at


def flush(jobs: Jobs, running: Running) -> None:
    """Write the stages that are not in the log yet."""
    news = []
    with suppress(IndexError):  # both threads do this
        while True:
            news.append(running.news.popleft())
    if news:
        jobs.say(running.job.number, *news)


def work(
    workspace: Workspace,
    actions: Mapping[str, JobAction] = ALL_ACTIONS,
    *,
    many: Collection[str] = MANY,
    limit: int = 1,
    kill: Callable[[bool], None] | None = None,
    report: Report | None = None,
    ended: Callable[[Job], None] | None = None,
) -> int:
    """Do jobs until none can be taken; returns how many. ``ended`` is told of each when it is over.

    ``many``: the actions that record more than one step (see `registry`).

    Raises WorkspaceError where the workspace cannot be written.
    """
    database = workspace.database
    jobs, count = Jobs(database), 0
    watch = Watch(database.path, kill)
    with watch.signals():
        watch.start()
        try:
            while not watch.stopped and (job := jobs.claim(limit)) is not None:
                count += 1
                _do(workspace, actions, jobs, watch, Running(job, report), job.action in many)
                if ended is not None:
                    ended(jobs.get(job.number))
        finally:
            watch.end()
    return count


def _do(
    workspace: Workspace, actions: Mapping[str, JobAction], jobs: Jobs, watch: Watch, running: Running, many: bool
) -> None:
    job = running.job
    jobs.say(job.number, f"begun by {job.worker}")
    if job.action not in actions:
        known = ", ".join(sorted(actions))
        jobs.finish(job, "failed", error=f"there is no action {job.action!r}", hint=f"There are {known}.")
        return
    options = {"run": jobs.run_of(job), **job.options} if many else job.options
    with watch.over(running), jobs.recording(job, many=many):
        try:
            step = actions[job.action](workspace, job.step, options, running.progress, running.stop.is_set)
        except Cancelled as error:
            jobs.finish(job, "cancelled", error=running.reason or str(error) or "cancelled")
        except OnnxPruneError as error:
            jobs.finish(job, "failed", error=error.message, hint=error.hint)
        except Exception as error:  # noqa: BLE001 - whatever goes wrong in one job, the others are still to be done
            jobs.say(job.number, traceback.format_exc())
            fault = f"{type(error).__name__}: {error}"
            jobs.finish(job, "failed", error=fault, hint="This is a fault of onnxprune; please report it.")
        else:
            jobs.finish(job, "done", result=None if step is None else step.number)
    flush(jobs, running)
    now = jobs.get(job.number)
    why = now.error if now.state != "done" else f"step {now.result}" if now.result is not None else "done"
    jobs.say(job.number, now.state if why == now.state else f"{now.state}: {why}")


def _noted(_number: int, _frame: object) -> None:
    """The watching thread has been woken already."""


def serve(
    workspace: Workspace,
    actions: Mapping[str, JobAction] = ALL_ACTIONS,
    *,
    many: Collection[str] = MANY,
    limit: int = 1,
    report: Report | None = None,
    ended: Callable[[Job], None] | None = None,
) -> int:
    """`work` as the last thing that a process does: work that does not end when it is asked to takes it along."""
    path, folder = workspace.database.path, workspace.folder

    def kill(go_on: bool) -> None:
        for child in psutil.Process().children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                child.kill()
        if go_on:
            with closing(Database(path)) as database, suppress(OnnxPruneError):
                Jobs(database).start_worker(folder, limit)
        os._exit(KILLED if go_on else INTERRUPTED)

    return work(workspace, actions, many=many, limit=limit, kill=kill, report=report, ended=ended)


def main(arguments: Sequence[str] | None = None) -> int:
    """Do the jobs of the workspace in one folder; returns the exit code."""
    parser = argparse.ArgumentParser(prog=f"python -m {WORKER}", description="Do the jobs of a workspace.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--limit", type=int, default=1, help="heavy jobs at once, those of other workers included")
    chosen = parser.parse_args(arguments)
    try:
        with Workspace.open(chosen.folder) as workspace:
            serve(workspace, limit=chosen.limit)
    except OnnxPruneError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
