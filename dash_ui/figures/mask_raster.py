"""Masks as pictures: any part of a matrix of any size as a PNG with the pixels of the plot.

As long as there is a pixel for each cell (SIZE a side, at most), every cell is drawn by itself. Beyond that a pixel
stands for a block of cells: its colour is that of the weight with the largest magnitude there, and a pixel with even
one removed weight is red, the stronger the larger the share.

Red alone tells nothing: what a threshold or an earlier step took is hatched, what was brushed by hand is a darker,
dotted ground with an outline.
"""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from functools import lru_cache
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dash_ui.rows.mask import HAND, SINGLE, Codes, Floats
from dash_ui.theme import Theme

__all__ = ["SIZE", "Sample", "Tile", "Window", "painted", "png", "sample", "tile"]

SIZE = 800
LARGEST = 1600  # pixels a side
PIECE = 1 << 16  # cells reduced in one go
STEPS = 101  # colours of values, below and above zero
AUTO_LINE, AUTO_GROUND, HAND_DOT, HAND_GROUND, OUTLINE, NAN = range(2 * STEPS, 2 * STEPS + 6)
SHARES = 2 * STEPS + 10  # the first of 8 colours of a share that is gone
Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Window:
    """Rows and columns, the second of each pair left out."""

    rows: tuple[int, int]
    columns: tuple[int, int]

    @classmethod
    def of(cls, shape: tuple[int, int], y: Any = None, x: Any = None) -> Window:
        """All cells that a stretch of the axes shows a part of; all where it shows none."""
        return cls(_stretch(y, shape[0]), _stretch(x, shape[1]))


def _stretch(places: Any, size: int) -> tuple[int, int]:
    if places is None:
        return 0, size
    low, high = sorted(float(place) for place in places)
    first, behind = max(int(np.floor(low + 0.5)), 0), min(ceil(high + 0.5), size)
    return (first, behind) if first < behind else (0, size)


@dataclass(frozen=True, eq=False)
class Sample:
    """Blocks of ``high`` x ``wide`` cells.

    ``values``: that of the largest magnitude; ``gone``: shares 0..1; ``by_hand``: 1 where anything in it was.
    """

    window: Window
    high: int
    wide: int
    values: Floats
    gone: Floats
    by_hand: Floats

    @property
    def exact(self) -> bool:
        return self.high == self.wide == 1


@dataclass(frozen=True, eq=False)
class Tile:
    """The values of a window, each that of the largest magnitude of ``high`` x ``wide`` cells."""

    window: Window
    high: int
    wide: int
    values: Floats


def tile(values: Floats, window: Window, size: tuple[int, int] = (SIZE, SIZE)) -> Tile:
    """Cut a window out, and reduce it where it has more cells than ``size`` (height, width), SIZE at most."""
    cut = values[slice(*window.rows), slice(*window.columns)]
    high, wide = (ceil(n / max(1, min(most, SIZE))) for n, most in zip(cut.shape, size, strict=True))
    if high == wide == 1:
        return Tile(window, 1, 1, cut)
    turned = cut.strides[0] < cut.strides[1]
    found = _largest(cut.T, wide, high).T if turned else _largest(cut, high, wide)
    return Tile(window, high, wide, found)


def _largest(cut: Floats, high: int, wide: int) -> Floats:
    """A few rows of blocks at a time, so that what both passes look at stays near the processor."""
    several = max(1, PIECE // max(1, cut.shape[1] * high)) * high
    found = []
    for start in range(0, cut.shape[0], several):
        rows = cut[start : start + several]
        low, top = _reduced(np.minimum, rows, high, wide), _reduced(np.maximum, rows, high, wide)
        found.append(np.where(-low > top, low, top))
    return np.concatenate(found)


def sample(
    values: Floats, codes: Codes, window: Window, size: tuple[int, int] = (SIZE, SIZE), kept: Tile | None = None
) -> Sample:
    """A window with what is gone there. ``kept``: its `tile`, where that is known already."""
    found = kept or tile(values, window, size)
    code, high, wide = codes[slice(*window.rows), slice(*window.columns)], found.high, found.wide
    if high == wide == 1:
        hand = (code & (HAND | SINGLE)) != 0
        return Sample(window, 1, 1, found.values, (code != 0).astype(np.float32), hand.astype(np.float32))
    turned = code.strides[0] < code.strides[1]
    if turned:
        code, high, wide = code.T, wide, high
    bits = _reduced(np.bitwise_or, code, high, wide)
    hand = ((bits & (HAND | SINGLE)) != 0).astype(np.float32)
    gone = _share(code, high, wide) if bits.any() else np.zeros_like(hand)
    if turned:
        gone, hand = gone.T, hand.T
    return Sample(window, found.high, found.wide, found.values, gone, hand)


def _reduced(reduce: np.ufunc, values: NDArray[Any], high: int, wide: int) -> NDArray[Any]:
    """Rows first, whole rows at once, which is the fast way; what is left column by column."""
    if high > 1:
        many, across = values.shape[0] // high, values.shape[1]
        down = reduce.reduce(values[: many * high].reshape(many, high, across), axis=1)
        if many * high < values.shape[0]:
            down = np.concatenate([down, reduce.reduce(values[many * high :], axis=0)[None]])
        values = down
    return _across(reduce, values, wide)


def _across(reduce: np.ufunc, values: NDArray[Any], wide: int) -> NDArray[Any]:
    """The first columns of all blocks, then all second ones, and so on: faster than block by block."""
    found = values[:, ::wide].copy()
    for k in range(1, wide):
        more = values[:, k::wide]
        here = found[:, : more.shape[1]]
        reduce(here, more, out=here)
    return found


def _share(codes: Codes, high: int, wide: int) -> Floats:
    """Of the cells of each block, how many are gone."""
    taken = (codes != 0).view(np.uint8)
    many, across = codes.shape[0] // high, codes.shape[1]
    whole, kind = many * high, np.uint8 if high < 256 else np.uint32
    down = np.add.reduce(taken[:whole].reshape(many, high, across), axis=1, dtype=kind)
    if whole < codes.shape[0]:
        down = np.concatenate([down, np.add.reduce(taken[whole:], axis=0, dtype=kind)[None]])
    found = _across(np.add, down.astype(np.uint32), wide)
    heights = np.diff(np.append(np.arange(0, codes.shape[0], high), codes.shape[0]))
    widths = np.diff(np.append(np.arange(0, codes.shape[1], wide), codes.shape[1]))
    return np.asarray(found / (heights[:, None] * widths), np.float32)


def painted(found: Sample, scale: float, size: tuple[int, int] = (SIZE, SIZE)) -> Pixels:
    """Numbers of colours, one for each pixel. ``size``: height and width; no block of cells is left without a pixel."""
    level = np.clip(np.nan_to_num(found.values, nan=0.0) / (scale or 1.0), -1, 1)
    colour: Pixels = np.rint((level + 1) * (STEPS - 1)).astype(np.uint8)
    colour[np.isnan(found.values)] = NAN
    rows, columns = (_spread(n, most) for n, most in zip(colour.shape, size, strict=True))
    ground: Pixels = colour[rows][:, columns]
    if found.gone.any():
        _gone(ground, found.gone[rows][:, columns], found.by_hand[rows][:, columns] > 0)
    return ground


def _spread(cells: int, pixels: int) -> NDArray[np.int64]:
    """The cell of every pixel."""
    many = max(cells, min(pixels, LARGEST))
    return np.arange(many) * cells // many


def _gone(ground: Pixels, gone: Floats, hand: NDArray[np.bool_]) -> None:
    """Paint what is gone over the values."""
    y, x = np.ogrid[: ground.shape[0], : ground.shape[1]]
    whole = gone >= 1
    auto = whole & ~hand
    stripes = (x + y) % 4 == 0
    dots = (x % 3 == 0) & (y % 3 == 0)
    ground[auto] = AUTO_GROUND
    ground[auto & stripes] = AUTO_LINE
    part = (gone > 0) & ~whole
    ground[part] = SHARES + np.minimum(gone[part] * 8, 7).astype(np.uint8)
    brushed = hand & whole
    ground[brushed] = HAND_GROUND
    ground[brushed & dots] = HAND_DOT
    ground[_outline(hand)] = OUTLINE


def _outline(region: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The border of a region, one pixel wide and inside of it; left out where the region is narrower than 5 pixels."""
    found = np.zeros_like(region)
    rows, columns = np.flatnonzero(region.any(axis=1)), np.flatnonzero(region.any(axis=0))
    if not rows.size:
        return found
    part = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)  # beyond it nothing is by hand
    own = region[part]
    inner = _shrunk(own, 1)
    near = _grown(_shrunk(inner, 1), 2)
    found[part] = own & ~inner & near
    return found


def _shrunk(region: NDArray[np.bool_], by: int) -> NDArray[np.bool_]:
    """Pixels all of whose neighbours, diagonal ones too, are in the region; those outside of the picture are not."""
    return ~_grown(~np.pad(region, by), by)[by:-by, by:-by]


def _grown(region: NDArray[np.bool_], by: int) -> NDArray[np.bool_]:
    """Pixels that have one of the region at most ``by`` rows and columns away."""
    down = region.copy()
    for k in range(1, by + 1):
        down[k:] |= region[:-k]
        down[:-k] |= region[k:]
    found = down.copy()
    for k in range(1, by + 1):
        found[:, k:] |= down[:, :-k]
        found[:, :-k] |= down[:, k:]
    return found


def png(pixels: Pixels, theme: Theme, *, plain: bool = False) -> str:
    """As an address that a picture can be loaded from. ``plain``: not compressed, where that would gain little."""
    picture = Image.frombytes("P", (pixels.shape[1], pixels.shape[0]), np.ascontiguousarray(pixels).tobytes())
    picture.putpalette(_palette(theme))
    written = io.BytesIO()
    picture.save(written, "PNG", compress_level=0 if plain else 1)
    return "data:image/png;base64," + base64.b64encode(written.getvalue()).decode()


@lru_cache(maxsize=4)
def _palette(theme: Theme) -> bytes:
    colours = np.zeros((256, 3), np.float64)
    middle = _rgb(theme.surface)
    below = _ramp([_rgb(c) for c in NEGATIVE[theme.name]], STEPS)
    above = _ramp([middle, *(_rgb(c) for c in theme.ramp[2:])], STEPS)
    colours[: STEPS - 1], colours[STEPS - 1 : 2 * STEPS - 1] = below[:0:-1], above
    gone, ink = _rgb(theme.gone), _rgb(theme.ink)
    colours[AUTO_LINE], colours[AUTO_GROUND] = gone, 0.72 * middle + 0.28 * gone
    colours[HAND_GROUND], colours[HAND_DOT] = gone, 0.55 * gone + 0.45 * middle
    colours[OUTLINE], colours[NAN] = ink, _rgb("#a020f0")
    strength = np.linspace(0.45, 0.9, 8)[:, None]
    colours[SHARES : SHARES + 8] = strength * gone + (1 - strength) * middle
    return np.rint(colours).astype(np.uint8).tobytes()


NEGATIVE = {
    "light": ("#ffffff", "#fbe3d0", "#f2b184", "#d9780f", "#7f3800"),
    "dark": ("#1a2129", "#5a3a22", "#a8591f", "#f0a03c", "#ffd083"),
}


def _ramp(stops: list[NDArray[np.float64]], size: int) -> NDArray[np.float64]:
    at = np.linspace(0, len(stops) - 1, size)
    return np.stack([np.interp(at, np.arange(len(stops)), [stop[c] for stop in stops]) for c in range(3)], axis=1)


def _rgb(colour: str) -> NDArray[np.float64]:
    return np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)], np.float64)
