"""The confusion matrix, and one of its cells over the steps of a path.

Correct decisions are blue, on the diagonal; wrong ones are orange, so that both are seen although the first are many
and the second few. In a change blue means "more is right now" and orange "more is wrong now", wherever it stands.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from dash_ui.figures.steps import Rows, mark_step, note, step_axis
from dash_ui.rows.confusion import Matrix
from dash_ui.theme import Theme, finish
from onnxprune.figures.style import shorten

__all__ = ["SHOWS", "cell_figure", "confusion_figure"]

SHOWS = ("share", "count", "change")
WRITTEN = 26  # classes up to which cells hold their numbers
GAPPED = 40  # classes up to which there are gaps between the cells
LETTERS = 12  # of a class name on an axis


def confusion_figure(
    matrix: Matrix, theme: Theme, show: str = "share", cell: tuple[int, int] | None = None
) -> go.Figure:
    """``show``: share of the labels of a row, count, or change of the share in points. ``cell``: marked (by classes).

    Rows are labels, columns what the model took them for. A click tells both labels.
    """
    figure, size = go.Figure(), len(matrix.indices)
    change = matrix.change
    if show == "change" and change is None:
        return finish(
            note(figure, "There is no step to compare with,<br>or it was measured on other data.", theme), theme
        )
    z, bar = _changes(change, theme) if show == "change" and change is not None else _decisions(matrix, theme)
    hover = "label <b>%{y}</b> taken for <b>%{x}</b>"
    hover += "<br>%{customdata[0]:,} of %{customdata[1]:,} labels, %{customdata[3]:.1%}"
    before = matrix.before if matrix.before is not None else np.full_like(matrix.counts, -1)
    totals = np.repeat(matrix.totals[:, None], size, axis=1)
    if matrix.before is not None:
        hover += f"<br>%{{customdata[2]:,}} in #{matrix.other}"
    names = [shorten(name, LETTERS) for name in matrix.labels]
    figure.add_heatmap(
        x=matrix.labels, y=matrix.labels, z=z.astype(np.float32),
        text=_texts(matrix, show) if size <= WRITTEN else None,
        customdata=np.stack([matrix.counts, totals, before, matrix.shares], axis=-1).astype(np.float32),
        texttemplate="%{text}" if size <= WRITTEN else None, zmin=-1, zmax=1,
        xgap=int(size <= GAPPED), ygap=int(size <= GAPPED), hovertemplate=f"{hover}<extra></extra>", **bar,
    )  # fmt: skip
    _outline(figure, matrix, cell, theme)
    finish(figure, theme, clickmode="event", dragmode="zoom")
    # The browser shows as many labels as there is room for; columns of many classes are in the order of the rows.
    labels = {
        "type": "category", "labelalias": dict(zip(matrix.labels, names, strict=True)), "showgrid": False,
        "zeroline": False, "ticks": "", "constrain": "domain",
    }  # fmt: skip
    figure.update_xaxes(
        **labels, title={"text": "taken for"}, range=[-0.5, size - 0.5], tickangle=_angle(names)
    )  # fmt: skip
    if size > WRITTEN:  # without any labels plotly.js would write the title into the matrix
        unseen = {"size": 1, "color": "rgba(0,0,0,0)"}
        figure.update_xaxes(title={"text": "taken for, in the same order"}, tickfont=unseen, tickangle=0)
    return figure.update_yaxes(
        **labels, title={"text": "label"}, range=[size - 0.5, -0.5], scaleanchor="x", constraintoward="top"
    )


def cell_figure(
    rows: Rows, theme: Theme, names: tuple[str, str], show: str = "share", other: int | None = None
) -> go.Figure:
    """One cell over the steps of a path, of `cell_rows`. ``names``: of the label and of what it is taken for."""
    figure, share = go.Figure(), show != "count"
    key = "share" if share else "count"
    known = [place for place, row in enumerate(rows) if row[key] is not None]
    if not known:
        return finish(note(figure, "No step of this path has a figure for it.", theme), theme)
    colour = theme.palette[0] if names[0] == names[1] else theme.palette[1]
    figure.add_scatter(
        x=known, y=[rows[p][key] for p in known], mode="lines+markers", line={"color": colour, "width": 2},
        marker={"size": 6}, customdata=[[rows[p]["step"], rows[p]["count"], rows[p]["of"]] for p in known],
        text=[rows[p]["kind"] for p in known],
        hovertemplate="<b>#%{customdata[0]}</b> %{text}<br>%{customdata[1]:,} of %{customdata[2]:,} labels"
        "<extra></extra>", showlegend=False,
    )  # fmt: skip
    step_axis(mark_step(figure, rows, other, theme), rows)
    finish(figure, theme)
    format_ = ".2~%" if share else ",d"
    return figure.update_yaxes(
        title={"text": "of the labels" if share else "labels"}, tickformat=format_, rangemode="tozero", nticks=5
    )


def _decisions(matrix: Matrix, theme: Theme) -> tuple[NDArray[Any], dict[str, Any]]:
    """Shares as one scale: -1 for all right, 0 for none, 1 for the largest share that is wrong."""
    shares = matrix.shares
    right = np.eye(len(shares), dtype=bool)
    worst = float(np.where(right, 0, shares).max(initial=0.0)) or 1.0
    z = np.where(right, -shares, shares / worst)
    blue, orange = theme.ramp, _orange(theme)
    scale = [[0.5 * i / (len(blue) - 1), colour] for i, colour in enumerate(reversed(blue))]
    scale += [[0.5 + 0.5 * i / (len(orange) - 1), colour] for i, colour in enumerate(orange)][1:]
    scale[-len(orange)][1] = theme.surface
    bar = _bar([-0.97, 0, 0.97], ["100% right", "0", f"{worst:.1%} wrong"])
    return z, {"colorscale": scale, "colorbar": bar}


def _changes(change: NDArray[np.float64], theme: Theme) -> tuple[NDArray[Any], dict[str, Any]]:
    effect = np.where(np.eye(len(change), dtype=bool), -change, change)
    most = float(np.abs(effect).max(initial=0.0)) or 1.0
    blue, orange = (theme.surface, *theme.ramp[2:]), _orange(theme)
    scale = [[0.5 * i / (len(blue) - 1), colour] for i, colour in enumerate(reversed(blue))]
    scale += [[0.5 + 0.5 * i / (len(orange) - 1), colour] for i, colour in enumerate(orange)][1:]
    points = f"{100 * most:.3g} points"
    return effect / most, {
        "colorscale": scale,
        "colorbar": _bar([-0.95, 0, 0.95], [f"{points} better", "same", f"{points} worse"]),
    }


def _bar(places: Sequence[float], words: Sequence[str]) -> dict[str, Any]:
    return {
        "tickvals": list(places), "ticktext": list(words), "thickness": 8, "outlinewidth": 0, "len": 0.8,
        "orientation": "h", "x": 0.5, "y": 1.0, "yanchor": "bottom", "tickfont": {"size": 10}, "ypad": 8,
        "tickangle": 0,
    }  # fmt: skip


def _orange(theme: Theme) -> tuple[str, ...]:
    if theme.name == "dark":
        return (theme.surface, "#5a3a22", "#a8591f", "#f0803c", "#ffb083")
    return (theme.surface, "#fbe3d0", "#f2b184", "#d55e00", "#7f3800")


def _texts(matrix: Matrix, show: str) -> list[list[str]]:
    if show == "count":
        return [[f"{value:,}" if value else "" for value in row] for row in matrix.counts.tolist()]
    if show == "change" and matrix.change is not None:
        return [[f"{100 * v:+.3g}" if v else "" for v in row] for row in matrix.change.round(4).tolist()]
    return [[_percent(value) for value in row] for row in (100 * matrix.shares).tolist()]


def _percent(value: float) -> str:
    if value == 0:
        return ""
    return f"{value:.0f}" if value >= 9.95 or value == round(value) else f"{value:.1f}"


def _outline(figure: go.Figure, matrix: Matrix, cell: tuple[int, int] | None, theme: Theme) -> None:
    places = {int(index): place for place, index in enumerate(matrix.indices)}
    if cell is not None and cell[0] in places and cell[1] in places:
        y, x = places[cell[0]], places[cell[1]]
        figure.add_shape(
            type="rect", x0=x - 0.5, x1=x + 0.5, y0=y - 0.5, y1=y + 0.5, line={"color": theme.accent, "width": 3}
        )


def _angle(names: Sequence[str]) -> int:
    return -60 if max(map(len, names), default=0) > 2 else 0
