"""Straight-through gradients of Q and DQ against torch's simulated quantisation with learned scales."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from onnxprune.errors import UnsupportedModel
from onnxprune.model import Model
from tests.doubles import Runner
from tests.gradients import differentiated
from tests.ops.cases import MS, Net
from tests.oracle import Array

ROWS, COLUMNS = 5, 6
NOISE = 1e-4  # a scale's gradient is a sum of differences of numbers up to 255, in float32


def pair(scale: Array, zero: Array, *, domain: str = "", **attrs: object) -> Model:
    net = Net()
    x = net.input((ROWS, COLUMNS))
    tables = net.const(scale, np.float32, "scale"), net.const(zero, name="zero")
    stored = net.op("QuantizeLinear", x, *tables, domain=domain, **attrs)
    return net.model(net.op("DequantizeLinear", stored, *tables, domain=domain, **attrs))


def gradients(model: Model, x: Array, dy: Array) -> tuple[Array, Array]:
    """Of the input and of the scale."""
    made = differentiated(model)
    found = Runner(made.model)({"x": x, next(iter(made.seeds.values())): dy, "scale": made.parameters["scale"]})
    return found[made.names["x"]], found[made.names["scale"]]


@pytest.fixture
def tensors() -> tuple[Array, Array]:
    """An input that reaches past both ends of the range, and a cotangent."""
    rng = np.random.default_rng(0)
    return rng.uniform(-12, 12, (ROWS, COLUMNS)).astype(np.float32), rng.normal(size=(ROWS, COLUMNS)).astype(np.float32)


@pytest.mark.parametrize(("kind", "low", "high", "zero"), [(np.uint8, 0, 255, 140), (np.int8, -128, 127, 3)])
@pytest.mark.parametrize("domain", ["", MS])
def test_per_tensor(
    tensors: tuple[Array, Array], kind: type[np.generic], low: int, high: int, zero: int, domain: str
) -> None:
    x, dy = tensors
    a, s = torch.tensor(x, requires_grad=True), torch.tensor([0.06], requires_grad=True)
    z = torch.tensor([float(zero)])
    y = torch._fake_quantize_learnable_per_tensor_affine(a, s, z, low, high, 1.0)
    y.backward(torch.tensor(dy))
    dx, ds = gradients(pair(np.float32(0.06), kind(zero), domain=domain), x, dy)
    assert a.grad is not None
    assert s.grad is not None
    assert 0 < np.count_nonzero(dx) < dx.size  # some are clipped
    np.testing.assert_allclose(dx, a.grad.numpy(), rtol=1e-5)
    np.testing.assert_allclose(ds, s.grad.numpy()[0], rtol=1e-5, atol=NOISE)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_per_channel(tensors: tuple[Array, Array], axis: int) -> None:
    x, dy = tensors
    size = x.shape[axis]
    scale = np.linspace(0.02, 0.1, size, dtype=np.float32)
    zero = np.arange(size, dtype=np.int8)
    a, s = torch.tensor(x, requires_grad=True), torch.tensor(scale, requires_grad=True)
    z = torch.tensor(zero.astype(np.float32))
    y = torch._fake_quantize_learnable_per_channel_affine(a, s, z, axis % 2, -128, 127, 1.0)
    y.backward(torch.tensor(dy))
    dx, ds = gradients(pair(scale, zero, axis=axis), x, dy)
    assert a.grad is not None
    assert s.grad is not None
    np.testing.assert_allclose(dx, a.grad.numpy(), rtol=1e-5)
    np.testing.assert_allclose(ds, s.grad.numpy(), rtol=1e-5, atol=NOISE)


def test_blocks_of_an_axis_are_channels_of_their_own(tensors: tuple[Array, Array]) -> None:
    """Blocks of 4 along 6 columns: the last one is short."""
    x, dy = tensors
    scale = np.linspace(0.02, 0.1, 2 * ROWS, dtype=np.float32).reshape(ROWS, 2)
    zero = np.arange(2 * ROWS, dtype=np.int8).reshape(ROWS, 2)
    dx, ds = gradients(pair(scale, zero, axis=1, block_size=4), x, dy)
    for row in range(ROWS):
        for block, columns in enumerate((slice(0, 4), slice(4, 6))):
            part = x[row, columns], dy[row, columns]
            wanted = plain(*part, scale[row, block], int(zero[row, block]))
            np.testing.assert_allclose(dx[row, columns], wanted[0], rtol=1e-5)
            np.testing.assert_allclose(ds[row, block], wanted[1], rtol=1e-5, atol=NOISE)


def plain(x: Array, dy: Array, scale: np.float32, zero: int) -> tuple[Array, float]:
    """The formula, element by element, with one scale."""
    q = np.round(x / scale) + zero
    inside = (q >= -128) & (q <= 127)
    ds = np.where(inside, np.round(x / scale) - x / scale, np.clip(q, -128, 127) - zero)
    return np.where(inside, dy, 0), float((dy * ds).sum())


def test_gradients_pass_what_moves_quantised_numbers() -> None:
    """Between Q and DQ lies a Reshape and a Transpose of int8."""
    net = Net()
    x = net.input((2, 6))
    tables = net.const(np.float32(0.25)), net.const(np.int8(1))
    stored = net.op("Reshape", net.op("QuantizeLinear", x, *tables), net.const([2, 2, 3], np.int64))
    made = differentiated(net.model(net.op("DequantizeLinear", net.op("Transpose", stored, perm=[2, 0, 1]), *tables)))
    feeds = {name: np.asarray(array) for name, array in made.parameters.items()}
    dy = np.arange(12, dtype=np.float32).reshape(3, 2, 2)
    found = Runner(made.model)({"x": np.ones((2, 6), np.float32), next(iter(made.seeds.values())): dy, **feeds})
    assert np.array_equal(found[made.names["x"]], dy.transpose(1, 2, 0).reshape(2, 6))


def test_integer_kernels_are_named() -> None:
    net = Net()
    x = net.input((2, 4))
    scale, zero = net.const(np.float32(0.25)), net.const(np.uint8(128))
    stored = net.op("QuantizeLinear", x, scale, zero)
    product = net.op("QLinearMatMul", stored, scale, zero, net.const(np.ones((4, 3)), np.uint8), *(scale, zero) * 2)
    with pytest.raises(UnsupportedModel, match=r"QLinearMatMul node .* has no gradient rule"):
        differentiated(net.model(net.op("DequantizeLinear", product, scale, zero)))
