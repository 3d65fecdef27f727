"""All runs, one after the other or as tasks of an executor."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import closing

import numpy as np
from numpy.typing import NDArray

from onnxprune.criteria.base import SCALES
from onnxprune.data import Dataset
from onnxprune.errors import OptionError
from onnxprune.instability.ranks import Instability, check_within, ranked
from onnxprune.instability.run import Desk, Training, Work
from onnxprune.losses import Loss
from onnxprune.model import Model
from onnxprune.spread import Share, map_in_order, own
from onnxprune.values import Coupling

__all__ = ["RUNS", "Training", "instability"]

Floats = NDArray[np.float64]
Scores = dict[str, Floats]
Progress = Callable[[str, int, int], None]

RUNS = 5


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
        told = None if progress is None else lambda done: progress("training", done, runs)
        with closing(map_in_order(_run, work, range(runs), executor, share, progress=told)) as results:
            found = list(results)
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


def _run(work: Work, number: int) -> Scores:
    """In the worker, which keeps its desk from one run to the next."""
    return own(work, Desk).run(number)
