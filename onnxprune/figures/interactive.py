"""A chart as a plotly figure: a plain dict, made without plotly, for a page of our own or for a Dash app.

Names come from other people's models: they are escaped, since plotly reads a little HTML in every text.
"""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from onnxprune.figures.chart import AxisSpec, Chart, Figure, Heatmap, Line, Series, Value
from onnxprune.figures.numbers import finite, tick_format
from onnxprune.figures.style import (
    CELLS_WITH_TEXT,
    DIVERGING,
    GRID,
    INK,
    QUIET,
    SEQUENTIAL,
    Look,
    look,
    short_names,
    shorten,
)

__all__ = ["CONFIG", "FONT", "to_plotly"]

FONT = 'Inter, "Segoe UI", system-ui, -apple-system, "Helvetica Neue", Arial, sans-serif'
CONFIG: Mapping[str, Any] = MappingProxyType(
    {
        "displaylogo": False,
        # plotly.js 4 offers to upload charts to a cloud; by the second name, older ones do.
        "showSendToCloud": False,
        "plotlyServerURL": "",
        "modeBarButtonsToRemove": ["sendChartToCloud", "sendDataToCloud", "select2d", "lasso2d", "autoScale2d"],
        "responsive": True,
        "toImageButtonOptions": {"format": "svg"},
    }
)
_DASHES = ("solid", "6px,3px", "2px,2px")
_MARKS = ("circle", "square", "diamond")
_HEIGHT, _TALLEST, _ROW = 420, 6000, 17  # pixels


def to_plotly(figure: Figure) -> dict[str, Any]:
    """``{"data": [...], "layout": {...}}`` as plotly.js and Dash take it; show it with ``CONFIG``."""
    return _heatmap(figure) if isinstance(figure, Heatmap) else _chart(figure)


def _chart(chart: Chart) -> dict[str, Any]:
    layout = _layout(chart.title, chart.y.title, chart.note)
    layout["xaxis"] = _axis(chart.x, [value for each in chart.series for value in each.x])
    layout["yaxis"] = _axis(chart.y, [value for each in chart.series for value in (*each.y, *each.low, *each.high)])
    layout["xaxis"]["title"] = _words_below(chart.x)
    layout["showlegend"] = len(chart.series) > 1
    layout["barmode"] = "group"
    if chart.flat:
        layout["yaxis"]["autorange"] = "reversed"  # the first category on top, as in a table
        layout["height"] = _height(chart.y)
    layout["shapes"] = [_rule(line) for line in chart.lines]
    layout["annotations"] += [_rule_label(chart, line) for line in chart.lines if line.label]
    if not any(each.x for each in chart.series):
        layout["annotations"].append({"text": "no data", "x": 0.5, "y": 0.5, **_PAPER, "font": {"color": QUIET}})
    largest = max((size for each in chart.series for size in each.sizes if math.isfinite(size)), default=0.0)
    if largest:
        layout["legend"]["itemsizing"] = "constant"
    count = len(chart.series)
    data = [
        trace
        for position, each in enumerate(chart.series)
        for trace in _traces(chart, each, look(position, count), position, largest)
    ]
    return {"data": data, "layout": layout}


_PAPER = {"xref": "paper", "yref": "paper", "showarrow": False}


def _layout(title: str, over: str, note: str) -> dict[str, Any]:
    """What all figures share; ``over`` is written level above the y axis, where it reads without a turned head."""
    annotation = {**_PAPER, "xanchor": "left", "align": "left", "x": 0, "font": {"color": QUIET}}
    texts = []
    if over:
        texts.append({**annotation, "text": html.escape(over), "y": 1, "yanchor": "bottom", "yshift": 6})
    if note:
        texts.append({**annotation, "text": html.escape(note), "y": 0, "yanchor": "top", "yshift": -52})
    return {
        "title": {
            "text": f"<b>{html.escape(title)}</b>",
            "font": {"size": 16, "color": INK},
            "x": 0,
            "xref": "paper",
            "xanchor": "left",
            "y": 1,
            "yanchor": "top",
            "pad": {"t": 14},
        },
        "font": {"family": FONT, "size": 12, "color": INK},
        "paper_bgcolor": "#ffffff",
        "plot_bgcolor": "#ffffff",
        "margin": {"l": 56, "r": 24, "t": 72, "b": 76 if note else 52},
        "height": _HEIGHT,
        "hovermode": "closest",
        "hoverlabel": {"align": "left", "bgcolor": "#ffffff", "bordercolor": QUIET, "font": {"family": FONT}},
        "legend": {"font": {"size": 11}, "tracegroupgap": 0},
        "annotations": texts,
        "modebar": {"orientation": "h", "bgcolor": "rgba(255,255,255,0)", "color": "#aab4be", "activecolor": INK},
    }


def _axis(axis: AxisSpec, values: Sequence[Value] = ()) -> dict[str, Any]:
    common: dict[str, Any] = {"automargin": True, "gridcolor": GRID, "linecolor": QUIET, "zeroline": False, "ticks": ""}
    common["tickfont"] = {"color": QUIET, "size": 11}
    if axis.categories:
        names = [html.escape(name) for name in axis.categories]
        short = dict(zip(names, map(html.escape, short_names(axis.categories)), strict=True))
        common |= {"type": "category", "categoryorder": "array", "categoryarray": names, "showgrid": False}
        common["range"] = [-0.5, len(names) - 0.5]
        aliases = {name: text for name, text in short.items() if name != text}
        return common | ({"labelalias": aliases} if aliases else {})
    sizes = [abs(value) for value in values if not isinstance(value, str) and math.isfinite(value)]
    common["tickformat"] = tick_format(axis.format, max(sizes, default=0.0))
    if axis.log:
        common |= {"type": "log", "dtick": "D2" if _decades(sizes) < 2.5 else 1}
    if axis.limits:
        common["range"] = [math.log10(value) for value in axis.limits] if axis.log else list(axis.limits)
    return common


def _words_below(axis: AxisSpec) -> dict[str, Any]:
    return {"text": html.escape(axis.title), "font": {"color": QUIET, "size": 12}, "standoff": 8}


def _decades(sizes: Sequence[float]) -> float:
    above = [size for size in sizes if size > 0]
    return math.log10(max(above) / min(above)) if above else 0.0


def _height(axis: AxisSpec) -> int:
    return min(max(_HEIGHT, 140 + _ROW * len(axis.categories)), _TALLEST)


def _values(values: Sequence[Value]) -> list[Value | None]:
    return [html.escape(value) if isinstance(value, str) else finite(value) for value in values]


def _traces(chart: Chart, series: Series, style: Look, position: int, largest: float) -> list[dict[str, Any]]:
    """The band, if there is one, and the series over it."""
    trace: dict[str, Any] = {
        "name": html.escape(shorten(series.name, 40)),
        "x": _values(series.x),
        "y": _values(series.y),
        "hovertext": _hover(chart, series),
        "hovertemplate": "%{hovertext}<extra></extra>",
        "legendgroup": str(position),
    }
    if series.kind == "bars":
        trace |= {"type": "bar", "marker": {"color": style.colour}, "orientation": "h" if chart.flat else "v"}
    else:
        trace |= {"type": "scatter", **_strokes(series, style, largest, many=len(chart.series) > 21)}
    if not series.low:
        return [trace]
    if series.kind in {"line", "area"}:
        return [_band(series, style, position), trace]
    return [trace | {"error_x" if chart.flat else "error_y": _errors(chart, series)}]


def _strokes(series: Series, style: Look, largest: float, *, many: bool) -> dict[str, Any]:
    mark: dict[str, Any] = {"color": style.colour, "symbol": _MARKS[style.variant], "size": 7}
    if series.kind == "points":
        if series.sizes:
            sizes = [max(finite(size) or 0.0, 0.0) for size in series.sizes]
            mark |= {"size": sizes, "sizemode": "area", "sizemin": 2, "sizeref": 2 * (largest or 1.0) / 40**2}
        return {"mode": "markers", "marker": mark | {"opacity": 0.75, "line": {"width": 0.5, "color": "#ffffff"}}}
    stroke = {"color": style.colour, "width": 1.2 if many else 2, "dash": _DASHES[style.variant]}
    short = series.kind == "line" and not many and len(series.x) <= 40
    found: dict[str, Any] = {"mode": "lines+markers" if short else "lines", "line": stroke}
    if short:
        found["marker"] = mark | {"size": 5}
    if series.kind == "area":
        found |= {"fill": "tozeroy", "fillcolor": _see_through(style.colour, 0.25)}
    return found


def _band(series: Series, style: Look, position: int) -> dict[str, Any]:
    pieces = zip(series.x, series.low, series.high, strict=True)
    known = [piece for piece in pieces if math.isfinite(piece[1]) and math.isfinite(piece[2])]
    x = [piece[0] for piece in known]
    return {
        "type": "scatter",
        "x": _values(x + x[::-1]),
        "y": [piece[1] for piece in known] + [piece[2] for piece in reversed(known)],
        "mode": "lines",
        "line": {"width": 0},
        "fill": "toself",
        "fillcolor": _see_through(style.colour, 0.15),
        "hoverinfo": "skip",
        "showlegend": False,
        "legendgroup": str(position),
    }


def _errors(chart: Chart, series: Series) -> dict[str, Any]:
    middle = [value for value in (series.x if chart.flat else series.y) if not isinstance(value, str)]
    return {
        "type": "data",
        "symmetric": False,
        "array": [finite(high - value) for high, value in zip(series.high, middle, strict=True)],
        "arrayminus": [finite(value - low) for low, value in zip(series.low, middle, strict=True)],
        "color": QUIET,
        "thickness": 1,
        "width": 3,
    }


def _hover(chart: Chart, series: Series) -> list[str]:
    """Per point: the series' full name, the point's label, both values in full, the band."""
    measured = chart.x if chart.flat else chart.y
    found = []
    for i, (x, y) in enumerate(zip(series.x, series.y, strict=True)):
        head = [series.name] * (len(chart.series) > 1) + list(series.labels[i : i + 1])
        lines = [f"<b>{html.escape(text)}</b>" for text in head]
        lines += [_named(chart.x, chart.x.text(x)), _named(chart.y, chart.y.text(y))]
        if series.low:
            lines.append(f"{measured.text(series.low[i])} to {measured.text(series.high[i])}")
        if series.sizes:
            lines.append(f"size: {series.sizes[i]:.4g}")
        found.append("<br>".join(lines))
    return found


def _named(axis: AxisSpec, text: str) -> str:
    return html.escape(f"{axis.label}: {text}" if axis.label else text)


def _rule(line: Line) -> dict[str, Any]:
    across = {"type": "line", "layer": "above", "line": {"color": QUIET, "width": 1.2, "dash": "4px,3px"}}
    if line.axis == "y":
        return across | {"xref": "paper", "x0": 0, "x1": 1, "y0": line.value, "y1": line.value}
    return across | {"yref": "paper", "y0": 0, "y1": 1, "x0": line.value, "x1": line.value}


def _rule_label(chart: Chart, line: Line) -> dict[str, Any]:
    axis = chart.y if line.axis == "y" else chart.x
    place = math.log10(line.value) if axis.log and line.value > 0 else line.value
    text = {"text": html.escape(line.label), "showarrow": False, "font": {"size": 11, "color": QUIET}}
    if line.axis == "y":
        return text | {"xref": "paper", "x": 1, "xanchor": "right", "y": place, "yanchor": "bottom"}
    return text | {"yref": "paper", "y": 1, "yanchor": "top", "x": place, "xanchor": "left", "xshift": 3}


def _heatmap(heatmap: Heatmap) -> dict[str, Any]:
    layout = _layout(heatmap.title, heatmap.rows_of.title, heatmap.note)
    layout["xaxis"] = _axis(heatmap.columns_of) | {"constrain": "domain", "constraintoward": "left"}
    layout["xaxis"]["title"] = _words_below(heatmap.columns_of)
    layout["yaxis"] = _axis(heatmap.rows_of) | {"constrain": "domain", "constraintoward": "top"}
    layout["yaxis"]["range"] = layout["yaxis"]["range"][::-1]
    layout["height"] = min(max(_HEIGHT, 160 + 28 * len(heatmap.rows_of.categories)), 900)
    if heatmap.square:
        layout["yaxis"]["scaleanchor"] = "x"
        layout["width"] = layout["height"] + 40  # otherwise the colours' bar is at the far end of the page
    low, high = heatmap.limits()
    scale = DIVERGING if low < 0 else SEQUENTIAL
    value = heatmap.value
    spec = tick_format(value.format, max(abs(low), abs(high)))
    rows, columns = (html.escape(axis.label or name) for axis, name in _named_axes(heatmap))
    # With a format ("c" leaves words alone) plotly hovers over the category itself, without one over its alias.
    hover = f"{rows}: <b>%{{y:c}}</b><br>{columns}: <b>%{{x:c}}</b><br>"
    words, number = html.escape(value.label or "value"), value.format or ".12~g"
    unit = f" {html.escape(value.unit)}" if value.unit else ""
    trace: dict[str, Any] = {
        "type": "heatmap",
        "x": layout["xaxis"]["categoryarray"],
        "y": layout["yaxis"]["categoryarray"],
        "z": [[finite(each) for each in row] for row in heatmap.array.tolist()],
        "zmin": low,
        "zmax": high,
        "colorscale": [[i / (len(scale) - 1), colour] for i, colour in enumerate(scale)],
        "hoverongaps": False,
        "hovertemplate": f"{hover}{words}: %{{z:{number}}}{unit}<extra></extra>",
        "colorbar": {
            "title": {"text": html.escape(value.title), "side": "right", "font": {"color": QUIET, "size": 12}},
            "tickformat": spec,
            "thickness": 10,
            "outlinewidth": 0,
            "tickfont": {"color": QUIET, "size": 11},
        },
    }
    if max(heatmap.array.shape, default=0) <= CELLS_WITH_TEXT:
        trace |= {"texttemplate": f"%{{z:{number}}}", "xgap": 1, "ygap": 1, "textfont": {"size": 11}}
    return {"data": [trace], "layout": layout}


def _named_axes(heatmap: Heatmap) -> tuple[tuple[AxisSpec, str], tuple[AxisSpec, str]]:
    return (heatmap.rows_of, "row"), (heatmap.columns_of, "column")


def _see_through(colour: str, opacity: float) -> str:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity})"
