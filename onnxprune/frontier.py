"""Evaluating only what comes after a change: activations of the original at a cut, kept for the whole dataset.

Everything in front of the first node that a removal touches computes what it computed before. So the original is run
up to there once, and candidates are run from there on. A cut lies between two nodes; what crosses it and was computed
with weights is kept, batch by batch; the rest (masks, sizes, first states) is computed again from the graph's inputs.
A cut is passed over where one of its tensors does not hold something of every sample, or where they would not fit into
memory. A candidate in which what is kept would be another is run as a whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import psutil
from numpy.typing import NDArray

from onnxprune.cost import one_example
from onnxprune.data import Batch, Dataset, batches, fit
from onnxprune.evaluate import trimmed
from onnxprune.extract import crossing, extract, reached_from, reads
from onnxprune.graph import Graph, build_graph
from onnxprune.model import Model
from onnxprune.plan import Plan
from onnxprune.runtime import model_inputs, session
from onnxprune.samples import complete_shapes
from onnxprune.values import Coupling
from onnxprune.weights import dtype_of

__all__ = ["Frontier", "first_change", "positions", "spare_memory"]

Array = NDArray[Any]

SHARE = 4  # one part in so many of the memory that is free may hold inputs and activations
LIMITS = Path("/sys/fs/cgroup")  # where Linux tells a container how much memory it has
ROWS = 101  # a batch size that no other axis is likely to have


def spare_memory() -> int:
    """Bytes that may be kept: a quarter of what is free on this machine, or in this container."""
    free = psutil.virtual_memory().available
    try:
        most, used = (int((LIMITS / name).read_text()) for name in ("memory.max", "memory.current"))
        free = min(free, max(most - used, 0))
    except (OSError, ValueError):  # no such file, or "max"
        pass
    return int(free) // SHARE


def first_change(coupling: Coupling, plan: Plan) -> int:
    """The position in the main graph of the first node behind which a plan changes what is computed."""
    groups = (coupling.groups[coupling.by_name[name]] for name in plan.units)
    tensors = {member.tensor for group in groups for member in group.weights}
    return _first_reader(coupling, _fed(coupling), {*tensors, *plan.weights})


def positions(coupling: Coupling) -> dict[str, int]:
    """Group -> the position of the first node behind which its removal changes what is computed."""
    fed = _fed(coupling)
    return {g.name: _first_reader(coupling, fed, {m.tensor for m in g.weights}) for g in coupling.groups}


def _fed(coupling: Coupling) -> frozenset[str]:
    return reached_from(coupling.graph, coupling.graph.inputs)


def _first_reader(coupling: Coupling, fed: frozenset[str], tensors: set[str]) -> int:
    """The first node that reads one of these constants, or what follows from constants alone, beside other things."""
    readers, stack, found = coupling.graph.consumers, list(tensors), set[int]()
    while stack:
        for node, _ in readers.get(stack.pop(), ()):
            if fed.isdisjoint(node.outputs):
                fresh = [name for name in node.outputs if name and name not in tensors]
                tensors.update(fresh)
                stack += fresh
            else:
                found.add(int(node.where[0]))
    return min(found, default=0)


class Frontier:
    """The original's activations at a cut that moves forwards through the model."""

    def __init__(
        self,
        model: Model,
        dataset: Dataset,
        *,
        size: int = 64,
        provider: str = "auto",
        threads: int | None = None,
        memory: int | None = None,
    ) -> None:
        """Hold the dataset against the model; raises DataError where it does not fit.

        ``size``: samples at a time. ``memory``: bytes for inputs and activations, by default `spare_memory`.
        """
        self.model, self.size = model, size
        self.provider, self.threads = provider, threads
        self.data = fit(dataset, model_inputs(model))
        self.position = 0
        self.kept: tuple[str, ...] = ()
        self.whole = 0  # candidates that had to be run from the beginning
        self._values: list[dict[str, Array]] = []
        self._head: list[int] = []  # nodes that what is kept depends on
        room = spare_memory() if memory is None else memory
        given = _input_bytes(self.data)
        self._stored = list(batches(self.data, size)) if given <= room else None
        fixed = {name: (self.data.fixed or ROWS, *rows.shape[1:]) for name, rows in self.data.inputs.items()}
        graph = build_graph(model, one_example(model), fixed=fixed)
        self.graph = complete_shapes(graph, provider=provider, threads=threads)
        self._shapes: dict[str, list[int | str]] = {}
        self._cuts = self._usable(self.graph, room - given if self._stored else room)
        self._nodes = [node.SerializeToString(deterministic=True) for node in model.proto.graph.node]

    def _usable(self, graph: Graph, room: int) -> list[tuple[str, ...] | None]:
        """Per node what is kept at the cut behind it; None where there can be no cut."""
        fed = reached_from(graph, graph.inputs)
        heavy = reached_from(graph, [t for t, w in graph.weights.items() if len(w.shape) > 1])
        result: list[tuple[str, ...] | None] = []
        outputs: list[str] = []  # of the whole model, made in front of the cut
        for node, alive in zip(self.model.proto.graph.node, crossing(graph, fed), strict=True):
            outputs += (n for n in node.output if n in graph.outputs)
            names = tuple(dict.fromkeys((*alive, *outputs)))
            mine = tuple(name for name in names if name in heavy)
            if all(self._by_sample(graph, name) for name in mine):
                batch_bytes = sum(dtype_of(graph.dtypes[n]).itemsize * prod(graph.shapes[n]) for n in mine)
                result.append(mine if batch_bytes * len(self.data) / (self.data.fixed or ROWS) <= room else None)
            else:
                result.append(None)
        return result

    def _by_sample(self, graph: Graph, tensor: str) -> bool:
        """Whether a tensor holds something of every sample. Where the batch is fixed its size does not tell all."""
        shape = graph.shapes.get(tensor)
        if shape is None or tensor not in graph.dtypes:
            return False
        if self.data.fixed is None:
            return any(size and size % ROWS == 0 for size in shape)
        floats = dtype_of(graph.dtypes[tensor]).kind in "fV"  # V: those that NumPy lacks
        return len(shape) > 1 and (floats or shape[0] == self.data.fixed)

    def move(self, node: int) -> None:
        """Go on to the last cut that is not behind node ``node`` of the main graph; never back."""
        target = next((n for n in range(node, self.position, -1) if self._cuts[n - 1] is not None), self.position)
        if target == self.position:
            return
        names = self._cuts[target - 1] or ()
        missing = tuple(n for n in names if n not in self.kept)
        if missing:
            for number, (_, found) in enumerate(self._outputs(self._part(self.model, missing))):
                self._values[number : number + 1] = [{**self._kept(number), **found}]
        self._values = [{n: values[n] for n in names} for values in self._values]
        self.kept, self.position = names, target
        self._shapes = {name: _declared([values[name].shape for values in self._values]) for name in names}
        self._head = _ancestors(self.model.proto.graph, names)

    def run(self, candidate: Model) -> Iterator[tuple[Batch, dict[str, Array]]]:
        """Each batch, with its labels, and a changed model's outputs for it, without rows that only fill up."""
        names = [value.name for value in candidate.proto.graph.output]
        tail = self.tail(candidate)
        ready = () if tail is candidate else self.kept
        for number, (batch, found) in enumerate(self._outputs(tail)):
            found |= {name: self._values[number][name] for name in ready if name in names}
            yield batch, trimmed({name: found[name] for name in names if name in found}, batch)

    def tail(self, candidate: Model) -> Model:
        """The part of a changed model behind the cut; all of it where the change reaches in front of the cut."""
        if not self.kept:
            return candidate
        if not self._unchanged(candidate):
            self.whole += 1
            return candidate
        outputs = (value.name for value in candidate.proto.graph.output)
        return self._part(candidate, [name for name in outputs if name not in self.kept])

    def _unchanged(self, candidate: Model) -> bool:
        """Whether what is kept is what the candidate would compute: the same nodes and the very same weights."""
        now = {name: node for node in candidate.proto.graph.node for name in node.output if name}
        for number in self._head:
            before = self.model.proto.graph.node[number]
            after = next((now[name] for name in before.output if name in now), None)
            if after is None or after.SerializeToString(deterministic=True) != self._nodes[number]:
                return False
            weights = (name for name in reads(before) if name in self.model.weights)
            if any(candidate.weights.get(name) is not self.model.weights[name] for name in weights):
                return False
        return True

    def _outputs(self, part: Model) -> Iterator[tuple[Batch, dict[str, Array]]]:
        """What a part of the model gives for each batch, from what is kept and from the graph's inputs."""
        run = session(part, provider=self.provider, threads=self.threads, cache=False)
        names = [info.name for info in run.inputs]
        for number, batch in enumerate(self._rows()):
            given = {**batch.feeds, **self._kept(number)}
            yield batch, run.run({name: given[name] for name in names})

    def _kept(self, number: int) -> dict[str, Array]:
        return self._values[number] if self.kept else {}

    def _rows(self) -> Iterable[Batch]:
        return self._stored if self._stored is not None else batches(self.data, self.size)

    def _part(self, model: Model, outputs: Sequence[str]) -> Model:
        return extract(model, self.kept, outputs, self.graph.dtypes, self._shapes)


def _declared(shapes: Sequence[tuple[int, ...]]) -> list[int | str]:
    """The shape of a tensor of all batches: sizes that differ have a name, and equal sizes have equal names.

    onnxruntime fuses a convolution with an addition only where it knows that shapes agree: 10% of a ResNet's time.
    """
    sizes = (tuple(column) for column in zip(*shapes, strict=True))
    return [each[0] if len(set(each)) == 1 else f"rows {hash(each)}" for each in sizes]


def _input_bytes(data: Dataset) -> int:
    """What keeping all batches takes: nothing for arrays that are in memory already."""
    columns = (rows for _, rows in data.columns() if not isinstance(rows, np.ndarray))
    return sum(prod(rows.shape) * rows.dtype.itemsize for rows in columns)


def _ancestors(graph: onnx.GraphProto, names: Iterable[str]) -> list[int]:
    """The nodes that these tensors depend on, in order."""
    wanted, found = set(names), []
    for number in range(len(graph.node) - 1, -1, -1):
        if not wanted.isdisjoint(graph.node[number].output):
            wanted |= reads(graph.node[number])
            found.append(number)
    return found[::-1]
