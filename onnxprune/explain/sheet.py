"""Maps of all units of a layer as one small image: every unit a tile, every tile one colour per place.

    tiles = tiled(values, side=64)                    # (units, height, width), larger maps as means over blocks
    levels = levels_of(tiles, signed=True)            # 0 to 254, 127 is zero; 255 is what is not finite
    png(sheet(levels, columns=32), palette)           # bytes of a file

A sheet of 512 tiles is drawn as a single picture, of which each place of a page shows its part.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["BROKEN", "TOP", "levels_of", "png", "png_coloured", "sheet", "tiled"]

Array = NDArray[Any]
Levels = NDArray[np.uint8]
TOP, MIDDLE, BROKEN = 254, 127, 255


def tiled(maps: Array, side: int) -> NDArray[np.float32]:
    """Maps (units, height, width) in at most ``side`` places across and down: means over blocks of equal size.

    The last block of a row may be smaller. What is small enough stays as it is.
    """
    found = np.asarray(maps, np.float32)
    for axis in (1, 2):
        size = found.shape[axis]
        block = -(-size // side)
        if block > 1:
            starts = np.arange(0, size, block)
            counts = np.diff([*starts, size]).astype(np.float32)
            shape = [1, 1, 1]
            shape[axis] = counts.size
            found = np.asarray(np.add.reduceat(found, starts, axis=axis) / counts.reshape(shape), np.float32)
    return found


def levels_of(tiles: Array, most: Array | float | None = None, *, signed: bool) -> Levels:
    """Values as levels of a palette: 0 at 0 (at -most, where ``signed``), 254 at ``most``; 255 is not finite.

    ``most``: one number, or one for each unit (units,); by default the largest magnitude of each.
    """
    finite = np.isfinite(tiles)
    values = np.where(finite, tiles, 0)
    axes = tuple(range(1, values.ndim))
    limit = np.abs(values).max(axes, initial=0) if most is None else np.broadcast_to(most, values.shape[:1])
    limit = np.where(limit > 0, limit, 1).reshape(-1, *[1] * len(axes))
    share = values / limit
    shown = MIDDLE + MIDDLE * share if signed else TOP * share
    levels = np.clip(np.rint(shown), 0, TOP).astype(np.uint8)
    levels[~finite] = BROKEN
    return levels


def sheet(levels: Levels, columns: int) -> Levels:
    """Tiles (units, height, width) in rows of ``columns``, without gaps; places without a unit are level 0."""
    units, height, width = levels.shape
    rows = -(-units // columns)
    whole = np.zeros((rows * columns, height, width), np.uint8)
    whole[:units] = levels
    return whole.reshape(rows, columns, height, width).swapaxes(1, 2).reshape(rows * height, columns * width)


def png(levels: Levels, palette: Sequence[tuple[int, int, int]]) -> bytes:
    """A picture of levels as a PNG file. ``palette``: red, green and blue of each level, up to 256 of them."""
    image = _pillow()
    picture = image.frombytes("P", levels.shape[::-1], np.ascontiguousarray(levels).tobytes())
    picture.putpalette([part for colour in palette for part in colour])
    return _written(picture)


def png_coloured(pixels: Levels) -> bytes:
    """Pixels (height, width, 3: red, green, blue) as a PNG file."""
    return _written(_pillow().fromarray(np.ascontiguousarray(pixels)))


def _pillow() -> Any:
    from PIL import Image  # noqa: PLC0415 - costs more than most commands take

    return Image


def _written(picture: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, format="PNG", compress_level=1)
    return file.getvalue()
