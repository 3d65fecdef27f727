"""The mask of a weight as a figure around a picture, and the histogram of its magnitudes."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from functools import lru_cache
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from dash_ui.figures.mask_raster import SIZE, Sample, Window, painted, png, sample, tile
from dash_ui.rows.mask import Mask
from dash_ui.theme import Theme, finish
from onnxprune.masks import Side

__all__ = ["histogram", "histogram_drawing", "mask_drawing", "mask_figure", "mask_picture", "view_key"]

TICK = (16, 44)  # pixels that a tick needs, of rows and of columns
KERNEL = 5  # pixels of a kernel, from which on there are lines between them
HEADER = 34  # pixels at the left, where whole rows are taken
TOP = 38  # pixels at the top, where whole columns are; assets/mask.js counts on them


def mask_figure(
    mask: Mask, theme: Theme, view: Mapping[str, Any] | None = None, *, square: bool = False,
    size: tuple[int, int] = (SIZE, SIZE),
) -> go.Figure:  # fmt: skip
    """`mask_drawing`, checked by Plotly."""
    return go.Figure(mask_drawing(mask, theme, view, square=square, size=size))


def mask_drawing(
    mask: Mask, theme: Theme, view: Mapping[str, Any] | None = None, *, square: bool = False,
    size: tuple[int, int] = (SIZE, SIZE),
) -> dict[str, Any]:  # fmt: skip
    """``data`` and ``layout`` of a figure, made without Plotly, which takes as long over it as the picture does.

    ``view``: what the axes show, ``{"x": [from, to], "y": ...}``; ``size``: pixels of the plot, height and width.
    """
    matrix, shape = mask.layer.matrix, (mask.codes.shape[0], mask.codes.shape[1])
    view = view or _all(shape)
    size = _square(view, size) if square else size
    seen = Window.of(shape, view["y"], view["x"])
    found, source = _picture(mask, theme, seen, size)
    layout: dict[str, Any] = deepcopy(_base(theme))
    layout.update(uirevision=view_key(mask, square=square), meta=_meta(mask, exact=found.exact))
    layout["images"] = [{
        "source": source, "xref": "x", "yref": "y", "x": seen.columns[0] - 0.5, "y": seen.rows[0] - 0.5,
        "xanchor": "left", "yanchor": "top", "sizex": found.values.shape[1] * found.wide,
        "sizey": found.values.shape[0] * found.high, "sizing": "stretch", "layer": "below",
    }]  # fmt: skip
    sides = (("x", matrix.columns), ("y", matrix.rows))
    layout["shapes"] = [line for axis, side in sides for line in _bounds(side, axis, shape, theme)]
    pixels = {"x": (seen.columns, size[1] // TICK[1]), "y": (seen.rows, size[0] // TICK[0])}
    for axis, side in sides:
        layout[f"{axis}axis"].update(_ticks(side, *pixels[axis]), range=list(view[axis]))
        layout[f"{axis}axis"]["title"] |= {"text": _title(side)}
    if square:
        layout["yaxis"]["scaleanchor"] = "x"
    return {"data": [_kernels(mask, seen, theme, size)], "layout": layout}


def _meta(mask: Mask, *, exact: bool) -> dict[str, Any]:
    """What the browser has to know of the matrix, for places of its cursor."""
    matrix, (high, wide) = mask.layer.matrix, mask.codes.shape
    return {"shape": [high, wide], "kernel": [matrix.rows.kernel, matrix.columns.kernel], "exact": exact}


def mask_picture(
    mask: Mask, theme: Theme, view: Mapping[str, Any] | None = None, *, square: bool = False,
    size: tuple[int, int] = (SIZE, SIZE),
) -> str:  # fmt: skip
    """The picture alone, for a figure that is there already."""
    shape = mask.codes.shape[0], mask.codes.shape[1]
    view = view or _all(shape)
    size = _square(view, size) if square else size
    return _picture(mask, theme, Window.of(shape, view["y"], view["x"]), size)[1]


def _all(shape: tuple[int, int]) -> dict[str, list[float]]:
    return {"x": [-0.5, shape[1] - 0.5], "y": [shape[0] - 0.5, -0.5]}


def _picture(mask: Mask, theme: Theme, seen: Window, size: tuple[int, int]) -> tuple[Sample, str]:
    layer = mask.layer
    part = layer.tiles.get((seen, size), lambda: tile(layer.values, seen, size))
    found = sample(layer.values, mask.codes, seen, size, part)
    several = found.values.shape[0] * found.values.shape[1] * 4 > size[0] * size[1]  # hardly a pixel like the next
    return found, png(painted(found, layer.scale, size), theme, plain=several)


@lru_cache(maxsize=4)
def _base(theme: Theme) -> dict[str, Any]:
    """What does not depend on the mask."""
    figure = finish(
        go.Figure(), theme, dragmode="zoom", hovermode=False,
        margin={"l": HEADER + 30, "r": 6, "t": TOP, "b": 6},
    )  # fmt: skip
    title = {"font": {"size": 11, "color": theme.quiet}, "standoff": 2}
    plain: dict[str, Any] = {"showgrid": False, "zeroline": False, "automargin": False, "ticklen": 3, "title": title}
    figure.update_xaxes(**plain, side="top", tickangle=0, constrain="domain")
    figure.update_yaxes(**plain, constrain="domain")
    found: dict[str, Any] = figure.to_plotly_json()["layout"]
    return found


def view_key(mask: Mask, *, square: bool) -> str:
    """What a zoom belongs to: it is kept while this stays the same."""
    return f"{mask.layer.model_hash} {mask.layer.matrix.tensor} {square}"


def _square(view: Mapping[str, Any], size: tuple[int, int]) -> tuple[int, int]:
    """What is left of the plot where cells are as high as wide."""
    high, wide = abs(view["y"][1] - view["y"][0]), abs(view["x"][1] - view["x"][0])
    cell = min(size[0] / high, size[1] / wide)
    return max(1, round(high * cell)), max(1, round(wide * cell))


def _title(side: Side) -> str:
    return " · ".join(part.word for part in side.parts if part.size > 1 and not part.kernel)


def _ticks(side: Side, seen: tuple[int, int], most: int) -> dict[str, Any]:
    """At round numbers of the last part, in the middle of kernels; every gate and head begins with its first one."""
    kernel = side.kernel
    first, behind = seen[0] // kernel, -(-seen[1] // kernel)
    least = max(1, -(-(behind - first) // max(most, 2)))
    step = _round(least)
    last = next((part.size for part in reversed(side.parts) if not part.kernel), 1)
    if last == side.size // kernel:
        places = np.arange(-(-first // step) * step, behind, step)
    elif step > last // 2:  # no room but for where they begin
        each = last * -(-least // last)
        places = np.arange(-(-first // each) * each, behind, each)
    else:
        places = np.arange(first, behind)
        within = places % last
        places = places[(within % step == 0) & ((within == 0) | (last - within >= step // 2))]
    return {
        "tickmode": "array", "tickvals": (places * kernel + (kernel - 1) / 2).tolist(),
        "ticktext": [side.tick(place * kernel) for place in places.tolist()],
    }  # fmt: skip


def _round(step: int) -> int:
    size = int(10 ** (len(str(step)) - 1))
    return next((size * nice for nice in (1, 2, 5) if size * nice >= step), size * 10)


def _kernels(mask: Mask, seen: Window, theme: Theme, size: tuple[int, int]) -> dict[str, Any]:
    """Thin lines between kernels, where there is room. One trace is there in any case: axes need one."""
    matrix = mask.layer.matrix
    x: list[float | None] = [None]
    y: list[float | None] = [None]
    for place in _between(matrix.rows, seen.rows, size[0]):
        x += [seen.columns[0] - 0.5, seen.columns[1] - 0.5, None]
        y += [place, place, None]
    for place in _between(matrix.columns, seen.columns, size[1]):
        x += [place, place, None]
        y += [seen.rows[0] - 0.5, seen.rows[1] - 0.5, None]
    return {
        "type": "scatter", "x": x, "y": y, "mode": "lines", "line": {"color": theme.surface, "width": 1.2},
        "hoverinfo": "skip", "showlegend": False,
    }  # fmt: skip


def _between(side: Side, seen: tuple[int, int], pixels: int) -> list[float]:
    """Where kernels begin, 0 left out."""
    kernel, (first, behind) = side.kernel, seen
    if kernel == 1 or pixels * kernel < KERNEL * (behind - first):
        return []
    return [place - 0.5 for place in range(-(-max(first, 1) // kernel) * kernel, behind, kernel)]


def _bounds(side: Side, axis: str, shape: tuple[int, int], theme: Theme) -> list[dict[str, Any]]:
    """Lines between gates and heads."""
    along = "y" if axis == "x" else "x"
    far = (shape[0] if axis == "x" else shape[1]) - 0.5
    if len(side.bounds) > 64:
        return []
    line = {"color": theme.ink, "width": 1.2}
    return [
        {"type": "line", f"{axis}0": place - 0.5, f"{axis}1": place - 0.5, f"{along}0": -0.5, f"{along}1": far,
         "line": line}
        for place in side.bounds.tolist()
    ]  # fmt: skip


def histogram(edges: NDArray[np.float64], left: NDArray[np.int64], gone: NDArray[np.int64], theme: Theme) -> go.Figure:
    """`histogram_drawing`, checked by Plotly."""
    return go.Figure(histogram_drawing(edges, left, gone, theme))


def histogram_drawing(
    edges: NDArray[np.float64], left: NDArray[np.int64], gone: NDArray[np.int64], theme: Theme
) -> dict[str, Any]:
    """Magnitudes: what is left, and above it up to a dotted line what is gone. Dragging chooses a range."""
    middle, width = ((edges[1:] + edges[:-1]) / 2).tolist(), float(edges[1] - edges[0])
    about = np.stack([edges[:-1], edges[1:], left, gone], axis=1).tolist()
    hover = "|w| %{customdata[0]:.3g} to %{customdata[1]:.3g}<br>%{customdata[2]:,} left, %{customdata[3]:,} gone"
    data: list[dict[str, Any]] = [
        {"type": "bar", "x": middle, "y": many.tolist(), "width": width, "name": name, "customdata": about,
         "hovertemplate": f"{hover}<extra></extra>", "marker": {"color": colour, "line": {"width": 0}}}
        for name, many, colour in (("gone", left + gone, theme.gone), ("left", left, theme.palette[0]))
    ]  # fmt: skip
    data.append({
        "type": "scatter", "x": middle, "y": (left + gone).tolist(), "mode": "lines", "hoverinfo": "skip",
        "line": {"shape": "hvh", "color": theme.ink, "width": 1, "dash": "dot"},
    })  # fmt: skip
    layout = deepcopy(_histogram_base(theme))
    layout["xaxis"]["range"] = [0, float(edges[-1])]
    return {"data": data, "layout": layout | {"meta": {"largest": float(edges[-1])}}}


@lru_cache(maxsize=4)
def _histogram_base(theme: Theme) -> dict[str, Any]:
    figure = finish(
        go.Figure(), theme, barmode="overlay", bargap=0, dragmode="select", selectdirection="h", showlegend=False,
        margin={"l": 34, "r": 4, "t": 4, "b": 38}, hovermode="closest",
    )  # fmt: skip
    figure.update_xaxes(title={"text": "|w|, drag to take a range", "standoff": 2, "font": {"size": 11}}, nticks=5,
                        automargin=False, fixedrange=True)  # fmt: skip
    figure.update_yaxes(type="log", nticks=3, automargin=False, fixedrange=True, dtick=None, exponentformat="SI")
    found: dict[str, Any] = figure.to_plotly_json()["layout"]
    return found
