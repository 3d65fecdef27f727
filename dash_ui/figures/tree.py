"""The tree of steps as a figure: units left upwards, a column for each chain.

A node is a box with its number and two bars below it: the metric that the tree is judged by, and the
parameters that are left. Edges are grey where the fine-tuning converged, purple and dashed where it did not, dotted
where nothing was trained, red and long-dashed where an automatic run gave up. ``tree.js`` places bars again, in pixels,
when somebody zooms, and moves the outlines to what is selected; `TRACES` says which trace is which.
"""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence

import plotly.graph_objects as go

from dash_ui.rows.history import EDGE_WORDS, EDGES, Node, Tree, edge_words, label_of, shown
from dash_ui.rows.lanes import bend, lanes
from dash_ui.theme import Theme, finish

__all__ = ["TRACES", "draw", "heights_of", "hover"]

_Line = tuple[list[float | None], list[float | None]]

TRACES = (*EDGES, "tracks", "quality", "left", "boxes", "marks", "other", "halo", "selected")
ROWS = 12  # so many steps find room above one another
PANEL = (260, 360)  # pixels that bars are placed for until the browser knows better
BOX, BAR = 18, 38  # pixels: side of a box, length of a bar
BELOW = (13.5, 19.5)  # pixels: the bars below the middle of a box
LEAST_COLUMNS = 3.0
DASHES = {"settled": "solid", "open": "dash", "untrained": "dot", "failed": "longdash"}
HOVERED = ("parameters", "macs", "file_bytes", "loss")


def draw(tree: Tree, theme: Theme) -> go.Figure:
    """The whole tree. ``layout.meta`` has what the browser needs to place bars and outlines."""
    heights, axis = heights_of(tree)
    low, high = min(heights.values()), max(heights.values())
    gap = (high - low) / ROWS or 1.0
    columns = lanes({node.number: node.parent for node in tree.nodes}, heights, gap)
    places = {number: (float(columns[number]), heights[number]) for number in columns}
    width = max(columns.values()) + 1
    ranges = _ranges(width, low, high)
    figure = go.Figure()
    _add_edges(figure, tree, places, gap, theme)
    _add_bars(figure, tree, places, ranges, theme)
    _add_boxes(figure, tree, places, theme)
    meta = {
        "places": {str(number): place for number, place in places.items()},
        "parents": {str(node.number): node.parent for node in tree.nodes},
        "bars": [[*places[node.number], node.quality, node.left] for node in tree.nodes],
        "words": [f"{node.title} {node.note}".lower() for node in tree.nodes],
        "faded": [node.trashed for node in tree.nodes],
        "traces": {name: k for k, name in enumerate(TRACES)},
        "ranges": ranges,
    }
    label = {
        "align": "left",
        "font": {"size": 11, "color": theme.ink},
        "bgcolor": theme.surface,
        "bordercolor": theme.grid,
    }
    finish(
        figure,
        theme,
        hoverlabel=label,
        showlegend=False,
        dragmode="pan",
        hovermode="closest",
        meta=meta,
        uirevision=tree.root.number,
    )
    figure.update_xaxes(range=ranges["x"], visible=False)
    figure.update_yaxes(
        range=ranges["y"],
        title={"text": axis, "standoff": 4, "font": {"size": 11}},
        tickfont={"size": 11, "color": theme.quiet},
        tickformat=",~r" if high >= 10 else None,
        zeroline=False,
    )
    return figure


def heights_of(tree: Tree) -> tuple[dict[int, float], str]:
    """The height of each node and what it says: units, else parameters, else its place on the path.

    A node of which it is not known has that of its parent.
    """
    if any(node.units is not None for node in tree.nodes):
        values: Mapping[int, float | None] = {n.number: n.units for n in tree.nodes}
        axis = tree.words.axis
    elif any("parameters" in node.metrics for node in tree.nodes):
        values = {n.number: n.metrics.get("parameters") for n in tree.nodes}
        axis = "parameters left"
    else:
        values, axis = {}, "steps from the original"
    found: dict[int, float] = {}
    for node in tree.nodes:
        value, above = values.get(node.number), found.get(node.parent) if node.parent is not None else None
        if value is not None:
            found[node.number] = float(value)
        else:
            found[node.number] = above - (0 if values else 1) if above is not None else 0.0
    return found, axis


def hover(tree: Tree, node: Node) -> str:
    """What a node tells: name, kind, size in storage, cost, metrics, how it was trained, how long it took."""
    lines = [f"<b>{html.escape(node.title)}</b>"]
    if node.units is not None:
        of = "" if tree.root.units is None else f" of {tree.root.units:,}"
        lines.append(f"{node.units:,}{of} {tree.words.noun()} left")
    names = [name for name in (tree.metric, *HOVERED) if name is not None]
    lines += [
        f"{label_of(name)} {shown(name, node.metrics[name])}{_share(tree, node, name)}"
        for name in dict.fromkeys(names)
        if name in node.metrics
    ]
    if node.parent is not None:
        lines.append(html.escape(edge_words(node)))
        lines.append(f"took {node.seconds:,.1f} s")
    lines += [html.escape(text) for text in (node.note and f"note: {node.note}", node.damaged) if text]
    marks = {"baseline": node.pinned, "in the trash": node.trashed, "damaged": bool(node.damaged)}
    lines += [word for word, there in marks.items() if there]
    return "<br>".join(lines)


def _share(tree: Tree, node: Node, name: str) -> str:
    whole = tree.root.metrics.get(name)
    if node is tree.root or name not in HOVERED[:3] or not whole:
        return ""
    return f" ({node.metrics[name] / whole:.1%})"


def _ranges(width: int, low: float, high: float) -> dict[str, list[float]]:
    pad = 0.08 * (high - low) or 0.15 * (abs(high) or 1)
    wide = max(LEAST_COLUMNS, float(width))
    side = 0.5 + (wide - width) / 2
    return {"x": [-side, width - 1 + side], "y": [low - 1.3 * pad, high + pad]}


def _add_edges(
    figure: go.Figure, tree: Tree, places: Mapping[int, tuple[float, float]], gap: float, theme: Theme
) -> None:
    colors = {"settled": theme.settled, "open": theme.open_edge, "untrained": theme.settled, "failed": theme.gone}
    for edge in EDGES:
        points: list[tuple[float | None, float | None]] = []
        for node in tree.nodes:
            if node.parent is not None and node.parent in places and node.edge == edge:
                points += [*bend(places[node.parent], places[node.number], gap), (None, None)]
        xs, ys = zip(*points, strict=True) if points else ((), ())
        line = {"color": colors[edge], "width": 2.5 if edge == "open" else 2, "dash": DASHES[edge]}
        figure.add_scatter(x=xs, y=ys, mode="lines", line=line, hoverinfo="skip", name=EDGE_WORDS[edge])


def _add_bars(
    figure: go.Figure,
    tree: Tree,
    places: Mapping[int, tuple[float, float]],
    ranges: Mapping[str, Sequence[float]],
    theme: Theme,
) -> None:
    across = (ranges["x"][1] - ranges["x"][0]) / PANEL[0]
    up = (ranges["y"][1] - ranges["y"][0]) / PANEL[1]
    length = min(BAR, 1 / across - 6) * across
    tracks: _Line = ([], [])
    quality: _Line = ([], [])
    left: _Line = ([], [])
    for node in tree.nodes:
        x, y = places[node.number]
        for share, below, bars in ((node.quality, BELOW[0], quality), (node.left, BELOW[1], left)):
            if share is not None:
                _segment(tracks, x - length / 2, length, y - below * up)
                _segment(bars, x - length / 2, length * share, y - below * up)
    for name, (xs, ys), color in (
        ("full bars", tracks, theme.grid),
        (tree.metric_label, quality, theme.palette[2]),
        ("parameters left", left, theme.palette[0]),
    ):
        figure.add_scatter(x=xs, y=ys, mode="lines", line={"color": color, "width": 4.5}, hoverinfo="skip", name=name)


def _segment(line: _Line, x: float, length: float, y: float) -> None:
    line[0].extend((x, x + length, None))
    line[1].extend((y, y, None))


def _add_boxes(figure: go.Figure, tree: Tree, places: Mapping[int, tuple[float, float]], theme: Theme) -> None:
    xs = [places[node.number][0] for node in tree.nodes]
    ys = [places[node.number][1] for node in tree.nodes]
    digits = max(2, *(int(math.log10(node.number)) + 1 for node in tree.nodes))
    figure.add_scatter(
        x=xs,
        y=ys,
        mode="markers+text",
        text=[str(node.number) for node in tree.nodes],
        textfont={"size": 11 if digits < 3 else 8, "color": theme.ink},
        textposition="middle center",
        customdata=[node.number for node in tree.nodes],
        hovertext=[hover(tree, node) for node in tree.nodes],
        hovertemplate="%{hovertext}<extra></extra>",
        marker={
            "symbol": "square", "size": BOX, "color": theme.surface, "opacity": 1,
            "line": {"width": 1.5, "color": [theme.gone if n.damaged else theme.quiet for n in tree.nodes]},
        },
        cliponaxis=False,
        name="steps",
    )  # fmt: skip
    marked = [(places[node.number], mark(node)) for node in tree.nodes if mark(node)]
    figure.add_scatter(
        x=[x for (x, _), _ in marked], y=[y for (_, y), _ in marked], mode="text", text=[word for _, word in marked],
        textposition="middle center", textfont={"size": 12, "color": theme.ink}, hoverinfo="skip", name="marks",
        cliponaxis=False,
    )  # fmt: skip
    outlines = (
        ("compared with", theme.accent, BOX + 8, 1.5),
        ("", theme.ink, BOX + 10, 0.8),
        ("selected", theme.gone, BOX + 6, 1.6),
    )
    for name, color, size, width in outlines:
        figure.add_scatter(
            x=[], y=[], mode="markers", hoverinfo="skip", name=name, cliponaxis=False,
            marker={"symbol": "square-open", "size": size, "color": color, "line": {"width": width, "color": color}},
        )  # fmt: skip


def mark(node: Node) -> str:
    """Signs beside a box: a star for the baseline, a cross for what was given up, an exclamation mark for damage."""
    signs = {"★": node.pinned, "✕": node.edge == "failed", "!": bool(node.damaged), "✎": bool(node.note)}
    return "".join(sign for sign, there in signs.items() if there)
