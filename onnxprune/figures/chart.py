"""A chart as a value: axes, series of points, reference lines; and a heatmap, which is a matrix with names."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from onnxprune.errors import OptionError
from onnxprune.figures.numbers import exact, finite

__all__ = ["KINDS", "AxisSpec", "Chart", "Figure", "Heatmap", "Line", "Measured", "Series"]

KINDS = ("line", "points", "bars", "area")
Value = float | str


class Measured(Protocol):
    """What an axis wants to know of a metric."""

    @property
    def label(self) -> str: ...
    @property
    def unit(self) -> str: ...
    @property
    def format(self) -> str: ...


@dataclass(frozen=True)
class AxisSpec:
    """An axis: what it measures, how its numbers are written, or which categories it has, in their order.

    ``format``: a format specification. ``limits``: lowest and highest value shown; none for those of the data.
    """

    label: str = ""
    format: str = ".4g"
    unit: str = ""
    log: bool = False
    categories: Sequence[str] = ()
    limits: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "categories", distinct(self.categories))
        try:
            exact(1.0, self.format)
        except ValueError as error:
            raise OptionError(f"axis {self.label!r}: {self.format!r} is no number format", 'Try ".4g".') from error
        if self.log and self.limits and min(self.limits) <= 0:
            raise OptionError(f"axis {self.label!r}: a logarithmic axis cannot hold {self.limits}", "Start above 0.")

    @classmethod
    def of(cls, metric: Measured, *, log: bool = False, limits: tuple[float, float] | None = None) -> AxisSpec:
        """The axis of a metric: its label, format and unit."""
        return cls(metric.label, metric.format, metric.unit, log, limits=limits)

    @property
    def title(self) -> str:
        """Label and unit in one."""
        return f"{self.label} ({self.unit})" if self.unit and self.label else self.label or self.unit

    def text(self, value: Value) -> str:
        """A value in full: the category, or the number with its unit."""
        return value if isinstance(value, str) else exact(value, self.format, self.unit)


@dataclass(frozen=True)
class Series:
    """Points with a name: ``x`` and ``y`` numbers or categories, NaN for a gap.

    ``kind``: "line", "points", "bars", "area", or "" for the chart's. ``low`` and ``high``: a band around ``y`` (error
    bars for points and bars). ``labels``: a word per point. ``sizes``: a number >= 0 per point, drawn as its area.
    Lists and arrays are taken and kept as tuples. Raises OptionError where the lengths differ.
    """

    name: str
    x: Sequence[Value]
    y: Sequence[Value]
    kind: str = ""
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    labels: Sequence[str] = ()
    sizes: Sequence[float] = ()

    def __post_init__(self) -> None:
        for name in ("x", "y", "low", "high", "sizes"):
            object.__setattr__(self, name, tuple(map(_plain, getattr(self, name))))
        object.__setattr__(self, "labels", tuple(self.labels))
        count = len(self.x)
        for name in ("y", "low", "high", "labels", "sizes"):
            got = len(getattr(self, name))
            if got != count and (got or name == "y"):
                raise OptionError(
                    f"series {self.name!r}: {count} values of x, {got} of {name}", "Give as many of each."
                )
        if bool(self.low) != bool(self.high):
            raise OptionError(f"series {self.name!r} has one side of a band only", "Give low and high, or neither.")
        if self.kind not in {"", *KINDS}:
            raise _unknown_kind(f"series {self.name!r}", self.kind)


@dataclass(frozen=True)
class Line:
    """A reference line at a value of one axis: a baseline, a threshold."""

    value: float
    label: str = ""
    axis: str = "y"

    def __post_init__(self) -> None:
        if self.axis not in {"x", "y"}:
            raise OptionError(f"a reference line on axis {self.axis!r}", 'Name "x" or "y".')


@dataclass(frozen=True)
class Chart:
    """Series over two axes; bars lie flat where the categories are on y.

    ``kind``: that of the series which have none of their own. An axis on which a series has words, but which names no
    categories, takes these words in the order in which they come. ``note``: a sentence below the chart.
    """

    title: str
    x: AxisSpec
    y: AxisSpec
    series: tuple[Series, ...] = ()
    kind: str = "line"
    lines: tuple[Line, ...] = ()
    note: str = ""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise _unknown_kind(f"chart {self.title!r}", self.kind)
        named = tuple(each if each.kind else replace(each, kind=self.kind) for each in self.series)
        object.__setattr__(self, "series", named)
        object.__setattr__(self, "lines", tuple(self.lines))
        object.__setattr__(self, "x", _with_categories(self.x, [each.x for each in named], self.title))
        object.__setattr__(self, "y", _with_categories(self.y, [each.y for each in named], self.title))

    @property
    def flat(self) -> bool:
        """Whether bars run from left to right."""
        return bool(self.y.categories) and not self.x.categories

    def rows(self) -> list[dict[str, Any]]:
        """One row per point, for JSON: series, x, y and, where given, low, high, label and size; None for a gap."""
        return [row for each in self.series for row in _rows(each)]


@dataclass(frozen=True, eq=False)
class Heatmap:
    """A matrix with names: ``values[i, j]`` belongs to row i, drawn from the top, and column j.

    ``value``: label, format, unit and, optionally, colour limits of the cells. Raises OptionError for another shape.
    """

    title: str
    rows_of: AxisSpec
    columns_of: AxisSpec
    values: ArrayLike
    value: AxisSpec = field(default_factory=AxisSpec)
    note: str = ""

    def __post_init__(self) -> None:
        values = np.array(self.values, np.float64)
        expected = (len(self.rows_of.categories), len(self.columns_of.categories))
        if values.shape != expected:
            raise OptionError(
                f"heatmap {self.title!r}: values of shape {values.shape}, names for {expected}",
                "Give one value for each pair of a row and a column.",
            )
        values.flags.writeable = False
        object.__setattr__(self, "values", values)

    @property
    def array(self) -> NDArray[np.float64]:
        """The values, rows x columns, read-only."""
        return np.asarray(self.values)

    @property
    def square(self) -> bool:
        """Whether rows and columns are the same things, as in a confusion matrix."""
        return self.rows_of.categories == self.columns_of.categories

    def limits(self) -> tuple[float, float]:
        """Values of the lightest and the darkest colour; symmetric about 0 where there are values below it."""
        if self.value.limits:
            return self.value.limits
        found = self.array[np.isfinite(self.array)]
        if not found.size:
            return 0.0, 1.0
        low, high = float(found.min()), float(found.max())
        if low < 0:
            return -max(-low, high), max(-low, high)
        return (0.0, high or 1.0) if low == high or low < 0.5 * high else (low, high)

    def rows(self) -> list[dict[str, Any]]:
        """One row per cell, for JSON: row, column, value."""
        rows, columns = self.rows_of.categories, self.columns_of.categories
        table = self.array.tolist()
        return [
            {"row": row, "column": column, "value": finite(value)}
            for row, values in zip(rows, table, strict=True)
            for column, value in zip(columns, values, strict=True)
        ]


Figure = Chart | Heatmap


def distinct(names: Iterable[str]) -> tuple[str, ...]:
    """The names, each repetition with its position, since two classes may share a name."""
    seen: set[str] = set()
    found = []
    for position, name in enumerate(names):
        text = str(name)
        while text in seen:
            text = f"{text} #{position}"
        seen.add(text)
        found.append(text)
    return tuple(found)


def _plain(value: Any) -> Value:
    return value if isinstance(value, str) else math.nan if value is None else float(value)


def _with_categories(axis: AxisSpec, values: list[Sequence[Value]], title: str) -> AxisSpec:
    words = dict.fromkeys(value for each in values for value in each if isinstance(value, str))
    if not words:
        return axis
    if not axis.categories:
        axis = replace(axis, categories=tuple(words))
    unknown = [word for word in words if word not in set(axis.categories)]
    if unknown or any(not isinstance(value, str) for each in values for value in each):
        wrong = f"{unknown[0]!r} is none of its categories" if unknown else "numbers and words are mixed"
        raise OptionError(f"chart {title!r}, axis {axis.label!r}: {wrong}", "Give a category for every point.")
    return axis


def _rows(series: Series) -> list[dict[str, Any]]:
    columns: dict[str, Sequence[Value]] = {"x": series.x, "y": series.y}
    columns |= {"low": series.low, "high": series.high, "label": series.labels, "size": series.sizes}
    columns = {name: values for name, values in columns.items() if values}
    clean = ([each if isinstance(each, str) else finite(each) for each in values] for values in columns.values())
    return [{"series": series.name, **dict(zip(columns, values, strict=True))} for values in zip(*clean, strict=True)]


def _unknown_kind(what: str, kind: str) -> OptionError:
    return OptionError(f"{what} has the unknown kind {kind!r}", f"Choose one of {', '.join(KINDS)}.")
