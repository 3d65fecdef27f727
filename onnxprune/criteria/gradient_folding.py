"""BatchNormalization folded into the convolution in front of it, for gradients of activations alone.

    w' = w * s,  b' = (b - mean) * s + shift,  s = scale / sqrt(variance + epsilon)

The output keeps its name, so that all that is read behind the norm is as it was. onnxruntime does the same in a forward
pass; in a gradient graph it does not, and each norm then costs a pass over its activation in both directions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from onnxprune._graphs import refill, used_names
from onnxprune.model import Model

__all__ = ["without_batch_norm"]


def without_batch_norm(model: Model, kept: Collection[str] = ()) -> Model:
    """The model with every norm folded whose convolution nothing else reads. ``kept``: tensors that must stay."""
    editor = model.edit()
    graph = editor.proto.graph
    readers = Counter(used_names(graph))
    makers = {node.output[0]: node for node in graph.node if node.op_type == "Conv" and not node.domain}
    same = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "Identity"}
    gone = set()

    def constant(name: str) -> NDArray[Any] | None:
        """Exporters store equal vectors once, and read them through Identity."""
        while name in same and name not in editor.weights:
            name = same[name]
        return editor.weights[name].array() if name in editor.weights else None

    for index, norm in enumerate(graph.node):
        conv = makers.get(norm.input[0]) if norm.op_type == "BatchNormalization" and not norm.domain else None
        if conv is None or readers[norm.input[0]] > 1 or norm.input[0] in kept or sum(map(bool, norm.output)) > 1:
            continue
        arrays = [constant(name) for name in (*norm.input[1:5], *conv.input[1:]) if name]
        if any(array is None for array in arrays) or _attribute(norm, "training_mode", 0):
            continue
        scale, shift, mean, variance, weight, *rest = (np.asarray(array) for array in arrays)
        factor = scale.astype(np.float64) / np.sqrt(variance.astype(np.float64) + _attribute(norm, "epsilon", 1e-5))
        bias = rest[0] if rest else 0.0
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
    read = set(used_names(graph))
    for name in [name for name in editor.weights if name not in read]:
        editor.weights.pop(name)
    return editor.build()


def _attribute(node: onnx.NodeProto, name: str, default: float) -> float:
    for attribute in node.attribute:
        if attribute.name == name:
            return float(onnx.helper.get_attribute_value(attribute))
    return default
