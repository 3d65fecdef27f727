"""Where samples, positions and maps are in an activation; batches that are filled up."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from onnx import helper

from onnxprune.activations import ReadPoint
from onnxprune.coupling import couple
from onnxprune.criteria import Settings, score
from onnxprune.criteria.measuring import beside, by_sample, listed, mean_of_units
from onnxprune.data import Batch, Dataset
from onnxprune.model import from_proto
from tests.criteria.measured import data, data_for, finish, mlp
from tests.nets import export
from tests.nets.handmade._build import Build
from tests.oracle import assert_close

RNG = np.random.default_rng(0)


def batch(rows: int, count: int | None = None) -> Batch:
    return Batch({"x": np.zeros((rows, 3))}, None, rows if count is None else count)


@pytest.mark.parametrize(
    ("shape", "axis", "analysed", "arranged"),
    [
        ((5, 4, 6, 7), 1, (2, 4, 6, 7), "nchw"),
        ((5, 8, 4), 2, (2, 8, 4), "nth->nht"),
        ((8, 5, 4), 2, (8, 2, 4), "tnh->nht"),
        ((5, 5, 4), 2, (5, 2, 4), "tnh->nht"),  # as many steps as samples
        ((5, 4), 1, (2, 4), "nh"),
    ],
)
def test_samples_first_then_positions(
    shape: tuple[int, ...], axis: int, analysed: tuple[int, ...], arranged: str
) -> None:
    values = RNG.normal(size=shape)
    before, _, after = arranged.partition("->")
    expected = np.einsum(f"{before}->{after or before}", values)
    found = by_sample(values, axis, batch(5), analysed, 2)
    assert found is not None
    np.testing.assert_array_equal(found, expected)
    rest = beside(analysed, axis, 2)
    assert rest is not None
    assert rest == expected.shape[2:]


def test_windows_merged_into_the_first_axis() -> None:
    values = RNG.normal(size=(5 * 3, 7, 4))
    found = by_sample(values, 2, batch(5), (2 * 3, 7, 4), 2)
    assert found is not None
    np.testing.assert_array_equal(found, np.moveaxis(values.reshape(5, 3, 7, 4), 3, 1))
    assert beside((2 * 3, 7, 4), 2, 2) == (3, 7)


def test_no_axis_of_samples() -> None:
    assert by_sample(np.zeros((7, 4)), 1, batch(5), (7, 4), 2) is None
    assert by_sample(np.zeros((7, 4)), 1, batch(5), (7,), 2) is None
    assert beside((7, 4), 1, 2) is None


def test_rows_that_fill_up_a_batch_are_left_out() -> None:
    found = by_sample(np.arange(40.0).reshape(4, 10), 1, batch(4, 3), (4, 10), 4)
    assert found is not None
    assert found.shape == (3, 10)


@pytest.mark.parametrize("name", ["activation-variance", "discrimination", "hrank", "wanda", "thinet", "obspa"])
def test_a_fixed_batch_gives_the_scores_of_a_free_one(name: str) -> None:
    model, coupling = mlp()
    dataset = data(22, 5)
    free = score(model, coupling, name, Settings(data=dataset))
    proto = model.to_proto()
    del proto.graph.input[:]
    proto.graph.input.append(helper.make_tensor_value_info("x", 1, (4, 5)))
    fixed = from_proto(proto)
    found = score(fixed, couple(fixed), name, Settings(data=dataset))
    assert_close(free["w1"], found["w1"])


@pytest.mark.parametrize("name", ["apoz", "discrimination", "hrank", "thinet"])
@pytest.mark.parametrize(
    "net", ["swin", "gru_stacked", "shufflenet_v1", "encoder_bert", "attention_einsum", "densenet"]
)
def test_all_kinds_of_nets_have_scores(net: str, name: str) -> None:
    model = from_proto(export(net))
    coupling = couple(model)
    dataset = replace(data_for(model, 9), labels=np.arange(9) % 3)
    found = score(model, coupling, name, Settings(data=dataset, batch=4))
    for group in coupling.groups:
        assert found[group.name].shape == (group.units,)
        assert np.isfinite(found[group.name]).all()
        assert found[group.name].max() > 0


def test_means_over_positions_and_read_points() -> None:
    first = ReadPoint("a", 1, np.array([0, 1, 2]), np.array([0, 0, 1]))
    second = ReadPoint("b", 1, np.array([1, 3]), np.array([1, 2]))
    numbers = mean_of_units(3, [(first, np.array([1.0, 3.0, 5.0])), (second, np.array([9.0, 7.0, 9.0, 4.0]))])
    assert numbers is not None
    np.testing.assert_array_equal(numbers, [2, 6, 4])
    assert mean_of_units(3, [(first, np.ones(3))]) is None  # unit 2 is nowhere
    assert mean_of_units(2, [(first, np.array([1, np.nan, 2]))]) is None


@pytest.mark.parametrize("name", ["apoz", "activation-variance", "discrimination", "hrank", "thinet", "obspa"])
def test_activations_that_are_not_finite(name: str) -> None:
    """Exp overflows for some samples: the group's scores are a substitute."""
    b = Build()
    y = b.op("Exp", b.op("Gemm", "x", b.weight("w1", 6, 5), b.bias("w1.bias", 6), transB=1))
    model, coupling = finish(b, b.op("MatMul", y, b.matrix("w2", 6, 4)), "batch", 5)
    dataset = Dataset({"x": 200 * RNG.normal(size=(20, 5)).astype(np.float32)}, np.arange(20) % 2)
    found = score(model, coupling, name, Settings(data=dataset))
    if name == "apoz":  # zeros can be counted nonetheless
        assert ((found["w1"] > 0) & (found["w1"] <= 1)).all()
        return
    norms = score(model, coupling, "l2")["w1"]
    assert_close(norms / norms.max(), found["w1"])
    assert any("measured: w1; their units are scored by their l2 norm" in w for w in found.warnings)


def test_names_in_a_warning() -> None:
    assert listed(["a", "b"]) == "a, b"
    assert listed(list("abcdefg")) == "a, b, c, d, e and 2 more"
