"""Datasets: one array per model input, samples along axis 0, with or without labels, read in batches.

A dataset comes from a ``.npz`` file, a pair of ``.npy`` files (memory-mapped) or arrays. In a ``.npz`` the samples are
called ``x`` (or, one array for each, after the model's inputs) and the labels ``y``; with splits ``x_train``,
``y_train``, ``x_test`` ...; ``class_names`` is optional. :func:`fit` holds it against a model once.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.errors import DataError
from onnxprune.runtime import TensorInfo

__all__ = ["SPLITS", "Batch", "Dataset", "Source", "batches", "fit", "open_dataset"]

Array = NDArray[Any]
SPLITS = ("test", "val", "valid", "validation", "dev", "train")  # the first that is there is the default
NAMES = "class_names"
LAYOUT = "A dataset has `x` and `y`, or `x_train`, `y_train`, `x_test`, `y_test`, or the model's input names."


@dataclass(frozen=True, eq=False)
class Batch:
    """Some samples: ``feeds`` by model input, ``labels`` of the first ``count`` rows; rows after those are padding."""

    feeds: Mapping[str, Array]
    labels: Array | None
    count: int


@dataclass(frozen=True, eq=False)
class Dataset:
    """``inputs``: name -> (samples, ...); ``labels``: (samples, ...) or None; ``name`` is for messages.

    Raises DataError when there are no samples, or when the arrays do not have equally many.
    """

    inputs: Mapping[str, Array]
    labels: Array | None = None
    class_names: tuple[str, ...] = ()
    name: str = "the dataset"
    dtypes: Mapping[str, np.dtype[Any]] = field(default_factory=dict)  # what batches are cast to, by input
    fixed: int | None = None  # the batch size that the model insists on

    def __post_init__(self) -> None:
        if not self.inputs:
            raise DataError(f"{self.name}: no samples in it", LAYOUT)
        counts = {key: _count(self.name, key, array) for key, array in self.inputs.items()}
        if self.labels is not None:
            counts["y"] = _count(self.name, "y", self.labels)
        if len(set(counts.values())) > 1:
            raise DataError(
                f"{self.name}: the arrays have different numbers of samples: {_pairs(counts)}",
                "Axis 0 counts the samples and must be equally long in all of them.",
            )
        if 0 in counts.values():
            raise DataError(f"{self.name}: it holds 0 samples", "Axis 0 counts the samples.")

    def __len__(self) -> int:
        return int(next(iter(self.inputs.values())).shape[0])


Source = Dataset | str | Path | Array | tuple[Array, Array] | Mapping[str, Array]


def open_dataset(source: Source, split: str | None = None) -> Dataset:
    """Make a dataset of a file (``.npz``, or ``x.npy`` with ``y.npy`` beside it), of arrays or of a mapping.

    ``split``: which part of a dataset with splits; by default the whole, or else the test part.
    Raises DataError for what cannot be read and for a split that is not there.
    """
    if isinstance(source, Dataset):
        return source
    if isinstance(source, str | Path):
        return _open_file(Path(source), split)
    if isinstance(source, Mapping):
        return _pick(source, split, "the dataset")
    x, y = source if isinstance(source, tuple) else (source, None)
    return Dataset({"x": np.asarray(x)}, None if y is None else np.asarray(y))


def fit(dataset: Dataset, inputs: Sequence[TensorInfo]) -> Dataset:
    """The dataset with its arrays under the model's input names, once they are known to fit.

    Floats are cast to the model's float type, integers to a wider one; nothing else is converted.
    Raises DataError for the first mismatch, with both shapes and types.
    """
    arrays = {info.name: _array_for(dataset, info, len(inputs)) for info in inputs}
    sizes: dict[str, tuple[int, str]] = {}
    for info in inputs:
        _check_type(dataset, info, arrays[info.name])
        _check_shape(dataset, info, arrays[info.name], sizes)
    fixed = {info.shape[0] for info in inputs if info.shape and isinstance(info.shape[0], int)}
    if len(fixed) > 1:
        raise DataError(
            f"The model's inputs have different fixed sizes on axis 0: {sorted(fixed)}",
            "Samples are expected along axis 0 of every input: give axis 0 one size when exporting the model.",
        )
    dtypes = {info.name: np.dtype(info.dtype) for info in inputs}
    return replace(dataset, inputs=arrays, dtypes=dtypes, fixed=next(iter(fixed), None))


def batches(dataset: Dataset, size: int = 64, limit: int | None = None) -> Iterator[Batch]:
    """Samples in their order, ``size`` at a time, at most ``limit`` of them.

    A model with a fixed batch gets that many, the last batch filled up with copies of its last sample.
    """
    size = dataset.fixed or size
    total = len(dataset) if limit is None else min(limit, len(dataset))
    for start in range(0, total, size):
        rows = slice(start, min(start + size, total))
        count = rows.stop - rows.start
        missing = size - count if dataset.fixed else 0
        feeds = {name: _rows(array, rows, missing, dataset.dtypes.get(name)) for name, array in dataset.inputs.items()}
        labels = None if dataset.labels is None else np.asarray(dataset.labels[rows])
        yield Batch(feeds, labels, count)


def _rows(array: Array, rows: slice, missing: int, dtype: np.dtype[Any] | None) -> Array:
    part = np.asarray(array[rows], dtype, order="C")
    return np.concatenate([part, np.repeat(part[-1:], missing, axis=0)]) if missing else part


def _count(name: str, key: str, array: Array) -> int:
    if array.ndim == 0:
        raise DataError(f"{name}: `{key}` is a single value, {_kind(array)}", "Axis 0 counts the samples.")
    return int(array.shape[0])


def _open_file(path: Path, split: str | None) -> Dataset:
    if not path.exists():
        near = get_close_matches(path.name, [p.name for p in path.parent.glob("*.np[yz]")])
        raise DataError(f"{path}: there is no such file", f"Nearest: {', '.join(near)}." if near else LAYOUT)
    if path.suffix.lower() not in (".npz", ".npy") or not path.is_file():
        raise DataError(f"{path}: not a .npz or .npy file", "numpy.savez writes a .npz file. " + LAYOUT)
    try:
        return _open_npy(path, split) if path.suffix.lower() == ".npy" else _open_npz(path, split)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        reason = getattr(error, "strerror", None) or str(error).partition("\n")[0]
        raise DataError(
            f"{path}: cannot be read as {path.suffix[1:]}: {reason}",
            "Write it with numpy.savez or numpy.save; arrays of Python objects need another type first.",
        ) from error


def _open_npz(path: Path, split: str | None) -> Dataset:
    with path.open("rb") as file:
        loaded = np.load(file, allow_pickle=False)
        if not isinstance(loaded, np.lib.npyio.NpzFile):
            raise DataError(f"{path}: holds one array, not an archive of arrays", "Write it with numpy.savez.")
        return _pick(loaded, split, path.name)


def _open_npy(path: Path, split: str | None) -> Dataset:
    if split is not None:
        raise DataError(f"{path}: a pair of .npy files has no splits", "Leave the split out.")
    partner = path.with_name(f"y{path.name[1:]}")
    paired = path.name.startswith("x") and partner.is_file()
    x = np.load(path, mmap_mode="r", allow_pickle=False)
    y = np.load(partner, mmap_mode="r", allow_pickle=False) if paired else None
    return Dataset({"x": x}, y, name=path.name)


def _pick(arrays: Mapping[str, Array], split: str | None, name: str) -> Dataset:
    """The arrays of one split, read from the archive only now."""
    there = [s for s in SPLITS if any(key.endswith(f"_{s}") for key in arrays)]
    whole = [key for key in arrays if key != NAMES and not any(key.endswith(f"_{s}") for s in there)]
    if split is not None and split not in there:
        raise DataError(
            f"{name}: there is no split {split!r}; it holds {', '.join(arrays) or 'nothing'}",
            f"Splits there: {', '.join(there)}." if there else "It has no splits: leave the split out.",
        )
    if split is None and there and not any(key != "y" for key in whole):
        split = there[0]
    suffix = f"_{split}" if split else ""
    keys = [key for key in arrays if key.endswith(suffix)] if split else whole
    chosen = {key.removesuffix(suffix): np.asarray(arrays[key]) for key in keys}
    labels = chosen.pop("y", None)
    names = tuple(str(n) for n in np.asarray(arrays[NAMES]).reshape(-1)) if NAMES in arrays else ()
    return Dataset(chosen, labels, names, f"{name} ({split})" if split else name)


def _array_for(dataset: Dataset, info: TensorInfo, count: int) -> Array:
    found = dataset.inputs.get(info.name)
    if found is None and count == 1:
        found = dataset.inputs.get("x")
    if found is None:
        held = ", ".join(f"`{key}` {_kind(array)}" for key, array in dataset.inputs.items())
        raise DataError(
            f"{dataset.name}: nothing for the model's input `{info.name}`, {_wanted(info)}; it holds {held}",
            "Name each array after the model's input" + (", or call the only one `x`." if count == 1 else "."),
        )
    return found


def _check_type(dataset: Dataset, info: TensorInfo, array: Array) -> None:
    have, want = array.dtype, np.dtype(info.dtype)
    floats = _is_float(have) and _is_float(want)
    widened = have.kind in "iu" and want.kind in "iu" and np.can_cast(have, want, "safe")
    text = want == np.dtype(object) and have.kind in "USO"
    if have != want and not floats and not widened and not text:
        raise DataError(_mismatch(dataset, info, array), f"Convert it: x.astype({want.name!r}).")


def _is_float(dtype: np.dtype[Any]) -> bool:
    """Whether this is a floating-point type; bfloat16 and float8 are of kind V in NumPy's eyes."""
    return dtype.kind == "f" or dtype.name.startswith(("bfloat", "float"))


def _check_shape(dataset: Dataset, info: TensorInfo, array: Array, sizes: dict[str, tuple[int, str]]) -> None:
    """Compare all axes but that of the samples; a symbolic size must be the same wherever its name stands."""
    want, have = info.shape, array.shape
    if not info.ranked:
        return
    fits = len(want) == len(have) and all(
        not isinstance(w, int) or w == h for w, h in zip(want[1:], have[1:], strict=True)
    )
    if not fits:
        fixed = want[1:]
        same = len(want) > 0 and all(isinstance(w, int) for w in fixed)
        same = same and np.prod([w for w in fixed if isinstance(w, int)]) == np.prod(have[1:])
        target = ", ".join(str(w) for w in fixed)
        hint = f"Reshape it: x.reshape(-1, {target})." if same else "Axis 0 counts the samples; the rest must agree."
        raise DataError(_mismatch(dataset, info, array), hint)
    for symbol, size in zip(want[1:], have[1:], strict=True):
        if isinstance(symbol, str) and symbol:
            first = sizes.setdefault(symbol, (size, info.name))
            if first[0] != size:
                raise DataError(
                    f"{dataset.name}: dimension `{symbol}` is {first[0]} in `{first[1]}` and {size} in `{info.name}`",
                    "The model gives both one size.",
                )


def _mismatch(dataset: Dataset, info: TensorInfo, array: Array) -> str:
    key = info.name if info.name in dataset.inputs else "x"
    return f"{dataset.name}: `{key}` is {_kind(array)}, the model's input `{info.name}` takes {_wanted(info)}"


def _kind(array: Array) -> str:
    return f"{array.dtype.name} {array.shape}"


def _wanted(info: TensorInfo) -> str:
    sizes = ", ".join("?" if size is None else str(size) for size in info.shape)
    return f"{np.dtype(info.dtype).name} ({sizes}{',' if len(info.shape) == 1 else ''})"


def _pairs(counts: Mapping[str, int]) -> str:
    return ", ".join(f"`{key}` {count}" for key, count in counts.items())
