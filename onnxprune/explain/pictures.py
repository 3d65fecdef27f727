"""Arrays as pixels, and many small pictures as one: rows of a grid, written as PNG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune._atomic import replacing
from onnxprune.errors import ModelSaveError, OptionError

__all__ = ["WAYS", "grid", "pixels", "save_png"]

Array = NDArray[Any]
Pixels = NDArray[np.uint8]
WAYS = ("signed", "range", "positive")
GAP = 2  # pixels between pictures
PAPER = 255
SMALLEST = 64  # pixels: smaller pictures are drawn larger, each value as a square
MIDDLE = 127.5


def pixels(values: Array, way: str = "signed") -> Pixels:
    """(..., height, width, 1 or 3) as 0 to 255, each picture on its own.

    ``way``: "signed" keeps 0 in the middle (gradients), "range" goes from the lowest to the highest value, "positive"
    from 0 to the highest (feature maps behind a rectifier). A picture without differences becomes even grey.
    """
    if way not in WAYS:
        raise OptionError(f"way: got {way!r}, expected one of {', '.join(WAYS)}", "Choose one of them.")
    axes = (-3, -2, -1)
    data = np.nan_to_num(values.astype(np.float64))
    if way == "signed":
        most = np.abs(data).max(axes, keepdims=True)
        shown = MIDDLE + MIDDLE * data / np.where(most > 0, most, 1)
    else:
        low = data.min(axes, keepdims=True) if way == "range" else np.zeros_like(data.min(axes, keepdims=True))
        spread = data.max(axes, keepdims=True) - low
        shown = np.where(spread > 0, 2 * MIDDLE * (data - low) / np.where(spread > 0, spread, 1), 0 * data)
    return np.asarray(np.clip(np.rint(shown), 0, PAPER), np.uint8)


def grid(rows: Sequence[Sequence[Pixels]]) -> Pixels:
    """Pictures (height, width, 1 or 3) in rows and columns as one: (height, width, 3).

    Each is drawn in the size of the largest, by repeating pixels. Raises OptionError where there is no picture.
    """
    shown = [picture for row in rows for picture in row]
    if not shown:
        raise OptionError("there is no picture to draw", "Choose at least one unit and one instance.")
    height = max(SMALLEST, *(picture.shape[0] for picture in shown))
    width = max(SMALLEST, *(picture.shape[1] for picture in shown))
    columns = max(len(row) for row in rows)
    sheet = np.full((len(rows) * (height + GAP) + GAP, columns * (width + GAP) + GAP, 3), PAPER, np.uint8)
    for i, row in enumerate(rows):
        for j, picture in enumerate(row):
            top, left = GAP + i * (height + GAP), GAP + j * (width + GAP)
            sheet[top : top + height, left : left + width] = _sized(picture, height, width)
    return sheet


def _sized(picture: Pixels, height: int, width: int) -> Pixels:
    """Nearest neighbour, so that each value stays one even square."""
    down = np.arange(height) * picture.shape[0] // height
    across = np.arange(width) * picture.shape[1] // width
    return np.broadcast_to(picture[down][:, across], (height, width, 3))


def save_png(sheet: Pixels, path: Path) -> None:
    """Write pixels (height, width, 3). Raises ModelSaveError, which names the file."""
    from PIL import Image  # noqa: PLC0415 - costs more than most commands take

    try:
        with replacing(path) as file:
            Image.fromarray(sheet).save(file, format="PNG")
    except OSError as error:
        raise ModelSaveError(
            f"{path} cannot be written: {error.strerror or error}", "Check the free space and the permissions."
        ) from error
