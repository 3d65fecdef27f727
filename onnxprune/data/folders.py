"""Folders as datasets: ``.npy`` files by name, or images in one sub-folder for each class, with or without splits.

Either becomes a mapping of the names that a ``.npz`` file would have: ``x``, ``y``, ``class_names``; with splits
``x_train``, ``y_train`` and so on.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from difflib import get_close_matches
from functools import cache
from pathlib import Path

import numpy as np

from onnxprune.data.archive import Arrays, npy
from onnxprune.data.images import SUFFIXES, Images
from onnxprune.data.rows import Rows
from onnxprune.errors import DataError

__all__ = ["CLASSES", "folder"]

CLASSES = "classes.txt"
WANTED = (
    "A dataset folder holds images (one sub-folder for each class, below train/ and test/ where there are splits), or"
    " x.npy and y.npy."
)


def folder(path: Path, splits: Sequence[str], class_names: Sequence[str]) -> Arrays:
    """The columns of a folder; ``splits`` are the names that sub-folders may have, ``class_names`` gives the order.

    Raises DataError where it holds neither arrays nor images, and for a class folder that ``class_names`` lacks.
    """
    arrays = sorted(path.glob("*.npy"))
    if arrays:
        return Arrays({file.stem: _npy_opener(file) for file in arrays})
    inside = _folders(path)
    split_folders = [f for f in inside if f.name in splits and _has_images(f)]
    if split_folders and (len(split_folders) == len(inside) or all(map(_class_folders, split_folders))):
        parts = {f"_{f.name}": f for f in split_folders}
    elif _has_images(path):
        parts = {"": path}
    else:
        raise DataError(f"{path}: there are no images and no arrays in this folder", WANTED)
    names = class_names or _listed(path)
    classes = _classes(path, parts.values(), names)
    openers: dict[str, Callable[[], Rows]] = {}
    for suffix, part in parts.items():
        openers |= _openers(suffix, part, classes)
    if classes:
        openers["class_names"] = lambda: np.array(classes)
    return Arrays(openers)


def _openers(suffix: str, part: Path, classes: Sequence[str]) -> dict[str, Callable[[], Rows]]:
    """Images of one split, and their labels where they lie in class folders; listed when one of them is opened."""
    if not _class_folders(part):
        return {f"x{suffix}": lambda: Images(sorted(_images(part)))}

    @cache
    def listed() -> list[tuple[int, Path]]:
        numbered = sorted((classes.index(inside.name), inside) for inside in _class_folders(part))
        return [(number, file) for number, inside in numbered for file in sorted(_images(inside))]

    return {
        f"x{suffix}": lambda: Images([file for _, file in listed()]),
        f"y{suffix}": lambda: np.array([number for number, _ in listed()], np.int64),
    }


def _classes(root: Path, parts: Iterable[Path], names: Sequence[str]) -> tuple[str, ...]:
    """Class names in their order: as listed, else sorted; one that is only in some splits counts in all."""
    found = sorted({f.name for part in parts for f in _class_folders(part)})
    if not names or not found:
        return tuple(found)
    for name in found:
        if name not in names:
            near = get_close_matches(name, names, 1) or [", ".join(names[:5])]
            raise DataError(
                f"{root}: the folder `{name}` is not among the {len(names)} class names; nearest: {near[0]}",
                f"List every class once, in {CLASSES} or as class_names in dataset.toml, or remove the folder.",
            )
    return tuple(names)


def _listed(root: Path) -> tuple[str, ...]:
    file = root / CLASSES
    if not file.is_file():
        return ()
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: cannot be read: {error}", "One class name in a line, in UTF-8.") from error
    return tuple(line.strip() for line in lines if line.strip())


def _folders(path: Path) -> list[Path]:
    return sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith((".", "__")))


def _class_folders(path: Path) -> list[Path]:
    """Sub-folders, if there are images in any; an empty one is a class without samples."""
    found = _folders(path)
    return found if any(map(_has_images, found)) else []


def _has_images(path: Path) -> bool:
    return next(_images(path), None) is not None


def _images(path: Path) -> Iterator[Path]:
    """All image files below a folder, but those that are hidden."""
    for where, folders, files in os.walk(path, onerror=_raise, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__")))
        for name in files:
            if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES:
                yield Path(where, name)


def _raise(error: OSError) -> None:
    """A folder that cannot be listed is not passed over."""
    raise error


def _npy_opener(file: Path) -> Callable[[], Rows]:
    return lambda: npy(file)
