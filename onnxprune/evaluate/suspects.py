"""Samples whose labels models contradict: where a person should look first.

The order and the threshold are those of confident learning (arXiv:1911.00068). With the mean probabilities p over the
models, a sample with label y has the *margin*

    m = p_y - max over j != y of p_j        in -1 .. 1, lower = more suspect

With ``t_j``, the mean of p_j over the samples that are labelled j, the models are *sure* that a sample is of another
class where m < 0, p_y < t_y, and p_j >= t_j for a class j != y. It is taken for the j with the highest p_j.

Several models are several opinions: a network that is large enough learns wrong labels by heart, and pruning makes it
forget such samples first (arXiv:1911.05248). That is why steps of a workspace are asked together. Samples that no model
was trained on are judged most fairly; of those that they were trained on the smallest steps tell most.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.data import Dataset, batches, fit
from onnxprune.errors import DataError, OptionError
from onnxprune.evaluate.layout import Asked, Layout, recognise
from onnxprune.evaluate.scores import are_probabilities, check_numbers, chunks, log_probabilities
from onnxprune.evaluate.shards import trimmed
from onnxprune.model import Model
from onnxprune.runtime import model_inputs, session

__all__ = ["Suspect", "Suspects", "find_suspects", "suspects_from"]

Array = NDArray[Any]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Progress = Callable[[str, int, int], None]
STAGE = "asking the models"
TASKS = ("classification", "binary")
TOP = 20


@dataclass(frozen=True)
class Suspect:
    """One sample: ``row`` in the order of the data, its ``label``, the class it is ``taken_for``.

    ``own`` and ``other``: mean probabilities of the two. ``margin``: lower = more suspect. ``against``: how many of the
    models have another class than the label first. ``sure``: see the module.
    """

    row: int
    label: int
    taken_for: int
    own: float
    other: float
    margin: float
    against: int
    sure: bool


@dataclass(frozen=True)
class Suspects:
    """``found``: the most suspect samples, in their order. ``models``: how many were asked.

    ``sure``: of how many samples these are sure, listed or not. ``thresholds``: t_j of each class; NaN where no sample
    is labelled so.
    """

    samples: int
    models: int
    class_names: tuple[str, ...]
    thresholds: tuple[float, ...]
    sure: int
    found: tuple[Suspect, ...]

    def name(self, index: int) -> str:
        """What a class is called, or its number."""
        return self.class_names[index] if index < len(self.class_names) else str(index)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "samples": self.samples,
            "models": self.models,
            "classes": [self.name(i) for i in range(len(self.thresholds))],
            "thresholds": list(self.thresholds),
            "sure": self.sure,
            "suspects": [asdict(one) for one in self.found],
        }


def find_suspects(
    models: Sequence[Model],
    dataset: Dataset,
    *,
    top: int = TOP,
    size: int = 64,
    provider: str = "auto",
    threads: int | None = None,
    progress: Progress | None = None,
) -> Suspects:
    """Ask the models, one after the other, for the ``top`` samples whose labels they contradict most.

    Raises OptionError without a model, DataError without labels and where they are not one class for each sample,
    ModelError for outputs that are NaN.
    """
    if dataset.labels is None:
        raise DataError(f"{dataset.name}: it has no labels, so that none can be wrong", "Give `y` in the dataset.")
    labels: Ints = np.empty(0, np.int64)
    total: Floats | None = None
    against: Ints = labels
    for number, model in enumerate(models):
        data = fit(dataset, model_inputs(model))
        done = number * len(data), len(models) * len(data)
        labels, scores = _scores(session(model, provider=provider, threads=threads).run, data, size, done, progress)
        if total is None:
            total, against = np.zeros((len(scores), max(scores.shape[1], 2))), np.zeros(len(labels), np.int64)
        if total.shape[1] != max(scores.shape[1], 2):
            raise DataError(
                f"{dataset.name}: one model has {total.shape[1]} classes, another {max(scores.shape[1], 2)}",
                "Ask models that tell the same classes apart.",
            )
        parts = list(chunks(*scores.shape))
        probable = all(are_probabilities(scores[rows].astype(np.float64)) for rows in parts)
        for rows in parts:
            found = np.exp(log_probabilities(scores[rows].astype(np.float64), probable))
            total[rows] += found / len(models)
            against[rows] += found.argmax(axis=1) != labels[rows]
    if total is None:
        raise OptionError("no model is given", "Name one at least.")
    return suspects_from(total, labels, against, models=len(models), top=top, names=dataset.class_names)


def suspects_from(
    probabilities: Floats,
    labels: Ints,
    against: Ints | None = None,
    *,
    models: int = 1,
    top: int = TOP,
    names: Sequence[str] = (),
) -> Suspects:
    """The most suspect by mean ``probabilities`` (samples, classes) and ``labels`` (samples,).

    ``against``: for each sample the number of models that contradict it; by default 0 or 1 from the probabilities.
    Raises OptionError for a ``top`` below 1.
    """
    if top < 1:
        raise OptionError(f"top: got {top}, expected at least 1 sample", f"Leave it out for {TOP}.")
    count, classes = probabilities.shape
    rows = np.arange(count)
    own = probabilities[rows, labels]
    sizes = np.bincount(labels, minlength=classes)
    with np.errstate(invalid="ignore", divide="ignore"):
        thresholds = np.bincount(labels, weights=own, minlength=classes) / sizes
    rest = probabilities.copy()
    rest[rows, labels] = -np.inf
    taken = rest.argmax(axis=1)
    margin = own - rest[rows, taken]
    sure = (rest >= thresholds).any(axis=1) & (own < thresholds[labels]) & (margin < 0)  # NaN: no class to be sure of
    votes = (probabilities.argmax(axis=1) != labels).astype(np.int64) if against is None else against
    found = tuple(
        Suspect(
            int(row), int(labels[row]), int(taken[row]), float(own[row]), float(probabilities[row, taken[row]]),
            float(margin[row]), int(votes[row]), bool(sure[row]),
        )
        for row in np.argsort(margin, kind="stable")[:top]
    )  # fmt: skip
    return Suspects(count, models, tuple(names), tuple(float(t) for t in thresholds), int(sure.sum()), found)


def _scores(
    run: Callable[[Mapping[str, Array]], Mapping[str, Any]],
    data: Dataset,
    size: int,
    done: tuple[int, int],
    progress: Progress | None,
) -> tuple[Ints, NDArray[np.float32]]:
    """Labels, and scores (samples, classes), of the whole dataset. ``done``: so much of so much was done before."""
    layout: Layout | None = None
    labels: list[Ints] = []
    scores: list[NDArray[np.float32]] = []
    start = 0
    for batch in batches(data, size):
        outputs, known = trimmed(run(batch.feeds), batch), np.asarray(batch.labels)
        if layout is None:
            layout = recognise(outputs, known, Asked(), data.class_names, data.name)
            if layout.task not in TASKS or layout.axis is None:
                what = "class numbers without scores" if layout.decided else f"a task `{layout.task}`"
                raise DataError(
                    f"{data.name}: labels and outputs make {what}",
                    "Suspects are found among samples of one class each, by models that put out a score for each.",
                )
        found = outputs[layout.output].reshape(len(known), -1)
        check_numbers(found, f"the output `{layout.output}`", start, infinite=True)
        scores.append(found.astype(np.float32))
        labels.append(layout.class_numbers(known, start)[0][:, 0])
        start += len(known)
        if progress:
            progress(STAGE, done[0] + start, done[1])
    return np.concatenate(labels), np.concatenate(scores)
