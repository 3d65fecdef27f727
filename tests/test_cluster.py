"""A real Dask cluster of two workers: the same numbers, models sent once, workers and schedulers that die."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from onnxprune.automatic import repeat_seeds
from onnxprune.errors import OptionError
from onnxprune.guidance import previews, set_speculation, speculate
from onnxprune.sensitivity import load_sensitivity, scan
from onnxprune.spread import cluster as module
from onnxprune.spread import map_in_order
from onnxprune.spread.parcel import forget
from onnxprune.workplace import Place, workplace
from onnxprune.workspace.job import Job
from onnxprune.workspace.worker import work
from onnxprune.workspace.workspace import Workspace
from tests.cli.conftest import Call, call, cnn, save  # noqa: F401 - a fixture
from tests.clusters import Cluster, started
from tests.guidance.conftest import quiet
from tests.sensitivity.common import COUPLING, DEMO, MODEL, RATIOS, SCORES, few
from tests.spread_work import Common, arrived, count_arrivals, die, mapped, refuse, slow, weights
from tests.test_spread import agree, measured
from tests.workspace.conftest import write_data


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with started(2) as found:
        yield found


@pytest.fixture(scope="module")
def place(cluster: Cluster) -> Iterator[Place]:
    with workplace(scheduler=cluster.address) as found:
        yield found


def test_it_measures_what_one_process_does(place: Place) -> None:
    agree(measured(place), measured(Place()))


def test_a_model_goes_once_to_each_worker(cluster: Cluster) -> None:
    cluster.ask(forget)
    cluster.ask(count_arrivals)
    data = few()
    with workplace(scheduler=cluster.address) as place:
        for pause in (0.0, 2.5, 0.0):  # Dask forgets what is idle after two seconds
            time.sleep(pause)
            found = list(map_in_order(weights, Common(MODEL, data), range(10), place.executor, place.share))
            assert found == [(n, MODEL.nbytes, 100) for n in range(10)]
        again = MODEL.edit().build()
        list(map_in_order(weights, Common(again, few()), range(10), place.executor, place.share))
        assert list(cluster.ask(mapped).values()) == [[False], [False]]
    for keys in cluster.ask(arrived).values():
        assert sorted(key[:15] for key in keys if "-work-" not in key) == ["onnxprune-data-", "onnxprune-model"]
        assert len(keys) == 6, "and what was left of each of the four"
    assert list(cluster.ask(mapped).values()) == [[], []], "nothing stays when the client has gone"


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    monkeypatch.setenv("ONNXPRUNE_NO_MEASURE", "1")
    save(cnn(), tmp_path / "cnn.onnx")
    write_data(tmp_path / "data" / "bright.npz")
    with Workspace.open(tmp_path) as opened:
        yield opened


def test_likely_next_steps_are_the_same(cluster: Cluster, workspace: Workspace) -> None:
    found = []
    for scheduler in (None, cluster.address):
        set_speculation(workspace, suggestions=0, scheduler=scheduler)
        speculate(workspace, 1, ratios=(0.25, 0.5), threads=1)
        ended: list[Job] = []
        work(workspace, ended=ended.append)
        assert [(job.state, job.error) for job in ended] == [("done", "")]
        found.append([(p.plan, p.metrics, p.file_bytes) for p in previews(workspace, 1)])
        with workspace.database.writing() as connection:
            connection.execute("DELETE FROM preview")
    assert found[0] == found[1]
    assert len(found[0]) == 3, "with the baseline"


def test_seeds_make_the_same_models(place: Place, workspace: Workspace) -> None:
    options = {"epochs": 1, "deterministic": True}
    hashes = []
    for executor in (None, place.executor):
        made = repeat_seeds(workspace, 1, (0, 1, 2), str(executor), options, executor=executor, progress=quiet)
        hashes.append([workspace.steps.get(number).model_hash for number in made])
    assert hashes[0] == hashes[1]
    assert len(set(hashes[0])) == 3


def test_errors_come_as_they_are(place: Place) -> None:
    with pytest.raises(Exception, match="row ") as caught:
        list(map_in_order(refuse, Common(), range(5), place.executor, place.share))
    assert caught.value.hint == "Leave it out."  # type: ignore[attr-defined]


def test_the_command_line(cluster: Cluster, call: Call) -> None:  # noqa: F811
    arguments = (
        "evaluate",
        DEMO / "digits_cnn.onnx",
        "--data",
        DEMO / "digits.npz",
        "--split",
        "test",
        "--threads",
        "1",
    )
    alone = call(*arguments, "--json")
    for where in (("--scheduler", cluster.address), ("--workers", "2")):
        found = call(*arguments, *where, "--json")
        assert found.code == 0, found.err
        assert {**found.json, "latency": 0} == {**alone.json, "latency": 0}


class TestLosses:
    def test_a_worker(self, place: Place) -> None:
        found = []
        for number, (result, pid) in enumerate(
            map_in_order(slow, Common(MODEL), range(16), place.executor, place.share)
        ):
            if number == 2:
                os.kill(pid, signal.SIGKILL)
            found.append(result)
        assert found == [3 * n for n in range(16)]

    def test_all_workers_at_once(self, cluster: Cluster, place: Place) -> None:
        """The model is sent again."""
        found = []
        for number, (result, _) in enumerate(map_in_order(slow, Common(MODEL), range(12), place.executor, place.share)):
            if number == 2:
                for pid in cluster.pids():
                    os.kill(pid, signal.SIGKILL)
            found.append(result)
        assert found == [3 * n for n in range(12)]

    def test_a_task_that_kills_its_workers(self, place: Place) -> None:
        with pytest.raises(OptionError, match=r"the cluster did not finish its work: .* died") as caught:
            list(map_in_order(die, Common(), range(1), place.executor, place.share))
        assert "logs of its scheduler" in caught.value.hint

    def test_the_scheduler(self, tmp_path: Path) -> None:
        """What was measured is in the file, and the scan goes on from there."""
        file = tmp_path / "scan.json"
        with started(1) as doomed:

            def end(stage: str, done: int, _: int) -> None:
                if " at " in stage and done == 2:
                    doomed.kill()

            with (
                pytest.raises(OptionError, match="the connection to the scheduler was lost"),
                workplace(scheduler=doomed.address) as place,
            ):
                scan(
                    MODEL, COUPLING, SCORES, few(), ratios=RATIOS, groups=None, executor=place.executor,
                    share=place.share, file=file, progress=end, threads=1,
                )  # fmt: skip
        kept = load_sensitivity(file)
        alone = scan(MODEL, COUPLING, SCORES, few(), ratios=RATIOS, threads=1)
        assert 0 < len(kept.rows) < len(alone.rows)
        assert scan(MODEL, COUPLING, SCORES, few(), ratios=RATIOS, threads=1, file=file) == alone


class TestNobodyThere:
    """Told at once, without a traceback and without a line of Dask's log."""

    @pytest.fixture(autouse=True)
    def impatient(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "PATIENCE", 0.5)

    @pytest.mark.parametrize("command", ["evaluate", "sensitivity", "instability"])
    def test_a_wrong_address(self, command: str, call: Call, tmp_path: Path) -> None:  # noqa: F811
        rest = () if command == "evaluate" else ("-o", tmp_path / "out.json", "--samples", "20")
        model, data = DEMO / "digits_cnn.onnx", DEMO / "digits.npz"
        split = ("--split", "test") if command == "evaluate" else ()
        result = call(command, model, "--data", data, *split, *rest, "--scheduler", "tcp://127.0.0.1:1")
        assert result.code == 2
        assert "--scheduler tcp://127.0.0.1:1: no Dask cluster answers" in result.err
        assert "dask worker" in result.err
        assert "distributed" not in result.err
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize("address", ["", "nonsense", "http://127.0.0.1:8786", "tcp://127.0.0.1:x"])
    def test_no_address(self, address: str) -> None:
        with pytest.raises(OptionError, match="no Dask cluster answers"), workplace(scheduler=address):
            pass

    def test_no_workers(self) -> None:
        with (
            started(0) as empty,
            pytest.raises(OptionError, match="no Dask cluster answers"),
            workplace(scheduler=empty.address),
        ):
            pass
