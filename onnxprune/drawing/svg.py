"""A drawing as SVG: a file that stands alone, without scripts, fonts or links."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from xml.sax.saxutils import escape, quoteattr

from onnxprune.drawing.values import KINDS, Box, Bracket, Drawing, Placed, Route

__all__ = ["COLOURS", "DARK_COLOURS", "Marks", "box_text", "fitting", "readable", "share_gone", "svg"]

# Colours that common deficiencies of sight leave apart; small kinds are grey.
COLOURS: Mapping[str, str] = {
    "convolution": "#0072b2", "depthwise": "#56b4e9", "linear": "#009e73", "attention": "#cc79a7",
    "recurrent": "#e69f00", "embedding": "#8a6d3b", "normalisation": "#9aa4ae", "pooling": "#6f7b87",
    "activation": "#b9c1c9", "join": "#ffffff", "control": "#7a4fbf", "other": "#a9a18f", "end": "#ffffff",
}  # fmt: skip
DARK_COLOURS: Mapping[str, str] = {
    **COLOURS, "convolution": "#3f97d3", "linear": "#2fae86", "normalisation": "#6d7986", "pooling": "#8894a0",
    "activation": "#566270", "join": "#1a2129", "control": "#9a78d8", "other": "#857f70", "end": "#1a2129",
    "embedding": "#ad8c52",
}  # fmt: skip
FONT = "Inter, Segoe UI, Helvetica, Arial, DejaVu Sans, sans-serif"
HATCH = (
    '<defs><pattern id="hatch" width="5" height="5" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
    '<rect width="5" height="5" fill="{gone}"/><rect width="1.6" height="5" fill="{surface}"/></pattern></defs>'
)
LIGHT = {"ink": "#1c2733", "quiet": "#5d6b79", "line": "#8d99a5", "surface": "#ffffff", "gone": "#c62828"}
DARK = {"ink": "#e4e9ee", "quiet": "#9aa7b4", "line": "#6d7986", "surface": "#1a2129", "gone": "#ff6b60"}
FORBIDDEN = re.compile("[\x00-\x08\x0b-\x1f\ud800-\udfff\ufffe\uffff]")  # characters that XML does not have
LETTER = 5.0  # pixels of a letter of a name
RED, GREEN = 0.2126, 0.7152  # weights of the colours in luminance
DIM = 1.05 / 4.5 - 0.05  # luminance up to which white has a contrast of 4.5; black has it from 0.175 on
SHORTEST = 3  # letters of a name that is cut off
LEGEND, LEGEND_LETTER = 22.0, 5.9  # height of a row; pixels of a letter


@dataclass(frozen=True)
class Marks:
    """What is shown on top of the layers.

    ``gone``: group -> share of its units that is to go, drawn red and hatched. ``left``: id of a box -> share of the
    units of the original that it still has; the rest is an empty outline. ``colours``: id of a box -> colour, in the
    place of that of its kind. ``linked``, ``selected``: ids of boxes with an outline. ``note``: a line at the end.
    """

    gone: Mapping[str, float] = field(default_factory=dict)
    left: Mapping[int, float] = field(default_factory=dict)
    colours: Mapping[int, str] = field(default_factory=dict)
    linked: frozenset[int] = frozenset()
    selected: frozenset[int] = frozenset()
    note: str = ""


def svg(drawing: Drawing, marks: Marks | None = None, *, dark: bool = False, legend: bool = True) -> str:
    """The drawing as one SVG element, XML that is well formed whatever the names hold."""
    marks, colours = marks or Marks(), DARK if dark else LIGHT
    fills = DARK_COLOURS if dark else COLOURS
    kinds = [
        kind for kind in KINDS if kind not in ("end", "join") and any(b.kind == kind for b in drawing.sketch.boxes)
    ]
    rows = _legend_rows(kinds, drawing.width) if legend and not marks.colours else []
    height = drawing.height + LEGEND * len(rows) + (LEGEND if marks.note or any(marks.gone.values()) else 0)
    size = f'width="{_n(drawing.width)}" height="{_n(height)}" viewBox="0 0 {_n(drawing.width)} {_n(height)}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="{FONT}" role="img">',
        f"<title>{_x(_summary(drawing))}</title>",
        HATCH.format(**colours),
        f'<rect width="100%" height="100%" fill="{colours["surface"]}"/>',
        *(_bracket(bracket, colours) for bracket in drawing.brackets),
        *(_route(route, colours) for route in drawing.routes),
        *(_count(bracket, colours) for bracket in drawing.brackets),
        *(_placed(drawing, place, marks, fills, colours) for place in drawing.placed),
        *_legend(rows, drawing, marks, fills, colours),
        "</svg>",
    ]
    return "\n".join(part for part in parts if part) + "\n"


def share_gone(boxes: Iterable[Box], gone: Mapping[str, float]) -> float:
    """Share of the units of these boxes that is to go, each box counting alike (0 to 1)."""
    shares = [sum(gone.get(name, 0.0) for name in box.groups) / len(box.groups) for box in boxes if box.groups]
    return sum(shares) / len(shares) if shares else 0.0


def box_text(box: Box) -> str:
    """What stands in a box: its number of units, else its mark."""
    return str(box.units) if box.units is not None else box.mark


def readable(colour: str) -> str:
    """White where its contrast with "#rrggbb" is 4.5 or more (WCAG 2.2, 1.4.3), else black, which then has as much."""
    shares = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    red, green, blue = (s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares)
    return "#ffffff" if RED * red + GREEN * green + (1 - RED - GREEN) * blue <= DIM else "#000000"


def fitting(name: str, width: float) -> str:
    """The end of a name that fits into so many pixels: the parts behind the last dots say most."""
    letters = max(int(width / LETTER), 0)
    if len(name) <= letters:
        return name
    parts = [part for part in name.replace("/", ".").split(".") if part]
    worded = next((i for i in range(len(parts) - 1, -1, -1) if not parts[i].isdigit()), 0)
    numbers = len(parts) - 1 - worded  # behind the last word
    for start in range(worded + 1 + (numbers > 1)):
        short = ".".join(parts[start:])
        if len(short) <= letters:
            return short
    short = parts[worded] if parts else ""
    return short if len(short) <= letters else f"{short[: letters - 1]}…" if letters >= SHORTEST else ""


def _placed(drawing: Drawing, place: Placed, marks: Marks, fills: Mapping[str, str], colours: Mapping[str, str]) -> str:
    boxes = [drawing.sketch.boxes[number] for number in place.boxes]
    box, left, top = boxes[0], place.x - place.width / 2, place.y - place.height / 2
    outlined = marks.selected & set(place.boxes) or marks.linked & set(place.boxes)
    stroke = colours["gone"] if marks.selected & set(place.boxes) else colours["ink"] if outlined else colours["line"]
    frame = f'stroke="{stroke}" stroke-width="{2 if outlined else 0.8}"' + (
        ' stroke-dasharray="3 2"' if outlined and not marks.selected & set(place.boxes) else ""
    )
    fill = next((marks.colours[n] for n in place.boxes if n in marks.colours), fills[box.kind])
    parts = [f'<g class="box {box.kind}"><title>{_x(_told(boxes, marks))}</title>']
    inner = place.width * min((marks.left.get(n, 1.0) for n in place.boxes), default=1.0)
    if box.kind == "join":
        parts.append(f'<circle cx="{_n(place.x)}" cy="{_n(place.y)}" r="{_n(place.width / 2)}" fill="{fill}" {frame}/>')
    else:
        parts.append(_rect(left, top, place.width, place.height, f'fill="{colours["surface"]}" {frame}'))
        opacity = 0.0 if box.kind == "end" else 1.0
        parts.append(_rect(left, top, inner, place.height, f'fill="{fill}" fill-opacity="{opacity}"'))
        red = inner * share_gone(boxes, marks.gone)
        if red > 0:
            hatch = f'fill="url(#hatch)" stroke="{colours["gone"]}" stroke-width="0.8"'
            parts.append(_rect(left + inner - red, top, red, place.height, hatch))
    plain = box.kind in ("join", "end")
    halo = "" if plain else f' stroke="{fill}" stroke-width="2.4" paint-order="stroke"'
    ink = colours["ink"] if plain else readable(fill)
    parts.append(_text(left + inner / 2, place.y + 3.5, box_text(box), 10 if box.heavy else 9, ink, extra=halo))
    if box.heavy or box.kind == "end":
        label = fitting(box.name, drawing.label_width)
        parts.append(_text(place.x, place.y + place.height / 2 + 10, label, 8.5, colours["quiet"]))
    return "".join([*parts, "</g>"])


def _route(route: Route, colours: Mapping[str, str]) -> str:
    dash = ' stroke-dasharray="2 3" opacity="0.6"' if route.side else ""
    return f'<path d="{path_of(route.points)}" fill="none" stroke="{colours["line"]}" stroke-width="1"{dash}/>'


def path_of(points: Sequence[tuple[float, float]], radius: float = 5.0) -> str:
    """An SVG path through the points, with round corners."""
    parts = [f"M{_n(points[0][0])} {_n(points[0][1])}"]
    for before, here, after in zip(points, points[1:], points[2:], strict=False):
        one, two = _towards(here, before, radius), _towards(here, after, radius)
        parts.append(f"L{_n(one[0])} {_n(one[1])}Q{_n(here[0])} {_n(here[1])} {_n(two[0])} {_n(two[1])}")
    parts.append(f"L{_n(points[-1][0])} {_n(points[-1][1])}")
    return "".join(parts)


def _towards(here: tuple[float, float], there: tuple[float, float], radius: float) -> tuple[float, float]:
    long = ((there[0] - here[0]) ** 2 + (there[1] - here[1]) ** 2) ** 0.5
    share = min(radius / long, 0.5) if long else 0.0
    return here[0] + share * (there[0] - here[0]), here[1] + share * (there[1] - here[1])


def _bracket(bracket: Bracket, colours: Mapping[str, str]) -> str:
    frame = f'fill="{colours["quiet"]}" fill-opacity="0.07" stroke="{colours["quiet"]}" stroke-width="0.8" rx="5"'
    return _rect(
        bracket.left, bracket.top, bracket.right - bracket.left, bracket.bottom - bracket.top, frame, rounded=False
    )


def _count(bracket: Bracket, colours: Mapping[str, str]) -> str:
    """How often a block is there, at the upper left corner of its frame."""
    if bracket.count == 1:
        return ""
    text = f"×{bracket.count}"
    wide = 7 + 6.2 * len(text)
    pill = f'fill="{colours["surface"]}" stroke="{colours["quiet"]}" stroke-width="0.8" rx="6"'
    left, top = bracket.left - 4, bracket.top - 7
    return _rect(left, top, wide, 14, pill, rounded=False) + _text(
        left + wide / 2, top + 10.5, text, 10, colours["ink"], extra=' font-weight="600"'
    )


def _legend_rows(kinds: Sequence[str], width: float) -> list[list[str]]:
    rows: list[list[str]] = [[]]
    used = 14.0
    for kind in kinds:
        need = 24 + LEGEND_LETTER * len(KINDS[kind])
        if used + need > width and rows[-1]:
            rows.append([])
            used = 14.0
        rows[-1].append(kind)
        used += need
    return rows if rows[0] else []


def _legend(
    rows: Sequence[Sequence[str]], drawing: Drawing, marks: Marks, fills: Mapping[str, str], colours: Mapping[str, str]
) -> list[str]:
    parts, y = [], drawing.height + 8
    for row in rows:
        x = 14.0
        for kind in row:
            parts.append(_rect(x, y - 8, 10, 10, f'fill="{fills[kind]}"'))
            parts.append(_text(x + 14, y + 1, KINDS[kind], 10, colours["quiet"], anchor="start"))
            x += 24 + LEGEND_LETTER * len(KINDS[kind])
        y += LEGEND
    note = marks.note
    if any(marks.gone.values()):
        parts.append(_rect(14, y - 8, 10, 10, f'fill="url(#hatch)" stroke="{colours["gone"]}" stroke-width="0.8"'))
        note = f"to be removed{'; ' + note if note else ''}"
    if note:
        parts.append(_text(28, y + 1, note, 10, colours["quiet"], anchor="start"))
    return parts


def _told(boxes: Sequence[Box], marks: Marks) -> str:
    box = boxes[0]
    words = [box.name if len(boxes) == 1 else f"{box.name} and {len(boxes) - 1} equal ones", box.word]
    if box.units is not None:
        words.append(f"{box.units} {box.unit_word}")
    if box.shape:
        words.append("output " + "×".join(map(str, box.shape)))
    words.append(f"{sum(b.parameters for b in boxes):,} parameters, {sum(b.macs for b in boxes):,} MACs")
    share = share_gone(boxes, marks.gone)
    if share:
        words.append(f"{share:.0%} of the {box.unit_word} to be removed")
    return "\n".join(words)


def _summary(drawing: Drawing) -> str:
    boxes = drawing.sketch.boxes
    layers = sum(box.heavy for box in boxes)
    parameters, macs = sum(box.parameters for box in boxes), sum(box.macs for box in boxes)
    return f"Architecture: {layers} layers, {parameters:,} parameters, {macs:,} MACs"


def _rect(x: float, y: float, width: float, height: float, style: str, *, rounded: bool = True) -> str:
    corner = ' rx="1.5"' if rounded else ""
    return f'<rect x="{_n(x)}" y="{_n(y)}" width="{_n(width)}" height="{_n(height)}"{corner} {style}/>'


def _text(x: float, y: float, text: str, size: float, fill: str, *, anchor: str = "middle", extra: str = "") -> str:
    if not text:
        return ""
    where = f'x="{_n(x)}" y="{_n(y)}" font-size="{_n(size)}" text-anchor="{anchor}" fill={quoteattr(fill)}'
    return f"<text {where}{extra}>{_x(text)}</text>"


def _x(text: str) -> str:
    """Escaped, without the control characters that XML forbids."""
    return escape(FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", text))


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
