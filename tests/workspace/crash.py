"""Kill programs at random moments, and see that the workspace is whole: `python -m tests.workspace.crash --kills 200`.

Each case starts programs that work on a workspace, ends them with SIGKILL after a random time, and looks what is there:
it opens, what somebody was told is there, what is there is whole, no job runs that nobody does, and after `gc` the
blobs are those that steps name. In the end the jobs that were lost are tried again until all are done. Programs are
forked from a server that has imported everything, so that the time before the kill is spent in the work itself.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from onnxprune.workspace.database import Database
from onnxprune.workspace.job import Job
from onnxprune.workspace.jobs import Jobs
from onnxprune.workspace.migrations import MIGRATIONS, VERSION, _statements
from onnxprune.workspace.values import NewStep
from onnxprune.workspace.worker import main as worker
from onnxprune.workspace.worker import serve
from onnxprune.workspace.workspace import Workspace
from tests.cli.conftest import cnn, save
from tests.workspace.acting import ACTIONS, opened

LONG = 600.0  # seconds that something may take on a machine that has other things to do
AFRESH = 10  # kills in one folder
CONTEXT = multiprocessing.get_context("forkserver")


class Told:
    """What a program has said: lines of a file, each written at once."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def say(self, *words: object) -> None:
        handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(handle, (" ".join(map(str, words)) + "\n").encode())
        os.close(handle)

    def heard(self, word: str) -> list[list[str]]:
        """What follows ``word`` in the lines that begin with it."""
        text = self.path.read_text() if self.path.exists() else ""
        lines = [line.split() for line in text.splitlines(keepends=True) if line.endswith("\n")]
        return [line[1:] for line in lines if line[0] == word]


# -- what is killed ----------------------------------------------------------------------------------------------------


def write_steps(folder: Path, told: Told) -> None:
    """Blobs, steps, drafts, names, the trash: on and on."""
    draw = random.Random(os.getpid())  # noqa: S311 - no secret
    with opened(folder) as workspace:
        while True:
            parent = draw.choice([step.number for step in workspace.steps.all()])
            blobs = [workspace.blobs.put(draw.randbytes(draw.choice([10, 10_000, 1_000_000]))) for _ in range(3)]
            documents = {"history": blobs[1], "report": blobs[2]}
            new = NewStep("prune", blobs[0], blobs[0], parent, metrics={("accuracy", ""): 0.5}, documents=documents)
            step = workspace.add(new)
            told.say("step", step.number, *blobs)
            entry = workspace.drafts.add(step.number, {"remove": [1]})
            told.say("entry", step.number, entry.number)
            if draw.random() < 0.2:
                workspace.steps.restore(workspace.steps.trash(step.number)[0])
            if draw.random() < 0.1:
                workspace.gc()


def migrate_databases(folder: Path, told: Told) -> None:
    """Databases of all versions, opened by this one."""
    for number in range(os.getpid() * 1_000_000, (os.getpid() + 1) * 1_000_000):
        path = folder / f"{number}.sqlite"
        version = number % VERSION
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            for script in MIGRATIONS[:version]:
                for statement in _statements(script):
                    connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {version}")
            if version:
                connection.execute(
                    "INSERT INTO step VALUES (1, NULL, 1, 'original', 0, 0, 'm', 'h', NULL, NULL, NULL, '[]',"
                    " 'identical', '{}')"
                )
        told.say("made", number)
        Database(path).close()
        told.say("migrated", number)


def open_folder(folder: Path, told: Told) -> None:
    """A folder with models that nobody has opened yet, and whose files change."""
    while True:
        with Workspace.open(folder) as workspace:
            for step in workspace.steps.all():
                told.say("step", step.number, step.model)
        seed = time.time_ns() // 1000 % 1000
        save(cnn(batch=seed + 1), folder / f"net{seed % 3}.onnx")


def pretend(folder: Path, _told: Told) -> None:
    """A worker with quick actions."""
    with opened(folder) as workspace:
        serve(workspace, ACTIONS, limit=2)


def do_jobs(folder: Path, _told: Told) -> None:
    """A worker with the real actions."""
    worker([str(folder)])


def write_on(folder: Path, told: Told, seconds: float) -> None:
    """One of several writers: steps until the time is over."""
    end = time.monotonic() + seconds
    with Workspace.open(folder) as workspace:
        while time.monotonic() < end:
            name = workspace.blobs.put(os.urandom(1000))
            told.say("step", workspace.add(NewStep("prune", name, name, 1)).number, name)
    told.say("ended", os.getpid())


def _in_child(target: Callable[..., None], folder: Path, told: Path, *more: Any) -> None:
    os.setsid()
    Told(told).say("begun", os.getpid())
    target(folder, Told(told), *more)


# -- the cases ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """``prepare``: makes a folder, and its jobs. ``target``: what is killed. ``within``: seconds from its begin."""

    name: str
    target: Callable[[Path, Told], None]
    within: float
    prepare: Callable[[Path], None]
    look: Callable[[Path, Told], Counter[str]]
    together: int = 1


def empty(folder: Path) -> None:
    opened(folder).close()


def bare(folder: Path) -> None:
    folder.mkdir(exist_ok=True)


def models(folder: Path) -> None:
    for number in range(3):
        save(cnn(batch=number + 1), folder / f"net{number}.onnx")


def queue(folder: Path) -> None:
    """Jobs of pretended actions."""
    with opened(folder) as workspace:
        jobs = Jobs(workspace.database)
        for number in range(60):
            jobs.add("slow", 1, {"seconds": 0.02 * (number % 3), "size": 10_000}, heavy=number % 2 == 0)


def real(*actions: tuple[str, dict[str, Any]]) -> Callable[[Path], None]:
    """A model, data, and jobs of real actions."""

    def prepare(folder: Path) -> None:
        (folder / "data").mkdir()
        draw = np.random.default_rng(0)
        x = draw.standard_normal((256, 1, 8, 8)).astype(np.float32)
        np.savez(
            folder / "data" / "d.npz", x_train=x, y_train=np.arange(256) % 3, x_test=x[:64], y_test=np.arange(64) % 3
        )
        save(cnn(), folder / "net.onnx")
        with Workspace.open(folder) as workspace:
            jobs = Jobs(workspace.database)
            for action, options in actions * 3:
                jobs.add(action, 1, options)

    return prepare


def whole_store(folder: Path, told: Told) -> Counter[str]:
    """Raise AssertionError for anything that should not be, in the store of a folder; returns what was counted."""
    with Workspace.open(folder) as workspace:
        workspace.database.check()
        assert workspace.database.rows("PRAGMA foreign_key_check") == []
        assert workspace.check() == [], "a step names a blob that is not whole"
        steps = {step.number: step for step in workspace.steps.all(trashed=True)}
        assert len(steps) == len(workspace.database.rows("SELECT number FROM step")), "a step without a label"
        for number, *blobs in told.heard("step"):
            known = {steps[int(number)].model, *workspace.steps.documents(int(number)).values()}
            assert set(blobs) <= known, f"step {number} was told, and is not what was told"
        for number, entry in told.heard("entry"):
            assert int(entry) in {e.number for e in workspace.drafts.entries(int(number))}, f"entry {entry} is lost"
        for step in steps.values():
            if step.kind != "original":
                assert step.metrics, f"step {step.number} has no metrics"
                assert workspace.steps.documents(step.number), f"step {step.number} has no documents"
        orphans, _ = workspace.gc(grace=0)
        assert set(workspace.blobs.names()) == workspace.steps.blobs(), "an orphan is left"
        assert not list(workspace.blobs.folder.glob("*.tmp")), "a temporary file is left"
        return Counter(steps=len(steps), orphans=orphans)


def whole_jobs(folder: Path, told: Told) -> Counter[str]:
    """The same for a store with jobs; those that were lost are queued again."""
    with Workspace.open(folder) as workspace:
        jobs = Jobs(workspace.database)
        jobs.mark_lost()
        everything = jobs.all()
        lost = {job.number for job in everything if job.state == "lost"} - {job.again for job in everything}
        assert {job.state for job in everything} <= {"queued", "done", "lost"}, [job.error for job in everything]
        for number, result in told.heard("done"):
            assert str(jobs.get(int(number)).result) == result, f"job {number} was done, and is not any more"
        made = [job.result for job in everything if job.state == "done"]
        there = {step.number for step in workspace.steps.all() if step.kind != "original"}
        assert len(made) == len(set(made)), "two jobs made one step"
        assert set(made) == there, "a step and its job do not agree"
        for number in lost:
            jobs.retry(number)
        for job in jobs.all(("done",)):
            told.say("done", job.number, job.result)
    return whole_store(folder, told) + Counter(lost=len(lost))


def whole_databases(folder: Path, told: Told) -> Counter[str]:
    """Every database opens, has the newest version, and the rows that it had."""
    paths = sorted(folder.glob("*.sqlite"))
    made = {number for (number,) in told.heard("made")}
    for path in paths:
        with closing(sqlite3.connect(path)) as connection:
            version = connection.execute("PRAGMA user_version").fetchone()[0]
        if path.stem in made:
            assert version >= int(path.stem) % VERSION
        elif version == 0:
            continue  # it was not made to the end: the tables of its old version are not all there
        with closing(Database(path)) as database:
            database.check()
            assert database.rows("PRAGMA user_version")[0][0] == VERSION
            if path.stem in made and int(path.stem) % VERSION:
                assert [row["model"] for row in database.rows("SELECT model FROM step")] == ["m"]
    for path in folder.iterdir():
        if path != told.path:
            path.unlink()
    return Counter(databases=len(paths))


CASES = (
    Case("steps and blobs", write_steps, 0.6, empty, whole_store),
    Case("migrations", migrate_databases, 0.4, bare, whole_databases),
    Case("opening", open_folder, 0.6, models, whole_store),
    Case("claims", pretend, 0.6, queue, whole_jobs, together=2),
    Case("prune", do_jobs, 1.2, real(("prune", {"ratio": 0.5})), whole_jobs),
    Case("fine-tune", do_jobs, 1.5, real(("fine-tune", {"epochs": 3, "batch": 16})), whole_jobs),
)


# -- killing -----------------------------------------------------------------------------------------------------------


@contextmanager
def started(
    target: Callable[..., None], folder: Path, told: Told, count: int, *more: Any
) -> Iterator[list[multiprocessing.process.BaseProcess]]:
    """Programs that have begun; none is left at the end."""
    before = len(told.heard("begun"))
    programs = [CONTEXT.Process(target=_in_child, args=(target, folder, told.path, *more)) for _ in range(count)]
    try:
        for program in programs:
            program.start()
        end = time.monotonic() + LONG
        while len(told.heard("begun")) < before + count:
            assert time.monotonic() < end, "a program does not begin"
            time.sleep(0.005)
        yield programs
    finally:
        for program in programs:
            if program.is_alive():
                program.kill()
            program.join(LONG)


def kill_once(case: Case, folder: Path, told: Told, draw: random.Random) -> bool:
    """Start the programs of a case and kill them; False where all of them had ended before."""
    with started(case.target, folder, told, case.together) as programs:
        time.sleep(draw.uniform(0, case.within))
        for program in programs:
            time.sleep(draw.uniform(0, 0.02) if case.together > 1 else 0)
            program.kill()
            program.join(LONG)
        codes = [program.exitcode for program in programs]
    assert set(codes) <= {0, -signal.SIGKILL}, f"{case.name}: a program ended with {codes}"
    return -signal.SIGKILL in codes


def finish(case: Case, folder: Path, told: Told) -> None:
    """Let the jobs that are left be done, and see that all of them are."""
    with started(case.target, folder, told, 1) as programs:
        programs[0].join(LONG)
        assert programs[0].exitcode == 0, f"{case.name}: the last worker ended with {programs[0].exitcode}"
    case.look(folder, told)
    with Workspace.open(folder, scan=False) as workspace:
        found = Jobs(workspace.database).all()
        assert all(state_of(job, found) == "done" for job in found if job.again is None), "a job was not done"


def state_of(job: Job, found: list[Job]) -> str:
    """How a job ended, or that which tried it again."""
    again = [other for other in found if other.again == job.number]
    return state_of(again[0], found) if again else job.state


def run_case(case: Case, kills: int, place: Path, draw: random.Random) -> Counter[str]:
    """Kill so many times; a new folder now and then."""
    total: Counter[str] = Counter()
    while total["kills"] < kills:
        folder = Path(tempfile.mkdtemp(dir=place))
        told = Told(folder.with_suffix(".told"))
        case.prepare(folder)
        for _ in range(min(AFRESH, kills - total["kills"])):
            killed = kill_once(case, folder, told, draw)
            seen = case.look(folder, told)
            total += Counter(kills=int(killed), orphans=seen["orphans"], lost=seen["lost"], made=seen["databases"])
            if not killed:
                break
        total += Counter(made=seen["steps"])
        if case.look is whole_jobs:
            finish(case, folder, told)
        shutil.rmtree(folder)
    return total


def crash(kills: int, place: Path, seed: int) -> dict[str, Counter[str]]:
    """So many kills, shared by the cases; what was counted by case. Raises AssertionError where something is wrong."""
    draw = random.Random(seed)  # noqa: S311 - no secret
    shares = [len(range(number, kills, len(CASES))) for number in range(len(CASES))]
    return {case.name: run_case(case, share, place, draw) for case, share in zip(CASES, shares, strict=True) if share}


def write_together(processes: int, seconds: float, place: Path) -> int:
    """Several programs write to one workspace for a while; how many steps there are. Raises AssertionError."""
    folder = Path(tempfile.mkdtemp(dir=place))
    told = Told(folder.with_suffix(".told"))
    empty(folder)
    with started(write_on, folder, told, processes, seconds) as programs:
        for program in programs:
            program.join(seconds + LONG)
        assert [program.exitcode for program in programs] == [0] * processes
    steps = told.heard("step")
    assert len(told.heard("ended")) == processes
    with Workspace.open(folder) as workspace:
        there = {step.number: step.model for step in workspace.steps.all()}
        assert len(there) == len(steps) + 1
        assert all(there[int(number)] == blob for number, blob in steps)
        assert workspace.check() == []
    return len(steps)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--writers", type=int, default=4, help="programs that write together")
    parser.add_argument("--seconds", type=float, default=60.0, help="for which they do")
    chosen = parser.parse_args()
    seed = time.time_ns() % 1_000_000 if chosen.seed is None else chosen.seed
    begun = time.monotonic()
    sys.stdout.write(f"seed {seed}\n")
    with tempfile.TemporaryDirectory(prefix="onnxprune-crash-") as place:
        for name, counted in crash(chosen.kills, Path(place), seed).items():
            sys.stdout.write(f"{name}: {', '.join(f'{value} {key}' for key, value in counted.items())}\n")
        if chosen.seconds > 0:
            steps = write_together(chosen.writers, chosen.seconds, Path(place))
            sys.stdout.write(f"{chosen.writers} writers: {steps} steps in {chosen.seconds:g} s\n")
    sys.stdout.write(f"nothing was lost, {time.monotonic() - begun:.0f} s\n")


CONTEXT.set_forkserver_preload(["onnxprune.workspace.worker", "tests.workspace.acting", "tests.cli.conftest"])

if __name__ == "__main__":
    main()
