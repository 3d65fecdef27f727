"""How charts look, whoever draws them: colours, sizes, shortened names.

Seven colours of Okabe and Ito that stay apart under the common colour deficiencies, without the yellow, which white
paper swallows; then dashes and marks tell series apart, and beyond what an eye can tell a ramp orders them.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = [
    "CELLS_WITH_TEXT",
    "DIVERGING",
    "GRID",
    "INK",
    "PALE",
    "QUIET",
    "SEQUENTIAL",
    "Look",
    "look",
    "luminance",
    "mixed",
    "short_names",
    "shorten",
    "spread",
]

INK = "#1c2733"  # text
QUIET = "#5d6b79"  # axes, notes, reference lines
PALE = "#aab4be"  # leaders
GRID = "#e6eaee"
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#4d4d4d")
RAMP = ("#440154", "#414487", "#2a788e", "#22a884", "#7ad151", "#d9b21c")
SEQUENTIAL = ("#f7fbff", "#d0e1f2", "#94c4df", "#4a98c9", "#1764ab", "#08306b")
DIVERGING = ("#8c3b00", "#d98045", "#f6dcc5", "#f8f8f8", "#c9dff0", "#4a98c9", "#08306b")
VARIANTS = 3  # of dashes and of marks
CELLS_WITH_TEXT = 20  # rows or columns up to which a heatmap's cells hold their numbers


@dataclass(frozen=True)
class Look:
    """Colour of a series and which of the dashes and marks it has."""

    colour: str
    variant: int = 0


def look(position: int, count: int) -> Look:
    """The look of the series at a position among ``count``."""
    if count <= len(PALETTE) * VARIANTS:
        return Look(PALETTE[position % len(PALETTE)], position // len(PALETTE))
    return Look(mixed(RAMP, position / (count - 1)))


def mixed(stops: Sequence[str], at: float) -> str:
    """The colour at 0 <= ``at`` <= 1 of a ramp, linear between its stops."""
    place = min(max(at, 0.0), 1.0) * (len(stops) - 1)
    first = min(int(place), len(stops) - 2)
    share = place - first
    pairs = zip(_channels(stops[first]), _channels(stops[first + 1]), strict=True)
    return "#" + "".join(f"{round(a + share * (b - a)):02x}" for a, b in pairs)


def luminance(colour: str) -> float:
    """Perceived lightness of a colour, 0 to 1, by the weights of ITU-R BT.709."""
    red, green, blue = _channels(colour)
    return (0.2126 * red + 0.7152 * green + 0.0722 * blue) / 255


def shorten(text: str, length: int = 28) -> str:
    """The text, its middle left out when it is longer: what tells names apart stands at both ends."""
    if len(text) <= length:
        return text
    tail = (length - 1) // 2
    return f"{text[: length - 1 - tail]}…{text[len(text) - tail :]}"


def short_names(names: Sequence[str], length: int = 28) -> tuple[str, ...]:
    """All names shortened so that they still differ: what they begin and end with alike goes first, then the middle.

    Names that differ only in a middle which has to go get their position instead of it.
    """
    short = [shorten(name, length) for name in names]
    if len(set(short)) < len(set(names)):
        head, tail = _shared(names), _shared([name[::-1] for name in names])
        bare = [name[head : max(head, len(name) - tail)] for name in names]
        short = [f"{'…' * bool(head)}{shorten(name, length - 2)}{'…' * bool(tail)}" for name in bare]
    if len(set(short)) < len(set(names)):
        short = [f"{shorten(name, length - 7)} #{i}" for i, name in enumerate(names)]
    return tuple(short)


def _shared(names: Sequence[str]) -> int:
    """Length of the beginning that all names have in common, up to a separator."""
    first, last = min(names), max(names)  # what these two share, all between them share
    same = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False))
    return max((i + 1 for i, (letter, _) in enumerate(same) if letter in "/._:- "), default=0)


def spread(places: Sequence[float], gap: float) -> list[float]:
    """The places moved as little as a sweep can so that neighbours are ``gap`` apart, within 0 to 1 as far as it holds.

    Labels sit at the ends of lines; where lines end close together, the labels make room for each other.
    """
    order = sorted(range(len(places)), key=lambda i: places[i])
    moved = list(places)
    floor = 0.0
    for i in order:
        moved[i] = max(moved[i], floor)
        floor = moved[i] + gap
    ceiling = 1.0
    for i in reversed(order):
        moved[i] = min(moved[i], ceiling)
        ceiling = moved[i] - gap
    return moved


def _channels(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)
