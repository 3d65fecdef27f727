"""What comes out: probabilities where classes are, numbers else."""

from __future__ import annotations

import numpy as np
import pytest

from onnxprune.data import Dataset
from onnxprune.errors import DataError
from onnxprune.explain import Outcome, outcome, output_change
from onnxprune.model import Model, from_proto
from tests.cli.conftest import mlp

X = np.random.default_rng(0).standard_normal((5, 6)).astype(np.float32)


@pytest.fixture
def model() -> Model:
    """Six numbers in, four out."""
    return from_proto(mlp())


def test_scores_become_probabilities(model: Model) -> None:
    found = outcome(model, Dataset({"x": X}, np.arange(5) % 4), [4, 0])
    raw = found.raw.astype(np.float64)
    assert found.probable
    assert found.values is not None
    np.testing.assert_allclose(found.values, np.exp(raw) / np.exp(raw).sum(1, keepdims=True), rtol=1e-6)
    np.testing.assert_allclose(found.raw, outcome(model, {"x": X}).raw[[4, 0]], rtol=1e-5)


def test_numbers_stay_where_labels_are_numbers(model: Model) -> None:
    found = outcome(model, Dataset({"x": X}, np.zeros((5, 4), np.float32)))
    assert not found.probable
    assert found.values is not None
    np.testing.assert_array_equal(found.values, found.raw)


def test_once_comes_to_the_same(model: Model) -> None:
    np.testing.assert_allclose(outcome(model, {"x": X}, once=True).raw, outcome(model, {"x": X}).raw, rtol=1e-5)


def test_data_that_do_not_fit(model: Model) -> None:
    with pytest.raises(DataError):
        outcome(model, {"x": np.zeros((2, 9), np.float32)})


def test_how_far_an_output_moved() -> None:
    def of(*values: float) -> Outcome:
        return Outcome("y", np.array([values], np.float32), None, False)

    assert output_change(of(3, 4), of(3, 4)) == 0
    assert output_change(of(3, 4), of(0, 0)) == pytest.approx(1)
    assert output_change(of(0, 0), of(0, 1)) == float("inf")
    assert output_change(of(3, 4), of(3, 4, 5)) is None
