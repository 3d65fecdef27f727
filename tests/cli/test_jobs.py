"""`onnxprune jobs`: the queue as a person sees it, and workers that go on when the command has ended."""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from onnxprune.cli import jobs as cli
from onnxprune.workspace.jobs import Jobs
from onnxprune.workspace.worker import work
from onnxprune.workspace.workspace import Workspace
from tests.cli.conftest import Call, cnn, save
from tests.cli.test_bad_input import refused
from tests.workspace import acting

LONG = 300.0  # seconds that something may take on a machine that has other things to do


@pytest.fixture
def folder(tmp_path: Path, data_file: Path) -> Path:
    """A workspace with a small model and data; step 1 is the model."""
    place = tmp_path / "work"
    (place / "data").mkdir(parents=True)
    shutil.copy(data_file, place / "data")
    save(cnn(), place / "net.onnx")
    with Workspace.open(place) as workspace:
        assert [step.kind for step in workspace.steps.all()] == ["original"]
    return place


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Actions of the tests instead of the real ones, for what runs in this process."""
    monkeypatch.setattr(cli, "ALL_ACTIONS", acting.ACTIONS)
    monkeypatch.setattr(cli, "serve", lambda ws, **more: work(ws, acting.ACTIONS, **more))


@pytest.fixture
def workers() -> Iterator[list[int]]:
    """Numbers of processes of which none is left at the end."""
    found: list[int] = []
    yield found
    for number in found:
        if psutil.pid_exists(number):
            psutil.Process(number).kill()


def until(true: Callable[[], object]) -> None:
    end = time.monotonic() + LONG
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


class TestRealWork:
    def test_a_worker_goes_on_when_the_command_has_ended(self, call: Call, folder: Path, workers: list[int]) -> None:
        where = ("--folder", folder)
        queued = call("jobs", "add", "prune", 1, "--set", "ratio=0.5", "--start", "--json", *where)
        assert queued.code == 0, queued.err
        workers.append(queued.json["worker"])
        waited = call("jobs", "wait", *where, "--json")
        assert waited.code == 0, waited.err
        (job,) = waited.json["jobs"]
        assert (job["number"], job["state"], job["options"]) == (1, "done", {"ratio": 0.5})
        with Workspace.open(folder, scan=False) as workspace:
            step = workspace.steps.get(job["result"])
            assert (step.kind, step.parent) == ("prune", 1)
            assert workspace.model(step.number).hash == step.model_hash != workspace.steps.get(1).model_hash
            assert workspace.check() == []
        until(lambda: not psutil.pid_exists(workers[0]))
        log = call("jobs", "log", 1, *where)
        assert "begun by process" in log.out
        assert f"done: step {step.number}" in log.out

    def test_here_and_now(self, call: Call, folder: Path) -> None:
        call("jobs", "add", "prune", 1, "--set", "ratio=0.3", "--set", "criterion=l1", "--folder", folder)
        done = call("jobs", "run", "--folder", folder)
        assert (done.code, done.out) == (0, "Job 1 (prune of step 1): done, step 2\n")
        failed = call("jobs", "add", "prune", 2, "--set", "ratio=1.5", "--folder", folder)
        assert failed.code == 0
        ran = call("jobs", "run", "--folder", folder)
        assert ran.code == 2
        assert "Job 2 (prune of step 2): failed: " in ran.out

    def test_a_signal_ends_a_real_worker(self, call: Call, folder: Path, workers: list[int]) -> None:
        with Workspace.open(folder, scan=False) as workspace:
            jobs = Jobs(workspace.database)
            jobs.add("fine-tune", 1, {"epochs": 100000})
            workers.append(jobs.start_worker(folder))
            until(lambda: jobs.get(1).done > 0)
            psutil.Process(workers[0]).send_signal(signal.SIGTERM)
            until(lambda: jobs.get(1).state == "cancelled")
            until(lambda: not psutil.pid_exists(workers[0]))
            assert len(workspace.steps.all()) == 1
        waited = call("jobs", "wait", 1, "--folder", folder)
        assert (waited.code, "the worker was told to end (SIGTERM)" in waited.out) == (130, True)


@pytest.mark.usefixtures("pretended")
class TestQueue:
    def test_list_show_and_log(self, call: Call, folder: Path) -> None:
        where = ("--folder", folder)
        assert call("jobs", "list", *where).out == "No jobs.\n"
        for action in ("record", "refuse", "fail"):
            assert call("jobs", "add", action, 1, "--set", "word=two words", *where).code == 0
        ran = call("jobs", "run", *where, "--json")
        assert (ran.code, [job["state"] for job in ran.json["jobs"]]) == (2, ["done", "failed", "failed"])
        added = call("jobs", "add", "record", 1, "--background", *where)
        assert added.out == "Job 4 is queued: record of step 1; `onnxprune jobs run` does it.\n"
        rows = [line.split() for line in call("jobs", "list", *where).out.splitlines()[2:]]
        assert [row[:3] for row in rows] == [
            ["1", "done", "record"], ["2", "failed", "refuse"], ["3", "failed", "fail"], ["4", "queued", "record"],
        ]  # fmt: skip
        listed = call("jobs", "list", "--state", "failed", "--state", "queued", "--json", *where).json["jobs"]
        assert [job["number"] for job in listed] == [2, 3, 4]
        shown = call("jobs", "show", 2, *where).out
        for part in ("Job 2: refuse of step 1, failed: no such ratio", "word: two words", "next: Take 0.5."):
            assert part in shown
        assert call("jobs", "show", 1, "--json", *where).json["result"] == 2
        assert "failed: no such ratio" in call("jobs", "log", 2, "--follow", *where).out
        lines = call("jobs", "log", 1, "--json", *where).json["lines"]
        assert lines[-1]["text"] == "done: step 2"

    def test_cancel_and_retry(self, call: Call, folder: Path) -> None:
        where = ("--folder", folder)
        call("jobs", "add", "record", 1, *where)
        ended = call("jobs", "cancel", 1, *where)
        assert ended.out == "Job 1 (record of step 1): cancelled: cancelled before it began\n"
        again = call("jobs", "retry", 1, "--json", *where)
        assert (again.json["number"], again.json["again"], again.json["worker"]) == (2, 1, None)
        assert call("jobs", "run", *where).code == 0
        assert call("jobs", "run", *where).out == "Nothing to do.\n"

    def test_what_is_refused(self, call: Call, folder: Path) -> None:
        where = ("--folder", folder)
        refused(call("jobs", "add", "shrink", 1, *where), "there is no action 'shrink'")
        refused(call("jobs", "add", "record", 9, *where), "there is no step 9")
        refused(call("jobs", "add", "record", 1, "--set", "ratio", *where), "expected NAME=VALUE")
        refused(call("jobs", "list", "--state", "dead", *where), "there is no such state")
        for command in ("show", "log", "cancel", "retry", "wait"):
            refused(call("jobs", command, 7, *where), "there is no job 7")
        call("jobs", "add", "record", 1, *where)
        call("jobs", "run", *where)
        refused(call("jobs", "retry", 1, *where), "job 1 is done")
        refused(call("jobs", "cancel", 1, *where), "job 1 is done already")
        refused(call("jobs", "list", "--folder", folder / "nowhere"), "there is no such folder")

    def test_a_folder_for_viewing(self, call: Call, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        where = ("--folder", folder)
        call("jobs", "add", "record", 1, *where)
        monkeypatch.setattr("onnxprune.workspace.workspace._writable", lambda _: False)
        assert [job["state"] for job in call("jobs", "list", "--json", *where).json["jobs"]] == ["queued"]
        for command in (("cancel", 1), ("retry", 1), ("run",), ("add", "record", 1)):
            refused(call("jobs", *command, *where), "was opened for viewing")
