"""Quantised storage: scales and zero points tie to the channel they belong to; zero is the zero point."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.graph import Graph

# (operator, input position of the quantised tensor) -> input position of its zero point
ZERO_POINTS = {
    "DequantizeLinear": {0: 2},
    "QLinearConv": {0: 2, 3: 5},
    "QLinearMatMul": {0: 2, 3: 5},
    "ConvInteger": {0: 2, 1: 3},
    "MatMulInteger": {0: 2, 1: 3},
}

RULES = ()


def stored_zero(graph: Graph, tensor: str) -> NDArray[Any] | int:
    """The stored value that means zero in this constant, broadcastable to its shape; 0 unless quantised."""
    for node, k in graph.consumers.get(tensor, ()):
        position = ZERO_POINTS.get(node.op, {}).get(k)
        name = node.input(position) if position is not None else ""
        if name and name in graph.weights:
            zero = graph.weights[name].array()
            if zero.size == 1:
                return zero.reshape(())
            rank = len(graph.weights[tensor].shape)
            axis = node.attrs.get("axis", 1) if node.op == "DequantizeLinear" else 0 if "Conv" in node.op else rank - 1
            view = [1] * rank
            view[axis % rank] = zero.size
            return np.asarray(zero).reshape(view)
    return 0
