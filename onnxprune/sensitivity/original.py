"""The original on the data, once: the baseline, outputs to compare with, and a fingerprint of all that was used."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.criteria import UnitScores
from onnxprune.data import Batch, Dataset, batches, fit
from onnxprune.errors import DataError, OptionError
from onnxprune.evaluate import Evaluation, Meter, Metric, kind_of, measured, trimmed
from onnxprune.frontier import spare_memory
from onnxprune.model import Model
from onnxprune.runtime import session
from onnxprune.sensitivity.desk import asked_for, needs_original

__all__ = ["Original", "check_metric", "measure_original"]

Array = NDArray[Any]
Progress = Callable[[str, int, int], None]

UNLABELLED = ("agreement", "cosine")  # the first that there is


@dataclass(frozen=True, eq=False)
class Original:
    """``reference``: its outputs by batch, where the metric compares with them. ``digest``: of the samples."""

    baseline: Metric
    reference: tuple[Mapping[str, Array], ...]
    digest: str


def check_metric(name: str | None, dataset: Dataset) -> None:
    """Raise OptionError for a metric that does not exist, DataError for one that needs labels which are not there."""
    if name is None:
        return
    kind = kind_of(name)
    if kind is None:
        measured(name, 0.0)  # says which metrics there are
    elif kind.needs == "labels" and dataset.labels is None:
        raise DataError(
            f"{dataset.name}: it has no labels, which the metric {name!r} needs",
            "Give `y` in the dataset, or choose one that compares with the original: agreement, kl, cosine.",
        )


def measure_original(
    model: Model, dataset: Dataset, metric: str | None, *, size: int, provider: str, threads: int | None,
    progress: Progress | None = None,
) -> Original:  # fmt: skip
    """Run the original over the dataset; raises what the dataset, the metric and the model give cause for."""
    run = session(model, provider=provider, threads=threads, cache=False)
    data = fit(dataset, run.inputs)
    meter = Meter(asked_for(metric or ""), samples=len(data), class_names=data.class_names, name=data.name)
    compares = data.labels is None or needs_original(metric or "")
    reference: list[dict[str, Array]] = []
    digest = hashlib.sha256()
    room = spare_memory()
    for batch in batches(data, size):
        _feed(digest, batch)
        outputs = trimmed(run.run(batch.feeds), batch)
        meter.add(outputs, batch.labels, batch.count, outputs if compares else None)
        if compares:
            reference.append({name: array for name, array in outputs.items() if array.dtype.kind == "f"})
            room -= sum(array.nbytes for array in reference[-1].values())
            if room < 0:
                raise DataError(
                    f"{data.name}: the original's outputs take more memory than there is to spare, after"
                    f" {meter.done} of {len(data)} samples",
                    f"Take fewer samples than {meter.done} (--samples), or a metric that needs labels only.",
                )
        if progress:
            progress("measuring the original", meter.done, len(data))
    baseline = _choose(meter.finish(), metric)
    return Original(baseline, tuple(reference), digest.hexdigest())


def _choose(found: Evaluation, name: str | None) -> Metric:
    there = [metric.name for metric in found]
    if name is None:
        name = next((n for n in UNLABELLED if n in there), "") if found.task == "fidelity" else there[0]
    if found.task != "fidelity" and name not in there:
        raise OptionError(
            f"the metric {name!r} was not measured (task: {found.task})", f"There are: {', '.join(there)}."
        )
    metric = found.metric(name)
    if not np.isfinite(metric.value):
        raise DataError(
            f"the original's {metric.label} on these data is {metric}, which nothing can be compared with",
            f"Choose another metric: {', '.join(there)}.",
        )
    return metric


def fingerprint(scores: UnitScores, parts: Sequence[str], digest: str) -> str:
    """Of the scores, of options in words and of the samples."""
    whole = hashlib.sha256(digest.encode())
    for part in parts:
        whole.update(f"{len(part)} {part}".encode())
    for name in scores:
        whole.update(f"{len(name)} {name}".encode())
        whole.update(np.ascontiguousarray(scores[name]).tobytes())
    return whole.hexdigest()


def _feed(digest: Any, batch: Batch) -> None:
    columns = {**batch.feeds, **({} if batch.labels is None else {"labels": batch.labels})}
    for name, array in sorted(columns.items()):
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(repr(array.tolist()).encode() if array.dtype.kind == "O" else np.ascontiguousarray(array).data)
