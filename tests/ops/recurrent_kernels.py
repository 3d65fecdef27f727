"""LSTM, GRU, RNN and Scan with every attribute, for onnx's reference evaluator.

onnxruntime has the first three in float32 only, and what it does is what is done here (``test_recurrent_gradients``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx.reference.op_run import OpRun
from onnx.reference.ops import op_scan

from tests.oracle import Array

__all__ = ["GRU", "LSTM", "RECURRENT", "RNN", "Scan"]

FUNCTIONS: dict[str, Callable[..., Array]] = {
    "sigmoid": lambda x, *_: 1 / (1 + np.exp(-x)),
    "tanh": lambda x, *_: np.tanh(x),
    "relu": lambda x, *_: np.maximum(x, 0),
    "affine": lambda x, a, b: a * x + b,
    "leakyrelu": lambda x, a, _: np.where(x < 0, a * x, x),
    "thresholdedrelu": lambda x, a, _: np.where(x > a, x, 0),
    "scaledtanh": lambda x, a, b: a * np.tanh(b * x),
    "hardsigmoid": lambda x, a, b: np.clip(a * x + b, 0, 1),
    "elu": lambda x, a, _: np.where(x < 0, a * np.expm1(x), x),
    "softsign": lambda x, *_: x / (1 + np.abs(x)),
    "softplus": lambda x, *_: np.logaddexp(x, 0),
}
WITH_ALPHA = {"affine", "leakyrelu", "thresholdedrelu", "scaledtanh", "hardsigmoid", "elu"}
WITH_BETA = {"affine", "scaledtanh", "hardsigmoid"}
ALPHA, BETA = {"leakyrelu": 0.01, "hardsigmoid": 0.2, "elu": 1.0}, {"hardsigmoid": 0.5}  # as onnxruntime has them


def functions(
    names: Sequence[str], alphas: Sequence[float] | None, betas: Sequence[float] | None
) -> list[Callable[[Array], Array]]:
    """Alpha and beta go to the functions that have them, in order."""
    a, b = iter(alphas or ()), iter(betas or ())
    found: list[Callable[[Array], Array]] = []
    for name in (n.lower() for n in names):
        alpha = next(a, ALPHA.get(name, 0.0)) if name in WITH_ALPHA else 0.0
        beta = next(b, BETA.get(name, 0.0)) if name in WITH_BETA else 0.0
        found.append(lambda x, f=FUNCTIONS[name], alpha=alpha, beta=beta: f(x, alpha, beta))
    return found


class Recurrent(OpRun):
    """What all three share: directions, lengths, layouts, and which activation is whose."""

    default: tuple[str, ...] = ()

    def _run(self, x: Array, w: Array, r: Array, *rest: Array | None, **attrs: Any) -> tuple[Array, ...]:
        b, lengths, h0, c0, p = (*rest, *[None] * (5 - len(rest)))
        if attrs.get("layout"):
            x, h0, c0 = (None if v is None else np.swapaxes(v, 0, 1) for v in (x, h0, c0))
        directions, cells, steps, batch = len(r), r.shape[2], len(x), x.shape[1]
        zeros = np.zeros((directions, batch, cells), x.dtype)
        names = attrs.get("activations") or self.default * directions
        chosen = functions(names, attrs.get("activation_alpha"), attrs.get("activation_beta"))
        if b is None:
            b = np.zeros((directions, 2 * r.shape[1]), x.dtype)
        if lengths is None:
            lengths = np.full(batch, steps)
        y = np.zeros((steps, directions, batch, cells), x.dtype)
        hs = [zeros if v is None else v for v in (h0, c0)]
        finals = np.array(np.broadcast_to(np.stack(hs), (2, directions, batch, cells)))
        for d in range(directions):
            f = chosen[d * len(self.default) : (d + 1) * len(self.default)]
            peepholes = np.zeros(3 * cells, x.dtype) if p is None else p[d]
            back = attrs.get("direction") == "reverse" or d == 1
            for step in range(steps):
                at = lengths - 1 - step if back else np.full(batch, step)
                live = np.flatnonzero((at >= 0) & (at < lengths))
                state = [finals[0, d, live], finals[1, d, live]]
                new = self.step(x[at[live], live], *state, w[d], r[d], b[d], peepholes, f, attrs)
                finals[0, d, live], finals[1, d, live] = new
                y[at[live], d, live] = new[0]
        results = [y, finals[0], finals[1]]
        if attrs.get("layout"):
            results = [y.transpose(2, 0, 1, 3), *(v.transpose(1, 0, 2) for v in results[1:])]
        return tuple(results[: max(len(self.onnx_node.output), 1)])

    def step(self, x: Array, h: Array, c: Array, *rest: Any) -> tuple[Array, Array]:
        raise NotImplementedError


def clipped(values: Array, attrs: dict[str, Any]) -> Array:
    limit = attrs.get("clip") or 0.0
    return np.clip(values, -limit, limit) if limit else values


class LSTM(Recurrent):
    default = ("Sigmoid", "Tanh", "Tanh")

    def step(self, x: Array, h: Array, c: Array, *rest: Any) -> tuple[Array, Array]:
        w, r, b, p, (f1, f2, f3), attrs = rest
        wb, rb = np.split(b, 2)
        i, o, f, g = np.split(x @ w.T + h @ r.T + wb + rb, 4, axis=-1)
        pi, po, pf = np.split(p, 3)
        i = f1(clipped(i + pi * c, attrs))
        f = 1 - i if attrs.get("input_forget") else f1(clipped(f + pf * c, attrs))
        c = f * c + i * f2(clipped(g, attrs))
        return f1(clipped(o + po * c, attrs)) * f3(c), c


class GRU(Recurrent):
    default = ("Sigmoid", "Tanh")

    def step(self, x: Array, h: Array, c: Array, *rest: Any) -> tuple[Array, Array]:
        w, r, b, _, (f, g), attrs = rest
        (wz, wr, wh), (rz, rr, rh) = np.split(w, 3), np.split(r, 3)
        bz, br, bh, cz, cr, ch = np.split(b, 6)
        z = f(clipped(x @ wz.T + h @ rz.T + bz + cz, attrs))
        reset = f(clipped(x @ wr.T + h @ rr.T + br + cr, attrs))
        inner = reset * (h @ rh.T + ch) if attrs.get("linear_before_reset") else (reset * h) @ rh.T + ch
        n = g(clipped(x @ wh.T + bh + inner, attrs))
        return (1 - z) * n + z * h, c


class RNN(Recurrent):
    default = ("Tanh",)

    def step(self, x: Array, h: Array, c: Array, *rest: Any) -> tuple[Array, Array]:
        w, r, b, _, (f,), attrs = rest
        return f(clipped(x @ w.T + h @ r.T + sum(np.split(b, 2)), attrs)), c


class Scan(op_scan.Scan):
    """With directions, which onnx's own refuses."""

    def __init__(self, onnx_node: onnx.NodeProto, run_params: dict[str, Any]) -> None:
        plain = onnx.NodeProto()
        plain.CopyFrom(onnx_node)
        kept = [a for a in onnx_node.attribute if not a.name.endswith("_directions")]
        del plain.attribute[:]
        plain.attribute.extend(kept)
        given = {a.name: list(a.ints) for a in onnx_node.attribute}
        self.into, self.out = (given.get(f"scan_{end}_directions", []) for end in ("input", "output"))
        super().__init__(plain, run_params)

    def _run(self, *args: Array, **settings: Any) -> tuple[Array, ...]:
        count = len(args) - self.num_scan_inputs
        read = [v[::-1] if back else v for v, back in zip(args[count:], self.into or [0] * len(args), strict=False)]
        results = super()._run(*args[:count], *read, **settings)
        put = results[count:]
        flips = self.out or [0] * len(put)
        return (*results[:count], *(v[::-1] if back else v for v, back in zip(put, flips, strict=True)))


RECURRENT: tuple[type[OpRun], ...] = (LSTM, GRU, RNN, Scan)
