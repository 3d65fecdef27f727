"""Tasks over workers of this machine: order, what is kept, what is sent, and what becomes of failures."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnxprune.data import Dataset
from onnxprune.errors import DataError, OptionError
from onnxprune.evaluate import Evaluation, evaluate
from onnxprune.instability import instability
from onnxprune.sensitivity import scan
from onnxprune.spread import Lost, Watched, as_finished, map_in_order, own
from onnxprune.spread import parcel as parcels
from onnxprune.spread import tasks as module
from onnxprune.spread.parcel import KEPT, Files, Stored, forget, opened
from onnxprune.workplace import Place, workplace
from tests.evaluate.test_shards import same
from tests.sensitivity.common import COUPLING, MODEL, RATIOS, SCORES, few
from tests.spread_work import Common, desk, die, refuse, times, times_own, weights


@pytest.fixture(scope="module")
def pool() -> Iterator[Executor]:
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as executor:
        yield executor


class Late(Executor):
    """Keeps what it is given until so much is there; then the last is done first."""

    def __init__(self, batch: int) -> None:
        self.batch, self.most = batch, 0
        self.waiting: list[tuple[Future[Any], Any, Any]] = []

    def submit(self, fn: Any, /, *args: Any, **_: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.waiting.append((future, fn, args))
        self.most = max(self.most, len(self.waiting))
        if len(self.waiting) == self.batch:
            for each, function, given in reversed(self.waiting):
                each.set_result(function(*given))
            self.waiting.clear()
        return future


class TestOrder:
    def test_that_of_the_tasks(self) -> None:
        told: list[int] = []
        found = map_in_order(times, Common(), range(12), Late(4), ahead=4, progress=told.append)
        assert list(found) == [3 * n for n in range(12)]
        assert told == list(range(1, 13))

    def test_here(self) -> None:
        assert list(map_in_order(times, Common(), range(5))) == [0, 3, 6, 9, 12]
        assert list(as_finished(times, Common(), range(2))) == [(0, 0), (1, 3)]
        assert list(map_in_order(times, Common(), [])) == []

    def test_processes(self, pool: Executor) -> None:
        assert list(map_in_order(times, Common(), range(5), pool)) == [0, 3, 6, 9, 12]
        assert sorted(as_finished(times, Common(), range(2), pool)) == [(0, 0), (1, 3)]
        assert list(map_in_order(times, Common(), [], pool)) == []

    def test_tasks_are_read_as_they_are_needed(self) -> None:
        read: list[int] = []
        source = (read.append(n) or n for n in range(1000))
        with ThreadPoolExecutor(1) as pool:
            found = map_in_order(times, Common(), source, pool, ahead=4)
            assert next(found) == 0
            assert len(read) <= 8
            found.close()

    def test_what_has_not_begun_is_cancelled(self) -> None:
        pool = Late(100)
        gate = threading.Event()

        class First(Late):
            def submit(self, fn: Any, /, *args: Any, **_: Any) -> Future[Any]:
                future = super().submit(fn, *args)
                if not gate.is_set():
                    gate.set()
                    future.set_result(fn(*args))
                return future

        pool = First(100)
        found = as_finished(times, Common(), range(5), pool)
        assert next(found) == (0, 0)
        found.close()
        assert [future.cancelled() for future, *_ in pool.waiting] == [False, True, True, True, True]


class TestWhatIsSent:
    def test_models_and_datasets_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        written: list[str] = []
        write = Files._write
        monkeypatch.setattr(
            Files, "_write", lambda self, part: written.append(type(part).__name__) or write(self, part)
        )
        data, expected = few(), [(n, MODEL.nbytes, 100) for n in range(3)]
        with ThreadPoolExecutor(2) as pool:
            for _ in range(3):
                assert list(map_in_order(weights, Common(MODEL, data), range(3), pool)) == expected
            again = MODEL.edit().build()
            assert list(map_in_order(weights, Common(again, data), range(3), pool)) == expected
        assert again is not MODEL
        assert sorted(written) == ["Common"] * 4 + ["Dataset", "Model"]

    def test_read_once_by_a_process(self, monkeypatch: pytest.MonkeyPatch) -> None:
        read: list[Path] = []
        load = Stored.load
        monkeypatch.setattr(Stored, "load", lambda self: read.append(self.path) or load(self))
        data = few()
        with ThreadPoolExecutor(1) as pool:
            list(map_in_order(weights, Common(MODEL, data), range(20), pool))
            list(map_in_order(weights, Common(MODEL, data), range(20), pool))
        assert len(read) == len(set(read)) == 4, "the model, the data, and what was left of each call"

    def test_files_go(self) -> None:
        files = Files()
        folder = files._folder
        handles = [files(Common(None, few(), n)) for n in range(KEPT + 3)]
        assert len(list(folder.iterdir())) == 2 * (KEPT + 3), "a handle keeps its files"
        assert opened(handles[0]).factor == 0
        handles.clear()
        forget()
        assert len(list(folder.iterdir())) == KEPT, "the next call may want the data again"
        del files
        assert not folder.exists()

    def test_one_share_for_an_executor(self, pool: Executor) -> None:
        assert Files.of(pool) is Files.of(pool)
        with ThreadPoolExecutor(1) as other:
            assert Files.of(other) is not Files.of(pool)


class TestWhatAWorkerKeeps:
    def test_its_own(self) -> None:
        common = Common()
        with ThreadPoolExecutor(1) as pool:
            assert len(set(map_in_order(desk, common, range(10), pool))) == 1
        made: list[int] = []
        for each in (common, common, Common(), common):
            own(each, lambda c: made.append(c.factor))
        assert len(made) == 3
        forget()

    def test_nothing_stays_here(self) -> None:
        before = Common()
        kept = own(before, lambda _: object())
        assert list(map_in_order(times_own, Common(), range(3))) == [0, 3, 6]
        assert own(before, lambda _: object()) is kept
        forget()
        assert parcels._OWN == {}
        assert list(map_in_order(times_own, Common(), range(3))) == [0, 3, 6]
        assert parcels._OWN == {}


class TestFailures:
    def test_errors_come_as_they_are(self, pool: Executor) -> None:
        with pytest.raises(DataError) as caught:
            list(map_in_order(refuse, Common(), range(5), pool))
        assert caught.value.message.startswith("row ")
        assert caught.value.hint == "Leave it out."

    def test_a_process_that_dies(self) -> None:
        with (
            ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool,
            pytest.raises(OptionError, match=r"a worker ended without an answer.*\n.*fewer workers or samples"),
        ):
            list(map_in_order(die, Common(), range(2), pool))

    def test_lost_tasks_are_done_again(self) -> None:
        class Losing(ThreadPoolExecutor):
            left = 3

            def submit(self, fn: Any, /, *args: Any, **_: Any) -> Future[Any]:
                if args[-1] == 2 and self.left:
                    self.left -= 1
                    future: Future[Any] = Future()
                    future.set_exception(Lost("it went with a worker"))
                    return future
                return super().submit(fn, *args)

        shares: list[Any] = []
        share = lambda common: shares.append(common) or common  # noqa: E731
        with Losing(1) as pool:
            assert list(map_in_order(times, Common(), range(5), pool, share)) == [0, 3, 6, 9, 12]
        assert len(shares) == 4, "what they need is sent again"
        Losing.left = 4
        with Losing(1) as pool, pytest.raises(OptionError, match="it went with a worker"):
            list(map_in_order(times, Common(), range(5), pool))

    def test_silence(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "PULSE", 0.01)

        class Silent(Late, Watched):
            asked = 0

            def watch(self) -> None:
                self.asked += 1
                if self.asked == 3:
                    raise BrokenExecutor("nobody is left")

            def told(self, error: BrokenExecutor) -> OptionError:
                return OptionError(f"the end: {error}", "Look there.")

        with pytest.raises(OptionError, match="the end: nobody is left"):
            list(map_in_order(times, Common(), range(5), Silent(100)))


REGRESSION = Dataset(few().inputs, np.random.default_rng(0).standard_normal((100, 10)).astype(np.float32))
UNLABELLED = few(labels=False)
LABELLED = few(600)


@pytest.fixture(scope="module")
def alone() -> dict[str, Any]:
    """In this process."""
    return measured(Place())


def measured(place: Place) -> dict[str, Any]:
    """Everything that can be spread, small. Run with one thread everywhere."""
    where: dict[str, Any] = {"executor": place.executor, "share": place.share, "threads": 1}
    return {
        "classes": evaluate(MODEL, LABELLED, **where),
        "regression": evaluate(MODEL, REGRESSION, size=7, task="regression", **where),
        "fidelity": evaluate(MODEL, UNLABELLED, original=MODEL, **where),
        "scan": scan(MODEL, COUPLING, SCORES, few(), ratios=RATIOS, metric="loss", **where),
        "instability": instability(MODEL, COUPLING, few(), runs=3, **where),
    }


def agree(found: dict[str, Any], alone: dict[str, Any]) -> None:
    """To the last bit."""
    assert found.keys() == alone.keys()
    for name, value in found.items():
        if isinstance(value, Evaluation):
            same(value, alone[name])
        else:
            assert value == alone[name], name


def test_two_processes_measure_what_one_does(alone: dict[str, Any]) -> None:
    with workplace(2, None, 1) as place:
        agree(measured(place), alone)
