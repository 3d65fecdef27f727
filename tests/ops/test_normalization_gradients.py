"""Normalisations against torch autograd: statistics of the batch, running ones, and inputs far from zero."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from onnxprune.autodiff import backward, build, declared_input, open_tape
from onnxprune.autodiff.prepare import prepare
from onnxprune.model import Model
from tests.doubles import Runner, double
from tests.ops.cases import Net
from tests.oracle import Array

TIMES, ALLOWED = 2.0, 5e-6  # of torch's own error in float32; an error that is always allowed
CHANNELS, MOMENTUM, EPSILON = 5, 0.75, 2**-10
SHAPES = {"table": (CHANNELS,), "sequence": (CHANNELS, 7), "image": (CHANNELS, 4, 3), "volume": (CHANNELS, 3, 2, 2)}


def batch_norm(shape: tuple[int, ...], seed: int = 0) -> Model:
    net = Net(seed)
    x = net.input(("n", *shape))
    names = [
        net.const(net.numbers(CHANNELS, low=0.5 if name == "variance" else -1.5), name=name)
        for name in ("scale", "bias", "mean", "variance")
    ]
    return net.model(net.op("BatchNormalization", x, *names, momentum=MOMENTUM, epsilon=EPSILON))


def gradients(
    model: Model, wanted: list[str], feeds: dict[str, Array], seed: Array, *, training: bool = False
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Gradients and updates by name, for one output with this cotangent."""
    tape = open_tape(model, training=training)
    output = tape.tensor(tape.graph.outputs[0])
    cotangent = declared_input(tape, "seed", output.dtype, output.known)
    found = backward(tape, {output.name: cotangent}, wanted)
    updates = {name: tape.tensor(new) for name, new in tape.updates.items()}
    runner = Runner(build(tape, [*found.values(), *updates.values()]))
    results = runner({**feeds, cotangent.name: seed})
    return ({n: results[v.name] for n, v in found.items()}, {n: results[v.name] for n, v in updates.items()})


def torch_gradients(module: nn.Module, x: Array, seed: Array, dtype: torch.dtype) -> dict[str, Array]:
    """By the module's own names, and those of the input under `x`."""
    module = module.to(dtype)
    given = torch.from_numpy(x).to(dtype).requires_grad_()
    wanted = {"x": given, **dict(module.named_parameters())}
    total = (module(given) * torch.from_numpy(seed).to(dtype)).sum()
    found = torch.autograd.grad(total, list(wanted.values()))
    return {name: value.detach().double().numpy() for name, value in zip(wanted, found, strict=True)}


class AnyRank(nn.BatchNorm1d):
    def _check_input_dim(self, x: torch.Tensor) -> None:
        """Inputs of any rank will do."""


def torch_batch_norm(model: Model, dtype: torch.dtype) -> AnyRank:
    module = AnyRank(CHANNELS, eps=EPSILON, momentum=1 - MOMENTUM)
    values = {name: torch.tensor(weight.array()) for name, weight in model.weights.items()}
    names = {"weight": "scale", "bias": "bias", "running_mean": "mean", "running_var": "variance"}
    module.load_state_dict({mine: values[name] for mine, name in names.items()}, strict=False)
    return module.to(dtype).train()


def error(found: Array, exact: Array) -> float:
    return float(np.abs(found - exact).max() / np.abs(exact).max())


@pytest.mark.parametrize("batch", [2, 6])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_batch_statistics_are_those_of_torch(shape: tuple[int, ...], batch: int) -> None:
    rng = np.random.default_rng(1)
    x, seed = (rng.standard_normal((batch, *shape)) for _ in range(2))
    model = batch_norm(shape)
    found, updates = gradients(double(model), ["x", "scale", "bias"], {"x": x}, seed, training=True)
    module = torch_batch_norm(model, torch.float64)
    exact = torch_gradients(module, x, seed, torch.float64)
    for name, other in (("x", "x"), ("scale", "weight"), ("bias", "bias")):
        np.testing.assert_allclose(found[name], exact[other], rtol=1e-10, atol=1e-11)
    assert updates.keys() == {"mean", "variance"}
    np.testing.assert_allclose(updates["mean"], module.state_dict()["running_mean"], rtol=1e-12)
    np.testing.assert_allclose(updates["variance"], module.state_dict()["running_var"], rtol=1e-12)


def test_one_row_keeps_the_running_variance_finite() -> None:
    model = batch_norm((CHANNELS,))
    _, updates = gradients(model, ["x"], {"x": np.ones((1, 5), np.float32)}, np.ones((1, 5), np.float32), training=True)
    np.testing.assert_allclose(updates["variance"], MOMENTUM * model.weights["variance"].array(), rtol=1e-6)


def test_statistics_survive_what_is_taken_apart_later() -> None:
    """SkipLayerNormalization behind it takes a second round, in which training is over."""
    net = Net()
    x = net.input(("n", CHANNELS, 4))
    names = [net.const(net.numbers(CHANNELS, low=0.5), name=f"p{k}") for k in range(4)]
    h = net.op("BatchNormalization", x, *names)
    y = net.op("SkipLayerNormalization", h, x, net.param(4), domain="com.microsoft")
    model = net.model(net.hint(y, ("n", CHANNELS, 4)))
    prepared = prepare(model, training=True)
    assert set(prepared.updates) == {"p2", "p3"}
    assert "SkipLayerNormalization" not in {node.op_type for node in prepared.model.proto.graph.node}
    ones = np.random.default_rng(0).standard_normal((3, CHANNELS, 4)).astype(np.float32)
    found, updates = gradients(model, ["x", "p0"], {"x": ones}, ones, training=True)
    assert set(found) == {"x", "p0"}
    expected = 0.9 * model.weights["p2"].array() + 0.1 * ones.mean((0, 2))
    np.testing.assert_allclose(updates["p2"], expected, rtol=1e-5)


def test_layers_that_share_statistics_update_them_one_after_the_other() -> None:
    """As modules do that are called twice."""
    net = Net()
    x = net.input(("n", CHANNELS))
    names = [net.const(net.numbers(CHANNELS, low=0.5), name=f"p{k}") for k in range(4)]
    y = net.op("BatchNormalization", net.op("BatchNormalization", x, *names), *names)
    model = net.model(y)
    rng = np.random.default_rng(0)
    feeds, seed = (rng.standard_normal((8, CHANNELS)).astype(np.float32) for _ in range(2))
    found, updates = gradients(model, ["x", "p0", "p1"], {"x": feeds}, seed, training=True)
    module = nn.BatchNorm1d(CHANNELS)
    values = [torch.tensor(weight.array()) for weight in model.weights.values()]
    keys = ("weight", "bias", "running_mean", "running_var")
    module.load_state_dict(dict(zip(keys, values, strict=True)), strict=False)
    exact = torch_gradients(nn.Sequential(module, module), feeds, seed, torch.float64)
    for name, other in (("x", "x"), ("p0", "0.weight"), ("p1", "0.bias")):
        assert error(found[name], exact[other]) < 1e-4
    state = module.state_dict()
    np.testing.assert_allclose(updates["p2"], state["running_mean"], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(updates["p3"], state["running_var"], rtol=1e-5)


def test_half_precision_keeps_statistics_in_float32() -> None:
    net = Net()
    x = net.input(("n", CHANNELS, 300, 300), np.float16)
    names = [net.const(net.numbers(CHANNELS, low=0.5), name=f"p{k}") for k in range(4)]
    model = net.model(net.op("BatchNormalization", x, *names), kind=10)
    feeds = np.random.default_rng(0).standard_normal((1, CHANNELS, 300, 300)).astype(np.float16)
    found, updates = gradients(model, ["x", "p0"], {"x": feeds}, feeds, training=True)
    exact = feeds.astype(np.float64)
    normal = exact / np.sqrt(exact.var((0, 2, 3), keepdims=True) + 1e-5)
    assert found["x"].dtype == np.float16
    assert updates["p3"].dtype == np.float32
    assert error(found["p0"], ((normal - normal.mean((0, 2, 3), keepdims=True)) * exact).sum((0, 2, 3))) < 1e-3
    expected = 0.9 * model.weights["p3"].array() + 0.1 * exact.var((0, 2, 3), ddof=1)
    np.testing.assert_allclose(updates["p3"], expected, rtol=1e-4)


def test_frozen_statistics_have_no_updates() -> None:
    model = batch_norm((CHANNELS, 4))
    assert not open_tape(model).updates


def layer_norm() -> Model:
    net = Net()
    x = net.input(("n", "s", 64))
    scale, bias = (net.const(net.numbers(64), name=name) for name in ("weight", "bias"))
    return net.model(net.op("LayerNormalization", x, scale, bias))


def group_norm() -> Model:
    net = Net()
    x = net.input(("n", 8, "h", 6))
    scale, bias = (net.const(net.numbers(8), name=name) for name in ("weight", "bias"))
    return net.model(net.op("GroupNormalization", x, scale, bias, num_groups=2))


def instance_norm() -> Model:
    net = Net()
    x = net.input(("n", 8, "h", 6))
    scale, bias = (net.const(net.numbers(8), name=name) for name in ("weight", "bias"))
    return net.model(net.op("InstanceNormalization", x, scale, bias))


def train_norm() -> Model:
    net = Net()
    x = net.input(("n", 8, "h", 6))
    scale, bias = (net.const(net.numbers(8), name=name) for name in ("weight", "bias"))
    running = net.const(np.zeros(8, np.float32), name="mean"), net.const(np.ones(8, np.float32), name="variance")
    return net.model(net.op("BatchNormalization", x, scale, bias, *running))


FAMILIES: dict[str, tuple[Callable[[], Model], nn.Module, tuple[int, ...]]] = {
    "layer": (layer_norm, nn.LayerNorm(64), (4, 9, 64)),
    "group": (group_norm, nn.GroupNorm(2, 8), (4, 8, 10, 6)),
    "instance": (instance_norm, nn.InstanceNorm2d(8, affine=True), (4, 8, 10, 6)),
    "batch": (train_norm, nn.BatchNorm2d(8), (4, 8, 10, 6)),
}


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (100.0, 0.1), (0.0, 1e-4), (1e3, 10.0)])
@pytest.mark.parametrize("family", FAMILIES)
def test_far_from_zero_float32_is_as_good_as_that_of_torch(family: str, mean: float, std: float) -> None:
    make, module, shape = FAMILIES[family]
    model = make()
    state = {name: torch.tensor(model.weights[name].array()) for name in ("weight", "bias")}
    module.load_state_dict(state, strict=False)
    rng = np.random.default_rng(0)
    x = (mean + std * rng.standard_normal(shape)).astype(np.float32)
    seed = rng.standard_normal(shape).astype(np.float32)
    exact = torch_gradients(module, x, seed, torch.float64)
    own = torch_gradients(module, x, seed, torch.float32)
    found, _ = gradients(model, ["x", "weight", "bias"], {"x": x}, seed, training=True)
    for name, value in exact.items():
        allowed = max(TIMES * error(own[name], value), ALLOWED)
        assert error(found[name], value) <= allowed, name


def test_mean_and_deviation_of_a_layer_norm_have_gradients() -> None:
    """Its optional outputs, against torch."""
    net = Net()
    x = net.input(("n", 6))
    y, mean, rstd = net.ops("LayerNormalization", x, net.const(net.numbers(6), name="w"), count=3)
    model = net.model(net.op("Mul", y, net.op("Mul", mean, rstd)))
    rng = np.random.default_rng(2)
    feeds, seed = (rng.standard_normal((4, 6)).astype(np.float32) for _ in range(2))
    found, _ = gradients(model, ["x", "w"], {"x": feeds}, seed)
    given = torch.from_numpy(feeds).double().requires_grad_()
    w = torch.tensor(model.weights["w"].array()).double().requires_grad_()
    middle = given.mean(-1, keepdim=True)
    factor = (given.var(-1, keepdim=True, unbiased=False) + 1e-5).rsqrt()
    total = ((given - middle) * factor * w * middle * factor * torch.from_numpy(seed)).sum()
    exact = torch.autograd.grad(total, [given, w])
    for name, value in zip(("x", "w"), exact, strict=True):
        assert error(found[name], value.numpy()) < ALLOWED


def test_half_precision_is_normalised_in_float32() -> None:
    net = Net()
    x = net.input(("n", 64), np.float16)
    y = net.op("LayerNormalization", x, net.const(net.numbers(64), np.float16, name="w"))
    model = net.model(y, kind=10)
    rng = np.random.default_rng(2)
    feeds, seed = (rng.standard_normal((4, 64)).astype(np.float16) for _ in range(2))
    found, _ = gradients(model, ["x", "w"], {"x": feeds}, seed)
    module = nn.LayerNorm(64, bias=False)
    module.load_state_dict({"weight": torch.tensor(model.weights["w"].array())})
    exact = torch_gradients(module, feeds, seed, torch.float64)
    for name, other in (("x", "x"), ("w", "weight")):
        assert found[name].dtype == np.float16
        assert error(found[name], exact[other]) < 2e-3
