"""What surgery offers to operator rules: sizes before and after, and the few edits that a rule may ask for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import onnx
from numpy.typing import NDArray

from onnxprune.graph import Graph, Node
from onnxprune.values import Ints, Options

__all__ = ["Cutter"]


class Cutter(Protocol):
    """The surgeon's side of a rule's ``cut``. Edits go to a copy of the protobuf."""

    graph: Graph
    options: Options

    def old_shape(self, tensor: str) -> tuple[int, ...]:
        """Concrete shape before the cut."""

    def new_shape(self, tensor: str) -> tuple[int, ...]:
        """Concrete shape after the cut."""

    def size(self, tensor: str, axis: int) -> int:
        """Size of an axis after the cut."""

    def keep(self, tensor: str, axis: int) -> Ints:
        """Old positions that survive on an axis, ascending. On a ragged axis those of its first block."""

    def changed(self, tensor: str, axis: int | None = None) -> bool:
        """Whether the axis (or any axis) of the tensor loses something."""

    def set_attr(self, node: Node, name: str, value: Any) -> None:
        """Set an attribute of the node; a value equal to the present one changes nothing."""

    def drop_attr(self, node: Node, name: str) -> None:
        """Remove an attribute."""

    def want(self, node: Node, k: int, value: NDArray[Any] | Sequence[int]) -> None:
        """Input ``k`` must have this value, given present concrete sizes.

        A constant gets a copy of its own; a value computed at run time is scaled entry by entry, so that dynamic
        dimensions stay dynamic. Entries of 0 and -1 in a computed value stay.
        """

    def value(self, tensor: str) -> NDArray[Any] | None:
        """The value that the tensor has now, after the cuts made so far."""

    def set_input(self, node: Node, k: int, tensor: str) -> None:
        """Make the node read another tensor."""

    def add_constant(self, base: str, array: NDArray[Any]) -> str:
        """A new initializer; returns its name."""

    def replace(self, node: Node, nodes: Sequence[onnx.NodeProto]) -> None:
        """Put these nodes in the place of the node; they must produce its outputs."""

    def insert_before(self, node: Node, nodes: Sequence[onnx.NodeProto]) -> None:
        """Put nodes in front of the node."""

    def forget(self, tensor: str) -> None:
        """The tensor has another rank now: its declared shape is no longer true."""

    def fresh(self, base: str) -> str:
        """An unused name."""

    def local(self, node: Node, tensor: str) -> str:
        """The name by which the node's own graph knows the tensor."""
