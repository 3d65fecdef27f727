"""Which part of an input moves a unit: gradients, in the forms in which they are looked at.

``gradient``          dy/dx
``gradient-x-input``  x dy/dx: what a linear model would add up
``guided``            dy/dx, only what is positive passing backwards through activation functions (guided
                      back-propagation: Springenberg et al., arXiv:1412.6806)
``integrated``        (x - x') times the mean of dy/dx on the way from a baseline x' to x; sums up to y(x) - y(x')
                      (integrated gradients: Sundararajan et al., arXiv:1703.01365)

y is the activation of a unit of a layer, or the score of a class. For tokens x is the embedding; what is given for one
token is the sum over its width (of ``gradient`` and ``guided`` the length of the vector).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.data import Dataset
from onnxprune.errors import OptionError
from onnxprune.explain.gradients import UnitGradients
from onnxprune.explain.instances import chosen_rows, feeds_of, fitted, labels_of
from onnxprune.explain.layers import Layer, View
from onnxprune.explain.sources import Source, find_sources, values_of
from onnxprune.frontier import spare_memory
from onnxprune.values import Ints

__all__ = ["METHODS", "Attribution", "Histogram", "attribute", "suggest_method"]

Array = NDArray[Any]
Progress = Callable[[str, int, int], None]
METHODS = ("guided", "gradient", "gradient-x-input", "integrated")
RECTIFIERS = frozenset("Relu Clip LeakyRelu PRelu ThresholdedRelu".split())
STEPS = 32
BINS = 50
IMAGE = 4  # axes of a batch of images


@dataclass(frozen=True, eq=False)
class Histogram:
    """``counts[u, i]`` values of unit u lie between ``edges[i]`` and ``edges[i + 1]``; the edges are common to all."""

    edges: NDArray[np.float64]
    counts: Ints


@dataclass(frozen=True, eq=False)
class Attribution:
    """``values``: input name -> (instances, units, *shape of the input), of tokens (instances, units, tokens).

    ``units[i, u]``: the unit of the layer that column u of instance i is about. ``scores[i, u]``: its activation.
    ``inputs``: the instances as the model got them. ``missing[i, u]``: what integrated gradients leave unexplained of
    y(x) - y(baseline); None for the other methods. ``kinds``: input name -> `Source.kind`.
    """

    method: str
    at: str
    layer: Layer
    rows: tuple[int, ...]
    units: Ints
    scores: Array
    values: Mapping[str, Array]
    inputs: Mapping[str, Array]
    kinds: Mapping[str, str]
    missing: Array | None = None

    @property
    def main(self) -> str:
        """The input with the most values: the one to look at."""
        return max(self.values, key=lambda name: int(np.prod(self.values[name].shape[2:])))

    def histogram(self, name: str | None = None, bins: int | None = None) -> Histogram:
        """How the values of each unit are distributed, over all instances: for each filter that of its pixels.

        ``bins``: by default twice the root of the number of values, at most 50.
        """
        values = self.values[name or self.main]
        rows = np.moveaxis(values, 1, 0).reshape(values.shape[1], -1)
        bins = bins or min(BINS, int(np.ceil(2 * np.sqrt(rows.shape[1]))))
        low, high = float(rows.min()), float(rows.max())
        edges = np.linspace(low, high if high > low else low + 1.0, bins + 1)
        return Histogram(edges, np.stack([np.histogram(row, edges)[0] for row in rows]).astype(np.int64))


def attribute(  # noqa: PLR0913 - one argument for each option of the command
    view: View,
    data: Dataset | Mapping[str, Array],
    layer: Layer,
    *,
    method: str = "gradient",
    rows: Sequence[int] | None = None,
    units: Sequence[int] | str | None = None,
    at: str = "max",
    steps: int = STEPS,
    baseline: Mapping[str, Array] | None = None,
    provider: str = "auto",
    threads: int | None = None,
    progress: Progress | None = None,
) -> Attribution:
    """Attributions of units of a layer to the inputs, for some samples (all by default).

    ``units``: numbers, None for all, "predicted" for the highest of each instance, "label" for its label. ``at``: where
    a unit with many positions is differentiated, "max" or "sum". ``steps`` and ``baseline`` (input name -> values that
    broadcast, for tokens their vectors; 0 by default) are those of ``integrated``.

    Raises OptionError, DataError; UnsupportedModel where an operator has no gradient rule.
    """
    if method not in METHODS:
        raise OptionError(f"method: got {method!r}, expected one of {', '.join(METHODS)}", "Choose one of them.")
    if steps < 1:
        raise OptionError(f"steps: got {steps}, expected at least 1", "Leave it out.")
    numbers = chosen_rows(data, rows)
    dataset = fitted(view.model, data, numbers)
    feeds = feeds_of(dataset)
    found = find_sources(view)
    if not found:
        raise OptionError(f"{view.model.label} has no input that could be differentiated", "Look at feature maps.")
    if units == "predicted":
        which = _predicted(view, layer, feeds, dataset.fixed, provider, threads)
    else:
        which = _units_of(data, layer, units, numbers)
    gradients = UnitGradients(view, layer, found, at=at, guided=method == "guided", provider=provider, threads=threads)
    given = {**feeds, **_in_batches(view, found, feeds, dataset.fixed, provider, threads)}
    _check_room(gradients.sources, given, which)
    count, many = which.shape
    instance, unit = np.repeat(np.arange(count), many), which.reshape(-1)
    if method == "integrated":
        scores, raw, missing = _integrated(gradients, given, instance, unit, steps, baseline or {}, progress)
    else:
        scores, raw = gradients.run(given, instance, unit, _told(progress, 0, 1, len(unit)))
        missing = None
        if method == "gradient-x-input":
            raw = {name: values * given[name][instance] for name, values in raw.items()}
    shaped = {name: values.reshape(count, many, *values.shape[1:]) for name, values in raw.items()}
    names = _names(gradients.sources)
    summed = method in ("gradient-x-input", "integrated")
    return Attribution(
        method,
        at,
        layer,
        numbers,
        which,
        scores.reshape(count, many),
        {names[s.tensor]: _per_token(shaped[s.tensor], s, summed=summed) for s in gradients.sources},
        {names[s.tensor]: feeds[s.name] for s in gradients.sources},
        {names[s.tensor]: s.kind for s in gradients.sources},
        None if missing is None else missing.reshape(count, many),
    )


def suggest_method(view: View, layer: Layer) -> str:
    """For pictures in front of rectifiers "guided", for anything else "gradient-x-input"."""
    pictures = any(s.kind != "tokens" and len(view.graph.shapes[s.tensor]) == IMAGE for s in find_sources(view))
    stack, seen = [layer.tensor], set[str]()
    while stack:
        node = view.graph.producer.get(stack.pop())
        if node is None or node.name in seen:
            continue
        if node.op in RECTIFIERS and pictures:
            return "guided"
        seen.add(node.name)
        stack.extend(filter(None, node.inputs))
    return "gradient-x-input"


def _units_of(
    data: Dataset | Mapping[str, Array], layer: Layer, units: Sequence[int] | str | None, rows: Sequence[int]
) -> Ints:
    """(instances, units)."""
    if units == "label":
        if not isinstance(data, Dataset):
            raise OptionError("the data have no labels", "Name the classes by number.")
        return layer.choose(labels_of(data, rows).tolist())[:, None]
    if isinstance(units, str):
        raise OptionError(f"units: got {units!r}, expected numbers, predicted or label", "Write them as 0,3,5.")
    return np.tile(layer.choose(units), (len(rows), 1))


def _predicted(
    view: View, layer: Layer, feeds: Mapping[str, Array], fixed: int | None, provider: str, threads: int | None
) -> Ints:
    """The unit with the highest value, for each instance: (instances, 1)."""
    found = _in_batches(view, [Source("", layer.tensor, "layer")], feeds, fixed, provider, threads)[layer.tensor]
    scores = layer.per_unit(found, len(next(iter(feeds.values()))))
    return np.asarray(scores.reshape(*scores.shape[:2], -1).max(2).argmax(1)[:, None])


def _in_batches(
    view: View, sources: Sequence[Source], feeds: Mapping[str, Array], fixed: int | None, provider: str,
    threads: int | None,
) -> dict[str, Array]:  # fmt: skip
    """The values of all sources, run as many samples at a time as the model takes."""
    if fixed is None or all(source.kind == "input" for source in sources):
        return values_of(view, sources, feeds, provider, threads)
    count = len(next(iter(feeds.values())))
    parts: list[dict[str, Array]] = []
    for start in range(0, count, fixed):
        rows = np.minimum(np.arange(start, start + fixed), count - 1)
        parts.append(values_of(view, sources, {n: a[rows] for n, a in feeds.items()}, provider, threads))
    return {name: np.concatenate([part[name] for part in parts])[:count] for name in parts[0]}


def _integrated(
    gradients: UnitGradients, given: Mapping[str, Array], instance: Ints, unit: Ints, steps: int,
    baseline: Mapping[str, Array], progress: Progress | None,
) -> tuple[Array, dict[str, Array], Array]:  # fmt: skip
    """Scores, attributions and what is missing, by the midpoint rule over ``steps`` points of the straight way."""
    ends = {s.tensor: given[s.tensor] for s in gradients.sources}
    names = {s.tensor: s.name for s in gradients.sources}
    starts = {n: np.broadcast_to(np.asarray(baseline.get(names[n], 0), a.dtype), a.shape) for n, a in ends.items()}
    total: dict[str, Array] = {}
    for step in range(steps):
        share = (step + 0.5) / steps
        there = {n: (starts[n] + share * (a - starts[n])).astype(a.dtype) for n, a in ends.items()}
        report = _told(progress, step, steps + 2, len(unit))
        _, found = gradients.run({**given, **there}, instance, unit, report)
        for name, values in found.items():
            total[name] = total[name] + values if name in total else values.astype(np.float64)
    scores, _ = gradients.run(given, instance, unit, _told(progress, steps, steps + 2, len(unit)))
    before, _ = gradients.run({**given, **starts}, instance, unit, _told(progress, steps + 1, steps + 2, len(unit)))
    parts = {n: values / steps * (ends[n] - starts[n])[instance] for n, values in total.items()}
    explained = sum(values.reshape(len(unit), -1).sum(1) for values in parts.values())
    shown = {name: values.astype(ends[name].dtype) for name, values in parts.items()}
    return scores, shown, np.asarray(scores.astype(np.float64) - before - explained)


def _per_token(values: Array, source: Source, *, summed: bool) -> Array:
    if source.kind != "tokens":
        return values
    return values.sum(-1) if summed else np.asarray(np.linalg.norm(values, axis=-1))


def _names(sources: Sequence[Source]) -> dict[str, str]:
    """Source tensor -> the input's name; an input that several tables look at has its tensors behind it."""
    twice = {s.name for s in sources if sum(other.name == s.name for other in sources) > 1}
    return {s.tensor: f"{s.name} ({s.tensor})" if s.name in twice else s.name for s in sources}


def _check_room(sources: Sequence[Source], given: Mapping[str, Array], which: Ints) -> None:
    needed = 2 * which.size * sum(given[s.tensor][0].nbytes for s in sources)
    if needed > spare_memory():
        raise OptionError(
            f"the gradients of {which.shape[1]} units for {which.shape[0]} instances take {needed / 1e9:.1f} GB, more "
            "than there is to spare",
            "Choose fewer units or instances.",
        )


def _told(progress: Progress | None, done: int, of: int, pairs: int) -> Callable[[int], None] | None:
    if progress is None:
        return None
    return lambda count: progress("gradients", done * pairs + count, of * pairs)
