"""Axes of a picture: title, grid, ticks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from onnxprune.figures.chart import AxisSpec, Chart, Figure, Heatmap, Value
from onnxprune.figures.numbers import tick, tick_format
from onnxprune.figures.still_labels import above
from onnxprune.figures.style import GRID, INK, PALE, QUIET, short_names, shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

__all__ = ["MOST_TICKS", "ROW", "TALLEST", "frame", "name_ticks", "scale"]

ROW, TALLEST = 0.155, 60.0  # inches: a category on y, and a chart of them
MOST_TICKS = 40


def frame(axes: Axes, figure: Figure) -> None:
    """Title, the y axis' words level above it, thin lines."""
    over = figure.rows_of if isinstance(figure, Heatmap) else figure.y
    below = figure.columns_of if isinstance(figure, Heatmap) else figure.x
    pad = 24 if over.title else 10
    title = axes.set_title(shorten(figure.title, 80), loc="left", fontsize=11.5, fontweight="bold", color=INK, pad=pad)
    title.set_parse_math(False)
    if over.title:
        above(axes, over.title)
    axes.set_xlabel(below.title, color=QUIET, fontsize=9, parse_math=False)
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_visible(side == "bottom")
        axes.spines[side].set_color(PALE)
    axes.tick_params(colors=QUIET, labelsize=8.5, length=0, pad=5, which="both")
    axes.set_axisbelow(True)
    if isinstance(figure, Chart):
        for name, axis in (("x", figure.x), ("y", figure.y)):
            if not axis.categories:
                axes.grid(axis="x" if name == "x" else "y", color=GRID, linewidth=0.7)


def scale(axis: Axis, spec: AxisSpec, name: str, values: Sequence[Value]) -> None:
    """Ticks and limits of one axis."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter  # noqa: PLC0415

    axes = axis.axes
    if spec.categories:
        name_ticks(axis, spec, upright=name == "x")
        (axes.set_xlim if name == "x" else axes.set_ylim)(-0.6, len(spec.categories) - 0.4)
        return
    sizes = [abs(value) for value in values if not isinstance(value, str) and math.isfinite(value)]
    above = [size for size in sizes if size > 0]
    form = tick_format(spec.format, max(sizes, default=0.0))
    if spec.log and above:
        (axes.set_xscale if name == "x" else axes.set_yscale)("log", nonpositive="mask")
        few = max(above) / min(above) < 300
        axis.set_major_locator(LogLocator(subs=(1, 2, 5) if few else (1,), numticks=12))
        axis.set_minor_formatter(NullFormatter())
    else:
        axis.set_major_locator(MaxNLocator(7 if name == "x" else 6, steps=[1, 2, 2.5, 5, 10]))
    axis.set_major_formatter(FuncFormatter(lambda value, _: tick(value, form)))
    if spec.limits:
        (axes.set_xlim if name == "x" else axes.set_ylim)(spec.limits)


def name_ticks(axis: Axis, spec: AxisSpec, *, upright: bool, tall: bool = True) -> None:
    """Category names, upright and thinned where they are many across, all of them down a tall chart."""
    count = len(spec.categories)
    all_shown = tall and not upright and count * ROW <= TALLEST
    places = range(0, count, 1 if all_shown else max(1, math.ceil(count / MOST_TICKS)))
    every = short_names(spec.categories)
    names = [every[i] for i in places]
    crowded = upright and sum(map(len, names)) > 90
    axis.set_ticks(places, names, rotation=90 if crowded else 0, parse_math=False)
    if len(places) > 30:
        axis.set_tick_params(labelsize=7)
