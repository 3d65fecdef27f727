"""What units put out, against loops over samples and positions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from onnxprune.criteria import Settings, UnitScores, find, score
from onnxprune.errors import OptionError
from onnxprune.model import Model
from onnxprune.values import Coupling
from tests.criteria.measured import cnn, data, finish, mlp, tensor
from tests.nets.handmade._build import Build
from tests.oracle import assert_close

NAMES = ("apoz", "activation-mean", "activation-variance")
DATA = data(50, 3, 6, 5)


def one(name: str, values: np.ndarray) -> float:
    """A score from all activations of a unit, one after the other."""
    numbers = [float(v) for v in values.reshape(-1)]
    mean = sum(numbers) / len(numbers)
    return {
        "apoz": 1 - sum(v == 0 for v in numbers) / len(numbers),
        "activation-mean": sum(abs(v) for v in numbers) / len(numbers),
        "activation-variance": sum((v - mean) ** 2 for v in numbers) / len(numbers),
    }[name]


@pytest.mark.parametrize("name", NAMES)
def test_scores_are_those_of_the_definition(name: str) -> None:
    model, coupling = cnn()
    found = score(model, coupling, name, Settings(data=DATA, batch=7))
    first, second = tensor(model, DATA, "r1"), tensor(model, DATA, "r2")
    assert_close([one(name, first[:, k]) for k in range(6)], found[coupling.groups[0].name])
    # the second group is read behind Flatten: a unit is 30 columns there, each with moments of its own
    flat = second.reshape(50, 4, 30)
    expected = [np.mean([one(name, flat[:, k, i]) for i in range(30)]) for k in range(4)]
    assert_close(expected, found[coupling.groups[1].name])
    assert not found.warnings


@pytest.mark.parametrize("name", NAMES)
def test_several_read_points_are_averaged(name: str) -> None:
    b = Build(3)
    y = b.op("Relu", b.op("Gemm", "x", b.weight("w1.weight", 6, 5), b.bias("w1.bias", 6), transB=1), out="r1")
    left = b.op("MatMul", y, b.matrix("a", 6, 4))
    right = b.op("MatMul", b.op("Relu", b.op("Sub", y, b.const("half", [0.5])), out="r2"), b.matrix("b", 6, 4))
    model, coupling = finish(b, b.op("Add", left, right), "batch", 5)
    dataset = data(40, 5)
    found = score(model, coupling, name, Settings(data=dataset))
    (group,) = (g.name for g in coupling.groups if g.units == 6)
    both = [[one(name, tensor(model, dataset, t)[:, k]) for k in range(6)] for t in ("r1", "r2")]
    assert_close(np.mean(both, axis=0), found[group])


@pytest.mark.parametrize("name", NAMES)
def test_a_dead_unit_is_the_least(name: str) -> None:
    model, coupling = cnn(dead=2)
    found = score(model, coupling, name, Settings(data=DATA))[coupling.groups[0].name]
    assert found[2] == 0
    assert (np.delete(found, 2) > 0).all()


@settings(max_examples=6, derandomize=True, deadline=None)
@given(st.permutations(range(6)), st.sampled_from(NAMES))
def test_permuted_units_have_permuted_scores(order: list[int], name: str) -> None:
    expected = first_group(*cnn(), name)[order]
    np.testing.assert_allclose(first_group(*cnn(order), name), expected, rtol=1e-6)


def first_group(model: Model, coupling: Coupling, name: str) -> np.ndarray:
    return score(model, coupling, name, Settings(data=DATA))[coupling.groups[0].name]


def test_so_many_samples_and_no_more() -> None:
    model, coupling = mlp()
    dataset = data(60, 5)
    few = score(model, coupling, "activation-mean", Settings(data=dataset, samples=10, seed=4))
    drawn = score(model, coupling, "activation-mean", Settings(data=dataset.subset(10, 4)))
    whole = score(model, coupling, "activation-mean", Settings(data=dataset))
    np.testing.assert_array_equal(few["w1"], drawn["w1"])
    assert (few["w1"] != whole["w1"]).any()
    seen: list[tuple[str, int, int]] = []
    one_by_one = Settings(data=dataset, batch=1, samples=10, seed=4, progress=lambda *args: seen.append(args))
    assert_close(few["w1"], score(model, coupling, "activation-mean", one_by_one)["w1"])
    assert seen[-1] == ("running the model", 10, 10)
    assert len(seen) == 11


def without_zeros(activation: str) -> tuple[Model, Coupling]:
    b = Build(5)
    y = b.op("Gemm", "x", b.weight("w1.weight", 6, 5), b.bias("w1.bias", 6), transB=1)
    return finish(b, b.op("MatMul", b.op(activation, y, out="a"), b.matrix("w2", 6, 4)), "batch", 5)


def test_apoz_says_where_there_are_no_zeros() -> None:
    model, coupling = without_zeros("Tanh")
    dataset = data(40, 5)
    found = score(model, coupling, "apoz", Settings(data=dataset))
    mean = np.abs(tensor(model, dataset, "a")).mean(axis=0)
    assert_close(mean / mean.max(), found["w1"])
    assert found.warnings == (
        "no activation is ever zero in w1: apoz takes mean |a| over the largest of the group there",
    )


@pytest.mark.parametrize("name", [*NAMES, "hrank", "discrimination", "thinet", "obspa"])
def test_groups_inside_bodies_have_a_substitute(name: str) -> None:
    model, coupling = inside_an_if()
    found = score(model, coupling, name, Settings(data=data(12, 5)))
    assert sorted(found) == sorted(g.name for g in coupling.groups)
    inner = next(g.name for g in coupling.groups if "then_branch" in g.name)
    norms = score(model, coupling, "l2")[inner]
    assert_close(norms / norms.max(), found[inner])
    assert any("be measured" in w and inner in w for w in found.warnings)


def inside_an_if() -> tuple[Model, Coupling]:
    """x -> w1 -> Relu -> If (always true): inner -> Relu -> inner2 -> out."""
    b = Build(7)
    y = b.op("Relu", b.op("MatMul", "x", b.matrix("w1", 5, 6)), out="r1")
    branches = []
    for word in ("then", "else"):
        inner = Build(8, prefix=f"{word}_")
        z = inner.op("MatMul", y, inner.matrix("inner", 6, 7))
        z = inner.op("MatMul", inner.op("Relu", z), inner.matrix("inner2", 7, 4))
        out = helper.make_tensor_value_info(z, TensorProto.FLOAT, None)
        branches.append(helper.make_graph(inner.nodes, word, [], [out], inner.initializers))
    condition = b.op("Greater", b.op("ReduceMax", "x", keepdims=0), b.const("low", -1e9))
    b.nodes.append(
        helper.make_node("If", [condition], ["z"], name="if", then_branch=branches[0], else_branch=branches[1])
    )
    return finish(b, b.op("Identity", "z"), "batch", 5)


@pytest.mark.parametrize("name", [*NAMES, "hrank", "discrimination", "wanda", "thinet", "obspa", "obc", "sparsegpt"])
def test_data_is_needed(name: str) -> None:
    model, coupling = mlp()
    criterion = find(name)
    assert "data" in criterion.needs
    assert criterion.paper.startswith("arXiv:")
    compute = criterion.units or criterion.weights
    assert compute is not None
    with pytest.raises(OptionError, match="dataset"):
        compute(model, coupling, Settings())


def test_scores_are_those_of_the_model_given_not_of_the_one_analysed() -> None:
    model, coupling = mlp()
    tuned, _ = mlp()
    editor = tuned.edit()
    for weight in ("w1.weight", "w1.bias"):
        editor.set_weight(weight, 2 * model.weights[weight].array())
    found: list[UnitScores] = [
        score(m, coupling, "activation-mean", Settings(data=data(20, 5))) for m in (model, editor.build())
    ]
    assert_close(2 * found[0]["w1"], found[1]["w1"])
