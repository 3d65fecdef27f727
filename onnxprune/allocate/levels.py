"""Distributions that follow from the layers alone: at which *level* how much of a layer has gone.

A level is a number that rises from layer to layer alike while more and more goes; for each distribution it is known at
which level a share r of a layer (of its units or weights) has gone::

    uniform      level = r
    erk          level = -(1 - r) / d         d = sum(shape) / product(shape) of the layer's weight
    preset       level = log(1 - r) / log(1 - p)          the number of iterations, p removed in each
    sensitivity  level = how much of the metric is lost at r, interpolated between the ratios of the scan

So the unit of rank k among n (lowest score first, from 0) goes at the level of (k + 1) / n, and units of all layers can
be put in one order. For erk that is the density min(1, e d) of arXiv:1911.11134, e falling: a layer that would be
denser than whole stays whole, and the others make up for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from onnxprune.errors import DataError, OptionError
from onnxprune.values import Ints

__all__ = [
    "Levels",
    "SensitivityRow",
    "SensitivityTable",
    "check_table",
    "counts_for",
    "erk_levels",
    "preset_levels",
    "sensitivity_levels",
    "table_names",
    "uniform_levels",
]

Floats = NDArray[np.float64]

# (numbers of layers, shares gone) -> levels; infinite for what never goes
Levels = Callable[[Ints, Floats], Floats]

RISE = 1e-9  # of a curve where measuring found none: of two shares with equal loss the smaller comes first
HALVINGS = 60  # of an interval of levels


class SensitivityRow(Protocol):
    """One row of a sensitivity scan: with ``ratio`` of ``group`` gone the metric is worse by ``loss``."""

    @property
    def group(self) -> str: ...
    @property
    def ratio(self) -> float: ...
    @property
    def loss(self) -> float: ...


SensitivityTable = Sequence[SensitivityRow] | Mapping[str, Iterable[tuple[float, float]]]


def uniform_levels() -> Levels:
    """All layers at one pace."""
    return lambda _, shares: shares


def erk_levels(shapes: Sequence[Sequence[Sequence[int]]]) -> Levels:
    """Of the shapes of the weights of each layer (or group: several weights). One without weights counts as a 1 x 1."""
    sums = np.array([sum(sum(s) for s in mine) or 2 for mine in shapes], np.float64)
    products = np.array([sum(int(np.prod(s)) for s in mine) or 1 for mine in shapes], np.float64)
    density = sums / products
    return lambda layers, shares: -(1 - shares) / density[layers]


def preset_levels(rates: Sequence[float]) -> Levels:
    """Of the ratio per iteration of each layer; a layer with ratio 0 never loses anything."""
    with np.errstate(divide="ignore"):
        speed = -1 / np.log1p(-np.asarray(rates, np.float64))

    def levels(layers: Ints, shares: Floats) -> Floats:
        with np.errstate(divide="ignore", invalid="ignore"):
            found = -np.log1p(-np.minimum(shares, 1.0)) * speed[layers]
        return np.where(np.isnan(found), np.inf, found)

    return levels


def sensitivity_levels(table: SensitivityTable, names: Sequence[str], needed: Sequence[bool]) -> Levels:
    """Of the rows of each layer; a loss below 0 counts as none, and a curve never falls.

    Beyond the largest ratio of the scan the curve goes on as steeply as it did at its steepest. Raises OptionError
    where a layer that is ``needed`` has no rows.
    """
    rows = _by_name(table)
    missing = [name for name, wanted in zip(names, needed, strict=True) if wanted and name not in rows]
    if missing:
        raise OptionError(
            f"the sensitivity table has no rows for {len(missing)} of {len(names)} names: {', '.join(missing[:5])}"
            + (", ..." if missing[5:] else ""),
            "Scan them as well, skip them, or give them ratios of their own.",
        )
    curves = [_curve(rows.get(name, [])) for name in names]

    def levels(layers: Ints, shares: Floats) -> Floats:
        found = np.empty(shares.shape)
        for number in np.unique(layers):
            mine = layers == number
            found[mine] = np.interp(shares[mine], *curves[number])
        return found

    return levels


def check_table(table: SensitivityTable) -> None:
    """Raise DataError for ratios that are no ratios and losses that are no numbers, OptionError for an empty table."""
    rows = _by_name(table)
    if not rows:
        raise OptionError("the sensitivity table is empty", "Make one with `onnxprune sensitivity`.")
    for name, pairs in rows.items():
        for ratio, loss in pairs:
            if not 0 <= ratio <= 1 or not np.isfinite(loss):
                raise DataError(
                    f"sensitivity of {name!r}: ratio {ratio} with loss {loss}, expected numbers, the ratio from 0 to 1",
                    "Make the table again.",
                )


def table_names(table: SensitivityTable) -> set[str]:
    """The groups (or weights) that a table has rows for."""
    return set(_by_name(table))


def counts_for(total: int, sizes: Ints, levels: Levels) -> Ints:
    """How many go from each layer so that ``total`` go in all, at one level; one of each layer is kept.

    Layers that reach the last level together give one each, in order, until the number is exact. Fewer than
    ``total`` go only where the rest never goes.
    """
    layers = np.arange(sizes.size)
    most = sizes - 1

    def gone(level: float) -> Ints:
        """The largest numbers whose level is not above this one, by bisection in each layer."""
        low, high = np.zeros_like(sizes), most + 1
        while (high - low > 1).any():
            middle = (low + high) // 2
            below = levels(layers, middle / sizes) <= level
            high = np.where(below, high, np.maximum(middle, low + 1))
            low = np.where(below, middle, low)
        return low

    ends = np.concatenate([levels(layers, np.zeros(sizes.size)), levels(layers, most / sizes)])
    ends = ends[np.isfinite(ends)]
    low, high = float(ends.min(initial=0.0)) - 1, float(ends.max(initial=0.0))
    if int(gone(high).sum()) <= total:
        return gone(high)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if int(gone(middle).sum()) <= total else (low, middle)
    counts = gone(low)
    while (left := total - int(counts.sum())) > 0:
        upcoming = levels(layers, np.minimum(counts + 1, sizes) / sizes)
        upcoming[counts >= most] = np.inf
        counts[np.argsort(upcoming, kind="stable")[: min(left, int(np.isfinite(upcoming).sum()))]] += 1
    return counts


def _by_name(table: SensitivityTable) -> dict[str, list[tuple[float, float]]]:
    if isinstance(table, Mapping):
        return {name: [(float(r), float(loss)) for r, loss in pairs] for name, pairs in table.items()}
    rows: dict[str, list[tuple[float, float]]] = {}
    for row in table:
        rows.setdefault(row.group, []).append((float(row.ratio), float(row.loss)))
    return rows


def _curve(pairs: Sequence[tuple[float, float]]) -> tuple[Floats, Floats]:
    """Ratios from 0 to 1 and losses that rise."""
    known = dict(sorted(pairs))
    ratios = np.array([0.0, *(r for r in known if r > 0)])
    losses = np.maximum.accumulate(np.array([0.0, *(loss for r, loss in known.items() if r > 0)]))
    if ratios[-1] < 1:
        steepest = (np.diff(losses) / np.diff(ratios)).max(initial=0.0)
        losses = np.append(losses, losses[-1] + steepest * (1 - ratios[-1]))
        ratios = np.append(ratios, 1.0)
    return ratios, losses + RISE * ratios
