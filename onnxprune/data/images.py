"""Images in files as a column: decoded when their rows are read, never kept; uint8 (rows, height, width, channels)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np

from onnxprune.data.prepare import Look, Preprocess, is_float, model_layout
from onnxprune.data.rows import Array, Ints, Lazy
from onnxprune.errors import DataError
from onnxprune.runtime import TensorInfo

__all__ = ["SUFFIXES", "Images", "seen"]

SUFFIXES = frozenset(".bmp .gif .jpeg .jpg .pbm .pgm .png .ppm .tif .tiff .webp".split())
COLOR_OF = {1: "grey", 3: "rgb", 4: "rgba"}  # what a number of channels stands for
FEW = 4  # images for one thread
MOST = 8  # threads
SMALL = 1 << 13  # bytes: the decoding of smaller files is mostly Python, which threads only slow down


class Images(Lazy):
    """Image files, one sample each; without a size in ``look`` all must have that of the first."""

    def __init__(self, files: Sequence[Path], look: Look | None = None) -> None:
        self.files, self.look = tuple(files), look or Look()
        if not self.look.color:
            self.look = replace(self.look, color=_decoding().color_of(self.files[0]))
        first = _decoding().decoded(self.files[0], self.look)
        super().__init__((len(self.files), *first.shape), first.dtype)
        self.threads = min(MOST, os.cpu_count() or 1) if self.files[0].stat().st_size > SMALL else 1

    def read(self, start: int, stop: int) -> Array:
        return self.take(np.arange(start, stop))

    def take(self, index: Ints) -> Array:
        result = np.empty((len(index), *self.shape[1:]), self.dtype)
        threads = min(self.threads, -(-len(index) // FEW))
        if threads < 2:
            self._into(result, index)
        else:
            with ThreadPoolExecutor(threads) as pool:  # the list raises what went wrong
                list(pool.map(self._into, np.array_split(result, threads), np.array_split(index, threads)))
        return result

    def _into(self, rows: Array, index: Ints) -> None:
        for row, number in zip(rows, index, strict=True):
            image = _decoding().decoded(self.files[number], self.look)
            if image.shape != row.shape:
                sizes = [f"{h} x {w}" for h, w, _ in (image.shape, row.shape)]
                raise DataError(
                    f"{self.files[number]}: {sizes[0]} (height x width), but {self.files[0].name} is {sizes[1]}",
                    "Give all images one size: resize = [height, width] in dataset.toml.",
                )
            row[:] = image


def seen(images: Images, recipe: Preprocess, info: TensorInfo) -> tuple[Images, Preprocess]:
    """The images as a model's input takes them, and what is left to do with their values.

    What the recipe leaves open follows from the model: colour from the number of channels, size from height and width,
    scale 1/255 where it takes floats.
    """
    layout = recipe.model_layout or model_layout(info)
    channels, size = _asked(info, layout)
    flat = recipe.reshape is None and channels == 0  # the model has no axis for channels
    look = Look(
        recipe.color or ("grey" if flat else COLOR_OF.get(channels or -1, images.look.color)),
        recipe.resize or (size if recipe.crop is None else None),
        recipe.resize_mode,
        recipe.crop,
    )
    images = Images(images.files, look)
    reshape = images.shape[1:3] if flat and images.shape[3] == 1 else recipe.reshape
    scaled = recipe.scale is None and is_float(np.dtype(recipe.dtype or info.dtype))
    recipe = replace(recipe, reshape=reshape, scale=1 / 255 if scaled else recipe.scale)
    if reshape is None:
        return images, replace(recipe, layout="NHWC", model_layout=layout)
    return images, replace(recipe, model_layout="")


def _asked(info: TensorInfo, layout: str) -> tuple[int | None, tuple[int, int] | None]:
    """Channels (0 where the model has no axis for them) and (height, width) of a model's input; None for open ones."""
    shape = info.shape if info.ranked else ()
    if len(shape) == 4:
        channels, height, width = (shape[k] for k in ((1, 2, 3) if layout == "NCHW" else (3, 1, 2)))
    elif len(shape) == 3:
        channels, height, width = 0, *shape[1:]
    else:
        return None, None
    size = (height, width) if isinstance(height, int) and isinstance(width, int) else None
    return (channels if isinstance(channels, int) else None), size


def _decoding() -> ModuleType:
    """The file that needs Pillow, whose import costs more than most commands take."""
    from onnxprune.data import decoding  # noqa: PLC0415 - see above

    return decoding
