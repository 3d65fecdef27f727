"""The estimator: what a model with so many units is expected to reach, from the steps that were measured.

``estimate``       units -> a metric with a band, and parameters, MACs and bytes
``suggest_count``  least values -> the fewest units that are expected to hold them
``estimate_rows``  the whole curve as plain rows, for a chart

Pure functions of rows: ``{"step": 4, "units": 76, "accuracy": 0.9867, "samples": 450, "parameters": 11452, ...}``; the
metric of a class is "recall:7". `automatic.rows` makes them of a workspace. The line between two adjacent steps is the
estimator of CNNPruner (Li et al. 2020, arXiv:2009.09940); with four different counts or more it is a
monotone cubic (see `curve`).

The band. A measurement of a share p on n samples has the standard error ``e = sqrt(q (1 - q) / n)`` with
``q = (n p + 1) / (n + 2)``, so that a model that is right on every sample does not count as perfect (0 for metrics
that are no shares); `Curve.spread` adds what the interpolation may be wrong by. The edges are ``value -+ z s`` with z
the quantile of the normal distribution for the confidence asked, 0.9 by default; those of a share stay within 0 and 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from onnxprune.automatic.curve import METHODS, Curve, chosen_method
from onnxprune.errors import OptionError
from onnxprune.evaluate import kind_of

__all__ = ["COSTS", "Estimate", "Suggestion", "estimate", "estimate_rows", "metric_columns", "suggest_count"]

Row = Mapping[str, Any]
Floats = NDArray[np.float64]

COSTS = ("parameters", "macs", "file_bytes")
OTHERS = {"step", "units", "samples", *COSTS}


@dataclass(frozen=True)
class Estimate:
    """What is expected of a model with so many ``units``.

    ``low`` and ``high``: the band around ``value``. ``between``: the steps on either side, twice the same one where it
    was measured. ``method``: "linear", "pchip", or "measured". ``costs``: parameters, macs, file_bytes, where known.
    """

    units: int
    metric: str
    value: float
    low: float
    high: float
    method: str
    between: tuple[int, int]
    costs: Mapping[str, float] = field(default_factory=dict, hash=False)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Suggestion:
    """The fewest ``units`` that are expected to hold. ``metric``: the one that needs so many; its ``estimate`` there.

    ``measured``: all the way down to the smallest measured count it is expected to hold: nothing smaller can be told
    from these steps.
    """

    units: int
    metric: str
    estimate: Estimate
    measured: bool

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def metric_columns(rows: Sequence[Row]) -> tuple[str, ...]:
    """The metrics that rows have, without counts and costs."""
    return tuple(dict.fromkeys(name for row in rows for name in row if name not in OTHERS))


def estimate(
    rows: Sequence[Row], units: int, metric: str = "accuracy", *, method: str = "auto", confidence: float = 0.9
) -> Estimate:
    """What a model with so many units is expected to reach.

    Raises OptionError for a count outside of the measured ones, for fewer than two counts, and for an unknown metric.
    """
    points = _Points(rows, metric, method, confidence)
    if not points.x[0] <= units <= points.x[-1]:
        raise OptionError(
            f"units: got {units}, expected {points.x[0]:.0f} to {points.x[-1]:.0f}, where steps were measured",
            "Nothing is said about counts that no two steps lie around.",
        )
    return points.at(int(units))


def estimate_rows(
    rows: Sequence[Row], metric: str = "accuracy", *, method: str = "auto", confidence: float = 0.9, points: int = 200
) -> list[dict[str, Any]]:
    """The curve as at most ``points`` rows: units, value, low, high, parameters ... Raises as `estimate`."""
    found = _Points(rows, metric, method, confidence)
    counts = np.unique(np.linspace(found.x[0], found.x[-1], points).round().astype(int))
    return found.rows(counts)


def suggest_count(
    rows: Sequence[Row],
    least: Mapping[str, float],
    *,
    edge: bool = False,
    method: str = "auto",
    confidence: float = 0.9,
) -> Suggestion | None:
    """The fewest units for which every metric is expected to be as good as ``least`` says, None where none are enough.

    ``least``: "accuracy" or "recall:7" -> least value (of errors and losses: the most). ``edge``: the worse edge of the
    band has to hold, not only its middle. From the returned count up to the largest measured one all are expected to
    hold. Raises as `estimate`.
    """
    if not least:
        raise OptionError("nothing is required", 'Give least values, for example {"accuracy": 0.985}.')
    found = [_fewest(_Points(rows, name, method, confidence), float(value), edge) for name, value in least.items()]
    binding: Suggestion | None = None
    for one in found:
        if one is None:
            return None
        if binding is None or one.units > binding.units:
            binding = one
    return binding


def _fewest(points: _Points, least: float, edge: bool) -> Suggestion | None:
    counts = np.arange(int(points.x[0]), int(points.x[-1]) + 1)
    value, low, high = points.band(counts.astype(np.float64))
    judged = value if not edge else low if points.higher else high
    enough = judged >= least - 1e-12 if points.higher else judged <= least + 1e-12
    if not enough[-1]:
        return None
    short = np.flatnonzero(~enough)
    units = int(counts[short[-1] + 1]) if short.size else int(counts[0])
    return Suggestion(units, points.metric, points.at(units), measured=not short.size)


class _Points:
    """The measured points of one metric, one for each count of units: steps with the same count are averaged."""

    def __init__(self, rows: Sequence[Row], metric: str, method: str, confidence: float) -> None:
        if method not in METHODS:
            raise OptionError(f"method: got {method!r}, expected {', '.join(METHODS)}", "The default is auto.")
        if not 0 < confidence < 1:
            raise OptionError(f"confidence: got {confidence}, expected more than 0 and less than 1", "For example 0.9.")
        kind = kind_of(metric.partition(":")[0])
        known = [row for row in rows if row.get(metric) is not None and row.get("units") is not None]
        if not known:
            names = ", ".join(metric_columns(rows)[:12])
            raise OptionError(
                f"no step has the metric {metric!r}", f"There are: {names}." if names else "Measure the steps on data."
            )
        self.metric = metric
        self.higher = kind is None or kind.direction != "lower"
        self.share = kind is not None and kind.format == ".2%"
        self.z = float(norm.ppf((1 + confidence) / 2))
        self.known = known
        units = np.array([row["units"] for row in known], np.float64)
        self.x, self._which = np.unique(units, return_inverse=True)
        if self.x.size < 2:
            raise OptionError(
                f"all steps with {metric} have {self.x[0]:.0f} units: nothing lies between",
                "Prune and fine-tune at least once, or name a step further down.",
            )
        self.method = chosen_method(method, self.x.size)
        self.curve = self._curve(metric, rising=self.higher, noisy=self.share)
        costs = [name for name in COSTS if all(row.get(name) is not None for row in known)]
        self.costs = {name: self._curve(name, rising=True, noisy=False) for name in costs}

    def _curve(self, column: str, *, rising: bool, noisy: bool) -> Curve:
        many = np.bincount(self._which)
        y = np.bincount(self._which, [float(row[column]) for row in self.known]) / many
        noise = np.zeros_like(y)
        if noisy:
            samples = np.bincount(self._which, [float(row.get("samples") or 0) for row in self.known]) / many
            noise = _sampling_error(y, samples)
        return Curve(self.x, y, noise, self.method, rising)

    def band(self, at: Floats) -> tuple[Floats, Floats, Floats]:
        """Value and the two edges."""
        value = self.curve(at)
        half = self.z * self.curve.spread(at)
        low, high = value - half, value + half
        if self.share:
            value, low, high = (np.clip(v, 0.0, 1.0) for v in (value, low, high))
        return value, low, high

    def at(self, units: int) -> Estimate:
        """What is expected at one count."""
        (row,) = self.rows(np.array([units]))
        costs = {name: row.pop(name) for name in self.costs}
        return Estimate(**row, costs=costs)

    def rows(self, counts: NDArray[np.int64]) -> list[dict[str, Any]]:
        """The fields of an estimate for every count, its costs beside them."""
        places = counts.astype(np.float64)
        columns = dict(zip(("value", "low", "high"), self.band(places), strict=True))
        columns |= {name: curve(places) for name, curve in self.costs.items()}
        left = np.searchsorted(self.x, places, side="right") - 1
        right = np.searchsorted(self.x, places, side="left")
        found = []
        for k, (a, b) in enumerate(zip(left.tolist(), right.tolist(), strict=True)):
            row: dict[str, Any] = {"units": int(counts[k]), "metric": self.metric}
            row |= {"method": "measured" if a == b else self.method, "between": (self._steps[a], self._steps[b])}
            found.append({**row, **{name: float(column[k]) for name, column in columns.items()}})
        return found

    @cached_property
    def _steps(self) -> list[int]:
        """The step at every point, the newest of several."""
        last = {int(point): row for point, row in zip(self._which, self.known, strict=True)}
        return [int(last[point].get("step") or 0) for point in range(self.x.size)]


def _sampling_error(share: Floats, samples: Floats) -> Floats:
    """Standard error of a share of so many samples; 0 where their number is not known."""
    likely = (samples * share + 1) / (samples + 2)
    return np.where(samples > 0, np.sqrt(likely * (1 - likely) / np.maximum(samples, 1)), 0.0)
