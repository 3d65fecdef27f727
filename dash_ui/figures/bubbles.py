"""Bubbles: one for each unit, x its score, size its instability, colour and lane its group (C20)."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from dash_ui.figures.layers import layer_colours
from dash_ui.rows.units import SCALE_WORDS, Units
from dash_ui.theme import Theme, finish

__all__ = ["DRAWN_UP_TO", "IN_PLAN", "bubbles", "drawn_at", "lanes", "sizes"]

DRAWN_UP_TO = 2000  # bubbles that are elements of the plot; more of them are drawn on a canvas
IN_PLAN = 1  # the trace of what goes, which the browser fills
GOLDEN = 0.6180339887498949  # steps of this part of a lane never come near each other
LANE = 0.72  # of the height of a lane is used
LABELLED = 26  # lanes; of more of them some have no label

Floats = NDArray[np.float64]


def lanes(units: Units) -> Floats:
    """The y of each unit: its group's number, and a place in the lane that follows from its own number."""
    inside = np.modf((units.index + 0.5) * GOLDEN)[0] - 0.5
    return np.asarray(units.group + LANE * inside, np.float64)


def sizes(units: Units) -> Floats:
    """Diameters in pixels: the area grows with the instability; all alike where none was measured."""
    many = units.index.size > DRAWN_UP_TO
    least, most = (3.0, 11.0) if many else (5.0, 20.0)
    found = units.instability
    if found is None or not np.isfinite(found).any() or np.nanmax(found) <= 0:
        return np.full(units.index.size, 5.0 if many else 9.0)
    area = np.nan_to_num(found) / np.nanmax(found)
    return np.round(least + (most - least) * np.sqrt(area), 2)


def drawn_at(units: Units, *, log: bool) -> Floats:
    """The x that is drawn. A logarithmic axis has no 0: what is not above it stands at a tenth of the least."""
    if not log:
        return units.x
    positive = units.x[np.isfinite(units.x) & (units.x > 0)]
    return np.where(units.x > 0, units.x, (positive.min() if positive.size else 1.0) / 10)


def bubbles(units: Units, theme: Theme, *, log: bool = False) -> go.Figure:
    """The plot without a threshold: the browser draws that, and what goes, as trace IN_PLAN.

    Of more than DRAWN_UP_TO units it holds the corners alone, invisible, and the browser draws them on a canvas: SVG is
    too slow for them, and WebGL traces make functions of text, which the page's security policy forbids.
    """
    figure = go.Figure()
    many = units.index.size > DRAWN_UP_TO
    figure.add_trace(_corners(units, log=log) if many else _each(units, theme, log=log))
    figure.add_scatter(
        x=[], y=[], mode="markers", name="in the plan", hoverinfo="skip", showlegend=False,
        marker={
            "symbol": "circle-x", "size": [], "color": _faint(theme.surface), "opacity": 1.0,
            "line": {"width": 1.3, "color": theme.gone},
        },
    )  # fmt: skip
    finish(figure, theme, dragmode="pan", hovermode="closest", margin={"l": 8, "r": 12, "t": 6, "b": 30})
    figure.update_xaxes(
        title={"text": _axis(units, log=log), "standoff": 6}, type="log" if log else "linear", zeroline=False,
        autorangeoptions={"include": None},
    )  # fmt: skip
    names = [_short(group.name) for group in units.groups]
    figure.update_layout(meta=names)  # the browser shows as many of them as there is room for
    every = -(-len(names) // LABELLED) or 1
    figure.update_yaxes(
        tickvals=list(range(0, len(names), every)), ticktext=names[::every], zeroline=False,
        range=[len(units.groups) - 0.4, -0.6], fixedrange=True, ticks="", tickfont={"size": 11, "color": theme.quiet},
    )  # fmt: skip
    return figure


def _each(units: Units, theme: Theme, *, log: bool) -> go.Scatter:
    colours = layer_colours(theme, len(units.groups))
    return go.Scatter(
        x=drawn_at(units, log=log), y=lanes(units), mode="markers", name="units", customdata=_told(units),
        marker={
            "color": [colours[number] for number in units.group.tolist()], "size": sizes(units), "opacity": 0.72,
            "line": {"width": 0.5, "color": theme.surface},
        },
        hovertemplate=_hover(units), showlegend=False,
    )  # fmt: skip


def _corners(units: Units, *, log: bool) -> go.Scatter:
    x = drawn_at(units, log=log)
    known = x[np.isfinite(x)]
    ends = [float(known.min()), float(known.max())] if known.size else []
    return go.Scatter(
        x=ends, y=[0, len(units.groups) - 1][: len(ends)], mode="markers", name="units", hoverinfo="skip",
        marker={"opacity": 0}, showlegend=False,
    )  # fmt: skip


def _told(units: Units) -> list[list[object]]:
    unsteady = units.instability
    also = [f"<br>with {group.along}" if group.along else "" for group in units.groups]
    known = [None] * units.index.size if unsteady is None else unsteady.tolist()
    return [
        [f"{units.groups[group].name} · {units.groups[group].noun} {index}", *rest, also[group]]
        for group, index, *rest in zip(
            units.group.tolist(), units.index.tolist(), units.x.tolist(), units.parameters.tolist(), known, strict=True
        )
    ]


def _hover(units: Units) -> str:
    words = "<b>%{customdata[0]}</b><br>" + f"{_axis(units, log=False)}: %{{customdata[1]:.4g}}<br>"
    words += "%{customdata[2]:,} parameters%{customdata[4]}"
    return (
        words
        + ("<br>instability %{customdata[3]:.3g} ranks" if units.instability is not None else "")
        + ("<extra></extra>")
    )


def _axis(units: Units, *, log: bool) -> str:
    words = f"{units.criterion}, {SCALE_WORDS[units.scale]}"
    return f"{words} (logarithmic)" if log else words


def _faint(colour: str, alpha: float = 0.35) -> str:
    red, green, blue = (int(colour[k : k + 2], 16) for k in (1, 3, 5))
    return f"rgba({red},{green},{blue},{alpha:g})"


def _short(name: str, most: int = 22) -> str:
    return name if len(name) <= most else f"…{name[1 - most :]}"
