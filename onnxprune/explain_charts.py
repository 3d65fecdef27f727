"""Charts of feature maps and attributions: pictures as heatmaps, sequences as lines, tables as bars."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.explain import Attribution, FeatureMaps
from onnxprune.figures import AxisSpec, Chart, Figure, Heatmap, Series

__all__ = ["attribution_charts", "feature_map_charts"]

Array = NDArray[Any]
PICTURES = 6  # heatmaps of one file
SIDE = 64  # cells: of larger pictures the mean of neighbouring values is shown
BARS = 30  # inputs of a table: of more those that matter most
UNITS = 6  # charts of one unit each
LINES = 12  # units in one chart
INSTANCES = 5  # lines or bars of one chart
TABLE, SEQUENCE = 1, 2  # axes of a sample


def attribution_charts(found: Attribution) -> tuple[Figure, ...]:
    """What moves each unit, drawn as the input is: bars, lines or pictures; and how the values are distributed."""
    values, name = found.values[found.main], found.main
    tokens = found.inputs[name] if found.kinds[name] == "tokens" else None
    rank = values.ndim - 2
    what = {TABLE: _bars, SEQUENCE: _lines}.get(rank, _pictures)
    charts = list(what(found, values) if tokens is None else _token_bars(found, values, tokens))
    return (*charts, _distribution(found, name))


def feature_map_charts(found: FeatureMaps) -> tuple[Figure, ...]:
    """Mean and range of each unit, and the maps of the first instances."""
    stats = found.statistics
    names = [str(unit) for unit in found.units]
    low, high = stats.smallest.tolist(), stats.largest.tolist()
    series = Series("mean", names, stats.mean.tolist(), low=low, high=high)
    title = f"{found.layer.name}: mean and range of each unit"
    first = Chart(title, AxisSpec(found.layer.kind, categories=names), AxisSpec("activation"), (series,), "bars")
    return (first, *_maps(found))


def _maps(found: FeatureMaps) -> Iterator[Figure]:
    rank = found.values.ndim - 2
    if rank == 1:
        for i, row in list(enumerate(found.rows))[:PICTURES]:
            title = f"{found.layer.name}: instance {row}"
            yield _heatmap(title, found.values[i], [str(u) for u in found.units], found.layer.kind, "position")
    elif rank > 1:
        for i, u in _pairs(found.values.shape):
            title = f"{found.layer.name}: unit {found.units[u]}, instance {found.rows[i]}"
            yield _heatmap(title, _plane(found.values[i, u]))


def _pairs(shape: Sequence[int]) -> list[tuple[int, int]]:
    """Instance and unit, the units of the first instance first."""
    return [(i, u) for i in range(shape[0]) for u in range(shape[1])][:PICTURES]


def _plane(values: Array) -> Array:
    """Two axes, at most SIDE each: the first ones are added up, as colours are."""
    plane = values.reshape(-1, *values.shape[-2:]).sum(0)
    for axis in (0, 1):
        size = plane.shape[axis]
        if size > SIDE:
            starts = np.linspace(0, size, SIDE, endpoint=False).astype(int)
            counts = np.diff([*starts, size])
            plane = np.add.reduceat(plane, starts, axis) / (counts[:, None] if axis == 0 else counts)
    return np.asarray(plane)


def _heatmap(
    title: str, values: Array, rows: Sequence[str] | None = None, row: str = "row", column: str = "column"
) -> Heatmap:
    names = [str(i) for i in range(values.shape[0])] if rows is None else rows
    columns = [str(i) for i in range(values.shape[1])]
    return Heatmap(
        title, AxisSpec(row, categories=names), AxisSpec(column, categories=columns), values, AxisSpec("", ".2g")
    )


def _pictures(found: Attribution, values: Array) -> Iterator[Figure]:
    for i, u in _pairs(values.shape):
        yield _heatmap(_title(found, i, u), _plane(_channels_first(values[i, u])))


def _channels_first(values: Array) -> Array:
    """Colours are the axis of at most four, behind the others in some models."""
    return np.moveaxis(values, -1, 0) if values.ndim == 3 and values.shape[-1] <= 4 < values.shape[0] else values


def _title(found: Attribution, i: int, u: int) -> str:
    return f"{found.layer.name}: unit {found.units[i, u]}, instance {found.rows[i]} ({found.method})"


def _charts(found: Attribution) -> Iterator[tuple[str, int]]:
    """A title for each of the first units, and its column."""
    own = (found.units != found.units[:1]).any()
    for u in range(min(found.units.shape[1], UNITS)):
        unit = "the unit of each instance" if own else f"unit {found.units[0, u]}"
        yield f"{found.layer.name}: what moves {unit} ({found.method})", u


def _label(found: Attribution) -> AxisSpec:
    return AxisSpec({"gradient": "gradient", "guided": "guided gradient"}.get(found.method, "contribution"))


def _bars(found: Attribution, values: Array) -> Iterator[Figure]:
    """One bar for each input of a table, one colour for each instance."""
    for title, u in _charts(found):
        most = np.argsort(-np.abs(values[:, u]).mean(0), kind="stable")[:BARS]
        names = [f"input {k}" for k in most]
        series = tuple(
            Series(f"instance {row}", values[i, u, most], names) for i, row in list(enumerate(found.rows))[:INSTANCES]
        )
        note = f"The {BARS} of {values.shape[2]} inputs that matter most." if values.shape[2] > BARS else ""
        yield Chart(title, _label(found), AxisSpec("input", categories=names), series, "bars", note=note)


def _lines(found: Attribution, values: Array) -> Iterator[Figure]:
    """The sum over the features of each step; steps are the longer of the two axes."""
    axis = 3 if values.shape[2] >= values.shape[3] else 2
    steps = [float(k) for k in range(values.shape[5 - axis])]
    for title, u in _charts(found):
        series = tuple(
            Series(f"instance {row}", steps, values[i, u].sum(axis - 2))
            for i, row in list(enumerate(found.rows))[:INSTANCES]
        )
        yield Chart(title, AxisSpec("step", ".0f"), _label(found), series)


def _token_bars(found: Attribution, values: Array, tokens: Array) -> Iterator[Figure]:
    """One bar for each token of an instance, with its number."""
    flat = tokens.reshape(len(tokens), -1)
    for i, u in _pairs(values.shape):
        part = values[i, u].reshape(-1)
        names = [f"{k}: {flat[i, k] if k < flat.shape[1] else ''}" for k in range(part.size)]
        axis = AxisSpec("position: token", categories=names)
        yield Chart(_title(found, i, u), _label(found), axis, (Series("contribution", part, names),), "bars")


def _distribution(found: Attribution, name: str) -> Chart:
    histogram = found.histogram(name)
    middles = ((histogram.edges[:-1] + histogram.edges[1:]) / 2).tolist()
    own = (found.units != found.units[:1]).any()
    names = [f"column {u}" if own else f"unit {found.units[0, u]}" for u in range(found.units.shape[1])]
    shares = histogram.counts / np.maximum(histogram.counts.sum(1, keepdims=True), 1)
    series = tuple(Series(n, middles, share) for n, share in list(zip(names, shares, strict=True))[:LINES])
    note = f"The first {LINES} of {len(names)} units." if len(names) > LINES else ""
    return Chart(
        "Distribution of the values", _label(found), AxisSpec("share of the values", ".1%"), series, "area", note=note
    )
