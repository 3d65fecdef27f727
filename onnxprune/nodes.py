"""One operator call, and the graph inside control flow, under names that are unambiguous in the whole model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Body", "Node"]


@dataclass(frozen=True, eq=False)
class Body:
    """The graph inside an If, Loop or Scan: names of its formal inputs and outputs, already prefixed."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Node:
    """One operator call. ``inputs`` and ``outputs`` hold unambiguous tensor names, "" where absent.

    ``where`` leads to the NodeProto: (index, attribute, index, attribute, ..., index).
    """

    op: str
    domain: str
    version: int
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attrs: Mapping[str, Any]
    where: tuple[int | str, ...]
    number: int
    bodies: Mapping[str, Body] = field(default_factory=dict)
    scope: str = ""  # the module that the node came from, where the exporter wrote it down

    def input(self, k: int) -> str:
        """Name of input ``k``, "" where the node does not have it."""
        return self.inputs[k] if k < len(self.inputs) else ""

    def output(self, k: int) -> str:
        """Name of output ``k``, "" where the node does not have it."""
        return self.outputs[k] if k < len(self.outputs) else ""

    @property
    def key(self) -> str:
        """Operator name with its domain, unless that is the standard one."""
        return f"{self.domain}.{self.op}" if self.domain else self.op

    def __str__(self) -> str:
        return f"{self.key} node '{self.name}'"
