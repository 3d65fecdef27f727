"""Recovery cost, and what the path saved and broke: bars over the steps."""

from __future__ import annotations

import plotly.graph_objects as go

from dash_ui.figures.steps import Rows, basis_of, label_of, mark_step, note, step_axis, words_of
from dash_ui.theme import Theme, finish

__all__ = ["cost_figure", "moves_figure", "sizes_figure"]

WIDTH = 0.6
NUMBERED = 16  # bars up to which each has its number above it


def cost_figure(rows: Rows, theme: Theme, other: int | None = None) -> go.Figure:
    """Epochs of each fine-tuning: those until 99% of the way back was made, and hatched those after. Of `path_rows`."""
    figure = go.Figure()
    trained = [place for place, row in enumerate(rows) if row["cost_epochs"]]
    if not trained:
        return finish(note(figure, "Nothing on this path was trained.", theme), theme)
    words = [
        f"{words_of(rows[p])}<br>{rows[p]['cost_epochs']} epochs, {rows[p]['cost_steps']:,} optimiser steps<br>"
        f"{_time(rows[p]['cost_seconds'])}; as good as it got after {rows[p]['cost_until_epoch']} epochs, "
        f"{_time(rows[p]['cost_until_seconds'])}"
        for p in trained
    ]
    needed = [rows[p]["cost_until_epoch"] or 0 for p in trained]
    beyond = [rows[p]["cost_epochs"] - n for p, n in zip(trained, needed, strict=True)]
    for name, heights, marker in (
        ("until recovered", needed, {"color": theme.palette[0]}),
        ("after that", beyond, {"color": theme.surface, "pattern": _hatched(theme.palette[0]), "line": {
            "color": theme.palette[0], "width": 1}}),
    ):  # fmt: skip
        figure.add_bar(
            x=trained, y=heights, width=WIDTH, name=name, marker=marker, text=words, textposition="none",
            customdata=[rows[p]["step"] for p in trained], hovertemplate="%{text}<extra></extra>",
        )  # fmt: skip
    if len(trained) <= NUMBERED:
        for place in trained:
            figure.add_annotation(
                x=place, y=rows[place]["cost_epochs"], text=str(rows[place]["cost_epochs"]), showarrow=False, yshift=8,
                font={"color": theme.quiet, "size": 10},
            )  # fmt: skip
    step_axis(mark_step(figure, rows, other, theme), rows, title=False)
    finish(figure, theme, barmode="stack", legend=_above(theme), margin={"l": 8, "r": 8, "t": 22, "b": 8})
    return figure.update_yaxes(title={"text": "epochs"}, nticks=5, rangemode="tozero")


def sizes_figure(rows: Rows, theme: Theme, line: str = "parameters", other: int | None = None) -> go.Figure:
    """Line: what is saved of ``line``; bars: of the MACs for one sample. Both against the root; of `path_rows`."""
    figure = go.Figure()
    places = list(range(len(rows)))
    known = [name for name in ("macs", line) if any(row[f"{name}_left"] is not None for row in rows)]
    if not known:
        return finish(note(figure, "The sizes of these steps are not known.", theme), theme)
    for name in known:
        saved = [None if row[f"{name}_left"] is None else 1 - row[f"{name}_left"] for row in rows]
        values = [None if row[name] is None else f"{row[name]:,.0f}" for row in rows]
        hover = (
            f"%{{text}}<br>{label_of(name)} %{{customdata[1]}}, {basis_of(name)}<br>%{{y:.1%}} less than the original"
            "<extra></extra>"
        )
        trace = {
            "x": places, "y": saved, "name": label_of(name, unit=False), "text": [words_of(row) for row in rows],
            "customdata": [[row["step"], value] for row, value in zip(rows, values, strict=True)],
            "hovertemplate": hover,
        }  # fmt: skip
        if name == "macs":
            figure.add_bar(**trace, width=WIDTH, marker={"color": theme.palette[5]}, textposition="none")
        else:
            style = {"color": theme.palette[1], "width": 2}
            figure.add_scatter(**trace, mode="lines+markers", line=style, marker={"size": 5})
    step_axis(mark_step(figure, rows, other, theme), rows, title=False)
    finish(figure, theme, legend=_above(theme), margin={"l": 8, "r": 8, "t": 22, "b": 8})
    least = min(0.0, *(value for trace in figure.data for value in trace.y if value is not None))
    return figure.update_yaxes(title={"text": "saved"}, tickformat=".0%", range=[least * 1.05, 1.0], nticks=5)


def moves_figure(rows: Rows, theme: Theme, *, since: bool = False, other: int | None = None) -> go.Figure:
    """Instances that became right (up) and wrong (down), against the step before or ``since`` the root."""
    figure = go.Figure()
    suffix = "_since" if since else ""
    known = [place for place, row in enumerate(rows) if row[f"improved{suffix}"] is not None]
    if not known:
        text = "Right and wrong instances are told of steps<br>that were measured on the same labelled data."
        return finish(note(figure, text, theme), theme)
    against = f"#{rows[0]['step']}" if since else "the step before"
    for name, sign, marker in (
        ("improved", 1, {"color": theme.good}),
        ("degenerated", -1, {"color": theme.surface, "pattern": _hatched(theme.bad), "line": {
            "color": theme.bad, "width": 1}}),
    ):  # fmt: skip
        counts = [rows[p][f"{name}{suffix}"] for p in known]
        figure.add_bar(
            x=known, y=[sign * count for count in counts], width=WIDTH, name=name, marker=marker,
            text=[words_of(rows[p]) for p in known], textposition="none",
            customdata=[[rows[p]["step"], count] for p, count in zip(known, counts, strict=True)],
            hovertemplate=f"%{{text}}<br>%{{customdata[1]:,}} instances {name} against {against}<extra></extra>",
        )  # fmt: skip
    step_axis(mark_step(figure, rows, other, theme), rows)
    finish(figure, theme, barmode="relative", legend=_above(theme), margin={"l": 8, "r": 8, "t": 22, "b": 8})
    return figure.update_yaxes(title={"text": "instances"}, tickformat=",d", nticks=5, zeroline=True)


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "no time known"
    return f"{seconds:.3g} s" if seconds < 100 else f"{seconds / 60:.3g} min"


def _hatched(colour: str) -> dict[str, object]:
    return {"shape": "/", "fgcolor": colour, "size": 6, "solidity": 0.35}


def _above(theme: Theme) -> dict[str, object]:
    return {
        "orientation": "h", "x": 0, "xanchor": "left", "y": 1, "yanchor": "bottom",
        "font": {"size": 11, "color": theme.quiet}, "bgcolor": "rgba(0,0,0,0)",
    }  # fmt: skip
