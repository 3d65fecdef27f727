"""Recovery capability (CNNPruner): how far each fine-tuning had to come back, and where its epochs spent their time."""

from __future__ import annotations

from collections.abc import Mapping
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
    values: dict[int, list[float]] = {}
    for epoch in epochs:
        if epoch["metric"] == metric and epoch["value"] is not None:
            values.setdefault(epoch["step"], []).append(epoch["value"])
    for place, row in enumerate(rows):
        if row["step"] not in values:
            continue
        of = len(values[row["step"]])
        for count, bins, low, high in _bins(np.array(values[row["step"]])):
            x.append(place)
            base.append(low)
            height.append(high - low)
            density.append(count / bins / of)
            words.append(_said(row, metric, of, count, low, high))
            steps.append(row["step"])
    if x:
        figure.add_bar(
            x=x, y=height, base=base, width=WIDTH, name="epochs", text=words, textposition="none", customdata=steps,
            marker={"color": density, "colorscale": _scale(theme), "cmin": 0, "cmax": max(density),
                "line": {"width": 0}},
            hovertemplate="%{text}<extra>validation data</extra>",
        )  # fmt: skip


def _bins(values: np.ndarray[Any, np.dtype[Any]]) -> list[tuple[int, int, float, float]]:
    """(count, bins, from, to): neighbouring bins that hold as many values each are one, with the count of them all."""
    low, high = float(values.min()), float(values.max())
    if low == high:
        gap = max(abs(low), 1.0) * 1e-3  # a stripe without length is a line
        return [(len(values), 1, low - gap, low + gap)]
    counts, edges = np.histogram(values, BINS, (low, high))
    starts = np.flatnonzero(np.diff(counts, prepend=-1))
    ends = [*starts[1:].tolist(), BINS]
    return [
        (int(counts[i:j].sum()), j - i, float(edges[i]), float(edges[j]))
        for i, j in zip(starts.tolist(), ends, strict=True)
    ]


def _said(row: Mapping[str, Any], metric: str, epochs: int, count: int, low: float, high: float) -> str:
    span = " to ".join(str(measured(metric, edge)) for edge in (low, high))
    known = [
        f"{word} {measured(metric, row[name])}"
        for word, name in (("before", "recovery_before"), ("best", "recovery_best"))
        if row[name] is not None
    ]
    back = "" if row["recovery_share"] is None else f"<br>{row['recovery_share']:.0%} of the loss came back"
    return f"{words_of(row)}<br>{count} of {epochs} epochs at {span}<br>{', '.join(known)}{back}"


def _scale(theme: Theme) -> list[list[Any]]:
    """Pale where no epoch was, so that the length of a stripe stays visible."""
    stops = theme.ramp[1:]
    return [[i / (len(stops) - 1), colour] for i, colour in enumerate(stops)]
