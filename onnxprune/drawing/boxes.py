"""From a model and its groups to the boxes of a drawing: names, types, units, shapes and costs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from math import prod, sqrt

from onnxprune.cost import example_graph
from onnxprune.drawing.clusters import Cluster, clusters_of
from onnxprune.drawing.counts import multiplied, readers_of, shares
from onnxprune.drawing.flow import Flow, Site, flow_of
from onnxprune.drawing.kinds import ATTENTION, EMBEDDING, JOINS, NORMS, RECURRENT
from onnxprune.drawing.repeats import repeats_of
from onnxprune.drawing.values import Box, Edge, Sketch
from onnxprune.graph import Graph
from onnxprune.model import Model
from onnxprune.naming import node_title
from onnxprune.nodes import Node
from onnxprune.values import Coupling

__all__ = ["sketch"]

CONVOLUTIONS = frozenset("Conv ConvTranspose ConvInteger QLinearConv FusedConv DeformConv".split())
LINEARS = frozenset(
    "Gemm MatMul MatMulInteger QLinearMatMul MatMulNBits MatMulIntegerToFloat DynamicQuantizeMatMul FusedGemm "
    "FusedMatMul QGemm LinearClassifier LinearRegressor Einsum MatMulBnb4 QOrderedMatMul".split()
)
ROLES = {  # role of a small cluster -> kind of box, word, mark
    "channel norm": ("normalisation", "normalisation", "N"),
    "norm": ("normalisation", "normalisation", "N"),
    "pool": ("pooling", "pooling", "P"),
    "global pool": ("pooling", "global pooling", "P"),
    "softmax": ("activation", "softmax", "σ"),
    "activation": ("activation", "activation", "ƒ"),
    "resize": ("other", "resize", "↕"),
    "other": ("other", "", "·"),
}
FLOATS = (1, 10, 11, 16)  # ONNX types
SQUARE = 2  # axes of a kernel that may be written 3×3


def sketch(model: Model, coupling: Coupling, graph: Graph | None = None) -> Sketch:
    """The layers of a model, linear in its size. ``model``: without local functions, as `analyse` gives it.

    ``graph``: a view of the model to take shapes and MACs from; by default that with a batch of 1.
    """
    flow = flow_of(graph or example_graph(model, dict(coupling.options.shapes)))
    return _Making(flow, coupling).sketch()


class _Making:
    """What is looked up again and again while boxes are made."""

    def __init__(self, flow: Flow, coupling: Coupling) -> None:
        self.flow, self.graph, self.coupling = flow, flow.graph, coupling
        self.clusters, self.of = clusters_of(flow)
        self.readers = readers_of(flow)
        self.host = _hosts(flow, self.of)
        self.parameters, self.macs = self._hosted(shares(flow, self.readers)), self._hosted(multiplied(flow))
        self.weights: dict[int, list[str]] = defaultdict(list)
        for name, sites in self.readers.items():
            for site in sites:
                self.weights[self.host.get(site, site)].append(name)
        self.made: dict[str, list[str]] = defaultdict(list)  # weight -> groups whose units it produces
        self.held: dict[str, list[str]] = defaultdict(list)  # tensor -> groups with a member on it
        for group in coupling.groups:
            for member in group.members:
                self.held[member.tensor].append(group.name)
                if member.weight and member.linear and not member.consumes:
                    self.made[member.tensor].append(group.name)
        self.kinds = {group.name: group.kind for group in coupling.groups}
        self.units = {group.name: group.units for group in coupling.groups}
        self.quiet = self._quiet()
        self.first: dict[int, bool] = {}  # box -> whether its channels are on axis 1

    def _hosted(self, counts: Mapping[int, int]) -> dict[int, int]:
        """With what is counted for plumbing moved to the layer behind it."""
        found: dict[int, int] = defaultdict(int)
        for site, count in counts.items():
            found[self.host.get(site, site)] += count
        return found

    def sketch(self) -> Sketch:
        edges = self._edges()
        boxes = [self._input(name) for name in self.graph.inputs]
        before: dict[int, list[int]] = defaultdict(list)
        for edge in edges:
            before[edge.target].append(edge.source)
        order = [c.sites[-1] for c in self.clusters]
        for cluster in self.clusters:
            boxes.append(self._box(len(boxes), cluster, before))
        ends = len(boxes)
        boxes += [self._output(ends + i, name) for i, name in enumerate(self.graph.outputs)]
        gone = {len(self.graph.inputs) + number for number in self.quiet}
        return _ordered([box for box in boxes if box.id not in gone], edges, order, len(self.graph.inputs))

    def _quiet(self) -> dict[int, str]:
        """Clusters that only prepare a mask or an index, with the input that they are drawn as a part of."""
        found: dict[int, str] = {}
        origin = {name: name for name in self.graph.inputs if self.graph.dtypes.get(name, 1) not in FLOATS}
        for number, cluster in sorted(enumerate(self.clusters), key=lambda pair: pair[1].sites[0]):
            sites = [self.flow.sites[n] for n in cluster.sites]
            made = {tensor for site in sites for tensor in site.makes}
            sources = {self._origin(tensor, origin) for site in sites for tensor in site.reads if tensor not in made}
            heavy = cluster.role in ("layer", "recurrent", "attention") or any(
                self.weights.get(s.number) for s in sites
            )
            if not heavy and len(sources) == 1 and None not in sources:
                found[number] = next(str(name) for name in sources)
                origin.update(dict.fromkeys(made, found[number]))
        return found

    def _origin(self, tensor: str, origin: dict[str, str]) -> str | None:
        """The input that a tensor comes from by plumbing and quiet clusters alone."""
        while tensor not in origin:
            maker = self.flow.maker.get(tensor)
            if maker is None or maker in self.of or not self.flow.sites[maker].reads:
                return None
            tensor = self.flow.sites[maker].reads[0]
        return origin[tensor]

    def _edges(self) -> list[Edge]:
        """What flows between boxes: those of inputs come first, then clusters, then outputs."""
        flow, shift, quiet = self.flow, len(self.graph.inputs), self.quiet
        source = {name: i for i, name in enumerate(self.graph.inputs)}
        found: dict[tuple[int, int], str] = {}
        for site in flow.sites:
            mine = self.of.get(site.number)
            if mine in quiet:
                source.update(dict.fromkeys(site.makes, self.graph.inputs.index(quiet[mine])))
                continue
            if mine is None:
                for made in site.makes:
                    source[made] = next((source[read] for read in site.reads if read in source), -1)
                continue
            for read in site.reads:
                if source.get(read, -1) not in (-1, mine + shift):
                    found.setdefault((source[read], mine + shift), read)
            source.update(dict.fromkeys(site.makes, mine + shift))
        first = shift + len(self.clusters)
        for i, name in enumerate(self.graph.outputs):
            if source.get(name, -1) >= 0:
                found[source[name], first + i] = name
        inner = {b for a, b in found if a >= shift}
        joins = {shift + n for n, cluster in enumerate(self.clusters) if cluster.role == "join"}
        return [
            Edge(a, b, self.graph.shape(tensor), a < shift and b in inner and b not in joins and b < first)
            for (a, b), tensor in found.items()
        ]

    def _input(self, name: str) -> Box:
        number = self.graph.inputs.index(name)
        shape = self.graph.shape(name)
        self.first[number] = True
        inside = [n for c, quiet in self.quiet.items() if quiet == name for n in self.clusters[c].sites]
        nodes = [node for n in sorted(inside) for node in self.flow.sites[n].nodes]
        return Box(
            number, name, "end", "input", "in", carries=self._carries([], [name]), shape=shape,
            extent=_extent(shape, first=True), nodes=tuple(f"{node.key} {node.name}".rstrip() for node in nodes),
            numbers=tuple(node.number for node in nodes),
        )  # fmt: skip

    def _output(self, number: int, name: str) -> Box:
        shape = self.graph.shape(name)
        return Box(number, name, "end", "output", "out", carries=self._carries([], [name]), shape=shape)

    def _box(self, number: int, cluster: Cluster, before: Mapping[int, list[int]]) -> Box:
        sites = [self.flow.sites[n] for n in cluster.sites]
        head = self.flow.sites[cluster.head]
        kind, word, mark = self._kind(cluster, head)
        weights = tuple(dict.fromkeys(name for site in sites for name in self.weights[site.number]))
        groups, also = self._produced(cluster, sites)
        shape = self.graph.shape(head.makes[0]) if head.makes else None
        self.first[number] = self._channels_first(kind, head, shape, [self.first.get(b, True) for b in before[number]])
        first = self.first[number]
        units, unit_word = self._units(kind, head, shape, groups, first=first)
        ends = [self.graph.shape(t) for t in sites[-1].makes]
        if shape and ends and ends[0] and len(ends[0]) != len(shape) and kind != "linear":
            self.first[number] = len(ends[0]) <= SQUARE  # a feature map that becomes a sequence
        if any(site.op == "Transpose" and tuple(site.node.attrs.get("perm", ()))[-1:] == (1,) for site in sites):
            self.first[number] = False
        tensors = [t for site in sites for node in site.nodes for t in node.outputs if t]
        return Box(
            id=number,
            name=self._name(cluster, head, sites),
            kind=kind,
            word=word,
            mark=mark,
            groups=groups,
            also=also,
            carries=self._carries(weights, tensors),
            units=units,
            unit_word=unit_word,
            shape=shape,
            extent=self._size(head, shape, first=first),
            parameters=sum(self.parameters.get(site.number, 0) for site in sites),
            macs=sum(self.macs.get(site.number, 0) for site in sites),
            nodes=tuple(f"{node.key} {node.name}".rstrip() for site in sites for node in site.nodes),
            numbers=tuple(node.number for site in sites for node in site.nodes),
            weights=weights,
        )

    def _kind(self, cluster: Cluster, head: Site) -> tuple[str, str, str]:
        """(kind, type in words, mark)."""
        node = head.node
        if cluster.role == "join":
            return "join", f"join ({node.op})", JOINS[node.op]
        if cluster.role in ROLES:
            kind, word, mark = ROLES[cluster.role]
            return kind, word if word in ("softmax", "global pooling") else _small_word(word, head), mark
        if node.op in CONVOLUTIONS:
            return self._convolution(node)
        if node.op in LINEARS and cluster.role == "layer":
            return ("linear", "linear", "L") if self.weights[head.number] else ("other", "matrix product", "⊡")
        cell = node.op.removeprefix("DynamicQuantize")
        for found, is_one in (
            (("attention", "attention", "A"), cluster.role == "attention" or node.op in ATTENTION),
            (("control", f"{node.op} with its body", node.op), bool(node.bodies)),
            (("recurrent", cell, cell), node.op in RECURRENT),
            (("embedding", "embedding", "E"), head.looks_up or node.op in EMBEDDING),
        ):
            if is_one:
                return found
        return "other", node.key, "·"

    def _convolution(self, node: Node) -> tuple[str, str, str]:
        weight = next((self.graph.shape(i) for i in node.inputs[1:] if len(self.graph.shape(i) or ()) > SQUARE), ())
        size = tuple(node.attrs.get("kernel_shape") or (weight or ())[2:])
        strides = [s for s in node.attrs.get("strides", ()) if s > 1]
        grouped = int(node.attrs.get("group", 1))
        deep = grouped > 1 and bool(weight) and grouped == (weight or (0,))[0]
        word = (
            "transposed convolution"
            if node.op == "ConvTranspose"
            else "depthwise convolution"
            if deep
            else "convolution"
        )
        parts = [f"{word} {'×'.join(map(str, size))}".rstrip()]
        parts += [f"stride {max(strides)}"] if strides else []
        parts += [f"{grouped} groups"] if grouped > 1 and not deep else []
        return "depthwise" if deep else "convolution", ", ".join(parts), "C"

    def _name(self, cluster: Cluster, head: Site, sites: Sequence[Site]) -> str:
        if cluster.role == "attention":
            titles = [node_title(self.graph, site.node) for site in sites if site.layer and self.weights[site.number]]
            return _common(titles) or (titles or ["attention"])[0]
        return node_title(self.graph, head.node)

    def _produced(self, cluster: Cluster, sites: Sequence[Site]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """(groups that the units of the box belong to, other groups produced inside of it)."""
        found: dict[str, None] = {}
        if cluster.role == "recurrent" and not sites[0].node.bodies:
            return tuple(dict.fromkeys(self.held.get(sites[0].node.output(0) or sites[0].makes[0], ()))), ()
        for site in sites:
            if site.layer:
                for name in self.weights[site.number]:
                    if len(self.graph.weights[name].shape) > 1:
                        found.update(dict.fromkeys(self.made.get(name, ())))
        heads = tuple(name for name in found if self.kinds[name].startswith("head"))
        if cluster.role == "attention" or sites[0].op in ATTENTION:
            return heads, tuple(name for name in found if name not in heads)
        return tuple(found), ()

    def _units(
        self, kind: str, head: Site, shape: tuple[int, ...] | None, groups: Sequence[str], *, first: bool
    ) -> tuple[int | None, str]:
        """How many units a layer has, and what they are called."""
        if groups and kind not in ("join", "normalisation", "pooling", "activation"):
            words = {"recurrent": "cells", "convolution": "filters", "depthwise": "filters", "linear": "neurons"}
            word = self.kinds[groups[0]]
            return sum(self.units[name] for name in groups), words.get(kind, word) if word in (
                "channels",
                "neurons",
            ) else word
        if not shape or kind not in ("convolution", "depthwise", "linear", "recurrent", "embedding"):
            return None, ""
        if kind == "recurrent":
            return int(head.node.attrs.get("hidden_size", shape[-1])), "cells"
        channels = shape[1] if first and len(shape) > 1 else shape[-1]
        return channels, "filters" if kind in (
            "convolution",
            "depthwise",
        ) else "outputs" if kind == "linear" else "channels"

    def _channels_first(self, kind: str, head: Site, shape: tuple[int, ...] | None, before: Sequence[bool]) -> bool:
        if kind in ("convolution", "depthwise"):
            return True
        if kind in ("linear", "attention", "embedding", "recurrent") or head.op in NORMS:
            return len(shape or ()) <= SQUARE
        return all(before)

    def _size(self, head: Site, shape: tuple[int, ...] | None, *, first: bool) -> float:
        if head.op in RECURRENT and shape:
            return float(shape[1] if head.node.attrs.get("layout", 0) else shape[0])
        return _extent(shape, first=first)

    def _carries(self, weights: Sequence[str], tensors: Sequence[str]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for tensor in (*weights, *tensors) for name in self.held.get(tensor, ())))


def _hosts(flow: Flow, of: Mapping[int, int]) -> dict[int, int]:
    """Plumbing between layers -> the first site of a layer that reads what it makes, else the one before."""
    found: dict[int, int] = {}
    for site in reversed(flow.sites):
        if site.number not in of:
            after = [found.get(n, n) for tensor in site.makes for n in flow.readers.get(tensor, ())]
            before = [flow.maker[tensor] for tensor in site.reads if tensor in flow.maker]
            if after or before:
                found[site.number] = (after or before)[0]
    for number in sorted(found):
        found[number] = found.get(found[number], found[number])
    return found


def _common(titles: Sequence[str]) -> str:
    """The module that all of these are in, "" for none."""
    parts = [title.split(".") for title in titles]
    same = (
        [part for part, *others in zip(*parts, strict=False) if all(other == part for other in others)] if parts else []
    )
    while same and parts and not all(mine[: len(same)] == same for mine in parts):
        same.pop()
    return ".".join(same)


def _small_word(word: str, head: Site) -> str:
    return f"{word} ({head.node.key})" if word else head.node.key


def _extent(shape: tuple[int, ...] | None, *, first: bool) -> float:
    """Side of a feature map: the root of its positions; for a sequence their number."""
    if shape is None or len(shape) <= SQUARE:
        return 1.0
    inner = shape[2:] if first else shape[1:-1]
    return float(prod(inner) if len(inner) < SQUARE else sqrt(prod(inner)))


def _ordered(boxes: Sequence[Box], edges: Sequence[Edge], last_sites: Sequence[int], inputs: int) -> Sketch:
    """With ids in the order of running, which edges follow, and the repeats in it."""
    last = 1 << 60

    def key(box: Box) -> tuple[int, int]:
        place = box.id - inputs
        if place < 0:
            return (-1, box.id)
        return (last_sites[place], box.id) if place < len(last_sites) else (last, box.id)

    order = sorted(boxes, key=key)
    new = {box.id: i for i, box in enumerate(order)}
    named = tuple(_renumbered(box, new[box.id]) for box in order)
    moved = sorted(
        (Edge(new[e.source], new[e.target], e.shape, e.side) for e in edges), key=lambda e: (e.target, e.source)
    )
    return Sketch(named, tuple(moved), repeats_of(named, moved))


def _renumbered(box: Box, number: int) -> Box:
    return box if box.id == number else Box(**{**box.__dict__, "id": number})
