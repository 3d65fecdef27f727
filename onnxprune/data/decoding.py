"""One image file as an array, by way of Pillow, which is imported only where there are images.

The image is turned as its EXIF orientation says, brought to one colour, then to one size. 16-bit grey values keep
their upper byte. Resizing is bilinear with Pillow's support, which smooths where it makes smaller.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from onnxprune.data.prepare import Look
from onnxprune.data.rows import Array
from onnxprune.errors import DataError

__all__ = ["color_of", "decoded"]

MODES = {"grey": "L", "rgb": "RGB", "bgr": "RGB", "rgba": "RGBA"}  # Pillow's names
GREY = ("1", "L", "LA", "F")
BROKEN = (OSError, ValueError, SyntaxError, EOFError, IndexError, Image.DecompressionBombError)


def color_of(file: Path) -> str:
    """Whether an image is "grey" or "rgb". Raises DataError where the file is no image."""
    try:
        with Image.open(file) as image:
            return "grey" if image.mode in GREY or image.mode.startswith("I") else "rgb"
    except BROKEN as error:
        raise _corrupt(file, error) from error


def decoded(file: Path, look: Look) -> Array:
    """One image as uint8 (height, width, channels). Raises DataError where the file is none, or damaged."""
    try:
        with Image.open(file) as image:
            ImageOps.exif_transpose(image, in_place=True)
            array = np.asarray(_resized(_colored(image, MODES[look.color]), look))
    except BROKEN as error:
        raise _corrupt(file, error) from error
    array = array[..., np.newaxis] if array.ndim == 2 else array
    return array[..., ::-1] if look.color == "bgr" else array


def _colored(image: Image.Image, mode: str) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits, which Pillow would cut off at 255 instead of scaling
        values = np.asarray(image).astype(np.int64).clip(0, 65535)
        image = Image.fromarray((values >> 8).astype(np.uint8))
    elif image.mode == "P" and "transparency" in image.info:  # by way of RGBA, or Pillow warns
        image = image.convert("RGBA")
    return image if image.mode == mode else image.convert(mode)


def _resized(image: Image.Image, look: Look) -> Image.Image:
    if look.size is not None and (image.height, image.width) != look.size:
        height, width = look.size
        if look.mode == "crop":  # cover the size, the longer side rounded down, then cut the centre
            factor = max(height / image.height, width / image.width)
            cover = max(width, int(image.width * factor)), max(height, int(image.height * factor))
            image = _centre(image.resize(cover, Image.Resampling.BILINEAR), look.size)
        else:
            image = image.resize((width, height), Image.Resampling.BILINEAR)
    return image if look.crop is None else _centre(image, look.crop)


def _centre(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    height, width = size
    if height > image.height or width > image.width:
        raise ValueError(f"a centre of {height} x {width} cannot be cut out of {image.height} x {image.width}")
    top, left = round((image.height - height) / 2), round((image.width - width) / 2)
    return image.crop((left, top, left + width, top + height))


def _corrupt(file: Path, error: Exception) -> DataError:
    reason = str(error).replace(f" {str(file)!r}", " it")
    return DataError(f"{file}: cannot be decoded as an image: {reason}", "Replace the file, or take it out.")
