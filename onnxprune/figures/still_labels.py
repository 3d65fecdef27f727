"""The words beside the data in a picture: names at the ends of lines, names of points, the legend."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from onnxprune.figures.chart import Chart, Series
from onnxprune.figures.style import INK, PALE, QUIET, Look, shorten, spread

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["above", "end_labels", "legend", "point_labels", "words"]

_MOST_LINES = 8  # named at their ends
_MOST_POINTS = 24  # named beside the point
_MOST_IN_LEGEND = 24
_LINE = 0.165  # inches from one label to the next


def words(axes: Axes, text: str, at: tuple[float, float], offset: tuple[float, float], **style: Any) -> None:
    """Plain words (a "$" in a name is a "$") at a place, moved by points unless told otherwise."""
    common: dict[str, Any] = {"textcoords": "offset points", "fontsize": 8, "color": QUIET}
    axes.annotate(text, at, offset, **(common | style)).set_parse_math(False)


def above(axes: Axes, text: str, *, right: bool = False) -> None:
    """Words level above the axes, at the left or the right end."""
    style = {"ha": "right"} if right else {"fontsize": 9}
    words(axes, text, (float(right), 1), (0, 7), xycoords="axes fraction", **style)


def end_labels(axes: Axes, chart: Chart, looks: Sequence[Look], height: float) -> bool:
    """Name lines and horizontal reference lines at the right edge; whether every series has its name now."""
    lines = [(each, style) for each, style in zip(chart.series, looks, strict=True) if each.kind in {"line", "area"}]
    only = len(lines) == len(chart.series)
    few = only and 1 < len(lines) <= _MOST_LINES
    crowd = only and len(lines) > _MOST_IN_LEGEND
    chosen = lines if few else _outermost(lines) if crowd else []
    ends = [(each.name, style.colour, _last(chart, each)) for each, style in chosen]
    wanted = [(name, colour, end) for name, colour, end in ends if end is not None]
    wanted += [(rule.label, QUIET, (math.nan, rule.value)) for rule in chart.lines if rule.axis == "y" and rule.label]
    axes.autoscale_view()
    places = [_fraction(axes, y) for _, _, (_, y) in wanted]
    moved = spread(places, _LINE / (height * 0.72))
    for (name, colour, (x, y)), place, at in zip(wanted, places, moved, strict=True):
        _at_the_edge(axes, name, colour, (x, y), (place, at))
    if crowd:
        above(axes, f"{len(lines)} series, coloured in their order; the outermost are named", right=True)
    return few or crowd or len(chart.series) <= 1


def _at_the_edge(axes: Axes, name: str, colour: str, end: tuple[float, float], places: tuple[float, float]) -> None:
    """One label right of the axes, with a leader where it could not stand level with its line's end."""
    place, at = places
    x, y = end
    reach = axes.transAxes.inverted().transform(axes.transData.transform((x, y)))[0] if math.isfinite(x) else 1.0
    style = {"fontsize": 8.5, "color": colour, "va": "center", "textcoords": "axes fraction"}
    if math.isfinite(x) and (abs(at - place) > 0.012 or reach < 0.93):
        leader: dict[str, Any] = {"arrowstyle": "-", "color": PALE, "linewidth": 0.6, "shrinkA": 1, "shrinkB": 3}
        leader["relpos"] = (0, 0.5)
        words(axes, shorten(name), (x, y), (1.015, at), arrowprops=leader, **style)
    else:
        words(axes, shorten(name), (1.0, place), (1.015, at), xycoords="axes fraction", **style)


def _outermost(lines: Sequence[tuple[Series, Look]]) -> list[tuple[Series, Look]]:
    """The three that end highest and the three that end lowest."""

    def end(line: tuple[Series, Look]) -> float:
        known = [y for y in line[0].y if not isinstance(y, str) and math.isfinite(y)]
        return known[-1] if known else 0.0

    ordered = sorted(lines, key=end)
    return [*ordered[:3], *ordered[-3:]]


def _last(chart: Chart, series: Series) -> tuple[float, float] | None:
    """The point furthest to the right."""
    at = {name: float(i) for i, name in enumerate(chart.x.categories)}
    points = [
        (at[x] if isinstance(x, str) else x, y)
        for x, y in zip(series.x, series.y, strict=True)
        if not isinstance(y, str) and math.isfinite(y) and (y > 0 or not chart.y.log)
    ]
    return max(points, default=None, key=lambda point: point[0])


def _fraction(axes: Axes, y: float) -> float:
    pixels = axes.transData.transform((axes.get_xlim()[0], y))
    return float(axes.transAxes.inverted().transform(pixels)[1])


def point_labels(axes: Axes, chart: Chart) -> None:
    """The points' own words, as long as there are few."""
    series = [each for each in chart.series if each.kind == "points" and each.labels]
    if sum(len(each.x) for each in series) > _MOST_POINTS:
        return
    for each in series:
        for x, y, label in zip(each.x, each.y, each.labels, strict=True):
            if isinstance(x, str) or isinstance(y, str) or not (math.isfinite(x) and math.isfinite(y)):
                continue
            words(axes, shorten(label), (x, y), (6, 4), color=INK, zorder=4)


def legend(axes: Axes, chart: Chart, looks: Sequence[Look], strokes: tuple[Sequence[Any], Sequence[str]]) -> None:
    """Names below the axes, in columns; the first of them where they are too many."""
    from matplotlib.lines import Line2D  # noqa: PLC0415
    from matplotlib.patches import Patch  # noqa: PLC0415

    dashes, marks = strokes
    shown = list(zip(chart.series, looks, strict=True))[:_MOST_IN_LEGEND]
    handles: list[Any] = []
    for each, style in shown:
        if each.kind in {"bars", "area"}:
            handles.append(Patch(color=style.colour))
        else:
            dash: Any = dashes[style.variant] if each.kind == "line" else "none"
            handles.append(
                Line2D([], [], color=style.colour, linestyle=dash, marker=marks[style.variant], markersize=4)
            )
    names = [shorten(each.name) for each, _ in shown]
    left = len(chart.series) - len(shown)
    if left:
        handles.append(Patch(alpha=0))
        names.append(f"and {left} more")
    columns = max(1, min(6, 100 // (max(map(len, names)) + 6)))
    found = axes.figure.legend(
        handles,
        [str(i) for i in range(len(names))],  # a name with "$" or "_" would mean something here
        loc="outside lower left",
        ncols=columns,
        frameon=False,
        fontsize=8.5,
        labelcolor=INK,
    )
    for text, name in zip(found.get_texts(), names, strict=True):
        text.set_parse_math(False)
        text.set_text(name)
