"""Where independent tasks run: in this process, in several of this machine, or on a Dask cluster."""

from __future__ import annotations

import importlib
import importlib.util
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from onnxprune.errors import OptionError
from onnxprune.frontier import spare_memory
from onnxprune.sensitivity.spread import Share, portable

__all__ = ["Place", "SchedulerOption", "WorkersOption", "check_workers", "workplace"]

CLUSTER_MEMORY = 1 << 30  # bytes of activations in each worker of machines that we know nothing about
PATIENCE = "10s"

WorkersOption = Annotated[
    int, typer.Option("--workers", metavar="N", help="Processes that share the work, each with its own activations.")
]
SchedulerOption = Annotated[
    str | None,
    typer.Option(
        "--scheduler",
        metavar="tcp://HOST:PORT",
        help="A Dask scheduler, whose workers share the work; needs `distributed`.",
        show_default=False,
    ),
]


@dataclass(frozen=True)
class Place:
    """``executor``: None for this process. ``threads`` of a run and ``memory`` for activations, in each worker."""

    executor: Executor | None = None
    share: Share | None = None
    threads: int | None = None
    memory: int | None = None


def check_workers(workers: int, scheduler: str | None) -> None:
    """Raise OptionError before the work, not after it."""
    if workers < 1:
        raise OptionError(f"--workers {workers}: expected a number from 1 up", "Leave it out for one.")
    if scheduler is not None and workers > 1:
        raise OptionError("--workers and --scheduler are given: a cluster has its own workers", "Give one of them.")
    if scheduler is not None and importlib.util.find_spec("distributed") is None:
        raise OptionError(
            "--scheduler needs the package `distributed`, which is not installed",
            "Run pip install distributed, or use --workers for processes of this machine.",
        )


@contextmanager
def workplace(workers: int, scheduler: str | None, threads: int | None) -> Iterator[Place]:
    """The place as the options say; left at once when the block is interrupted."""
    if scheduler is not None:
        with _cluster(scheduler, threads) as place:
            yield place
    elif workers == 1:
        yield Place(threads=threads)
    else:
        with _processes(workers, threads) as place:
            yield place


@contextmanager
def _processes(workers: int, threads: int | None) -> Iterator[Place]:
    spawn = multiprocessing.get_context("spawn")  # a forked process cannot use the threads of its parent's sessions
    pool = ProcessPoolExecutor(workers, mp_context=spawn, initializer=_ignore_interrupts)
    memory = spare_memory() // workers
    with _deaf():
        pool.submit(int)  # starts them all
    try:
        yield Place(pool, None, threads or max(1, (os.cpu_count() or 1) // workers), memory)
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        for child in multiprocessing.active_children():
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


@contextmanager
def _cluster(address: str, threads: int | None) -> Iterator[Place]:
    distributed: Any = importlib.import_module("distributed")
    try:
        client = distributed.Client(address, timeout=PATIENCE, set_as_default=False)
        client.wait_for_workers(1, timeout=PATIENCE)
    except (OSError, ValueError) as error:
        raise OptionError(
            f"--scheduler {address}: no Dask cluster answers ({type(error).__name__}: {error})",
            "Start one with `dask scheduler`, and workers with `dask worker`; onnxprune must be installed there, too.",
        ) from error
    with client:
        share: Share = lambda work: client.scatter(portable(work), broadcast=True, hash=False)  # noqa: E731
        yield Place(client.get_executor(), share, threads, CLUSTER_MEMORY)
