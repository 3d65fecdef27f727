"""Regression, and fidelity to the original."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from onnxprune.evaluate import Meter, evaluate
from tests.evaluate.models import dataset, measure, passing, softmax, values

RNG = np.random.default_rng(2)


class TestRegression:
    @pytest.mark.parametrize("shape", [(20, 1), (20,), (20, 3), (20, 2, 3)])
    def test_against_scikit_learn(self, shape: tuple[int, ...]) -> None:
        sizes = shape[1:] or (1,)
        x, y = RNG.standard_normal((20, *sizes)).astype(np.float32), RNG.standard_normal(shape) + 1000
        found = measure(passing(*sizes), x, y)
        ours, wanted = x.reshape(20, -1), y.reshape(20, -1)
        assert found.task == "regression"
        assert values(found) == {
            "mse": pytest.approx(metrics.mean_squared_error(wanted, ours)),
            "rmse": pytest.approx(metrics.root_mean_squared_error(wanted.reshape(-1), ours.reshape(-1))),
            "mae": pytest.approx(metrics.mean_absolute_error(wanted, ours)),
            "r2": pytest.approx(metrics.r2_score(wanted, ours)),
        }

    def test_whole_numbers_as_targets_when_asked(self) -> None:
        x, y = RNG.standard_normal((20, 1)), RNG.integers(0, 40, 20)
        found = measure(passing(1), x, y, task="regression")
        assert found.value("mae") == pytest.approx(np.abs(x[:, 0] - y).mean(), rel=1e-6)

    def test_labels_without_variance_have_no_r2(self) -> None:
        found = measure(passing(1), RNG.standard_normal((20, 1)), np.full((20, 1), 3.5))
        assert str(found.metric("r2")) == "not defined"
        assert found.notes == ("labels that are all equal have no R2",)

    @settings(max_examples=30, deadline=None)
    @given(st.lists(st.integers(1, 9), min_size=2, max_size=6), st.sampled_from([0.0, 1e6]), st.integers(0, 999))
    def test_in_batches_as_in_one(self, sizes: list[int], offset: float, seed: int) -> None:
        rng = np.random.default_rng(seed)
        x, y = rng.standard_normal((sum(sizes), 2)), rng.standard_normal((sum(sizes), 2))
        meter = Meter(samples=sum(sizes))
        ends = np.cumsum(sizes)
        for start, end in zip(ends - sizes, ends, strict=True):
            meter.add({"y": x[start:end] + offset}, y[start:end] + offset, int(end - start))
        found = meter.finish()
        assert found.value("r2") == pytest.approx(metrics.r2_score(y + offset, x + offset), rel=1e-6, abs=1e-6)
        assert found.value("mse") == pytest.approx(metrics.mean_squared_error(y, x), rel=1e-6)


class TestFidelity:
    def test_a_model_is_faithful_to_itself(self) -> None:
        model = passing(5)
        found = measure(model, RNG.standard_normal((20, 5)), original=model)
        assert found.task == "fidelity"
        assert values(found) == pytest.approx({"cosine": 1, "largest_difference": 0, "kl": 0, "agreement": 1}, abs=1e-9)

    def test_against_the_definitions(self) -> None:
        x = RNG.standard_normal((20, 5))
        found = measure(passing(5, op="Abs"), x, original=passing(5))
        ours = np.abs(x)
        cosine = (ours * x).sum(1) / np.linalg.norm(x, axis=1) ** 2
        p, q = softmax(x), softmax(ours)
        assert found.value("cosine to the original") == pytest.approx(cosine.mean(), rel=1e-5)
        assert found.value("largest_difference") == pytest.approx(np.abs(ours - x).max(), rel=1e-5)
        assert found.value("kl") == pytest.approx((p * np.log(p / q)).sum(1).mean(), rel=1e-4)
        assert found.value("top-1 agreement") == pytest.approx((ours.argmax(1) == x.argmax(1)).mean())
        assert np.array_equal(found.predictions, ours.argmax(1))  # type: ignore[arg-type]

    def test_the_labels_say_where_the_classes_are(self) -> None:
        """Pixels have their classes on axis 3 here, which without labels would not be known."""
        x, y = RNG.standard_normal((6, 3, 2, 5)), RNG.integers(0, 5, (6, 3, 2))
        found = measure(passing(3, 2, 5, op="Abs"), x, y, original=passing(3, 2, 5))
        assert found.value("agreement") == pytest.approx((np.abs(x).argmax(-1) == x.argmax(-1)).mean())

    def test_binary_decisions_agree_by_their_side(self) -> None:
        x, y = RNG.standard_normal((20, 1)), RNG.integers(0, 2, 20)
        found = measure(passing(1, op="Neg"), x, y, original=passing(1))
        assert found.value("agreement") == 0
        assert found.value("cosine") == pytest.approx(-1)

    def test_infinities_that_both_have_are_no_difference(self) -> None:
        x = np.array([[0.5, -np.inf, 1], [1, 2, 0]])
        found = measure(passing(3), x, original=passing(3))
        assert values(found) == pytest.approx({"cosine": 1, "largest_difference": 0, "kl": 0, "agreement": 1})

    def test_outputs_that_are_both_zero_have_one_direction(self) -> None:
        assert measure(passing(3), np.zeros((2, 3)), original=passing(3)).value("cosine") == 1

    def test_with_labels_both_are_told(self) -> None:
        found = measure(passing(5), RNG.standard_normal((9, 5)), np.arange(9) % 5, original=passing(5))
        assert {"accuracy", "agreement"} <= values(found).keys()

    def test_labels_can_be_left_aside(self) -> None:
        found = measure(passing(5), RNG.standard_normal((9, 5)), np.arange(9), original=passing(5), task="fidelity")
        assert "accuracy" not in values(found)


def test_progress_and_provider_are_reported() -> None:
    seen: list[tuple[str, int, int]] = []
    data = dataset(np.zeros((10, 5)), np.zeros(10, np.int64))
    found = evaluate(passing(5), data, size=4, provider="cpu", progress=lambda *told: seen.append(told))
    assert seen == [("evaluating", 4, 10), ("evaluating", 8, 10), ("evaluating", 10, 10)]
    assert found.provider == "cpu"
