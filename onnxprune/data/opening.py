"""Makes datasets of files, folders, arrays and Python sources; docs/datasets.md lists them all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np

from onnxprune.data.archive import Arrays, npy, npz
from onnxprune.data.dataset import LAYOUT, Dataset
from onnxprune.data.folders import folder
from onnxprune.data.rows import Array, Rows, reading
from onnxprune.data.samples import PAD, columns
from onnxprune.data.settings import Settings, read_settings
from onnxprune.errors import DataError

__all__ = ["SPLITS", "Source", "open_calibration", "open_dataset", "splits_of"]

SPLITS = ("test", "val", "valid", "validation", "dev", "train")  # the first that is there is the default
NAMES = "class_names"
Columns = Mapping[str, Rows] | Mapping[str, Array]
Source = (
    Dataset
    | str
    | Path
    | Array
    | tuple[Array | Columns, Array | None]
    | Columns
    | Iterable[Any]
    | Callable[[], Iterable[Any]]
)


def open_dataset(source: Source, split: str | None = None) -> Dataset:
    """Make a dataset; arrays are not loaded, images not decoded and generators not kept: batches read what they need.

    ``source``: a ``.npz`` or ``.npy`` file, a folder of ``.npy`` files or of images, an array, (inputs, labels), a
    mapping of arrays, a list or another iterable of samples (inputs, label), or a function that makes one.
    ``split``: which part of a dataset with splits; by default the whole, or else the test part; for calibration ask
    for "train". Raises DataError for what cannot be read and for a split that is not there.
    """
    if isinstance(source, Dataset):
        return source
    if isinstance(source, str | Path):
        path = Path(source)
        with reading(path, errors=(OSError,)):
            settings = read_settings(path)
            arrays, own = _contents(path, settings)
            return _pick(arrays, split or own, settings, path.name or str(path))
    if isinstance(source, Mapping):
        return _pick(_as_rows(source), split, Settings(), "the dataset")
    if split is not None:
        raise DataError(f"the dataset: there is no split {split!r} in it", "It has no splits: leave the split out.")
    if isinstance(source, tuple):
        return _pair(source)
    if _is_array(source):
        return Dataset({"x": _rows(source, "x")})
    return _of_samples(source)


def open_calibration(source: Source, limit: int | None = None, seed: int = 0) -> Dataset:
    """The train part of a source where it has one, else what :func:`open_dataset` gives; ``limit`` samples of it.

    The samples are those of :meth:`Dataset.subset`. Raises as both do.
    """
    dataset = open_dataset(source, "train" if "train" in splits_of(source) else None)
    return dataset if limit is None else dataset.subset(limit, seed)


def splits_of(source: Source) -> tuple[str, ...]:
    """The splits that a source has, test first; () where it has none. Raises DataError for what cannot be read."""
    if isinstance(source, str | Path):
        path = Path(source)
        with reading(path, errors=(OSError,)):
            settings = read_settings(path)
            return tuple(_splits(_contents(path, settings)[0], settings))
    return tuple(_splits(source, Settings())) if isinstance(source, Mapping) else ()


def _contents(path: Path, settings: Settings) -> tuple[Arrays, str | None]:
    """All columns of a file or folder by name, and the split that the file's own name says."""
    if not path.exists():
        there = sorted(p.name for p in path.parent.glob("*") if p.is_dir() or p.suffix in (".npz", ".npy"))
        near = get_close_matches(path.name, there)
        raise DataError(f"{path}: there is no such file", f"Nearest: {', '.join(near)}." if near else LAYOUT)
    if path.is_dir():
        return folder(path, [*SPLITS, *_stored(settings).values()], settings.class_names), None
    if path.suffix.lower() == ".npz":
        return npz(path), None
    if path.suffix.lower() == ".npy":
        return _beside(path, settings)
    raise DataError(f"{path}: not a .npz or .npy file, nor a folder", "numpy.savez writes a .npz file. " + LAYOUT)


def _stored(settings: Settings) -> dict[str, str]:
    """Split -> what the data call it."""
    return {name: what for name, what in settings.splits.items() if isinstance(what, str)}


def _beside(path: Path, settings: Settings) -> tuple[Arrays, str | None]:
    """A ``.npy`` file, its labels (y for x), and the files of the other splits."""
    names = {**{name: name for name in SPLITS}, **_stored(settings)}
    own = next((name for name, what in names.items() if path.stem.endswith(f"_{what}")), None)
    base = path.stem.removesuffix(f"_{names[own]}") if own else path.stem
    labels = settings.labels + base[1:] if base.startswith("x") else settings.labels
    openers: dict[str, Callable[[], Rows]] = {}
    for suffix in dict.fromkeys(["", *(f"_{what}" for what in names.values())]):
        for key, stem in (("x", base), (settings.labels, labels)):
            file = path.with_name(f"{stem}{suffix}{path.suffix}")
            if file.is_file() and (key == "x" or base.startswith("x") or settings.labels != Settings.labels):
                openers[key + suffix] = _opener(file)
    return Arrays(openers), own


def _opener(file: Path) -> Callable[[], Rows]:
    return lambda: npy(file)


def _splits(arrays: Mapping[str, Any], settings: Settings) -> dict[str, str | tuple[int, int]]:
    """Split -> the suffix of its arrays, or its rows; in the order of SPLITS, then those of the settings."""
    known = {**{name: name for name in SPLITS}, **settings.splits}
    order = [*SPLITS, *(name for name in settings.splits if name not in SPLITS)]
    return {
        name: what
        for name in order
        if isinstance(what := known[name], tuple) or any(key.endswith(f"_{what}") for key in arrays)
    }


def _pick(arrays: Mapping[str, Rows], split: str | None, settings: Settings, name: str) -> Dataset:
    """The columns of one split, opened only now."""
    there = _splits(arrays, settings)
    suffixes = tuple(f"_{what}" for what in there.values() if isinstance(what, str))
    whole = [key for key in arrays if key != NAMES and not key.endswith(suffixes)]
    if split is not None and split not in there:
        raise DataError(
            f"{name}: there is no split {split!r}; it holds {', '.join(arrays) or 'nothing'}",
            f"Splits there: {', '.join(there)}." if there else "It has no splits: leave the split out.",
        )
    cut = any(isinstance(what, tuple) for what in there.values())
    if split is None and there and (cut or not any(key != settings.labels for key in whole)):
        split = next(iter(there))
    what = there[split] if split else ""
    suffix = f"_{what}" if split and isinstance(what, str) else ""
    keys = [key for key in arrays if key.endswith(suffix)] if suffix else whole
    chosen = {key.removesuffix(suffix): arrays[key] for key in keys}
    labels = chosen.pop(settings.labels, None)
    if labels is None and settings.labels != Settings.labels:
        raise DataError(
            f"{name}: there is no array `{settings.labels}` for the labels; it holds {', '.join(arrays)}",
            "labels = in dataset.toml names the array.",
        )
    names = settings.class_names or (
        tuple(str(n) for n in np.asarray(arrays[NAMES]).reshape(-1)) if NAMES in arrays else ()
    )
    result = Dataset(chosen, labels, names, f"{name} ({split})" if split else name, settings.inputs, settings.allow_nan)
    return _range(result, what) if isinstance(what, tuple) else result


def _range(dataset: Dataset, rows: tuple[int, int]) -> Dataset:
    if rows[1] > len(dataset):
        raise DataError(
            f"{dataset.name}: rows {rows[0]} to {rows[1]}, but there are {len(dataset)} samples",
            "Correct [split] in dataset.toml: first row, and the one behind the last.",
        )
    return dataset.select(np.arange(*rows))


def _of_samples(source: Any) -> Dataset:
    if not (isinstance(source, Iterable) or callable(source) or hasattr(source, "__getitem__")):
        raise DataError(f"a {type(source).__name__} is not a dataset", LAYOUT)
    name = f"the {type(source).__name__}"
    found: dict[str, Rows] = dict(columns(source, name))
    labels = found.pop("y", None)
    return Dataset(found, labels, name=name)


def _pair(source: tuple[Any, ...]) -> Dataset:
    if len(source) != 2:
        raise DataError(f"a tuple of {len(source)} is not a dataset", "Give (inputs, labels), or a list of samples.")
    inputs, labels = source
    held = _as_rows(inputs) if isinstance(inputs, Mapping) else {"x": _rows(inputs, "x")}
    return Dataset(held, None if labels is None else _rows(labels, "y"))


def _as_rows(arrays: Mapping[str, Any]) -> dict[str, Rows]:
    return {name: _rows(array, name) for name, array in arrays.items()}


def _is_array(value: Any) -> bool:
    """Whether this has a shape and rows: NumPy's and other libraries' arrays, tensors, HDF5 data sets."""
    return hasattr(value, "shape") and hasattr(value, "__array__")


def _rows(value: Any, name: str) -> Rows:
    """Columns as they are; everything else through NumPy."""
    if isinstance(value, Rows) and isinstance(value.dtype, np.dtype) and not isinstance(value, np.generic):
        array = value
    else:
        try:
            array = np.asarray(value)
        except (ValueError, TypeError) as error:
            raise DataError(f"the dataset: `{name}` cannot be made an array: {error}", PAD) from error
    if array.dtype.kind == "O" and not _is_text(array):
        raise DataError(f"the dataset: `{name}` holds Python objects, not numbers or text", PAD)
    return array


def _is_text(array: Rows) -> bool:
    return len(array.shape) > 0 and all(isinstance(item, str | bytes) for item in np.asarray(array[:1]).flat)
