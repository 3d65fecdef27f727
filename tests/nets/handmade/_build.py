"""A small builder of ONNX graphs, node by node, and the record of a hand-made model.

All models have opset <= 21 and IR <= 10 unless an operator needs a later one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.nets._spec import Input

__all__ = ["Build", "Handmade", "merged"]

_TYPES = {"ids": TensorProto.INT64, "bool": TensorProto.BOOL, "half": TensorProto.FLOAT16}


class Build:
    """Collects the nodes and initializers of one graph; ``op`` returns the name of the output it adds."""

    def __init__(self, seed: int = 0, prefix: str = "") -> None:
        self.rng = np.random.default_rng(seed)
        self.prefix = prefix
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[TensorProto] = []
        self.functions: list[onnx.FunctionProto] = []

    def const(self, name: str, value: Any, dtype: Any = np.float32) -> str:
        """An initializer with this value."""
        self.initializers.append(numpy_helper.from_array(np.asarray(value, dtype), self.prefix + name))
        return self.prefix + name

    def weight(self, name: str, *shape: int, fan_in: int | None = None, dtype: Any = np.float32) -> str:
        """Normal numbers that keep the variance; ``fan_in`` defaults to the product of all axes but the first."""
        fan_in = fan_in or int(np.prod(shape[1:]))
        return self.const(name, self.rng.normal(0, fan_in**-0.5, shape), dtype)

    def matrix(self, name: str, rows: int, columns: int, dtype: Any = np.float32) -> str:
        """The right side of a MatMul."""
        return self.weight(name, rows, columns, fan_in=rows, dtype=dtype)

    def bias(self, name: str, *shape: int, dtype: Any = np.float32) -> str:
        """Small normal numbers."""
        return self.const(name, self.rng.normal(0, 0.3, shape), dtype)

    def scale(self, name: str, *shape: int, dtype: Any = np.float32) -> str:
        """Numbers in 0.6..1.4: a scale or a variance."""
        return self.const(name, self.rng.uniform(0.6, 1.4, shape), dtype)

    def op(self, kind: str, *inputs: str, domain: str = "", out: str | None = None, **attributes: Any) -> str:
        """A node with one output that matters (it is returned)."""
        return self.ops(kind, *inputs, domain=domain, out=(out,), **attributes)[0]

    def ops(
        self, kind: str, *inputs: str, domain: str = "", out: Sequence[str | None] = (None,), **attributes: Any
    ) -> list[str]:
        """A node with several outputs, named by ``out`` (None: a fresh name, "": left out)."""
        number = len(self.nodes)
        names = [f"{self.prefix}{kind}_{number}_{i}" if name is None else name for i, name in enumerate(out)]
        name = f"{self.prefix}{kind}_{number}"
        self.nodes.append(helper.make_node(kind, inputs, names, name=name, domain=domain, **attributes))
        return names

    def conv(self, x: str, inputs: int, outputs: int, kernel: int = 3, *, group: int = 1, name: str = "") -> str:
        """A 2-D convolution with bias; the size of the map is kept."""
        name = name or f"conv{len(self.nodes)}"
        weight = self.weight(f"{name}.weight", outputs, inputs // group, kernel, kernel)
        bias = self.bias(f"{name}.bias", outputs)
        return self.op("Conv", x, weight, bias, pads=[kernel // 2] * 4, group=group, kernel_shape=[kernel] * 2)

    def linear(self, x: str, inputs: int, outputs: int, *, name: str = "") -> str:
        """MatMul and Add, for any number of leading axes."""
        name = name or f"linear{len(self.nodes)}"
        return self.op(
            "Add", self.op("MatMul", x, self.matrix(f"{name}.weight", inputs, outputs)),
            self.bias(f"{name}.bias", outputs),
        )  # fmt: skip

    def classify(self, x: str, channels: int, classes: int = 5, out: str = "y") -> str:
        """Global average pooling and a Gemm."""
        flat = self.op("Flatten", self.op("GlobalAveragePool", x))
        weight, bias = self.weight("head.weight", classes, channels), self.bias("head.bias", classes)
        return self.op("Gemm", flat, weight, bias, transB=1, out=out)

    def graph(
        self, inputs: Sequence[onnx.ValueInfoProto], outputs: Sequence[onnx.ValueInfoProto], name: str = "net"
    ) -> onnx.GraphProto:
        """The graph of what was collected."""
        return helper.make_graph(self.nodes, name, list(inputs), list(outputs), self.initializers)

    def model(
        self,
        inputs: Sequence[Input],
        outputs: Mapping[str, Sequence[int | str]],
        *,
        opset: int = 21,
        element: int = TensorProto.FLOAT,
        domains: Sequence[str] = (),
    ) -> onnx.ModelProto:
        """The model; ``outputs`` maps names to shapes, ``element`` is the type of inputs and outputs of kind normal."""
        ins = [helper.make_tensor_value_info(i.name, _TYPES.get(i.kind, element), i.shape) for i in inputs]
        outs = [helper.make_tensor_value_info(name, element, shape) for name, shape in outputs.items()]
        imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in domains)]
        model = helper.make_model(self.graph(ins, outs), opset_imports=imports, functions=self.functions)
        model.ir_version = 10 if opset <= 22 else 11
        model.producer_name = "handmade"
        return model


@dataclass(frozen=True, eq=False)
class Handmade:
    """A hand-made model of the registry; ``runs`` is False where onnxruntime's CPU provider has no kernel for it."""

    name: str
    build: Callable[[], onnx.ModelProto]
    inputs: tuple[Input, ...]
    sizes: Mapping[str, int] = field(default_factory=dict)
    notes: str = ""
    runs: bool = True

    def feeds(self, seed: int = 0, **sizes: int) -> dict[str, np.ndarray]:
        """Random values of all inputs by name, e.g. ``feeds(1, batch=7)``."""
        rng = np.random.default_rng(seed)
        actual = {"batch": 2, **self.sizes, **sizes}
        return {i.name: i.sample(actual, rng) for i in self.inputs}


def merged(*families: Sequence[Handmade]) -> dict[str, Handmade]:
    """All models by name."""
    return {model.name: model for family in families for model in family}
