"""Small graphs written as text, and plans for them, for the tests of samples and proof."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from onnxprune.coupling import couple
from onnxprune.model import Model, from_proto
from onnxprune.plan import Plan
from onnxprune.proof import Proof, prove
from onnxprune.surgery import remove
from onnxprune.values import Coupling, Options

__all__ = ["half", "mlp", "model", "normal", "proven"]

Array = NDArray[Any]


def model(text: str, opset: int = 17, ir: int = 8, **weights: Array) -> Model:
    """A model from onnx's textual form, ``(inputs) => (outputs) { nodes }``, and its initializers."""
    header = f'<ir_version: {ir}, opset_import: ["": {opset}, "com.microsoft": 1, "ai.onnx.ml": 3]>'
    proto = onnx.parser.parse_model(f"{header} g {text}")
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(v, k) for k, v in weights.items())
    return from_proto(proto)


def normal(*shape: int, seed: int = 0, dtype: Any = np.float32) -> Array:
    """Weights that keep the variance of what flows through them."""
    fan_in = shape[0] if len(shape) == 2 else int(np.prod(shape[1:])) or 1
    rng = np.random.default_rng([seed, *shape])
    return (rng.standard_normal(shape) / np.sqrt(fan_in)).astype(dtype)


def mlp(middle: str = "h = Relu(a)", opset: int = 17, **weights: Array) -> Model:
    """x (N, 6) -> a (N, 8) -> ``middle`` makes h (N, 8) of it -> y (N, 4)."""
    return model(
        f"(float[N,6] x) => (float[N,4] y) {{ m = MatMul(x, w1) a = Add(m, b1) {middle} y = Gemm(h, w2, b2) }}",
        opset,
        **{"w1": normal(6, 8), "b1": normal(8), "w2": normal(8, 4), "b2": normal(4)} | weights,
    )


def half(coupling: Coupling, ratio: float = 0.5, seed: int = 0, skip: tuple[str, ...] = ()) -> Plan:
    """Remove a share of the units of every group that no constraint speaks of."""
    rng = np.random.default_rng(seed)
    bound = {int(g) for c in coupling.constraints for block in c.blocks for g in block[:, 0]}
    units = {
        group.name: rng.choice(group.units, min(int(ratio * group.units), group.units - 1), replace=False)
        for number, group in enumerate(coupling.groups)
        if number not in bound and group.name not in skip
    }
    sizes = {group.name: group.units for group in coupling.groups}
    return Plan(coupling.model_hash, units, sizes, options=coupling.options)


def proven(original: Model, options: Options | None = None, ratio: float = 0.5, **how: Any) -> Proof:
    """Remove a share of everything that can be removed, and prove it."""
    coupling = couple(original, options)
    plan = half(coupling, ratio)
    assert plan.removed_units, "the test removes nothing"
    return prove(original, coupling, plan, remove(original, coupling, plan), **how)
