"""From an output back to the logits: losses are written on what goes into the last Softmax or Sigmoid.

A loss of probabilities has gradients that vanish or overflow where a network is sure; written on logits it has not.
Behind the activation there may be operators that only move numbers. Binary classifiers of scikit-learn give (1 - s, s)
with s = Sigmoid(z), which is the softmax of (0, z). Probabilities that were made in any other way are taken as
softmax(log p).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from onnx import TensorProto

from onnxprune.graph import Graph, Node
from onnxprune.ops.emitter import FLOATS, Value
from onnxprune.ops.tape import Tape

__all__ = ["Scores", "activation_of", "is_probability", "plain", "scores"]

TINY = 1e-12
NARROW = frozenset({int(TensorProto.FLOAT16), int(TensorProto.BFLOAT16)})
RESHAPES = frozenset("Reshape Flatten Squeeze Unsqueeze".split())
MOVES = RESHAPES | {"Identity", "Cast", "Transpose"}
BOUNDED = frozenset("HardSigmoid Clip".split())  # what else makes a single score a probability


@dataclass(frozen=True)
class Scores:
    """What a loss is a function of.

    ``value``: of the shape of the output. ``pull``: its cotangent -> the tensor of the forward pass to begin
    at, and the cotangent of that.
    """

    value: Value
    pull: Callable[[Value], tuple[str, Value]]


def plain(t: Tape, output: str) -> Scores:
    """An output as it is, in float32 where its type is narrower."""
    tensor = t.tensor(output)
    return Scores(widened(t, tensor), lambda dz: (output, t.cast(dz, tensor.dtype)))


def scores(t: Tape, output: str, axis: int, *, probable: bool) -> Scores:
    """The logits of an output whose classes are on ``axis`` (-1: each number is a score of its own).

    ``probable``: its values were seen to be probabilities.
    """
    found = activation_of(t.graph, output)
    if found is not None:
        node, moves = found
        back = _back(t, moves, axis)
        if node.op == "Sigmoid" and axis < 0:
            return _behind(t, node, moves)
        if (
            node.op in ("Softmax", "LogSoftmax")
            and axis >= 0
            and back == node.attrs.get("axis", -1) % t.output(node).rank
        ):
            return _behind(t, node, moves)
        if node.op == "Concat" and axis >= 0 and back is not None:
            return _pair(t, node, moves)
    return _of_probabilities(t, output, axis) if probable else plain(t, output)


def activation_of(graph: Graph, output: str) -> tuple[Node, tuple[Node, ...]] | None:
    """The Softmax, LogSoftmax or Sigmoid that an output comes from, or the Concat of a pair; and what moves it since.

    The moves are in the order in which they run.
    """
    moves: list[Node] = []
    name = output
    while (node := graph.producer.get(name)) is not None and len(node.where) == 1 and not node.domain:
        if node.op in ("Softmax", "LogSoftmax", "Sigmoid") or _is_pair(graph, node):
            return node, tuple(reversed(moves))
        if node.op not in MOVES or graph.dtypes.get(node.inputs[0], 0) not in FLOATS:
            return None
        moves.append(node)
        name = node.inputs[0]
    return None


def is_probability(graph: Graph, output: str) -> bool:
    """Whether single scores are probabilities, as far as the last operator tells."""
    found = activation_of(graph, output)
    node = found[0] if found else graph.producer.get(output)
    return node is not None and (node.op == "Sigmoid" or node.op in BOUNDED)


def widened(t: Tape, value: Value) -> Value:
    """In float32 where the type is narrower: a loss is a sum of many terms."""
    return t.cast(value, int(TensorProto.FLOAT)) if value.dtype in NARROW else value


def _is_pair(graph: Graph, node: Node) -> bool:
    """(1 - s, s) with s = Sigmoid(z)."""
    if node.op != "Concat" or len(node.inputs) != 2:
        return False
    other, single = (graph.producer.get(name) for name in node.inputs)
    if other is None or single is None or other.op != "Sub" or single.op != "Sigmoid":
        return False
    one = graph.value(other.inputs[0])
    return other.inputs[1] == node.inputs[1] and one is not None and one.size == 1 and bool(np.all(one == 1))


def _back(t: Tape, moves: tuple[Node, ...], axis: int) -> int | None:
    """Where the class axis was before the moves; None where it cannot be followed."""
    for node in reversed(moves):
        before, after = t.input(node, 0), t.output(node)
        if node.op == "Transpose":
            perm = node.attrs.get("perm") or tuple(reversed(range(after.rank)))
            axis = int(perm[axis])
        elif node.op in RESHAPES:
            if before.known[: axis + 1] == after.known[: axis + 1]:
                continue
            behind = after.rank - axis
            if behind > before.rank or before.known[-behind:] != after.known[-behind:]:
                return None
            axis = before.rank - behind
    return axis


def _behind(t: Tape, node: Node, moves: tuple[Node, ...]) -> Scores:
    """What goes into the activation, moved as its output is."""
    logits = t.input(node, 0)
    value = logits
    for move in moves:
        value = _moved(t, move, value)

    def pull(dz: Value) -> tuple[str, Value]:
        for move in reversed(moves):
            dz = _moved_back(t, move, dz)
        return logits.name, t.cast(dz, logits.dtype)

    return Scores(widened(t, value), pull)


def _moved(t: Tape, move: Node, value: Value) -> Value:
    if move.op == "Transpose":
        perm = move.attrs.get("perm") or tuple(reversed(range(value.rank)))
        return t.transpose(value, perm)
    return t.reshape_like(value, t.output(move)) if move.op in RESHAPES else value


def _moved_back(t: Tape, move: Node, dz: Value) -> Value:
    if move.op == "Transpose":
        perm = move.attrs.get("perm") or tuple(reversed(range(dz.rank)))
        return t.transpose(dz, [int(axis) for axis in np.argsort(perm)])
    return t.reshape_like(dz, t.input(move, 0)) if move.op in RESHAPES else dz


def _pair(t: Tape, node: Node, moves: tuple[Node, ...]) -> Scores:
    """Two classes from one score: the logits are (0, z)."""
    sigmoid = t.graph.producer[node.inputs[1]]
    logits = t.input(sigmoid, 0)
    axis = int(node.attrs["axis"]) % t.output(node).rank
    value = t.concat([t.zeros_like(logits), logits], axis)
    for move in moves:
        value = _moved(t, move, value)

    def pull(dz: Value) -> tuple[str, Value]:
        for move in reversed(moves):
            dz = _moved_back(t, move, dz)
        return logits.name, t.cast(t.slice(dz, axis, 1, 2), logits.dtype)

    return Scores(widened(t, value), pull)


def _of_probabilities(t: Tape, output: str, axis: int) -> Scores:
    """u = log p, or log p - log(1 - p) for a single score; du/dp = 1/p, or 1/p + 1/(1 - p)."""
    tensor = t.tensor(output)
    p = widened(t, tensor) + TINY
    if axis >= 0:
        return Scores(t.unary("Log", p), lambda dz: (output, t.cast(dz / p, tensor.dtype)))
    q = 1.0 - widened(t, tensor) + TINY
    value = t.unary("Log", p) - t.unary("Log", q)
    return Scores(value, lambda dz: (output, t.cast(dz / p + dz / q, tensor.dtype)))
