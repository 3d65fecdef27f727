"""Feature maps: what each unit of a layer makes of chosen instances.

Filters give maps of height and width, neurons one number, recurrent cells one number per time step, heads of attention
the weights between queries and keys where the graph has them (else what the head puts out).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.data import Dataset, batches
from onnxprune.explain.instances import chosen_rows, fitted
from onnxprune.explain.layers import Layer, View, attention_layer
from onnxprune.runtime import session
from onnxprune.values import Ints

__all__ = ["FeatureMaps", "UnitStatistics", "feature_maps", "statistics"]

Array = NDArray[Any]
Floats = NDArray[np.float64]
Progress = Callable[[str, int, int], None]
SIZE = 32  # samples at a time
RECURRENT = 4  # axes of what cells put out: instances, cells, time, directions


@dataclass(frozen=True, eq=False)
class UnitStatistics:
    """One number per unit over instances and positions. ``active``: share of values above 0."""

    mean: Floats
    deviation: Floats
    smallest: Floats
    largest: Floats
    active: Floats


@dataclass(frozen=True, eq=False)
class FeatureMaps:
    """``values``: (instances, units, ...) for the samples ``rows`` and the units ``units`` of ``layer``.

    Where a unit has several positions of the layer's axis (a head without attention weights, a normalisation group),
    the mean over them is given.
    """

    layer: Layer
    rows: tuple[int, ...]
    units: Ints
    values: Array
    statistics: UnitStatistics


def feature_maps(
    view: View,
    data: Dataset | Mapping[str, Array],
    layer: Layer,
    *,
    rows: Sequence[int] | None = None,
    units: Sequence[int] | None = None,
    provider: str = "auto",
    threads: int | None = None,
    progress: Progress | None = None,
) -> FeatureMaps:
    """Run the model on some samples (all by default) and collect what the units of the layer put out.

    Raises OptionError for a unit or a row that is not there, DataError where the data do not fit the model.
    """
    chosen = layer.choose(units)
    numbers = chosen_rows(data, rows)
    dataset = fitted(view.model, data, numbers)
    shown = attention_layer(view, layer) or layer
    run = session(view.model, outputs=[shown.tensor], provider=provider, threads=threads)
    parts = []
    for batch in batches(dataset, SIZE):
        found = run.run(batch.feeds)[shown.tensor]
        whole = len(next(iter(batch.feeds.values())))
        parts.append(shown.per_unit(found, whole)[: batch.count, chosen])
        if progress:
            progress("running the model", sum(map(len, parts)), len(dataset))
    values = np.concatenate(parts)
    if shown.kind == "cells" and values.ndim == RECURRENT and values.shape[-1] == 1:
        values = values[..., 0]  # the only direction
    return FeatureMaps(shown, numbers, chosen, values, statistics(values))


def statistics(values: Array) -> UnitStatistics:
    """Of (instances, units, ...), over everything but the units."""
    rows = np.moveaxis(values, 1, 0).reshape(values.shape[1], -1).astype(np.float64)
    return UnitStatistics(rows.mean(1), rows.std(1), rows.min(1), rows.max(1), (rows > 0).mean(1))
