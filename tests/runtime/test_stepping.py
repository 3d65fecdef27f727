"""Steps on two alternating sets against the same recursion in NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from onnxprune.errors import DataError, ModelError, OptionError
from onnxprune.model import Model, from_proto
from onnxprune.runtime import providers
from onnxprune.runtime.stepping import Reader, Stepper

Array = NDArray[Any]
SIZE = 16
RATE, KEEP = np.float32(0.05), np.float32(0.9)


def info(name: str, shape: list[Any], dtype: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, shape)


def graph(nodes: list[onnx.NodeProto], inputs: list[Any], outputs: list[Any], constants: dict[str, Any]) -> Model:
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    made = helper.make_graph(nodes, "steps", inputs, outputs, tensors)
    return from_proto(helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=8))


def descent() -> Model:
    """Least squares by momentum: g = x'(x w - y), b = 0.9 b + g, w = w - 0.05 b. The old w is read again
    when the new one is there, so that one memory for both shows."""
    last_first = [
        helper.make_node("ReduceSumSquare", ["away"], ["loss"], keepdims=0),
        helper.make_node("ReduceSumSquare", ["change"], ["moved"], keepdims=0),
        helper.make_node("Sub", ["w", "w2"], ["change"]),
        helper.make_node("Sub", ["w", "step"], ["w2"]),
        helper.make_node("Mul", ["b2", "rate"], ["step"]),
        helper.make_node("Add", ["kept", "g"], ["b2"]),
        helper.make_node("Mul", ["b", "keep"], ["kept"]),
        helper.make_node("MatMul", ["xt", "away"], ["g"]),
        helper.make_node("Transpose", ["x"], ["xt"], perm=[1, 0]),
        helper.make_node("Sub", ["said", "y"], ["away"]),
        helper.make_node("MatMul", ["x", "w"], ["said"]),
    ]
    state = [info("w", [SIZE, 1]), info("b", [SIZE, 1])]
    outputs = [info("w2", [SIZE, 1]), info("loss", []), info("b2", [SIZE, 1]), info("moved", [])]
    inputs = [info("x", ["n", SIZE]), info("y", ["n", 1]), *state]
    return graph(last_first[::-1], inputs, outputs, {"rate": RATE, "keep": KEEP})


def loss_only() -> Model:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["said"]),
        helper.make_node("Sub", ["said", "y"], ["away"]),
        helper.make_node("ReduceSumSquare", ["away"], ["loss"], keepdims=0),
    ]
    return graph(nodes, [info("x", ["n", SIZE]), info("y", ["n", 1]), info("w", [SIZE, 1])], [info("loss", [])], {})


STATE = {"w": "w2", "b": "b2"}


def start() -> dict[str, Array]:
    return {"w": np.ones((SIZE, 1), np.float32), "b": np.zeros((SIZE, 1), np.float32)}


def batches(count: int) -> list[dict[str, Array]]:
    rng = np.random.default_rng(0)
    sizes = rng.integers(1, 9, count)
    made = [(rng.standard_normal((n, SIZE)) / 4, rng.standard_normal((n, 1))) for n in sizes]
    return [{"x": x.astype(np.float32), "y": y.astype(np.float32)} for x, y in made]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("provider", providers())
def test_many_steps_are_the_recursion(provider: str, threads: int) -> None:
    stepper = Stepper(descent(), STATE, start(), provider=provider, threads=threads)
    assert stepper.device == provider
    assert stepper.outputs == ("loss", "moved")
    w, b = (array.astype(np.float64) for array in start().values())
    for feeds in batches(25):
        away = feeds["x"] @ w - feeds["y"]
        b = KEEP * b + feeds["x"].T @ away
        found = stepper.run(feeds)
        assert found["loss"] == pytest.approx((away**2).sum(), rel=1e-4)
        assert found["moved"] == pytest.approx(((RATE * b) ** 2).sum(), rel=1e-3)
        w = w - RATE * b
        np.testing.assert_allclose(stepper.read("w"), w, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(stepper.read("b"), b, rtol=1e-4, atol=1e-5)


def test_nothing_is_shared_with_the_caller() -> None:
    """On a CPU onnxruntime's values alias the arrays that they are made from, and those that are read from them."""
    mine, feeds = start(), batches(4)
    stepper = Stepper(descent(), STATE, mine, provider="cpu", threads=1)
    mine["w"][:] = 7
    first = stepper.read("w")
    assert (first == 1).all()
    found = stepper.run(feeds[0])
    kept, loss = stepper.read("w"), float(found["loss"])
    for more in feeds[1:]:
        stepper.run(more)
    assert (first == 1).all()
    assert float(found["loss"]) == loss
    other = Stepper(descent(), STATE, start(), provider="cpu", threads=1)
    other.run(feeds[0])
    np.testing.assert_array_equal(kept, other.read("w"))
    kept[:] = 0
    assert other.read("w").any()


def test_what_is_written_is_read_by_the_next_step() -> None:
    feeds = batches(5)
    one, two = (Stepper(descent(), STATE, start(), provider="cpu", threads=1) for _ in range(2))
    for more in feeds[:3]:
        one.run(more)
    state = {name: one.read(name) for name in STATE}
    for name, array in state.items():
        two.write(name, array)
        array[:] = 0
    for more in feeds[3:]:
        assert one.run(more)["loss"] == two.run(more)["loss"]
    for name in STATE:
        np.testing.assert_array_equal(one.read(name), two.read(name))
    with pytest.raises(DataError, match=r"`w` has shape \[16, 1\], given \[16\]"):
        one.write("w", np.ones(SIZE, np.float32))


@pytest.mark.parametrize("provider", providers())
def test_a_reader_sees_the_present_state(provider: str) -> None:
    stepper = Stepper(descent(), STATE, start(), provider=provider, threads=1)
    reader = Reader(loss_only(), provider=provider, threads=1)
    for feeds in batches(4):
        before = reader.run(feeds, stepper.values())["loss"]
        assert before == pytest.approx(float(stepper.run(feeds)["loss"]), rel=1e-6)


def test_feeds_that_do_not_fit() -> None:
    stepper = Stepper(descent(), STATE, start(), provider="cpu", threads=1)
    x, y = np.ones((2, SIZE)), np.ones((2, 1))
    stepper.run({"x": x, "y": y, "other": y})  # float64 is cast, and what the graph does not take is left out
    with pytest.raises(DataError, match=r"takes `y`, which is not given; given: x"):
        stepper.run({"x": x})
    with pytest.raises(DataError, match=r"`x` takes \[n, 16\], given \[2, 3\]"):
        stepper.run({"x": x[:, :3], "y": y})
    with pytest.raises(DataError, match=r"`y` takes \[n, 1\], given \[2\]"):
        stepper.run({"x": x, "y": y[:, 0]})
    with pytest.raises(ModelError, match="failed to run a step"):
        stepper.run({"x": x, "y": np.ones((3, 1))})
    before = stepper.read("w")
    assert np.isfinite(before).all()


def test_options_are_checked() -> None:
    with pytest.raises(OptionError, match="0 threads"):
        Stepper(descent(), STATE, start(), provider="cpu", threads=0)
    with pytest.raises(OptionError, match="there is no provider `tpu`"):
        Reader(loss_only(), provider="tpu")


def test_a_batch_that_is_too_large_for_the_memory() -> None:
    """The feed is small; what the graph makes of it has 2^45 numbers."""
    nodes = [
        helper.make_node("Expand", ["x", "wide"], ["many"]),
        helper.make_node("ReduceSum", ["many"], ["loss"], keepdims=0),
        helper.make_node("Add", ["w", "loss"], ["w2"]),
    ]
    model = graph(
        nodes, [info("x", ["n", 1]), info("w", [])], [info("loss", []), info("w2", [])], {"wide": np.array([1, 2**39])}
    )
    stepper = Stepper(model, {"w": "w2"}, {"w": np.zeros((), np.float32)}, provider="cpu", threads=1)
    with pytest.raises(ModelError, match=r"memory is too small for a step with a batch of 64(.|\n)*for example 32"):
        stepper.run({"x": np.ones((64, 1), np.float32)})
    with pytest.raises(ModelError, match=r"with a batch of 1(.|\n)*too large for it"):
        stepper.run({"x": np.ones((1, 1), np.float32)})
    assert stepper.read("w") == 0
