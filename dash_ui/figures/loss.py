"""Loss fluctuation (CNNPruner): the training loss between a step and the one that was trained of it."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from dash_ui.figures.steps import Rows, mark_step, note, step_axis, thinned
from dash_ui.theme import Theme, finish

__all__ = ["loss_figure"]

POINTS = 3000  # of all curves together
LEAST = 24  # of one curve
WIDE = 30.0  # beyond this ratio of losses the axis is logarithmic


def loss_figure(rows: Rows, losses: Rows, theme: Theme, other: int | None = None) -> go.Figure:
    """``rows``: `path_rows`, for the axis; ``losses``: `loss_rows`. A curve runs from its parent's place to its own."""
    figure = go.Figure()
    places = {row["step"]: place for place, row in enumerate(rows)}
    by_step: dict[int, list[tuple[int, float]]] = {}
    for row in losses:
        if row["loss"] is not None:
            by_step.setdefault(row["step"], []).append((row["at"], row["loss"]))
    if not by_step:
        return finish(note(figure, "Nothing on this path was trained.", theme), theme)
    points = max(LEAST, POINTS // len(by_step))
    parts = []
    for number, pairs in by_step.items():
        at, loss = np.array(pairs, np.float64).T
        chosen = thinned(loss, points)
        whole = np.full(len(chosen), float(number))
        parts.append(np.stack([places[number] - 1 + at[chosen] / at[-1], loss[chosen], whole, at[chosen]], axis=1))
        parts.append(np.full((1, 4), np.nan))  # a gap
    x, y, *told = np.concatenate(parts).astype(np.float32).T
    figure.add_scatter(
        x=x, y=y, mode="lines", line={"color": theme.palette[0], "width": 1.5}, customdata=np.stack(told, axis=1),
        connectgaps=False, showlegend=False, hovertemplate="training of <b>#%{customdata[0]}</b><br>"
        "optimiser step %{customdata[1]:,}<br>loss %{y:.4g} nats<extra></extra>",
    )  # fmt: skip
    low, high = float(np.nanmin(y)), float(np.nanmax(y))
    log = low > 0 and high / low > WIDE
    step_axis(mark_step(figure, rows, other, theme), rows, title=False)
    finish(figure, theme)
    title = {"text": "loss, log scale" if log else "training loss"}
    return figure.update_yaxes(
        title=title, type="log" if log else "linear", rangemode="tozero", dtick=1 if log else None, nticks=5
    )
