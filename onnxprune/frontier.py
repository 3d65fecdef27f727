"""Evaluating only what comes after a change: activations of the original at a cut, kept for the whole dataset.

Everything in front of the first node that a removal touches computes what it computed before. So the original is run
up to there once, and candidates are run from there on. A cut lies between two nodes; what crosses it and has one row
per sample is kept, what does not (masks, tables, sizes) is computed again from the graph's inputs. A cut is passed
over where that would take weights, or where its activations would not fit into memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.cost import one_example
from onnxprune.data import Dataset, batches, fit
from onnxprune.extract import crossing, extract, reached_from
from onnxprune.graph import Graph, build_graph
from onnxprune.model import Model
from onnxprune.plan import Plan
from onnxprune.runtime import model_inputs, session
from onnxprune.values import Coupling

__all__ = ["Frontier", "first_change"]

Array = NDArray[Any]

MEMORY = 1 << 30  # bytes of kept activations
ROWS = 101  # a batch size that no other axis is likely to have


def first_change(coupling: Coupling, plan: Plan) -> int:
    """The position in the main graph of the first node that reads a constant which the plan cuts."""
    graph = coupling.graph
    cut = {m.tensor for name in plan.units for m in coupling.groups[coupling.by_name[name]].weights}
    cut.update(plan.weights)
    return min((int(node.where[0]) for t in cut for node, _ in graph.consumers.get(t, ())), default=0)


class Frontier:
    """The original's activations at a cut that moves forwards through the model."""

    def __init__(
        self, model: Model, dataset: Dataset, *, size: int = 64, provider: str = "auto", threads: int | None = None
    ) -> None:
        """``dataset`` is held against the model at once; raises DataError where it does not fit."""
        self.model = model
        self.size, self.provider, self.threads = size, provider, threads
        self.original = fit(dataset, model_inputs(model))
        self.kept: dict[str, Array] = {}
        self.position = 0
        graph = build_graph(model, dict.fromkeys(one_example(model), ROWS))
        self._rows = self.original.fixed or ROWS
        self._types = graph.dtypes
        self._shapes = {n: (self.original.fixed, *(None for _ in s[1:])) for n, s in graph.shapes.items() if s}
        self._cuts = self._usable(graph)

    def _usable(self, graph: Graph) -> list[tuple[str, ...] | None]:
        """Per node what is kept at the cut behind it; None where there can be no cut."""
        fed = reached_from(graph, graph.inputs)
        heavy = reached_from(graph, [t for t, w in graph.weights.items() if len(w.shape) > 1])
        samples = len(self.original)
        result: list[tuple[str, ...] | None] = []
        for names in crossing(graph, fed):
            known = [n for n in names if n in graph.shapes and n in graph.dtypes]
            mine = tuple(n for n in known if graph.shapes[n] and graph.shapes[n][0] == self._rows)
            nbytes = sum(4 * prod(graph.shapes[n][1:]) * samples for n in mine)
            bad = any(n in heavy for n in names if n not in mine)
            result.append(None if bad or nbytes > MEMORY else mine)
        return result

    def move(self, node: int) -> None:
        """Go on to the last cut that is not behind node ``node`` of the main graph; never back."""
        target = next((n for n in range(node, self.position, -1) if self._cuts[n - 1] is not None), self.position)
        if target == self.position:
            return
        names = self._cuts[target - 1] or ()
        missing = [n for n in names if n not in self.kept]
        if missing:
            found = self._run(self._part(self.model, missing), missing)
            self.kept = {n: found[n] if n in found else self.kept[n] for n in names}
        else:
            self.kept = {n: self.kept[n] for n in names}
        self.position = target

    def _run(self, head: Model, names: Sequence[str]) -> dict[str, Array]:
        run = session(head, outputs=names, provider=self.provider, threads=self.threads)
        data = fit(self.dataset, run.inputs)
        parts: dict[str, list[Array]] = {name: [] for name in names}
        for batch in batches(data, self.size):
            for name, values in run.run(batch.feeds).items():
                parts[name].append(values[: batch.count])
        return {name: np.concatenate(arrays) for name, arrays in parts.items()}

    @property
    def dataset(self) -> Dataset:
        """The graph's inputs and what is kept at the cut, as a dataset for what ``tail`` gives."""
        return replace(self.original, inputs={**self.original.inputs, **self.kept}, dtypes={})

    def tail(self, candidate: Model) -> Model:
        """The part of a changed model behind the cut; the change must lie behind it as well."""
        outputs = tuple(value.name for value in candidate.proto.graph.output)
        return self._part(candidate, outputs) if self.kept else candidate

    def _part(self, model: Model, outputs: Sequence[str]) -> Model:
        return extract(model, tuple(self.kept), outputs, self._types, self._shapes)
