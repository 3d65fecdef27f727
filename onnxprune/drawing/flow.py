"""What flows from the inputs of a model to its outputs, without the arithmetic on constants and shapes.

A *site* is a node of the outermost graph, together with the bodies inside of it. A tensor is *alive* when it depends on
an input of the model, and is not known from shapes alone.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property

from onnxprune.drawing.kinds import is_layer
from onnxprune.graph import Graph
from onnxprune.nodes import Node

__all__ = ["Flow", "Site", "flow_of"]

SOURCES = frozenset("RandomNormal RandomUniform".split())
TYPED_LIKE = 1  # inputs of CastLike whose values are read; of the other it is the type


@dataclass(frozen=True, eq=False)
class Site:
    """``nodes``: the outer node first. ``reads``, ``makes``: alive tensors. ``layer``: see `kinds.is_layer`."""

    number: int
    nodes: tuple[Node, ...]
    reads: tuple[str, ...]
    makes: tuple[str, ...]
    layer: bool
    looks_up: bool = False

    @property
    def node(self) -> Node:
        return self.nodes[0]

    @property
    def op(self) -> str:
        return self.nodes[0].op


@dataclass(frozen=True, eq=False)
class Flow:
    """The sites with something alive in them, in the order in which they run."""

    graph: Graph
    sites: tuple[Site, ...]

    @cached_property
    def maker(self) -> dict[str, int]:
        """Tensor -> number of the site."""
        return {tensor: site.number for site in self.sites for tensor in site.makes}

    @cached_property
    def readers(self) -> dict[str, tuple[int, ...]]:
        """Tensor -> numbers of the sites, each once."""
        found: dict[str, list[int]] = defaultdict(list)
        for site in self.sites:
            for tensor in site.reads:
                found[tensor].append(site.number)
        return {tensor: tuple(numbers) for tensor, numbers in found.items()}

    @cached_property
    def site_of(self) -> dict[int, int]:
        """Number of a node -> number of its site."""
        return {node.number: site.number for site in self.sites for node in site.nodes}


def flow_of(graph: Graph) -> Flow:
    """The flow of a graph. Linear in its size."""
    outer: dict[int | str, list[Node]] = {}
    for node in graph.nodes:
        outer.setdefault(node.where[0], []).append(node)
    together = [tuple(sorted(nodes, key=lambda node: len(node.where))) for nodes in outer.values()]
    alive, kept = _alive(graph, together)
    sites: list[Site] = []
    for nodes in (found for found, keep in zip(together, kept, strict=True) if keep):
        made = {output for node in nodes for output in node.outputs}
        formal = {name for node in nodes for body in node.bodies.values() for name in body.inputs}
        read = [i for node in nodes for i in _values_read(node) if i in alive and i not in made and i not in formal]
        if nodes[0].bodies:
            read += [
                o for node in nodes for b in node.bodies.values() for o in b.outputs if o in alive and o not in made
            ]
        looks_up = _looks_up(nodes[0], alive)
        sites.append(
            Site(
                len(sites), nodes, tuple(dict.fromkeys(read)), tuple(o for o in nodes[0].outputs if o in alive),
                is_layer(nodes[0], looks_up), looks_up,
            )
        )  # fmt: skip
    return Flow(graph, tuple(sites))


def _alive(graph: Graph, together: list[tuple[Node, ...]]) -> tuple[set[str], list[bool]]:
    """Alive tensors, and which of the nodes make or lead to an output; constants that are outputs count, too."""
    alive = set(graph.inputs)
    outputs, kept = set(graph.outputs), []
    for nodes in together:
        node = nodes[0]
        reads = any(i in alive for inner in nodes for i in _values_read(inner))
        living = reads or node.op in SOURCES or not outputs.isdisjoint(node.outputs)
        fresh = [o for o in node.outputs if o and (o not in graph.values or o in outputs)] if living else []
        alive.update(fresh)
        kept.append(bool(fresh))
    return alive, kept


def _values_read(node: Node) -> tuple[str, ...]:
    """The inputs whose values a node reads."""
    return node.inputs[:TYPED_LIKE] if node.op == "CastLike" else node.inputs


def _looks_up(node: Node, alive: set[str]) -> bool:
    """Whether a Gather reads rows that alive indices choose from a table of constants."""
    return node.op == "Gather" and node.input(0) not in alive and node.input(1) in alive
