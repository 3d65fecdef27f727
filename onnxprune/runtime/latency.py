"""Measured latency: milliseconds per call on this machine, of one model or of several in turns.

The speed of a machine drifts by more than what pruning changes: clocks rise and fall, others come and go. So models to
be compared take turns of some 20 ms, back and forth (A B, B A, ...), until each had its number of calls and its time:
a drift hits all of them alike. The first call of a turn is not counted; it brings weights back into the caches that the
other model used. Between calls onnxruntime's threads rest: spinning, as they do by default, they take a core away
from the other model, which on two cores made MobileNetV2 take 7.4 ms instead of 3.0; resting costs it 3%.

A GPU may round to TF32 here, as it does by default; copying inputs to it and outputs back counts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from onnxprune._messages import translated
from onnxprune._model import Model
from onnxprune.errors import OptionError
from onnxprune.runtime.arrays import Array
from onnxprune.runtime.devices import check_running, device_of
from onnxprune.runtime.native import ERRORS, Setup
from onnxprune.runtime.sessions import Session, open_session

__all__ = ["Latency", "compare_latency", "measure_latency"]

Feeds = Mapping[str, Array]
TURN = 0.02  # seconds that a model runs before the next one does
WARM = 0.1  # seconds of warming up, in which the threads of sessions made earlier stop spinning
SECONDS = 0.2
PERCENT = 100


@dataclass(frozen=True)
class Latency:
    """Milliseconds per call, measured: median, 10th and 90th percentile. ``threads`` None: onnxruntime's choice.

    ``batch`` is the first size of the first input.
    """

    median_ms: float
    p10_ms: float
    p90_ms: float
    runs: int
    threads: int | None
    provider: str
    batch: int

    @property
    def per_second(self) -> float:
        """Samples per second, at the median."""
        return 1000 * self.batch / self.median_ms


def measure_latency(
    model: Model,
    feeds: Feeds,
    *,
    runs: int = 30,
    warmup: int = 5,
    seconds: float = SECONDS,
    threads: int | None = None,
    provider: str = "auto",
) -> Latency:
    """Time of one model: ``compare_latency`` without others."""
    return compare_latency(
        [model], feeds, runs=runs, warmup=warmup, seconds=seconds, threads=threads, provider=provider
    )[0]


def compare_latency(
    models: Sequence[Model],
    feeds: Feeds | Sequence[Feeds],
    *,
    runs: int = 30,
    warmup: int = 5,
    seconds: float = SECONDS,
    threads: int | None = None,
    provider: str = "auto",
    progress: Callable[[str, int, int], None] | None = None,
) -> tuple[Latency, ...]:
    """Time models in turns, after ``warmup`` untimed calls of each: one ``Latency`` for each, in their order.

    ``feeds``: for all of them, or one for each. Each is timed at least ``runs`` times and for ``seconds`` in all.
    ``progress`` is called with the stage in words, how much of it is done, and out of how many. Raises OptionError,
    and what ``session`` and ``Session.run`` raise.
    """
    if runs < 1 or warmup < 0:
        raise OptionError(f"{runs} runs after {warmup} for warming up", "Ask for at least one run.")
    all_feeds = [feeds] * len(models) if isinstance(feeds, Mapping) else list(feeds)
    if not models or len(models) != len(all_feeds):
        raise OptionError(f"{len(models)} models, feeds for {len(all_feeds)}", "Give one feed, or one for each model.")
    check_running(provider, threads)
    setup = Setup(device_of(provider), threads, tf32=True, rest=True)
    ready = [open_session(model, setup, cache=False) for model in models]
    try:
        timed = [_Timed(s.call(f)) for s, f in zip(ready, all_feeds, strict=True)]
        _warm(timed, warmup, min(WARM, seconds))
        _take_turns(timed, runs, seconds, progress)
    except ERRORS as error:
        raise translated(error, "a model failed to run while it was timed") from error
    return tuple(_latency(t, s, f, threads) for t, s, f in zip(timed, ready, all_feeds, strict=True))


@dataclass
class _Timed:
    """One model with the seconds that its calls took."""

    call: Callable[[], object]
    times: list[float] = field(default_factory=list)
    total: float = 0.0

    def once(self) -> float:
        start = time.perf_counter()
        self.call()
        return time.perf_counter() - start

    def turn(self, runs: int, seconds: float) -> None:
        """Calls for about 20 ms, or until there are enough; the first is not counted where others can follow it."""
        spent = self.once()
        if spent >= TURN:
            self.times.append(spent)
            self.total += spent
        while spent < TURN:
            took = self.once()
            spent += took
            self.times.append(took)
            self.total += took
            if self.done(runs, seconds) >= 1:
                return

    def done(self, runs: int, seconds: float) -> float:
        """The share of the calls and of the time that are wanted; 1 or more: enough."""
        return min(len(self.times) / runs, self.total / seconds if seconds else 1.0)


def _warm(timed: Sequence[_Timed], warmup: int, seconds: float) -> None:
    end = time.perf_counter() + seconds
    for one in timed:
        for _ in range(warmup):
            one.once()
    while time.perf_counter() < end:
        for one in timed:
            one.once()


def _take_turns(
    timed: Sequence[_Timed], runs: int, seconds: float, progress: Callable[[str, int, int], None] | None
) -> None:
    order = list(timed)
    done = 0.0
    while done < 1:
        for one in order:
            one.turn(runs, seconds)
        order.reverse()
        done = min(one.done(runs, seconds) for one in timed)
        if progress:
            progress("measuring latency", min(int(PERCENT * done), PERCENT), PERCENT)


def _latency(timed: _Timed, ready: Session, feeds: Feeds, threads: int | None) -> Latency:
    p10, median, p90 = (1000 * float(value) for value in np.percentile(timed.times, (10, 50, 90)))
    first = np.shape(feeds[ready.inputs[0].name]) if ready.inputs else ()
    return Latency(median, p10, p90, len(timed.times), threads, ready.provider, first[0] if first else 1)
