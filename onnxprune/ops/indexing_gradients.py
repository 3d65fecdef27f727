"""Gradients of operators that pick and place by index: what was picked adds up where it came from.

Adding up is done by ScatterElements on flattened tensors, or, for a table of few rows, by a product with a matrix of
zeros and ones. ScatterND with a reduction is not used: with repeated indices its threads overwrite each other's sums in
onnxruntime.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnxprune.graph import Node
from onnxprune.ops.emitter import INT64, Dim, Value
from onnxprune.ops.join_gradients import spread, surrounded, vjp_concat
from onnxprune.ops.tape import Tape

__all__ = ["vjp_concat"]

Cotangents = Sequence[Value | None]
FEW_ROWS = 160  # up to here the product is faster (measured for 1000 to 4000 indices and 64 to 256 columns)
