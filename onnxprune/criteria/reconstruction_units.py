"""Units by what the layers that read them lose: ThiNet and the optimal brain surgeon for whole units (OBSPA).

With the columns c of unit u in the layers that read it (rows of W are outputs, H is the mean of x x'):

``thinet``: the unit's contribution to an output is sum over its columns of W_c x_c. Units go one after the other, each
time the one for which the mean square of the sum of all contributions gone so far is least::

    error(T) = sum over u, v in T of G_uv ,     G_uv = sum over rows, c in u, d in v of W_c H_cd W_d

``obspa``: units go one after the other, each time the one whose loss costs least when all columns that are left make up
for it, after which they do (H is damped by a hundredth of its mean diagonal; of large layers several go at a time)::

    cost(u) = sum over rows of W_u ([H^-1]_uu)^-1 W_u'

Errors of several layers that read the same units add up, each as a share of the mean square of the layer's output
(``normalise``, the default). A unit scores what its turn costs, but no less than those that went before it. Both leave
the weights as they are; ``recover = "least-squares"`` then fits the layers to the units that stay.

Layers with more than 8192 columns are measured by the diagonal of H alone. ThiNet: Luo, Wu and Lin, arXiv:1707.06342.
OBSPA: Wang, Rachwan, Günnemann and Charpentier, arXiv:2403.18955, in the greedy form of Kurtic, Frantar and Alistarh,
arXiv:2302.04089.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from onnxprune.criteria.base import Criterion, Settings, UnitScores
from onnxprune.criteria.inputs import measure
from onnxprune.criteria.measuring import completed
from onnxprune.criteria.readers import Reader, readers
from onnxprune.criteria.reconstruction_trace import alive, damped, energy, in_turn
from onnxprune.criteria.slices import real_array
from onnxprune.gram import Gram, fits, gram_bytes, in_passes
from onnxprune.model import Model
from onnxprune.values import Coupling, Group, Ints

__all__ = ["CRITERIA"]

Array = NDArray[Any]
Floats = NDArray[np.float64]

STEPS = 5e10  # of arithmetic for one group, from which on several units go at a time


@dataclass(frozen=True, eq=False)
class Part:
    """One layer that reads a group: its matrix (groups, rows, columns), inputs, units of columns, and share of error.

    ``scale``: what its squared errors are divided by.
    """

    w: Floats
    h: Floats | None
    second: Floats
    unit: Ints
    scale: float

    @property
    def alone(self) -> Floats:
        """Squared contribution of each column, (groups, columns)."""
        return np.asarray(np.square(self.w).sum(axis=1) * self.second)


def thinet_of_units(model: Model, coupling: Coupling, settings: Settings) -> UnitScores:
    """What each unit's contribution adds to the error in its turn."""
    return _scored(model, coupling, settings, thinet)


def obspa_of_units(model: Model, coupling: Coupling, settings: Settings) -> UnitScores:
    """What each unit costs in its turn when the others make up for it."""
    return _scored(model, coupling, settings, obspa)


def _scored(
    model: Model,
    coupling: Coupling,
    settings: Settings,
    turns: Callable[[list[Part], int], tuple[Ints, Floats]],
) -> UnitScores:
    found: dict[str, Floats] = {}
    for group, parts in _measured(model, coupling, settings):
        if settings.progress:
            settings.progress("scoring groups", len(found), len(coupling.groups))
        order, costs = turns(parts, group.units)
        scores = np.empty(group.units)
        scores[order] = in_turn(costs)
        found[group.name] = scores
    return completed(model, coupling, settings, found, "no layer that reads these groups can be measured")


def thinet(parts: list[Part], units: int) -> tuple[Ints, Floats]:
    """The units in the order in which they go, and by how much the error grows each time (which may be below 0)."""
    table = sum((contributions(part, units) / part.scale for part in parts), np.zeros((units, units)))
    growth = np.diagonal(table).copy()
    left = np.ones(units, np.bool_)
    order, costs = np.empty(units, np.int64), np.empty(units)
    for k in range(units):
        u = int(np.where(left, growth, np.inf).argmin())
        order[k], costs[k], left[u] = u, growth[u], False
        growth += 2 * table[u]
    return order, costs


def contributions(part: Part, units: int) -> Floats:
    """Mean product of what two units contribute, summed over the rows: (units, units)."""
    if part.h is None:
        return np.diag(_by_unit(part.unit, part.alone, units))
    total = np.zeros((units, units))
    for w, h, unit in zip(part.w, part.h, part.unit, strict=True):
        columns = np.flatnonzero(unit >= 0)
        gather = csr_array((np.ones(columns.size), (unit[columns], columns)), (units, unit.size))
        total += (gather @ (gather @ ((w.T @ w) * h)).T).T
    return total


def _by_unit(unit: Ints, values: Floats, units: int) -> Floats:
    """Sums over the columns of each unit."""
    mine = unit >= 0
    return np.bincount(unit[mine], values[mine], units).astype(np.float64)


def obspa(parts: list[Part], units: int) -> tuple[Ints, Floats]:
    """The units in the order in which they go, and what each costs then."""
    fixed = sum((_by_unit(p.unit, p.alone, units) / p.scale for p in parts if p.h is None), np.zeros(units))
    surgeons = [
        _Surgeon(w, h, unit, part.scale)
        for part in parts
        if part.h is not None
        for w, h, unit in zip(alive(part.w, part.h), damped(part.h), part.unit, strict=True)
    ]
    at_once = int(np.ceil(units * sum(s.work for s in surgeons) / STEPS)) or 1
    left = np.ones(units, np.bool_)
    now = np.array([fixed, *(s.costs(left) for s in surgeons)])  # one row for each matrix, brought up to date
    order: list[Ints] = []
    costs: list[Floats] = []
    while left.any():
        cost = np.where(left, now.sum(axis=0), np.inf)
        chosen = np.argsort(cost, kind="stable")[: min(at_once, int(left.sum()))]
        order.append(chosen)
        costs.append(cost[chosen])
        left[chosen] = False
        for k, s in enumerate(surgeons):
            if s.remove(chosen):
                now[k + 1] = s.costs(left)
    return np.concatenate(order), np.concatenate(costs)


class _Surgeon:
    """One matrix whose units go, the other columns making up for them: w (rows, n), h (n, n), unit (n)."""

    def __init__(self, w: Floats, h: Floats, unit: Ints, scale: float) -> None:
        self.w, self.inverse, self.unit, self.scale = w, np.linalg.inv(h), unit, scale
        columns = np.flatnonzero(unit >= 0)
        columns = columns[np.argsort(unit[columns], kind="stable")]
        owners, starts, counts = np.unique(unit[columns], return_index=True, return_counts=True)
        # units with equally many columns together: (units, their columns)
        self.blocks = [
            (owners[counts == b], columns[starts[counts == b, None] + np.arange(b)]) for b in np.unique(counts)
        ]
        rows, n = w.shape
        self.work = float(n * n * (10 + columns.size / max(owners.size, 1)) + 4 * rows * columns.size)

    def costs(self, left: NDArray[np.bool_]) -> Floats:
        """What each unit that is left costs; 0 where it has no columns."""
        result = np.zeros(left.size)
        for owners, columns in self.blocks:
            there = left[owners]
            mine = columns[there]
            inverse = self.inverse[mine[:, :, None], mine[:, None, :]]
            w = self.w[:, mine].transpose(1, 2, 0)
            result[owners[there]] = np.einsum("kbr,kbr->k", w, np.linalg.solve(inverse, w))
        return result / self.scale

    def remove(self, units: Ints) -> bool:
        """Take the columns of these units out; whether there were any."""
        gone = np.flatnonzero(np.isin(self.unit, units))
        if gone.size:
            lines = self.inverse[gone]
            solved = np.linalg.solve(lines[:, gone], lines)
            self.w -= self.w[:, gone] @ solved
            self.inverse -= lines.T @ solved
        return bool(gone.size)


def _measured(model: Model, coupling: Coupling, settings: Settings) -> Iterator[tuple[Group, list[Part]]]:
    """The groups that measurable layers read, as few at a time as memory asks for."""
    known = readers(coupling)
    shapes = coupling.shapes

    def size(group: Group) -> int:
        sizes = (gram_bytes(r.layer, shapes[r.layer.weight]) for r in known[group.name] if _small(coupling, r))
        return sum(sizes)

    for groups in in_passes([g for g in coupling.groups if known[g.name]], size):
        every = [reader for group in groups for reader in known[group.name]]
        found: dict[int, Gram] = {}
        for diagonal in (False, True):
            some = [r for r in every if _small(coupling, r) != diagonal]
            if some:
                measured = measure(model, [r.layer for r in some], settings, diagonal=diagonal)
                found |= {id(reader): gram for reader, gram in zip(some, measured, strict=True)}
        for group in groups:
            parts = [_part(model, coupling, r, found[id(r)], settings) for r in known[group.name]]
            good = [part for part in parts if part is not None]
            if good and np.isin(np.arange(group.units), np.concatenate([p.unit.reshape(-1) for p in good])).all():
                yield group, good


def _small(coupling: Coupling, reader: Reader) -> bool:
    return fits(reader.layer, coupling.shapes[reader.layer.weight])


def _part(model: Model, coupling: Coupling, reader: Reader, gram: Gram, settings: Settings) -> Part | None:
    """None where a weight or an input is not finite."""
    values = real_array(model, coupling.graph, reader.layer.weight)
    if not np.isfinite(values).all() or not gram.finite:
        return None
    w = reader.layer.matrix(values).astype(np.float64)
    h = None if gram.diagonal else gram.h / max(gram.count, 1)
    part = Part(w, h, gram.second, reader.unit, 1.0)
    if not settings.normalise:
        return part
    scale = (float(part.alone.sum()) or 1.0) if h is None else energy(w, h)
    return Part(w, h, gram.second, reader.unit, scale)


CRITERIA = (
    Criterion(
        "thinet",
        "growth of the squared error of the layers that read the unit when its contribution goes in its turn",
        thinet_of_units,
        needs=("data",),
        paper="arXiv:1707.06342",
        cost="one run over some hundred samples, and columns^2 for each layer",
        recover="least-squares",
    ),
    Criterion(
        "obspa",
        "growth of the squared error of the layers that read the unit when it goes in its turn and the others make up "
        "for it: sum over rows of w_u ([H^-1]_uu)^-1 w_u'",
        obspa_of_units,
        needs=("data",),
        paper="arXiv:2403.18955",
        cost="one run over some hundred samples, and columns^3 for each layer",
        recover="least-squares",
    ),
)
