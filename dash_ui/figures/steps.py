"""What all plots over a path share: the axis of steps, and how a metric is written.

Steps stand at 0, 1, 2, ... in the order of the path, because their numbers have gaps where other branches were made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import plotly.graph_objects as go

from dash_ui.theme import Theme
from onnxprune.evaluate import kind_of

__all__ = [
    "LABELS",
    "basis_of",
    "hover_of",
    "label_of",
    "mark_step",
    "note",
    "share_axis",
    "step_axis",
    "thinned",
    "tick_format",
    "words_of",
]

LABELS = 14  # of steps on an axis, at most
Rows = Sequence[Mapping[str, Any]]


def step_axis(figure: go.Figure, rows: Rows, *, title: bool = True) -> go.Figure:
    """The numbers of the steps below a plot."""
    every = max(1, -(-len(rows) // LABELS))
    places = [place for place in range(len(rows)) if (len(rows) - 1 - place) % every == 0]  # the last one has its label
    return figure.update_xaxes(
        range=[-0.6, len(rows) - 0.4],
        tickvals=places,
        ticktext=[f"#{rows[place]['step']}" for place in places],
        title={"text": "step"} if title else None,
        showgrid=False,
        zeroline=False,
    )


def share_axis(figure: go.Figure, name: str) -> go.Figure:
    """The values of a metric beside a plot."""
    return figure.update_yaxes(title={"text": label_of(name)}, tickformat=tick_format(name), nticks=6)


def tick_format(name: str) -> str:
    """How the values of a metric stand at an axis; prefixes (k, M) are for counts, 0.4 is not to read 400m."""
    kind = kind_of(name)
    if kind is None or "," in kind.format:
        return ".3~s"
    return ".2~%" if kind.format.endswith("%") else ".3~g"


def label_of(name: str, *, unit: bool = True) -> str:
    """A metric in words, with its unit."""
    kind = kind_of(name)
    if kind is None:
        return name
    return f"{kind.label} ({kind.unit})" if unit and kind.unit else kind.label


def basis_of(name: str) -> str:
    """How a metric is known: "estimated", "measured" on data or on this machine, or "counted" in the model."""
    kind = kind_of(name)
    if kind is None:
        return "measured"
    if "estimated" in kind.meaning:
        return "estimated"
    return "measured" if kind.needs or "measured" in kind.meaning else "counted"


def hover_of(name: str, variable: str) -> str:
    """How a hover writes a value of a metric: ``%{y:.2%}`` with its unit."""
    kind = kind_of(name)
    if kind is None:
        return f"%{{{variable}:.4g}}"
    return f"%{{{variable}:{kind.format}}}{f' {kind.unit}' if kind.unit else ''}"


def words_of(row: Mapping[str, Any]) -> str:
    """A step in a hover: number, kind and name."""
    name = f" · {row['name']}" if row.get("name") else ""
    return f"<b>#{row['step']}</b> {row['kind']}{name}"


def mark_step(figure: go.Figure, rows: Rows, number: int | None, theme: Theme) -> go.Figure:
    """A thin line where the compared step stands, if it is on the path."""
    places = [place for place, row in enumerate(rows) if row["step"] == number]
    if places:
        figure.add_vline(places[0], line={"color": theme.accent, "width": 1, "dash": "dot"}, layer="below")
    return figure


def note(figure: go.Figure, text: str, theme: Theme) -> go.Figure:
    """Why a plot is empty, in its middle."""
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)
    return figure.add_annotation(
        text=text, showarrow=False, x=0.5, y=0.5, xref="paper", yref="paper",
        font={"color": theme.quiet, "size": 12}, align="center",
    )  # fmt: skip


def thinned(values: np.ndarray[Any, np.dtype[Any]], points: int) -> np.ndarray[Any, np.dtype[Any]]:
    """Places of at most about ``points`` values that keep the lowest and the highest of each stretch."""
    if len(values) <= points:
        return np.arange(len(values))
    edges = np.linspace(0, len(values), max(points // 2, 1) + 1).astype(int)
    found = [part for a, b in pairwise(edges) for part in _ends(values[a:b], a)]
    return np.unique([0, *found, len(values) - 1])


def _ends(part: np.ndarray[Any, np.dtype[Any]], start: int) -> tuple[int, int]:
    return start + int(part.argmin()), start + int(part.argmax())
