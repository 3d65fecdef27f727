"""HRank: how much a unit's feature maps can tell, as the average rank of them taken as matrices.

::

    hrank(unit) = mean over samples of rank(map of the unit)

A map is the matrix (height, width) of a channel at a read point of its group, or at the last activation that still has
such maps where only pooled ones are read; volumes are (depth x height, width). Units of several channels on a sequence
(attention heads) have the matrix (time, channels). A unit with several maps has the mean of their ranks. The rank is
that of the singular values above ``largest x max(shape) x 1.2e-7``. Lin et al., arXiv:2002.10179, who found 500 samples
to be enough: that many are taken by default, fewer of large maps.

Where a unit puts out one number at a time (neurons, cells) every rank is 0 or 1. Those groups are scored by the
standard deviation of their activations over the largest of the group, at most 1 as such a rank is, with a warning.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.activations import Moments, ReadPoint, stream
from onnxprune.criteria.base import Criterion, Settings, UnitScores
from onnxprune.criteria.measuring import (
    batch_dim,
    beside,
    by_sample,
    completed,
    is_measured,
    listed,
    mean_of_units,
    measured_points,
    running,
    sampled,
)
from onnxprune.model import Model
from onnxprune.values import Coupling, Group

__all__ = ["CRITERIA"]

Array = NDArray[Any]
Floats = NDArray[np.float64]

SAMPLES, FEWEST = 500, 50  # by default, and however large the maps are
WORK = 1e11  # steps of arithmetic in all singular value decompositions together
STEPS = 20  # of one matrix (h, w), times h w min(h, w)


class Maps:
    """Sums the ranks of the maps at one read point: those of channels, or of whole units where ``together``."""

    def __init__(self, point: ReadPoint, *, together: bool) -> None:
        self.point, self.together = point, together
        self.count = 0
        self._ranks: Floats = np.zeros(1)

    def add(self, values: Array) -> None:
        """(samples, positions of the axis, ...); a map that is not finite makes the sum NaN."""
        order = np.argsort(self.point.unit, kind="stable") if self.together else slice(None)
        maps = values[:, self.point.index[order]].astype(np.float32)
        sizes = [n for n in maps.shape[2:] if n > 1]
        if self.together:
            maps = maps.reshape(len(maps), int(self.point.unit.max()) + 1, -1, prod(sizes))
        else:
            maps = maps.reshape(*maps.shape[:2], -1, sizes[-1])
        finite = np.asarray(np.isfinite(maps).all(axis=(2, 3)))
        ranks = np.linalg.matrix_rank(np.where(finite[:, :, None, None], maps, 0))
        self._ranks = self._ranks + np.where(finite, ranks, np.nan).sum(axis=0)
        self.count += len(maps)

    def mean(self, size: int) -> Floats:
        """Mean rank at each of the ``size`` positions of the axis; NaN without samples."""
        result = np.full(size, np.nan)
        if self.count:
            found = self._ranks / self.count
            result[self.point.index] = found[self.point.unit] if self.together else found
        return result


@dataclass(frozen=True)
class Kind:
    """What the maps at a read point look like: (height, width) of ``count`` matrices in every sample."""

    together: bool
    count: int
    height: int
    width: int

    @property
    def work(self) -> float:
        return float(STEPS * self.count * self.height * self.width * min(self.height, self.width))


@np.errstate(invalid="ignore", over="ignore")  # what is not finite is found in the sums
def rank_of_units(model: Model, coupling: Coupling, settings: Settings) -> UnitScores:
    """Mean rank of the feature maps."""
    points = measured_points(coupling)
    kinds = {group.name: _with_maps(coupling, group, points[group.name]) for group in coupling.groups}
    maps = {name: [Maps(p, together=k.together) for p, k in found] for name, found in kinds.items()}
    flat = [name for name, found in kinds.items() if not found]
    points = {name: points[name] for name in flat}
    spreads = {(p.tensor, p.axis): Moments(p.axis) for mine in points.values() for p in mine}
    work = sum(k.work for found in kinds.values() for _, k in found)
    most = int(np.clip(WORK / max(work, 1), FEWEST, SAMPLES))
    _run(model, coupling, settings, most, [m for mine in maps.values() for m in mine], spreads)

    scores: dict[str, Floats] = {}
    for group in coupling.groups:
        seen = [(m.point, m.mean(coupling.shapes[m.point.tensor][m.point.axis])) for m in maps[group.name]]
        if group.name in points:
            seen = [(p, np.sqrt(spreads[p.tensor, p.axis].variance)) for p in points[group.name]]
        numbers = mean_of_units(group.units, seen)
        if numbers is not None:
            largest = numbers.max() if group.name in points else 1.0
            scores[group.name] = numbers / max(largest, np.finfo(np.float64).tiny)
    found = completed(model, coupling, settings, scores, "the activations of these groups cannot be measured")
    plain = [name for name in flat if name in scores]
    if not plain:
        return found
    warning = f"no feature maps in {listed(plain)}: hrank takes the standard deviation over the largest of the group"
    return replace(found, warnings=(*found.warnings, warning))


def _run(
    model: Model,
    coupling: Coupling,
    settings: Settings,
    most: int,
    maps: list[Maps],
    spreads: dict[tuple[str, int], Moments],
) -> None:
    """One pass over the samples."""
    tensors = [*(m.point.tensor for m in maps), *(tensor for tensor, _ in spreads)]
    if not tensors:
        return
    dim = batch_dim(coupling)
    for batch, values in stream(model, sampled(settings, most), tensors, **running(settings)):
        for m in maps:
            tensor = m.point.tensor
            found = by_sample(values[tensor], m.point.axis, batch, coupling.shapes[tensor], dim)
            if found is not None:
                m.add(found)
        for (tensor, _), spread in spreads.items():
            spread.add(values[tensor])


def _with_maps(coupling: Coupling, group: Group, points: tuple[ReadPoint, ...]) -> list[tuple[ReadPoint, Kind]]:
    """The read points of a group that have maps; otherwise the last activation that has."""
    read = [(p, kind) for p in points if (kind := _kind(coupling, p))]
    if read:
        return read
    order = {t: n.number for n in coupling.graph.nodes if len(n.where) == 1 for t in n.outputs}
    found = [
        (point, kind)
        for m in group.members
        if not m.weight and m.block is None and m.tensor in order and is_measured(coupling, m.tensor)
        if (kind := _kind(coupling, point := ReadPoint(m.tensor, m.axis, m.index, m.unit)))
    ]
    return [max(found, key=lambda pair: order[pair[0].tensor])] if found else []


def _kind(coupling: Coupling, point: ReadPoint) -> Kind | None:
    """The maps at a read point; None where they have no height or no width."""
    rest = beside(coupling.shapes[point.tensor], point.axis, batch_dim(coupling))
    sizes = [n for n in rest or () if n > 1]
    if len(sizes) > 1:
        return Kind(False, point.index.size, prod(sizes[:-1]), sizes[-1])
    counts = np.bincount(point.unit)
    if sizes and counts.size and counts.min() == counts.max() > 1:
        return Kind(True, counts.size, sizes[0], int(counts[0]))
    return None


CRITERIA = (
    Criterion(
        "hrank",
        "mean rank of the unit's feature maps",
        rank_of_units,
        needs=("data",),
        paper="arXiv:2002.10179",
        cost="one run over 500 samples, and a singular value decomposition of each map",
    ),
)
