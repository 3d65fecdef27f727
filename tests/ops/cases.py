"""What an operator test is made of: `Net` builds small seeded models, `Case` says what is expected of one.

Every parameter is a random multiple of 1/16 and never 0, so that sums of products are exact in float32, rounding
operators cannot tip over, and no comparison is vacuous.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference.op_run import OpRun

from onnxprune.model import Model, from_proto
from onnxprune.values import Options
from tests.oracle import Array, Feeds, feeds_for

__all__ = ["MS", "Case", "Cases", "Net", "flat", "maps", "normal_input", "tokens"]

MS = "com.microsoft"
HIDDEN, OUT = 8, 4  # width between the two layers of a sandwich, and of the output


@dataclass(frozen=True, eq=False)
class Case:
    """One model around an operator, and what its analysis must find.

    ``units``: units in all groups together (0: nothing can be removed). ``frozen``: a regular expression that the
    reason of some frozen axis must match. ``runs``: there is a kernel for it on a CPU, if only among ``kernels``, which
    stand in for what onnxruntime lacks; without one there must be nothing to remove. ``differentiable``: gradients pass
    through it, if they pass through the operator at all.
    """

    build: Callable[[], Model]
    units: int = HIDDEN
    frozen: str = ""
    options: Options = field(default_factory=Options)
    feeds: Callable[[Model, int], Feeds] | None = None
    runs: bool = True
    kernels: tuple[type[OpRun], ...] = ()
    differentiable: bool = True


Cases = Mapping[tuple[str, str], Sequence[Case]]


class Net:
    """Builds a model node by node; every method returns the name of its result."""

    def __init__(self, seed: int = 0, opset: int = 21, ir: int = 10) -> None:
        self.rng = np.random.default_rng(seed)
        self.opset, self.ir = opset, ir
        self.nodes: list[onnx.NodeProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.hints: list[onnx.ValueInfoProto] = []
        self.domains: set[str] = set()
        self.versions = {"ai.onnx.ml": 3}
        self._count = 0

    def fresh(self, base: str) -> str:
        self._count += 1
        return f"{base}{self._count}"

    def input(self, shape: Sequence[int | str], dtype: type[np.generic] = np.float32, name: str = "x") -> str:
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        self.inputs.append(helper.make_tensor_value_info(name, kind, list(shape)))
        return name

    def const(self, values: Any, dtype: Any = None, name: str = "") -> str:
        """A constant of these values."""
        name = name or self.fresh("c")
        self.constants.append(numpy_helper.from_array(np.asarray(values, dtype), name))
        return name

    def numbers(self, *shape: int, low: float = -1.5, high: float = 1.5) -> Array:
        """Random multiples of 1/16 in [low, high], none of them 0, no two neighbours alike."""
        grid = self.rng.integers(int(low * 16), int(high * 16) + 1, shape)
        return np.where(grid == 0, 5, grid).astype(np.float32) / 16

    def param(self, *shape: int, low: float = -1.5, high: float = 1.5) -> str:
        return self.const(self.numbers(*shape, low=low, high=high), name=self.fresh("w"))

    def op(self, op: str, *inputs: str, domain: str = "", **attrs: Any) -> str:
        return self.ops(op, *inputs, count=1, domain=domain, **attrs)[0]

    def ops(self, op: str, *inputs: str, count: int, domain: str = "", **attrs: Any) -> list[str]:
        """A node with ``count`` outputs."""
        outputs = [self.fresh("t") for _ in range(count)]
        self.domains.add(domain)
        node = helper.make_node(op, list(inputs), outputs, name=self.fresh(op), domain=domain, **attrs)
        self.nodes.append(node)
        return outputs

    def hint(self, tensor: str, shape: Sequence[int | str]) -> str:
        """Declare a shape that shape inference does not find."""
        self.hints.append(helper.make_tensor_value_info(tensor, TensorProto.FLOAT, list(shape)))
        return tensor

    def rename(self, old: str, new: str) -> str:
        """Give a tensor a name, for graph outputs."""
        for node in self.nodes:
            for names in (node.input, node.output):
                names[:] = [new if n == old else n for n in names]
        return new

    def gemm(self, x: str, ins: int, outs: int) -> str:
        return self.op("Gemm", x, self.param(ins, outs), self.param(outs))

    def dense(self, x: str, ins: int, outs: int) -> str:
        """The same on the last axis of a tensor of any rank."""
        return self.op("Add", self.op("MatMul", x, self.param(ins, outs)), self.param(outs))

    def conv(self, x: str, ins: int, outs: int, kernel: Sequence[int] = (1, 1), **attrs: Any) -> str:
        groups = attrs.get("group", 1)
        return self.op("Conv", x, self.param(outs, ins // groups, *kernel), self.param(outs), **attrs)

    def cast(self, x: str, to: int = TensorProto.FLOAT) -> str:
        return self.op("Cast", x, to=to)

    def model(self, *outputs: str, kind: int = TensorProto.FLOAT) -> Model:
        graph = helper.make_graph(
            self.nodes,
            "case",
            self.inputs,
            [helper.make_tensor_value_info(o, kind, None) for o in outputs],
            self.constants,
            value_info=self.hints,
        )
        opsets = [
            helper.make_opsetid(d, self.opset if not d else self.versions.get(d, 1))
            for d in sorted(self.domains | {""})
        ]
        return from_proto(helper.make_model(graph, opset_imports=opsets, ir_version=self.ir))


def normal_input(model: Model, seed: int, name: str) -> dict[str, Array]:
    """One float input as `tests.oracle.feeds_for` would draw it, for cases that give the others themselves."""
    return {name: feeds_for(model, seed)[name]}


Middle = Callable[[Net, str], str]


def flat(middle: Middle, *, hidden: int = HIDDEN, after: int = 0, opset: int = 21, **expected: Any) -> Case:
    """x (n, 6) -> Gemm -> (n, hidden) -> the operator -> (n, after) -> Gemm -> (n, 4)."""

    def build() -> Model:
        net = Net(opset=opset)
        h = net.gemm(net.input(("n", 6)), 6, hidden)
        return net.model(net.gemm(middle(net, h), after or hidden, OUT))

    return Case(build, **{"units": hidden, **expected})


def maps(
    middle: Middle,
    *,
    hidden: int = HIDDEN,
    after: int = 0,
    size: Sequence[int] = (6, 6),
    opset: int = 21,
    **expected: Any,
) -> Case:
    """x (n, 3, spatial) -> Conv -> (n, hidden, spatial) -> the operator -> Conv -> (n, 4, spatial)."""

    def build() -> Model:
        net = Net(opset=opset)
        one = (1,) * len(size)
        h = net.conv(net.input(("n", 3, *size)), 3, hidden, one)
        return net.model(net.conv(middle(net, h), after or hidden, OUT, one))

    return Case(build, **{"units": hidden, **expected})


def tokens(
    middle: Middle, *, hidden: int = HIDDEN, after: int = 0, length: int | str = 5, opset: int = 21, **expected: Any
) -> Case:
    """x (n, length, 6) -> dense -> (n, length, hidden) -> the operator -> dense -> (n, length, 4)."""

    def build() -> Model:
        net = Net(opset=opset)
        h = net.dense(net.input(("n", length, 6)), 6, hidden)
        return net.model(net.dense(middle(net, h), after or hidden, OUT))

    return Case(build, **{"units": hidden, **expected})
