"""Feature maps beside each other: how much each unit's map changed, and the mean of maps over many instances.

The change of a unit is ``|b - a|_2 / |a|_2`` over all places of its map and all instances: 0 for the same map, 1 for
one that is 0 now, inf where there was nothing before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.data import Dataset
from onnxprune.errors import DataError
from onnxprune.explain.instances import chosen_rows
from onnxprune.explain.layers import Layer, View
from onnxprune.explain.maps import FeatureMaps, UnitStatistics, feature_maps

__all__ = ["map_change", "mean_maps"]

Array = NDArray[Any]
Floats = NDArray[np.float64]
Progress = Callable[[str, int, int], None]
PART = 32  # instances whose maps are held at a time


def map_change(before: Array, after: Array) -> Floats:
    """Relative change of each unit between maps (instances, units, ...) of the same shape; see above."""
    old, new = (np.moveaxis(a, 1, 0).reshape(a.shape[1], -1).astype(np.float64) for a in (before, after))
    moved, size = np.linalg.norm(new - old, axis=1), np.linalg.norm(old, axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        change = moved / size
    return np.where(moved == 0, 0.0, change)


def mean_maps(
    view: View,
    data: Dataset | Mapping[str, Array],
    layer: Layer,
    *,
    rows: Sequence[int] | None = None,
    provider: str = "auto",
    threads: int | None = None,
    progress: Progress | None = None,
) -> FeatureMaps:
    """The mean map of each unit over some instances (all by default), as ``values`` of a single instance.

    ``statistics`` are those over all instances and places, not of the mean. Memory does not grow with the instances.
    Raises what `feature_maps` does; DataError where instances differ in size.
    """
    numbers = chosen_rows(data, rows)
    total: Array = np.zeros(())
    parts: list[tuple[int, UnitStatistics]] = []
    for start in range(0, len(numbers), PART):
        part = numbers[start : start + PART]
        found = feature_maps(view, data, layer, rows=part, provider=provider, threads=threads)
        values = found.values.sum(0, dtype=np.float64)
        if start and values.shape != total.shape:
            raise DataError(
                f"instances {part[0]} and following have maps of another size than those before",
                "A mean takes instances of equal size: look at one at a time.",
            )
        total = total + values
        parts.append((len(part), found.statistics))
        if progress:
            progress("running the model", start + len(part), len(numbers))
    mean = (total / len(numbers)).astype(found.values.dtype)[None]
    return replace(found, rows=numbers, values=mean, statistics=_together(parts))


def _together(parts: Sequence[tuple[int, UnitStatistics]]) -> UnitStatistics:
    """Statistics over all parts, by their numbers of instances."""
    weight = np.array([count for count, _ in parts], np.float64)[:, None]
    share = weight / weight.sum()
    means = np.stack([s.mean for _, s in parts])
    mean = (share * means).sum(0)
    spread = (share * (np.stack([s.deviation for _, s in parts]) ** 2 + (means - mean) ** 2)).sum(0)
    return UnitStatistics(
        mean,
        np.sqrt(spread),
        np.min([s.smallest for _, s in parts], axis=0),
        np.max([s.largest for _, s in parts], axis=0),
        (share * np.stack([s.active for _, s in parts])).sum(0),
    )
