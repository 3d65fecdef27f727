"""Unfolding a model into one list of nodes: bodies of control flow inline, shared vectors told apart."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from onnxprune.model import ArrayWeight, Model, Weight
from onnxprune.nodes import Body, Node

__all__ = ["Flattener"]


class Flattener:
    """Walks the graphs of a model in execution order and collects nodes and constants."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.nodes: list[Node] = []
        self.weights: dict[str, Weight] = {}
        self.used: set[str] = set()
        self.raw: dict[str, str] = {}
        self.prefixes: dict[tuple[int | str, ...], str] = {}
        self.opsets = {o.domain if o.domain != "ai.onnx" else "": o.version for o in model.proto.opset_import}

    def graph(
        self, proto: onnx.GraphProto, prefix: str, where: tuple[int | str, ...], scope: Mapping[str, str]
    ) -> None:
        names = dict(scope)
        if not prefix:
            self.weights.update(self.model.weights)
            names.update({k: k for k in self.weights})
        else:
            for tensor in proto.initializer:
                self.name(names, prefix, tensor.name)
                self.weights[prefix + tensor.name] = ArrayWeight(numpy_helper.to_array(tensor), tensor.data_type)
        for value in proto.input:
            self.name(names, prefix, value.name)
        for index, node in enumerate(proto.node):
            self.node(node, names, prefix, (*where, index))
        self.names = names

    def name(self, names: dict[str, str], prefix: str, raw: str) -> None:
        names[raw] = prefix + raw
        if prefix:
            self.raw[prefix + raw] = raw

    def node(self, proto: onnx.NodeProto, names: dict[str, str], prefix: str, where: tuple[int | str, ...]) -> None:
        name = prefix + (proto.name or f"{proto.op_type}_{where[-1]}")
        while name in self.used:
            name += "'"
        self.used.add(name)
        domain = "" if proto.domain == "ai.onnx" else proto.domain
        attrs: dict[str, Any] = {}
        bodies: dict[str, Body] = {}
        for attribute in proto.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                inner = f"{name}.{attribute.name}/"
                self.prefixes[(*where, attribute.name)] = inner
                self.graph(attribute.g, inner, (*where, attribute.name), names)
                local = self.names
                bodies[attribute.name] = Body(
                    tuple(inner + i.name for i in attribute.g.input),
                    tuple(local.get(o.name, inner + o.name) for o in attribute.g.output),
                )
            else:
                attrs[attribute.name] = _attribute(attribute)
        for output in proto.output:
            if output:
                self.name(names, prefix, output)
        if proto.op_type == "Constant" and not domain:
            output = names[proto.output[0]]
            if prefix and output not in self.weights:
                self.weights[output] = _constant(attrs)
            if output in self.weights:
                return
        self.nodes.append(
            Node(
                op=proto.op_type,
                domain=domain,
                version=self.opsets.get(domain, 1),
                name=name,
                inputs=tuple(names.get(i, prefix + i) if i else "" for i in proto.input),
                outputs=tuple(names[o] if o else "" for o in proto.output),
                attrs=attrs,
                where=where,
                number=len(self.nodes),
                bodies=bodies,
                scope=_scope(proto),
            )
        )

    def split_shared(self) -> dict[str, str]:
        """Give each place of use of a shared vector its own name; returns copy -> original.

        Exporters store equal initializers once, which would couple layers that have nothing to do with each other.
        Matrices stay shared: that is how weights are tied on purpose. A constant behind Identity is the constant.
        """
        alias: dict[str, str] = {}
        for node in self.nodes:
            if node.op == "Identity" and not node.domain:
                source = alias.get(node.inputs[0], node.inputs[0])
                if source in self.weights:
                    alias[node.outputs[0]] = source
        uses: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for n, node in enumerate(self.nodes):
            for k, tensor in enumerate(node.inputs):
                source = alias.get(tensor, tensor)
                if source in self.weights and sum(d > 1 for d in self.weights[source].shape) <= 1:
                    uses[source].append((n, k))
        copies: dict[str, str] = {}
        for source, places in uses.items():
            # an Identity is not a use of its own: its readers are
            real = [(n, k) for n, k in places if not (self.nodes[n].op == "Identity" and not self.nodes[n].domain)]
            if max(self.weights[source].shape, default=1) <= 1:
                continue
            for count, (n, k) in enumerate(real):
                name = source
                if count:
                    name = f"{source}::{count}"
                    copies[name] = source
                    self.weights[name] = self.weights[source]
                node = self.nodes[n]
                if node.inputs[k] != name:
                    inputs = (*node.inputs[:k], name, *node.inputs[k + 1 :])
                    self.nodes[n] = Node(**{**node.__dict__, "inputs": inputs})
        return copies


def _scope(node: onnx.NodeProto) -> str:
    """torch's exporter lists the enclosing modules, outermost first, and the operation last."""
    for entry in node.metadata_props:
        if entry.key == "pkg.torch.onnx.name_scopes":
            names = re.findall(r"'([^']*)'", entry.value)
            return names[-2] if len(names) > 1 else ""
    return ""


def _attribute(attribute: onnx.AttributeProto) -> Any:
    value = onnx.helper.get_attribute_value(attribute)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if attribute.type == onnx.AttributeProto.TENSOR:
        return value
    if isinstance(value, str | int | float):
        return value
    try:
        items = list(value)
    except TypeError:
        return value
    return tuple(v.decode("utf-8", "replace") if isinstance(v, bytes) else v for v in items)


def _constant(attrs: Mapping[str, Any]) -> Weight:
    if "value" in attrs:
        tensor = attrs["value"]
        return ArrayWeight(numpy_helper.to_array(tensor), tensor.data_type)
    for key, dtype in (("value_float", np.float32), ("value_floats", np.float32), ("value_int", np.int64)):
        if key in attrs:
            array = np.array(attrs[key], dtype)
            return ArrayWeight(array, onnx.helper.np_dtype_to_tensor_dtype(array.dtype))
    array = np.array(attrs.get("value_ints", ()), np.int64)
    return ArrayWeight(array, onnx.TensorProto.INT64)
