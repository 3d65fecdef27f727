"""The workers of a Dask cluster: an executor whose troubles are told as those of any other, and what they are sent.

A model goes to the workers under a key made of its hash, a dataset under one made of its rows: what is there already
is not sent again, and a worker that comes later gets it from another one. Tasks of a worker that died are done again
by the others (Dask sees to it); where the last copy of a model died with it, the model is sent once more.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import logging
import os
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from onnxprune.data import Dataset
from onnxprune.errors import OptionError
from onnxprune.model import Model
from onnxprune.runtime import model_inputs
from onnxprune.spread.parcel import (
    KEPT,
    REST,
    Parcel,
    Part,
    forget,
    portable_dataset,
    portable_model,
    split,
)
from onnxprune.spread.tasks import Lost, Watched

__all__ = ["ClusterExecutor", "Courier", "Remote", "cluster"]

PATIENCE = 10.0  # seconds for a scheduler and a first worker to answer
FETCH = 300.0  # seconds for a worker to get a part from another one
PAUSE = 0.2  # seconds until something is sent again
ALONE = 60.0  # seconds that a cluster may be without any worker in the middle of the work


@contextmanager
def cluster(address: str) -> Iterator[tuple[Executor, Courier]]:
    """The workers of the scheduler at ``address`` and the share to reach them. Raises OptionError: nobody answers."""
    distributed: Any = importlib.import_module("distributed")
    with _quiet():
        try:
            with ThreadPoolExecutor(1) as thread:  # this one may have an event loop of its own
                thread.submit(asyncio.run, _greeted(distributed, address)).result()
            client = distributed.Client(address, timeout=PATIENCE, set_as_default=False)
        except (OSError, ValueError) as error:
            raise _nobody(address, error) from error
        with client:
            try:
                client.wait_for_workers(1, timeout=PATIENCE)
            except (OSError, ValueError) as error:
                raise _nobody(address, error) from error
            try:
                yield ClusterExecutor(client), Courier(client)
            finally:
                if client.status == "running":
                    with suppress(OSError, CancelledError):
                        client.run(forget, on_error="ignore")


async def _greeted(distributed: Any, address: str) -> None:
    """Ask the scheduler who it is: a client that never met one takes long to give up, even when nobody wants it."""
    async with distributed.rpc(address, timeout=PATIENCE) as scheduler:
        await asyncio.wait_for(scheduler.identity(), PATIENCE)


def _nobody(address: str, error: Exception) -> OptionError:
    return OptionError(
        f"--scheduler {address}: no Dask cluster answers ({type(error).__name__}: {error})",
        "Start one with `dask scheduler`, and workers with `dask worker`; onnxprune must be installed there, too.",
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """What goes wrong is told as an error of ours, and not in a log besides."""
    logs = [logging.getLogger(name) for name in logging.root.manager.loggerDict if name.startswith("distributed")]
    levels = [log.level for log in logs]
    for log in logs:
        log.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for log, level in zip(logs, levels, strict=True):
            log.setLevel(level)


class ClusterExecutor(Executor, Watched):
    """The client's executor; a task that went with its worker, or with the scheduler, is a BrokenExecutor."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._inner = client.get_executor(pure=False)
        self._seen = time.monotonic()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Raises BrokenExecutor where the scheduler is gone."""
        self._check()
        inner = self._inner.submit(fn, *args, **kwargs)
        outer: Future[Any] = Future()
        outer.add_done_callback(lambda future: inner.cancel() if future.cancelled() else None)
        inner.add_done_callback(lambda future: self._pass_on(future, outer))
        return outer

    def _pass_on(self, inner: Future[Any], outer: Future[Any]) -> None:
        if not outer.set_running_or_notify_cancel():
            return
        try:
            outer.set_result(inner.result())
        except CancelledError:
            outer.set_exception(
                Lost("the workers that had it died, one after the other") if self._connected else BrokenExecutor(GONE)
            )
        except Exception as error:  # noqa: BLE001 - whatever the task raised, or Dask instead of it
            outer.set_exception(_told(error))

    @property
    def _connected(self) -> bool:
        return bool(self._client.status == "running")

    def _check(self) -> None:
        if not self._connected:
            raise BrokenExecutor(GONE)

    def watch(self) -> None:
        """Raise BrokenExecutor where the scheduler is gone, or has had no worker for a minute."""
        self._check()
        if self._client.scheduler_info()["workers"]:
            self._seen = time.monotonic()
        elif time.monotonic() > self._seen + ALONE:
            raise BrokenExecutor(f"the cluster has had no worker for {ALONE:.0f} seconds")

    def told(self, error: BrokenExecutor) -> OptionError:
        """What a person is told where the cluster is gone for good."""
        return OptionError(
            f"the cluster did not finish its work: {error}",
            "Look at the logs of its scheduler and workers, and whether they have enough memory. What was finished is"
            " kept, if anywhere.",
        )


GONE = "the connection to the scheduler was lost"


def _told(error: Exception) -> Exception:
    """What Dask says of a task that ended one worker after the other."""
    if type(error).__name__ != "KilledWorker":
        return error
    return BrokenExecutor("every worker that took the task died with it")


class Courier:
    """The share of a cluster: what stands for a work are handles of its parts."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._sent: OrderedDict[str, Remote] = OrderedDict()
        self._known: weakref.WeakKeyDictionary[Dataset, tuple[Any, str]] = weakref.WeakKeyDictionary()
        self._lock = threading.Lock()

    def __call__(self, common: Any) -> Parcel:
        """Datasets go as the field ``model`` takes them. Raises BrokenExecutor where the scheduler is gone."""
        parts = split(common)
        rest = parts.pop(REST)
        model = parts.get("model")
        inputs = None if model is None else model_inputs(model)
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                with self._lock:
                    sent: dict[str, Part] = {REST: self._scattered(f"onnxprune-work-{os.urandom(16).hex()}", rest)}
                    for name, part in parts.items():
                        sent[name] = self._model(part) if isinstance(part, Model) else self._dataset(part, inputs)
                return Parcel(sent)
            except (OSError, CancelledError) as error:  # a worker may die while it is sent something
                if self._client.status != "running" or time.monotonic() > deadline:
                    raise BrokenExecutor(f"nothing can be sent to the workers ({error})") from error
            time.sleep(PAUSE)

    def _model(self, model: Model) -> Part:
        return self._there(f"onnxprune-model-{model.hash}", lambda: portable_model(model))

    def _dataset(self, dataset: Dataset, inputs: Any) -> Part:
        known = self._known.get(dataset)
        if known is None or known[0] != inputs:
            whole = portable_dataset(dataset, inputs)
            known = self._known[dataset] = inputs, f"onnxprune-data-{_digest(whole)}"
        return self._there(known[1], lambda: portable_dataset(dataset, inputs))

    def _there(self, key: str, make: Callable[[], Any]) -> Part:
        """What stands for a part, which is sent where it is not on the cluster."""
        if key not in self._sent or self._sent[key].future.status != "finished":
            self._sent[key] = self._scattered(key, make())
            while len(self._sent) > KEPT:
                self._sent.popitem(last=False)
        self._sent.move_to_end(key)
        return self._sent[key]

    def _scattered(self, key: str, part: Any) -> Remote:
        return Remote(key, self._client.scatter({key: part}, broadcast=True)[key])


@dataclass(frozen=True)
class Remote(Part):
    """A part on the cluster, there as long as somebody holds its ``future``, which stays on this side.

    It is not an argument that Dask sees to: Dask forgets idle copies after a while and would send them again.
    """

    key: str
    future: Any = field(default=None, compare=False)

    def load(self) -> Any:
        """Raises Lost where nobody has it any more."""
        worker: Any = importlib.import_module("distributed").get_worker()
        if self.key in worker.data:
            return worker.data[self.key]
        try:
            fetching = asyncio.run_coroutine_threadsafe(_fetched(worker, self.key), worker.loop.asyncio_loop)
            return fetching.result(FETCH)
        except (OSError, CancelledError, KeyError) as error:
            raise Lost(f"{self.key} is nowhere ({type(error).__name__})") from error

    def __reduce__(self) -> tuple[type[Remote], tuple[str]]:
        return Remote, (self.key,)


async def _fetched(worker: Any, key: str) -> Any:
    """What another worker has under this key. Raises KeyError where none has it, or none that had it answers."""
    comm: Any = importlib.import_module("distributed.utils_comm")
    deadline = time.monotonic() + PATIENCE
    while True:
        holders = await worker.scheduler.who_has(keys=[key])
        data, *_ = await comm.gather_from_workers(holders, rpc=worker.rpc, who=worker.address)
        if key in data or not holders.get(key) or time.monotonic() > deadline:
            return data[key]
        await asyncio.sleep(PAUSE)  # a holder may have died, which the scheduler is told in a moment


def _digest(dataset: Dataset) -> str:
    """Of all that a dataset in memory holds."""
    digest = hashlib.sha256(repr((dataset.name, dataset.class_names, dataset.allow_nan, dataset.fixed)).encode())
    for name, rows in dataset.columns():
        array = np.asarray(rows)
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(repr(array.tolist()).encode() if array.dtype.kind == "O" else np.ascontiguousarray(array).data)
    return digest.hexdigest()
