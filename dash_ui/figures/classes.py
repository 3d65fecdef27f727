"""Precision over recall of some classes in two steps, and what changed from one step to the other in each class."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from dash_ui.figures.steps import Rows, hover_of, label_of, note
from dash_ui.theme import Theme, finish
from onnxprune.evaluate import Curve
from onnxprune.figures.style import shorten

__all__ = ["SHOWN", "change_figure", "curves_figure"]

SHOWN = 16  # classes in the plot of changes
LETTERS = 16


def curves_figure(
    after: Sequence[Curve], before: Sequence[Curve], theme: Theme, words: tuple[str, str], why: str = ""
) -> go.Figure:
    """``after``: of the selected step, solid; ``before``: of the other one, dashed. ``words``: what to call them."""
    figure = go.Figure()
    if not after:
        return finish(note(figure, why or "There are no curves of these classes.", theme), theme)
    colours = {curve.name: theme.palette[i % len(theme.palette)] for i, curve in enumerate(after)}
    for curves, dash, word, width in ((before, "dot", words[1], 1.5), (after, "solid", words[0], 2.0)):
        for curve in curves:
            about = "" if curve.exact else "<br>of scores in bins"
            figure.add_scatter(
                x=curve.recall, y=curve.precision, mode="lines", name=f"{shorten(curve.name, 24)} · {word}",
                line={"color": colours.get(curve.name, theme.quiet), "width": width, "dash": dash},
                hovertemplate=f"<b>{curve.name}</b> · {word}<br>precision %{{y:.1%}} at recall %{{x:.1%}}"
                f"<br>average precision {curve.average_precision:.2%}{about}<extra></extra>",
            )  # fmt: skip
    finish(
        figure, theme, margin={"l": 8, "r": 14, "t": 8, "b": 8},
        legend={"orientation": "h", "x": 0, "y": 0, "yref": "container", "yanchor": "bottom",
            "font": {"size": 11, "color": theme.quiet}},
    )  # fmt: skip
    figure.update_xaxes(title={"text": "recall"}, range=[0, 1.01], tickformat=".0%", dtick=0.25, zeroline=False)
    return figure.update_yaxes(
        title={"text": "precision"}, range=[0, 1.02], tickformat=".0%", dtick=0.25, zeroline=False
    )


def change_figure(rows: Rows, theme: Theme, metric: str = "recall") -> go.Figure:
    """From a ring (before) to a triangle (after), for the ``SHOWN`` classes that changed most. Of `change_rows`."""
    figure = go.Figure()
    moved = [row for row in rows if row[f"d_{metric}"] is not None]
    if not moved:
        return finish(note(figure, "There is no step to compare the classes with.", theme), theme)
    moved = sorted(
        sorted(moved, key=lambda row: abs(row[f"d_{metric}"]), reverse=True)[:SHOWN], key=lambda r: r["index"]
    )
    names = [shorten(str(row["class"]), LETTERS) for row in moved]
    places = list(range(len(moved)))
    before = [row[metric] - row[f"d_{metric}"] for row in moved]
    for better, colour, symbol in ((True, theme.good, "triangle-right"), (False, theme.bad, "triangle-left")):
        mine = [p for p in places if (moved[p][f"d_{metric}"] > 0) is better and moved[p][f"d_{metric}"]]
        x = [value for p in mine for value in (before[p], moved[p][metric], None)]
        figure.add_scatter(
            x=x, y=[value for p in mine for value in (p, p, None)], mode="lines", hoverinfo="skip", showlegend=False,
            line={"color": colour, "width": 2},
        )  # fmt: skip
        _marks(
            figure,
            moved,
            mine,
            metric,
            {"symbol": symbol, "size": 10, "color": colour},
            "improved" if better else "worse",
        )
    same = [p for p in places if not moved[p][f"d_{metric}"]]
    _marks(figure, moved, same, metric, {"symbol": "line-ns-open", "size": 9, "color": theme.quiet}, "same")
    changed = [p for p in places if moved[p][f"d_{metric}"]]
    figure.add_scatter(
        x=[before[p] for p in changed], y=changed, mode="markers", hoverinfo="skip", showlegend=False,
        marker={"symbol": "circle", "size": 7, "color": theme.surface, "line": {"color": theme.quiet, "width": 1.5}},
    )  # fmt: skip
    finish(figure, theme, showlegend=False)
    figure.update_yaxes(tickvals=places, ticktext=names, range=[len(moved) - 0.4, -0.6], zeroline=False)
    return figure.update_xaxes(
        title={"text": f"{label_of(metric)} of the class"}, tickformat=".2~%", nticks=5, tickangle=0, zeroline=False
    )


def _marks(figure: go.Figure, rows: Rows, places: list[int], metric: str, marker: dict[str, object], word: str) -> None:
    figure.add_scatter(
        x=[rows[p][metric] for p in places], y=places, mode="markers", marker=marker, showlegend=False,
        text=[f"<b>{rows[p]['class']}</b>" for p in places],
        customdata=[[rows[p]["index"], 100 * rows[p][f"d_{metric}"], rows[p]["support"]] for p in places],
        hovertemplate=f"%{{text}}<br>{label_of(metric)} {hover_of(metric, 'x')}, %{{customdata[1]:+.2f}} points"
        f"<br>%{{customdata[2]:,}} labels<extra>{word}</extra>",
    )  # fmt: skip
