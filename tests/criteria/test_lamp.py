"""LAMP against its definition, one weight after the other."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxprune.coupling import couple
from onnxprune.criteria import Settings, lamp, score, score_weights
from onnxprune.criteria.lamp import lamp as scores_of
from onnxprune.model import from_proto
from tests.criteria.lookahead_reference import Net, model_of
from tests.criteria.reference import unit_scores
from tests.nets._spec import image
from tests.random_graphs import build


def by_definition(values: np.ndarray) -> np.ndarray:
    squares = [float(v) ** 2 for v in values.reshape(-1)]
    scores = [s / sum(t for t in squares if t >= s) if s else 0.0 for s in squares]
    return np.array(scores).reshape(values.shape)


@settings(max_examples=60, derandomize=True)
@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=40),
    st.sampled_from([np.float32, np.float64]),
    st.sampled_from([1, 3, 100]),
)
def test_numbers_with_ties_and_zeros(values: list[int], dtype: type, piece: int) -> None:
    numbers = np.array(values, dtype)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lamp, "PIECE", piece)
        np.testing.assert_allclose(scores_of(np.square(numbers)), by_definition(numbers), rtol=1e-6)


def test_weights() -> None:
    model = from_proto(build([0, 3]))
    found = score_weights(model, couple(model), "lamp")
    for name, weight in model.weights.items():
        if name in found:
            np.testing.assert_allclose(found[name], by_definition(weight.array()), rtol=1e-5)
            assert found[name].max() == 1


@pytest.mark.parametrize("sides", ["all", "producing"])
def test_units_by_their_squared_norm_in_their_group(sides: str) -> None:
    model = from_proto(build([0, 2, 7]))
    coupling = couple(model)
    found = score(model, coupling, "lamp", Settings(sides=sides))
    values = {t: w.array() for t, w in coupling.graph.weights.items()}
    for name, norms in unit_scores("l2", coupling, values, normalise=False, sides=sides).items():
        np.testing.assert_allclose(found[name], by_definition(np.array(norms)), rtol=1e-5)


def test_weights_that_are_not_finite() -> None:
    weight = np.array([[1, 2, np.nan], [np.inf, 3, 0]], np.float32)
    b = Net()
    y = b.op("Conv", "x", b.const("w", weight.reshape(2, 3, 1, 1)))
    model = model_of(b, y, image(3, 4, 4), 4)
    found = score_weights(model, couple(model), "lamp")
    assert found["w"].reshape(-1).tolist() == [0, 0, 0, 1, 0, 0]
    assert found.warnings == ("weight `w` has 2 entries that are NaN or Inf (NaN is scored as 0)",)
