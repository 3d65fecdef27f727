"""The activation functions that the standard lists for LSTM, GRU and RNN, with their derivatives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from onnxprune.errors import UnsupportedModel
from onnxprune.graph import Node
from onnxprune.ops.emitter import Value

DEFAULTS = {"LSTM": ("Sigmoid", "Tanh", "Tanh"), "GRU": ("Sigmoid", "Tanh"), "RNN": ("Tanh",)}
# name -> alpha and beta where a model gives none, as onnxruntime has them
ALPHA = {"affine": 0.0, "leakyrelu": 0.01, "thresholdedrelu": 0.0, "scaledtanh": 0.0, "hardsigmoid": 0.2, "elu": 1.0}
BETA = {"affine": 0.0, "scaledtanh": 0.0, "hardsigmoid": 0.5}


Slope = Callable[[Value], Value]  # v -> v f'(x)
Applied = tuple[Value, Slope]


@dataclass(frozen=True)
class Activation:
    """One of the functions. ``alpha``, ``beta``: for those that have them."""

    name: str  # in lower case
    alpha: float = 0.0
    beta: float = 0.0

    def __call__(self, x: Value) -> Applied:
        """The values at x, and what multiplies by the derivative there. Raises UnsupportedModel for an unknown one."""
        if self.name not in FUNCTIONS:
            raise UnsupportedModel(
                f"the activation function `{self.name}` of a recurrent layer has no gradient",
                f"Known are: {', '.join(sorted(FUNCTIONS))}.",
            )
        return FUNCTIONS[self.name](x, self.alpha, self.beta)


def activations(node: Node) -> list[tuple[Activation, ...]]:
    """Those of each direction. Alpha and beta are handed out in order, to the functions that have them."""
    default = DEFAULTS[node.op]
    directions = 2 if node.attrs.get("direction", "forward") == "bidirectional" else 1
    names = [name.lower() for name in node.attrs.get("activations", default * directions)]
    alphas, betas = (iter(node.attrs.get(f"activation_{key}", ())) for key in ("alpha", "beta"))
    found = []
    for name in names:
        alpha = next(alphas, ALPHA[name]) if name in ALPHA else 0.0
        beta = next(betas, BETA[name]) if name in BETA else 0.0
        found.append(Activation(name, alpha, beta))
    return [tuple(found[d * len(default) : (d + 1) * len(default)]) for d in range(directions)]


# The products y v and v y below are in that order so that onnxruntime finds i g and o h(c) of an LSTM computed already.


def _sigmoid_slope(y: Value) -> Slope:
    def slope(v: Value) -> Value:
        part = y * v
        return part - part * y

    return slope


def _tanh_slope(y: Value) -> Slope:
    return lambda v: v - v * y * y


def _sigmoid(x: Value, _: float, __: float) -> Applied:
    y = x.emitter.unary("Sigmoid", x)
    return y, _sigmoid_slope(y)


def _tanh(x: Value, _: float, __: float) -> Applied:
    y = x.emitter.unary("Tanh", x)
    return y, _tanh_slope(y)


def _relu(x: Value, _: float, __: float) -> Applied:
    return x.emitter.unary("Relu", x), lambda v: v * x.emitter.cast(x > 0.0, x.dtype)


def _affine(x: Value, alpha: float, beta: float) -> Applied:
    return x * alpha + beta, lambda v: v * alpha


def _leaky_relu(x: Value, alpha: float, _: float) -> Applied:
    e = x.emitter
    slope = e.where(x < 0.0, e.const(alpha, x.dtype), e.const(1.0, x.dtype))
    return x * slope, lambda v: v * slope


def _thresholded_relu(x: Value, alpha: float, _: float) -> Applied:
    passes = x.emitter.cast(x > alpha, x.dtype)
    return x * passes, lambda v: v * passes


def _scaled_tanh(x: Value, alpha: float, beta: float) -> Applied:
    u = x.emitter.unary("Tanh", x * beta)
    return u * alpha, lambda v: (v - v * u * u) * (alpha * beta)


def _hard_sigmoid(x: Value, alpha: float, beta: float) -> Applied:
    e = x.emitter
    line = x * alpha + beta
    y = e.op("Clip", line, e.const(0.0, x.dtype), e.const(1.0, x.dtype), sizes=x.sizes)
    return y, lambda v: v * (e.cast(y.equals(line), x.dtype) * alpha)


def _elu(x: Value, alpha: float, _: float) -> Applied:
    e = x.emitter
    below = (e.unary("Exp", e.op("Min", x, e.const(0.0, x.dtype), sizes=x.sizes)) - 1.0) * alpha
    return e.where(x < 0.0, below, x), lambda v: v * e.where(x < 0.0, below + alpha, e.const(1.0, x.dtype))


def _softsign(x: Value, _: float, __: float) -> Applied:
    shrink = 1.0 / (x.emitter.unary("Abs", x) + 1.0)
    return x * shrink, lambda v: v * (shrink * shrink)


def _softplus(x: Value, _: float, __: float) -> Applied:
    return x.emitter.unary("Softplus", x), lambda v: v * x.emitter.unary("Sigmoid", x)


FUNCTIONS: dict[str, Callable[[Value, float, float], Applied]] = {
    "sigmoid": _sigmoid,
    "tanh": _tanh,
    "relu": _relu,
    "affine": _affine,
    "leakyrelu": _leaky_relu,
    "thresholdedrelu": _thresholded_relu,
    "scaledtanh": _scaled_tanh,
    "hardsigmoid": _hard_sigmoid,
    "elu": _elu,
    "softsign": _softsign,
    "softplus": _softplus,
}
SLOPES: dict[str, Callable[[Value], Slope]] = {"sigmoid": _sigmoid_slope, "tanh": _tanh_slope}  # from the values
