"""Edits to a copy of the masked model: operators put in front of a node or in its place, survivors marked."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from onnxprune._graphs import Where, find_node, weave
from onnxprune.cuts import Cuts, masks
from onnxprune.errors import ProofError
from onnxprune.graph import Graph, Node
from onnxprune.model import Model
from onnxprune.weights import dtype_of

__all__ = ["Desk"]


class Desk:
    """Edits to a copy of the masked model: nodes put in front of others or in their place."""

    def __init__(self, graph: Graph, masked: Model, cuts: Cuts) -> None:
        self.graph = graph
        self.cuts = cuts
        self.editor = masked.edit()
        self.opset = max((o.version for o in masked.proto.opset_import if o.domain in ("", "ai.onnx")), default=1)
        self._protos = {n.number: find_node(self.editor.proto.graph, n.where) for n in graph.nodes}
        self._before: dict[Where, list[onnx.NodeProto]] = defaultdict(list)
        self._replaced: set[Where] = set()

    def keep(self, tensor: str, axes: Sequence[int]) -> NDArray[np.bool_] | None:
        """True where a position survives, broadcastable to the tensor; None where these axes lose nothing."""
        cuts = {a: c for a, c in self.cuts.get(tensor, {}).items() if a in axes and c.removed.any()}
        if not cuts:
            return None
        shape = self.graph.shapes[tensor]
        result = np.ones((1,) * len(shape), np.bool_)
        for gone in masks(shape, cuts):
            result = result & ~gone
        return result

    def name(self, node: Node, k: int) -> str:
        """The name of input ``k`` in the node's own graph, as the masked model has it."""
        return str(self._protos[node.number].input[k])

    def dtype(self, tensor: str) -> np.dtype[Any]:
        return dtype_of(self.graph.dtypes[tensor])

    def constant(self, node: Node, values: Any, dtype: Any) -> str:
        return self.editor.add_weight(f"{node.name}.survivors", np.asarray(values, dtype))

    def add(self, node: Node, op: str, *inputs: str, output: str = "", **attrs: Any) -> str:
        """An operator in front of the node; returns its output."""
        output = output or self.editor.fresh(f"{node.name}.{op}")
        name = self.editor.fresh(f"{node.name}.corrected")
        self._before[node.where].append(onnx.helper.make_node(op, list(inputs), [output], name=name, **attrs))
        return output

    def copy(self, node: Node, outputs: int) -> list[str]:
        """A copy of the node in front of it, with outputs of its own; their names."""
        twin = onnx.NodeProto.FromString(self._protos[node.number].SerializeToString())
        twin.name = self.editor.fresh(f"{node.name}.corrected")
        del twin.output[:]
        twin.output.extend(self.editor.fresh(f"{node.name}.copy") for _ in range(outputs))
        self._before[node.where].append(twin)
        return list(twin.output)

    def set_input(self, node: Node, k: int, tensor: str) -> None:
        self._protos[node.number].input[k] = tensor

    def protect(self, node: Node, k: int, keep: NDArray[np.bool_], neutral: float) -> str:
        """Input ``k`` with the neutral value at the removed positions."""
        return self.where(node, keep, self.name(node, k), neutral, self.dtype(node.inputs[k]))

    def where(self, node: Node, keep: NDArray[np.bool_], tensor: str, other: float, dtype: np.dtype[Any]) -> str:
        if self.opset < 9:
            raise ProofError(
                f"opset {self.opset} has no operator to restrict {node} to the survivors",
                "Convert the model to opset 9 or later (onnx.version_converter), or leave out inexact groups.",
            )
        if np.issubdtype(dtype, np.integer) and not np.isfinite(other):
            other = np.iinfo(dtype).min if other < 0 else np.iinfo(dtype).max
        return self.add(node, "Where", self.constant(node, keep, np.bool_), tensor, self.constant(node, other, dtype))

    def sum(self, node: Node, tensor: str, axes: Sequence[int], *, keepdims: bool = True) -> str:
        return self._reduce(node, "ReduceSum", 13, tensor, axes, keepdims)

    def largest(self, node: Node, tensor: str, axes: Sequence[int]) -> str:
        return self._reduce(node, "ReduceMax", 18, tensor, axes, keepdims=True)

    def _reduce(self, node: Node, op: str, since: int, tensor: str, axes: Sequence[int], keepdims: bool) -> str:
        """Axes are an attribute before opset ``since``, an input from then on."""
        if self.opset >= since:
            return self.add(node, op, tensor, self.constant(node, axes, np.int64), keepdims=int(keepdims))
        return self.add(node, op, tensor, axes=list(axes), keepdims=int(keepdims))

    def count(
        self, node: Node, keep: NDArray[np.bool_], like: str, axes: Sequence[int], dtype: Any, *, keepdims: bool = True
    ) -> str:
        """Number of survivors per reduced slice of ``like``, dynamic axes included."""
        ones = self.add(node, "Expand", self.constant(node, keep, dtype), self.add(node, "Shape", like))
        return self.sum(node, ones, axes, keepdims=keepdims)

    def replace(self, node: Node, outputs: Mapping[int, str]) -> None:
        """Drop the node; its output ``k`` is the tensor ``outputs[k]`` from now on."""
        proto = self._protos[node.number]
        for k, tensor in outputs.items():
            if k < len(proto.output) and proto.output[k]:
                self.add(node, "Identity", tensor, output=proto.output[k])
        self._replaced.add(node.where)

    def build(self) -> Model:
        weave(self.editor.proto.graph, self._before, dict.fromkeys(self._replaced, ()))
        return self.editor.build()
