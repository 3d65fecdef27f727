"""Metrics over a path, each with an axis of its own: of every task, and all there is where there are no classes."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from dash_ui.figures.steps import Rows, hover_of, label_of, mark_step, note, step_axis, words_of
from dash_ui.theme import Theme, finish
from onnxprune.evaluate import kind_of

__all__ = ["HEIGHT", "metrics_figure"]

HEIGHT = 110  # pixels of each metric


def metrics_figure(rows: Rows, names: Sequence[str], theme: Theme, other: int | None = None) -> go.Figure:
    """``rows``: `metric_rows`; a line for each of ``names``, one below the other, with which way is better."""
    known = [name for name in names if any(row.get(name) is not None for row in rows)]
    if not known:
        figure = finish(note(go.Figure(), "None of these metrics was measured on this path.", theme), theme)
        return figure.update_layout(height=2 * HEIGHT)
    figure = make_subplots(rows=len(known), cols=1, shared_xaxes=True, vertical_spacing=0.3 / len(known))
    for place, name in enumerate(known):
        there = [p for p, row in enumerate(rows) if row.get(name) is not None]
        kind = kind_of(name)
        figure.add_scatter(
            x=there, y=[rows[p][name] for p in there], mode="lines+markers", marker={"size": 6}, showlegend=False,
            line={"color": theme.palette[0], "width": 1.5}, text=[words_of(rows[p]) for p in there],
            customdata=[rows[p]["step"] for p in there], row=place + 1, col=1,
            hovertemplate=f"%{{text}}<br>{label_of(name, unit=False)} {hover_of(name, 'y')}<extra></extra>",
        )  # fmt: skip
        arrow = {"higher": "↑ more is better", "lower": "↓ less is better"}.get(kind.direction if kind else "", "")
        figure.add_annotation(
            text=f"<b>{label_of(name)}</b>  {arrow}", x=0, xref="paper", xanchor="left", y=1, yanchor="bottom",
            yref=f"y{place + 1 if place else ''} domain", showarrow=False, font={"size": 11, "color": theme.quiet},
        )  # fmt: skip
    step_axis(mark_step(figure, rows, other, theme), rows, title=False)
    finish(figure, theme, height=HEIGHT * len(known) + 40, margin={"l": 8, "r": 8, "t": 22, "b": 8})
    figure.update_xaxes(title={"text": "step"}, row=len(known), col=1)
    for place, name in enumerate(known):
        kind = kind_of(name)
        percent = kind is not None and kind.format.endswith("%")
        figure.update_yaxes(tickformat=".2~%" if percent else ".3~g", nticks=4, zeroline=False, row=place + 1, col=1)
    return figure
