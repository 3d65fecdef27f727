"""Magnitude against its definition, entry by entry; quantised, ragged and broken weights; single weights."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from onnxprune.coupling import couple
from onnxprune.criteria import Settings, score, score_weights
from onnxprune.errors import OptionError
from onnxprune.model import Model, from_proto
from onnxprune.values import Coupling, Options
from tests.criteria.reference import unit_scores
from tests.nets import export
from tests.nets.handmade._build import Build
from tests.random_graphs import build, steps

NORMS = ("l1", "l2", "linf")
PICKS = st.lists(st.integers(0, len(steps) - 1), min_size=1, max_size=4)


def model_of(b: Build, y: str) -> Model:
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 6, 6])]
    outputs = [helper.make_tensor_value_info(y, TensorProto.FLOAT, None)]
    graph = helper.make_graph(b.nodes, "net", inputs, outputs, b.initializers)
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    return from_proto(helper.make_model(graph, opset_imports=opsets, ir_version=10))


def two_convs(first: np.ndarray, second: np.ndarray, bias: np.ndarray) -> Model:
    """Conv 3 -> n, Relu, Conv n -> 2: one group, called w1, of n units."""
    b = Build()
    y = b.op("Relu", b.op("Conv", "x", b.const("w1.weight", first), b.const("w1.bias", bias)))
    return model_of(b, b.op("Conv", y, b.const("w2.weight", second)))


def plain(coupling: Coupling) -> dict[str, np.ndarray]:
    return {t: w.array() for t, w in coupling.graph.weights.items()}


def compare(model: Model, coupling: Coupling, values: dict[str, np.ndarray], norm: str, **options: Any) -> None:
    found = score(model, coupling, norm, Settings(**options))
    expected = unit_scores(norm, coupling, values, **options)
    assert list(found) == list(expected) == [g.name for g in coupling.groups]
    for name, numbers in expected.items():
        np.testing.assert_allclose(found[name], numbers, rtol=1e-5, err_msg=name)


@settings(max_examples=30, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(PICKS, st.sampled_from(NORMS), st.booleans(), st.sampled_from(["all", "producing"]))
def test_scores_are_those_of_the_definition(picks: list[int], norm: str, normalise: bool, sides: str) -> None:
    model = from_proto(build(picks))
    coupling = couple(model)
    compare(model, coupling, plain(coupling), norm, normalise=normalise, sides=sides)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", ["grouped_conv", "lstm_bidirectional", "shufflenet_v1", "encoder_prenorm"])
def test_ragged_axes_and_heads(name: str, norm: str) -> None:
    model = from_proto(export(name, "dynamo"))
    for attention in ("heads", "dims"):
        coupling = couple(model, Options(attention=attention))
        compare(model, coupling, plain(coupling), norm)


@settings(max_examples=20, derandomize=True)
@given(st.permutations(range(7)), st.sampled_from(NORMS))
def test_permuted_units_have_permuted_scores(order: list[int], norm: str) -> None:
    rng = np.random.default_rng(0)
    first, second, bias = rng.normal(size=(7, 3, 3, 3)), rng.normal(size=(2, 7, 1, 1)), rng.normal(size=7)
    one, other = two_convs(first, second, bias), two_convs(first[order], second[:, order], bias[order])
    expected = score(one, couple(one), norm)["w1"][order]
    np.testing.assert_allclose(score(other, couple(other), norm)["w1"], expected, rtol=1e-6)


def test_only_the_producing_side() -> None:
    model = two_convs(np.full((4, 3, 1, 1), 2.0), np.full((2, 4, 1, 1), 50.0), np.full(4, 2.0))
    coupling = couple(model)
    np.testing.assert_allclose(score(model, coupling, "l1", Settings(sides="producing"))["w1"], 2.0)
    np.testing.assert_allclose(score(model, coupling, "l1")["w1"], (4 * 2.0 + 2 * 50.0) / 6)
    with pytest.raises(OptionError, match=r"sides: got 'left', expected one of all, producing"):
        Settings(sides="left")


def test_scores_are_those_of_the_model_given_not_of_the_one_analysed() -> None:
    first, second, bias = np.ones((4, 3, 1, 1)), np.ones((2, 4, 1, 1)), np.ones(4)
    coupling = couple(two_convs(first, second, bias))
    tuned = two_convs(3 * first, 3 * second, 3 * bias)
    np.testing.assert_allclose(score(tuned, coupling, "l2")["w1"], 3.0)


class TestBrokenWeights:
    def net(self, entry: float) -> tuple[Model, Coupling]:
        first = np.ones((4, 3, 1, 1))
        first[2, 0] = entry
        model = two_convs(first, np.ones((2, 4, 1, 1)), np.ones(4))
        return model, couple(model)

    @pytest.mark.parametrize("norm", NORMS)
    def test_nan_counts_as_zero_and_is_named(self, norm: str) -> None:
        found = score(*self.net(np.nan), norm)
        (warning,) = found.warnings
        assert warning == "weight `w1.weight` has 1 entries that are NaN or Inf (NaN is scored as 0)"
        np.testing.assert_allclose(found["w1"], score(*self.net(0.0), norm)["w1"])

    @pytest.mark.parametrize("norm", NORMS)
    @pytest.mark.parametrize("entry", [np.inf, -np.inf])
    def test_infinity_is_kept(self, norm: str, entry: float) -> None:
        found = score(*self.net(entry), norm)
        assert found["w1"][2] == np.inf
        assert np.isfinite(np.delete(found["w1"], 2)).all()
        assert found.warnings

    def test_single_weights(self) -> None:
        model, coupling = self.net(np.nan)
        found = score_weights(model, coupling, "l1")
        assert found["w1.weight"][2, 0] == 0
        assert len(found.warnings) == 1


class TestStoredValues:
    @pytest.mark.parametrize("norm", NORMS)
    @pytest.mark.parametrize("axis", [0, 1, None])
    def test_int8(self, norm: str, axis: int | None) -> None:
        rng = np.random.default_rng(1)
        stored = rng.integers(-100, 100, (5, 3, 2, 2)).astype(np.int8)
        size = 1 if axis is None else stored.shape[axis]
        scale, zero = rng.uniform(0.01, 2, size).astype(np.float32), rng.integers(-9, 9, size).astype(np.int8)
        b = Build()
        shape = () if axis is None else (size,)
        tables = [b.const("scale", scale.reshape(shape)), b.const("zero", zero.reshape(shape), np.int8)]
        extra = {} if axis is None else {"axis": axis}
        w = b.op("DequantizeLinear", b.const("q", stored, np.int8), *tables, **extra)
        model = model_of(b, b.op("Conv", b.op("Relu", b.op("Conv", "x", w)), b.weight("w2", 2, 5, 1, 1)))
        coupling = couple(model)
        view = [-1 if a == axis else 1 for a in range(4)]
        real = (stored.astype(np.float32) - zero.reshape(view)) * scale.reshape(view)
        compare(model, coupling, {**plain(coupling), "q": real}, norm)
        np.testing.assert_allclose(score_weights(model, coupling, "l1")["q"], np.abs(real), rtol=1e-6)

    @pytest.mark.parametrize("norm", NORMS)
    def test_packed_four_bit_weights(self, norm: str) -> None:
        rng = np.random.default_rng(2)
        b = Build()
        stored = rng.integers(0, 256, (6, 2, 8)).astype(np.uint8)  # 6 rows of 2 blocks of 16 numbers
        scale = rng.uniform(0.1, 1, (6, 2)).astype(np.float32)
        y = b.op("Reshape", b.op("Conv", "x", b.weight("w", 32, 3, 6, 6)), b.const("shape", [0, 32], np.int64))
        y = b.op(
            "MatMulNBits", y, b.const("packed", stored, np.uint8), b.const("scale", scale.reshape(-1)),
            domain="com.microsoft", K=32, N=6, bits=4, block_size=16,
        )  # fmt: skip
        model = model_of(b, b.op("MatMul", b.op("Relu", y), b.matrix("out", 6, 3)))
        coupling = couple(model)
        numbers = np.stack([stored & 15, stored >> 4], axis=-1).astype(np.float32) - 8
        assert any(m.tensor == "packed" for g in coupling.groups for m in g.weights)
        compare(model, coupling, {**plain(coupling), "packed": numbers * scale[:, :, None, None]}, norm)
        assert "packed" not in score_weights(model, coupling)

    @pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64])
    def test_other_floats(self, dtype: type) -> None:
        b = Build()
        w = b.op("Cast", b.weight("w", 5, 3, 1, 1, dtype=dtype), to=TensorProto.FLOAT)
        model = model_of(b, b.op("Conv", b.op("Relu", b.op("Conv", "x", w)), b.weight("w2", 2, 5, 1, 1)))
        coupling = couple(model)
        values = {t: v.astype(np.float64) for t, v in plain(coupling).items() if v.dtype.kind != "i"}
        compare(model, coupling, values, "l2")
        assert score_weights(model, coupling)["w"].dtype == (np.float64 if dtype is np.float64 else np.float32)


@pytest.mark.parametrize(("norm", "power"), [("l1", 1), ("linf", 1), ("l2", 2)])
def test_single_weights(norm: str, power: int) -> None:
    model = from_proto(build([0, 2, 13]))
    coupling = couple(model)
    found = score_weights(model, coupling, norm)
    assert found.criterion == norm
    assert len(found) == len(list(found)) > 5
    for name in found:
        np.testing.assert_allclose(found[name], np.abs(coupling.graph.weights[name].array()) ** power, rtol=1e-6)
    with pytest.raises(KeyError):
        found["nothing"]


def test_a_unit_without_parameters_scores_zero() -> None:
    model = two_convs(np.ones((4, 3, 1, 1)), np.ones((2, 4, 1, 1)), np.ones(4))
    coupling = couple(model)
    assert score(model, coupling, "l2")["w1"].flags.writeable is False
    assert score(model, coupling, "l2").model_hash == model.hash
