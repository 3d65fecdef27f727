"""What a gradient rule speaks to: the tensors of the forward pass, and the cotangents that reached its node.

The *cotangent* of a tensor is the gradient of what is differentiated with respect to it. A rule gets those of its
node's outputs (``dy``) and returns one for each input, of the shape of that input or of a shape that it broadcasts to:
the reverse loop sums over broadcast axes, adds up what comes from several readers, and asks nobody for what is not
``needed``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import onnx
from numpy.typing import NDArray

from onnxprune._graphs import all_names
from onnxprune.graph import Graph, Node
from onnxprune.ops.emitter import Emitter, Sizes, Value

__all__ = ["Tape"]

Array = NDArray[Any]
T = TypeVar("T")


@dataclass(frozen=True)
class Pass:
    """What is known of a node while its rule speaks."""

    cotangents: tuple[Value | None, ...]
    needed: tuple[bool, ...]


class Tape(Emitter):
    """The forward pass of a model, and the nodes that are written behind it.

    ``graph``: its analysis view; ``other``: the same with other sizes of dynamic dimensions. ``guided``: activation
    functions let only positive cotangents through, as guided back-propagation has it (Springenberg et al.,
    arXiv:1412.6806). ``seed``: of what operators draw in training (Dropout).
    """

    def __init__(
        self,
        graph: Graph,
        other: Graph | None = None,
        *,
        training: bool = False,
        guided: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__(set(all_names(graph.model.proto)) | set(graph.weights), training=training)
        self.graph = graph
        self.guided = guided
        self.seed = seed
        self.inputs: list[Value] = []  # beside those of the model
        self.vanishing: dict[str, str] = {}  # cotangent -> the tensor where whose entries are 0 it is 0 as well
        self.updates: dict[str, str] = {}  # weight -> the tensor that is its new value after a step of training
        self._other = other
        self._asked: dict[tuple[int, int], str] = {}
        self._instead: dict[int, tuple[Emitter, Any]] = {}
        self._pass: dict[int, Pass] = {}
        self._values: dict[str, Value] = {}

    # the forward pass

    @property
    def views(self) -> tuple[Graph, ...]:
        """The analysis view, and the one with other sizes of dynamic dimensions where there is one."""
        return (self.graph,) if self._other is None else (self.graph, self._other)

    def tensor(self, name: str) -> Value:
        """A tensor of the forward pass, by name."""
        name = self.graph.origin.get(name, name)
        if name not in self._values:
            kind = self.graph.dtypes.get(name, int(onnx.TensorProto.FLOAT))
            self._values[name] = Value(self, name, self._sizes(name), kind)
        return self._values[name]

    def reads(self, node: Node) -> tuple[str, ...]:
        """Names of a node's inputs, where a vector that several layers read has one name."""
        return tuple(self.graph.origin.get(name, name) for name in node.inputs)

    def has(self, node: Node, k: int) -> bool:
        """Whether the node has input ``k``."""
        return bool(node.input(k))

    def input(self, node: Node, k: int) -> Value:
        """Input ``k``, which must be there."""
        return self.tensor(node.inputs[k])

    def optional(self, node: Node, k: int) -> Value | None:
        """Input ``k``, or None where the node does not have it."""
        return self.tensor(node.inputs[k]) if node.input(k) else None

    def output(self, node: Node, k: int = 0) -> Value:
        """Output ``k``, which must be there."""
        return self.tensor(node.outputs[k])

    def constant(self, node: Node, k: int) -> Array | None:
        """The values of input ``k`` where they are known: a constant, or shape arithmetic over fixed sizes."""
        name = node.input(k)
        if not name:
            return None
        if name in self.graph.weights:
            return np.asarray(self.graph.weights[name].array())
        value = self.graph.value(name)
        if value is None or name not in self.graph.from_shape or self._other is None:
            return value
        second = self._other.value(name)
        return value if second is not None and np.array_equal(value, second) else None

    def _sizes(self, name: str) -> Sizes | None:
        """Where the two assignments differ, a size is dynamic."""
        shape = self.graph.shape(name)
        if shape is None or self._other is None:
            return shape
        second = self._other.shape(name)
        if second is None or len(second) != len(shape):
            return None
        return tuple(a if a == b else -a for a, b in zip(shape, second, strict=True))

    def ask(self, node: Node, k: int, like: Value | None = None, *, dtype: int | None = None) -> Value:
        """An optional output of a forward node, which it gets if it has none (indices of MaxPool, mean of a norm).

        ``like``: a tensor of the same shape.
        """
        if node.output(k):
            return self.output(node, k)
        key = (node.number, k)
        if key not in self._asked:
            self._asked[key] = self.fresh(f"{node.name}_extra{k}")
        kind = dtype if dtype is not None else self.output(node).dtype
        return Value(self, self._asked[key], None if like is None else like.sizes, kind)

    def instead(self, node: Node, write: Callable[[Emitter], T]) -> T:
        """Nodes in the place of a forward node, which compute its outputs under their names, and more beside them.

        ``write`` is called once for a node; what it returned is given to all who ask.
        """
        if node.number not in self._instead:
            emitter = self.inner()
            self._instead[node.number] = emitter, write(emitter)
        found: T = self._instead[node.number][1]
        return found

    @property
    def replaced(self) -> Mapping[int, Emitter]:
        """Nodes that others stand in for: number of the node -> these."""
        return {number: emitter for number, (emitter, _) in self._instead.items()}

    @property
    def asked(self) -> Mapping[tuple[int, int], str]:
        """Outputs that nodes must get: (number of the node, position) -> name."""
        return self._asked

    # the reverse pass

    def visit(self, node: Node, cotangents: tuple[Value | None, ...], needed: tuple[bool, ...]) -> None:
        """Called by the reverse loop before the node's rule is."""
        self._pass[node.number] = Pass(cotangents, needed)

    def dy(self, node: Node, k: int = 0) -> Value:
        """The cotangent of output ``k``; zeros where nothing that is differentiated reads it."""
        found = self.known_dy(node, k)
        return self.zeros_like(self.output(node, k)) if found is None else found

    def known_dy(self, node: Node, k: int = 0) -> Value | None:
        """The cotangent of output ``k``, or None where it is zero."""
        cotangents = self._pass[node.number].cotangents
        return cotangents[k] if k < len(cotangents) else None

    def needs(self, node: Node, k: int) -> bool:
        """Whether somebody wants the cotangent of input ``k``."""
        needed = self._pass[node.number].needed
        return k < len(needed) and needed[k]
