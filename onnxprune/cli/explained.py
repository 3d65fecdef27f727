"""What ``onnxprune explain`` writes: arrays, pictures and charts, a table, and one JSON document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from onnxprune._atomic import replacing
from onnxprune.cli.console import say, table
from onnxprune.cli.measures import draw
from onnxprune.data import Dataset
from onnxprune.errors import ModelSaveError
from onnxprune.explain import (
    Attribution,
    FeatureMaps,
    View,
    grid,
    input_pictures,
    is_pictures,
    pixels,
    save_png,
    to_pictures,
)
from onnxprune.explain_charts import attribution_charts, feature_map_charts
from onnxprune.figures import check_path

__all__ = ["MAPS", "document", "found_table", "plot_found", "remarks", "save_arrays", "title"]

Array = NDArray[Any]
MAPS = "feature-maps"
SHOWN = 3  # inputs that a table names


def save_arrays(found: FeatureMaps | Attribution, out: Path) -> None:
    """Write all arrays as .npz. Raises ModelSaveError."""
    arrays: dict[str, Array] = {"instances": np.asarray(found.rows), "units": found.units}
    if isinstance(found, FeatureMaps):
        arrays["values"] = found.values
    else:
        arrays["scores"] = found.scores
        for name, values in found.values.items():
            arrays["values" if len(found.values) == 1 else f"values/{name}"] = values
        histogram = found.histogram()
        arrays |= {"histogram_edges": histogram.edges, "histogram_counts": histogram.counts}
        if found.missing is not None:
            arrays["missing"] = found.missing
    try:
        with replacing(out) as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)
    except OSError as error:
        raise ModelSaveError(f"{out} cannot be written: {error.strerror or error}", "Check the free space.") from error
    say(f"{out} written")


def plot_found(view: View, dataset: Dataset, found: FeatureMaps | Attribution, plot: Path) -> None:
    """Draw a grid where there are pictures and a PNG is wanted, else charts."""
    sheet = _sheet(view, dataset, found) if plot.suffix.lower() == ".png" else None
    if sheet is None:
        check_path(plot)
        charts = feature_map_charts(found) if isinstance(found, FeatureMaps) else attribution_charts(found)
        draw(charts, plot)
        return
    save_png(sheet, plot)
    say(f"{plot} written")


def _sheet(view: View, dataset: Dataset, found: FeatureMaps | Attribution) -> NDArray[np.uint8] | None:
    """Instances down, units across, the input first; None where there are no pictures."""
    if isinstance(found, FeatureMaps):
        if found.values.ndim != 4:
            return None
        shown = pixels(found.values[..., None], "positive" if found.values.min() >= 0 else "range")
        name = next((i for i in view.graph.inputs if is_pictures(view.model, i)), None)
    else:
        name = found.main
        if not is_pictures(view.model, name) or found.kinds[name] == "tokens":
            return None
        shown = pixels(to_pictures(view.model, name, found.values[name]))
    first = None if name is None else input_pictures(view.model, dataset, found.rows, name)
    return grid([[*(() if first is None else (first[i],)), *row] for i, row in enumerate(shown)])


def title(found: FeatureMaps | Attribution) -> str:
    """What was looked at, in a line."""
    what = "feature maps" if isinstance(found, FeatureMaps) else found.method
    many = found.values.shape[1] if isinstance(found, FeatureMaps) else found.units.shape[1]
    return (
        f"{found.layer.name}: {what} of {many} of {found.layer.units} {found.layer.kind}, instances "
        f"{', '.join(map(str, found.rows))}"
    )


def found_table(found: FeatureMaps | Attribution) -> Table:
    """A row for each unit."""
    if isinstance(found, FeatureMaps):
        stats = found.statistics
        rows = [
            (str(u), *(f"{line[k]:.4g}" for line in (stats.mean, stats.deviation, stats.smallest, stats.largest)),
             f"{stats.active[k]:.1%}")
            for k, u in enumerate(found.units)
        ]  # fmt: skip
        columns = ("unit", "mean", "deviation", "smallest", "largest", "above 0")
        return table("", columns, rows, right=range(len(columns)))
    return table("", ("unit", "activation", "largest", "where"), _strongest(found), right=(0, 1, 2))


def _strongest(found: Attribution) -> list[tuple[str, str, str, str]]:
    """For each unit the inputs whose values are largest, the mean over the instances where these share the unit."""
    values = found.values[found.main]
    alone = (found.units != found.units[:1]).any()
    rows = []
    for u in range(found.units.shape[1]):
        for part in [[i] for i in range(len(found.rows))] if alone else [list(range(len(found.rows)))]:
            mean = np.abs(values[part, u]).mean(0)
            most = np.argsort(-mean, axis=None, kind="stable")[:SHOWN]
            places = [_place(mean.shape, int(k)) for k in most]
            score = float(found.scores[part, u].mean())
            name = str(found.units[part[0], u]) + (f" (instance {found.rows[part[0]]})" if alone else "")
            rows.append((name, f"{score:.4g}", f"{float(mean.max()):.4g}", ", ".join(places)))
    return rows


def _place(shape: Sequence[int], flat: int) -> str:
    index = [int(k) for k in np.unravel_index(flat, shape)]
    return str(index[0]) if len(index) == 1 else str(tuple(index))


def remarks(found: FeatureMaps | Attribution) -> list[str]:
    """Where it was looked at, and how far it holds."""
    if isinstance(found, FeatureMaps):
        return [f"Seen at `{found.layer.tensor}`; maps of shape {found.values.shape[2:]}."]
    lines = [f"Differentiated at `{found.layer.tensor}`; `where`: positions of `{found.main}` with the largest values."]
    if found.missing is not None:
        worst = float(np.abs(found.missing).max())
        lines.append(f"The contributions miss their sum by {worst:.2g} at most: the more --steps, the less.")
    return lines


def document(
    model: Path, data: Path, found: FeatureMaps | Attribution, out: Path | None, plot: Path | None
) -> Mapping[str, Any]:
    """Everything but the values themselves, for --json."""
    layer = found.layer
    shared = {
        "model": str(model),
        "data": str(data),
        "out": None if out is None else str(out),
        "plot": None if plot is None else str(plot),
        "layer": {"name": layer.name, "tensor": layer.tensor, "kind": layer.kind, "units": layer.units},
        "instances": found.rows,
        "units": found.units,
    }
    if isinstance(found, FeatureMaps):
        return {
            **shared, "method": MAPS, "shape": found.values.shape[2:], "statistics": asdict(found.statistics)
        }  # fmt: skip
    histogram = found.histogram()
    return {
        **shared,
        "method": found.method,
        "at": found.at,
        "input": found.main,
        "shape": found.values[found.main].shape[2:],
        "scores": found.scores,
        "missing": found.missing,
        "histogram": {"edges": histogram.edges, "counts": histogram.counts},
    }
