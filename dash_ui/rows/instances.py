"""Instances of a dataset to look at: which one is next, what it is, and what the models make of it."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dash_ui.desk import Desk
from onnxprune.data import Dataset, open_dataset
from onnxprune.data.subsets import are_classes
from onnxprune.errors import DataError, OptionError
from onnxprune.explain import Outcome, input_pictures, is_pictures, output_change
from onnxprune.explain.instances import feeds_of, fitted
from onnxprune.explain.sheet import levels_of, png, png_coloured, tiled
from onnxprune.model import Model
from onnxprune.values import Ints
from onnxprune.workspace.evaluations import Documents
from onnxprune.workspace.workspace import Workspace

__all__ = [
    "MEAN_OF", "Chosen", "Effect", "Portrait", "Source", "effect_of", "mean_rows", "move", "portrait", "source_for",
    "wrong_rows",
]  # fmt: skip

Array = NDArray[Any]
MEAN_OF = 64  # instances that a mean is taken over at most
MACS = 2e10  # and so many multiplications; a model that takes more than that for a few of them is shown fewer
FEWEST = 4
FEATURES = 64  # of a table row, shown one by one
LISTED = 5  # classes
PLACES = 96  # of a sequence across and down
PLANE = 2  # axes of one instance of a sequence
GREY = [(k, k, k) for k in range(256)]


@dataclass(frozen=True, eq=False)
class Source:
    """Data to look at. ``labels``: class numbers of all instances, None where they have none. ``key``: what it is."""

    path: str
    key: str
    dataset: Dataset
    labels: Ints | None
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.dataset)

    def name(self, cls: int) -> str:
        """Of a class."""
        return self.names[cls] if 0 <= cls < len(self.names) else str(cls)

    @property
    def classes(self) -> list[int]:
        """Those that have an instance."""
        return [] if self.labels is None else [int(cls) for cls in np.unique(self.labels)]


@dataclass(frozen=True)
class Chosen:
    """The instances that are shown: one, or the mean of several.

    ``sees``: what in the instance moves each unit (an attribution) is shown in place of what the unit makes of it.
    """

    rows: tuple[int, ...]
    mean: bool = False
    sees: bool = False

    @property
    def key(self) -> tuple[Any, ...]:
        """What their maps are kept by."""
        return (self.mean, self.sees, *self.rows)


def source_for(desk: Desk, workspace: Workspace, step: int, data: str | None) -> Source | None:
    """The data of a step, or those with the path ``data``; None where there are none.

    Raises WorkspaceError for data that are gone, DataError for what cannot be read.
    """
    path = workspace.dataset_name(step, data)
    if path is None:
        return None
    full = workspace.dataset(step, path)
    known = next((entry.hash for entry in workspace.files.listed("data") if entry.path == path), "")
    if full is None or not full.exists():
        raise DataError(f"{path} is not there any longer", "Put the file back, or choose other data at the top.")
    return desk.kept.get(("instances", path, known), lambda: _opened(open_dataset(full), path, known))


def _opened(dataset: Dataset, path: str, known: str) -> Source:
    labels = None
    if dataset.labels is not None and are_classes(dataset.labels):
        labels = np.asarray(dataset.labels[:]).reshape(len(dataset)).astype(np.int64)
    return Source(path, f"{path}:{known}", dataset, labels, tuple(dataset.class_names))


def wrong_rows(documents: Documents, step: int, source: Source) -> Ints | None:
    """Instances that the step gets wrong, as it was measured; None where it was not measured on these data."""
    found = documents.predictions(step)
    if found is None or "right" not in found or len(found["right"]) != len(source):
        return None
    if source.labels is not None and "labels" in found and not np.array_equal(found["labels"], source.labels):
        return None
    return np.flatnonzero(~found["right"].astype(np.bool_))


def move(now: int, action: str, total: int, among: Ints | None = None, seed: int = 0) -> int:
    """The instance after an action: "next", "previous", "random", or "stay", which goes to the nearest one below.

    ``among``: those that may be chosen, ascending, all by default; past the last one comes the first. Raises
    OptionError where there is none.
    """
    rows = np.arange(total) if among is None else among
    if not rows.size:
        raise OptionError("there is no such instance", "Choose another class.")
    if action == "random":
        others = rows[rows != now] if rows.size > 1 else rows
        return int(np.random.default_rng(seed).choice(others))
    if action == "next":
        place = int(np.searchsorted(rows, now, "right"))
    elif action == "previous":
        place = int(np.searchsorted(rows, now, "left")) - 1
    else:
        place = min(int(np.searchsorted(rows, now, "left")), rows.size - 1)
    return int(rows[place % rows.size])


def mean_rows(source: Source, cls: int | None, macs: float | None) -> tuple[int, ...]:
    """At most MEAN_OF instances, evenly over all or over those of a class; fewer for a model of many ``macs``."""
    rows = np.arange(len(source)) if cls is None or source.labels is None else np.flatnonzero(source.labels == cls)
    most = MEAN_OF if not macs else int(np.clip(MACS / macs, FEWEST, MEAN_OF))
    if rows.size > most:
        rows = rows[np.linspace(0, rows.size - 1, most).round().astype(np.int64)]
    return tuple(int(row) for row in rows)


# -- what an instance looks like -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Portrait:
    """``kind``: "picture" (``image``: a data address; ``size`` across and down), "row" (``cells``: name, value)."""

    kind: str
    image: str = ""
    size: tuple[int, int] = (0, 0)
    cells: tuple[tuple[str, str], ...] = ()
    more: int = 0


def portrait(model: Model, source: Source, row: int) -> Portrait:
    """An instance as a picture, a sequence as one of time and features, a table row as its numbers.

    Raises DataError where the model cannot take it.
    """
    feeds = feeds_of(fitted(model, source.dataset, [row]))
    name = max(feeds, key=lambda key: feeds[key].size)
    values = feeds[name][0]
    if is_pictures(model, name):
        pixels = input_pictures(model, source.dataset, [row], name)[0]
        return Portrait("picture", _address(_image(pixels)), (pixels.shape[1], pixels.shape[0]))
    if values.ndim == PLANE and values.dtype.kind == "f":
        tile = tiled(values.T[None], PLACES)
        low, spread = float(tile.min()), float(np.ptp(tile))
        levels = levels_of((tile - low) / (spread or 1), 1.0, signed=False)[0]
        return Portrait("picture", _address(png(levels, GREY)), (levels.shape[1], levels.shape[0]))
    flat = values.reshape(-1)
    word = "token" if values.dtype.kind in "iu" else name
    cells = tuple((f"{word} {k}", _told(value)) for k, value in enumerate(flat[:FEATURES].tolist()))
    return Portrait("row", cells=cells, more=max(0, flat.size - FEATURES))


def _told(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _image(pixels: NDArray[np.uint8]) -> bytes:
    """Grey or coloured pixels as PNG: of a palette where they are grey."""
    if pixels.shape[-1] == 1:
        return png(pixels[..., 0], GREY)
    return png_coloured(pixels)


def _address(picture: bytes) -> str:
    return "data:image/png;base64," + b64encode(picture).decode()


# -- what comes out --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Effect:
    """What comes out before, after, and with the draft.

    ``rows``: {"name", "before", "after", "draft", "label", "index"}, None where there is nothing to show; the largest
    first. ``probable``: they are probabilities. ``moved``: relative change of the whole output, "after" against
    before, "draft" against after. ``right``: share of instances that come out right. ``more``: classes not listed.
    """

    probable: bool
    rows: tuple[Mapping[str, Any], ...]
    moved: Mapping[str, float]
    right: Mapping[str, float]
    more: int = 0


def effect_of(source: Source, chosen: Chosen, outcomes: Mapping[str, Outcome | None]) -> Effect:
    """``outcomes``: "before", "after", "draft" -> what came out of that model for the chosen instances."""
    there = {word: out for word, out in outcomes.items() if out is not None}
    values = {word: out.values.mean(0) for word, out in there.items() if out.values is not None}
    probable = bool(there) and all(out.probable for out in there.values())
    labels = None if source.labels is None else source.labels[list(chosen.rows)]
    right: dict[str, float] = {}
    if probable and labels is not None:
        vectors = {word: out.values for word, out in there.items() if out.values is not None}
        right = {word: float((found.argmax(1) == labels).mean()) for word, found in vectors.items()}
    label = None if labels is None or chosen.mean or not probable else int(labels[0])
    rows, more = _rows(source, values, label, probable=probable)
    return Effect(probable, rows, _moved(there), right, more)


def _rows(
    source: Source, values: Mapping[str, Array], label: int | None, *, probable: bool
) -> tuple[tuple[Mapping[str, Any], ...], int]:
    sizes = {value.size for value in values.values()}
    if len(sizes) != 1:
        return (), 0
    (size,) = sizes
    top = np.max(np.stack(list(values.values())), axis=0)
    order = np.argsort(-top, kind="stable") if probable else np.arange(size)
    listed = order[:LISTED].tolist()
    if label is not None and label < size and label not in listed:
        listed[-1] = label
    rows = tuple(
        {
            "name": source.name(k) if probable else f"output {k}" if size > 1 else "output",
            "index": k, "label": k == label,
            **{word: float(values[word][k]) if word in values else None for word in ("before", "after", "draft")},
        }
        for k in listed
    )  # fmt: skip
    return rows, size - len(listed)


def _moved(there: Mapping[str, Outcome]) -> dict[str, float]:
    found = {}
    for word, reference in (("after", "before"), ("draft", "after")):
        if word in there and reference in there:
            change = output_change(there[reference], there[word])
            if change is not None:
                found[word] = change
    return found


def guess(rows: Sequence[Mapping[str, Any]], word: str) -> str | None:
    """The name of the class with the highest probability, in one of the three columns."""
    known = [row for row in rows if row[word] is not None]
    return str(max(known, key=lambda row: row[word])["name"]) if known else None
