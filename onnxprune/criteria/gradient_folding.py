"""BatchNormalization folded into the convolution in front of it, for gradients of activations alone.

    w' = w * s,  b' = (b - mean) * s + shift,  s = scale / sqrt(variance + epsilon)

The output keeps its name, so that all that is read behind the norm is as it was. onnxruntime does the same in a forward
pass; in a gradient graph it does not, and each norm then costs a pass over its activation in both directions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

import numpy as np
import onnx

from onnxprune._graphs import refill, used_names
from onnxprune.model import Model

__all__ = ["without_batch_norm"]


def without_batch_norm(model: Model, kept: Collection[str] = ()) -> Model:
    """The model with every norm folded whose convolution nothing else reads. ``kept``: tensors that must stay."""
    editor = model.edit()
    graph = editor.proto.graph
    readers = Counter(used_names(graph))
    makers = {node.output[0]: node for node in graph.node if node.op_type == "Conv" and not node.domain}
    gone = set()
    for index, norm in enumerate(graph.node):
        conv = makers.get(norm.input[0]) if norm.op_type == "BatchNormalization" and not norm.domain else None
        if conv is None or readers[norm.input[0]] > 1 or norm.input[0] in kept or sum(map(bool, norm.output)) > 1:
            continue
        names = [name for name in (*norm.input[1:], *conv.input[1:]) if name]
        if not all(name in editor.weights for name in names) or _attribute(norm, "training_mode", 0):
            continue
        scale, shift, mean, variance = (editor.weights[name].array().astype(np.float64) for name in norm.input[1:5])
        factor = scale / np.sqrt(variance + _attribute(norm, "epsilon", 1e-5))
        weight = editor.weights[conv.input[1]].array()
        bias = editor.weights[conv.input[2]].array() if len(conv.input) > 2 and conv.input[2] else 0.0
        folded = (weight * factor.reshape(-1, *(1,) * (weight.ndim - 1)), (bias - mean) * factor + shift)
        inputs = [f"{norm.output[0]}_folded_weight", f"{norm.output[0]}_folded_bias"]
        for name, values in zip(inputs, folded, strict=True):
            editor.set_weight(name, values.astype(weight.dtype))
        conv.input[:] = [conv.input[0], *inputs]
        conv.output[0] = norm.output[0]
        gone.add(index)
    if not gone:
        return model
    refill(graph.node, [node for index, node in enumerate(graph.node) if index not in gone])
    return editor.build()


def _attribute(node: onnx.NodeProto, name: str, default: float) -> float:
    for attribute in node.attribute:
        if attribute.name == name:
            return float(onnx.helper.get_attribute_value(attribute))
    return default
