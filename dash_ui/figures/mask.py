"""The mask of a weight as a figure around a picture, and the histogram of its magnitudes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from dash_ui.figures.mask_raster import SIZE, Window, painted, png, sample
from dash_ui.rows.mask import Mask
from dash_ui.theme import Theme, finish
from onnxprune.masks import Side

__all__ = ["histogram", "mask_figure", "view_key"]

TICK = (16, 44)  # pixels that a tick needs, of rows and of columns
KERNEL = 5  # pixels of a kernel, from which on there are lines between them
HEADER = 34  # pixels at the left and at the top, where whole rows and columns are taken


def mask_figure(
    mask: Mask, theme: Theme, view: Mapping[str, Any] | None = None, *, square: bool = False,
    size: tuple[int, int] = (SIZE, SIZE),
) -> go.Figure:  # fmt: skip
    """``view``: what the axes show, ``{"x": [from, to], "y": ...}``; ``size``: pixels of the plot, height and width."""
    matrix, shape = mask.layer.matrix, (mask.codes.shape[0], mask.codes.shape[1])
    view = view or {"x": [-0.5, shape[1] - 0.5], "y": [shape[0] - 0.5, -0.5]}
    size = _square(view, size) if square else size
    seen = Window.of(shape, view["y"], view["x"])
    found = sample(mask.layer.values, mask.codes, seen, size)
    figure = go.Figure()
    _kernels(figure, mask, seen, theme, size)
    figure.add_layout_image(
        source=png(painted(found, mask.layer.scale, size), theme), xref="x", yref="y", x=seen.columns[0] - 0.5,
        y=seen.rows[0] - 0.5, xanchor="left", yanchor="top", sizex=found.values.shape[1] * found.wide,
        sizey=found.values.shape[0] * found.high, sizing="stretch", layer="below",
    )  # fmt: skip
    for axis, side in (("x", matrix.columns), ("y", matrix.rows)):
        _bounds(figure, side, axis, shape, theme)
    finish(
        figure, theme, dragmode="zoom", hovermode=False, margin={"l": HEADER + 30, "r": 6, "t": HEADER, "b": 6},
        uirevision=view_key(mask, square=square), meta={"shape": list(shape), "exact": found.exact},
    )  # fmt: skip
    plain: dict[str, Any] = {"showgrid": False, "zeroline": False, "automargin": False, "ticklen": 3}
    figure.update_xaxes(
        **plain, range=list(view["x"]), side="top", **_ticks(matrix.columns, seen.columns, size[1] // TICK[1]),
        title={"text": _title(matrix.columns), "font": {"size": 11}, "standoff": 2}, tickangle=0, constrain="domain",
    )  # fmt: skip
    return figure.update_yaxes(
        **plain, range=list(view["y"]), **_ticks(matrix.rows, seen.rows, size[0] // TICK[0]), constrain="domain",
        title={"text": _title(matrix.rows), "font": {"size": 11}, "standoff": 2},
        scaleanchor="x" if square else None,
    )  # fmt: skip


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
    """At round numbers of the last part, in the middle of kernels; a gate begins with its name."""
    kernel = side.kernel
    first, behind = seen[0] // kernel, -(-seen[1] // kernel)
    step = _round(max(1, -(-(behind - first) // max(most, 2))))
    places = list(range(-(-first // step) * step, behind, step))
    return {
        "tickmode": "array", "tickvals": [place * kernel + (kernel - 1) / 2 for place in places],
        "ticktext": [side.tick(place * kernel) for place in places],
    }  # fmt: skip


def _round(step: int) -> int:
    size = int(10 ** (len(str(step)) - 1))
    return next((size * nice for nice in (1, 2, 5) if size * nice >= step), size * 10)


def _kernels(figure: go.Figure, mask: Mask, seen: Window, theme: Theme, size: tuple[int, int]) -> None:
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
    figure.add_scatter(
        x=x, y=y, mode="lines", line={"color": theme.surface, "width": 1.2}, hoverinfo="skip", showlegend=False
    )


def _between(side: Side, seen: tuple[int, int], pixels: int) -> list[float]:
    """Where kernels begin, 0 left out."""
    kernel, (first, behind) = side.kernel, seen
    if kernel == 1 or pixels * kernel < KERNEL * (behind - first):
        return []
    return [place - 0.5 for place in range(-(-max(first, 1) // kernel) * kernel, behind, kernel)]


def _bounds(figure: go.Figure, side: Side, axis: str, shape: tuple[int, int], theme: Theme) -> None:
    """Lines between gates and heads."""
    along = "y" if axis == "x" else "x"
    far = (shape[0] if axis == "x" else shape[1]) - 0.5
    if len(side.bounds) > 64:
        return
    for place in side.bounds.tolist():
        figure.add_shape(
            type="line", **{f"{axis}0": place - 0.5, f"{axis}1": place - 0.5, f"{along}0": -0.5, f"{along}1": far},
            line={"color": theme.ink, "width": 1.2},
        )  # fmt: skip


def histogram(edges: NDArray[np.float64], left: NDArray[np.int64], gone: NDArray[np.int64], theme: Theme) -> go.Figure:
    """Magnitudes: what is left, and above it up to a dotted line what is gone. Dragging chooses a range."""
    middle, width = (edges[1:] + edges[:-1]) / 2, float(edges[1] - edges[0])
    figure = go.Figure()
    about = np.stack([edges[:-1], edges[1:], left, gone], axis=1)
    hover = "|w| %{customdata[0]:.3g} to %{customdata[1]:.3g}<br>%{customdata[2]:,} left, %{customdata[3]:,} gone"
    for name, many, colour in (("gone", left + gone, theme.gone), ("left", left, theme.palette[0])):
        figure.add_bar(
            x=middle, y=many, width=width, name=name, customdata=about, hovertemplate=f"{hover}<extra></extra>",
            marker={"color": colour, "line": {"width": 0}},
        )  # fmt: skip
    figure.add_scatter(
        x=middle, y=left + gone, mode="lines", hoverinfo="skip",
        line={"shape": "hvh", "color": theme.ink, "width": 1, "dash": "dot"},
    )  # fmt: skip
    finish(
        figure, theme, barmode="overlay", bargap=0, dragmode="select", selectdirection="h", showlegend=False,
        margin={"l": 34, "r": 4, "t": 4, "b": 38}, hovermode="closest", meta={"largest": float(edges[-1])},
    )  # fmt: skip
    figure.update_xaxes(title={"text": "|w|, drag to take a range", "standoff": 2, "font": {"size": 11}}, nticks=5,
                        range=[0, float(edges[-1])], automargin=False, fixedrange=True)  # fmt: skip
    figure.update_yaxes(type="log", nticks=3, automargin=False, fixedrange=True, dtick=None, exponentformat="SI")
    return figure
