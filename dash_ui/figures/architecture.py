"""The architecture of a network as a figure: boxes that can be clicked, edges, frames round what repeats.

What is to go, what is selected, linked or found is drawn into it by the browser (``assets/architecture.js``), below the
numbers. Pixels of the figure are those of the drawing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from dash_ui.theme import Theme, finish
from onnxprune.drawing import KINDS, Box, Drawing, Overlay, Placed, fitting, ramp
from onnxprune.drawing.svg import COLOURS, DARK_COLOURS, box_text, readable

__all__ = ["architecture", "kinds_in", "sample", "scale_of"]

STEPS = 9  # colours of a scale
CORNER, BENDS = 5.0, 4  # of an edge, in pixels; points that make a round corner
NARROW = 15.0  # pixels of a box in which no number can be read
HIT = 14.0  # pixels between the points of a box that notice the pointer
ROOMY = 62.0  # pixels from which on letters are larger
SMALLEST, LARGE, LABEL = 9.0, 11.0, 10.0  # sizes of names, and how far below a box its name stands

Points = Iterable[tuple[float, float]]


def architecture(
    drawing: Drawing, theme: Theme, places: Sequence[Mapping[str, Any]], *, overlay: Overlay | None = None
) -> go.Figure:
    """The figure of a drawing. ``places``: rows of `rows.architecture.places`, in the order of ``drawing.placed``."""
    figure = go.Figure()
    colours = _colours(drawing, theme, overlay)
    _edges(figure, drawing, theme)
    _frames(figure, drawing, theme)
    outlines = [_outline(place, 1.0) for place in drawing.placed if _box(drawing, place).kind != "join"]
    figure.add_trace(_area("empty", outlines, theme.surface, theme.quiet, 0.8))
    groups: dict[tuple[str, str], list[list[tuple[float, float]]]] = defaultdict(list)
    for place, row, colour in zip(drawing.placed, places, colours, strict=True):
        kind = _box(drawing, place).kind
        if kind == "join":
            groups[kind, colour].append(_circle(place))
        elif kind != "end":
            groups[kind, colour].append(_outline(place, float(row["kept"])))
    for (kind, colour), areas in groups.items():
        line = theme.quiet if kind == "join" else colour
        figure.add_trace(_area(f"kind {kind}", areas, colour, line, 0.8))
    _texts(figure, drawing, theme, colours, places)
    figure.add_trace(_hits(drawing, places))
    figure.add_trace(_counts(drawing, theme))
    blank = {"visible": False, "fixedrange": False, "automargin": False}
    return finish(
        figure, theme, margin={"l": 0, "r": 0, "t": 0, "b": 0}, showlegend=False, hovermode="closest", dragmode="pan",
        hoverdistance=6,
        hoverlabel={
            "align": "left", "bgcolor": theme.surface, "bordercolor": theme.quiet,
            "font": {"color": theme.ink, "size": 12},
        },
    ).update_layout(
        xaxis={**blank, "range": [0, drawing.width]}, yaxis={**blank, "range": [drawing.height, 0]},
        uirevision=f"{drawing.width:g} {drawing.height:g}", meta={"width": drawing.width, "height": drawing.height},
    )  # fmt: skip


def kinds_in(drawing: Drawing, theme: Theme) -> list[tuple[str, str, str]]:
    """(kind, its word, its colour) of what is drawn, in the order of a legend."""
    fills = _fills(theme)
    drawn = {_box(drawing, place).kind for place in drawing.placed}
    return [(kind, word, fills[kind]) for kind, word in KINDS.items() if kind in drawn and kind not in ("end", "join")]


def scale_of(theme: Theme) -> tuple[str, ...]:
    """The colours of an overlay, small to large."""
    return theme.ramp[1:]


def sample(name: str) -> str:
    """Text that plotly takes literally."""
    return name.replace("<", "&lt;")


def _fills(theme: Theme) -> Mapping[str, str]:
    return DARK_COLOURS if theme.name == "dark" else COLOURS


def _box(drawing: Drawing, place: Placed) -> Box:
    return drawing.sketch.boxes[place.id]


def _colours(drawing: Drawing, theme: Theme, overlay: Overlay | None) -> list[str]:
    fills = {**_fills(theme), "join": theme.surface}
    found = [fills[_box(drawing, place).kind] for place in drawing.placed]
    if overlay is None or not overlay.values:
        return found
    values, scale = overlay.values, scale_of(theme)
    most = max(values.values())
    coarse = {b: round(STEPS * v / most) / STEPS * most if most > 0 else v for b, v in values.items()}
    known = ramp(Overlay(overlay.name, overlay.title, coarse, overlay.written), scale)
    return [
        known.get(place.id, theme.surface if _box(drawing, place).kind == "join" else theme.grid)
        for place in drawing.placed
    ]


def _edges(figure: go.Figure, drawing: Drawing, theme: Theme) -> None:
    for side in (False, True):
        lines = [_rounded(route.points) for route in drawing.routes if route.side == side]
        if lines:
            figure.add_trace(_line("side" if side else "edges", lines, theme.settled, 1.1, "dot" if side else "solid"))


def _frames(figure: go.Figure, drawing: Drawing, theme: Theme) -> None:
    for frame in drawing.brackets:
        figure.add_shape(
            type="rect", x0=frame.left, x1=frame.right, y0=frame.top, y1=frame.bottom, layer="below",
            line={"color": theme.settled, "width": 1, "dash": "solid" if frame.count > 1 else "dot"},
            fillcolor=theme.paper, opacity=0.9,
        )  # fmt: skip


def _texts(
    figure: go.Figure, drawing: Drawing, theme: Theme, colours: Sequence[str], places: Sequence[Mapping[str, Any]]
) -> None:
    """Counts in what is left of the boxes, or across the whole box where that is too narrow; names below them."""
    placed = drawing.placed
    counts = []
    for place, colour, row in zip(placed, colours, places, strict=True):
        width, plain = place.width * float(row["kept"]), _box(drawing, place).kind in ("join", "end")
        fits = width >= NARROW or row["kept"] == 1
        counts.append(
            (
                place.x - (place.width - width) / 2 if fits else place.x,
                _size(box_text(_box(drawing, place)), width if fits else place.width),
                theme.ink if plain or not fits else readable(colour),
            )
        )
    x, sizes, inks = zip(*counts, strict=True) if counts else ((), (), ())
    figure.add_trace(
        go.Scatter(
            x=x, y=[place.y for place in placed], mode="text", name="counts", hoverinfo="skip",
            text=[sample(box_text(_box(drawing, place))) for place in placed],
            textfont={"size": sizes, "color": inks},
        )
    )  # fmt: skip
    named = [place for place in placed if _box(drawing, place).heavy or _box(drawing, place).kind == "end"]
    letters = SMALLEST if drawing.label_width < ROOMY else LARGE
    width = drawing.label_width * SMALLEST / letters
    figure.add_trace(
        go.Scatter(
            x=[place.x for place in named], y=[place.y + place.height / 2 + LABEL for place in named], mode="text",
            text=[sample(fitting(_box(drawing, place).name, width)) for place in named], name="names",
            textfont={"size": letters, "color": theme.quiet}, hoverinfo="skip",
        )
    )  # fmt: skip


def _size(text: str, width: float) -> float:
    """As large as fits into the box."""
    return max(min(11.5, width / max(len(text), 1) / 0.6), 7.0) if width < ROOMY else 13.0


def _hits(drawing: Drawing, places: Sequence[Mapping[str, Any]]) -> go.Scatter:
    """Unseen points all over the boxes that notice the pointer."""
    x: list[float] = []
    y: list[float] = []
    data: list[list[Any]] = []
    for number, (place, row) in enumerate(zip(drawing.placed, places, strict=True)):
        across, down = (max(round(size / HIT), 1) for size in (place.width, place.height))
        for i in range(across):
            for j in range(down):
                x.append(place.x + place.width * ((i + 0.5) / across - 0.5))
                y.append(place.y + place.height * ((j + 0.5) / down - 0.5))
                data.append([number, row["hover"], ""])
    return go.Scatter(
        x=x, y=y, mode="markers", name="hits", customdata=data, marker={"size": HIT, "opacity": 0},
        hovertemplate="%{customdata[1]}%{customdata[2]}<extra></extra>",
    )  # fmt: skip


def _counts(drawing: Drawing, theme: Theme) -> go.Scatter:
    """×N at the corner of a frame; a click opens or closes the block."""
    frames = drawing.brackets
    words = [f"×{frame.count}" if frame.count > 1 else "×1" for frame in frames]
    told = [
        f"{frame.count} equal blocks: click to draw all of them"
        if frame.count > 1
        else "click to draw these blocks once"
        for frame in frames
    ]
    return go.Scatter(
        x=[frame.left + 9 for frame in frames], y=[frame.top for frame in frames], mode="markers+text", name="repeats",
        text=words, textfont={"size": 10, "color": theme.accent},
        customdata=[[-1, frame.repeat, text] for frame, text in zip(frames, told, strict=True)],
        marker={"size": 19, "color": theme.surface, "line": {"color": theme.settled, "width": 1}},
        hovertemplate="%{customdata[2]}<extra></extra>",
    )  # fmt: skip


def _area(name: str, areas: Sequence[Points], fill: str, line: str, width: float) -> go.Scatter:
    x, y = _joined(areas)
    return go.Scatter(
        x=x, y=y, mode="lines", fill="toself", fillcolor=fill, line={"color": line, "width": width}, name=name,
        hoverinfo="skip",
    )  # fmt: skip


def _line(name: str, lines: Sequence[Points], colour: str, width: float, dash: str) -> go.Scatter:
    x, y = _joined(lines)
    return go.Scatter(
        x=x, y=y, mode="lines", line={"color": colour, "width": width, "dash": dash}, name=name, hoverinfo="skip"
    )


def _joined(lines: Sequence[Points]) -> tuple[list[float | None], list[float | None]]:
    x: list[float | None] = []
    y: list[float | None] = []
    for line in lines:
        for px, py in line:
            x.append(round(px, 1))
            y.append(round(py, 1))
        x.append(None)
        y.append(None)
    return x, y


def _outline(place: Placed, share: float) -> list[tuple[float, float]]:
    """The left part of a box."""
    left, top, bottom = place.x - place.width / 2, place.y - place.height / 2, place.y + place.height / 2
    right = left + place.width * share
    return [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]


def _circle(place: Placed) -> list[tuple[float, float]]:
    """A regular polygon with so many corners that it looks round."""
    unit = [(1.0, 0.0), (0.924, 0.383), (0.707, 0.707), (0.383, 0.924)]
    quarter = [unit, [(-y, x) for x, y in unit], [(-x, -y) for x, y in unit], [(y, -x) for x, y in unit]]
    around = [(place.x + place.width / 2 * x, place.y + place.height / 2 * y) for part in quarter for x, y in part]
    return [*around, around[0]]


def _rounded(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The same way with round corners."""
    found = [points[0]]
    for before, here, after in zip(points, points[1:], points[2:], strict=False):
        one, two = _towards(here, before), _towards(here, after)
        for step in range(BENDS + 1):
            t = step / BENDS
            a, b, c = (1 - t) ** 2, 2 * t * (1 - t), t * t
            found.append((a * one[0] + b * here[0] + c * two[0], a * one[1] + b * here[1] + c * two[1]))
    return [*found, points[-1]]


def _towards(here: tuple[float, float], there: tuple[float, float]) -> tuple[float, float]:
    long = ((there[0] - here[0]) ** 2 + (there[1] - here[1]) ** 2) ** 0.5
    share = min(CORNER / long, 0.5) if long else 0.0
    return here[0] + share * (there[0] - here[0]), here[1] + share * (there[1] - here[1])
