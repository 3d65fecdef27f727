"""The plan as a picture: a circle with its number for each unit that goes, and below it the share of each group (C23).

The page draws the same on a canvas, live; this is the one that is saved.
"""

from __future__ import annotations

from html import escape
from math import ceil, floor

import numpy as np
from numpy.typing import NDArray

from dash_ui.figures.layers import layer_colours
from dash_ui.rows.units import Units
from dash_ui.theme import FONT, Theme

__all__ = ["circles_svg", "side"]

WIDTH, HEIGHT, BAR, MARGIN = 960, 320, 10, 12
NUMBERED_FROM = 16  # pixels; in a smaller circle no number can be read
LARGEST, LEAST = 26, 2

Mask = NDArray[np.bool_]


def side(count: int, width: float, height: float) -> int:
    """Pixels from one circle to the next, so that so many fit; LEAST where they do not."""
    for pixels in range(LARGEST, LEAST, -1):
        if floor(width / pixels) * floor(height / pixels) >= count:
            return pixels
    return LEAST


def circles_svg(units: Units, gone: Mask, theme: Theme) -> str:
    """The text of an SVG file. ``gone``: for each unit whether it goes."""
    chosen = np.flatnonzero(gone)
    colours = layer_colours(theme, len(units.groups))
    step = side(chosen.size, WIDTH, HEIGHT)
    columns = WIDTH // step
    height = max(ceil(chosen.size / columns), 1) * step
    total = height + BAR + 3 * MARGIN + 18
    box, told = f"0 0 {WIDTH + 2 * MARGIN} {total}", f"{chosen.size:,} of {units.index.size:,} units go"
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box}" font-family="{escape(FONT)}">',
        f'<rect width="100%" height="100%" fill="{theme.surface}"/>',
        f'<text x="{MARGIN}" y="{MARGIN + 8}" font-size="13" fill="{theme.ink}">{told}</text>',
    ]
    top = MARGIN + 18
    for place, unit in enumerate(chosen.tolist()):
        x = MARGIN + (place % columns + 0.5) * step
        y = top + (place // columns + 0.5) * step
        group, index = units.groups[units.group[unit]], int(units.index[unit])
        lines.append(
            f'<circle cx="{x:g}" cy="{y:g}" r="{step * 0.44:g}" fill="{colours[units.group[unit]]}">'
            f"<title>{escape(group.name)} · {escape(group.noun)} {index}</title></circle>"
        )
        if step >= NUMBERED_FROM:
            lines.append(
                f'<text x="{x:g}" y="{y:g}" font-size="{step * 0.36:g}" fill="{theme.surface}" text-anchor="middle" '
                f'dominant-baseline="central">{index}</text>'
            )
    lines += _bar(units, gone, colours, top + height + MARGIN)
    return "\n".join([*lines, "</svg>\n"])


def _bar(units: Units, gone: Mask, colours: tuple[str, ...], top: float) -> list[str]:
    counts = np.bincount(units.group[gone], minlength=len(units.groups))
    scale = WIDTH / max(int(counts.sum()), 1)
    ends = np.cumsum([0, *counts]) * scale
    return [
        f'<rect x="{MARGIN + ends[k]:g}" y="{top:g}" width="{count * scale:g}" height="{BAR}" fill="{colours[k]}">'
        f"<title>{escape(units.groups[k].name)}: {count} of {units.groups[k].units}</title></rect>"
        for k, count in enumerate(counts.tolist())
        if count
    ]
