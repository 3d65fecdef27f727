"""Gradients of element-wise operators: ``dx = dy * f'(x)``, written with ``y`` where that is cheaper.

What is returned for an operand may have the output's shape: the reverse loop sums over broadcast axes.
"""

from __future__ import annotations

from collections.abc import Sequence

from onnxprune.graph import Node
from onnxprune.ops.emitter import Value
from onnxprune.ops.tape import Tape

Cotangents = Sequence[Value | None]


def vjp_add(node: Node, t: Tape) -> Cotangents:
    """y = a + b + ..."""
    return [t.dy(node)] * len(node.inputs)


def vjp_sub(node: Node, t: Tape) -> Cotangents:
    """y = a - b."""
    dy = t.dy(node)
    return dy, -dy if t.needs(node, 1) else None


def vjp_mul(node: Node, t: Tape) -> Cotangents:
    """y = a b."""
    dy, a, b = t.dy(node), t.input(node, 0), t.input(node, 1)
    return dy * b if t.needs(node, 0) else None, dy * a if t.needs(node, 1) else None


def vjp_div(node: Node, t: Tape) -> Cotangents:
    """y = a / b: da = dy / b, db = -dy y / b."""
    per = t.dy(node) / t.input(node, 1)
    return per, -(per * t.output(node)) if t.needs(node, 1) else None


def vjp_relu(node: Node, t: Tape) -> Cotangents:
    """y = max(x, 0); the gradient at 0 is 0."""
    dy = guided(t, t.dy(node))
    return (t.where(t.output(node) > 0.0, dy, 0.0),)


def guided(t: Tape, dy: Value) -> Value:
    """What activation functions let through: in guided back-propagation only what is positive."""
    return t.unary("Relu", dy) if t.guided else dy
