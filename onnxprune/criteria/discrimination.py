"""Discrimination: how far apart the classes are in what a unit puts out.

With a_s the mean activation of the unit in sample s, at the positions where it is read, m_k its mean over the samples
of class k (n_k of n) and m that over all samples::

    between = sum over k of n_k/n (m_k - m)^2          within = sum over s of (a_s - m_class(s))^2 / n
    discrimination(unit) = between / (between + within)

which is 0 where the unit does not tell classes apart or never changes, and 1 where the class is all that it depends on:
the ratio between / within of discrimination-aware pruning in its simplest form (Fisher's; compare Zhuang et al.,
arXiv:1810.11809, who learn it with extra losses), made finite. The mean over the unit's read points.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.activations import ReadPoint, stream
from onnxprune.criteria.base import Criterion, Settings, UnitScores
from onnxprune.criteria.measuring import (
    batch_dim,
    by_sample,
    completed,
    mean_of_units,
    measured_points,
    running,
    sampled,
)
from onnxprune.data import Dataset
from onnxprune.data.subsets import are_classes
from onnxprune.errors import DataError, OptionError
from onnxprune.model import Model
from onnxprune.values import Coupling, Ints

__all__ = ["CRITERIA"]

Array = NDArray[Any]
Floats = NDArray[np.float64]

WANTED = "Use data with one class number per sample, or a criterion that needs no labels."


class Classes:
    """Moments of each unit's mean activation, class by class."""

    def __init__(self, point: ReadPoint, classes: int) -> None:
        self.point = point
        units = int(point.unit.max(initial=-1)) + 1
        self._share = np.bincount(point.unit, minlength=units)
        self._origin: Floats | None = None
        self.count = np.zeros(classes)
        self.sums, self.squares = np.zeros((classes, units)), np.zeros((classes, units))

    def add(self, values: Array, classes: Ints) -> None:
        """(samples, positions of the axis, ...) and the class of each sample."""
        means = values.reshape(*values.shape[:2], -1).mean(axis=2, dtype=np.float64)
        units = np.zeros((self._share.size, len(means)))
        np.add.at(units, self.point.unit, means.T[self.point.index])
        each = (units / np.maximum(self._share, 1)[:, None]).T
        self._origin = each.mean(axis=0) if self._origin is None else self._origin  # against cancellation
        each = each - self._origin
        self.count += np.bincount(classes, minlength=self.count.size)
        np.add.at(self.sums, classes, each)
        np.add.at(self.squares, classes, each**2)

    def share(self, size: int) -> Floats:
        """between / (between + within) at each of the ``size`` positions of the axis; NaN without samples."""
        result = np.full(size, np.nan)
        if not self.count.any():
            return result
        total = self.count.sum()
        means = self.sums / np.maximum(self.count, 1)[:, None]
        mean = self.sums.sum(axis=0) / total
        between = (self.count[:, None] * (means - mean) ** 2).sum(axis=0) / total
        within = np.maximum(self.squares - self.count[:, None] * means**2, 0).sum(axis=0) / total
        share = between / np.maximum(between + within, np.finfo(np.float64).tiny)
        result[self.point.index] = share[self.point.unit]
        return result


@np.errstate(invalid="ignore", over="ignore")  # what is not finite is found in the sums
def discrimination_of_units(model: Model, coupling: Coupling, settings: Settings) -> UnitScores:
    """Share of the variance of a unit's mean activation that lies between classes."""
    dataset = sampled(settings)
    labels, count = _classes(dataset)
    points = measured_points(coupling)
    found = {id(p): Classes(p, count) for mine in points.values() for p in mine}
    dim, done = batch_dim(coupling), 0
    tensors = [c.point.tensor for c in found.values()]
    for batch, values in stream(model, dataset, tensors, **running(settings)) if tensors else ():
        for c in found.values():
            tensor = c.point.tensor
            each = by_sample(values[tensor], c.point.axis, batch, coupling.shapes[tensor], dim)
            if each is not None:
                c.add(each, labels[done : done + batch.count])
        done += batch.count
    scores = {}
    for group in coupling.groups:
        seen = [(p, found[id(p)].share(coupling.shapes[p.tensor][p.axis])) for p in points[group.name]]
        numbers = mean_of_units(group.units, seen)
        if numbers is not None:
            scores[group.name] = numbers
    return completed(model, coupling, settings, scores, "the activations of these groups cannot be measured")


def _classes(dataset: Dataset) -> tuple[Ints, int]:
    """The class of each sample, numbered from 0, and how many classes there are."""
    if dataset.labels is None:
        raise OptionError(f"criterion 'discrimination' needs labels, and {dataset.name} has none", WANTED)
    if not are_classes(dataset.labels):
        kind = f"{dataset.labels.dtype.name} {list(dataset.labels.shape)}"
        raise DataError(f"{dataset.name}: criterion 'discrimination' needs classes, and the labels are {kind}", WANTED)
    classes, numbers = np.unique(np.asarray(dataset.labels[:]).reshape(-1), return_inverse=True)
    if classes.size < 2:
        raise DataError(f"{dataset.name}: all samples are of class {classes[0]}: nothing to tell apart", WANTED)
    return numbers.astype(np.int64), classes.size


CRITERIA = (
    Criterion(
        "discrimination",
        "share of the variance of the unit's mean activation that lies between classes",
        discrimination_of_units,
        needs=("data", "labels"),
        paper="arXiv:1810.11809",
        cost="one run over the dataset",
    ),
)
