"""What units do on data: how large, how often, how much alike.

Looked at where a group's units are read (`activations.read_points`), behind norm and activation function; a unit that
is read at several places is as active as at the place where it is most active, and as much like another unit as at
the place where they are least alike. With a the values of a unit at all positions and samples::

    largest  max |a|        mean, deviation  of a        share  of a that is not 0
    likeness(u, v) = |correlation of a_u and a_v|         twin(u)  the unit that u is most like

A unit of several channels (a head, a map that is flattened) counts as one row of all their values.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.activations import ReadPoint, read_points, stream
from onnxprune.data import Dataset
from onnxprune.errors import DataError
from onnxprune.model import Model
from onnxprune.values import Coupling

__all__ = ["Activity", "UnitActivity", "activity", "load_activity"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Progress = Callable[[str, int, int], None]

FORMAT = 1
FIELDS = ("largest", "mean", "deviation", "share", "likeness")
LARGEST = 4096  # units of a group that are compared with each other: the table has the square of it
COLUMNS = 4096  # values of each unit in a batch that are compared, spread evenly


@dataclass(frozen=True, eq=False)
class UnitActivity:
    """The units of one group, an entry for each. ``twin`` is -1 where there is none to compare with."""

    largest: Floats
    mean: Floats
    deviation: Floats
    share: Floats
    twin: Ints
    likeness: Floats


@dataclass(frozen=True, eq=False)
class Activity:
    """All groups whose activations can be seen. ``samples``: how many were run."""

    model_hash: str
    samples: int
    groups: Mapping[str, UnitActivity]

    def of(self, group: str) -> UnitActivity | None:
        """One group; None where its activations cannot be seen."""
        return self.groups.get(group)

    def to_json(self) -> str:
        """The result as text; `load_activity` reads it."""
        groups = {name: {key: value.tolist() for key, value in vars(one).items()} for name, one in self.groups.items()}
        head = {"onnxprune_activity": FORMAT, "model_hash": self.model_hash, "samples": self.samples}
        return json.dumps({**head, "groups": groups})


def activity(
    model: Model,
    coupling: Coupling,
    dataset: Dataset,
    *,
    size: int = 64,
    provider: str = "auto",
    threads: int | None = None,
    progress: Progress | None = None,
) -> Activity:
    """Run the dataset once. ``model``: without local functions, as `experiment.analyse` gives it.

    Raises DataError for data that do not fit the model.
    """
    points = read_points(coupling)
    units = {group.name: group.units for group in coupling.groups}
    tables = {name: [_Table(point, units[name]) for point in found] for name, found in points.items() if found}
    tensors = tuple(dict.fromkeys(table.point.tensor for found in tables.values() for table in found))
    if tensors:
        running: dict[str, Any] = {"size": size, "provider": provider, "threads": threads, "progress": progress}
        for _, values in stream(model, dataset, tensors, **running):
            for found in tables.values():
                for table in found:
                    table.add(values[table.point.tensor])
    groups = {name: _merged(found) for name, found in tables.items()}
    return Activity(coupling.model_hash, len(dataset), groups)


class _Table:
    """Sums over the batches, at one place."""

    def __init__(self, point: ReadPoint, units: int) -> None:
        self.point, self.units = point, units
        order = np.argsort(point.unit, kind="stable")
        count = np.bincount(point.unit, minlength=units)
        self.even = bool((count == count[0]).all()) and int(count[0]) > 0
        self.rows = point.index[order]
        self.count = count
        self.seen = 0
        self.largest = np.zeros(units)
        self.above, self.sum, self.squares = np.zeros(units), np.zeros(units), np.zeros(units)
        self.compared = self.even and 1 < units <= LARGEST
        self.shift: Floats | None = None
        self.cross = np.zeros((units, units)) if self.compared else np.zeros((0, 0))
        self.line, self.columns = np.zeros(units), 0

    def add(self, values: NDArray[Any]) -> None:
        """One batch."""
        moved = np.moveaxis(values, self.point.axis, 0)
        rows = moved.reshape(moved.shape[0], -1)[self.rows].astype(np.float64)
        if self.even:
            rows = rows.reshape(self.units, -1)
        self.seen += rows.shape[1] if self.even else int(np.prod(moved.shape[1:]))
        self._add_moments(rows)
        if self.compared:
            self._add_likeness(rows)

    def _add_moments(self, rows: Floats) -> None:
        parts: tuple[Any, ...] = (
            np.abs(rows).max(axis=1),
            (rows != 0).sum(axis=1),
            rows.sum(axis=1),
            (rows * rows).sum(axis=1),
        )
        if not self.even:
            owner = np.sort(self.point.unit)
            largest = np.zeros(self.units)
            np.maximum.at(largest, owner, parts[0])
            sums = [np.bincount(owner, part, self.units) / np.maximum(self.count, 1) for part in parts[1:]]
            parts = (largest, *sums)
        self.largest = np.maximum(self.largest, parts[0])
        self.above, self.sum, self.squares = self.above + parts[1], self.sum + parts[2], self.squares + parts[3]

    def _add_likeness(self, rows: Floats) -> None:
        part = rows[:, :: max(1, rows.shape[1] // COLUMNS)]
        if self.shift is None:
            self.shift = part.mean(axis=1)
        part = part - self.shift[:, None]  # near the mean, so that squares do not drown the differences
        self.cross += part @ part.T
        self.line += part.sum(axis=1)
        self.columns += part.shape[1]

    def likeness(self) -> Floats:
        """|correlation| of every pair, 0 with itself and with what is constant."""
        if not self.compared or self.columns == 0:
            return np.zeros((self.units, self.units)) if self.units <= LARGEST else np.zeros((0, 0))
        mean = self.line / self.columns
        spread = self.cross / self.columns - np.outer(mean, mean)
        scale = np.sqrt(np.maximum(np.diag(spread), 0.0))
        tiny = 1e-6 * max(float(scale.max()), 1e-300)
        scale = np.where(scale > tiny, scale, np.inf)
        found = np.abs(spread / np.outer(scale, scale))
        np.fill_diagonal(found, 0.0)
        return np.asarray(np.minimum(found, 1.0))


def _merged(tables: list[_Table]) -> UnitActivity:
    """All places of a group."""
    seen = np.maximum([table.seen for table in tables], 1)[:, None]
    means = np.array([t.sum for t in tables]) / seen
    variance = np.array([t.squares for t in tables]) / seen - means**2
    loudest = np.argmax([table.largest for table in tables], axis=0)
    pick = (loudest, np.arange(loudest.size))
    likeness = np.min([table.likeness() for table in tables], axis=0)
    empty = likeness.size == 0
    twin = np.full(loudest.size, -1) if empty else likeness.argmax(axis=1)
    most = np.zeros(loudest.size) if empty else likeness.max(axis=1)
    return UnitActivity(
        np.max([table.largest for table in tables], axis=0),
        means[pick],
        np.sqrt(np.maximum(variance, 0.0)).max(axis=0),
        np.max([table.above / n for table, n in zip(tables, seen[:, 0], strict=True)], axis=0),
        np.where(most > 0, twin, -1).astype(np.int64),
        most,
    )


def load_activity(path: str | Path) -> Activity:
    """Read a result. Raises DataError for a file that is none."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        if content["onnxprune_activity"] != FORMAT:
            raise DataError(f"{path}: activity of another version", "Measure it again.")
        groups = {name: _group_from(one) for name, one in content["groups"].items()}
        return Activity(content["model_hash"], content["samples"], groups)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}", "Measure it again.") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: no activity of units: {error}", "Measure it again.") from error


def _group_from(content: Mapping[str, Any]) -> UnitActivity:
    largest, mean, deviation, share, likeness = (np.asarray(content[name], np.float64) for name in FIELDS)
    return UnitActivity(largest, mean, deviation, share, np.asarray(content["twin"], np.int64), likeness)
