"""The mask of a weight as a figure around a picture, and the histogram of its magnitudes."""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from dash_ui.figures.mask_raster import Window, painted, png, sample
from dash_ui.rows.mask import Mask
from dash_ui.theme import Theme, finish
from onnxprune.masks import Side

__all__ = ["histogram", "mask_figure", "view_key"]

TICKS = (10, 18)  # of rows, of columns, at most
HEADER = 34  # pixels at the left and at the top, where whole rows and columns are taken


def mask_figure(mask: Mask, theme: Theme, window: Window | None = None, *, square: bool = False) -> go.Figure:
    """``window``: the part that is drawn; the axes always begin with the whole, so that a zoom is kept."""
    matrix, shape = mask.layer.matrix, mask.codes.shape
    seen = window or Window.of(shape)
    found = sample(mask.layer.values, mask.codes, seen)
    lines = [
        np.arange(side.kernel, side.size, side.kernel) if side.kernel > 1 else ()
        for side in (matrix.rows, matrix.columns)
    ]
    pixels = painted(found, mask.layer.scale, (lines[0], lines[1]))
    top, left = seen.rows[0] - 0.5, seen.columns[0] - 0.5
    figure = go.Figure(
        go.Scatter(x=[0], y=[0], mode="markers", marker={"opacity": 0}, hoverinfo="skip", showlegend=False)
    )
    figure.add_layout_image(
        source=png(pixels, theme), xref="x", yref="y", x=left, y=top, xanchor="left", yanchor="top",
        sizex=found.values.shape[1] * found.wide, sizey=found.values.shape[0] * found.high, sizing="stretch",
        layer="below",
    )  # fmt: skip
    for axis, side in (("x", matrix.columns), ("y", matrix.rows)):
        _bounds(figure, side, axis, shape, theme)
    finish(
        figure, theme, dragmode="zoom", hovermode=False, margin={"l": HEADER + 30, "r": 6, "t": HEADER, "b": 6},
        uirevision=view_key(mask, square=square), meta={"shape": list(shape), "exact": found.exact},
    )  # fmt: skip
    plain: dict[str, Any] = {"showgrid": False, "zeroline": False, "automargin": False, "ticklen": 3}
    figure.update_xaxes(
        **plain, range=[-0.5, shape[1] - 0.5], side="top", **_ticks(matrix.columns, seen.columns, TICKS[1]),
        title={"text": _title(matrix.columns), "font": {"size": 11}, "standoff": 2}, tickangle=0, constrain="domain",
    )  # fmt: skip
    return figure.update_yaxes(
        **plain, range=[shape[0] - 0.5, -0.5], **_ticks(matrix.rows, seen.rows, TICKS[0]), constrain="domain",
        title={"text": _title(matrix.rows), "font": {"size": 11}, "standoff": 2},
        scaleanchor="x" if square else None,
    )  # fmt: skip


def view_key(mask: Mask, *, square: bool) -> str:
    """What a zoom belongs to: it is kept while this stays the same."""
    return f"{mask.layer.model_hash} {mask.layer.matrix.tensor} {square}"


def _title(side: Side) -> str:
    return " · ".join(part.word for part in side.parts if part.size > 1 and not part.kernel)


def _ticks(side: Side, seen: tuple[int, int], most: int) -> dict[str, Any]:
    """At round numbers of the last part, in the middle of kernels; a gate begins with its name."""
    kernel = side.kernel
    first, behind = seen[0] // kernel, -(-seen[1] // kernel)
    step = _round(max(1, -(-(behind - first) // most)))
    places = list(range(-(-first // step) * step, behind, step))
    return {
        "tickmode": "array", "tickvals": [place * kernel + (kernel - 1) / 2 for place in places],
        "ticktext": [side.tick(place * kernel) for place in places],
    }  # fmt: skip


def _round(step: int) -> int:
    size = int(10 ** (len(str(step)) - 1))
    return next((size * nice for nice in (1, 2, 5) if size * nice >= step), size * 10)


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
    """Magnitudes: weights that are left, and on top of them those that are gone. Dragging chooses a range."""
    middle, width = (edges[1:] + edges[:-1]) / 2, float(edges[1] - edges[0])
    figure = go.Figure()
    bounds = np.stack([edges[:-1], edges[1:]], axis=1)
    for name, many, marker in (
        ("left", left, {"color": theme.palette[0]}),
        ("gone", gone, {"color": theme.gone, "pattern": {"shape": "/", "fgcolor": theme.surface, "size": 4}}),
    ):  # fmt: skip
        figure.add_bar(
            x=middle, y=many, width=width, name=name, customdata=bounds, marker={**marker, "line": {"width": 0}},
            hovertemplate=f"%{{y:,}} {name}<br>|w| %{{customdata[0]:.3g}} to %{{customdata[1]:.3g}}<extra></extra>",
        )  # fmt: skip
    finish(
        figure, theme, barmode="stack", bargap=0, dragmode="select", selectdirection="h", showlegend=False,
        margin={"l": 34, "r": 4, "t": 4, "b": 30}, hovermode="closest", meta={"largest": float(edges[-1])},
    )  # fmt: skip
    figure.update_xaxes(title={"text": "|w|, drag to take a range", "standoff": 2, "font": {"size": 11}}, nticks=5,
                        range=[0, float(edges[-1])], automargin=False, fixedrange=True)  # fmt: skip
    figure.update_yaxes(type="log", nticks=3, automargin=False, fixedrange=True, dtick=None, exponentformat="SI")
    return figure
