"""The oracle must say no: to a wrong model, to NaN, to another shape, and to a comparison that compares nothing."""

from __future__ import annotations

import numpy as np
import pytest

from onnxprune.model import Model
from tests.ops.cases import Net
from tests.oracle import assert_differs, assert_equal, assert_same, feeds_for, run


def model(scale: float = 1.0, seed: int = 0, outs: int = 4) -> Model:
    net = Net(seed)
    h = net.op("Relu", net.gemm(net.input(("n", 6)), 6, 8))
    return net.model(net.op("Mul", net.gemm(h, 8, outs), net.const(np.float32(scale))))


def test_equal_models_are_the_same() -> None:
    assert_same(model(), model())
    assert_same(model(), model(1 + 1e-6))


@pytest.mark.parametrize("wrong", [1.001, 0.999, -1.0, 0.0])
def test_a_wrong_model_is_rejected(wrong: float) -> None:
    with pytest.raises(AssertionError, match=r"differs by"):
        assert_same(model(), model(wrong))


def test_one_wrong_weight_is_rejected() -> None:
    right = model()
    editor = right.edit()
    name = next(n for n, w in right.weights.items() if w.shape == (6, 8))
    array = right.array(name).copy()
    array[3, 2] += 0.01
    editor.set_weight(name, array)
    with pytest.raises(AssertionError, match=r"differs by"):
        assert_same(right, editor.build())


def test_other_weights_are_rejected() -> None:
    with pytest.raises(AssertionError, match=r"differs by"):
        assert_same(model(), model(seed=1))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_equals_nothing(value: float) -> None:
    with pytest.raises(AssertionError, match=r"differs by inf"):
        assert_same(model(value), model(value))


def test_another_shape_is_rejected() -> None:
    a, b = run(model(), feeds_for(model())), run(model(outs=5), feeds_for(model()))
    with pytest.raises(AssertionError, match=r"differs by inf"):
        assert_equal(a, b)


def test_a_missing_output_is_rejected() -> None:
    with pytest.raises(KeyError):
        assert_equal({"y": np.ones(2)}, {})


def test_models_that_do_not_differ_are_reported() -> None:
    outputs = run(model(), feeds_for(model()))
    with pytest.raises(AssertionError, match=r"compute the same"):
        assert_differs(outputs, outputs)


def test_inputs_are_seeded() -> None:
    first, again, other = (feeds_for(model(), seed)["x"] for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert np.array_equal(first * 16, np.round(first * 16))
