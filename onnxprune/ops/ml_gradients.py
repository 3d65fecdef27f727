"""Operators of ai.onnx.ml in plain ones, which have gradients. Their parameters, being attributes, are not trained."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan

import numpy as np
from onnx import TensorProto

from onnxprune.graph import Node
from onnxprune.ops.emitter import Value
from onnxprune.ops.tape import Tape

__all__ = [
    "expand_extractor",
    "expand_imputer",
    "expand_linear_classifier",
    "expand_linear_regressor",
    "expand_ml_normalizer",
    "expand_scaler",
    "expand_vectorizer",
]

Outputs = Sequence[Value | None]
FLOAT = int(TensorProto.FLOAT)
ML = "ai.onnx.ml"


def expand_scaler(node: Node, t: Tape) -> Outputs:
    """(x - offset) * scale."""
    x = t.cast(t.input(node, 0), FLOAT)
    return ((x - _row(t, node.attrs.get("offset", [0.0]))) * _row(t, node.attrs.get("scale", [1.0])),)


def _row(t: Tape, values: Sequence[float]) -> Value:
    """A parameter per feature, or one for all."""
    return t.const(np.array(values, np.float32))


def expand_imputer(node: Node, t: Tape) -> Outputs:
    """What equals the mark (or is not a number, if the mark is none) is replaced."""
    x = t.input(node, 0)
    if "imputed_value_floats" not in node.attrs:
        return (t.output(node),)
    mark = float(node.attrs.get("replaced_value_float", 0.0))
    missing = t.op("IsNaN", x, sizes=x.sizes, dtype=int(TensorProto.BOOL)) if isnan(mark) else x.equals(mark)
    return (t.where(missing, t.const(np.array(node.attrs["imputed_value_floats"]), x.dtype), x),)


def expand_ml_normalizer(node: Node, t: Tape) -> Outputs:
    """x / norm over the last axis: sum of sizes, root of the sum of squares, or the largest; x where that is 0."""
    x = t.cast(t.input(node, 0), FLOAT)
    op = {"L1": "ReduceL1", "L2": "ReduceL2"}.get(str(node.attrs.get("norm", "MAX")), "ReduceMax")
    size = t.reduce(op, x, [-1], keep=True)
    return (x / t.where(size.equals(0.0), 1.0, size),)


def expand_extractor(node: Node, t: Tape) -> Outputs:
    """Positions of the last axis."""
    x, places = t.input(node, 0), t.input(node, 1)
    flat = t.op("Reshape", places, t.ints(-1))
    if x.rank == 1:
        flat_x = t.unsqueeze(x, [0])
        return (t.op("Gather", flat_x, flat, axis=1),)
    return (t.op("Gather", x, flat, axis=x.rank - 1),)


def expand_vectorizer(node: Node, t: Tape) -> Outputs:
    """All inputs side by side, if the sizes are those of the inputs."""
    inputs = [t.cast(t.input(node, k), FLOAT) for k in range(len(node.inputs))]
    if any(x.rank != 2 for x in inputs) or list(node.attrs.get("inputdimensions", ())) != [x.known[1] for x in inputs]:
        return (t.output(node),)
    return (t.op("Concat", *inputs, axis=1),)


def expand_linear_regressor(node: Node, t: Tape) -> Outputs:
    """x C' + b, with a row of coefficients per target."""
    scores = _after(t, _scores(node, t), str(node.attrs.get("post_transform", "NONE")))
    return (t.output(node) if scores is None else scores,)


def expand_linear_classifier(node: Node, t: Tape) -> Outputs:
    """The scores of the classes; the label is left to the operator, as nothing flows back through it."""
    label, read = t.output(node), node.output(1)
    if not t.graph.consumers.get(read) and read not in t.graph.outputs:
        return (label,)
    raw = _scores(node, t)
    scores = None if raw.known[-1] < 2 else _after(t, raw, str(node.attrs.get("post_transform", "NONE")))
    if scores is None:
        return (label,)
    same = t.ops(
        "LinearClassifier",
        t.input(node, 0),
        sizes=(label.sizes, raw.sizes),
        dtypes=(label.dtype, FLOAT),
        domain=ML,
        **node.attrs,
    )
    return same[0], scores


def _scores(node: Node, t: Tape) -> Value:
    x = t.cast(t.input(node, 0), FLOAT)
    weights = np.array(node.attrs["coefficients"], np.float32).reshape(-1, x.known[-1])
    scores = t.matmul(x, t.const(np.ascontiguousarray(weights.T)))
    intercepts = node.attrs.get("intercepts", ())
    return scores + t.const(np.array(intercepts, np.float32)) if len(intercepts) else scores


def _after(t: Tape, scores: Value, transform: str) -> Value | None:
    """The transformation of the scores that is named, or None for one that is not known."""
    if transform == "NONE":
        return scores
    if transform == "LOGISTIC":
        return t.unary("Sigmoid", scores)
    if transform == "SOFTMAX":
        return t.unary("Softmax", scores, axis=-1)
    return None
