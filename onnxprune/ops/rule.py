"""What one operator says about itself: the `Rule`, the roles of its inputs, and what it does to zeros.

A rule answers these questions, one function each:

``couple``  which elements of its inputs, parameters and outputs are the same thing (`ties.Ties`)
``roles``   what each input is when it is a constant: only *linear* ones are zeroed, counted and scored
``zero``    whether an element of the output is exactly 0 when its unit is zeroed (`Zeros`)
``cut``     what surgery must update besides slicing constants (`cutting.Cutter`)
``macs``    multiply-accumulate operations for given shapes
``vjp``     how gradients flow back through it (`tape.Tape`); or one of these instead:
``expand``  the same in operators that have a ``vjp`` (`emitter.Emitter`)
``flat``    True: no small change of an input changes the output, so that its gradient is 0

and, where it is another thing in training than in inference (BatchNormalization, Dropout), ``train``: what it becomes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from onnxprune.graph import Graph, Node
from onnxprune.values import Ints

if TYPE_CHECKING:
    from onnxprune.ops.cutting import Cutter
    from onnxprune.ops.emitter import Value
    from onnxprune.ops.tape import Tape
    from onnxprune.ops.ties import Ties

__all__ = [
    "Role",
    "Rule",
    "Shape",
    "Shapes",
    "Zeros",
    "zero_all",
    "zero_any",
    "zero_by_inputs",
    "zero_keeps",
    "zero_lost",
]

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]


class Role(Enum):
    """What a constant is to the operator that reads it."""

    LINEAR = "linear"  # weight, bias, scale: zeroed, counted, scored
    PASS = "pass"  # moved or re-typed: whatever the output is to its readers
    DIVISOR = "divisor"
    VARIANCE = "variance"
    EXPONENT = "exponent"
    BOUND = "bound"
    CONDITION = "condition"
    INDEX = "index"
    TABLE = "table"
    SHAPE = "shape"  # a list of sizes, axes or pads
    SCALE = "scale"  # of a quantised tensor
    ZERO_POINT = "zero point"
    STATE = "state"  # initial state of a recurrence
    DATA = "data"  # ordinary input of an operator that is not linear in it: cut with the unit, never zeroed

    @property
    def linear(self) -> bool:
        return self is Role.LINEAR


@dataclass(frozen=True)
class Rule:
    """All knowledge about one operator. ``roles``: by input position, the last one repeats.

    ``shapeless``: the rule sees to tensors of unknown shape itself (sequences, bodies of control flow).

    ``vjp`` (vector-Jacobian product) returns the cotangent of each input, None for one that has none or is not needed;
    each has the shape of its input or one that the input is broadcast to. ``expand`` and ``train`` return the outputs,
    made of other nodes (None for one that nobody reads). A rule without ``vjp``, ``expand`` and ``flat`` cannot be
    differentiated.
    """

    op: str
    couple: Callable[[Node, Ties], None]
    roles: tuple[Role, ...]
    zero: Callable[[Node, Zeros], None]
    cut: Callable[[Node, Cutter], None] | None = None
    macs: Callable[[Node, Shapes], int] | None = None
    domain: str = ""
    shapeless: bool = False
    vjp: Callable[[Node, Tape], Sequence[Value | None]] | None = None
    expand: Callable[[Node, Tape], Sequence[Value | None]] | None = None
    train: Callable[[Node, Tape], Sequence[Value | None]] | None = None
    flat: bool = False

    @property
    def key(self) -> tuple[str, str]:
        return self.domain, self.op

    def role(self, k: int) -> Role:
        """Role of input ``k``."""
        return self.roles[min(k, len(self.roles) - 1)]


class Zeros:
    """Which elements are exactly 0 in the masked model, provided that their unit is removed.

    ``flags[element]`` starts as False for graph inputs and for constants that are never zeroed, and True elsewhere;
    rules are run in execution order and take back what does not hold. ``hazards`` collects elements where zeros
    make NaN (0/0).
    """

    def __init__(
        self,
        graph: Graph,
        flags: NDArray[np.bool_],
        records: Sequence[Sequence[tuple[int, Ints, Ints]]],
        outputs: Callable[[Node], Ints],
    ) -> None:
        self.graph = graph
        self.flags = flags
        self._records = records
        self.outputs = outputs
        self.hazards: list[Ints] = []

    def records(self, node: Node) -> Sequence[tuple[int, Ints, Ints]]:
        """What the node tied, in order: (input position or -1, source elements, target elements)."""
        return self._records[node.number]

    def set(self, ids: Ints, value: bool) -> None:
        self.flags[ids] = value


def zero_keeps(node: Node, z: Zeros) -> None:
    """Zero goes to zero: an output element is 0 where every element tied to it is 0."""
    outputs = z.outputs(node)
    reached = [d for _, _, d in z.records(node)]
    for _, source, target in z.records(node):
        z.flags[target[~z.flags[source]]] = False
    z.set(np.setdiff1d(outputs, np.concatenate(reached)) if reached else outputs, False)


def zero_lost(node: Node, z: Zeros) -> None:
    """Zero becomes something else (Sigmoid, Exp), or nothing is known about it."""
    z.set(z.outputs(node), False)


def zero_any(node: Node, z: Zeros) -> None:
    """One zero factor is enough (Mul)."""
    outputs = z.outputs(node)
    z.set(outputs, False)
    for _, source, target in z.records(node):
        z.flags[target[z.flags[source]]] = True


def zero_all(node: Node, z: Zeros) -> None:
    """Every operand must be 0 (Add): one that does not carry the axis is not, unless it is the constant 0."""
    outputs = z.outputs(node)
    per_input: dict[int, list[tuple[Ints, Ints]]] = {}
    for k, source, target in z.records(node):
        per_input.setdefault(k, []).append((source, target))
    result = np.ones(outputs.size, np.bool_)
    base = np.argsort(outputs, kind="stable")
    for k, tensor in enumerate(node.inputs):
        if not tensor or _is_zero(z.graph, tensor):
            continue
        mine = np.zeros(outputs.size, np.bool_)
        for source, target in per_input.get(k, ()):
            at = base[np.searchsorted(outputs, target, sorter=base)]
            mine[at] = z.flags[source]
        result &= mine
    z.flags[outputs] = result


def zero_by_inputs(*positions: int) -> Callable[[Node, Zeros], None]:
    """Only the listed inputs decide (scale and bias of a normalisation): 0 where those that exist are all 0."""

    def zero(node: Node, z: Zeros) -> None:
        outputs = z.outputs(node)
        wanted = [k for k in positions if node.input(k)]
        if not outputs.size or not wanted:
            z.set(outputs, False)
            return
        first = int(outputs.min())  # the outputs of one node are numbered close together
        hits = np.zeros(int(outputs.max()) - first + 1, np.int8)
        for k, source, target in z.records(node):
            if k in wanted:
                hits[target[z.flags[source]] - first] += 1
        z.flags[outputs] = hits[outputs - first] >= len(wanted)

    return zero


def _is_zero(graph: Graph, tensor: str) -> bool:
    value = graph.values.get(tensor)
    return value is not None and value.dtype != object and not np.any(value)
