"""Where independent tasks run: in this process, in several of this machine, or on a Dask cluster."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

from onnxprune.frontier import spare_memory
from onnxprune.spread import Share
from onnxprune.spread.cluster import cluster

__all__ = ["Place", "workplace"]

CLUSTER_MEMORY = 1 << 30  # bytes of activations in each worker of machines that we know nothing about


@dataclass(frozen=True)
class Place:
    """``executor``: None for this process. ``threads`` of a run and ``memory`` for activations, in each worker."""

    executor: Executor | None = None
    share: Share | None = None
    threads: int | None = None
    memory: int | None = None


@contextmanager
def workplace(workers: int = 1, scheduler: str | None = None, threads: int | None = None) -> Iterator[Place]:
    """A place of so many processes of this machine, or of the cluster with this scheduler; one worker is this process.

    Left at once when the block is interrupted. Raises OptionError where no cluster answers.
    """
    if scheduler is not None:
        with cluster(scheduler) as (executor, share):
            yield Place(executor, share, threads, CLUSTER_MEMORY)
    elif workers == 1:
        yield Place(threads=threads)
    else:
        with _processes(workers, threads) as place:
            yield place


@contextmanager
def _processes(workers: int, threads: int | None) -> Iterator[Place]:
    spawn = multiprocessing.get_context("spawn")  # a forked process cannot use the threads of its parent's sessions
    others = multiprocessing.active_children()
    pool = ProcessPoolExecutor(workers, mp_context=spawn, initializer=_ignore_interrupts)
    memory = spare_memory() // workers
    with _deaf():
        pool.submit(int)  # starts them all
    try:
        yield Place(pool, None, threads or max(1, (os.cpu_count() or 1) // workers), memory)
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        for child in multiprocessing.active_children():
            if child not in others:
                child.terminate()
        raise
    pool.shutdown()


def _ignore_interrupts() -> None:
    """Ctrl-C goes to the whole group of processes; the parent alone answers it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def _deaf() -> Iterator[None]:
    """Ignore Ctrl-C for a moment: a process that is started meanwhile does so from its first instruction on."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
