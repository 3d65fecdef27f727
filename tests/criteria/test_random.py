"""Random scores: uniform, and the same again for the same seed and name, whatever else is there."""

from __future__ import annotations

import numpy as np

from onnxprune.coupling import couple
from onnxprune.criteria import Settings, score, score_weights
from onnxprune.model import from_proto
from tests.random_graphs import build

MODEL = from_proto(build([0, 2, 7]))
COUPLING = couple(MODEL)


def test_the_same_seed_gives_the_same_scores() -> None:
    one, two, other = (score(MODEL, COUPLING, "random", Settings(seed=seed)) for seed in (7, 7, 8))
    assert list(one) == [g.name for g in COUPLING.groups]
    for group in COUPLING.groups:
        assert one[group.name].shape == (group.units,)
        np.testing.assert_array_equal(one[group.name], two[group.name])
        assert (one[group.name] != other[group.name]).any()


def test_groups_differ_from_each_other() -> None:
    found = score(MODEL, COUPLING, "random")
    assert len({values[0] for values in found.values()}) == len(found)


def test_scores_are_uniform() -> None:
    numbers = np.concatenate([v.reshape(-1) for v in score_weights(MODEL, COUPLING, "random").values()])
    assert 0 <= numbers.min() < 0.01
    assert 0.99 < numbers.max() < 1
    assert abs(numbers.mean() - 0.5) < 0.02


def test_single_weights() -> None:
    one, two = (score_weights(MODEL, COUPLING, "random", Settings(seed=3)) for _ in range(2))
    for name in one:
        assert one[name].shape == MODEL.weights[name].shape
        np.testing.assert_array_equal(one[name], two[name])
