"""Writing constants back where they belong."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import numpy as np
import onnx
from onnx import numpy_helper

from onnxprune._graphs import find_graph, find_node
from onnxprune.graph import Graph
from onnxprune.model import ModelEditor, Weight

__all__ = ["Store"]


class Store:
    """Writes constants back: shared ones stay shared where they still agree, bodies are edited in place."""

    def __init__(self, graph: Graph, editor: ModelEditor) -> None:
        self.graph = graph
        self.editor = editor

    def put(self, new: Mapping[str, Weight]) -> None:
        """Replace constants; copies of one shared constant that turned out alike share it again."""
        families: dict[str, list[str]] = defaultdict(list)
        for copy, original in self.graph.origin.items():
            families[original].append(copy)
        touched = {self.graph.origin.get(t, t) for t in new}
        for original in touched:
            members = [original, *families.get(original, ())]
            if len(members) == 1:
                self._write(original, new[original])
                continue
            written: list[tuple[bytes, str]] = []
            for name in members:
                weight = new.get(name, self.graph.weights[name])
                content = np.ascontiguousarray(weight.array()).tobytes() + repr(tuple(weight.shape)).encode()
                target = next((t for c, t in written if c == content), None)
                if target is None:
                    target = original if not written else self.editor.add_weight(original, weight.array())
                    if not written:
                        self._write(original, weight)
                    written.append((content, target))
                if target != original or name != original:
                    self._rewire(name, target)

    def _rewire(self, name: str, target: str) -> None:
        for node, k in self.graph.consumers.get(name, ()):
            proto = find_node(self.editor.proto.graph, node.where)
            if len(node.where) == 1 or target not in self.graph.raw:
                proto.input[k] = self.graph.raw.get(target, target)

    def _write(self, name: str, weight: Weight) -> None:
        if name in self.editor.weights:
            self.editor.set_weight(name, weight)
            return
        raw = self.graph.raw[name]
        body = self.bodies()[name.removesuffix(raw)]
        for tensor in body.initializer:
            if tensor.name == raw:
                tensor.CopyFrom(numpy_helper.from_array(weight.array(), raw))
        for node in body.node:
            if node.op_type == "Constant" and raw in node.output:
                del node.attribute[:]
                node.attribute.append(onnx.helper.make_attribute("value", numpy_helper.from_array(weight.array(), raw)))

    def bodies(self) -> dict[str, onnx.GraphProto]:
        """The graphs inside control flow, by what the names of their tensors begin with."""
        return {
            f"{node.name}.{attribute}/": find_graph(self.editor.proto.graph, (*node.where, attribute, 0))
            for node in self.graph.nodes
            for attribute in node.bodies
        }
