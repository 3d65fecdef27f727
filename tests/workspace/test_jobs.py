"""The queue of jobs, the workers that do them, and how they end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import pytest

from onnxprune.errors import OptionError, StepNotFound, WorkspaceError
from onnxprune.workspace.database import Database
from onnxprune.workspace.job import BACKGROUND, FRESH, SILENT, Job, alive
from onnxprune.workspace.jobs import Jobs
from onnxprune.workspace.steps import Steps
from onnxprune.workspace.values import Cancelled
from onnxprune.workspace.worker import Running, work
from onnxprune.workspace.workspace import Workspace
from tests.workspace.acting import ACTIONS, opened

ROOT = Path(__file__).parents[2]
LONG = 120.0  # seconds that something may take on a machine that has other things to do


@dataclass(frozen=True)
class Store:
    """A workspace and its jobs."""

    workspace: Workspace
    steps: Steps
    jobs: Jobs


@pytest.fixture
def ws(tmp_path: Path) -> Iterator[Store]:
    with opened(tmp_path) as workspace:
        yield Store(workspace, workspace.steps, Jobs(workspace.database))


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    """Start workers, and see that none is left at the end."""
    started = []

    def begin(limit: int = 1) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "tests.workspace.acting", str(tmp_path), str(limit)]
        started.append(subprocess.Popen(command, cwd=ROOT, start_new_session=True))
        return started[-1]

    yield begin
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def until(true: Callable[[], object]) -> None:
    """Wait for something to come true."""
    end = time.monotonic() + LONG
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def do(workspace: Workspace, limit: int = 1) -> list[Job]:
    """Do what is queued, in this process; returns the jobs as they ended, in that order."""
    ended: list[Job] = []
    work(workspace, ACTIONS, limit=limit, ended=ended.append)
    return ended


class TestQueue:
    def test_a_job_is_done_with_its_step(self, ws: Store) -> None:
        job = ws.jobs.add("record", 1, {"word": "a", "size": 3})
        assert (job.state, job.options, job.result) == ("queued", {"word": "a", "size": 3}, None)
        (done,) = do(ws.workspace)
        assert (done.number, done.state, done.result, done.error) == (job.number, "done", 2, "")
        assert done.eta is None
        assert done.started is not None
        assert done.ended is not None
        assert job.created <= done.started <= done.ended + 0.01
        assert [s.number for s in ws.steps.all()] == [1, 2]
        lines = [line.text for line in ws.jobs.lines(job.number)]
        assert lines[0] == f"begun by {done.worker}"
        assert lines[-2:] == ["writing", "done: step 2"]
        assert ws.jobs.lines(job.number, after=len(lines) - 1)[0].text == "done: step 2"

    def test_a_persons_jobs_come_first_then_the_oldest(self, ws: Store) -> None:
        numbers = [ws.jobs.add("record", 1, priority=p).number for p in (BACKGROUND, 100, BACKGROUND, 100)]
        assert [job.number for job in do(ws.workspace)] == [numbers[n] for n in (1, 3, 0, 2)]

    def test_heavy_jobs_wait_for_each_other_and_light_ones_do_not(self, ws: Store) -> None:
        heavy = [ws.jobs.add("record", 1) for _ in range(3)]
        light = ws.jobs.add("record", 1, heavy=False)
        taken = [ws.jobs.claim(2) for _ in range(4)]
        assert [job and job.number for job in taken] == [heavy[0].number, heavy[1].number, light.number, None]
        assert taken[0] is not None
        assert ws.jobs.finish(taken[0], "failed", error="x")
        last = ws.jobs.claim(2)
        assert last is not None
        assert last.number == heavy[2].number

    def test_background_work_makes_room(self, ws: Store) -> None:
        ws.jobs.add("slow", 1, {"seconds": LONG}, priority=BACKGROUND)

        def beside() -> None:
            with Workspace.open(ws.workspace.folder) as other:
                do(other)

        thread = threading.Thread(target=beside)
        thread.start()
        until(lambda: ws.jobs.get(1).state == "running")
        ws.jobs.add("record", 1)
        thread.join(LONG)
        assert [(job.state, job.error) for job in ws.jobs.all()] == [("cancelled", "cancelled"), ("done", "")]

    def test_what_cannot_be_queued(self, ws: Store) -> None:
        with pytest.raises(StepNotFound, match=r"there is no step 9"):
            ws.jobs.add("record", 9)
        with pytest.raises(OptionError, match=r"options of 'record' are not JSON values"):
            ws.jobs.add("record", 1, {"path": Path("a")})
        with pytest.raises(WorkspaceError, match=r"(?s)there is no job 4.*jobs list"):
            ws.jobs.lines(4)
        assert ws.jobs.all() == []

    def test_a_job_that_has_ended_is_never_changed(self, ws: Store) -> None:
        ws.jobs.add("record", 1)
        (done,) = do(ws.workspace)
        assert not ws.jobs.finish(done, "failed", error="late")
        with (
            pytest.raises(WorkspaceError, match=r"a job that has ended is never changed"),
            ws.jobs.database.writing() as connection,
        ):
            connection.execute("UPDATE job SET state = 'queued'")
        for call in (ws.jobs.cancel, ws.jobs.retry):
            with pytest.raises(WorkspaceError, match=r"job 1 is done"):
                call(1)
        assert ws.jobs.get(1) == done

    def test_time_left_follows_from_the_pace(self, ws: Store) -> None:
        ws.jobs.add("record", 1)
        job = ws.jobs.claim()
        assert job is not None
        assert job.eta is None
        ws.jobs.beat(job, "training", time.time() - 10, 4, 12)
        eta = ws.jobs.get(1).eta
        assert eta is not None
        assert eta == pytest.approx(20, rel=0.05)

    def test_a_stage_that_tells_its_loss_is_one_stretch_of_work(self, ws: Store) -> None:
        running = Running(ws.jobs.add("record", 1))
        running.progress("reading")
        began = running.at[1]
        for batch in range(50):
            running.progress(f"loss {batch}", batch, 1000)
        stretch = running.at[1]
        assert began <= stretch
        assert running.at == ("loss 49", stretch, 49, 1000)
        running.progress("measuring", 3, 20)
        assert running.at[1] >= stretch
        assert list(running.news) == ["reading", "loss 0", "measuring"]
        running.ask("cancelled")
        with pytest.raises(Cancelled, match=r"cancelled"):
            running.progress("recording")

    def test_queue_and_log_survive_and_can_be_read_only(self, ws: Store) -> None:
        ws.jobs.add("record", 1)
        do(ws.workspace)
        ws.jobs.add("slow", 1, {"seconds": 1})
        ws.jobs.database.rows("PRAGMA wal_checkpoint(TRUNCATE)")
        viewer = Jobs(Database(ws.jobs.database.path, readonly=True))
        assert [job.state for job in viewer.all()] == ["done", "queued"]
        assert [job.action for job in viewer.all(("queued",))] == ["slow"]
        assert viewer.lines(1)
        with pytest.raises(WorkspaceError, match=r"it may only be read"):
            viewer.cancel(2)


class TestFaults:
    def test_refused_failed_and_unknown(self, ws: Store) -> None:
        for action in ("refuse", "fail", "nonsense", "record"):
            ws.jobs.add(action, 1)
        refused, failed, unknown, done = do(ws.workspace)
        assert (refused.state, refused.error, refused.hint) == ("failed", "no such ratio", "Take 0.5.")
        assert (failed.state, failed.error) == ("failed", "ZeroDivisionError: by zero")
        assert any("acting.py" in line.text for line in ws.jobs.lines(failed.number))
        assert (unknown.state, unknown.error) == ("failed", "there is no action 'nonsense'")
        assert done.state == "done"
        assert ws.jobs.lines(refused.number)[-1].text == "failed: no such ratio"

    def test_a_full_disk_records_nothing_and_the_next_job_is_done(self, ws: Store) -> None:
        for action in ("full", "record"):
            ws.jobs.add(action, 1)
        failed, done = do(ws.workspace)
        assert (failed.state, failed.result) == ("failed", None)
        assert failed.error.endswith("the disk is full")
        assert [step.number for step in ws.steps.all()] == [1, done.result]

    def test_a_retry_is_a_new_job(self, ws: Store) -> None:
        ws.jobs.add("refuse", 1, {"a": 1}, priority=7, heavy=False)
        (failed,) = do(ws.workspace)
        again = ws.jobs.retry(failed.number)
        assert (again.action, again.options, again.priority, again.heavy) == ("refuse", {"a": 1}, 7, False)
        assert (again.again, again.state, ws.jobs.get(1)) == (1, "queued", failed)

    def test_a_job_makes_one_step(self, ws: Store) -> None:
        ws.jobs.add("twice", 1)
        (job,) = do(ws.workspace)
        assert (job.state, job.result) == ("done", 2)
        assert len(ws.steps.all()) == 2

    def test_a_result_that_is_there_already_is_no_fault(self, ws: Store) -> None:
        for _ in range(2):
            ws.jobs.add("same", 1)
        assert [(job.state, job.result) for job in do(ws.workspace)] == [("done", 1), ("done", 1)]

    def test_steps_of_no_job_are_recorded_as_ever(self, ws: Store) -> None:
        ws.jobs.add("record", 1)
        do(ws.workspace)
        ACTIONS["record"](ws.workspace, 2, {}, lambda *_: None, lambda: False)
        assert [s.number for s in ws.steps.all()] == [1, 2, 3]

    def test_a_job_that_was_given_up_records_nothing(self, ws: Store) -> None:
        ws.jobs.add("record", 1)
        job = ws.jobs.claim()
        assert job is not None
        with ws.jobs.database.writing() as connection:
            connection.execute("UPDATE job SET beat = ? WHERE number = 1", (time.time() - SILENT - 1,))
        assert [j.state for j in ws.jobs.mark_lost()] == ["lost"]
        refused = pytest.raises(WorkspaceError, match=r"job 1 has ended: its step is not recorded")
        with ws.jobs.recording(job), refused:
            ACTIONS["record"](ws.workspace, 1, {}, lambda *_: None, lambda: False)
        assert len(ws.steps.all()) == 1
        assert ws.jobs.get(1).error == f"{job.worker} died"
        assert ws.jobs.retry(1).again == 1


class TestAlive:
    @pytest.fixture
    def job(self, ws: Store) -> Job:
        ws.jobs.add("record", 1)
        job = ws.jobs.claim()
        assert job is not None
        return job

    def test_this_process_is(self, job: Job) -> None:
        assert alive(job)
        assert alive(replace(job, beat=time.time() - SILENT / 2))

    def test_a_silent_one_is_not(self, job: Job) -> None:
        assert not alive(replace(job, beat=time.time() - SILENT - 1))

    def test_another_process_of_the_same_number_is_not(self, job: Job) -> None:
        other = replace(job, worker=replace(job.worker, born=job.worker.born - 100))
        assert alive(other)  # the clock may have been set: there was a sign just now
        assert not alive(replace(other, beat=time.time() - FRESH - 1))

    def test_one_that_is_gone_is_not(self, job: Job) -> None:
        process = subprocess.Popen([sys.executable, "-c", ""])
        until(lambda: psutil.Process(process.pid).status() == psutil.STATUS_ZOMBIE)
        dead = replace(job, worker=replace(job.worker, pid=process.pid))
        assert not alive(dead)
        process.wait()
        assert not alive(dead)

    def test_of_another_machine_only_signs_count(self, job: Job) -> None:
        far = replace(job, worker=replace(job.worker, host="elsewhere", pid=2**22 + 1))
        assert alive(far)
        assert not alive(replace(far, beat=time.time() - SILENT - 1))


class TestEnding:
    def ended(self, ws: Store, number: int) -> Job:
        until(lambda: ws.jobs.get(number).state not in ("queued", "running"))
        return ws.jobs.get(number)

    @pytest.mark.parametrize("action", ["slow", "polite", "deaf"])
    def test_cancelled(self, ws: Store, start: Callable[[], subprocess.Popen[bytes]], action: str) -> None:
        ws.jobs.add(action, 1, {"seconds": LONG})
        process = start()
        until(lambda: ws.jobs.get(1).state == "running")
        asked = ws.jobs.cancel(1)
        assert (asked.state, asked.cancel) == ("running", True)
        job = self.ended(ws, 1)
        assert (job.state, job.error, job.result) == ("cancelled", "cancelled", None)
        process.wait(LONG)
        assert len(ws.steps.all()) == 1

    def test_cancelled_before_it_began(self, ws: Store) -> None:
        ws.jobs.add("record", 1)
        job = ws.jobs.cancel(1)
        assert (job.state, job.error) == ("cancelled", "cancelled before it began")
        assert do(ws.workspace) == []
        with pytest.raises(WorkspaceError, match=r"job 1 is cancelled already"):
            ws.jobs.cancel(1)

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    @pytest.mark.parametrize("action", ["slow", "deaf"])
    def test_signals_end_the_worker(
        self, ws: Store, start: Callable[[], subprocess.Popen[bytes]], action: str, number: signal.Signals
    ) -> None:
        ws.jobs.add(action, 1, {"seconds": LONG})
        ws.jobs.add("record", 1)
        process = start()
        until(lambda: ws.jobs.get(1).stage)
        process.send_signal(number)
        job = self.ended(ws, 1)
        assert (job.state, job.error) == ("cancelled", f"the worker was told to end ({number.name})")
        assert process.wait(LONG) == (130 if action == "deaf" else 0)
        assert ws.jobs.get(2).state == "queued"

    def test_a_killed_worker_is_found_and_its_job_can_be_done_again(
        self, ws: Store, start: Callable[[], subprocess.Popen[bytes]]
    ) -> None:
        ws.jobs.add("slow", 1, {"seconds": LONG})
        process = start()
        until(lambda: ws.jobs.get(1).stage == "slow")
        process.kill()
        until(lambda: psutil.Process(process.pid).status() == psutil.STATUS_ZOMBIE)
        (lost,) = ws.jobs.mark_lost()
        assert (lost.state, lost.error) == ("lost", f"{lost.worker} died")
        assert "jobs retry 1" in lost.hint
        assert ws.jobs.mark_lost() == []
        ws.jobs.add("record", 1)
        assert [job.state for job in do(ws.workspace)] == ["done"]

    def test_a_second_worker_ends_by_itself(self, ws: Store, start: Callable[..., subprocess.Popen[bytes]]) -> None:
        for _ in range(2):
            ws.jobs.add("slow", 1, {"seconds": LONG})
        first = start()
        until(lambda: ws.jobs.get(1).stage == "slow")
        assert start().wait(LONG) == 0
        assert [job.state for job in ws.jobs.all()] == ["running", "queued"]
        third = start(2)
        until(lambda: ws.jobs.get(2).stage == "slow")
        for process in (first, third):
            process.terminate()
            assert process.wait(LONG) == 0
        assert [job.state for job in ws.jobs.all()] == ["cancelled", "cancelled"]

    def test_several_workers_do_every_job_once(self, ws: Store, start: Callable[..., subprocess.Popen[bytes]]) -> None:
        for n in range(40):
            ws.jobs.add("record", 1, {"word": n}, heavy=n % 2 == 0)
        for process in [start(2) for _ in range(3)]:
            assert process.wait(LONG) == 0
        results = [job.result for job in ws.jobs.all(("done",))]
        assert len(results) == len(set(results)) == 40
        assert {s.number for s in ws.steps.all()} == {1, *results}
