"""Arrays of a model as the pictures that they belong to: height, width and colours last, preprocessing undone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.data import Dataset
from onnxprune.data.images import Images
from onnxprune.data.prepare import ORDERS, Prepared, Steps, model_layout
from onnxprune.data.rows import Rows, Taken
from onnxprune.explain.instances import fitted
from onnxprune.model import Model
from onnxprune.runtime import model_inputs

__all__ = ["input_pictures", "is_pictures", "to_pictures"]

Array = NDArray[Any]
WHITE = 255.0
PICTURE = 3  # axes of a picture: height, width, channels
SHOWN = (1, 3)  # channels that can be shown: grey, and red, green and blue


def is_pictures(model: Model, name: str) -> bool:
    """Whether an input takes pictures: samples of three axes."""
    return any(info.name == name and info.ranked and len(info.shape) == PICTURE + 1 for info in model_inputs(model))


def to_pictures(model: Model, name: str, values: Array) -> Array:
    """Values of an input, samples along any number of first axes, as (..., height, width, channels).

    Channels are 1 or 3: of four colours the last goes, of any other number the mean is taken.
    """
    info = next(info for info in model_inputs(model) if info.name == name)
    if model_layout(info) == "NCHW":
        values = np.moveaxis(values, -PICTURE, -1)
    channels = values.shape[-1]
    if channels == SHOWN[1] + 1:
        return values[..., : SHOWN[1]]
    return values if channels in SHOWN else values.mean(-1, keepdims=True)


def input_pictures(
    model: Model, data: Dataset | Mapping[str, Array], rows: Sequence[int], name: str
) -> NDArray[np.uint8]:
    """Instances as one would see them: (instances, height, width, 1 or 3), 0 to 255.

    Steps of preprocessing that the dataset knows are undone; values that are still none of an image are stretched
    from the lowest to the highest of each instance.
    """
    column = fitted(model, data, rows).inputs[name]
    values, blue_first = _undone(column, np.asarray(column[:]))
    pictures = values if _turned(column) else to_pictures(model, name, values)
    if pictures.shape[-1] not in SHOWN:
        pictures = pictures[..., :3] if pictures.shape[-1] == SHOWN[1] + 1 else pictures.mean(-1, keepdims=True)
    return _stretched(pictures[..., ::-1] if blue_first else pictures)


def _undone(rows: Rows, values: Array) -> tuple[Array, bool]:
    """The values before any step, and whether their colours are blue, green, red."""
    if isinstance(rows, Prepared):
        return _undone(rows.rows, _inverse(rows.steps, values, rows.rows.shape[1:]))
    if isinstance(rows, Taken):
        return _undone(rows.rows, values)
    return values, isinstance(rows, Images) and rows.look.color == "bgr"


def _inverse(steps: Steps, values: Array, sample: tuple[int, ...]) -> Array:
    values = values.astype(np.float64)
    if steps.std is not None:
        values = values * steps.std
    if steps.mean is not None:
        values = values + steps.mean
    if steps.scale:
        values = values / steps.scale
    if steps.order is not None:
        values = values.transpose(np.argsort(steps.order))
    return values.reshape(len(values), *sample) if steps.sample is not None else values


def _turned(rows: Rows) -> bool:
    """Whether undoing the steps has put the channels last already."""
    if isinstance(rows, Prepared):
        return rows.steps.order == ORDERS["NHWC", "NCHW"] or _turned(rows.rows)
    return isinstance(rows, Images) or (isinstance(rows, Taken) and _turned(rows.rows))


def _stretched(values: Array) -> NDArray[np.uint8]:
    """To 0..255: from 0..1 or 0..255 as they are, anything else from the lowest to the highest of each picture."""
    low, high = float(values.min()), float(values.max())
    slack = 1e-3
    if low < -slack or high > WHITE * (1 + slack):
        axes = tuple(range(1, values.ndim))
        lows, highs = values.min(axes, keepdims=True), values.max(axes, keepdims=True)
        values = (values - lows) / np.where(highs > lows, highs - lows, 1)
        high = 1.0
    scale = WHITE if high <= 1 + slack else 1.0
    return np.asarray(np.clip(np.rint(values * scale), 0, WHITE), np.uint8)
