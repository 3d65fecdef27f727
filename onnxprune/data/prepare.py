"""From what is stored to what the model takes: y = (x * scale - mean) / std, with shape, layout and type set right.

The steps, each left out where nothing asks for it: ``reshape`` of each sample; transposition from the layout that is
stored to the model's; scale, mean and std (of all values, or one for each channel), in float32 or wider; the cast to
``dtype``, and to the model's own type in the end. They are applied to the rows that are read, never to a whole array.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from onnxprune.data.rows import Array, Ints, Lazy, Rows, source_rows
from onnxprune.errors import DataError
from onnxprune.runtime import TensorInfo

__all__ = [
    "COLORS",
    "LAYOUTS",
    "MODES",
    "ORDERS",
    "Look",
    "Prepared",
    "Preprocess",
    "Steps",
    "fits",
    "is_float",
    "model_layout",
    "steps_for",
]

LAYOUTS = ("NCHW", "NHWC")
MODES = ("stretch", "crop")
COLORS = ("grey", "rgb", "bgr", "rgba")
# How to get from one layout to the other.
ORDERS = {("NHWC", "NCHW"): (0, 3, 1, 2), ("NCHW", "NHWC"): (0, 2, 3, 1)}
CHANNEL_AXIS = {"NCHW": 1, "NHWC": -1}


@dataclass(frozen=True)
class Preprocess:
    """What ``dataset.toml`` says of one input; empty or None is left out, or follows from the model.

    ``scale``, then ``mean`` and ``std`` (one value, or one for each channel): y = (x * scale - mean) / std.
    ``reshape``: the shape of one sample. ``layout``: how the samples are stored, "NCHW" or "NHWC"; ``model_layout``:
    what the model takes, where its shape does not tell. ``dtype``: what values are cast to. For images alone:
    ``resize`` (height, width) by ``resize_mode`` "stretch" or "crop" (cover, then cut the centre), after that
    ``crop``, the centre of this size; ``color``: "grey", "rgb", "bgr" or "rgba".
    """

    scale: float | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    reshape: tuple[int, ...] | None = None
    layout: str = ""
    model_layout: str = ""
    dtype: str = ""
    resize: tuple[int, int] | None = None
    resize_mode: str = "stretch"
    crop: tuple[int, int] | None = None
    color: str = ""


@dataclass(frozen=True)
class Look:
    """What images are brought to: colour, then size by ``mode``, then the centre of ``crop``; None leaves them."""

    color: str = ""
    size: tuple[int, int] | None = None
    mode: str = "stretch"
    crop: tuple[int, int] | None = None


@dataclass(frozen=True, eq=False)
class Steps:
    """What is done to a block of rows, in this order; ``mean`` and ``std`` have a shape that broadcasts."""

    sample: tuple[int, ...] | None = None
    order: tuple[int, ...] | None = None
    scale: float | None = None
    mean: Array | None = None
    std: Array | None = None
    dtype: np.dtype[Any] | None = None

    @property
    def idle(self) -> bool:
        return all(value is None for value in (self.sample, self.order, self.scale, self.mean, self.std, self.dtype))

    def __call__(self, block: Array) -> Array:
        if self.sample is not None:
            block = block.reshape(len(block), *self.sample)
        if self.order is not None:
            block = block.transpose(self.order)
        if self.scale is not None or self.mean is not None or self.std is not None:
            block = block.astype(np.result_type(block.dtype, np.float32), order="C")
            if self.scale is not None:
                block *= self.scale
            if self.mean is not None:
                block -= self.mean.astype(block.dtype)
            if self.std is not None:
                block /= self.std.astype(block.dtype)
        return block if self.dtype is None else block.astype(self.dtype, order="C", copy=False)


class Prepared(Lazy):
    """A column whose rows go through some steps when they are read."""

    def __init__(self, rows: Rows, steps: Steps) -> None:
        made = steps(np.empty((0, *rows.shape[1:]), rows.dtype))
        super().__init__((rows.shape[0], *made.shape[1:]), made.dtype)
        self.rows, self.steps = rows, steps

    def read(self, start: int, stop: int) -> Array:
        return self.steps(np.asarray(self.rows[start:stop]))

    def take(self, index: Ints) -> Array:
        return self.steps(np.asarray(self.rows[index]))

    def source_rows(self, index: Ints) -> Ints:
        return source_rows(self.rows, index)


def steps_for(recipe: Preprocess, rows: Rows, info: TensorInfo, where: str) -> Steps:
    """The steps for a column and the model's input that it is for; ``where`` begins each message.

    Raises DataError where a shape, a layout or a number of channels does not go with the rows.
    """
    sample = tuple(rows.shape[1:])
    if recipe.reshape is not None:
        if prod(recipe.reshape) != prod(sample):
            raise DataError(
                f"{where}: reshape = {list(recipe.reshape)} has {prod(recipe.reshape)} values, a sample {sample} has"
                f" {prod(sample)}",
                "The shape of one sample is meant, without the axis of the samples.",
            )
        sample = recipe.reshape
    order, layout = _order(recipe, sample, info, where)
    shape = sample if order is None else tuple(sample[axis - 1] for axis in order[1:])
    return Steps(
        None if sample == tuple(rows.shape[1:]) else sample,
        order,
        recipe.scale,
        _constant("mean", recipe.mean, shape, layout, where),
        _constant("std", recipe.std, shape, layout, where),
        np.dtype(recipe.dtype) if recipe.dtype else None,
    )


def _order(
    recipe: Preprocess, sample: tuple[int, ...], info: TensorInfo, where: str
) -> tuple[tuple[int, ...] | None, str]:
    """The transposition to the model's layout (None for none), and the layout after it ("" where nobody said)."""
    if not recipe.layout:
        return None, recipe.model_layout
    if len(sample) != 3:
        raise DataError(
            f"{where}: layout = {recipe.layout!r}, but a sample has the shape {sample}",
            "A layout is for samples of three axes; reshape = [height, width, channels] makes them so.",
        )
    target = recipe.model_layout or _model_layout(recipe.layout, sample, info)
    return ORDERS.get((recipe.layout, target)), target


def _model_layout(stored: str, sample: tuple[int, ...], info: TensorInfo) -> str:
    """The layout in which the samples fit the model; NCHW, ONNX's own, where both or none do."""
    for layout in LAYOUTS:
        order = ORDERS.get((stored, layout), (0, 1, 2, 3))
        if fits(tuple(sample[axis - 1] for axis in order[1:]), info.shape[1:]):
            return layout
    return LAYOUTS[0]


def fits(sample: tuple[int, ...], wanted: tuple[Any, ...]) -> bool:
    """Whether a sample has the sizes that a model asks for; a symbol asks for none."""
    return len(sample) == len(wanted) and all(
        not isinstance(want, int) or want == have for want, have in zip(wanted, sample, strict=True)
    )


def _constant(name: str, values: tuple[float, ...], sample: tuple[int, ...], layout: str, where: str) -> Array | None:
    """One value for all, or one for each channel: along the layout's axis, else along the one of this length."""
    if not values:
        return None
    array = np.array(values, np.float64)
    if len(values) == 1:
        return array.reshape(())
    shape = (0, *sample)
    likely = (1, -1) if len(sample) > 2 else (-1, 1)
    for axis in (CHANNEL_AXIS[layout],) if layout else likely:
        if sample and shape[axis] == len(values):
            return array.reshape([len(values) if k == axis % len(shape) else 1 for k in range(len(shape))])
    raise DataError(
        f"{where}: {name} has {len(values)} values, but no channel axis of a sample {sample} is that long",
        "Give one value, or one for each channel"
        + (f"; the layout is {layout}." if layout else "; `layout` says where the channels are."),
    )


def is_float(dtype: np.dtype[Any]) -> bool:
    """Whether this is a floating-point type; bfloat16 and float8 are of kind V in NumPy's eyes."""
    return dtype.kind == "f" or dtype.name.startswith(("bfloat", "float"))


def model_layout(info: TensorInfo) -> str:
    """The layout of a model's image input by which axis is as long as colours are many; NCHW where that is open."""
    shape = info.shape
    if len(shape) == 4:
        for counts in ((1, 3), (4,)):  # four channels are rarer than images four pixels high
            for layout in LAYOUTS:
                if shape[CHANNEL_AXIS[layout]] in counts:
                    return layout
    return LAYOUTS[0]
