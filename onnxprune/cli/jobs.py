"""``onnxprune jobs``: what is queued in a workspace, who does it, how far it is, and how it ends."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from onnxprune.cli.console import emit_json, progress, say, show, table, warn
from onnxprune.cli.options import JsonOption, examples
from onnxprune.cli.ws_actions import settings
from onnxprune.cli.ws_options import FolderOption
from onnxprune.errors import OptionError
from onnxprune.workspace.job import BACKGROUND, PERSON, STATES, Job
from onnxprune.workspace.jobs import Jobs
from onnxprune.workspace.registry import ALL_ACTIONS
from onnxprune.workspace.worker import serve
from onnxprune.workspace.workspace import Workspace

__all__ = ["register"]

INTERRUPTED = 130
UNDONE = 2  # a job did not end well
POLL = 0.2  # seconds
IDLE = 20.0  # seconds after which a queue that nobody works on is worth a word
OPEN = ("queued", "running")

NumberArgument = Annotated[int, typer.Argument(metavar="JOB", help="The job's number.", show_default=False)]
NumbersArgument = Annotated[
    list[int] | None, typer.Argument(metavar="[JOB]...", help="Numbers of jobs.", show_default=False)
]
LimitOption = Annotated[
    int, typer.Option("--limit", metavar="N", min=1, help="Heavy jobs at once, those of other workers included.")
]
StartOption = Annotated[
    bool, typer.Option("--start", help="Also start a worker, which goes on when this command has ended.")
]

commands = typer.Typer(no_args_is_help=True, help="The queue of a workspace: list, follow, cancel, retry, run.")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(commands, name="jobs")


@contextmanager
def _opened(folder: Path, *, scan: bool = False) -> Iterator[tuple[Workspace, Jobs]]:
    """The workspace of a folder and its jobs; those whose worker died are marked."""
    with Workspace.open(folder, scan=scan) as workspace:
        jobs = Jobs(workspace.database)
        if not workspace.readonly:
            jobs.mark_lost()
        yield workspace, jobs


@commands.command(name="list", epilog=examples("onnxprune jobs list", "onnxprune jobs list --state failed --json"))
def list_jobs(
    folder: FolderOption = Path(),
    state: Annotated[
        list[str] | None,
        typer.Option("--state", metavar="|".join(STATES), help="Only these. May be repeated.", show_default=False),
    ] = None,
    json: JsonOption = False,
) -> None:
    """All jobs, in the order in which they were queued."""
    unknown = [name for name in state or () if name not in STATES]
    if unknown:
        raise OptionError(f"--state {unknown[0]}: there is no such state", f"There are {', '.join(STATES)}.")
    with _opened(folder) as (_, jobs):
        found = jobs.all(state or STATES)
    if json:
        emit_json({"jobs": [_document(job) for job in found]})
    elif not found:
        show("No jobs.")
    else:
        columns = ("job", "state", "action", "of step", "made step", "progress", "seconds", "remark")
        show(table("Jobs", columns, [_row(job) for job in found], right=(0, 3, 4, 6)))


@commands.command(name="show", epilog=examples("onnxprune jobs show 3"))
def show_job(number: NumberArgument, folder: FolderOption = Path(), json: JsonOption = False) -> None:
    """Everything about one job."""
    with _opened(folder) as (_, jobs):
        job = jobs.get(number)
    if json:
        emit_json(_document(job))
        return
    show(f"Job {job.number}: {job.action} of step {job.step}, {_outcome(job)}")
    for name, value in job.options.items():
        show(f"  {name}: {value}")
    facts = {
        "priority": f"{job.priority}{'' if job.heavy else ', light'}",
        "queued": _clock(job.created),
        "begun": f"{_clock(job.started)} by {job.worker}" if job.started else "",
        "ended": _clock(job.ended),
        "progress": _progress(job),
        "tries again": f"job {job.again}" if job.again else "",
        "next": job.hint,
    }
    for name, text in facts.items():
        if text:
            show(f"{name}: {text}")


@commands.command(name="log", epilog=examples("onnxprune jobs log 3", "onnxprune jobs log 3 --follow"))
def log_job(
    number: NumberArgument,
    folder: FolderOption = Path(),
    follow: Annotated[bool, typer.Option("--follow", help="Go on until the job has ended.")] = False,
    json: JsonOption = False,
) -> None:
    """What a job's worker said."""
    with _opened(folder) as (workspace, jobs):
        shown = 0
        while True:
            over = jobs.get(number).state not in OPEN
            lines = jobs.lines(number, shown)
            shown += len(lines)
            if json and (over or not follow):
                emit_json({"job": number, "lines": [asdict(line) for line in jobs.lines(number)]})
            elif not json:
                for line in lines:
                    show(f"{_clock(line.time)}  {line.text}")
            if over or not follow:
                return
            time.sleep(POLL)
            if not workspace.readonly:
                jobs.mark_lost()


@commands.command(
    name="add",
    epilog=examples(
        "onnxprune jobs add prune 1 --set ratio=0.3 --start",
        "onnxprune jobs add fine-tune 2 --set epochs=5 --set optimizer=adam",
    ),
)
def add_job(
    action: Annotated[str, typer.Argument(metavar="ACTION", help=f"{', '.join(ALL_ACTIONS)}.", show_default=False)],
    step: Annotated[str, typer.Argument(metavar="STEP", help="Number or name of a step.", show_default=False)],
    folder: FolderOption = Path(),
    options: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="An option of the action; the value as JSON, or else as text. May be repeated.",
            show_default=False,
        ),
    ] = None,
    background: Annotated[
        bool, typer.Option("--background", help="After everything else; it ends when something else is queued.")
    ] = False,
    start: StartOption = False,
    limit: LimitOption = 1,
    json: JsonOption = False,
) -> None:
    """Queue work on a step."""
    if action not in ALL_ACTIONS:
        raise OptionError(f"there is no action {action!r}", f"There are {', '.join(ALL_ACTIONS)}.")
    values = settings(options)
    with _opened(folder, scan=True) as (workspace, jobs):
        workspace.check_writable()
        job = jobs.add(action, workspace.find(step).number, values, priority=BACKGROUND if background else PERSON)
        _queued(workspace, jobs, job, start, limit, json)


@commands.command(name="retry", epilog=examples("onnxprune jobs retry 3 --start"))
def retry_job(
    number: NumberArgument,
    folder: FolderOption = Path(),
    start: StartOption = False,
    limit: LimitOption = 1,
    json: JsonOption = False,
) -> None:
    """Queue once more what failed, was cancelled or lost."""
    with _opened(folder) as (workspace, jobs):
        workspace.check_writable()
        _queued(workspace, jobs, jobs.retry(number), start, limit, json)


def _queued(workspace: Workspace, jobs: Jobs, job: Job, start: bool, limit: int, json: bool) -> None:
    worker = jobs.start_worker(workspace.folder, limit) if start else None
    if json:
        emit_json({**_document(job), "worker": worker})
    else:
        how = f"worker {worker} does it" if start else "`onnxprune jobs run` does it"
        show(f"Job {job.number} is queued: {job.action} of step {job.step}; {how}.")


@commands.command(name="cancel", epilog=examples("onnxprune jobs cancel 3 4"))
def cancel_jobs(
    numbers: Annotated[list[int], typer.Argument(metavar="JOB...", help="Numbers of jobs.", show_default=False)],
    folder: FolderOption = Path(),
    json: JsonOption = False,
) -> None:
    """End jobs: those that wait at once, those that run within two seconds. No step is left half done."""
    with _opened(folder) as (workspace, jobs):
        workspace.check_writable()
        found = _follow(jobs, [jobs.cancel(number).number for number in numbers])
    if json:
        emit_json({"jobs": [_document(job) for job in found]})
    else:
        _tell(found)


@commands.command(name="run", epilog=examples("onnxprune jobs run", "onnxprune jobs run --start --limit 2"))
def run_jobs(
    folder: FolderOption = Path(), limit: LimitOption = 1, start: StartOption = False, json: JsonOption = False
) -> None:
    """Do what is queued until nothing is left; with --start a worker does it, and the command ends at once."""
    found: list[Job] = []
    with _opened(folder) as (workspace, jobs):
        workspace.check_writable()
        if start:
            worker = jobs.start_worker(workspace.folder, limit)
            if json:
                emit_json({"worker": worker})
            else:
                show(f"Worker {worker} was started; `onnxprune jobs wait` follows it.")
            return
        with progress("working", remaining=True) as report:
            serve(workspace, limit=limit, report=report, ended=found.append)
    _end(found, json)


@commands.command(name="wait", epilog=examples("onnxprune jobs wait", "onnxprune jobs wait 3 4 --json"))
def wait_for_jobs(numbers: NumbersArgument = None, folder: FolderOption = Path(), json: JsonOption = False) -> None:
    """Follow jobs until they have ended: those that are named, or all that wait and run."""
    with _opened(folder) as (_, jobs):
        found = _follow(jobs, [jobs.get(n).number for n in numbers or ()] or [job.number for job in jobs.all(OPEN)])
    _end(found, json)


def _follow(jobs: Jobs, numbers: Sequence[int]) -> list[Job]:
    """The jobs when all of them have ended; progress on stderr until then."""
    quiet, told = time.monotonic(), False
    with progress("waiting", remaining=True) as report:
        while True:
            if not jobs.database.readonly:
                jobs.mark_lost()
            found = [jobs.get(number) for number in numbers]
            left = [job for job in found if job.state in OPEN]
            if not left:
                return found
            running = next((job for job in left if job.state == "running"), None)
            if running is not None:
                report(f"job {running.number}, {len(left)} left: {_progress(running)}", running.done, running.total)
            if jobs.all(("running",)):
                quiet = time.monotonic()
            elif not told and time.monotonic() - quiet > IDLE:
                warn("Nobody works on the queue. `onnxprune jobs run --start` starts a worker.")
                told = True
            time.sleep(POLL)


def _end(found: Sequence[Job], json: bool) -> None:
    """Tell how jobs ended; the command fails where one of them did."""
    if json:
        emit_json({"jobs": [_document(job) for job in found]})
    else:
        _tell(found)
    if any(job.state == "cancelled" for job in found):
        raise typer.Exit(INTERRUPTED)
    if any(job.state != "done" for job in found):
        raise typer.Exit(UNDONE)


def _tell(found: Sequence[Job]) -> None:
    if not found:
        show("Nothing to do.")
    for job in found:
        show(f"Job {job.number} ({job.action} of step {job.step}): {_outcome(job)}")
        if job.hint:
            say(f"  {job.hint}")


def _outcome(job: Job) -> str:
    if job.result is not None:
        return f"{job.state}, step {job.result}"
    return f"{job.state}: {job.error}" if job.error and job.error != job.state else job.state


def _row(job: Job) -> tuple[str, ...]:
    seconds = "" if job.started is None else f"{(job.ended or time.time()) - job.started:.1f}"
    made = "" if job.result is None else str(job.result)
    remark = job.error if job.state in ("failed", "lost") else ""
    state = "ending" if job.state == "running" and job.cancel else job.state
    return (str(job.number), state, job.action, str(job.step), made, _progress(job), seconds, remark)


def _progress(job: Job) -> str:
    if job.state != "running" or not job.stage:
        return ""
    share = f" {job.done} of {job.total}" if job.total else ""
    return f"{job.stage}{share}" + ("" if job.eta is None else f", {job.eta:.0f} s left")


def _clock(when: float | None) -> str:
    return "" if when is None else datetime.fromtimestamp(when).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _document(job: Job) -> Mapping[str, Any]:
    return {**asdict(job), "options": dict(job.options), "eta": job.eta}
