"""Recovery capability (CNNPruner): how far each fine-tuning had to come back, and where its epochs spent their time."""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go

from dash_ui.figures.steps import Rows, hover_of, label_of, mark_step, note, share_axis, step_axis, words_of
from dash_ui.theme import Theme, finish
from onnxprune.evaluate import measured

__all__ = ["recovery_figure"]

BINS = 12  # of a stripe
WIDTH = 0.5


def recovery_figure(rows: Rows, epochs: Rows, theme: Theme, other: int | None = None) -> go.Figure:
    """``rows``: `path_rows`; ``epochs``: `epoch_rows`.

    A stripe spans the values that a fine-tuning went through: its length is the damage, a darker part is where more of
    the epochs were. The grey line joins the steps that were not trained further; rings are what was, before it was.
    """
    figure = go.Figure()
    metric = next((row["metric"] for row in rows if row["metric"]), None)
    if metric is None or all(row["value"] is None for row in rows):
        return finish(note(figure, "No step of this path was measured.", theme), theme)
    _stripes(figure, rows, epochs, metric, theme)
    trained = {place - 1 for place, row in enumerate(rows) if row["recovery_best"] is not None}
    known = [place for place, row in enumerate(rows) if row["value"] is not None]
    text = hover_of(metric, "y")
    for places, name, trace in (
        ([p for p in known if p not in trained], "of the step", {
            "mode": "lines+markers", "line": {"color": theme.quiet, "width": 1.5}, "marker": {"size": 5},
        }),
        ([p for p in known if p in trained], "before training", {
            "mode": "markers",
            "marker": {"size": 7, "color": theme.surface, "line": {"color": theme.quiet, "width": 1.5}},
        }),
    ):  # fmt: skip
        figure.add_scatter(
            x=places, y=[rows[p]["value"] for p in places], name=name, showlegend=False,
            text=[words_of(rows[p]) for p in places], customdata=[rows[p]["step"] for p in places],
            hovertemplate=f"%{{text}}<br>{label_of(metric, unit=False)} {text}<extra>{name}</extra>", **trace,
        )  # fmt: skip
    if rows[0]["value"] is not None:
        line = {"color": theme.quiet, "width": 1, "dash": "dot"}
        figure.add_hline(rows[0]["value"], line=line, layer="below")
    step_axis(mark_step(figure, rows, other, theme), rows)
    return share_axis(finish(figure, theme, barmode="overlay", bargap=0, showlegend=False), metric)


def _stripes(figure: go.Figure, rows: Rows, epochs: Rows, metric: str, theme: Theme) -> None:
    """One trace of thin bars: for each fine-tuning, ``BINS`` of them from its lowest value to its highest."""
    x, base, height, density, words, steps = [], [], [], [], [], []
    for place, row in enumerate(rows):
        of = [e for e in epochs if e["step"] == row["step"] and e["metric"] == metric and e["value"] is not None]
        if not of:
            continue
        values = np.array([e["value"] for e in of])
        counts, edges = _bins(values)
        x += [place] * len(counts)
        base += edges[:-1].tolist()
        height += np.diff(edges).tolist()
        density += (counts / len(values)).tolist()
        words += [_said(row, metric, len(of), count, edges[i : i + 2]) for i, count in enumerate(counts.tolist())]
        steps += [row["step"]] * len(counts)
    if x:
        figure.add_bar(
            x=x, y=height, base=base, width=WIDTH, name="epochs", text=words, textposition="none", customdata=steps,
            marker={"color": density, "colorscale": _scale(theme), "cmin": 0, "cmax": max(density),
                "line": {"width": 0}},
            hovertemplate="%{text}<extra>validation data</extra>",
        )  # fmt: skip


def _bins(
    values: np.ndarray[Any, np.dtype[Any]],
) -> tuple[np.ndarray[Any, np.dtype[Any]], np.ndarray[Any, np.dtype[Any]]]:
    low, high = float(values.min()), float(values.max())
    if low == high:
        gap = max(abs(low), 1.0) * 1e-3  # a stripe without length is a line
        return np.array([len(values)]), np.array([low - gap, low + gap])
    return np.histogram(values, BINS, (low, high))


def _said(
    row: dict[str, Any] | Any, metric: str, epochs: int, count: int, edges: np.ndarray[Any, np.dtype[Any]]
) -> str:
    low, high = (str(measured(metric, float(edge))) for edge in edges)
    known = [
        f"{word} {measured(metric, row[name])}"
        for word, name in (("before", "recovery_before"), ("best", "recovery_best"))
        if row[name] is not None
    ]
    back = "" if row["recovery_share"] is None else f"<br>{row['recovery_share']:.0%} of the loss came back"
    return f"{words_of(row)}<br>{count} of {epochs} values in {low} to {high}<br>{', '.join(known)}{back}"


def _scale(theme: Theme) -> list[list[Any]]:
    """Pale where no epoch was, so that the length of a stripe stays visible."""
    stops = theme.ramp[1:]
    return [[i / (len(stops) - 1), colour] for i, colour in enumerate(stops)]
