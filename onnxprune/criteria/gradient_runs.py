"""Gradients over a dataset, batch by batch: of units (through their gates) and of weights.

Memory does not grow with the dataset: what comes out of the graph is added up as it comes. Batches are as large as the
settings say, or smaller where the activations that are kept for the way back would take more than 1 GB. Rows that only
fill up a fixed batch have no gradient. BatchNormalization keeps its statistics, so that examples do not depend on each
other and the gradient of the sum over a batch holds that of every example.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.autodiff import backward, build, open_tape
from onnxprune.criteria.base import Settings
from onnxprune.criteria.gradient_folding import without_batch_norm
from onnxprune.criteria.gradient_gates import contributions, gated
from onnxprune.criteria.gradient_goal import Goal, goal_and_data
from onnxprune.criteria.gradient_reach import out_of_reach
from onnxprune.criteria.slices import linear_weights
from onnxprune.data import Dataset, batches
from onnxprune.model import Model
from onnxprune.nodes import Node
from onnxprune.ops.emitter import FLOATS, Value
from onnxprune.ops.tape import Tape
from onnxprune.runtime import session
from onnxprune.values import Coupling

__all__ = [
    "Differentiated",
    "Written",
    "mean_gradients",
    "of_units",
    "of_weights",
    "ready",
    "trainable",
    "write_units",
    "write_weights",
]

Array = NDArray[Any]
Emit = Callable[[Tape, Value], Value]

MEMORY = 1 << 30  # bytes of activations that a batch may take


@dataclass(frozen=True, eq=False)
class Written:
    """A tape with gradients on it. ``values``: group or weight -> what the graph puts out for it.

    ``blocked``: group or weight -> the operator without a rule that is in its way. ``weights``: gradients of weights
    beside the values of groups.
    """

    tape: Tape
    values: Mapping[str, Value]
    blocked: Mapping[str, Node] = field(default_factory=dict)
    weights: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Differentiated:
    """A graph that is ready to run over samples. ``outputs``: group or weight -> name of its output."""

    model: Model
    outputs: Mapping[str, str]
    goal: Goal
    data: Dataset
    size: int
    blocked: Mapping[str, Node]

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the goal has to say."""
        return tuple(self.goal.warnings)

    def run(
        self,
        settings: Settings,
        extra: Mapping[str, Array] | None = None,
        *,
        alone: bool = False,
        optimize: bool = True,
    ) -> Iterator[tuple[int, dict[str, Array]]]:
        """Samples in a batch, and what came out for every group or weight.

        ``extra``: what is fed beside samples and labels. ``alone``: one sample at a time, where the model insists on a
        batch as well. ``optimize``: see `runtime.session`.
        """
        data = self.data
        if not self.outputs:
            return
        made = session(self.model, provider=settings.provider, threads=settings.threads, optimize=optimize, cache=False)
        taken = {info.name for info in made.inputs}
        done = 0
        parts = (data.select([row]) for row in range(len(data))) if alone else (data,)
        for batch in (batch for part in parts for batch in batches(part, self.size)):
            if settings.progress:
                settings.progress("measuring gradients", done, len(data))
            feeds = {**batch.feeds, **self.goal.feeds(batch), **(extra or {})}
            found = made.run({name: array for name, array in feeds.items() if name in taken})
            done += batch.count
            yield batch.count, {name: found[output] for name, output in self.outputs.items()}
        if settings.progress:
            settings.progress("measuring gradients", done, len(data))


def of_units(
    model: Model, coupling: Coupling, settings: Settings, emit: Emit, most: int | None = None
) -> Differentiated:
    """The contributions of all units that can be reached, each group's as ``emit`` sums them up.

    ``emit``: from (examples, units) to what leaves the graph. ``most``: samples, unless the settings say. Raises
    OptionError without a dataset, UnsupportedModel for a model that cannot be prepared for differentiation.
    """
    goal, data = goal_and_data(model, settings, most)
    written = write_units(model, coupling, goal)
    values = {name: emit(written.tape, value) for name, value in written.values.items()}
    return ready(Written(written.tape, values, written.blocked), goal, data, settings)


def of_weights(
    model: Model,
    settings: Settings,
    names: Collection[str],
    most: int | None = None,
) -> Differentiated:
    """Gradients of the sum over a batch with respect to these weights, as far as they can be reached."""
    goal, data = goal_and_data(model, settings, most)
    return ready(write_weights(model, goal, names), goal, data, settings)


def write_units(model: Model, coupling: Coupling, goal: Goal, weights: Collection[str] = ()) -> Written:
    """Group name -> contributions (examples, units); with the gradients of these weights, where there are any."""
    found = gated(model, coupling)
    read = {gate.point.tensor for gates in found.gates.values() for gate in gates}
    tape = open_tape(found.model if weights else without_batch_norm(found.model, {*read, *found.tensors}))
    seeds = goal.write(tape)
    reach = out_of_reach(tape.graph, seeds)
    blocked = {
        name: reach[tensor]
        for name, gates in found.gates.items()
        for tensor in (t for gate in gates for t in gate.tensors)
        if tensor in reach
    }
    home = {name: tape.graph.origin.get(name, name) for name in weights}
    wanted = [t for t in (*found.tensors, *home.values()) if t not in reach]
    gradients = backward(tape, seeds, list(dict.fromkeys(wanted)))
    units = {group.name: group.units for group in coupling.groups}
    values = contributions(tape, units, found, gradients)
    moved = {there: gradients[there] for there in home.values() if there in gradients and there in tape.graph.weights}
    return Written(tape, {name: v for name, v in values.items() if name not in blocked}, blocked, moved)


def write_weights(model: Model, goal: Goal, names: Collection[str]) -> Written:
    """Weight -> its gradient; vectors that are one in the model have one gradient."""
    tape = open_tape(model)
    seeds = goal.write(tape)
    reach = out_of_reach(tape.graph, seeds)
    home = {name: tape.graph.origin.get(name, name) for name in names}
    wanted = {name: there for name, there in home.items() if there in tape.graph.weights and there not in reach}
    gradients = backward(tape, seeds, list(dict.fromkeys(wanted.values())))
    found = {name: gradients[there] for name, there in wanted.items() if there in gradients}
    return Written(tape, found, {name: reach[there] for name, there in home.items() if there in reach})


def trainable(coupling: Coupling) -> tuple[str, ...]:
    """The linear constants that are floating point, by the names of the analysis view."""
    return tuple(name for name in linear_weights(coupling.graph) if coupling.graph.dtypes.get(name) in FLOATS)


def ready(written: Written, goal: Goal, data: Dataset, settings: Settings) -> Differentiated:
    """The graph that puts out what was written, with weights as constants."""
    outputs = {name: value.name for name, value in written.values.items()}
    model = build(written.tape, {value.name: value for value in written.values.values()}.values())
    size = min(settings.batch, max(1, MEMORY // max(_bytes_of_sample(written.tape), 1)))
    return Differentiated(model, outputs, goal, data, size, written.blocked)


def _bytes_of_sample(tape: Tape) -> int:
    """Of all activations of the forward pass together."""
    graph = tape.graph
    dim = graph.shapes[graph.inputs[0]][0] if graph.shapes.get(graph.inputs[0]) else 1
    made = (graph.shapes[name] for node in graph.nodes for name in node.outputs if name in graph.shapes)
    return sum(prod(shape) for shape in made) * np.dtype(np.float32).itemsize // max(dim, 1)


def mean_gradients(
    ran: Differentiated, settings: Settings, extra: Mapping[str, Array] | None = None, *, optimize: bool = True
) -> dict[str, Array]:
    """What comes out of every batch, added up and divided by the number of samples, float32."""
    totals: dict[str, Array] = {}
    count = 0
    for samples, gradients in ran.run(settings, extra, optimize=optimize):
        count += samples
        for name, gradient in gradients.items():
            part = gradient.astype(np.float32)
            totals[name] = totals[name] + part if name in totals else part
    return {name: total / np.float32(max(count, 1)) for name, total in totals.items()}
