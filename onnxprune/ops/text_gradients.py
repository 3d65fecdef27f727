"""Losses of training graphs in plain operators."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnxprune.graph import Node
from onnxprune.ops.emitter import INT64, Value
from onnxprune.ops.tape import Tape

__all__ = ["expand_cross_entropy", "expand_likelihood"]

NOBODY = -(2**31)  # a class that no label means


def expand_likelihood(node: Node, t: Tape) -> Sequence[Value | None]:
    """-w[label] * x[label], where x (N, C, ...) holds logarithms of probabilities."""
    return (_likelihood(node, t, t.input(node, 0)),)


def expand_cross_entropy(node: Node, t: Tape) -> Sequence[Value | None]:
    """The same of log softmax(x) over the classes, which is the second output."""
    logs = t.unary("LogSoftmax", t.input(node, 0), axis=1)
    return _likelihood(node, t, logs), logs


def _likelihood(node: Node, t: Tape, logs: Value) -> Value:
    """Reduced as the node says; the mean is one over the weights of the labels. An ignored label counts nothing."""
    labels, weights = t.cast(t.input(node, 1), INT64), t.optional(node, 2)
    count = logs.known[1]
    classes = np.arange(count, dtype=np.int64)
    ignored = node.attrs.get("ignore_index")
    if ignored is not None and 0 <= ignored < count:
        classes[ignored] = NOBODY
    shape = [count if axis == 1 else 1 for axis in range(logs.rank)]
    chosen = t.unsqueeze(labels, [1]).equals(t.const(classes.reshape(shape)))
    scale = t.const(np.ones(shape), logs.dtype) if weights is None else t.reshape(weights, shape)
    losses = t.sum(t.where(chosen, -(logs * scale), 0.0), [1])
    reduction = str(node.attrs.get("reduction", "mean"))
    if reduction == "none":
        return losses
    total = t.sum(losses)
    return total if reduction == "sum" else total / t.sum(t.where(chosen, scale, 0.0))
