"""What all criteria share that look at data: which samples, units seen at their read points, and what to do without.

A group whose activations cannot be measured (they are inside the body of control flow, quantised, or not finite) gets
a *substitute*: the l2 norm of each unit's parameters over the largest of the group, between 0 and 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from onnxprune.activations import ReadPoint, Reducer, read_points, reduce
from onnxprune.criteria.base import Settings, UnitScores
from onnxprune.criteria.magnitude import magnitude_of_units
from onnxprune.data import Batch, Dataset
from onnxprune.errors import OptionError
from onnxprune.model import Model
from onnxprune.values import Coupling

__all__ = [
    "at_read_points",
    "batch_dim",
    "beside",
    "by_sample",
    "completed",
    "is_measured",
    "listed",
    "mean_of_units",
    "measured_points",
    "running",
    "sampled",
]

Array = NDArray[Any]
Floats = NDArray[np.float64]
R = TypeVar("R", bound=Reducer)

FLOATS = frozenset((1, 10, 11, 16))  # float32, float16, float64 and bfloat16, as ONNX numbers them
SHOWN = 5  # names in a warning


def sampled(settings: Settings, most: int | None = None) -> Dataset:
    """The dataset, or so many samples of it, each class in its share: ``settings.samples``, by default ``most``.

    Raises OptionError without a dataset.
    """
    if settings.data is None:
        raise OptionError("no dataset is given", "Give one with --data.")
    limit = most if settings.samples is None else settings.samples
    return settings.data if limit is None else settings.data.subset(limit, settings.seed)


def running(settings: Settings) -> dict[str, Any]:
    """How the model is run, as keyword arguments of ``stream``, ``reduce`` and ``grams``."""
    return {
        "size": settings.batch,
        "provider": settings.provider,
        "threads": settings.threads,
        "progress": settings.progress,
    }


def is_measured(coupling: Coupling, tensor: str) -> bool:
    """Whether the values of the tensor are plain numbers, not quantised ones."""
    return coupling.graph.dtypes.get(tensor) in FLOATS


def measured_points(coupling: Coupling) -> dict[str, tuple[ReadPoint, ...]]:
    """Group name -> where its units can be measured as they are read."""
    found = read_points(coupling)
    return {name: tuple(p for p in points if is_measured(coupling, p.tensor)) for name, points in found.items()}


@np.errstate(invalid="ignore", over="ignore")  # what is not finite is found in the sums
def at_read_points(
    model: Model, coupling: Coupling, settings: Settings, make: Callable[[int], R], *values: Callable[[R], Floats]
) -> list[dict[str, Floats]]:
    """For each of ``values``: group name -> a number per unit, where it could be measured.

    ``make``: a reducer for an axis; each of ``values``: its number for every position of the axis, of which the mean
    over a unit's positions and over its read points is taken.
    """
    points = measured_points(coupling)
    reducers = {(p.tensor, p.axis): make(p.axis) for mine in points.values() for p in mine}
    by_tensor: dict[str, list[Reducer]] = {}
    for (tensor, _), reducer in reducers.items():
        by_tensor.setdefault(tensor, []).append(reducer)
    if by_tensor:
        reduce(model, sampled(settings), by_tensor, **running(settings))
    result: list[dict[str, Floats]] = [{} for _ in values]
    for group in coupling.groups:
        for value, found in zip(values, result, strict=True):
            seen = ((p, value(reducers[p.tensor, p.axis])) for p in points[group.name])
            numbers = mean_of_units(group.units, seen)
            if numbers is not None:
                found[group.name] = numbers
    return result


def mean_of_units(units: int, found: Iterable[tuple[ReadPoint, Floats]]) -> Floats | None:
    """Mean over read points of what was found for each position of each; None where a unit has no finite number."""
    total, count = np.zeros(units), np.zeros(units)
    for point, values in found:
        seen = np.bincount(point.unit, minlength=units) > 0
        total += point.per_unit(values, units)
        count += seen
    if not count.all() or not np.isfinite(total).all():
        return None
    return total / count


def by_sample(values: Array, axis: int, batch: Batch, analysed: Sequence[int], dim: int) -> Array | None:
    """The activation as (samples, positions of ``axis``, all other axes); None where no axis counts the samples.

    ``analysed``: its shape in the analysis, in which the batch has size ``dim``: so a time axis that happens to be as
    long as the batch is told from it. Where windows or heads are merged into the first axis they become an axis.
    """
    full = len(next(iter(batch.feeds.values())))
    size = values.shape
    if len(analysed) != values.ndim:
        return None
    for a in range(values.ndim):
        if a != axis and analysed[a] == dim and size[a] in {full, batch.count}:
            return np.moveaxis(values, (a, axis), (0, 1))[: batch.count]
    if axis and size[0] % full == 0 and analysed[0] % dim == 0:
        apart = values.reshape(full, size[0] // full, *size[1:])
        return np.moveaxis(apart, axis + 1, 1)[: batch.count]
    return None


def beside(analysed: Sequence[int], axis: int, dim: int) -> tuple[int, ...] | None:
    """Sizes of the axes that `by_sample` puts behind samples and positions, as far as the analysis can tell."""
    for a in range(len(analysed)):
        if a != axis and analysed[a] == dim:
            return tuple(n for k, n in enumerate(analysed) if k not in (a, axis))
    if axis and analysed[0] % dim == 0:
        return (analysed[0] // dim, *(n for k, n in enumerate(analysed) if k not in (0, axis)))
    return None


def batch_dim(coupling: Coupling) -> int:
    """The size of the batch in the analysis."""
    return int(coupling.shapes[coupling.graph.inputs[0]][0])


def completed(
    model: Model, coupling: Coupling, settings: Settings, found: Mapping[str, Floats], why: str
) -> UnitScores:
    """The scores found, and the substitute for the groups without, which a warning names: ``why`` says what is up."""
    missing = [g.name for g in coupling.groups if g.name not in found]
    if not missing:
        return UnitScores({g.name: found[g.name] for g in coupling.groups})
    norms = magnitude_of_units("l2", model, coupling, settings)
    scores = {}
    for group in coupling.groups:
        norm = norms[group.name]
        scores[group.name] = found.get(group.name, norm / max(norm.max(initial=0.0), np.finfo(np.float64).tiny))
    warning = f"{why}: {listed(missing)}; their units are scored by their l2 norm over the largest of the group"
    return UnitScores(scores, warnings=(warning, *norms.warnings))


def listed(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
