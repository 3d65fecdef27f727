"""Gradients of arithmetic, powers, trigonometry and choices, element by element: ``dx = dy * f'(x)``.

Written with ``y`` where that is cheaper. What is returned for an operand may have the output's shape: the reverse loop
sums over broadcast axes. Where a derivative is infinite (Sqrt and fractional powers at 0) it is taken as 0, so that a
step of training stays finite. Activation functions are in ``activation_gradients``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import log, pi, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from onnxprune.graph import Node
from onnxprune.ops.emitter import BOOL, Value
from onnxprune.ops.tape import Tape

__all__ = ["ARITHMETIC", "FLAT", "Cotangents", "Vjp", "guided", "train_dropout"]

Cotangents = Sequence[Value | None]
Vjp = Callable[[Node, Tape], Cotangents]

# No small change of an operand changes what these put out, nearly everywhere.
FLAT = frozenset(
    "Ceil Floor Round Sign IsInf IsNaN Not Equal Greater GreaterOrEqual Less LessOrEqual And Or Xor BitwiseAnd "
    "BitwiseOr BitwiseXor BitwiseNot BitShift".split()
)


def guided(t: Tape, dy: Value) -> Value:
    """What activation functions let through: in guided back-propagation only what is positive."""
    return t.unary("Relu", dy) if t.guided else dy


# -- arithmetic -----------------------------------------------------------------------------------------------------


def vjp_add(node: Node, t: Tape) -> Cotangents:
    """y = a + b + ..."""
    return [t.dy(node)] * len(node.inputs)


def vjp_mean(node: Node, t: Tape) -> Cotangents:
    """y = (a + b + ...) / n."""
    return [t.dy(node) * (1 / len(node.inputs))] * len(node.inputs)


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


def vjp_mod(node: Node, t: Tape) -> Cotangents:
    """y = a - n b with a whole number n: da = dy, db = -n dy."""
    dy = t.dy(node)
    if not t.needs(node, 1):
        return dy, None
    a, b = t.input(node, 0), t.input(node, 1)
    return dy, -(dy * t.unary("Round", (a - t.output(node)) / b))


def vjp_pow(node: Node, t: Tape) -> Cotangents:
    """y = x^p: dx = dy p x^(p-1), dp = dy y log x; 0 where these are not finite at x = 0, and dp = 0 for x < 0."""
    dy, x, y = t.dy(node), t.input(node, 0), t.output(node)
    dp = None
    if t.needs(node, 1):
        dp = t.where(x > 0.0, dy * y * t.unary("Log", x), 0.0)
    return _base(node, t, dy, x, y) if t.needs(node, 0) else None, dp


def _base(node: Node, t: Tape, dy: Value, x: Value, y: Value) -> Value | None:
    """The cotangent of the base; small constant exponents need no power."""
    known = t.constant(node, 1)
    if known is not None and known.size == 1:
        number = float(known.reshape(-1)[0])
        if number in (0.0, 1.0):
            return dy if number else None
        if number == 0.5:
            return t.where(y > 0.0, dy * 0.5 / y, 0.0)
        if number == 2.0:
            return dy * (x * 2.0)
        return _finite_at_zero(t, x, dy * (x ** (number - 1) * number), known)
    p = t.cast(t.input(node, 1), x.dtype)
    return _finite_at_zero(t, x, dy * (p * x ** (p - 1.0)), known, p)


def _finite_at_zero(t: Tape, x: Value, dx: Value, known: NDArray[Any] | None, p: Value | None = None) -> Value:
    """0 at x = 0 where the exponent is below 1."""
    if known is not None and (known >= 1).all():
        return dx
    at = x.equals(0.0)
    if p is not None:
        at = t.binary("And", at, p < 1.0, dtype=BOOL)
    return t.where(at, 0.0, dx)


def vjp_extreme(node: Node, t: Tape) -> Cotangents:
    """Max, Min: to the operand that was chosen; operands that tie share equally."""
    if len(node.inputs) == 1:
        return (t.dy(node),)
    dy, y = t.dy(node), t.output(node)
    masks = [t.input(node, k).equals(y) for k in range(len(node.inputs))]
    count = t.cast(masks[0], dy.dtype)
    for mask in masks[1:]:
        count = count + t.cast(mask, dy.dtype)
    share = dy / count
    return [t.where(mask, share, 0.0) if t.needs(node, k) else None for k, mask in enumerate(masks)]


def vjp_where(node: Node, t: Tape) -> Cotangents:
    """y = a where the condition holds, else b."""
    dy, condition = t.dy(node), t.input(node, 0)
    da = t.where(condition, dy, 0.0) if t.needs(node, 1) else None
    db = t.where(condition, 0.0, dy) if t.needs(node, 2) else None
    return None, da, db


def vjp_same(node: Node, t: Tape) -> Cotangents:
    """y = x, if of another type: the reverse loop casts."""
    return (t.dy(node),)


# -- functions of one operand ---------------------------------------------------------------------------------------

# Operator -> dx from dy, x and y.
UNARY: dict[str, Callable[[Tape, Value, Value, Value], Value]] = {
    "Abs": lambda t, dy, x, y: dy * t.unary("Sign", x),
    "Neg": lambda t, dy, x, y: -dy,
    "Exp": lambda t, dy, x, y: dy * y,
    "Log": lambda t, dy, x, y: dy / x,
    "Sqrt": lambda t, dy, x, y: t.where(y > 0.0, dy * 0.5 / y, 0.0),
    "Reciprocal": lambda t, dy, x, y: -(dy * y * y),
    "Erf": lambda t, dy, x, y: dy * t.unary("Exp", log(2 / sqrt(pi)) - x * x),
    "Sin": lambda t, dy, x, y: dy * t.unary("Cos", x),
    "Cos": lambda t, dy, x, y: -(dy * t.unary("Sin", x)),
    "Tan": lambda t, dy, x, y: dy * (y * y + 1.0),
    "Asin": lambda t, dy, x, y: dy / t.unary("Sqrt", 1.0 - x * x),
    "Acos": lambda t, dy, x, y: -(dy / t.unary("Sqrt", 1.0 - x * x)),
    "Atan": lambda t, dy, x, y: dy / (x * x + 1.0),
    "Sinh": lambda t, dy, x, y: dy * t.unary("Cosh", x),
    "Cosh": lambda t, dy, x, y: dy * t.unary("Sinh", x),
    "Asinh": lambda t, dy, x, y: dy / t.unary("Sqrt", x * x + 1.0),
    "Acosh": lambda t, dy, x, y: dy / t.unary("Sqrt", x * x - 1.0),
    "Atanh": lambda t, dy, x, y: dy / (1.0 - x * x),
}


def unary_vjp(derive: Callable[[Tape, Value, Value, Value], Value]) -> Vjp:
    """The rule of a function of one operand."""

    def vjp(node: Node, t: Tape) -> Cotangents:
        return (derive(t, t.dy(node), t.input(node, 0), t.output(node)),)

    return vjp


# -- Dropout --------------------------------------------------------------------------------------------------------


def vjp_dropout(node: Node, t: Tape) -> Cotangents:
    """The identity in inference; while training y = x mask / (1 - ratio) and dx = dy mask / (1 - ratio)."""
    dy = t.dy(node)
    training = t.constant(node, 2)
    if not node.input(2) or (training is not None and not training.any()):
        return (dy,)
    mask = t.ask(node, 1, t.input(node, 0), dtype=BOOL)
    if not node.input(1):
        return (t.where(mask, dy * 2.0, 0.0),)
    ratio = t.cast(t.input(node, 1), dy.dtype)
    return (t.where(mask, dy / (1.0 - ratio), 0.0),)


def train_dropout(node: Node, t: Tape) -> Cotangents:
    """Dropout that drops, with a seed of its own per node: onnxruntime draws anew in each run of a session.

    Two sessions of one graph draw the same (Srivastava et al., Journal of Machine Learning Research 15, 2014).
    """
    x = t.input(node, 0)
    ratio = t.optional(node, 1)
    if ratio is None:
        ratio = t.const(0.5, int(TensorProto.FLOAT))
    y, mask = t.ops(
        "Dropout",
        x,
        ratio,
        t.const(np.array(True)),
        sizes=(x.sizes, x.sizes),
        dtypes=(x.dtype, BOOL),
        seed=int(node.attrs.get("seed", 0)) + t.seed + node.number,
    )
    return y, mask


ARITHMETIC: Mapping[str, Vjp] = {
    "Add": vjp_add,
    "Sum": vjp_add,
    "Mean": vjp_mean,
    "Sub": vjp_sub,
    "Mul": vjp_mul,
    "Div": vjp_div,
    "Mod": vjp_mod,
    "Pow": vjp_pow,
    "Max": vjp_extreme,
    "Min": vjp_extreme,
    "Where": vjp_where,
    "Identity": vjp_same,
    "Cast": vjp_same,
    "CastLike": vjp_same,
    "Dropout": vjp_dropout,
    **{op: unary_vjp(derive) for op, derive in UNARY.items()},
}
