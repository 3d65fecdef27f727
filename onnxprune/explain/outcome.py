"""What a model makes of chosen instances in the end: probabilities of classes, or the numbers that it puts out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.data import Dataset, batches
from onnxprune.data.subsets import are_classes
from onnxprune.errors import ModelError
from onnxprune.evaluate.scores import are_probabilities, is_float, log_probabilities
from onnxprune.explain.instances import chosen_rows, fitted
from onnxprune.model import Model
from onnxprune.runtime import session

__all__ = ["Outcome", "outcome", "output_change"]

Array = NDArray[Any]
Floats = NDArray[np.float64]
SIZE = 32  # samples at a time
VECTOR = 2  # axes of one vector for each sample


@dataclass(frozen=True, eq=False)
class Outcome:
    """``raw``: (instances, ...) of the first output of floating-point numbers, whose name is ``output``.

    ``values``: (instances, classes or numbers), None where an instance has several vectors (pixels, tokens).
    ``probable``: they are probabilities.
    """

    output: str
    raw: Array
    values: Floats | None
    probable: bool


def outcome(
    model: Model,
    data: Dataset | Mapping[str, Array],
    rows: Sequence[int] | None = None,
    *,
    provider: str = "auto",
    threads: int | None = None,
    once: bool = False,
) -> Outcome:
    """Run the model on some samples (all by default).

    Scores become probabilities (softmax; of a single score the logistic function) where the labels are class numbers,
    or where there are no labels and there are at least two scores. ``once``: the model is run this once, so that no
    session is kept or optimised. Raises DataError where the data do not fit, ModelError where no output holds
    floating-point numbers for each instance.
    """
    numbers = chosen_rows(data, rows)
    dataset = fitted(model, data, numbers)
    again = not once
    run = session(model, provider=provider, threads=threads, optimize=again, prepack=again, cache=again)
    parts: dict[str, list[Array]] = {}
    for batch in batches(dataset, SIZE):
        size = len(next(iter(batch.feeds.values())))
        for name, array in run.run(batch.feeds).items():
            if isinstance(array, np.ndarray) and is_float(array) and array.ndim and array.shape[0] == size:
                parts.setdefault(name, []).append(array[: batch.count])
    if not parts:
        raise ModelError(
            f"{model.label} puts out no floating-point numbers for each instance", "Look at feature maps instead."
        )
    name, found = next(iter(parts.items()))
    raw = np.concatenate(found)
    values, probable = _vectors(raw, dataset)
    return Outcome(name, raw, values, probable)


def output_change(before: Outcome, after: Outcome) -> float | None:
    """``|b - a|_2 / |a|_2`` of the raw outputs over all instances; None where they differ in shape."""
    if before.raw.shape != after.raw.shape:
        return None
    old, new = before.raw.astype(np.float64), after.raw.astype(np.float64)
    moved, size = float(np.linalg.norm(new - old)), float(np.linalg.norm(old))
    return 0.0 if moved == 0 else moved / size if size else float("inf")


def _vectors(raw: Array, dataset: Dataset) -> tuple[Floats | None, bool]:
    """One vector for each instance, and whether it holds probabilities."""
    flat = raw.astype(np.float64).reshape(len(raw), -1)
    if raw.ndim > VECTOR and flat.shape[1] != max(raw.shape[1:]):
        return None, False
    labels = dataset.labels
    classes = flat.shape[1] > 1 if labels is None else are_classes(labels)
    if not classes:
        return flat, False
    return np.exp(log_probabilities(flat, are_probabilities(flat))), True
