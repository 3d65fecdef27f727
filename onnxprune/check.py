"""What is wrong with a model's structure, in words.

onnx's own checker refuses operators that it does not know and reads all data; this one looks at the wiring only:
every name has one producer, every name that is read has one, and nothing waits for itself. Linear in the number of
nodes; bodies of If, Loop and Scan and local functions included.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter

import onnx

from onnxprune._graphs import all_names, bodies, free_names

__all__ = ["Problem", "problems", "sort_nodes"]

DAMAGED = "The file is damaged: download or export it again."
EXPORT_AGAIN = "Export the model again; if the file was edited by hand, undo that edit."
SHOWN = 6  # nodes of a cycle that are spelled out


@dataclass(frozen=True)
class Problem:
    """What is wrong and what to do next."""

    message: str
    hint: str = EXPORT_AGAIN


def problems(model: onnx.ModelProto) -> Iterator[Problem]:
    """All structural problems, the ones to mend first in front; none for a sound model."""
    yield from _header(model)
    if not all(isinstance(name, str) for name in all_names(model)):
        yield Problem("a name is not valid UTF-8 text", DAMAGED)
        return
    yield from _scope(_Scope.of_graph(model.graph, "the graph"), ())
    for function in model.functions:
        yield from _scope(_Scope.of_function(function), ())


def sort_nodes(graph: onnx.GraphProto) -> bool:
    """Put producers in front of consumers where they are not, bodies included; says whether anything moved.

    Nodes keep their order as far as that is possible. The graph must have no cycle.
    """
    moved = [sort_nodes(body) for body in bodies(graph.node)]
    if _is_sorted(graph.node):
        return any(moved)
    after = _consumers(graph.node)
    waiting = Counter(consumer for consumers in after for consumer in consumers)
    ready = [number for number in range(len(graph.node)) if not waiting[number]]
    order = []
    while ready:
        order.append(heapq.heappop(ready))
        for consumer in after[order[-1]]:
            waiting[consumer] -= 1
            if not waiting[consumer]:
                heapq.heappush(ready, consumer)
    nodes = [graph.node[number] for number in order]
    del graph.node[:]
    graph.node.extend(nodes)
    return True


@dataclass(frozen=True)
class _Scope:
    """A graph or a function body, seen alike."""

    where: str
    inputs: Sequence[str]
    constants: Sequence[str]
    nodes: Sequence[onnx.NodeProto]
    outputs: Sequence[str]

    @classmethod
    def of_graph(cls, graph: onnx.GraphProto, where: str) -> _Scope:
        names = [t.name for t in graph.initializer] + [t.values.name for t in graph.sparse_initializer]
        return cls(where, [v.name for v in graph.input], names, graph.node, [v.name for v in graph.output])

    @classmethod
    def of_function(cls, function: onnx.FunctionProto) -> _Scope:
        return cls(f"function `{function.name}`", function.input, (), function.node, function.output)


def _header(model: onnx.ModelProto) -> Iterator[Problem]:
    if not model.ir_version:
        yield Problem("the model has no IR version")
    if model.ir_version >= 3 and not model.opset_import:
        yield Problem("the model names no opset, so that its operators have no meaning")
    named = {(o.domain, o.version) for o in model.opset_import}  # skl2onnx names one twice, which does no harm
    for domain, times in Counter(domain for domain, _ in named).items():
        if times > 1:
            yield Problem(f"the model imports {times} opsets of domain `{domain or 'ai.onnx'}`")


def _scope(scope: _Scope, outer: tuple[set[str], ...]) -> Iterator[Problem]:
    made = set(scope.inputs)
    yield from _repeated(scope.inputs, f"inputs of {scope.where}")
    yield from _repeated(scope.constants, f"initializers of {scope.where}")
    made.update(scope.constants)  # an initializer may be an input as well: its default
    for node in scope.nodes:
        yield from _outputs(node, made, scope)
    scopes = (*outer, made)
    for node in scope.nodes:
        yield from _inputs(node, scopes)
    for name in scope.outputs:
        if not any(name in known for known in scopes):
            yield Problem(f"output `{name}` of {scope.where} is produced by nothing")
    if not _is_sorted(scope.nodes):
        yield from _cycle(scope.nodes)


def _repeated(names: Iterable[str], what: str) -> Iterator[Problem]:
    for name, times in Counter(names).items():
        if times > 1:
            yield Problem(f"`{name}` stands {times} times among the {what}")
        if not name:
            yield Problem(f"one of the {what} has no name")


def _outputs(node: onnx.NodeProto, made: set[str], scope: _Scope) -> Iterator[Problem]:
    if not node.op_type:
        yield Problem(f"node `{node.name}` has no operator")
    for name in filter(None, node.output):
        if name in made:
            yield Problem(f"tensor `{name}` has two producers: {_first(name, scope)} and {_title(node)}")
        made.add(name)


def _first(name: str, scope: _Scope) -> str:
    """Words for what produces a tensor first."""
    if name in scope.inputs:
        return f"an input of {scope.where}"
    if name in scope.constants:
        return f"an initializer of {scope.where}"
    return next(_title(node) for node in scope.nodes if name in node.output)


def _inputs(node: onnx.NodeProto, scopes: tuple[set[str], ...]) -> Iterator[Problem]:
    for name in filter(None, node.input):
        if not any(name in known for known in scopes):
            yield Problem(f"{_title(node)} reads `{name}`, which nothing produces")
    for body in bodies((node,)):
        yield from _scope(_Scope.of_graph(body, f"the body `{body.name}` of {_title(node)}"), scopes)


def _title(node: onnx.NodeProto) -> str:
    return f"node `{node.name}` ({node.op_type})" if node.name else f"the {node.op_type} that makes {_outs(node)}"


def _outs(node: onnx.NodeProto) -> str:
    return ", ".join(f"`{name}`" for name in node.output if name) or "nothing"


def _reads(node: onnx.NodeProto) -> Iterator[str]:
    """Names that a node needs, those that its bodies take from outside included."""
    yield from filter(None, node.input)
    for body in bodies((node,)):
        yield from free_names(body)


def _is_sorted(nodes: Sequence[onnx.NodeProto]) -> bool:
    """No node reads what itself or a later node makes."""
    later = {name for node in nodes for name in node.output if name}
    for node in nodes:
        if not later.isdisjoint(_reads(node)):
            return False
        later.difference_update(node.output)
    return True


def _consumers(nodes: Sequence[onnx.NodeProto]) -> list[list[int]]:
    """Per node, the numbers of the nodes that read it, each once."""
    maker = {name: number for number, node in enumerate(nodes) for name in node.output if name}
    after: list[list[int]] = [[] for _ in nodes]
    for number, node in enumerate(nodes):
        for source in {maker[name] for name in _reads(node) if name in maker}:
            after[source].append(number)
    return after


def _cycle(nodes: Sequence[onnx.NodeProto]) -> Iterator[Problem]:
    after = _consumers(nodes)
    try:
        TopologicalSorter(dict(enumerate(after))).prepare()
    except CycleError as error:
        found = [_title(nodes[number]) for number in reversed(error.args[1])]
        if len(found) > SHOWN:
            found = [*found[: SHOWN - 2], f"... {len(found) - SHOWN + 1} more ...", found[-1]]
        yield Problem("the graph has a cycle: " + " -> ".join(found))
