"""The content hash of a model (docs/architecture.md, section 7).

Two files have the same hash when they compute the same thing under the same names: what is hashed is the canonical
graph and every constant's name, type, shape and bytes. Metadata, doc strings, value_info, producer, IR version and
where or how the bytes are stored do not count.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import onnx

from onnxprune.weights import TensorWeight, Weight, packed, texts

__all__ = ["model_hash"]

# Fields that do not change what is computed.
IGNORED = {
    "onnx.GraphProto": {"name", "doc_string", "value_info", "quantization_annotation", "metadata_props"},
    "onnx.NodeProto": {"doc_string", "metadata_props", "device_configurations"},
    "onnx.AttributeProto": {"doc_string"},
    "onnx.FunctionProto": {"doc_string", "value_info", "metadata_props"},
    "onnx.ValueInfoProto": {"doc_string", "metadata_props"},
    "onnx.TypeProto": {"denotation"},
    "onnx.TensorShapeProto.Dimension": {"denotation"},
}
# Repeated fields whose order means nothing, by the key to sort by.
UNORDERED = {
    "onnx.NodeProto.attribute": "name",
    "onnx.FunctionProto.opset_import": "domain",
    "onnx.GraphProto.initializer": "name",
}


class _Digest(Protocol):
    def update(self, data: Any, /) -> None: ...


def model_hash(model: onnx.ModelProto, weights: Mapping[str, Weight]) -> str:
    """Hexadecimal SHA-256 of the canonical model; ``weights`` are the constants of its main graph."""
    digest = hashlib.sha256(b"onnxprune model 1\0")
    for opset in sorted(model.opset_import, key=lambda o: _domain(o.domain)):
        _feed(digest, (_domain(opset.domain), opset.version))
    for function in sorted(model.functions, key=lambda f: (_domain(f.domain), f.name, f.overload)):
        _message(digest, function)
    for node in model.graph.node:
        _node(digest, node, weights)
    for value in (*model.graph.input, *model.graph.output):
        _message(digest, value)
    for name in sorted(weights):
        _weight(digest, name, weights[name])
    return digest.hexdigest()


def _node(digest: _Digest, node: onnx.NodeProto, weights: Mapping[str, Weight]) -> None:
    """A Constant's value is among the weights, in whichever attribute the node holds it."""
    if node.op_type == "Constant" and len(node.output) == 1 and node.output[0] in weights:
        _feed(digest, ("Constant", _domain(node.domain), node.name, node.output[0]))
    else:
        _message(digest, node)


def _message(digest: _Digest, message: Any) -> None:
    """Type, number of fields, and each field that is set to something else than its default, by number."""
    kind = message.DESCRIPTOR.full_name
    if kind == "onnx.TensorProto":
        _weight(digest, message.name, TensorWeight(message))
        return
    ignored = IGNORED.get(kind, ())
    fields = [(f, v) for f, v in message.ListFields() if f.name not in ignored and not _is_default(f, v)]
    _feed(digest, (kind, len(fields)))
    for field, value in fields:
        _feed(digest, (field.number,))
        if not _is_repeated(value):
            _value(digest, field.name, value)
            continue
        key = UNORDERED.get(field.full_name)
        _feed(digest, (len(value),))
        for item in sorted(value, key=lambda v: str(getattr(v, key))) if key else value:
            _value(digest, field.name, item)


def _value(digest: _Digest, name: str, value: Any) -> None:
    if hasattr(value, "ListFields"):
        _message(digest, value)
    else:
        _feed(digest, (_domain(value) if name == "domain" else value,))


def _is_repeated(value: Any) -> bool:
    return not hasattr(value, "ListFields") and not isinstance(value, str | bytes | int | float)


def _is_default(field: Any, value: Any) -> bool:
    """Unset and explicitly empty are the same, except where being set is the information (a dimension)."""
    if _is_repeated(value) or hasattr(value, "ListFields") or field.containing_oneof is not None:
        return False
    return bool(value == field.default_value) or (field.name == "domain" and not _domain(value))


def _weight(digest: _Digest, name: str, weight: Weight) -> None:
    _feed(digest, ("weight", name, weight.onnx_type, len(weight.shape), *weight.shape))
    if weight.onnx_type == onnx.TensorProto.STRING:
        _feed(digest, texts(weight))
    else:
        content = packed(weight)
        _feed(digest, (content.nbytes,))
        digest.update(content)


def _feed(digest: _Digest, items: Iterable[str | bytes | int | float]) -> None:
    """Every item with its kind and length, so that no two sequences of items give the same bytes."""
    for item in items:
        if isinstance(item, float):
            data = b"f" + struct.pack("<d", item)
        elif isinstance(item, int):
            data = b"i" + str(int(item)).encode()
        else:
            data = b"s" + (item if isinstance(item, bytes) else item.encode("utf-8", "surrogateescape"))
        digest.update(struct.pack("<q", len(data)) + data)


def _domain(domain: str) -> str:
    return "" if domain == "ai.onnx" else domain
