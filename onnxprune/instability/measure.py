"""All runs, one after the other or as tasks of an executor."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from concurrent.futures import BrokenExecutor, Executor, as_completed
from contextlib import closing
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.criteria.base import SCALES
from onnxprune.data import Dataset
from onnxprune.errors import OptionError
from onnxprune.instability.ranks import Instability, check_within, ranked
from onnxprune.instability.run import Desk, Training, Work
from onnxprune.losses import Loss
from onnxprune.model import Model
from onnxprune.sensitivity.spread import Share, Shared, handed
from onnxprune.values import Coupling

__all__ = ["RUNS", "Training", "instability"]

Floats = NDArray[np.float64]
Scores = dict[str, Floats]
Progress = Callable[[str, int, int], None]

RUNS = 5
_MINE = threading.local()


def instability(  # noqa: PLR0913 - one argument for each option of the command
    model: Model,
    coupling: Coupling,
    dataset: Dataset,
    *,
    runs: int = RUNS,
    within: str = "model",
    training: Training | None = None,
    losses: tuple[Loss, ...] | None = None,
    normalise: str = "layer",
    seed: int = 0,
    provider: str = "auto",
    threads: int | None = None,
    executor: Executor | None = None,
    share: Share | None = None,
    progress: Progress | None = None,
) -> Instability:
    """Rank all units by sensitivity in several runs of training, and measure how far their ranks spread.

    ``model``: without local functions, as `experiment.analyse` gives it. ``within``: ranks count over the "model" or
    within each "layer". ``normalise``: of the sensitivities that are ranked ("layer", "model", "none"). ``losses``:
    None for what the labels call for. ``executor``: takes the runs one by one; ``share`` says how what they have in
    common gets to its workers (by default in a file of this machine). CNNPruner, equation 4.

    Raises OptionError, DataError (data that do not fit), and UnsupportedModel where no group has a gradient.
    """
    if runs < 2:
        raise OptionError(f"runs: got {runs}, expected at least 2", "Ranks of one run do not spread.")
    if normalise not in SCALES:
        raise OptionError(f"normalise: got {normalise!r}, expected one of {', '.join(SCALES)}", "Leave it out.")
    check_within(within)
    training = training or Training()
    work = Work(model, coupling.options, dataset, training, losses, normalise, seed, provider, threads)
    desk = Desk(work, coupling)  # here as well: what is wrong with the data is found before workers are started
    if executor is None:
        found = [desk.run(number, _within(progress, number, runs)) for number in range(runs)]
    else:
        with closing(_spread(work, runs, executor, share)) as entries:
            by_number = {}
            for number, scores in entries:
                by_number[number] = scores
                if progress:
                    progress("training", len(by_number), runs)
        found = [by_number[number] for number in range(runs)]
    if progress:
        progress("training", runs, runs)
    return Instability(
        coupling.model_hash, desk.goal.words, within, normalise, runs, len(dataset), desk.steps, training.batch,
        training.rate, training.momentum, seed, ranked(found, within), desk.warnings,
    )  # fmt: skip


def _within(progress: Progress | None, number: int, runs: int) -> Callable[[int, int], None] | None:
    if progress is None:
        return None
    return lambda done, steps: progress(f"run {number + 1} of {runs}", number * steps + done, runs * steps)


def _spread(work: Work, runs: int, executor: Executor, share: Share | None) -> Generator[tuple[int, Scores]]:
    """Number and sensitivities of each run as it ends; what has not begun is cancelled when nobody listens any more."""
    with handed(work, share) as handle:
        futures = {executor.submit(_run, handle, number): number for number in range(runs)}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BrokenExecutor as error:
            raise OptionError(
                f"a worker ended without an answer: {error}",
                "It may have run out of memory: take fewer workers or a smaller batch.",
            ) from error
        finally:
            for future in futures:
                future.cancel()


def _run(handle: Shared | Work, number: int) -> Scores:
    """In the worker, which keeps its desk from one run to the next."""
    key: Any = str(handle.path) if isinstance(handle, Shared) else (handle.model.hash, id(handle))
    if getattr(_MINE, "key", None) != key:
        _MINE.desk = Desk(handle.load() if isinstance(handle, Shared) else handle)
        _MINE.key = key
    desk: Desk = _MINE.desk
    return desk.run(number)
