"""Random graphs out of the operators that the engine knows: chains, residuals, concats, splits, reshapes, groups.

`build` turns a list of small integers into a model, so that hypothesis can draw and shrink it: every integer picks the
next step among those that the shape at hand allows. Weights are seeded by the list itself.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

__all__ = ["build", "steps"]

SPACE = 6


class _Builder:
    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def name(self, base: str) -> str:
        return f"{base}_{len(self.nodes)}_{len(self.constants)}"

    def constant(self, array: np.ndarray) -> str:
        name = self.name("w")
        self.constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def weight(self, *shape: int) -> str:
        fan = max(int(np.prod(shape[1:])), 1)
        return self.constant((self.rng.standard_normal(shape) * np.sqrt(2 / fan)).astype(np.float32))

    def vector(self, size: int, low: float = -0.5, high: float = 0.5) -> str:
        return self.constant(self.rng.uniform(low, high, size).astype(np.float32))

    def ints(self, *values: int) -> str:
        return self.constant(np.array(values, np.int64))

    def add(self, op: str, inputs: Sequence[str], outputs: int = 1, **attributes: object) -> list[str]:
        names = [self.name(op.lower()) for _ in range(outputs)]
        names = [f"{n}.{k}" for k, n in enumerate(names)]
        self.nodes.append(helper.make_node(op, list(inputs), names, name=f"{op}{len(self.nodes)}", **attributes))
        return names


Feature = tuple[str, int]  # tensor (N, C, SPACE, SPACE), channels


def conv(b: _Builder, x: Feature, out: int, k: int = 3, group: int = 1) -> Feature:
    w = b.weight(out, x[1] // group, k, k)
    y = b.add("Conv", [x[0], w, b.vector(out)], kernel_shape=[k, k], pads=[k // 2] * 4, group=group)
    return y[0], out


def norm(b: _Builder, x: Feature) -> Feature:
    c = x[1]
    parameters = [b.vector(c, 0.5, 1.5), b.vector(c), b.vector(c), b.vector(c, 0.5, 1.5)]
    return b.add("BatchNormalization", [x[0], *parameters])[0], c


def step_plain(b: _Builder, x: Feature) -> Feature:
    return b.add("Relu", [norm(b, conv(b, x, 8))[0]])[0], 8


def step_widen(b: _Builder, x: Feature) -> Feature:
    return b.add("Sigmoid", [conv(b, x, 12, 1)[0]])[0], 12


def step_residual(b: _Builder, x: Feature) -> Feature:
    y = conv(b, (b.add("Tanh", [conv(b, x, 10)[0]])[0], 10), x[1])
    return b.add("Add", [x[0], y[0]])[0], x[1]


def step_dense(b: _Builder, x: Feature) -> Feature:
    y = b.add("Relu", [conv(b, x, 6)[0]])[0]
    return b.add("Concat", [x[0], y], axis=1)[0], x[1] + 6


def step_split(b: _Builder, x: Feature) -> Feature:
    left = x[1] // 2
    parts = b.add("Split", [x[0], b.ints(left, x[1] - left)], 2, axis=1)
    y = b.add("Elu", [conv(b, (parts[1], x[1] - left), 5)[0]])[0]
    return b.add("Concat", [y, parts[0]], axis=1)[0], left + 5


def step_slice(b: _Builder, x: Feature) -> Feature:
    end = max(x[1] - 2, 1)
    y = b.add("Slice", [x[0], b.ints(0), b.ints(end), b.ints(1)])[0]
    return b.add("LeakyRelu", [y])[0], end


def step_reverse(b: _Builder, x: Feature) -> Feature:
    return b.add("Gather", [x[0], b.ints(*range(x[1] - 1, -1, -1))], axis=1)[0], x[1]


def step_depthwise(b: _Builder, x: Feature) -> Feature:
    return b.add("HardSwish", [conv(b, x, x[1], 3, x[1])[0]])[0], x[1]


def step_groups(b: _Builder, x: Feature) -> Feature:
    if x[1] % 2:
        return step_plain(b, x)
    return b.add("Softplus", [conv(b, x, 8, 1, 2)[0]])[0], 8


def step_shuffle(b: _Builder, x: Feature) -> Feature:
    g = next((g for g in (2, 3, 5) if x[1] % g == 0 and x[1] > g), 0)
    if not g:
        return step_reverse(b, x)
    y = b.add("Reshape", [x[0], b.ints(-1, g, x[1] // g, SPACE, SPACE)])[0]
    y = b.add("Transpose", [y], perm=[0, 2, 1, 3, 4])[0]
    return b.add("Reshape", [y, b.ints(-1, x[1], SPACE, SPACE)])[0], x[1]


def step_excite(b: _Builder, x: Feature) -> Feature:
    y = conv(b, (b.add("GlobalAveragePool", [x[0]])[0], x[1]), 4, 1)
    y = conv(b, (b.add("Relu", [y[0]])[0], 4), x[1], 1)
    return b.add("Mul", [x[0], b.add("Sigmoid", [y[0]])[0]])[0], x[1]


def step_pad(b: _Builder, x: Feature) -> Feature:
    return b.add("Pad", [x[0], b.ints(0, 1, 0, 0, 0, 2, 0, 0)])[0], x[1] + 3


def step_gate(b: _Builder, x: Feature) -> Feature:
    y = conv(b, x, 12)
    parts = b.add("Split", [y[0], b.ints(6, 6)], 2, axis=1)
    return b.add("Mul", [parts[0], b.add("Sigmoid", [parts[1]])[0]])[0], 6


def step_last_axis(b: _Builder, x: Feature) -> Feature:
    """To (N, H, W, C), through a matrix product with a broadcast bias, and back."""
    y = b.add("Transpose", [x[0]], perm=[0, 2, 3, 1])[0]
    w = b.constant((b.rng.standard_normal((x[1], 9)) / np.sqrt(x[1])).astype(np.float32))
    y = b.add("MatMul", [y, w])[0]
    y = b.add("Add", [y, b.vector(9)])[0]
    return b.add("Transpose", [y], perm=[0, 3, 1, 2])[0], 9


def step_tokens(b: _Builder, x: Feature) -> Feature:
    """Self-attention over positions with two heads of size 3."""
    t = b.add("Reshape", [x[0], b.ints(0, 0, SPACE * SPACE)])[0]
    t = b.add("Transpose", [t], perm=[0, 2, 1])[0]
    parts = []
    for perm in ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]):
        w = b.constant((b.rng.standard_normal((x[1], 6)) / np.sqrt(x[1])).astype(np.float32))
        p = b.add("Reshape", [b.add("MatMul", [t, w])[0], b.ints(0, -1, 2, 3)])[0]
        parts.append(b.add("Transpose", [p], perm=perm)[0])
    a = b.add("Softmax", [b.add("MatMul", parts[:2])[0]], axis=-1)[0]
    y = b.add("Transpose", [b.add("MatMul", [a, parts[2]])[0]], perm=[0, 2, 1, 3])[0]
    y = b.add("Reshape", [y, b.ints(0, 0, 6)])[0]
    y = b.add("Transpose", [y], perm=[0, 2, 1])[0]
    return b.add("Reshape", [y, b.ints(0, 6, SPACE, SPACE)])[0], 6


def step_normalise(b: _Builder, x: Feature) -> Feature:
    return b.add("LpNormalization", [b.add("Relu", [conv(b, x, 7, 1)[0]])[0]], axis=1)[0], 7


def step_channel_mean(b: _Builder, x: Feature) -> Feature:
    """A reduction over channels behind an activation that does not keep zeros."""
    y = b.add("ReduceSum", [b.add("Sigmoid", [conv(b, x, 5)[0]])[0], b.ints(1)], keepdims=1)[0]
    return b.add("Add", [x[0], y])[0], x[1]


def step_channel_sum(b: _Builder, x: Feature) -> Feature:
    """A reduction over channels behind one that does."""
    y = b.add("ReduceSum", [b.add("Relu", [conv(b, x, 5)[0]])[0], b.ints(1)], keepdims=1)[0]
    return b.add("Add", [x[0], y])[0], x[1]


steps = (
    step_plain, step_widen, step_residual, step_dense, step_split, step_slice, step_reverse, step_depthwise,
    step_groups, step_shuffle, step_excite, step_pad, step_gate, step_last_axis, step_tokens, step_normalise,
    step_channel_mean, step_channel_sum,
)  # fmt: skip


def build(picks: Sequence[int], *, dynamic: bool = True) -> onnx.ModelProto:
    """A classifier of 3-channel images whose body is the picked steps."""
    b = _Builder(hash(tuple(picks)) % 2**32)
    x = conv(b, ("x", 3), 6)
    for pick in picks:
        x = steps[pick % len(steps)](b, x)
    y = b.add("Flatten", [b.add("AveragePool", [x[0]], kernel_shape=[3, 3], strides=[3, 3])[0]])[0]
    y = b.add(
        "Gemm", [y, b.constant((b.rng.standard_normal((x[1] * 4, 5)) / np.sqrt(x[1])).astype(np.float32)), b.vector(5)]
    )[0]
    batch: str | int = "batch" if dynamic else 2
    graph = helper.make_graph(
        b.nodes,
        "random",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3, SPACE, SPACE])],
        [helper.make_tensor_value_info(y, TensorProto.FLOAT, [batch, 5])],
        b.constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
