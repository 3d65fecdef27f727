"""Gradients of a model held against central differences along a random direction, in float64."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from onnx import TensorProto
from onnx.reference.op_run import OpRun

from onnxprune.autodiff import backward, build, declared_input, open_tape
from onnxprune.autodiff.prepare import analysed, prepare
from onnxprune.graph import Graph
from onnxprune.model import Model
from onnxprune.ops import Role, rule_for
from onnxprune.ops.emitter import FLOATS
from onnxprune.ops.tape import Tape
from tests.doubles import Runner, double, double_feeds
from tests.oracle import Array, Feeds

__all__ = ["Differentiated", "check_gradients", "differentiated"]

STEP = 1e-5  # of the central difference
RTOL = 1e-6
RTOL32 = 1e-5
FLOOR = 3 * float(np.finfo(np.float32).eps) / RTOL32  # three roundings of the largest gradient are allowed anywhere
SPREAD = 0.02  # noise on the inputs, which keeps them away from kinks and ties


@dataclass(frozen=True, eq=False)
class Differentiated:
    """A model with gradients: ``model`` puts them out, fed with the inputs, the ``parameters``, and ``seeds``."""

    tape: Tape
    model: Model
    forward: Model
    names: Mapping[str, str]  # wanted tensor -> the output that is its gradient
    seeds: Mapping[str, str]  # output of the forward pass -> the input that is its cotangent
    parameters: Mapping[str, Array]


def open_double(model: Model, *, training: bool = False) -> Tape:
    """A tape in float64. Shapes are those of the float32 model, which onnxruntime has more kernels for."""
    prepared = prepare(model, training=training).model
    pairs = zip(analysed(prepared), analysed(double(prepared)), strict=True)
    graphs = [None if a is None or b is None else _with_shapes(b, a) for a, b in pairs]
    assert graphs[0] is not None
    return Tape(graphs[0], graphs[1], training=training)


def _with_shapes(graph: Graph, single: Graph) -> Graph:
    types = {
        name: int(TensorProto.DOUBLE) if kind == TensorProto.FLOAT else kind for name, kind in single.dtypes.items()
    }
    return replace(graph, shapes=single.shapes | graph.shapes, dtypes=types | graph.dtypes).refold()


def differentiated(model: Model, *, training: bool = False, in_double: bool = False) -> Differentiated:
    """Gradients with respect to all floating-point inputs and constants that the outputs depend on."""
    tape = (open_double if in_double else open_tape)(model, training=training)
    graph = tape.graph
    read = _varying(graph)
    made = set(graph.model.weights) - set(model.weights)  # by what was taken apart, unless it is a copy
    weights = [
        name
        for name in graph.model.weights
        if name in read and tape.tensor(name).dtype in FLOATS and not (name in made and name.startswith("const"))
    ]
    wanted = [name for name in graph.inputs if tape.tensor(name).dtype in FLOATS] + weights
    outputs = [name for name in graph.outputs if tape.tensor(name).dtype in FLOATS and name in graph.producer]
    seeds = {
        name: declared_input(tape, f"seed_{name}", tape.tensor(name).dtype, tape.tensor(name).known) for name in outputs
    }
    found = backward(tape, seeds, wanted)
    values = [tape.tensor(name) for name in outputs]
    return Differentiated(
        tape,
        build(tape, [*values, *found.values()], parameters=weights),
        build(tape, values, parameters=weights),
        {name: value.name for name, value in found.items()},
        {name: value.name for name, value in seeds.items()},
        {name: np.asarray(graph.weights[name].array()) for name in weights},
    )


def _varying(graph: Graph) -> set[str]:
    """Tensors that the outputs depend on by more than sizes and positions, read outside of bodies."""
    live = {*graph.outputs, *(name for node in graph.nodes if len(node.where) > 1 for name in node.inputs)}
    read: set[str] = set()
    for node in reversed(graph.nodes):
        if len(node.where) > 1 or (live.isdisjoint(node.outputs) and not node.bodies):
            continue
        rule = rule_for(node.domain, node.op)
        names = {n for k, n in enumerate(node.inputs) if rule is None or rule.role(k) not in (Role.SHAPE, Role.INDEX)}
        read |= names
        live |= names
    return read


def _rounds(model: Model) -> bool:
    """Whether float32 computes something else: it casts to half precision, or draws other numbers."""
    nodes = model.proto.graph.node
    halves = any(a.i == TensorProto.FLOAT16 for node in nodes for a in node.attribute if a.name == "to")
    return halves or any(node.op_type.startswith("Random") for node in nodes)


def check_gradients(
    model: Model, feeds: Feeds, *, kernels: Sequence[type[OpRun]] = (), training: bool = False, single: bool = True
) -> Differentiated:
    """Float64 gradients are central differences to 1e-6; float32 ones are the float64 ones to 1e-5 (``single``)."""
    rng = np.random.default_rng(0)
    made = differentiated(model, training=training, in_double=True)
    point = {
        name: a + SPREAD * rng.standard_normal(a.shape) if a.dtype == np.float64 else a
        for name, a in double_feeds(feeds).items()
    }
    point |= made.parameters
    forward = Runner(made.forward, kernels)
    taken = {value.name for value in made.forward.proto.graph.input}

    def run(there: Feeds) -> dict[str, Array]:
        return forward({name: a for name, a in there.items() if name in taken})

    seeds = {name: rng.standard_normal(run(point)[name].shape) for name in made.seeds}
    gradients = Runner(made.model, kernels)(point | {made.seeds[name]: seed for name, seed in seeds.items()})
    for name, output in made.names.items():
        assert gradients[output].shape == point[name].shape, f"the gradient of `{name}` has another shape"
        assert np.isfinite(gradients[output]).all(), f"the gradient of `{name}` is not finite"
    moved = [name for name, array in point.items() if array.dtype == np.float64]
    direction = {name: rng.standard_normal(point[name].shape) for name in moved}

    def along(names: Sequence[str]) -> tuple[float, float, float]:
        """Predicted and measured change along the direction, and the size of what is summed up."""
        ends = []
        for sign in (1, -1):
            there = run(point | {n: point[n] + sign * STEP * direction[n] for n in names})
            ends.append(sum(float((seeds[name] * there[name]).sum()) for name in seeds))
        parts = [gradients[made.names[n]] * direction[n] for n in names if n in made.names]
        size = sum(float(np.abs(part).sum()) for part in parts)
        return sum(float(part.sum()) for part in parts), (ends[0] - ends[1]) / (2 * STEP), size

    predicted, measured, size = along(moved)
    if abs(predicted - measured) > RTOL * max(size, 1e-3):
        each = {n: along([n]) for n in moved}
        wrong = [n for n, (p, m, s) in each.items() if abs(p - m) > RTOL * max(s, 1e-3)]
        raise AssertionError(
            f"gradients differ from central differences: { ({n: each[n][:2] for n in wrong or each}) }"
        )
    if single and not _rounds(model):
        plain = differentiated(model, training=training)
        small = {n: a.astype(np.float32) if a.dtype == np.float64 else a for n, a in point.items()}
        small |= {plain.seeds[n]: seed.astype(np.float32) for n, seed in seeds.items()}
        found = Runner(plain.model, kernels)(small)
        largest = max(np.abs(gradients[output]).max(initial=0) for output in made.names.values())
        floor = max(1e-3, FLOOR * largest)  # of a gradient that is 0 but for rounding, as that of a bias under Softmax
        for name, output in plain.names.items():
            exact = gradients[made.names[name]]
            error = np.abs(found[output] - exact).max(initial=0) / max(np.abs(exact).max(initial=0), floor)
            assert error <= RTOL32, f"the float32 gradient of `{name}` is off by {error:.2g}"
    return made
