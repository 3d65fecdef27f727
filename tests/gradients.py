"""Gradients of a model held against central differences along a random direction, in float64."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from onnx.reference.op_run import OpRun

from onnxprune.autodiff import backward, build, declared_input, open_tape
from onnxprune.model import Model
from onnxprune.ops.emitter import FLOATS
from onnxprune.ops.tape import Tape
from tests.doubles import Runner, double, double_feeds
from tests.oracle import Array, Feeds

__all__ = ["Differentiated", "check_gradients", "differentiated"]

STEP = 1e-5  # of the central difference
RTOL = 1e-6
RTOL32 = 1e-5
FLOOR = 1e-2
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


def differentiated(model: Model, *, training: bool = False) -> Differentiated:
    """Gradients with respect to all floating-point inputs and constants that the outputs depend on."""
    tape = open_tape(model, training=training)
    graph = tape.graph
    read = {name for node in graph.nodes for name in node.inputs if len(node.where) == 1}
    weights = [name for name in graph.model.weights if name in read and tape.tensor(name).dtype in FLOATS]
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


def check_gradients(
    model: Model, feeds: Feeds, *, kernels: Sequence[type[OpRun]] = (), training: bool = False, single: bool = True
) -> Differentiated:
    """Float64 gradients are central differences to 1e-6; float32 ones are the float64 ones to 1e-5 (``single``)."""
    rng = np.random.default_rng(0)
    made = differentiated(double(model), training=training)
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
    if single:
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
