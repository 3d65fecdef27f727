"""Gradients of whole nets against torch's autograd in float64: inputs, and the parameters that kept their names.

ReLU is replaced by tanh on both sides: a sign that flips in float32 changes a gradient by more than any error that
could be found here. What is allowed is twice torch's own float32 error, or 5e-6 of the largest entry.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from onnxprune.autodiff import backward, build, declared_input, open_tape
from onnxprune.model import Model, from_proto
from onnxprune.ops.emitter import FLOATS
from tests.nets import NETS, export
from tests.nets._spec import NetSpec
from tests.oracle import Array, run

ALLOWED, TIMES = 5e-6, 2.0
KINKED = {torch.relu, functional.relu, torch.Tensor.relu, torch.relu_, torch.Tensor.relu_}
# Parameters of which the exporter stores a transposed copy beside the original: two in the file, one in torch.
COPIED = {("decoder_tied", "torchscript"): "embed.weight"}
CASES = [
    pytest.param(spec, exporter, id=f"{name}-{exporter}")
    for name, spec in NETS.items()
    for exporter in spec.exporters
    if not spec.slow and all(i.kind != "half" for i in spec.inputs)
]


class Smooth(TorchFunctionMode):
    """tanh wherever torch is asked for ReLU."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func in KINKED:
            return torch.tanh(args[0])
        return func(*args, **(kwargs or {}))


def _smooth(proto: onnx.ModelProto) -> Model:
    for node in proto.graph.node:
        if node.op_type == "Relu":
            node.op_type = "Tanh"
    return from_proto(proto)


def _seeds(shapes: list[tuple[int, ...]]) -> list[Array]:
    rng = np.random.default_rng(5)
    return [rng.standard_normal(shape).astype(np.float32) for shape in shapes]


def _torch(spec: NetSpec, feeds: Mapping[str, Array], dtype: torch.dtype) -> tuple[dict[str, Array], list[Array]]:
    """Gradient by name, and the seeds: cotangents of the outputs."""
    module = spec.build().to(dtype)
    parameters = dict(module.named_parameters())
    for value in parameters.values():
        value.requires_grad_()
    inputs = {}
    for name, array in feeds.items():
        value = torch.from_numpy(array)
        inputs[name] = value.to(dtype).requires_grad_() if value.is_floating_point() else value
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with Smooth():
            found = module(*inputs.values())
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    outputs = [o for o in (found if isinstance(found, tuple | list) else (found,)) if o.is_floating_point()]
    seeds = _seeds([tuple(o.shape) for o in outputs])
    total = sum((o * torch.from_numpy(s).to(dtype)).sum() for o, s in zip(outputs, seeds, strict=True))
    wanted = parameters | {name: value for name, value in inputs.items() if value.requires_grad}
    gradients = torch.autograd.grad(total, list(wanted.values()), allow_unused=True)
    return {n: g.double().numpy() for n, g in zip(wanted, gradients, strict=True) if g is not None}, seeds


@cache
def _expected(name: str) -> tuple[dict[str, Array], dict[str, float], list[Array]]:
    spec = NETS[name]
    exact, seeds = _torch(spec, spec.feeds(3), torch.float64)
    rough, _ = _torch(spec, spec.feeds(3), torch.float32)
    return exact, {n: _error(rough[n], exact[n], _floor(exact)) for n in exact}, seeds


def _error(found: Array, exact: Array, floor: float) -> float:
    return float(np.abs(found - exact).max(initial=0) / max(np.abs(exact).max(initial=0), floor))


def _floor(exact: Mapping[str, Array]) -> float:
    """Some gradients are 0 but for rounding, such as that of a bias that Softmax takes out again."""
    return 1e-2 * max(float(np.abs(value).max(initial=0)) for value in exact.values())


@pytest.mark.parametrize(("spec", "exporter"), CASES)
def test_gradients_are_those_of_torch(spec: NetSpec, exporter: str) -> None:
    exact, own, seeds = _expected(spec.name)
    tape = open_tape(_smooth(export(spec.name, exporter, keep_batchnorm=True)))
    outputs = [name for name in spec.outputs if tape.tensor(name).dtype in FLOATS]
    inputs = {name: declared_input(tape, "seed", tape.tensor(name).dtype, tape.tensor(name).known) for name in outputs}
    known = {*tape.graph.model.weights, *tape.graph.inputs}
    copied = COPIED.get((spec.name, exporter))
    names = [name for name in exact if name in known and name != copied]
    assert names, "no parameter kept its name and no input is a float: nothing would be compared"
    found = backward(tape, inputs, names)
    feeds = {**spec.feeds(3), **{v.name: s for v, s in zip(inputs.values(), seeds, strict=True)}}
    values = run(build(tape, found.values()), feeds)
    worst = {}
    for name, value in found.items():
        allowed = max(TIMES * own[name], ALLOWED)
        error = _error(values[value.name], exact[name], _floor(exact))
        if error > allowed:
            worst[name] = f"{error:.2g}, allowed {allowed:.2g}"
    assert not worst
    missing = [name for name in names if name not in found and np.abs(exact[name]).max(initial=0) > 0]
    assert not missing
