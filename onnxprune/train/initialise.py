"""Fresh weights for every layer of a model, by the kind of the layer.

========================================= =============================================================================
Conv, ConvTranspose, Gemm, MatMul         He: normal, variance 2 / fan-in, where a ReLU or one of its kin follows
                                          (arXiv:1502.01852); else Xavier: uniform, variance 2 / (fan-in + fan-out)
                                          (Glorot and Bengio 2010)
LSTM, GRU, RNN                            input weights Xavier, recurrent weights orthogonal (arXiv:1312.6120), gate by
                                          gate; biases 0, of LSTM's forget gates 1 (Jozefowicz et al. 2015)
normalisations                            scale 1, shift 0, running mean 0, running variance 1
embeddings                                normal, variance 1 / width
biases; vectors that are added            0
vectors that multiply; PRelu              1; 0.25
matrices that are added (positions)       normal, standard deviation 0.02
========================================= =============================================================================

Everything else stays as it is: tables, masks, scalars, and what is read by other operators.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from onnxprune.graph import Graph, Node, build_graph
from onnxprune.model import Model, inline_functions
from onnxprune.ops.emitter import FLOATS

__all__ = ["initialise"]

Floats = NDArray[np.float64]
Maker = Callable[["_Reading"], Floats | None]

BENDING = {
    "Relu", "LeakyRelu", "PRelu", "Clip", "Elu", "Selu", "Celu", "Gelu", "FastGelu", "HardSwish", "Swish", "Mish",
    "Softplus", "ThresholdedRelu", "BiasGelu", "QuickGelu", "Erf",
}  # fmt: skip
THROUGH = {
    "Add", "BatchNormalization", "InstanceNormalization", "GroupNormalization", "LayerNormalization", "MaxPool",
    "AveragePool", "GlobalAveragePool", "Dropout", "Reshape", "Flatten", "Squeeze", "Transpose", "Identity", "Cast",
}  # fmt: skip
MOVED = {"Identity", "Cast", "Reshape", "Squeeze", "Unsqueeze", "Transpose", "Flatten"}
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
FORGET = 2  # LSTM's gates are i, o, f, c
FAR = 4  # operators between a layer and its activation
POSITIONS = 0.02  # standard deviation of position embeddings
LARGE = 1e3  # an added matrix with such numbers is a mask


def initialise(model: Model, seed: int = 0) -> tuple[Model, tuple[str, ...]]:
    """The model with fresh weights, without local functions, and the matrices that were left as they are."""
    model = inline_functions(model)
    graph = build_graph(model)
    editor = model.edit()
    left: list[str] = []
    for name, weight in graph.weights.items():
        if weight.onnx_type not in FLOATS or not weight.shape:
            continue
        original = graph.origin.get(name, name)
        if original not in model.weights:
            continue  # inside a body
        fresh = _fresh(graph, name, np.random.default_rng([seed, zlib.crc32(original.encode())]))
        if fresh is not None:
            editor.set_weight(original, fresh.reshape(weight.shape).astype(weight.dtype))
        elif _axes(weight.shape) > 1:
            left.append(name)
    return editor.build(), tuple(left)


class _Reading:
    """A weight and the operator that reads it: input ``k`` of ``node``; ``turned``: it is transposed on the way."""

    def __init__(self, graph: Graph, name: str, rng: np.random.Generator) -> None:
        self.graph, self.rng = graph, rng
        self.array: Floats = np.asarray(graph.weights[name].array(), np.float64)
        self.node, self.k, self.turned = _reader(graph, name)
        self.shape = self.array.shape

    @property
    def prepares_input(self) -> bool:
        """Whether it is combined with an input of the model: normalisation of pixels, which is not learnt."""
        return not set(self.node.inputs).isdisjoint(self.graph.inputs)

    def layer(self, fan_in: float, fan_out: float) -> Floats:
        """He where it is followed by a ReLU, else Xavier."""
        if _bends(self.graph, self.node):
            return self.rng.normal(0, math.sqrt(2 / fan_in), self.shape)
        limit = math.sqrt(6 / (fan_in + fan_out))
        return self.rng.uniform(-limit, limit, self.shape)


def _fresh(graph: Graph, name: str, rng: np.random.Generator) -> Floats | None:
    if not graph.consumers.get(name):
        return None
    reading = _Reading(graph, name, rng)
    maker = MAKERS.get(reading.node.op)
    return None if maker is None else maker(reading)


def _reader(graph: Graph, name: str) -> tuple[Node, int, bool]:
    """The first operator that does more than to move a weight."""
    turned = False
    node, k = graph.consumers[name][0]
    while node.op in MOVED and k == 0 and graph.consumers.get(node.output(0)):
        turned ^= node.op == "Transpose"
        node, k = graph.consumers[node.output(0)][0]
    return node, k, turned


def _bends(graph: Graph, node: Node) -> bool:
    """Whether a ReLU or one of its kin follows, through what only shifts, scales or moves."""
    for _ in range(FAR):
        readers = graph.consumers.get(node.output(0), ())
        if any(reader.op in BENDING for reader, _ in readers):
            return True
        if any(reader.op == "Sigmoid" for reader, _ in readers):
            return len(readers) > 1  # x * sigmoid(x)
        following = [reader for reader, _ in readers if reader.op in THROUGH]
        if not following:
            return False
        node = following[0]
    return False


def _axes(shape: tuple[int, ...]) -> int:
    return sum(size > 1 for size in shape)


def _conv(r: _Reading) -> Floats | None:
    """(out, in / group, ...); with a bias."""
    if r.k != 1:
        return np.zeros(r.shape) if r.k == 2 else None
    kernel, group = math.prod(r.shape[2:]), int(r.node.attrs.get("group", 1))
    return r.layer(r.shape[1] * kernel, r.shape[0] * kernel / group)


def _conv_transpose(r: _Reading) -> Floats | None:
    """(in, out / group, ...); with a bias."""
    if r.k != 1:
        return np.zeros(r.shape) if r.k == 2 else None
    kernel, group = math.prod(r.shape[2:]), int(r.node.attrs.get("group", 1))
    return r.layer(r.shape[0] * kernel / group, r.shape[1] * kernel)


def _product(r: _Reading) -> Floats | None:
    """(in, out) on the right, (out, in) on the left; Gemm's transA and transB turn it, and it has a bias."""
    if r.k == 2:
        return np.zeros(r.shape)
    if len(r.shape) < 2:
        return None
    turned = r.turned ^ (r.k == 0) ^ bool(r.node.attrs.get("transB" if r.k == 1 else "transA", 0))
    first, second = r.shape[-2:]
    return r.layer(*((second, first) if turned else (first, second)))


def _attention(r: _Reading) -> Floats | None:
    """Inputs, weights of queries, keys and values side by side, bias."""
    if r.k == 1 and len(r.shape) == 2:
        return r.layer(r.shape[0], r.shape[1] / 3)
    return np.zeros(r.shape) if r.k == 2 else None


def _recurrent(r: _Reading) -> Floats | None:
    """W (directions, gates * hidden, in), R (directions, gates * hidden, hidden), B of both, peepholes."""
    gates, hidden = GATES[r.node.op], int(r.node.attrs["hidden_size"])
    if r.k == 1:
        limit = math.sqrt(6 / (r.shape[-1] + hidden))
        return r.rng.uniform(-limit, limit, r.shape)
    if r.k == 2:
        squares = r.rng.normal(size=(r.shape[0], gates, hidden, hidden))
        q, upper = np.linalg.qr(squares)
        return np.asarray(q * np.sign(np.diagonal(upper, axis1=-2, axis2=-1))[..., None, :])
    if r.k == 3:
        bias = np.zeros((r.shape[0], 2 * gates, hidden))
        if r.node.op == "LSTM":
            bias[:, FORGET] = 1
        return bias
    return np.zeros(r.shape) if r.k == 7 else None


def _normalisation(ones: tuple[int, ...], zeros: tuple[int, ...]) -> Maker:
    def make(r: _Reading) -> Floats | None:
        return np.ones(r.shape) if r.k in ones else np.zeros(r.shape) if r.k in zeros else None

    return make


def _embedding(r: _Reading) -> Floats | None:
    if r.k != 0 or len(r.shape) != 2:
        return None
    return r.rng.normal(0, 1 / math.sqrt(r.shape[1]), r.shape)


def _added(r: _Reading) -> Floats | None:
    if r.prepares_input:
        return None
    if _axes(r.shape) < 2:
        return np.zeros(r.shape) if r.array.size > 1 else None
    if not np.isfinite(r.array).all() or np.abs(r.array).max() > LARGE or len(np.unique(r.array)) <= 2:
        return None
    return r.rng.normal(0, POSITIONS, r.shape)


def _multiplied(r: _Reading) -> Floats | None:
    return np.ones(r.shape) if _axes(r.shape) == 1 and not r.prepares_input else None


def _slope(r: _Reading) -> Floats | None:
    return np.full(r.shape, 0.25) if r.k == 1 else None


MAKERS: Mapping[str, Maker] = {
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "Gemm": _product,
    "MatMul": _product,
    "Attention": _attention,
    **dict.fromkeys(GATES, _recurrent),
    "BatchNormalization": _normalisation((1, 4), (2, 3)),
    **dict.fromkeys(("InstanceNormalization", "GroupNormalization", "LayerNormalization"), _normalisation((1,), (2,))),
    **dict.fromkeys(("RMSNormalization", "SimplifiedLayerNormalization"), _normalisation((1,), ())),
    "SkipLayerNormalization": _normalisation((2,), (3, 4)),
    "SkipSimplifiedLayerNormalization": _normalisation((2,), (3,)),
    "Gather": _embedding,
    "Add": _added,
    "Mul": _multiplied,
    "PRelu": _slope,
}
