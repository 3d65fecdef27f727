"""Charts as pictures: a matplotlib figure without pyplot, so that nothing outlives the call.

A label stands at the end of its line where a handful of lines makes room for that; a legend follows below where they
are more; and beyond what a legend can tell apart, the outermost lines are named and the rest is ordered by colour.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.figures.chart import AxisSpec, Chart, Figure, Heatmap, Line, Series, Value
from onnxprune.figures.numbers import exact
from onnxprune.figures.still_axes import MOST_TICKS, ROW, TALLEST, frame, scale
from onnxprune.figures.still_heatmap import draw_heatmap
from onnxprune.figures.still_labels import end_labels, legend, point_labels, words
from onnxprune.figures.style import (
    INK,
    QUIET,
    Look,
    look,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

__all__ = ["to_matplotlib"]

_WIDTH, _HEIGHT = 8.2, 4.4  # inches
_DASHES = ("-", (0, (5, 2)), (0, (1.5, 1.5)))
_MARKS = ("o", "s", "D")


def to_matplotlib(figures: Sequence[Figure]) -> Drawing:
    """One figure of all charts: one or two below each other, more in two columns."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 - optional, and half a second
    from matplotlib.figure import Figure as Drawing  # noqa: PLC0415

    columns = 1 if len(figures) <= 2 else 2
    rows = [figures[i : i + columns] for i in range(0, len(figures), columns)]
    heights = [max(_size(figure)[1] for figure in row) for row in rows]
    width = max(_size(figure)[0] for figure in figures)
    drawing = Drawing(figsize=(width * columns, sum(heights)), layout="constrained", facecolor="white")
    FigureCanvasAgg(drawing)
    grid = drawing.subfigures(len(rows), columns, height_ratios=heights, squeeze=False)
    for i, figure in enumerate(figures):
        place = grid[i // columns][i % columns]
        axes = place.add_subplot()
        if isinstance(figure, Heatmap):
            draw_heatmap(axes, figure)
        else:
            _draw_chart(axes, figure, heights[i // columns])
        if figure.note:
            note = place.supxlabel(figure.note, x=0.01, ha="left", fontsize=8, color=QUIET, wrap=True)
            note.set_parse_math(False)
    return drawing


def _size(figure: Figure) -> tuple[float, float]:
    """Width and height in inches; a large matrix needs a dot for each of its cells."""
    if isinstance(figure, Heatmap):
        rows, columns = figure.array.shape
        side = 13.0 if max(rows, columns) > 400 else _WIDTH
        return side, min(max(_HEIGHT, 1.2 + 0.28 * rows), side)
    height = 1.3 + ROW * len(figure.y.categories) if figure.flat else _HEIGHT
    return _WIDTH, min(max(_HEIGHT, height), TALLEST)


def _draw_chart(axes: Axes, chart: Chart, height: float) -> None:
    frame(axes, chart)
    count = len(chart.series)
    bars = [each for each in chart.series if each.kind == "bars"]
    looks = [look(position, count) for position in range(count)]
    largest = max((size for each in chart.series for size in each.sizes if math.isfinite(size)), default=1.0)
    for each, style in zip(chart.series, looks, strict=True):
        x, y = _places(chart.x, each.x), _places(chart.y, each.y)
        if each.kind == "bars":
            _bars(axes, chart, each, style, (bars.index(each), len(bars)))
        elif each.kind == "points":
            _points(axes, each, (x, y), style, largest)
        else:
            _line(axes, each, (x, y), style, many=count > 21)
    for line in chart.lines:
        _rule(axes, line)
    scale(axes.xaxis, chart.x, "x", [value for each in chart.series for value in each.x])
    scale(axes.yaxis, chart.y, "y", [value for each in chart.series for value in (*each.y, *each.low, *each.high)])
    if chart.flat:
        axes.invert_yaxis()
    if not any(each.x for each in chart.series):
        axes.text(0.5, 0.5, "no data", transform=axes.transAxes, ha="center", color=QUIET)
    if len(bars) == 1 and count == 1 and chart.flat and len(chart.y.categories) <= MOST_TICKS and not bars[0].low:
        _bar_values(axes, chart, bars[0])
    if any(each.sizes for each in chart.series):
        axes.margins(0.1)
    point_labels(axes, chart)
    named = end_labels(axes, chart, looks, height)
    if not named:
        legend(axes, chart, looks, (_DASHES, _MARKS))


def _places(axis: AxisSpec, values: Sequence[Value]) -> NDArray[np.float64]:
    """Numbers as they are, categories as their positions."""
    at = {name: float(i) for i, name in enumerate(axis.categories)}
    return np.array([at[value] if isinstance(value, str) else value for value in values], np.float64)


def _line(
    axes: Axes, series: Series, points: tuple[NDArray[np.float64], NDArray[np.float64]], style: Look, *, many: bool
) -> None:
    x, y = points
    y = np.where(np.isfinite(y), y, np.nan)
    short = series.kind == "line" and not many and len(x) <= 40
    axes.plot(
        x,
        y,
        color=style.colour,
        linewidth=0.9 if many else 1.8,
        linestyle=_DASHES[style.variant],
        marker=_MARKS[style.variant] if short else "",
        markersize=3.5,
        alpha=0.8 if many else 1.0,
        solid_capstyle="round",
    )
    if series.low:
        axes.fill_between(x, series.low, series.high, color=style.colour, alpha=0.14, linewidth=0)
    if series.kind == "area":
        axes.fill_between(x, 0, y, color=style.colour, alpha=0.25, linewidth=0)


def _points(
    axes: Axes, series: Series, points: tuple[NDArray[np.float64], NDArray[np.float64]], style: Look, largest: float
) -> None:
    x, y = points
    sizes = 26.0 if not series.sizes else np.clip(np.nan_to_num(np.array(series.sizes)), 0, None) / largest * 600 + 4
    axes.scatter(
        x,
        y,
        sizes,
        style.colour,
        marker=_MARKS[style.variant],
        alpha=0.75,
        linewidths=0.5,
        edgecolors="white",
        zorder=3,
    )
    if series.low:
        down, up = y - np.array(series.low), np.array(series.high) - y
        axes.errorbar(x, y, yerr=np.stack((down, up)), fmt="none", ecolor=style.colour, elinewidth=0.9, capsize=2)


def _bars(axes: Axes, chart: Chart, series: Series, style: Look, place: tuple[int, int]) -> None:
    """The bars of one series, beside those of the others."""
    position, count = place
    thick = 0.8 / count
    shift = (position - (count - 1) / 2) * thick
    names, lengths = (chart.y, chart.x) if chart.flat else (chart.x, chart.y)
    at = _places(names, series.y if chart.flat else series.x)
    step = 1.0 if names.categories else _step(at)
    length = _places(lengths, series.x if chart.flat else series.y)
    draw = axes.barh if chart.flat else axes.bar
    draw(at + shift * step, np.nan_to_num(length), thick * step * 0.94, color=style.colour, linewidth=0)
    if series.low:
        reach = np.stack((length - np.array(series.low), np.array(series.high) - length))
        error: dict[str, Any] = {"xerr" if chart.flat else "yerr": reach}
        where = (length, at + shift * step) if chart.flat else (at + shift * step, length)
        axes.errorbar(*where, fmt="none", ecolor=QUIET, elinewidth=0.9, capsize=2, **error)


def _step(at: NDArray[np.float64]) -> float:
    """The width that bars on a numeric axis have room for."""
    apart = np.diff(np.unique(at))
    return float(apart.min()) if apart.size else 1.0


def _bar_values(axes: Axes, chart: Chart, series: Series) -> None:
    """The number at the end of each bar, where there is one series of them."""
    axes.margins(x=0.12)
    for value, y in zip(series.x, _places(chart.y, series.y), strict=True):
        if not isinstance(value, str):
            back = value < 0
            end = (value if math.isfinite(value) else 0.0, float(y))
            side = "right" if back else "left"
            words(axes, exact(value, chart.x.format), end, (-4 if back else 4, 0), ha=side, va="center", color=INK)


def _rule(axes: Axes, line: Line) -> None:
    draw = axes.axhline if line.axis == "y" else axes.axvline
    draw(line.value, color=QUIET, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    if line.axis == "x" and line.label:
        words(axes, line.label, (line.value, 1), (3, -9), xycoords=("data", "axes fraction"))
