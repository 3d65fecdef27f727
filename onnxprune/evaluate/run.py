"""Running models over data and measuring them: one, one against its original, or two side by side."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import closing
from dataclasses import replace
from functools import partial, reduce

from onnxprune.data import Dataset, fit
from onnxprune.errors import DataError, OptionError
from onnxprune.evaluate.layout import Asked
from onnxprune.evaluate.result import Evaluation
from onnxprune.evaluate.shards import Check, Found, counted, in_flight, length, measure, sessions, shards
from onnxprune.model import Model
from onnxprune.runtime import model_inputs
from onnxprune.spread import AHEAD, Share, map_in_order

__all__ = ["STAGE", "Progress", "evaluate", "evaluate_pair"]

Progress = Callable[[str, int, int], None]
STAGE = "evaluating"


def evaluate(  # noqa: PLR0913 - every option of the command is an argument
    model: Model,
    dataset: Dataset,
    *,
    original: Model | None = None,
    task: str | None = None,
    top_k: int | None = None,
    ignore_label: int | None = None,
    curves: str = "auto",
    size: int = 64,
    limit: int | None = None,
    provider: str = "auto",
    threads: int | None = None,
    executor: Executor | None = None,
    share: Share | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Run the model over the dataset, once: metrics against the labels, and against ``original`` where given.

    ``task``, ``top_k``, ``ignore_label``, ``curves`` are those of ``Asked``. ``size``: samples at a time; ``limit``: at
    most so many in all. ``executor``: takes shards of the data, which are summed up in their order, so that the result
    is the same to the last bit for any number of workers, and without one; ``share`` says how the models get to the
    workers (by default in files of this machine), and with one the samples travel, too.

    Raises DataError where the dataset does not fit the model, the labels fit none of its outputs, or there is neither a
    label nor an original to compare with; ModelError for outputs that are NaN; OptionError.
    """
    asked = Asked(task, top_k, ignore_label, curves)
    if original is None and (dataset.labels is None or task == "fidelity"):
        told = f"{dataset.name}: it has no labels" if dataset.labels is None else "the task `fidelity`"
        raise DataError(
            f"{told}, and there is no model to compare with",
            "Without labels a model can only be compared with another one: give the original model.",
        )
    check = _check(model, original, dataset, asked, size, limit, provider, threads)
    found = _measured(check, fit(dataset, model_inputs(model)), progress, executor, share)
    return found.meters[0].finish(found.provider)


def evaluate_pair(  # noqa: PLR0913 - as above
    before: Model,
    after: Model,
    dataset: Dataset,
    *,
    task: str | None = None,
    top_k: int | None = None,
    ignore_label: int | None = None,
    curves: str = "auto",
    size: int = 64,
    limit: int | None = None,
    provider: str = "auto",
    threads: int | None = None,
    executor: Executor | None = None,
    share: Share | None = None,
    progress: Progress | None = None,
) -> tuple[Evaluation, Evaluation]:
    """Both models over the dataset in one pass; the second one's metrics include its fidelity to the first.

    Labels are not needed. Arguments and errors are those of ``evaluate``.
    """
    asked = Asked(task, top_k, ignore_label, curves)
    check = replace(_check(before, after, dataset, asked, size, limit, provider, threads), both=True)
    found = _measured(check, fit(dataset, model_inputs(before)), progress, executor, share)
    first, second = (meter.finish(found.provider) for meter in found.meters)
    return first, second


def _check(
    model: Model,
    other: Model | None,
    dataset: Dataset,
    asked: Asked,
    size: int,
    limit: int | None,
    provider: str,
    threads: int | None,
) -> Check:
    _check_labels(dataset, asked.task)
    total = _total(dataset, limit)
    return Check(model, other, asked, total, dataset.class_names, dataset.name, size, provider, threads)


def _measured(
    check: Check, data: Dataset, progress: Progress | None, executor: Executor | None, share: Share | None
) -> Found:
    """All shards, summed up in their order. ``data``: fitted to the first model."""
    done = partial(_tell, progress, check.total)
    local = replace(check, dataset=data)
    if executor is None:
        runs = sessions(check)
        return reduce(_merged, (counted(local, runs, shard, done) for shard in shards(data, check.total, check.size)))
    step = length(data, check.size)
    results = map_in_order(
        measure,
        local if share is None else check,
        shards(data, check.total, check.size, whole=share is not None),
        executor,
        share,
        progress=lambda count: done(min(count * step, check.total)),
        ahead=in_flight(data, check.size, AHEAD),
    )
    with closing(results):
        return reduce(_merged, results)


def _merged(found: Found, after: Found) -> Found:
    found.merge(after)
    return found


def _tell(progress: Progress | None, total: int, done: int) -> None:
    if progress:
        progress(STAGE, done, total)


def _check_labels(dataset: Dataset, task: str | None) -> None:
    if dataset.labels is None and task not in (None, "fidelity"):
        raise DataError(f"{dataset.name}: it has no labels, which the task `{task}` needs", "Give `y` in the dataset.")


def _total(dataset: Dataset, limit: int | None) -> int:
    if limit is not None and limit < 1:
        raise OptionError(f"a limit of {limit} samples", "Ask for at least one, or leave it out for all.")
    return len(dataset) if limit is None else min(limit, len(dataset))
