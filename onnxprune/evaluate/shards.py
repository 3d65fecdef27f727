"""Shards: stretches of a dataset that are measured each by itself, and then summed up in their order.

Where shards begin depends on the model and the data alone. Sums of floating-point numbers are formed within each shard,
batch by batch, and then over the shards from the first to the last: so they are the same bit for bit whether one
process measures all shards or many measure some (on machines whose arithmetic is the same).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.data import Batch, Dataset, batches
from onnxprune.evaluate.layout import Asked
from onnxprune.evaluate.meter import Meter
from onnxprune.model import Model
from onnxprune.runtime import Session, session
from onnxprune.spread import own

__all__ = ["Check", "Found", "Shard", "counted", "in_flight", "length", "measure", "sessions", "shards", "trimmed"]

Array = NDArray[Any]
SAMPLES = 512  # in a shard, at most (but one batch at least)
BYTES = 16 << 20  # of inputs in a shard, at most (but one batch at least)
FLIGHT = 1 << 30  # bytes of inputs that are on their way to workers


@dataclass(frozen=True, eq=False)
class Check:
    """What all shards of an evaluation have in common.

    ``other``: the original, whose outputs those of ``model`` are compared with. ``both``: instead, both are measured,
    and the outputs of ``other`` are compared with those of ``model``. ``total``: samples in all. ``dataset``: fitted to
    ``model``; None where shards bring their batches.
    """

    model: Model
    other: Model | None
    asked: Asked
    total: int
    class_names: tuple[str, ...]
    name: str
    size: int
    provider: str
    threads: int | None
    both: bool = False
    dataset: Dataset | None = None


@dataclass(frozen=True, eq=False)
class Shard:
    """Samples from ``start`` to before ``stop``; their ``batches``, where a worker cannot read them itself."""

    start: int
    stop: int
    batches: tuple[Batch, ...] | None = None


@dataclass(frozen=True, eq=False)
class Found:
    """A meter for each model that is measured, and where they ran."""

    meters: tuple[Meter, ...]
    provider: str

    def merge(self, after: Found) -> None:
        """Add what was found on the samples that follow."""
        for meter, other in zip(self.meters, after.meters, strict=True):
            meter.merge(other)


def shards(dataset: Dataset, total: int, size: int, *, whole: bool = False) -> Iterator[Shard]:
    """All shards of the first ``total`` samples; with their batches (``whole``). ``size``: samples in a batch."""
    step = length(dataset, size)
    for start in range(0, total, step):
        stop = min(start + step, total)
        yield Shard(start, stop, tuple(batches(dataset, size, stop, start=start)) if whole else None)


def length(dataset: Dataset, size: int) -> int:
    """Samples in a shard: whole batches, within SAMPLES and BYTES where one batch is."""
    size = dataset.fixed or max(size, 1)
    sample = sum(_row_bytes(rows.shape, rows.dtype) for rows in dataset.inputs.values())
    return size * max(1, min(SAMPLES, BYTES // max(sample, 1)) // size)


def in_flight(dataset: Dataset, size: int, most: int) -> int:
    """How many shards may be on their way at a time."""
    sample = sum(_row_bytes(rows.shape, rows.dtype) for rows in dataset.inputs.values())
    return max(2, min(most, FLIGHT // max(1, sample * length(dataset, size))))


def _row_bytes(shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    return prod(shape[1:]) * dtype.itemsize


def measure(check: Check, shard: Shard) -> Found:
    """In a worker: what there is to find in a shard."""
    runs = own(check, sessions)
    return counted(check, runs, shard)


def sessions(check: Check) -> tuple[Session, ...]:
    """The models, ready to run."""
    models = (check.model,) if check.other is None else (check.model, check.other)
    return tuple(session(model, provider=check.provider, threads=check.threads) for model in models)


def counted(
    check: Check, runs: Sequence[Session], shard: Shard, progress: Callable[[int], None] | None = None
) -> Found:
    """As ``measure``; ``progress`` is told after each batch how many samples of all are done."""
    make = {"samples": check.total, "class_names": check.class_names, "name": check.name, "start": shard.start}
    meters = tuple(Meter(check.asked, **make) for _ in range(1 + check.both))  # type: ignore[arg-type]
    for batch in _batches(check, shard):
        outputs = [trimmed(run.run(batch.feeds), batch) for run in runs]
        if check.both:
            meters[0].add(outputs[0], batch.labels, batch.count)
            meters[1].add(outputs[1], batch.labels, batch.count, outputs[0])
        else:
            meters[0].add(outputs[0], batch.labels, batch.count, outputs[1] if check.other else None)
        if progress:
            progress(meters[0].done)
    return Found(meters, runs[0].provider)


def _batches(check: Check, shard: Shard) -> Iterator[Batch]:
    if shard.batches is not None:
        yield from shard.batches
    elif check.dataset is not None:
        yield from batches(check.dataset, check.size, shard.stop, start=shard.start)


def trimmed(outputs: Mapping[str, Array], batch: Batch) -> dict[str, Array]:
    """The outputs that are arrays, without the rows that only fill up a fixed batch."""
    size = len(next(iter(batch.feeds.values())))
    arrays = {name: array for name, array in outputs.items() if isinstance(array, np.ndarray)}
    return {name: array[: batch.count] if array.shape[:1] == (size,) else array for name, array in arrays.items()}
