"""Radar: what is left of the model after the plan, as shares of what it has now (C22)."""

from __future__ import annotations

from collections.abc import Mapping

import plotly.graph_objects as go

from dash_ui.theme import Theme, finish

__all__ = ["AFTER", "radar"]

AFTER = 1  # the trace that the browser updates


def radar(left: Mapping[str, float], theme: Theme) -> go.Figure:
    """``left``: label -> share that is left, 0 to 1; three of them or more. Trace 0 is the model as it is."""
    names = [*left, *list(left)[:1]]
    values = [*left.values(), *list(left.values())[:1]]
    figure = go.Figure()
    figure.add_trace(
        go.Scatterpolar(
            r=[1.0] * len(names), theta=names, mode="lines", line={"color": theme.quiet, "dash": "dot", "width": 1},
            hoverinfo="skip", name="now",
        )
    )  # fmt: skip
    figure.add_trace(
        go.Scatterpolar(
            r=values, theta=names, mode="lines+markers", fill="toself", name="after the plan",
            fillcolor=_faint(theme.accent), line={"color": theme.accent, "width": 2}, marker={"size": 5},
            hovertemplate="%{theta}: %{r:.1%} left<extra></extra>",
        )
    )  # fmt: skip
    finish(figure, theme, showlegend=False, margin={"l": 58, "r": 58, "t": 22, "b": 22})
    grid = {"gridcolor": theme.grid, "linecolor": theme.grid}
    return figure.update_polars(
        bgcolor="rgba(0,0,0,0)",
        radialaxis={
            **grid, "range": [0, 1.02], "tickvals": [0.5, 1.0], "tickformat": ".0%", "angle": 90, "tickangle": 90,
            "tickfont": {"size": 9, "color": theme.ink},
        },
        angularaxis={**grid, "direction": "clockwise", "rotation": 90, "tickfont": {"size": 10, "color": theme.ink}},
    )  # fmt: skip


def _faint(colour: str) -> str:
    red, green, blue = (int(colour[k : k + 2], 16) for k in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.18)"
