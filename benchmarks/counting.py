"""How much of a model is left: elements of its floating point and quantised constants, counted the same for everyone.

Constants inside subgraphs and functions, sizes and indices (int64) do not count; a quantised weight does.
"""

from __future__ import annotations

from math import prod

import onnx
from onnx import TensorProto

__all__ = ["elements"]

INTEGERS = (TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL, TensorProto.STRING)


def elements(proto: onnx.ModelProto) -> int:
    """Number of weight elements in initializers and Constant nodes of the main graph."""
    tensors = list(proto.graph.initializer)
    tensors += [sparse.values for sparse in proto.graph.sparse_initializer]
    tensors += [a.t for n in proto.graph.node if n.op_type == "Constant" for a in n.attribute if a.name == "value"]
    return sum(prod(t.dims) for t in tensors if t.data_type not in INTEGERS and t.dims)
