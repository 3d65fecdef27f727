"""Jobs that make many steps or none, and background jobs that come back after they made room."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from onnxprune.errors import OptionError, WorkspaceError
from onnxprune.workspace.job import BACKGROUND, PERSON, Job
from onnxprune.workspace.jobs import Jobs
from onnxprune.workspace.registry import ALL_ACTIONS, EXTRA, MANY
from onnxprune.workspace.worker import work
from onnxprune.workspace.workspace import Workspace
from tests.workspace import acting
from tests.workspace.acting import ACTIONS, opened

ROOT = Path(__file__).parents[2]
LONG = 120.0  # seconds that something may take on a machine that has other things to do


@pytest.fixture
def ws(tmp_path: Path) -> Iterator[Workspace]:
    with opened(tmp_path) as workspace:
        yield workspace


@pytest.fixture
def jobs(ws: Workspace) -> Jobs:
    return Jobs(ws.database)


def do(workspace: Workspace) -> list[Job]:
    ended: list[Job] = []
    work(workspace, ACTIONS, many=acting.MANY, ended=ended.append)
    return ended


def until(true: Callable[[], object]) -> None:
    end = time.monotonic() + LONG
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


class TestMany:
    def test_the_job_is_done_when_the_action_says_so(self, ws: Workspace, jobs: Jobs) -> None:
        jobs.add("several", 1, {"count": 3, "best": 1})
        (done,) = do(ws)
        assert (done.state, done.result) == ("done", 3)
        assert [step.parent for step in ws.steps.all()] == [None, 1, 2, 3]

    def test_what_was_made_stays_when_it_fails_and_a_retry_goes_on(self, ws: Workspace, jobs: Jobs) -> None:
        jobs.add("several", 1, {"count": 4, "break": 2})
        (failed,) = do(ws)
        assert (failed.state, failed.error, failed.result) == ("failed", "broke off", 3)
        retried = jobs.retry(failed.number)
        assert jobs.run_of(retried) == jobs.run_of(failed) == "job-1"
        (done,) = do(ws)
        assert (done.state, done.result) == ("done", 5)
        assert len(ws.steps.all()) == 5  # nothing is made twice

    def test_each_step_is_the_result_so_far(self, ws: Workspace, jobs: Jobs) -> None:
        jobs.add("several", 1, {"count": 2})
        job = jobs.claim()
        assert job is not None
        with jobs.recording(job, many=True):
            first = ACTIONS["record"](ws, 1, {}, lambda *_: None, lambda: False)
            now = jobs.get(job.number)
            assert (now.state, now.result) == ("running", first.number)
            jobs.finish(job, "cancelled")
            with pytest.raises(WorkspaceError, match=r"job 1 has ended: its step is not recorded"):
                ACTIONS["record"](ws, 1, {}, lambda *_: None, lambda: False)
        assert jobs.get(job.number).result == first.number
        assert len(ws.steps.all()) == 2

    def test_a_kill_leaves_whole_steps_and_the_retry_goes_on(self, ws: Workspace, jobs: Jobs) -> None:
        jobs.add("several", 1, {"count": 6, "seconds": 0.3})
        command = [sys.executable, "-m", "tests.workspace.acting", str(ws.folder)]
        process = subprocess.Popen(command, cwd=ROOT, start_new_session=True)
        try:
            until(lambda: len(ws.steps.all()) >= 3)
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        until(jobs.mark_lost)
        lost = jobs.get(1)
        there = ws.steps.all()
        assert (lost.state, lost.result) == ("lost", there[-1].number)
        assert not ws.check()
        jobs.retry(1)
        (done,) = do(ws)
        assert (done.state, done.again) == ("done", 1)
        assert len([step for step in ws.steps.all() if step.name == "job-1"]) == 6


class TestNone:
    def test_a_job_without_a_step(self, ws: Workspace, jobs: Jobs) -> None:
        jobs.add("nothing", 1)
        (done,) = do(ws)
        assert (done.state, done.result, done.error) == ("done", None, "")
        assert jobs.lines(1)[-1].text == "done"


class TestComingBack:
    def displaced(self, jobs: Jobs, returns: int) -> Job:
        """A background job that ended because a person's job was queued."""
        jobs.add("record", 1, {"word": "behind"}, priority=BACKGROUND, returns=returns)
        job = jobs.claim()
        assert job is not None
        jobs.add("record", 1, {"word": "person"})
        assert jobs.get(job.number).cancel
        jobs.finish(job, "cancelled")
        return job

    def test_it_is_queued_again_behind_what_made_it_end(self, ws: Workspace, jobs: Jobs) -> None:
        job = self.displaced(jobs, 2)
        again = jobs.all()[-1]
        assert (again.again, again.returns, again.state, again.priority) == (job.number, 1, "queued", BACKGROUND)
        assert again.options == job.options
        assert [done.options["word"] for done in do(ws)] == ["person", "behind"]

    def test_it_comes_back_so_often_and_no_more(self, jobs: Jobs) -> None:
        jobs.add("record", 1, priority=BACKGROUND, returns=1)
        for _ in range(4):
            job = jobs.claim()
            if job is None:
                break
            if job.priority == BACKGROUND:
                jobs.add("record", 1)
            jobs.finish(job, "cancelled")
        assert [job.returns for job in jobs.all() if job.priority == BACKGROUND] == [1, 0]

    def test_not_by_default_and_not_when_a_person_cancelled_it(self, ws: Workspace, jobs: Jobs) -> None:
        self.displaced(jobs, 0)
        assert [job.priority for job in jobs.all(("queued",))] == [PERSON]
        do(ws)
        jobs.add("record", 1, priority=BACKGROUND, returns=5)
        job = jobs.claim()
        assert job is not None
        jobs.add("record", 1)
        jobs.cancel(job.number)
        jobs.cancel(job.number)  # twice changes nothing
        jobs.finish(job, "cancelled")
        assert [job.priority for job in jobs.all(("queued",))] == [PERSON]


class TestRegistry:
    def test_every_extra_action_is_there(self) -> None:
        assert set(EXTRA) <= set(ALL_ACTIONS)
        assert len(list(ALL_ACTIONS)) == len(ALL_ACTIONS)
        assert all(callable(ALL_ACTIONS[name]) for name in ALL_ACTIONS)
        assert set(MANY) <= set(EXTRA)

    def test_an_unknown_action_is_told(self, ws: Workspace, jobs: Jobs) -> None:
        jobs.add("no such", 1)
        work(ws)
        job = jobs.get(1)
        assert job.state == "failed"
        assert "auto" in job.hint

    def test_a_bad_option_ends_the_job(self, ws: Workspace, jobs: Jobs) -> None:
        with pytest.raises(OptionError, match=r"nothing says when to stop"):
            ALL_ACTIONS["auto"](ws, 1, {}, lambda *_: None, lambda: False)
        jobs.add("auto", 1, {"ratio": "7/3"})
        work(ws)
        assert "ratio: got 7/3, expected a share between 0 and 1" in jobs.get(1).error
