"""Holds a dataset against a model, once: columns under the model's input names, prepared as the model takes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from difflib import get_close_matches
from math import prod

import numpy as np

from onnxprune.data.dataset import Dataset
from onnxprune.data.images import Images, seen
from onnxprune.data.prepare import LAYOUTS, ORDERS, Prepared, Preprocess, Steps, fits, is_float, steps_for
from onnxprune.data.rows import Rows, kind
from onnxprune.errors import DataError
from onnxprune.runtime import TensorInfo

__all__ = ["fit"]

ONLY_IMAGES = ("resize", "crop", "color")


def fit(dataset: Dataset, inputs: Sequence[TensorInfo]) -> Dataset:
    """The dataset with its columns under the model's input names, prepared, once they are known to fit.

    Preprocessing is that of ``dataset.prepare``, and for images what follows from the model's shape; floats are cast
    to the model's float type, integers to a wider one; nothing else is converted. Raises DataError for the first
    mismatch, with both shapes and types. A dataset that fits already stays as it is.
    """
    _check_recipes(dataset, inputs)
    columns = {info.name: _prepared(dataset, info, len(inputs)) for info in inputs}
    sizes: dict[str, tuple[int, str]] = {}
    for info in inputs:
        _check_type(dataset, info, columns[info.name])
        _check_shape(dataset, info, columns[info.name], sizes)
    fixed = {info.shape[0] for info in inputs if info.shape and isinstance(info.shape[0], int)}
    if len(fixed) > 1:
        raise DataError(
            f"The model's inputs have different fixed sizes on axis 0: {sorted(fixed)}",
            "Samples are expected along axis 0 of every input: give axis 0 one size when exporting the model.",
        )
    cast = {info.name: _cast(columns[info.name], np.dtype(info.dtype)) for info in inputs}
    return replace(dataset, inputs=cast, prepare={}, fixed=next(iter(fixed), None))


def _prepared(dataset: Dataset, info: TensorInfo, count: int) -> Rows:
    key, rows = _column(dataset, info, count)
    recipe = next((dataset.prepare[k] for k in (info.name, key, "") if k in dataset.prepare), Preprocess())
    where = f"{dataset.name}: `{key}`"
    if isinstance(rows, Images):
        if recipe.layout:
            raise DataError(f"{where}: layout = {recipe.layout!r}, but images in files have none", SAY_MODEL_LAYOUT)
        rows, recipe = seen(rows, recipe, info)
    else:
        for name in ONLY_IMAGES:
            if getattr(recipe, name):
                raise DataError(f"{where}: {name} is for images in files, this is an array", "Leave it out.")
    steps = steps_for(recipe, rows, info, where)
    return rows if steps.idle else Prepared(rows, steps)


SAY_MODEL_LAYOUT = "Leave it out; model_layout says what the model takes, where its shape does not tell."


def _column(dataset: Dataset, info: TensorInfo, count: int) -> tuple[str, Rows]:
    """The column for an input: of its name, or the one called x where the model has a single input."""
    for key in (info.name, "x") if count == 1 else (info.name,):
        if key in dataset.inputs:
            return key, dataset.inputs[key]
    held = ", ".join(f"`{key}` {kind(rows)}" for key, rows in dataset.inputs.items())
    raise DataError(
        f"{dataset.name}: nothing for the model's input `{info.name}`, {_wanted(info)}; it holds {held}",
        "Name each array after the model's input" + (", or call the only one `x`." if count == 1 else "."),
    )


def _check_recipes(dataset: Dataset, inputs: Sequence[TensorInfo]) -> None:
    known = [*dataset.inputs, *(info.name for info in inputs)]
    for name in dataset.prepare:
        if name and name not in known:
            near = get_close_matches(name, known, 1) or known
            raise DataError(
                f"{dataset.name}: preprocessing for `{name}`, but neither the data nor the model has an input of that"
                " name",
                f"Nearest: {', '.join(near)}.",
            )


def _cast(rows: Rows, dtype: np.dtype[np.generic]) -> Rows:
    return rows if rows.dtype == dtype else Prepared(rows, Steps(dtype=dtype))


def _check_type(dataset: Dataset, info: TensorInfo, rows: Rows) -> None:
    have, want = rows.dtype, np.dtype(info.dtype)
    floats = is_float(have) and is_float(want)
    widened = have.kind in "iu" and want.kind in "iu" and np.can_cast(have, want, "safe")
    text = want == np.dtype(object) and have.kind in "USO"
    if have != want and not floats and not widened and not text:
        raise DataError(
            _mismatch(dataset, info, rows),
            f'Convert it: x.astype({want.name!r}), or put dtype = "{want.name}" into dataset.toml, with its scale.',
        )


def _check_shape(dataset: Dataset, info: TensorInfo, rows: Rows, sizes: dict[str, tuple[int, str]]) -> None:
    """Compare all axes but that of the samples; a symbolic size must be the same wherever its name stands."""
    want, have = info.shape, tuple(rows.shape)
    if not info.ranked:
        return
    if not want or not fits(have[1:], want[1:]):
        raise DataError(_mismatch(dataset, info, rows), _shape_hint(want, have))
    for symbol, size in zip(want[1:], have[1:], strict=True):
        if isinstance(symbol, str) and symbol:
            first = sizes.setdefault(symbol, (size, info.name))
            if first[0] != size:
                raise DataError(
                    f"{dataset.name}: dimension `{symbol}` is {first[0]} in `{first[1]}` and {size} in `{info.name}`",
                    "The model gives both one size.",
                )


def _shape_hint(want: Sequence[object], have: tuple[int, ...]) -> str:
    """What would make the samples fit, if that can be told from the two shapes."""
    target = tuple(want[1:])
    if len(want) == len(have) == 4:
        for layout, other in (LAYOUTS[::-1], LAYOUTS):
            turned = tuple(have[axis] for axis in ORDERS[layout, other][1:])
            if fits(turned, target):
                order = ORDERS[layout, other]
                return f'It looks like {layout}: add layout = "{layout}" to dataset.toml, or x.transpose{order}.'
    sizes = [size for size in target if isinstance(size, int)]
    if len(want) > 0 and len(sizes) == len(target) and prod(sizes) == prod(have[1:]):
        listed = ", ".join(map(str, sizes))
        return f"Reshape it: x.reshape(-1, {listed}), or put reshape = [{listed}] into dataset.toml."
    if len(have) == len(want) + 1 and fits(have[2:], target):
        return "It looks like batches: along axis 0 there must be single samples."
    if len(want) == len(have) == 4:
        for axis, size in ((1, target[0]), (3, target[2])):
            if size in (1, 3, 4) and have[axis] in (1, 3, 4) and have[axis] != size:
                return f"It has {have[axis]} channels, the model takes {size}."
    return "Axis 0 counts the samples; the rest must agree."


def _mismatch(dataset: Dataset, info: TensorInfo, rows: Rows) -> str:
    key = info.name if info.name in dataset.inputs else "x"
    stored = dataset.inputs[key]
    after = (
        "" if (stored.dtype, stored.shape) == (rows.dtype, rows.shape) else f" ({kind(stored)} before preprocessing)"
    )
    return f"{dataset.name}: `{key}` is {kind(rows)}{after}, the model's input `{info.name}` takes {_wanted(info)}"


def _wanted(info: TensorInfo) -> str:
    sizes = ", ".join("?" if size is None else str(size) for size in info.shape)
    return f"{np.dtype(info.dtype).name} ({sizes}{',' if len(info.shape) == 1 else ''})"
