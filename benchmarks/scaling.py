"""How the time to find groups grows with the number of elements, up to 10 million; and two nets with a time limit.

    python -m benchmarks.scaling [--largest N] [--markdown] [--json FILE]

The family: bottlenecks (1x1 down, Relu, 1x1 up, depthwise 3x3) on one long residual line, and behind every eighth
block a Concat of the line with the last eight inner tensors, so that components reach through the whole graph.
Depth and width both grow. Times are those of ``couple`` on a model that is loaded and hashed.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from benchmarks.tables import emit, save_json
from onnxprune.coupling import couple
from onnxprune.model import Model, from_proto
from onnxprune.values import Coupling
from tests.nets import export

SIZES = (10_000, 30_000, 100_000, 300_000, 1_000_000, 3_000_000, 10_000_000)
FITTED = 100_000  # below this, fixed costs decide
PATIENCE = 20  # seconds for one model
INNER = 16
EVERY = 8
LIMITS = {"resnet50": 0.15, "densenet121": 0.4}  # seconds


@dataclass(frozen=True)
class Sample:
    """One member of the family, or one net. ``elements``: sum of the lengths of all axes of all tensors."""

    name: str
    nodes: int
    elements: int
    groups: int
    units: int
    seconds: float
    limit: float | None = None


class Family:
    """Builds one graph of the family."""

    def __init__(self, depth: int, width: int) -> None:
        self.rng = np.random.default_rng(0)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[TensorProto] = []
        self.depth, self.width = depth, width

    def conv(self, x: str, outputs: int, inputs: int, kernel: int = 1, group: int = 1) -> str:
        """A convolution that keeps the size of the map."""
        name = f"conv{len(self.nodes)}"
        weight = self.rng.standard_normal((outputs, inputs // group, kernel, kernel), np.float32) * 0.1
        bias = self.rng.standard_normal(outputs, np.float32)
        self.weights += [
            numpy_helper.from_array(weight, f"{name}.weight"),
            numpy_helper.from_array(bias, f"{name}.bias"),
        ]
        inputs_of = [x, f"{name}.weight", f"{name}.bias"]
        self.nodes.append(helper.make_node("Conv", inputs_of, [name], name, group=group, pads=[kernel // 2] * 4))
        return name

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        name = f"{kind.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], name, **attributes))
        return name

    def build(self) -> onnx.ModelProto:
        """The whole model: 3 channels in, 10 out."""
        line, inner = self.conv("x", self.width, 3), list[str]()
        for _ in range(self.depth):
            inner.append(self.op("Relu", self.conv(line, INNER, self.width)))
            wide = self.conv(self.conv(inner[-1], self.width, INNER), self.width, self.width, 3, self.width)
            line = self.op("Add", line, wide)
            if len(inner) == EVERY:
                joined = self.op("Concat", line, *inner, axis=1)
                mixed = self.op("Relu", self.conv(joined, INNER, self.width + EVERY * INNER))
                line, inner = self.op("Add", line, self.conv(mixed, self.width, INNER)), []
        output = self.conv(self.op("Relu", line), 10, self.width)
        shapes = [
            helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, c, 4, 4]) for n, c in (("x", 3), (output, 10))
        ]
        graph = helper.make_graph(self.nodes, "family", shapes[:1], shapes[1:], self.weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def member(elements: int) -> Model:
    """The member of the family with about so many elements; width and depth grow alike."""
    width = max(32, int(sqrt(elements) / 3) // 8 * 8)
    depth = max(1, round(elements / (8.2 * width + 240)))
    return from_proto(Family(depth, width).build())


def sample(name: str, model: Model, repeats: int = 5, limit: float | None = None) -> Sample:
    """The fastest of a few runs of ``couple``, fewer where one takes long."""
    best, coupling = np.inf, None
    digest = model.hash
    begin = time.perf_counter()
    while repeats and time.perf_counter() - begin < PATIENCE:
        start = time.perf_counter()
        coupling = couple(model)
        best = min(best, time.perf_counter() - start)
        repeats -= 1
    if coupling is None or coupling.model_hash != digest:
        raise RuntimeError(name)
    nodes = len(model.proto.graph.node)
    return Sample(name, nodes, count_elements(coupling), len(coupling.groups), coupling.units, best, limit)


def count_elements(coupling: Coupling) -> int:
    """Sum of the lengths of all axes of all tensors, constants included."""
    return sum(sum(shape) for shape in coupling.shapes.values())


def exponent(samples: Sequence[Sample]) -> float:
    """b of the fit ``seconds = a * elements^b`` over all sizes that count."""
    chosen = [s for s in samples if s.elements >= FITTED / 2]
    return float(np.polyfit(np.log([s.elements for s in chosen]), np.log([s.seconds for s in chosen]), 1)[0])


def main(arguments: Sequence[str] | None = None) -> int:
    """Print both tables and the exponent; 1 if a limit is passed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__.partition("\n")[0])
    parser.add_argument("--largest", type=int, default=SIZES[-1], metavar="N", help="leave out larger ones")
    parser.add_argument("--markdown", action="store_true", help="print Markdown")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures")
    options = parser.parse_args(arguments)
    nets = [sample(net, from_proto(export(net)), limit=limit) for net, limit in LIMITS.items()]
    late = any(s.seconds > s.limit for s in nets if s.limit is not None)
    rows = [[s.name, f"{s.elements:,}", str(s.groups), f"{s.seconds:.3f}", f"{s.limit}"] for s in nets]
    emit("Finding groups", ("net", "elements", "groups", "seconds", "limit"), rows, as_markdown=options.markdown)
    family = []
    for size in (s for s in SIZES if s <= options.largest):
        family.append(sample(f"{size:,}", member(size)))
        print(family[-1], file=sys.stderr, flush=True)
    rows = [
        [f"{s.elements:,}", f"{s.nodes:,}", str(s.groups), f"{s.units:,}", f"{s.seconds:.3f}",
         f"{1e6 * s.seconds / s.elements:.2f}"]
        for s in family
    ]  # fmt: skip
    columns = ("elements", "nodes", "groups", "units", "seconds", "microseconds per element")
    emit("Growth", columns, rows, as_markdown=options.markdown)
    power = exponent(family) if len(family) > 3 else None
    if power is not None:
        print(f"time ~ elements^{power:.2f} (fitted from {FITTED:,} elements on)")
    save_json(options.json, {"nets": [asdict(s) for s in nets], "family": [asdict(s) for s in family], "power": power})
    return int(late)


if __name__ == "__main__":
    sys.exit(main())
