"""Activations far out and at kinks, ties, guided back-propagation against hooks in torch, Dropout in training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnxruntime
import pytest
import torch

from onnxprune.autodiff import backward, build, declared_input, open_tape
from onnxprune.model import Model
from onnxprune.ops.activation_gradients import ACTIVATIONS, CONTRIB_ACTIVATIONS
from tests.ops.cases import MS, Net
from tests.oracle import Array

FAR = np.array([-1e4, -50, -20, -5, -1, 0, 1, 5, 20, 50, 1e4], np.float32)
SLOPES = {"PRelu": 0.25}  # what a second input is filled with


def gradient_model(model: Model, **options: bool | int) -> tuple[Model, dict[str, str], str]:
    """Puts out the gradients of all inputs; gradient name per input, and the name of the cotangent to feed."""
    tape = open_tape(model, **options)
    y = tape.tensor(tape.graph.outputs[0])
    seed = declared_input(tape, "dy", y.dtype, y.known)
    found = backward(tape, {y.name: seed}, tape.graph.inputs)
    return build(tape, [*found.values(), y]), {name: value.name for name, value in found.items()}, seed.name


def session(model: Model) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(model.to_proto().SerializeToString(), options, ["CPUExecutionProvider"])


def gradients(model: Model, feeds: Mapping[str, Array], dy: Array | None = None, **options: bool | int) -> list[Array]:
    """Of the first output, or of its product with dy, with respect to each input."""
    made, names, seed = gradient_model(model, **options)
    shape = np.asarray(next(iter(feeds.values()))).shape
    cotangent = np.ones(shape, np.float32) if dy is None else dy
    if not names:
        return []
    given = {name: np.asarray(value) for name, value in feeds.items()}
    return session(made).run(list(names.values()), {**given, seed: cotangent})


def single(op: str, domain: str = "", inputs: int = 1, opset: int = 21, **attrs: object) -> Model:
    net = Net(opset=opset)
    names = [net.input(("n",), name=f"x{k}") for k in range(inputs)]
    return net.model(net.op(op, *names, domain=domain, **attrs))


# -- extremes ---------------------------------------------------------------------------------------------------------

# Far to the left and far to the right of 0: what the gradient must be there.
LIMITS: dict[str, tuple[float, float]] = {
    **dict.fromkeys("Relu Celu Elu Softplus HardSwish Mish Swish Gelu ThresholdedRelu".split(), (0, 1)),
    **dict.fromkeys("Sigmoid Tanh Softsign HardSigmoid".split(), (0, 0)),
    "LeakyRelu": (0.01, 1),
    "PRelu": (0.25, 1),
    "Selu": (0, 1.05070102214813232421875),
    "Shrink": (1, 1),
    "Clip": (1, 1),  # without bounds
}


@pytest.mark.parametrize("op", sorted(ACTIVATIONS))
@pytest.mark.filterwarnings("ignore")
def test_far_out(op: str) -> None:
    slope = {"x1": np.full_like(FAR, SLOPES[op])} if op in SLOPES else {}
    model = single(op, inputs=1 + len(slope), opset=24 if op == "Swish" else 21)
    dx = gradients(model, {"x0": FAR, **slope})[0]
    assert np.isfinite(dx).all()
    left, right = LIMITS[op]
    np.testing.assert_allclose(dx[[0, -1]], [left, right], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("op", sorted(CONTRIB_ACTIVATIONS))
@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_far_out_fused(op: str, approximate: str) -> None:
    plain = op == "Gelu"
    bias = {"x1": np.zeros_like(FAR)} if "Bias" in op else {}
    attrs = {"approximate": approximate} if plain else {}
    model = single(op, "" if plain else MS, inputs=1 + len(bias), **attrs)
    dx = gradients(model, {"x0": FAR, **bias})[0]
    assert np.isfinite(dx).all()
    np.testing.assert_allclose(dx[[0, -1]], [0, 1], atol=1e-6)


@pytest.mark.parametrize(
    ("op", "value", "gradient"),
    [
        ("Sqrt", 0, 0),
        ("Abs", 0, 0),
        ("Relu", 0, 0),
        ("Tanh", 0, 1),
        ("Exp", -1e4, 0),
        ("Erf", 1e4, 0),
        ("Sign", 3, None),
    ],
)
def test_at_one_point(op: str, value: float, gradient: float | None) -> None:
    found = gradients(single(op), {"x0": np.array([value], np.float32)})
    assert [float(dx[0]) for dx in found] == ([] if gradient is None else [gradient])


@pytest.mark.parametrize(
    ("exponent", "wanted"),
    [(0.0, 0), (0.5, 0), (0.75, 0), (1.0, 1), (1.5, 0), (2.0, 0), (-1.0, 0)],
)
def test_a_power_of_zero_has_a_finite_gradient(exponent: float, wanted: float) -> None:
    net = Net()
    model = net.model(net.op("Pow", net.input((1,), name="x0"), net.const(np.float32(exponent))))
    found = gradients(model, {"x0": np.zeros(1, np.float32)})
    assert [float(dx[0]) for dx in found] == ([] if exponent == 0 else [wanted])


def test_a_power_of_zero_is_finite_for_exponents_that_are_computed() -> None:
    x, p = np.array([0, 0, 0, 4], np.float32), np.array([0.5, 0, 2, 0.5], np.float32)
    dx, dp = gradients(single("Pow", inputs=2), {"x0": x, "x1": p})
    np.testing.assert_allclose(dx, [0, 0, 0, 0.25])
    np.testing.assert_allclose(dp, [0, 0, 0, 2 * np.log(4)], rtol=1e-6)


@pytest.mark.parametrize(
    ("op", "x", "wanted"),
    [
        ("ReduceL2", [0, 0, 0], [0, 0, 0]),
        ("ReduceL2", [3, 0, 4], [0.6, 0, 0.8]),
        ("ReduceL1", [-2, 0, 3], [-1, 0, 1]),
        ("ReduceProd", [2, 0, 3], [0, 6, 0]),
        ("ReduceProd", [0, 0, 3], [0, 0, 0]),
        ("ReduceProd", [2, 4, 3], [12, 6, 8]),
        ("ReduceMax", [5, 1, 5], [0.5, 0, 0.5]),
        ("ReduceMin", [5, 1, 1], [0, 0.5, 0.5]),
        ("ReduceLogSumExp", [1e4, 1e4, -1e4], [0.5, 0.5, 0]),
        ("ReduceLogSumExp", [-1e4, -1e4, -1e4], [1 / 3] * 3),
    ],
)
def test_reductions_at_zeros_and_ties(op: str, x: Sequence[float], wanted: Sequence[float]) -> None:
    net = Net()
    model = net.model(net.op(op, net.input((3,), name="x0"), keepdims=1))
    (dx,) = gradients(model, {"x0": np.array(x, np.float32)}, np.ones(1, np.float32))
    np.testing.assert_allclose(dx, wanted, rtol=1e-6)


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax"])
def test_softmax_of_large_numbers(op: str) -> None:
    x = np.array([1e4, -1e4, 0, 1e4], np.float32)
    dy = np.array([1, 2, 3, 4], np.float32)
    (dx,) = gradients(single(op), {"x0": x}, dy)
    wanted = [-0.75, 0, 0, 0.75] if op == "Softmax" else [-4, 2, 3, -1]
    np.testing.assert_allclose(dx, wanted, atol=1e-6)


@pytest.mark.parametrize(("op", "low"), [("Max", False), ("Min", True)])
def test_operands_that_tie_share(op: str, low: bool) -> None:
    a, b, c = np.array([[1, 2, 3], [1, 3, 2], [1, 3, 3]], np.float32)
    found = gradients(single(op, inputs=3), {"x0": a, "x1": b, "x2": c})
    third, half = 1 / 3, 0.5
    wanted = (
        [[third, 1, 0], [third, 0, 1], [third, 0, 0]]
        if low
        else [[third, 0, half], [third, half, 0], [third, half, half]]
    )
    np.testing.assert_allclose(found, wanted, rtol=1e-6)


def test_bounds_of_clip_get_what_was_clipped() -> None:
    net = Net()
    x = net.input((5,), name="x0")
    model = net.model(net.op("Clip", x, net.input((), name="low"), net.input((), name="high")))
    feeds = {"x0": np.array([-3, -1, 0, 1, 7], np.float32), "low": np.float32(-1), "high": np.float32(1)}
    dx, low, high = gradients(model, feeds, np.array([1, 2, 3, 4, 5], np.float32))
    assert dx.tolist() == [0, 2, 3, 4, 0]  # on a bound, the gradient passes
    assert (low, high) == (1, 5)
    crossed = gradients(model, feeds | {"low": np.float32(2)}, np.array([1, 2, 3, 4, 5], np.float32))
    assert [crossed[0].tolist(), crossed[1], crossed[2]] == [[0] * 5, 0, 15]  # the upper bound wins


# -- guided back-propagation ------------------------------------------------------------------------------------------

TORCH = {
    "Relu": torch.nn.ReLU(),
    "LeakyRelu": torch.nn.LeakyReLU(0.01),
    "Elu": torch.nn.ELU(),
    "Softplus": torch.nn.Softplus(),
    "Gelu": torch.nn.GELU(),
    "Mish": torch.nn.Mish(),
    "HardSwish": torch.nn.Hardswish(),
    "Tanh": torch.nn.Tanh(),
}


@pytest.mark.parametrize("op", TORCH)
def test_guided_back_propagation_is_that_of_hooks(op: str) -> None:
    """Three layers; every activation but Tanh is hooked to let only positive cotangents through."""
    net = Net(seed=3)
    h = net.input(("n", 6), name="x0")
    layers = []
    for ins, outs in ((6, 16), (16, 12), (12, 4)):
        weight, bias = net.numbers(ins, outs), net.numbers(outs)
        h = net.op("Gemm", h, net.const(weight), net.const(bias))
        layer = torch.nn.Linear(ins, outs)
        layer.load_state_dict({"weight": torch.tensor(weight.T), "bias": torch.tensor(bias)})
        layers.append(layer)
        if outs != 4:
            h = net.op(op, h)
            layers.append(type(TORCH[op])(**({"negative_slope": 0.01} if op == "LeakyRelu" else {})))
    hooked = [layer for layer in layers if not isinstance(layer, (torch.nn.Linear, torch.nn.Tanh))]
    for layer in hooked:
        layer.register_full_backward_pre_hook(lambda _, dy: (dy[0].clamp(min=0),))
    x = np.random.default_rng(0).normal(size=(5, 6)).astype(np.float32)
    dy = np.random.default_rng(1).normal(size=(5, 4)).astype(np.float32)
    tensor = torch.tensor(x, requires_grad=True)
    torch.nn.Sequential(*layers)(tensor).backward(torch.tensor(dy))
    assert tensor.grad is not None
    model = net.model(h)
    (found,) = gradients(model, {"x0": x}, dy, guided=True)
    np.testing.assert_allclose(found, tensor.grad.numpy(), rtol=1e-4, atol=1e-4)
    (plain,) = gradients(model, {"x0": x}, dy)
    assert np.allclose(plain, found, rtol=1e-3) == (op == "Tanh")


# -- Dropout ----------------------------------------------------------------------------------------------------------


def dropout_model(ratio: float | None) -> Model:
    net = Net()
    x = net.input(("n", 50), name="x0")
    inputs = [] if ratio is None else [net.const(np.float32(ratio))]
    return net.model(net.op("Dropout", net.op("Dropout", x, *inputs), *inputs))


@pytest.mark.parametrize("ratio", [None, 0.25])
def test_dropout_drops_in_training(ratio: float | None) -> None:
    """The mask of the forward pass is that of the gradient; steps differ, sessions and seeds tell them apart."""
    made, names, seed = gradient_model(dropout_model(ratio), training=True, seed=5)
    feeds = {"x0": np.ones((20, 50), np.float32), seed: np.full((20, 50), 2, np.float32)}
    y_name = made.proto.graph.output[-1].name

    def steps(model: Model) -> list[list[Array]]:
        opened = session(model)
        return [opened.run([y_name, names["x0"]], feeds) for _ in range(2)]

    (y, dx), (y_next, _) = steps(made)
    keep = 1 - (0.5 if ratio is None else ratio)
    np.testing.assert_allclose(np.unique(y), [0, keep**-2], rtol=1e-6)
    assert abs((y != 0).mean() - keep**2) < 0.05  # the two nodes draw on their own
    np.testing.assert_allclose(dx, 2 * y, rtol=1e-6)
    assert not np.array_equal(y, y_next)
    assert all(np.array_equal(a, b) for a, b in zip(steps(made), [[y, dx], steps(made)[1]], strict=True))
    other = gradient_model(dropout_model(ratio), training=True, seed=6)[0]
    assert not np.array_equal(steps(other)[0][0], y)


def test_dropout_is_the_identity_elsewhere() -> None:
    x = np.ones((3, 50), np.float32)
    assert np.array_equal(gradients(dropout_model(0.5), {"x0": x})[0], x)
    assert not any(node.op_type == "Dropout" for node in gradient_model(dropout_model(0.5))[0].proto.graph.node[2:])


def test_dropout_that_was_exported_in_training_mode_keeps_its_mask() -> None:
    net = Net()
    x = net.input((20, 50), name="x0")
    model = net.model(net.op("Dropout", x, net.const(np.float32(0.5)), net.const(np.array(True)), seed=1))
    made, names, seed = gradient_model(model)
    y_name = made.proto.graph.output[-1].name
    ones = np.ones((20, 50), np.float32)
    y, dx = session(made).run([y_name, names["x0"]], {"x0": ones, seed: ones})
    assert set(np.unique(y)) == {0.0, 2.0}
    assert np.array_equal(y, dx)
