"""Activations of chosen tensors over a dataset, batch by batch, and what can be summed up of them as they come.

No feature map is kept: ``reduce`` hands every batch to reducers, each of which holds a few numbers per channel.
``read_points`` says where the units of a group are seen by what reads them: behind norm and activation function, right
in front of the weights that multiply them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from onnxprune.data import Batch, Dataset, batches, fit
from onnxprune.graph import Graph
from onnxprune.model import Model
from onnxprune.nodes import Node
from onnxprune.runtime import model_inputs, session
from onnxprune.values import Coupling, Group, Ints, Member

__all__ = ["Firing", "Moments", "ReadPoint", "Reducer", "read_points", "reduce", "stream", "weight_readers"]

Array = NDArray[Any]
Floats = NDArray[np.float64]

MOVES = ("Identity", "Transpose", "Cast", "DequantizeLinear")  # what may stand between a constant and its reader
MEMORY = 256 << 20  # bytes of activations that are held at once


class Reducer(Protocol):
    """Sums up one tensor, batch by batch."""

    def add(self, values: Array) -> None: ...


class Moments:
    """Mean and variance (of the population) for each position of one axis, over all other axes.

    Batches are merged by the parallel formula of Chan, Golub and LeVeque, in float64.
    """

    def __init__(self, axis: int = 1) -> None:
        self.axis = axis
        self.count = 0
        self.mean: Floats = np.zeros(0)
        self._squares: Floats = np.zeros(0)

    def add(self, values: Array) -> None:
        rows = _by_position(values, self.axis)
        count, mean = rows.shape[1], rows.mean(axis=1, dtype=np.float64)
        squares = rows.var(axis=1, dtype=np.float64) * count
        if not self.count:
            self.count, self.mean, self._squares = count, mean, squares
            return
        total = self.count + count
        away = mean - self.mean
        self._squares = self._squares + squares + away**2 * self.count * count / total
        self.mean = self.mean + away * count / total
        self.count = total

    @property
    def variance(self) -> Floats:
        return self._squares / max(self.count, 1)


class Firing:
    """Share of the values above ``threshold`` for each position of one axis."""

    def __init__(self, axis: int = 1, threshold: float = 0.0) -> None:
        self.axis, self.threshold = axis, threshold
        self.count = 0
        self._above: Floats = np.zeros(0)

    def add(self, values: Array) -> None:
        rows = _by_position(values, self.axis)
        above = (rows > self.threshold).sum(axis=1).astype(np.float64)
        self._above = self._above + above if self.count else above
        self.count += rows.shape[1]

    @property
    def share(self) -> Floats:
        return self._above / max(self.count, 1)


def _by_position(values: Array, axis: int) -> Array:
    """(positions of the axis, everything else)."""
    return np.moveaxis(values, axis, 0).reshape(values.shape[axis], -1)


def reduce(
    model: Model,
    dataset: Dataset,
    reducers: Mapping[str, Sequence[Reducer]],
    *,
    size: int = 64,
    limit: int | None = None,
    provider: str = "auto",
    threads: int | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> None:
    """Hand every batch of each tensor to its reducers. Arguments and errors are those of ``stream``."""
    for _, values in stream(
        model, dataset, tuple(reducers), size=size, limit=limit, provider=provider, threads=threads, progress=progress
    ):
        for tensor, mine in reducers.items():
            for reducer in mine:
                reducer.add(values[tensor])


def stream(
    model: Model,
    dataset: Dataset,
    tensors: Sequence[str],
    *,
    size: int = 64,
    limit: int | None = None,
    provider: str = "auto",
    threads: int | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Iterator[tuple[Batch, dict[str, Array]]]:
    """Batches with the values of these tensors of the main graph (graph inputs included), in float32 as computed.

    ``size``: samples at a time, fewer where the values would take more than 256 MB; ``limit``: samples in all. Rows
    that only fill up a fixed batch are left out. Raises DataError where the dataset does not fit the model,
    OptionError where there is no such tensor.
    """
    fed = {info.name for info in model_inputs(model)}
    wanted = [t for t in dict.fromkeys(tensors) if t not in fed]
    data = fit(dataset, model_inputs(model))
    run = session(model, outputs=wanted, provider=provider, threads=threads) if wanted else None
    if run and not data.fixed:
        first = run.run(next(batches(data, 1)).feeds)
        size = min(size, max(1, MEMORY // max(sum(v.nbytes for v in first.values()), 1)))
    total = len(data) if limit is None else min(limit, len(data))
    done = 0
    for batch in batches(data, size, limit):
        if progress:
            progress("running the model", done, total)
        found = run.run(batch.feeds) if run else {}
        rows = len(next(iter(batch.feeds.values())))
        values = {t: _real(batch.feeds[t] if t in fed else found[t], batch.count, rows) for t in tensors}
        done += batch.count
        yield batch, values
    if progress:
        progress("running the model", total, total)


def _real(values: Array, count: int, rows: int) -> Array:
    """Without the rows that fill up a fixed batch."""
    return values[:count] if count < rows and values.ndim and len(values) == rows else values


@dataclass(frozen=True, eq=False)
class ReadPoint:
    """Where a group's units are read: position ``index[i]`` of axis ``axis`` of an activation is unit ``unit[i]``."""

    tensor: str
    axis: int
    index: Ints
    unit: Ints

    def per_unit(self, values: Floats, units: int) -> Floats:
        """Mean over the positions of every unit, of one number per position of the axis."""
        count = np.bincount(self.unit, minlength=units)
        return np.asarray(np.bincount(self.unit, values[self.index], units) / np.maximum(count, 1))


def read_points(coupling: Coupling) -> dict[str, tuple[ReadPoint, ...]]:
    """Group name -> where its units are read, in execution order; a group whose activations are inside bodies has none.

    That is each activation that a node multiplies by weights which consume the group's units; where no weight does
    (the units end in a sum or an output), the last activation that carries them.
    """
    return {group.name: tuple(_points(coupling, group)) for group in coupling.groups}


def _points(coupling: Coupling, group: Group) -> Iterator[ReadPoint]:
    graph = coupling.graph
    outer = {t for node in graph.nodes if len(node.where) == 1 for t in node.outputs} | set(graph.inputs)
    live = [m for m in group.members if not m.weight and m.block is None and m.tensor in outer and m.unit.size]
    live = [m for m in live if _depends_on_input(graph, m)]
    found = [m for m in live if weight_readers(graph, group, m.tensor)]
    order = {t: n.number for n in graph.nodes for t in n.outputs}
    if not found and live:
        found = [max(live, key=lambda m: order.get(m.tensor, -1))]
    for m in sorted(found, key=lambda m: order.get(m.tensor, -1)):
        yield ReadPoint(m.tensor, m.axis, m.index, m.unit)


def weight_readers(graph: Graph, group: Group, tensor: str) -> tuple[Node, ...]:
    """The nodes that multiply a tensor by weights which consume units of the group."""
    reading = {m.tensor for m in group.weights if m.consumes}
    nodes = {node.number: node for node, _ in graph.consumers.get(tensor, ())}
    return tuple(node for node in nodes.values() if _reads(graph, node, reading))


def _depends_on_input(graph: Graph, member: Member) -> bool:
    """An activation, not a constant that was only moved or reshaped."""
    return _source(graph, member.tensor, (*MOVES, "Reshape", "Unsqueeze")) not in graph.weights


def _reads(graph: Graph, node: Node, reading: set[str]) -> bool:
    """Whether the node has one of these constants among its inputs, seen through what only moves it."""
    return any(_source(graph, name, MOVES) in reading for name in node.inputs)


def _source(graph: Graph, tensor: str, through: Sequence[str]) -> str:
    """Where a tensor comes from, seen through these operators."""
    maker = graph.producer.get(tensor)
    while maker is not None and maker.op in through and not maker.domain:
        tensor = maker.input(0)
        maker = graph.producer.get(tensor)
    return tensor
