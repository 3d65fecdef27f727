"""The solutions against plain least squares, row by row."""

from __future__ import annotations

import numpy as np
import pytest

from onnxprune.recover.dual import Stored, fit_stored
from onnxprune.recover.moments import Moments
from onnxprune.recover.solve import fit_bias, fit_weights
from tests.oracle import assert_close

RNG = np.random.default_rng(0)
GROUPS, COLUMNS, ROWS = 2, 6, 4


def problem(samples: int = 400, noise: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    x = RNG.standard_normal((GROUPS, samples, COLUMNS)) + 2.0
    weights, bias = RNG.standard_normal((GROUPS, ROWS, COLUMNS)), RNG.standard_normal((GROUPS, ROWS))
    t = x @ weights.swapaxes(1, 2) + bias[:, None] + noise * RNG.standard_normal((GROUPS, samples, ROWS))
    return x, t, weights, bias


def moments(x: np.ndarray, t: np.ndarray, pieces: int = 3) -> Moments:
    result = Moments.empty(GROUPS, COLUMNS, t.shape[-1])
    for a, b in zip(np.array_split(x, pieces, axis=1), np.array_split(t, pieces, axis=1), strict=True):
        result.add(a, b)
    return result


def test_errors_from_moments_are_those_of_the_samples() -> None:
    x, t, _, bias = problem(noise=0.5)
    weights = RNG.standard_normal((GROUPS, ROWS, COLUMNS))
    sums = moments(x, t)
    direct = ((x @ weights.swapaxes(1, 2) - t) ** 2).sum(axis=1)
    assert_close(sums.error(weights), direct)
    shift = RNG.standard_normal((GROUPS, COLUMNS))
    moved = ((x - shift[:, None]) @ weights.swapaxes(1, 2) - (t - bias[:, None])) ** 2
    assert_close(sums.about(shift, bias).error(weights), moved.mean(axis=1))
    both = moments(x[:, :100], t[:, :100]) + moments(x[:, 100:], t[:, 100:])
    assert_close(both.xx, sums.xx)
    assert both.count == sums.count == 400


def test_what_can_be_explained_is_found() -> None:
    x, t, weights, bias = problem()
    start = weights + 0.5 * RNG.standard_normal(weights.shape)
    found = fit_weights(
        moments(x[:, :300], t[:, :300]), moments(x[:, 300:], t[:, 300:]), start, 0 * bias, intercept=True
    )
    assert_close(found.weights, weights, rtol=1e-4)  # the smallest penalty is 1e-6 of the diagonal
    assert_close(found.bias, bias, rtol=1e-3)
    assert found.after < 1e-8 < found.before


def test_noise_is_fitted_as_least_squares_does() -> None:
    x, t, weights, bias = problem(samples=4000, noise=0.3)
    found = fit_weights(moments(x, t), moments(x, t), weights + 1, 0 * bias, intercept=True)
    for g in range(GROUPS):
        ones = np.hstack([x[g], np.ones((len(x[g]), 1))])
        best = np.linalg.lstsq(ones, t[g], rcond=None)[0].T
        assert_close(best[:, :-1], found.weights[g], rtol=1e-4)
        assert_close(best[:, -1], found.bias[g], rtol=1e-3)


def test_without_an_intercept_the_bias_stays() -> None:
    x, t, weights, bias = problem()
    found = fit_weights(moments(x, t), moments(x, t), weights + 1, 0 * bias, intercept=False)
    for g in range(GROUPS):
        assert_close(np.linalg.lstsq(x[g], t[g], rcond=None)[0].T, found.weights[g], rtol=1e-4)
    np.testing.assert_array_equal(found.bias, 0 * bias)


def test_under_a_mask_every_row_is_its_own_least_squares() -> None:
    x, t, weights, bias = problem(samples=2000, noise=0.2)
    mask = RNG.random(weights.shape) < 0.4
    mask[:, :, 0] = False
    start = np.where(mask, 0.0, weights)
    found = fit_weights(moments(x, t), moments(x, t), start, bias, intercept=True, mask=mask)
    assert not found.weights[mask].any()
    for g in range(GROUPS):
        centred = x[g] - x[g].mean(0)
        for r in range(ROWS):
            free = ~mask[g, r]
            best = np.linalg.lstsq(centred[:, free], t[g, :, r] - t[g, :, r].mean(), rcond=None)[0]
            assert_close(best, found.weights[g, r, free], rtol=1e-3)  # the smallest penalty under a mask is 1e-4


def test_a_fit_that_does_not_generalise_is_not_made() -> None:
    """Targets that are noise: nothing but the mean can be learnt, and the weights stay."""
    x = RNG.standard_normal((GROUPS, 8, COLUMNS))
    held = RNG.standard_normal((GROUPS, 4000, COLUMNS))
    weights = RNG.standard_normal((GROUPS, ROWS, COLUMNS))
    train = moments(x, x @ weights.swapaxes(1, 2) + 3 * RNG.standard_normal((GROUPS, 8, ROWS)))
    found = fit_weights(
        train, moments(held, held @ weights.swapaxes(1, 2)), weights, np.zeros((GROUPS, ROWS)), intercept=True
    )
    assert found.penalty is None
    np.testing.assert_array_equal(found.weights, weights)


def test_bias_takes_the_mean() -> None:
    x, t, weights, bias = problem()
    whole = moments(x, t)
    found = fit_bias(whole, whole, 0.5 * weights, bias, intercept=True)
    np.testing.assert_array_equal(found.weights, 0.5 * weights)
    assert_close((x @ (0.5 * weights).swapaxes(1, 2) + found.bias[:, None]).mean(axis=1), t.mean(axis=1))
    assert found.after < found.before


@pytest.mark.parametrize("intercept", [True, False])
def test_a_constant_input_does_no_harm(intercept: bool) -> None:
    x, t, weights, bias = problem()
    x = np.concatenate([x[..., :-1], np.zeros_like(x[..., :1])], axis=-1)
    found = fit_weights(moments(x, t), moments(x, t), weights, bias, intercept=intercept)
    assert np.isfinite(found.weights).all()


def kept(x: np.ndarray, t: np.ndarray) -> Stored:
    result = Stored()
    for a, b in zip(np.array_split(x, 3, axis=1), np.array_split(t, 3, axis=1), strict=True):
        result.add(a, b)
    return result


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("samples", [5, 300])
def test_the_dual_is_the_same_regression(intercept: bool, samples: int) -> None:
    """Fewer and more samples than columns, judged by the same others."""
    x, t, weights, bias = problem(samples=samples, noise=0.5)
    x_held, t_held, _, _ = problem(samples=400, noise=0.5)
    bias = bias if intercept else 0 * bias
    one = fit_weights(moments(x, t), moments(x_held, t_held), weights + 0.3, bias, intercept=intercept)
    two = fit_stored(kept(x, t), kept(x_held, t_held), weights + 0.3, bias, intercept=intercept)
    assert two.after <= one.after * 1.01 + 1e-6  # a penalty for each group instead of one for all
    assert one.before == pytest.approx(two.before, rel=1e-4)
    whole = np.concatenate([x, x_held], axis=1), np.concatenate([t, t_held], axis=1)
    again = fit_weights(moments(*whole), moments(*whole), weights + 0.3, bias, intercept=intercept)
    dual = fit_stored(kept(*whole), kept(*whole), weights + 0.3, bias, intercept=intercept)
    assert_close(again.weights, dual.weights, rtol=5e-3)  # both judge by what they fit: the least penalties, float32
    assert_close(again.bias, dual.bias, rtol=1e-2)


def test_the_dual_of_bias_alone() -> None:
    x, t, weights, bias = problem()
    found = fit_stored(kept(x, t), kept(x, t), 0.5 * weights, bias, intercept=True, bias_only=True)
    same = fit_bias(moments(x, t), moments(x, t), 0.5 * weights, bias, intercept=True)
    assert_close(same.bias, found.bias)
    np.testing.assert_array_equal(found.weights, 0.5 * weights)
