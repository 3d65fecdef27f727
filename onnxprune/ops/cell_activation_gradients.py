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


@dataclass(frozen=True)
class Activation:
    """One of the functions that the standard lists for recurrent operators."""

    name: str  # in lower case
    alpha: float = 0.0
    beta: float = 0.0

    def __call__(self, x: Value) -> tuple[Value, Value | float]:
        """The values at x and the derivative there. Raises UnsupportedModel for a function of another name."""
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


def _sigmoid(x: Value, alpha: float, beta: float) -> tuple[Value, Value]:
    y = x.emitter.unary("Sigmoid", x)
    return y, y - y * y


def _tanh(x: Value, alpha: float, beta: float) -> tuple[Value, Value]:
    y = x.emitter.unary("Tanh", x)
    return y, 1.0 - y * y


def _relu(x: Value, alpha: float, beta: float) -> tuple[Value, Value]:
    return x.emitter.unary("Relu", x), x.emitter.cast(x > 0.0, x.dtype)


def _affine(x: Value, alpha: float, beta: float) -> tuple[Value, float]:
    return x * alpha + beta, alpha


def _leaky_relu(x: Value, alpha: float, beta: float) -> tuple[Value, Value]:
    e = x.emitter
    slope = e.where(x < 0.0, e.const(alpha, x.dtype), e.const(1.0, x.dtype))
    return x * slope, slope


def _thresholded_relu(x: Value, alpha: float, beta: float) -> tuple[Value, Value]:
    passes = x.emitter.cast(x > alpha, x.dtype)
    return x * passes, passes


def _scaled_tanh(x: Value, alpha: float, beta: float) -> tuple[Value, Value]:
    u = x.emitter.unary("Tanh", x * beta)
    return u * alpha, (1.0 - u * u) * (alpha * beta)


def _hard_sigmoid(x: Value, alpha: float, beta: float) -> tuple[Value, Value]:
    e = x.emitter
    line = x * alpha + beta
    y = e.op("Clip", line, e.const(0.0, x.dtype), e.const(1.0, x.dtype), sizes=x.sizes)
    return y, e.cast(y.equals(line), x.dtype) * alpha


def _elu(x: Value, alpha: float, beta: float) -> tuple[Value, Value]:
    e = x.emitter
    below = (e.unary("Exp", e.op("Min", x, e.const(0.0, x.dtype), sizes=x.sizes)) - 1.0) * alpha
    return e.where(x < 0.0, below, x), e.where(x < 0.0, below + alpha, e.const(1.0, x.dtype))


def _softsign(x: Value, alpha: float, beta: float) -> tuple[Value, Value]:
    shrink = 1.0 / (x.emitter.unary("Abs", x) + 1.0)
    return x * shrink, shrink * shrink


def _softplus(x: Value, alpha: float, beta: float) -> tuple[Value, Value]:
    return x.emitter.unary("Softplus", x), x.emitter.unary("Sigmoid", x)


FUNCTIONS: dict[str, Callable[[Value, float, float], tuple[Value, Value | float]]] = {
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
