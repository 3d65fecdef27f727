"""Over threads, processes and what behaves like a cluster, a scan is the same as alone."""

from __future__ import annotations

from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from typing import Any

import pytest

from onnxprune.sensitivity import Sensitivity, scan
from onnxprune.sensitivity.desk import Desk
from tests.sensitivity.common import COUPLING, MODEL, RATIOS, SCORES, few


@pytest.fixture(scope="module")
def alone() -> Sensitivity:
    return scan(MODEL, COUPLING, SCORES, few(), ratios=RATIOS)


class Backwards(Executor):
    """Runs everything in this thread, the last first, as an unlucky scheduler might."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Future[Any], Any, Any]] = []

    def submit(self, fn: Any, /, *args: Any, **_: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.waiting.append((future, fn, args))
        if len(self.waiting) == len(COUPLING.groups):
            for each, function, given in reversed(self.waiting):
                each.set_result(function(*given))
        return future


def test_processes(alone: Sensitivity) -> None:
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        assert scan(MODEL, COUPLING, SCORES, few(), ratios=RATIOS, executor=pool, threads=1) == alone


def test_threads(alone: Sensitivity) -> None:
    with ThreadPoolExecutor(2) as pool:
        assert scan(MODEL, COUPLING, SCORES, few(), ratios=RATIOS, executor=pool) == alone


def test_in_any_order_and_handed_over_by_the_caller(alone: Sensitivity, monkeypatch: pytest.MonkeyPatch) -> None:
    desks: list[int] = []
    made = Desk.__init__
    monkeypatch.setattr(Desk, "__init__", lambda self, *a: desks.append(1) or made(self, *a))
    handed: list[object] = []
    found = scan(
        MODEL, COUPLING, SCORES, few(), ratios=RATIOS, executor=Backwards(),
        share=lambda work: handed.append(work) or work,
    )  # fmt: skip
    assert found == alone
    assert len(handed) == 1
    assert len(desks) == 1, "the worker keeps its desk"


def test_what_has_not_begun_is_cancelled() -> None:
    class Waiting(Executor):
        def __init__(self) -> None:
            self.futures: list[Future[Any]] = []

        def submit(self, fn: Any, /, *args: Any, **_: Any) -> Future[Any]:
            self.futures.append(Future())
            if len(self.futures) == 1:
                self.futures[0].set_result(fn(*args))
            return self.futures[-1]

    def stop(stage: str, *_: int) -> None:
        if " at " in stage:
            raise KeyboardInterrupt

    pool = Waiting()
    with pytest.raises(KeyboardInterrupt):
        scan(MODEL, COUPLING, SCORES, few(), ratios=RATIOS, executor=pool, progress=stop)
    assert [future.cancelled() for future in pool.futures] == [False] + [True] * (len(COUPLING.groups) - 1)
