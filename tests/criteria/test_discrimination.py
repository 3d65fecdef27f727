"""How well a unit tells classes apart, from its definition; labels that will not do."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxprune.coupling import couple
from onnxprune.criteria import Settings, score
from onnxprune.data import Dataset
from onnxprune.errors import DataError, OptionError
from onnxprune.model import from_proto
from tests.criteria.measured import cnn, data, data_for, mlp, tensor
from tests.nets import export
from tests.oracle import assert_close


def share(a: np.ndarray, classes: np.ndarray) -> float:
    """between / (between + within) of one number per sample, sample by sample."""
    mean = sum(a) / len(a)
    between = within = 0.0
    for k in set(classes.tolist()):
        mine = [x for x, c in zip(a.tolist(), classes, strict=True) if c == k]
        middle = sum(mine) / len(mine)
        between += len(mine) * (middle - mean) ** 2
        within += sum((x - middle) ** 2 for x in mine)
    return between / (between + within) if between + within else 0.0


def test_scores_are_those_of_the_definition() -> None:
    model, coupling = cnn()
    dataset = data(60, 3, 6, 5, classes=4)
    found = score(model, coupling, "discrimination", Settings(data=dataset, batch=9))
    for group, name in zip(coupling.groups, ("r1", "r2"), strict=True):
        means = tensor(model, dataset, name).mean(axis=(2, 3), dtype=np.float64)
        expected = [share(means[:, k], np.asarray(dataset.labels)) for k in range(means.shape[1])]
        assert_close(expected, found[group.name])


def test_the_class_itself_and_nothing_at_all() -> None:
    """One input is the class, one is noise, one never changes."""
    model, coupling = mlp(3)
    editor = model.edit()
    editor.set_weight("w1.weight", np.eye(3, 5, dtype=np.float32))
    editor.set_weight("w1.bias", np.full(3, 10, np.float32))
    rng = np.random.default_rng(0)
    classes = rng.integers(0, 3, 400)
    x = rng.normal(size=(400, 5)).astype(np.float32)
    x[:, 0], x[:, 2] = classes, 4.0
    found = score(editor.build(), coupling, "discrimination", Settings(data=Dataset({"x": x}, classes + 7)))["w1"]
    assert found[0] == pytest.approx(1)
    assert 0 < found[1] < 0.03
    assert found[2] == 0


@settings(max_examples=5, derandomize=True, deadline=None)
@given(st.permutations(range(6)))
def test_permuted_units_have_permuted_scores(order: list[int]) -> None:
    options = Settings(data=data(30, 3, 6, 5))
    (one, first), (other, second) = cnn(), cnn(order)
    expected = score(one, first, "discrimination", options)[first.groups[0].name][order]
    np.testing.assert_allclose(score(other, second, "discrimination", options)[second.groups[0].name], expected, 1e-5)


def test_a_batch_that_is_not_on_the_first_axis() -> None:
    """The states of an LSTM: (steps, samples, cells), with as many steps as samples in a batch."""
    model = from_proto(export("conv_lstm"))
    coupling = couple(model)
    dataset = replace(data_for(model, 24), labels=np.random.default_rng(0).integers(0, 2, 24))
    name = next(g.name for g in coupling.groups if g.kind != "cells")
    node = next(n for n in coupling.graph.nodes if n.op == "LSTM")
    values = tensor(model, dataset, node.input(0))
    assert values.shape[1] == 24
    means = values.mean(axis=0, dtype=np.float64)
    expected = [share(means[:, k], np.asarray(dataset.labels)) for k in range(means.shape[1])]
    for batch in (24, len(values), 5):
        found = score(model, coupling, "discrimination", Settings(data=dataset, batch=batch))
        assert_close(expected, found[name])


def test_labels_are_needed() -> None:
    model, coupling = mlp()
    good = data(20, 5)
    with pytest.raises(OptionError, match="labels"):
        score(model, coupling, "discrimination", Settings(data=replace(good, labels=None)))
    with pytest.raises(DataError, match=r"needs classes, and the labels are float64 \[20\]"):
        score(model, coupling, "discrimination", Settings(data=replace(good, labels=np.linspace(0, 1, 20))))
    with pytest.raises(DataError, match="all samples are of class 3: nothing to tell apart"):
        score(model, coupling, "discrimination", Settings(data=replace(good, labels=np.full(20, 3))))
