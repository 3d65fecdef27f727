"""Gradients of activation functions, in forms that stay finite for operands of any size.

Functions that are near to ReLU (0 or small to the left, growing to the right) let only positive cotangents through in
guided back-propagation (Springenberg et al., arXiv:1412.6806); the saturating ones (Sigmoid, Tanh, Softsign) do not.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import log, pi, sqrt

from onnxprune.graph import Node
from onnxprune.ops.elementwise_gradients import Cotangents, Vjp, guided
from onnxprune.ops.emitter import BOOL, Value
from onnxprune.ops.tape import Tape

__all__ = ["ACTIVATIONS", "CONTRIB_ACTIVATIONS"]

SELU_ALPHA, SELU_GAMMA = 1.67326319217681884765625, 1.05070102214813232421875  # onnx's defaults


def vjp_relu(node: Node, t: Tape) -> Cotangents:
    """y = max(x, 0); the gradient at 0 is 0."""
    dy, y = t.dy(node), t.output(node)
    if not t.guided and t.vanishing.get(dy.name) == y.name:
        return (dy,)
    return (t.gate(guided(t, dy), y > 0.0),)


def vjp_leaky_relu(node: Node, t: Tape) -> Cotangents:
    """y = x, alpha x for x < 0."""
    dy = guided(t, t.dy(node))
    return (t.where(t.input(node, 0) > 0.0, dy, dy * float(node.attrs.get("alpha", 0.01))),)


def vjp_prelu(node: Node, t: Tape) -> Cotangents:
    """y = x, slope x for x < 0."""
    dy, x, slope = guided(t, t.dy(node)), t.input(node, 0), t.input(node, 1)
    right = x > 0.0
    dx = t.where(right, dy, dy * slope) if t.needs(node, 0) else None
    return dx, t.where(right, 0.0, dy * x) if t.needs(node, 1) else None


def vjp_elu(node: Node, t: Tape) -> Cotangents:
    """y = x, alpha (e^x - 1) for x < 0, where y' = y + alpha."""
    dy = guided(t, t.dy(node))
    return (t.where(t.input(node, 0) > 0.0, dy, dy * (t.output(node) + float(node.attrs.get("alpha", 1.0)))),)


def vjp_celu(node: Node, t: Tape) -> Cotangents:
    """y = x, alpha (e^(x / alpha) - 1) for x < 0, where y' = y / alpha + 1."""
    dy = guided(t, t.dy(node))
    per = 1 / float(node.attrs.get("alpha", 1.0))
    return (t.where(t.input(node, 0) > 0.0, dy, dy * (t.output(node) * per + 1.0)),)


def vjp_selu(node: Node, t: Tape) -> Cotangents:
    """y = gamma x, gamma alpha (e^x - 1) for x < 0, where y' = y + gamma alpha."""
    dy = guided(t, t.dy(node))
    gamma = float(node.attrs.get("gamma", SELU_GAMMA))
    left = dy * (t.output(node) + gamma * float(node.attrs.get("alpha", SELU_ALPHA)))
    return (t.where(t.input(node, 0) > 0.0, dy * gamma, left),)


def vjp_thresholded_relu(node: Node, t: Tape) -> Cotangents:
    """y = x for x > alpha, else 0."""
    above = t.input(node, 0) > float(node.attrs.get("alpha", 1.0))
    return (t.where(above, guided(t, t.dy(node)), 0.0),)


def vjp_shrink(node: Node, t: Tape) -> Cotangents:
    """y = x -+ bias for |x| > lambd, else 0."""
    outside = t.unary("Abs", t.input(node, 0)) > float(node.attrs.get("lambd", 0.5))
    return (t.where(outside, t.dy(node), 0.0),)


def vjp_clip(node: Node, t: Tape) -> Cotangents:
    """y = min(max(x, low), high): to x between the bounds (and on them), else to the bound that was chosen."""
    dy, x = guided(t, t.dy(node)), t.input(node, 0)
    low, high = t.optional(node, 1), t.optional(node, 2)
    below = None if low is None else x < low
    above = None if high is None else x > high
    dx = dy
    if t.needs(node, 0):
        sides = [None if low is None else x >= low, None if high is None else x <= high]
        first, second = sides if sides[0] is not None else reversed(sides)
        if first is not None:
            dx = t.gate(dy, first if second is None else t.binary("And", first, second, dtype=BOOL))
    dlow = dhigh = None
    if below is not None and low is not None and t.needs(node, 1):
        dlow = t.where(below if high is None else t.binary("And", below, low <= high, dtype=BOOL), dy, 0.0)
    if above is not None and high is not None and t.needs(node, 2):
        dhigh = t.where(above if low is None else t.binary("Or", above, low > high, dtype=BOOL), dy, 0.0)
    return dx, dlow, dhigh


def vjp_sigmoid(node: Node, t: Tape) -> Cotangents:
    """y' = y (1 - y)."""
    y = t.output(node)
    return (t.dy(node) * (y * (1.0 - y)),)


def vjp_tanh(node: Node, t: Tape) -> Cotangents:
    """y' = 1 - y^2."""
    y = t.output(node)
    return (t.dy(node) * (1.0 - y * y),)


def vjp_softsign(node: Node, t: Tape) -> Cotangents:
    """y = x / (1 + |x|), y' = 1 / (1 + |x|)^2."""
    size = t.unary("Abs", t.input(node, 0)) + 1.0
    return (t.dy(node) / (size * size),)


def vjp_softplus(node: Node, t: Tape) -> Cotangents:
    """y = log(1 + e^x), y' = sigmoid(x)."""
    return (guided(t, t.dy(node)) * t.unary("Sigmoid", t.input(node, 0)),)


def vjp_hard_sigmoid(node: Node, t: Tape) -> Cotangents:
    """y = alpha x + beta within (0, 1)."""
    y, alpha = t.output(node), float(node.attrs.get("alpha", 0.2))
    inside = t.binary("And", y > 0.0, y < 1.0, dtype=BOOL)
    return (t.where(inside, t.dy(node) * alpha, 0.0),)


def vjp_hard_swish(node: Node, t: Tape) -> Cotangents:
    """y = x h with h = max(0, min(1, x / 6 + 1/2)): y' = h + x / 6 for |x| < 3, else h."""
    x = t.input(node, 0)
    h = t.unary("HardSigmoid", x, alpha=1 / 6, beta=0.5)
    return (guided(t, t.dy(node)) * (h + t.where(t.unary("Abs", x) < 3.0, x * (1 / 6), 0.0)),)


def vjp_mish(node: Node, t: Tape) -> Cotangents:
    """y = x w with w = tanh(log(1 + e^x)): y' = w + x (1 - w^2) sigmoid(x)."""
    x = t.input(node, 0)
    w = t.unary("Tanh", t.unary("Softplus", x))
    return (guided(t, t.dy(node)) * (w + x * (1.0 - w * w) * t.unary("Sigmoid", x)),)


def swish(t: Tape, dy: Value, x: Value, y: Value, alpha: float) -> Value:
    """y = x s with s = sigmoid(alpha x): y' = s + alpha y (1 - s)."""
    s = t.unary("Sigmoid", x if alpha == 1 else x * alpha)
    rest = y * (1.0 - s)
    return guided(t, dy) * (s + (rest if alpha == 1 else rest * alpha))


def vjp_swish(node: Node, t: Tape) -> Cotangents:
    """y = x sigmoid(alpha x)."""
    return (swish(t, t.dy(node), t.input(node, 0), t.output(node), float(node.attrs.get("alpha", 1.0))),)


def vjp_quick_gelu(node: Node, t: Tape) -> Cotangents:
    """y = x sigmoid(alpha x), where alpha is 1.702 by default."""
    return (swish(t, t.dy(node), t.input(node, 0), t.output(node), float(node.attrs.get("alpha", 1.702))),)


def gelu(t: Tape, dy: Value, x: Value) -> Value:
    """y = x (1 + erf(u)) / 2 with u = x / sqrt 2: y' = (1 + erf(u) + u exp(log(2 / sqrt(pi)) - u^2)) / 2.

    Every node is a pass over memory here: factors go into the exponent, and dy / 2 into the product behind it.
    """
    u = x * sqrt(0.5)
    bell = u * t.unary("Exp", log(2 / sqrt(pi)) - u * u)
    return guided(t, dy) * 0.5 * (t.unary("Erf", u) + bell + 1.0)


def tanh_gelu(t: Tape, dy: Value, x: Value) -> Value:
    """y = x s with s = sigmoid(x (a + b x^2)): y' = s + s (1 - s) x (a + 3 b x^2)."""
    a = 2 * sqrt(2 / pi)
    square = x * x
    s = t.unary("Sigmoid", x * (square * (0.044715 * a) + a))
    slope = x * (square * (3 * 0.044715 * a) + a)
    return guided(t, dy) * (s + s * (1.0 - s) * slope)


def vjp_gelu(node: Node, t: Tape) -> Cotangents:
    """x Phi(x), by the error function or, if ``approximate`` says so, by tanh."""
    form = tanh_gelu if _text(node.attrs.get("approximate", "none")) == "tanh" else gelu
    return (form(t, t.dy(node), t.input(node, 0)),)


def vjp_bias_gelu(node: Node, t: Tape) -> Cotangents:
    """y = gelu(x + bias)."""
    d = gelu(t, t.dy(node), t.input(node, 0) + t.input(node, 1))
    return d, d


def vjp_fast_gelu(node: Node, t: Tape) -> Cotangents:
    """y = gelu(x + bias), approximated by tanh; the bias may be absent."""
    x, bias = t.input(node, 0), t.optional(node, 1)
    d = tanh_gelu(t, t.dy(node), x if bias is None else x + bias)
    return d, d


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


ACTIVATIONS: Mapping[str, Vjp] = {
    "Relu": vjp_relu,
    "LeakyRelu": vjp_leaky_relu,
    "PRelu": vjp_prelu,
    "Elu": vjp_elu,
    "Celu": vjp_celu,
    "Selu": vjp_selu,
    "ThresholdedRelu": vjp_thresholded_relu,
    "Shrink": vjp_shrink,
    "Clip": vjp_clip,
    "Sigmoid": vjp_sigmoid,
    "Tanh": vjp_tanh,
    "Softsign": vjp_softsign,
    "Softplus": vjp_softplus,
    "HardSigmoid": vjp_hard_sigmoid,
    "HardSwish": vjp_hard_swish,
    "Mish": vjp_mish,
    "Swish": vjp_swish,
    "Gelu": vjp_gelu,
}
CONTRIB_ACTIVATIONS: Mapping[str, Vjp] = {
    "QuickGelu": vjp_quick_gelu,
    "Gelu": vjp_gelu,
    "BiasGelu": vjp_bias_gelu,
    "FastGelu": vjp_fast_gelu,
}
