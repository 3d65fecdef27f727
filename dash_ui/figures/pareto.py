"""Any metric against any other over all steps of a tree, with the steps that no other one beats in both."""

from __future__ import annotations

import plotly.graph_objects as go

from dash_ui.figures.steps import Rows, basis_of, hover_of, label_of, note, tick_format, words_of
from dash_ui.theme import Theme, finish
from onnxprune.errors import OptionError
from onnxprune.evaluate import kind_of
from onnxprune.workspace.paths import pareto_front

__all__ = ["axis_title", "pareto_figure"]

SYMBOLS = {
    "original": "diamond", "prune": "circle", "edit": "circle", "recover": "square", "fine-tune": "triangle-up",
    "import": "cross",
}  # fmt: skip


def axis_title(name: str, *, relative: bool = False, log: bool = False) -> str:
    """A metric as an axis: which way is better, its unit, and how it is known."""
    kind = kind_of(name)
    arrow = {"higher": " ↑", "lower": " ↓"}.get(kind.direction if kind else "", "")
    words = [f"% of the original's {label_of(name, unit=False)}" if relative else label_of(name)]
    return f"{words[0]}{arrow} · {basis_of(name)}{', log scale' if log else ''}"


def pareto_figure(
    rows: Rows,
    x: str,
    y: str,
    theme: Theme,
    *,
    selected: int | None = None,
    baseline: int | None = None,
    relative: tuple[bool, bool] = (False, False),
    log: tuple[bool, bool] = (False, False),
) -> go.Figure:
    """``rows``: `tree_rows`; the front is of the directions that the metrics have. A click tells the step's number."""
    figure = go.Figure()
    there = [row for row in rows if row.get(x) is not None and row.get(y) is not None]
    if not there:
        return finish(note(figure, "No step has both of these metrics.", theme), theme)
    root = rows[0]
    scales = [
        100 / root[name] if share and root.get(name) else 1.0 for name, share in zip((x, y), relative, strict=True)
    ]
    points = {row["step"]: (row[x] * scales[0], row[y] * scales[1]) for row in there}
    directions = [kind.direction if (kind := kind_of(name)) else "" for name in (x, y)]
    try:
        front = pareto_front([row[x] for row in there], [row[y] for row in there], (directions[0], directions[1]))
        best = {row["step"] for row, on in zip(there, front, strict=True) if on}
    except OptionError:  # a metric of which neither more nor less is better has no front
        best = set()
    _front(figure, sorted(points[step] for step in best), directions, theme)
    texts = [
        f"%{{customdata[{k}]:.1f}}% of the original" if scale != 1.0 else hover_of(name, f"customdata[{k}]")
        for k, name, scale in zip((1, 2), (x, y), scales, strict=True)
    ]
    for kind in dict.fromkeys(row["kind"] for row in there):
        mine = [row for row in there if row["kind"] == kind]
        figure.add_scatter(
            x=[points[row["step"]][0] for row in mine], y=[points[row["step"]][1] for row in mine], mode="markers",
            name=kind, customdata=[[row["step"], *points[row["step"]]] for row in mine],
            text=[words_of(row) + (" · on the front" if row["step"] in best else "") for row in mine],
            marker={
                "symbol": SYMBOLS.get(kind, "circle"), "size": [9 if row["step"] in best else 7 for row in mine],
                "color": [theme.palette[0] if row["step"] in best else theme.quiet for row in mine],
                "line": {"color": theme.surface, "width": 1},
            },
            hovertemplate=f"%{{text}}<br>{label_of(x, unit=False)} {texts[0]}<br>"
            f"{label_of(y, unit=False)} {texts[1]}<extra></extra>",
        )  # fmt: skip
    _ring(figure, points.get(selected or 0), "selected", theme.accent, "circle-open")
    if baseline in points:
        _ring(figure, points[baseline], "baseline", theme.ink, "square-open")
    finish(
        figure, theme, clickmode="event", margin={"l": 8, "r": 12, "t": 24, "b": 8},
        legend={"orientation": "h", "x": 0, "y": 0, "yref": "container", "yanchor": "bottom",
            "font": {"size": 11, "color": theme.quiet}},
    )  # fmt: skip
    for update, name, share, is_log, title in (
        (figure.update_xaxes, x, relative[0], log[0], axis_title(x, relative=relative[0], log=log[0])),
        (figure.update_yaxes, y, relative[1], log[1], axis_title(y, relative=relative[1], log=log[1])),
    ):
        update(
            title={"text": title}, type="log" if is_log else "linear", nticks=6, zeroline=False,
            tickformat=".3~g" if share else tick_format(name),
        )  # fmt: skip
    return figure


def _front(figure: go.Figure, points: list[tuple[float, float]], directions: list[str], theme: Theme) -> None:
    """Steps between the points, along which nothing better is known."""
    if len(points) > 1:
        shape = "hv" if directions[0] == "lower" else "vh"
        figure.add_scatter(
            x=[p[0] for p in points], y=[p[1] for p in points], mode="lines", name="front", hoverinfo="skip",
            showlegend=False,
            line={"color": theme.palette[0], "width": 1.5, "shape": shape},
        )  # fmt: skip


def _ring(figure: go.Figure, point: tuple[float, float] | None, word: str, colour: str, symbol: str) -> None:
    if point is not None:
        figure.add_scatter(
            x=[point[0]], y=[point[1]], mode="markers", name=word, hoverinfo="skip",
            showlegend=False,
            marker={"symbol": symbol, "size": 16, "color": colour, "line": {"color": colour, "width": 2}},
        )  # fmt: skip
