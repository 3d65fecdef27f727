"""Running models over data and measuring them: one, one against its original, or two side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.data import Batch, Dataset, batches, fit
from onnxprune.errors import DataError, OptionError
from onnxprune.evaluate.layout import Asked
from onnxprune.evaluate.meter import Meter
from onnxprune.evaluate.result import Evaluation
from onnxprune.model import Model
from onnxprune.runtime import Session, session

__all__ = ["STAGE", "Progress", "evaluate", "evaluate_pair", "trimmed"]

Array = NDArray[Any]
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
    progress: Progress | None = None,
) -> Evaluation:
    """Run the model over the dataset, once: metrics against the labels, and against ``original`` where given.

    ``task``, ``top_k``, ``ignore_label``, ``curves`` are those of ``Asked``. ``size``: samples at a time; ``limit``: at
    most so many in all. Raises DataError where the dataset does not fit the model, the labels fit none of its outputs,
    or there is neither a label nor an original to compare with; ModelError for outputs that are NaN; OptionError.
    """
    asked = Asked(task, top_k, ignore_label, curves)
    if original is None and (dataset.labels is None or task == "fidelity"):
        told = f"{dataset.name}: it has no labels" if dataset.labels is None else "the task `fidelity`"
        raise DataError(
            f"{told}, and there is no model to compare with",
            "Without labels a model can only be compared with another one: give the original model.",
        )
    _check_labels(dataset, task)
    meter = _meter(asked, dataset, limit)
    models = (model,) if original is None else (model, original)
    runs = [session(m, provider=provider, threads=threads) for m in models]
    for batch, outputs in _outputs(runs, dataset, size, limit, progress):
        meter.add(outputs[0], batch.labels, batch.count, outputs[1] if original else None)
    return meter.finish(runs[0].provider)


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
    progress: Progress | None = None,
) -> tuple[Evaluation, Evaluation]:
    """Both models over the dataset in one pass; the second one's metrics include its fidelity to the first.

    Labels are not needed. Arguments and errors are those of ``evaluate``.
    """
    asked = Asked(task, top_k, ignore_label, curves)
    _check_labels(dataset, task)
    first, second = _meter(asked, dataset, limit), _meter(asked, dataset, limit)
    runs = [session(m, provider=provider, threads=threads) for m in (before, after)]
    for batch, outputs in _outputs(runs, dataset, size, limit, progress):
        first.add(outputs[0], batch.labels, batch.count)
        second.add(outputs[1], batch.labels, batch.count, outputs[0])
    return first.finish(runs[0].provider), second.finish(runs[1].provider)


def trimmed(outputs: Mapping[str, Array], batch: Batch) -> dict[str, Array]:
    """The outputs that are arrays, without the rows that only fill up a fixed batch."""
    size = len(next(iter(batch.feeds.values())))
    arrays = {name: array for name, array in outputs.items() if isinstance(array, np.ndarray)}
    return {name: array[: batch.count] if array.shape[:1] == (size,) else array for name, array in arrays.items()}


def _outputs(
    runs: Sequence[Session], dataset: Dataset, size: int, limit: int | None, progress: Progress | None
) -> Iterator[tuple[Batch, list[dict[str, Array]]]]:
    """Each batch and the models' outputs for it."""
    data = fit(dataset, runs[0].inputs)
    total = _total(data, limit)
    done = 0
    for batch in batches(data, size, limit):
        yield batch, [trimmed(run.run(batch.feeds), batch) for run in runs]
        done += batch.count
        if progress:
            progress(STAGE, done, total)


def _check_labels(dataset: Dataset, task: str | None) -> None:
    if dataset.labels is None and task not in (None, "fidelity"):
        raise DataError(f"{dataset.name}: it has no labels, which the task `{task}` needs", "Give `y` in the dataset.")


def _total(dataset: Dataset, limit: int | None) -> int:
    if limit is not None and limit < 1:
        raise OptionError(f"a limit of {limit} samples", "Ask for at least one, or leave it out for all.")
    return len(dataset) if limit is None else min(limit, len(dataset))


def _meter(asked: Asked, dataset: Dataset, limit: int | None) -> Meter:
    return Meter(asked, samples=_total(dataset, limit), class_names=dataset.class_names, name=dataset.name)
