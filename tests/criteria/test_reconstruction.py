"""OBC against least squares by hand, SparseGPT against its loops; scores that keep each row's order of removal."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxprune import gram
from onnxprune.allocate import Budget, allocate
from onnxprune.coupling import couple
from onnxprune.criteria import Settings, find, reconstruction, score_weights
from onnxprune.criteria import reconstruction_trace as trace
from onnxprune.model import from_proto
from tests.criteria.measured import cnn, data, data_for, mlp, tensor
from tests.nets import export
from tests.oracle import assert_close

NAMES = ("obc", "sparsegpt")
DATA = data(200, 3, 6, 5)


def problem(seed: int, groups: int = 1, rows: int = 3, n: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Weights, and second moments of correlated inputs."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(groups, 50, n)) @ rng.normal(size=(groups, n, n))
    return rng.normal(size=(groups, rows, n)), x.swapaxes(1, 2) @ x / 50


def least_error(w: np.ndarray, h: np.ndarray, gone: list[int]) -> float:
    """The squared error of one row without these weights, the others fitted."""
    keep = [k for k in range(len(w)) if k not in gone]
    v = np.zeros_like(w)
    if keep:
        v[keep] = np.linalg.solve(h[np.ix_(keep, keep)], h[keep] @ w)
    return float((v - w) @ h @ (v - w))


@settings(max_examples=20, derandomize=True, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 3))
def test_costs_in_front_add_up_to_the_error_of_least_squares(seed: int, groups: int) -> None:
    w, h = problem(seed, groups)
    damped = trace.damped(h)
    order, costs = trace.exact_trace(w, h)
    for g, row in np.ndindex(groups, 3):
        for k in range(7):
            gone = order[g, row, :k].tolist()
            assert costs[g, row, :k].sum() == pytest.approx(least_error(w[g, row], damped[g], gone), rel=1e-6, abs=1e-9)


@settings(max_examples=10, derandomize=True, deadline=None)
@given(st.integers(0, 10**6))
def test_each_step_is_the_cheapest_one(seed: int) -> None:
    w, h = problem(seed)
    damped = trace.damped(h)
    order, _ = trace.exact_trace(w, h)
    for row in range(3):
        gone: list[int] = []
        for chosen in order[0, row].tolist():
            left = [k for k in range(6) if k not in gone]
            errors = {k: least_error(w[0, row], damped[0], [*gone, k]) for k in left}
            assert errors[chosen] <= min(errors.values()) * (1 + 1e-9)
            gone.append(chosen)


def test_more_columns_than_are_kept_pending_and_several_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    w, h = problem(1, rows=5, n=75)
    order, costs = trace.exact_trace(w, h)
    for k in (1, 31, 32, 33, 64, 70):
        error = least_error(w[0, 2], trace.damped(h)[0], order[0, 2, :k].tolist())
        assert costs[0, 2, :k].sum() == pytest.approx(error, rel=1e-6)
    monkeypatch.setattr(trace, "PIECE", 2 * 8 * 75**2)
    again, more = trace.exact_trace(w, h)
    np.testing.assert_array_equal(order, again)
    assert_close(costs, more)


def test_sparsegpt_is_its_loops() -> None:
    """Column by column, with the inverse of what is left computed anew each time."""
    w, h = problem(2, rows=4, n=9)
    damped, v = trace.damped(h)[0], w[0].copy()
    factor = np.array([np.linalg.inv(damped[j:, j:])[0, 0] for j in range(9)])
    expected = v**2 / factor  # all nine columns are one block: looked at before anything goes
    costs, taken = trace.sequential(w, h, 0.5)
    assert_close(expected, costs[0])
    order = np.argsort(expected, axis=None, kind="stable")
    np.testing.assert_array_equal(np.argsort(taken, axis=None, kind="stable"), order)
    assert taken.min() == 0
    assert taken.max() == pytest.approx(35 / 36)


def test_sparsegpt_makes_up_for_what_went_in_the_blocks_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace, "BLOCK", 3)
    w, h = problem(3, rows=4, n=9)
    damped, v = trace.damped(h)[0], w[0].copy()
    costs, _ = trace.sequential(w, h, 0.5)
    for start in (0, 3, 6):
        block = range(start, start + 3)
        corner = np.array([np.linalg.inv(damped[j:, j:])[0, 0] for j in block])
        expected = v[:, start : start + 3] ** 2 / corner
        assert_close(expected, costs[0][:, start : start + 3])
        gone = expected < np.sort(expected, axis=None)[6]
        for j in block:  # the optimal brain surgeon on the columns from j on
            inverse = np.linalg.inv(damped[j:, j:])
            lost = np.where(gone[:, j - start], v[:, j], 0)
            v[:, j:] -= np.outer(lost / inverse[0, 0], inverse[0])


@settings(max_examples=10, derandomize=True)
@given(st.lists(st.floats(-1, 10), min_size=1, max_size=9))
def test_turns_grow_strictly(costs: list[float]) -> None:
    found = trace.in_turn(np.array(costs))
    assert (np.diff(found) > 0).all()
    np.testing.assert_allclose(found, np.maximum.accumulate(np.maximum(costs, 0)), rtol=1e-12, atol=1e-300)


def layer_of_mlp(dataset) -> tuple[np.ndarray, np.ndarray]:
    """Matrix and second moments of the second layer of `mlp`."""
    model, _ = mlp()
    x = tensor(model, dataset, "r1").astype(np.float64)
    return model.weights["w2.weight"].array().T[None].astype(np.float64), (x.T @ x / len(x))[None]


def test_the_lowest_scores_of_a_row_begin_its_order_of_removal() -> None:
    model, coupling = mlp()
    dataset = data(100, 5)
    w, h = layer_of_mlp(dataset)
    order, costs = trace.exact_trace(w, h)
    found = score_weights(model, coupling, "obc", Settings(data=dataset))["w2.weight"].T
    for row in range(4):
        np.testing.assert_array_equal(np.argsort(found[row]), order[0, row])
    whole = float(np.einsum("rn,nm,rm->", w[0], h[0], w[0]))
    assert_close(np.sort(found, axis=1), np.maximum.accumulate(costs[0], axis=1) / whole)
    raw = score_weights(model, coupling, "obc", Settings(data=dataset, normalise=False))["w2.weight"].T
    assert_close(whole * found, raw)


def test_a_mask_of_the_lowest_scores_has_less_error_than_by_magnitude() -> None:
    model, coupling = cnn()
    x = tensor(model, DATA, "flat").astype(np.float64)
    h, w = x.T @ x / len(x), model.weights["w3.weight"].array().astype(np.float64)
    errors = {}
    for name in ("l2", "wanda", *NAMES):
        scores = score_weights(model, coupling, name, Settings(data=DATA))
        plan, _ = allocate(coupling, scores, Budget(ratio=0.7))
        gone = plan.weights["w3.weight"]
        errors[name] = sum(
            least_error(row, h + 1e-9 * np.eye(120), np.flatnonzero(g).tolist()) for row, g in zip(w, gone, strict=True)
        )
    assert errors["obc"] < errors["sparsegpt"] < errors["l2"]


def test_every_block_of_columns_loses_the_same_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace, "BLOCK", 30)
    model, coupling = cnn()
    scores = score_weights(model, coupling, "sparsegpt", Settings(data=DATA))
    plan, _ = allocate(coupling, scores, Budget(ratio=0.6))
    np.testing.assert_array_equal(plan.weights["w3.weight"].reshape(3, 4, 30).sum(axis=(0, 2)), 54)


def test_the_ratio_decides_what_sparsegpt_makes_up_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace, "BLOCK", 30)
    model, coupling = cnn()
    by = {
        r: score_weights(model, coupling, "sparsegpt", Settings(data=DATA, ratios=r))["w3.weight"] for r in (0.5, 0.9)
    }
    unsaid = score_weights(model, coupling, "sparsegpt", Settings(data=DATA))["w3.weight"]
    np.testing.assert_array_equal(unsaid, by[0.5])
    np.testing.assert_array_equal(by[0.9][:, :30], by[0.5][:, :30])
    assert (by[0.9][:, 30:] != by[0.5][:, 30:]).any()


@pytest.mark.parametrize("name", NAMES)
def test_n_of_m(name: str) -> None:
    model, coupling = cnn()
    scores = score_weights(model, coupling, name, Settings(data=DATA))
    plan, _ = allocate(coupling, scores, Budget(pattern="2:4", skip=["w1.weight", "w2.weight"]))
    gone, mine = plan.weights["w3.weight"].reshape(-1, 4), scores["w3.weight"].reshape(-1, 4)
    assert (gone.sum(axis=1) == 2).all()
    assert (np.where(gone, mine, -1).max(axis=1) < np.where(gone, 9, mine).min(axis=1)).all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("net", ["grouped_conv", "depth_multiplier", "unet", "lstm_bidirectional", "vit"])
def test_all_kinds_of_layers_have_scores(net: str, name: str) -> None:
    model = from_proto(export(net))
    coupling = couple(model)
    found = score_weights(model, coupling, name, Settings(data=data_for(model), samples=6))
    for weight in found:
        assert found[weight].shape == coupling.graph.weights[weight].shape
        assert np.isfinite(found[weight]).all()
        assert (found[weight] >= 0).all()
    assert not [w for w in found.warnings if "position" not in w]


@pytest.mark.parametrize("name", NAMES)
def test_weights_of_dead_inputs_go_first(name: str) -> None:
    model, coupling = cnn(dead=2)
    found = score_weights(model, coupling, name, Settings(data=DATA))["w2.weight"]
    assert found[:, 2].max() < np.delete(found, 2, axis=1).min()


def test_large_layers_are_scored_with_less_work(monkeypatch: pytest.MonkeyPatch) -> None:
    model, coupling = cnn()
    exact = score_weights(model, coupling, "obc", Settings(data=DATA))
    monkeypatch.setattr(reconstruction, "EXACT", 3 * 120**3 + 6 * 27**3)  # not w2: 4 rows of 54 columns come first
    found = score_weights(model, coupling, "obc", Settings(data=DATA))
    np.testing.assert_array_equal(found["w1.weight"], exact["w1.weight"])
    assert (found["w3.weight"] != exact["w3.weight"]).any()
    assert "too large for an exact trace, scored as by sparsegpt: w3.weight" in found.warnings
    monkeypatch.setattr(gram, "LARGEST", 8 * 54**2)  # of w3 the diagonal only
    flat = score_weights(model, coupling, "obc", Settings(data=DATA))["w3.weight"]
    x = tensor(model, DATA, "flat").astype(np.float64)
    expected = model.weights["w3.weight"].array() ** 2 * np.mean(x**2, axis=0)
    assert_close(expected / expected.sum(), flat)


@pytest.mark.parametrize("name", NAMES)
def test_what_belongs_to_the_criterion(name: str) -> None:
    criterion = find(name)
    assert criterion.units is None
    assert criterion.recover == "least-squares"
    assert list(criterion.needs) == ["data"]
