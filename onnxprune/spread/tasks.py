"""Tasks out to the workers of an executor, results back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from contextlib import closing
from itertools import islice
from typing import Any, TypeVar

from onnxprune.errors import OptionError
from onnxprune.spread.parcel import Files, Share, at_home, opened

__all__ = ["AHEAD", "Lost", "Watched", "as_finished", "map_in_order"]

C = TypeVar("C")
T = TypeVar("T")
R = TypeVar("R")

AHEAD = 64  # tasks that are handed out at a time
AGAIN = 3  # times that a task is handed out once more, with what it needs
PULSE = 2.0  # seconds after which one who hears nothing looks whether the workers are still there


class Lost(BrokenExecutor):
    """What a task needs, or its result, went with a worker; those who are left can do it."""


class Watched(ABC):
    """An executor whose workers may be gone without a word."""

    @abstractmethod
    def watch(self) -> None:
        """Raise BrokenExecutor where nobody will answer any more."""

    @abstractmethod
    def told(self, error: BrokenExecutor) -> OptionError:
        """What a person is told where workers are gone for good."""


def map_in_order(
    work: Callable[[C, T], R],
    common: C,
    tasks: Iterable[T],
    executor: Executor | None = None,
    share: Share | None = None,
    *,
    progress: Callable[[int], None] | None = None,
    ahead: int = AHEAD,
) -> Generator[R]:
    """``work(common, task)`` for each task, in the order of the tasks.

    Arguments and errors are those of `as_finished`. ``progress``: told how many are done.
    """
    waiting: dict[int, R] = {}
    following = 0
    with closing(as_finished(work, common, tasks, executor, share, ahead=ahead)) as found:
        for done, (number, result) in enumerate(found, 1):
            waiting[number] = result
            if progress:
                progress(done)
            while following in waiting:
                yield waiting.pop(following)
                following += 1


def as_finished(
    work: Callable[[C, T], R],
    common: C,
    tasks: Iterable[T],
    executor: Executor | None = None,
    share: Share | None = None,
    *,
    ahead: int = AHEAD,
) -> Generator[tuple[int, R]]:
    """The number of each task and ``work(common, task)``, as they end.

    ``work``: a function at the top of a module. ``common``: a frozen dataclass. ``tasks`` are read as they are needed,
    at most ``ahead`` are under way; what has not begun is cancelled when the caller stops listening. ``executor``: None
    for this thread. ``share``: how what is common gets to the workers; None for files of this machine.

    Raises what ``work`` raises, and OptionError where workers are gone for good.
    """
    if executor is None:
        with at_home():
            yield from ((number, work(common, task)) for number, task in enumerate(tasks))
        return
    try:
        yield from _handed_out(work, common, enumerate(tasks), executor, share or Files.of(executor), ahead)
    except BrokenExecutor as error:
        if isinstance(executor, Watched):
            raise executor.told(error) from error
        raise OptionError(
            f"a worker ended without an answer: {error}",
            "It may have run out of memory: take fewer workers or samples, or a smaller batch. What was finished is"
            " kept, if anywhere.",
        ) from error


def _handed_out(
    work: Callable[[C, T], R],
    common: C,
    tasks: Iterable[tuple[int, T]],
    executor: Executor,
    share: Share,
    ahead: int,
) -> Generator[tuple[int, R]]:
    source = iter(tasks)
    handle = share(common)
    pending: dict[Future[R], tuple[int, T, int, object]] = {}  # with the handle, which must not go before the task ends
    try:
        while True:
            for number, task in islice(source, ahead - len(pending)):
                pending[executor.submit(_do, work, handle, task)] = number, task, 0, handle
            if not pending:
                return
            lost = []
            for future in _ended(pending, executor):
                number, task, tries, _ = pending.pop(future)
                try:
                    result = future.result()
                except Lost:
                    if tries == AGAIN:
                        raise
                    lost.append((number, task, tries + 1))
                    continue
                yield number, result
            if lost:
                handle = share(common)
            for number, task, tries in lost:
                pending[executor.submit(_do, work, handle, task)] = number, task, tries, handle
    finally:
        for future in pending:
            future.cancel()


def _ended(pending: Iterable[Future[R]], executor: Executor) -> list[Future[R]]:
    """Some that have ended, in the order in which they were handed out."""
    while True:
        done, _ = wait(pending, PULSE, FIRST_COMPLETED)
        if done:
            return [future for future in pending if future in done]
        if isinstance(executor, Watched):
            executor.watch()


def _do(work: Callable[[Any, T], R], handle: Any, task: T) -> R:
    """In the worker."""
    return work(opened(handle), task)
