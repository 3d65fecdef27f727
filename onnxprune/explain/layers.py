"""Which tensor shows the units of a layer, and where in it they lie.

A layer is named as a person would: a group ("conv4"), a tensor, or a node. The tensor of a group is what its readers
see: behind bias, norm and activation function, but in front of pooling, which would take the place away.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.activations import read_points
from onnxprune.autodiff.prepare import analysed
from onnxprune.errors import OptionError
from onnxprune.graph import Graph, Node
from onnxprune.model import Model
from onnxprune.ops import elementwise
from onnxprune.ops.emitter import FLOATS
from onnxprune.values import Coupling, Group, Ints, Member

__all__ = ["Layer", "View", "attention_layer", "class_layer", "default_layer", "find_layer", "look_at"]

Array = NDArray[Any]
LIGHT = {rule.key for rule in elementwise.RULES} | {("", "BatchNormalization"), ("", "InstanceNormalization")}
SQUASHING = ("Softmax", "LogSoftmax", "Sigmoid", "Identity", "Cast")
CHANNELS_FIRST = ("Conv", "ConvTranspose", "FusedConv", "ConvInteger", "QLinearConv", "DeformConv")
SHOWN = 3


@dataclass(frozen=True, eq=False)
class View:
    """A model without local functions, its groups, and two assignments of its dynamic sizes (None: it has none)."""

    model: Model
    coupling: Coupling
    graph: Graph
    other: Graph | None

    def batch_axis(self, tensor: str) -> int:
        """The axis of a tensor along which the samples lie, alone or times something that varies slower than they do.

        Raises OptionError where there is none.
        """
        one = self.graph.shape(tensor)
        two = one if self.other is None else self.other.shape(tensor)
        if one is not None and two is not None and self.graph.inputs:
            first = self.graph.inputs[0]
            sizes = self.graph.shapes[first][0], (self.other or self.graph).shapes[first][0]
            pairs = list(zip(one, two, strict=True))
            for alone in (True, False):
                for axis, pair in enumerate(pairs):
                    if pair == sizes or (not alone and _multiple(pair, sizes)):
                        return axis
        raise OptionError(f"`{tensor}` has no axis of the samples, so that it belongs to no instance", "Name another.")


def _multiple(pair: tuple[int, int], sizes: tuple[int, int]) -> bool:
    return all(a % b == 0 and a >= b for a, b in zip(pair, sizes, strict=True)) and (
        sizes[0] == sizes[1] or pair[0] != pair[1]
    )


@dataclass(frozen=True, eq=False)
class Layer:
    """Position ``index[i]`` of axis ``axis`` of ``tensor`` belongs to unit ``unit[i]``; samples lie along ``batch``.

    On a ragged axis (both directions of a recurrence) it is the position inside block ``block[i]``, where axis
    ``along`` is cut into ``blocks`` parts. ``kind``: the word for the units. ``group``: None for a tensor of no group.
    """

    name: str
    tensor: str
    axis: int
    batch: int
    units: int
    index: Ints
    unit: Ints
    block: Ints | None = None
    along: int | None = None
    blocks: int = 1
    kind: str = "channels"
    group: str | None = None

    def choose(self, units: Sequence[int] | None) -> Ints:
        """These units, all by default. Raises OptionError for one that is not there."""
        if units is None:
            return np.arange(self.units)
        chosen = np.asarray(units, np.int64).reshape(-1)
        bad = chosen[(chosen < 0) | (chosen >= self.units)]
        if bad.size or not chosen.size:
            told = f"unit {bad[0]}" if bad.size else "no unit"
            raise OptionError(
                f"layer {self.name}: {told} is asked for; it has {self.units} {self.kind}, 0 to {self.units - 1}",
                "Choose among them.",
            )
        return chosen

    def masks(self, shape: Sequence[int]) -> Array:
        """1 at the positions of each unit of a tensor of this shape: (units, ...), of size 1 where nothing differs."""
        kept = {self.axis} | ({self.along} if self.along is not None else set())
        masks = np.zeros((self.units, *(size if k in kept else 1 for k, size in enumerate(shape))), np.float32)
        if self.along is None or self.block is None:
            np.moveaxis(masks, 1 + self.axis, 1)[self.unit, self.index] = 1
            return masks
        part = shape[self.along] // self.blocks
        view = np.moveaxis(masks, (1 + self.along, 1 + self.axis), (1, 2))
        for step in range(part):
            view[self.unit, self.block * part + step, self.index] = 1
        return masks

    def per_unit(self, values: Array, count: int) -> Array:
        """(instances, units, everything else) of the tensor's values; the mean, where a unit has several positions."""
        axes = [self.axis] if self.along is None else [self.along, self.axis]
        rest = [k for k in range(values.ndim) if k not in (*axes, self.batch)]
        shape = [values.shape[k] for k in rest]
        per = values.shape[self.batch] // count
        flat = values.transpose(self.batch, *axes, *rest)
        size = int(np.prod(flat.shape[1 : 1 + len(axes)]))
        flat = flat.reshape(count, per, size, *shape)
        flat = np.moveaxis(flat, 2, 1) if per > 1 else flat.reshape(count, size, *shape)
        where, unit = self._flat(values.shape)
        order = np.argsort(unit, kind="stable")
        if len(unit) == self.units:
            return np.ascontiguousarray(flat[:, where[order]])
        starts = np.searchsorted(unit[order], np.arange(self.units))
        sums = np.add.reduceat(flat[:, where[order]], starts, axis=1)
        counts = np.bincount(unit, minlength=self.units).astype(values.dtype)
        return np.asarray(sums / counts.reshape(1, -1, *[1] * (sums.ndim - 2)))

    def _flat(self, shape: Sequence[int]) -> tuple[Ints, Ints]:
        """Positions in the units' axes seen as one, and the unit of each."""
        if self.along is None or self.block is None:
            return self.index, self.unit
        part = shape[self.along] // self.blocks
        rows = self.block[:, None] * part + np.arange(part)
        return (rows * shape[self.axis] + self.index[:, None]).reshape(-1), np.repeat(self.unit, part)


def look_at(model: Model, coupling: Coupling) -> View:
    """The view of a model that its groups belong to (without local functions)."""
    graph, other = analysed(model, dict(coupling.options.shapes))
    return View(model, coupling, graph, other)


def find_layer(view: View, name: str) -> Layer:
    """A group, a tensor or a node by name. Raises OptionError, with the nearest names."""
    groups = view.coupling.by_name
    if name in groups:
        return _group_layer(view, view.coupling.groups[groups[name]])
    outer = {t for node in _outer(view.graph) for t in node.outputs if t}
    if name in outer or name in view.graph.inputs:
        return _tensor_layer(view, name, name)
    node = next((n for n in _outer(view.graph) if n.name == name and n.output(0)), None)
    if node is not None:
        return _tensor_layer(view, node.output(0), name)
    known = list(dict.fromkeys([*groups, *sorted(outer), *(n.name for n in _outer(view.graph) if n.name)]))
    near = get_close_matches(name, known, SHOWN, 0.4) or list(groups)[:SHOWN]
    hint = f"Did you mean {', '.join(near)}?" if near else "`onnxprune inspect` lists them."
    raise OptionError(f"{view.model.label} has no layer `{name}`: no group, tensor or node of that name", hint)


def default_layer(view: View) -> Layer:
    """The last group with units that have a height and a width, else the last group, else the classes."""
    found = [layer for group in view.coupling.groups for layer in _maybe(view, group)]
    order = {t: n.number for n in view.graph.nodes for t in n.outputs}
    pictures = [
        layer for layer in found if len(view.graph.shapes[layer.tensor]) > 3 and not layer.kind.startswith("head")
    ]
    best = max(pictures or found, key=lambda layer: order.get(layer.tensor, -1), default=None)
    return class_layer(view) if best is None else best


def class_layer(view: View, output: str | None = None) -> Layer:
    """An output (the first one of numbers, by default) in front of its Softmax or Sigmoid, whose units are classes.

    Raises OptionError where there is no such output.
    """
    graph = view.graph
    floats = [name for name in graph.outputs if graph.dtypes.get(name) in FLOATS and graph.shape(name)]
    if not floats or (output is not None and output not in graph.outputs):
        raise OptionError(
            f"{view.model.label} has no output `{output}`" if output else f"{view.model.label} puts out no scores",
            f"Its outputs: {', '.join(graph.outputs)}.",
        )
    tensor = output or floats[0]
    while (node := graph.producer.get(tensor)) is not None and node.op in SQUASHING and not node.domain:
        if len(node.where) > 1 or graph.dtypes.get(node.input(0)) not in FLOATS:
            break
        tensor = node.input(0)
    return _whole(view, tensor, output or floats[0], "classes")


def attention_layer(view: View, layer: Layer) -> Layer | None:
    """Where the attention of a group of heads can be seen: weights of shape (sample, head, query, key), or None."""
    if layer.group is None or not layer.kind.startswith("head"):
        return None
    group = view.coupling.groups[view.coupling.by_name[layer.group]]
    for node in _outer(view.graph):
        members = [m for m in group.members if m.tensor == node.output(0)] if node.op == "Softmax" else []
        if members and members[0].index.size == group.units:
            return _layer(view, layer.name, members[:1], group)
    return None


def _maybe(view: View, group: Group) -> Iterator[Layer]:
    try:
        yield _group_layer(view, group)
    except OptionError:
        return


def _group_layer(view: View, group: Group) -> Layer:
    graph = view.graph
    outer = {t: n.number for n in _outer(graph) for t in n.outputs}
    points = read_points(view.coupling)[group.name]
    seen = {p.tensor for p in points}
    live = sorted(
        (m for m in group.members if not m.weight and m.tensor in outer and m.unit.size), key=lambda m: outer[m.tensor]
    )
    if group.kind.startswith("head"):
        live = [m for m in live if m.tensor in seen] or live
        return _layer(view, group.name, _same_axis(live[:1], group), group) if live else _hidden(group)
    carried = [m for m in live if _depends(graph, m.tensor)]
    if not carried:
        return _hidden(group)
    at = _last_light(graph, carried[0].tensor, {m.tensor for m in carried})
    return _layer(view, group.name, _same_axis([m for m in carried if m.tensor == at][:1], group), group)


def _hidden(group: Group) -> Layer:
    raise OptionError(
        f"the activations of group {group.name} lie inside the body of a loop", "Name a tensor outside of it."
    )


def _depends(graph: Graph, tensor: str) -> bool:
    """Whether a tensor follows from the values of an input, not from constants and sizes alone."""
    stack, seen = [tensor], set[str]()
    while stack:
        name = stack.pop()
        if name in graph.inputs:
            return True
        node = graph.producer.get(name)
        if node is not None and name not in seen and node.op not in ("Shape", "Size"):
            seen.add(name)
            if node.bodies:
                return True
            stack.extend(filter(None, node.inputs))
    return False


def _last_light(graph: Graph, tensor: str, mine: set[str]) -> str:
    """The last tensor that element-wise operators alone make of this one, and through which all that they make goes."""
    current, opened, shape = tensor, {tensor}, graph.shape(tensor)
    start = graph.producer[tensor].number
    done: set[int] = set()
    for node in graph.nodes[start + 1 :]:
        if opened.isdisjoint(node.inputs):
            continue
        output = node.output(0)
        if (
            (node.domain, node.op) not in LIGHT
            or output not in mine
            or graph.shape(output) != shape
            or len(node.where) > 1
        ):
            break
        done.add(node.number)
        opened.add(output)
        opened = {t for t in opened if not _read_up(graph, t, done)}
        if len(opened) == 1:
            current = next(iter(opened))
    return current


def _read_up(graph: Graph, tensor: str, done: set[int]) -> bool:
    readers = graph.consumers.get(tensor, ())
    return bool(readers) and tensor not in graph.outputs and all(node.number in done for node, _ in readers)


def _same_axis(first: Sequence[Member], group: Group) -> list[Member]:
    return [m for m in group.members if (m.tensor, m.axis) == (first[0].tensor, first[0].axis)]


def _layer(view: View, name: str, members: Sequence[Member], group: Group) -> Layer:
    first = members[0]
    blocks = [m.block for m in members if m.block is not None]
    return Layer(
        name,
        first.tensor,
        first.axis,
        view.batch_axis(first.tensor),
        group.units,
        np.concatenate([m.index for m in members]),
        np.concatenate([m.unit for m in members]),
        np.concatenate(blocks) if blocks else None,
        first.along if blocks else None,
        first.blocks,
        group.kind,
        group.name,
    )


def _tensor_layer(view: View, tensor: str, name: str) -> Layer:
    """The units of the group that lives on a tensor, else one unit for each of its channels."""
    for group in view.coupling.groups:
        members = [m for m in group.members if m.tensor == tensor and m.unit.size]
        if members:
            return _layer(view, name, _same_axis(members[:1], group), group)
    return _whole(view, tensor, name, "channels")


def _whole(view: View, tensor: str, name: str, kind: str) -> Layer:
    shape, batch = view.graph.shape(tensor), view.batch_axis(tensor)
    if shape is None or view.graph.dtypes.get(tensor) not in FLOATS:
        raise OptionError(f"`{tensor}` holds no floating-point numbers of known shape", "Name another layer.")
    if len(shape) == 1:
        raise OptionError(f"`{tensor}` has one number for each sample and no axis of units", "Name another layer.")
    axis = _channel_axis(view.graph, tensor, len(shape))
    axis = axis if axis != batch else next(k for k in range(len(shape)) if k != batch)
    index = np.arange(shape[axis])
    return Layer(name, tensor, axis, batch, shape[axis], index, index, kind=kind)


def _channel_axis(graph: Graph, tensor: str, rank: int) -> int:
    """1 behind a convolution and for maps over heads or places (4 and more axes), else the last."""
    node = graph.producer.get(tensor)
    while node is not None and (node.domain, node.op) in LIGHT:
        node = graph.producer.get(node.input(0))
    return 1 if rank > 3 or (node is not None and node.op in CHANNELS_FIRST) else rank - 1


def _outer(graph: Graph) -> Iterator[Node]:
    return (node for node in graph.nodes if len(node.where) == 1)
