"""ThiNet and OBSPA against direct least squares and sums over samples, unit by unit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxprune import gram
from onnxprune.coupling import couple
from onnxprune.criteria import Settings, find, score
from onnxprune.criteria import reconstruction_units as units
from onnxprune.criteria.reconstruction_trace import damped
from onnxprune.model import from_proto
from tests.criteria.measured import cnn, data, data_for, finish, mlp, tensor
from tests.nets import export
from tests.nets.handmade._build import Build
from tests.oracle import assert_close

NAMES = ("thinet", "obspa")
DATA = data(150, 3, 6, 5)
PLAIN = Settings(data=DATA, normalise=False, samples=150)


def contributions(model, dataset) -> np.ndarray:
    """What each unit of w1 in `cnn` adds to the output of w2, sample by sample: (units, numbers)."""
    x, w = tensor(model, dataset, "r1").astype(np.float64), model.weights["w2.weight"].array().astype(np.float64)
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    out = np.zeros((6, 4, len(x), 6, 5))
    for u, o, i, j in np.ndindex(6, 4, 3, 3):
        out[u, o] += w[o, u, i, j] * padded[:, u, i : i + 6, j : j + 5]
    return out.reshape(6, -1)


def greedy(values: np.ndarray, samples: int) -> tuple[list[int], list[float]]:
    """Order and error of units by trying every one at every step."""
    gone: list[int] = []
    errors = [0.0]
    while len(gone) < len(values):
        left = [u for u in range(len(values)) if u not in gone]
        found = {u: float(np.sum(values[[*gone, u]].sum(axis=0) ** 2) / samples) for u in left}
        best = min(found, key=lambda u: found[u])
        gone.append(best)
        errors.append(found[best])
    return gone, errors


def test_thinet_is_its_loops() -> None:
    model, coupling = cnn()
    values = contributions(model, DATA)
    order, errors = greedy(values, 150 * 30)
    found = score(model, coupling, "thinet", PLAIN)[coupling.groups[0].name]
    np.testing.assert_array_equal(np.argsort(found), order)
    assert_close(np.maximum.accumulate(np.diff(errors)), found[order])
    share = score(model, coupling, "thinet", Settings(data=DATA, samples=150))[coupling.groups[0].name]
    assert_close(found / (np.sum(values.sum(axis=0) ** 2) / (150 * 30)), share)


def test_errors_of_all_layers_that_read_a_unit_add_up() -> None:
    b = Build(4)
    y = b.op("Relu", b.op("Gemm", "x", b.weight("w1.weight", 7, 5), b.bias("w1.bias", 7), transB=1), out="r")
    left, right = b.op("MatMul", y, b.matrix("a", 7, 4)), b.op("MatMul", y, b.matrix("b", 7, 4))
    model, coupling = finish(b, b.op("Mul", left, right), "batch", 5)
    dataset = data(90, 5)
    x = tensor(model, dataset, "r").astype(np.float64)
    both = [(x.T[:, :, None] * model.weights[n].array()[:, None]).reshape(7, -1) for n in ("a", "b")]
    order, errors = greedy(np.concatenate(both, axis=1), 90)
    found = score(model, coupling, "thinet", Settings(data=dataset, normalise=False))["w1"]
    np.testing.assert_array_equal(np.argsort(found), order)
    assert_close(np.maximum.accumulate(np.diff(errors)), found[order])


def least_error(w: np.ndarray, h: np.ndarray, gone: np.ndarray) -> float:
    """The squared error of all rows (rows, n) without these columns, the others fitted."""
    v = np.zeros_like(w)
    keep = ~gone
    if keep.any():
        v[:, keep] = np.linalg.solve(h[np.ix_(keep, keep)], h[keep] @ w.T).T
    return float(np.einsum("rn,nm,rm->", v - w, h, v - w))


@settings(max_examples=15, derandomize=True, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 2))
def test_obspa_costs_add_up_to_the_error_of_least_squares(seed: int, groups: int) -> None:
    rng = np.random.default_rng(seed)
    owner = np.array([[0, 0, 1, 2, 2, 2, -1, 3], [3, 1, 0, 2, 2, -1, -1, 1]])[:groups]
    x = rng.normal(size=(groups, 60, 8)) @ rng.normal(size=(groups, 8, 8))
    h, w = x.swapaxes(1, 2) @ x / 60, rng.normal(size=(groups, 3, 8))
    part = units.Part(w, h, np.diagonal(h, axis1=1, axis2=2), owner, 2.0)
    order, costs = units.obspa([part], 4)

    def error(gone: list[int]) -> float:
        parts = zip(w, damped(h), owner, strict=True)
        return sum(least_error(a, b, np.isin(c, gone)) for a, b, c in parts) / 2.0

    assert sorted(order) == [0, 1, 2, 3]
    for k in range(5):
        assert costs[:k].sum() == pytest.approx(error(order[:k].tolist()), rel=1e-6, abs=1e-9)
        if k < 4:
            others = [error([*order[:k], u]) for u in order[k:]]
            assert others[0] <= min(others) * (1 + 1e-9)


def test_obspa_tells_a_copy_from_a_unit_of_its_own() -> None:
    """Units 1 and 4 always put out the same: one of them can go for next to nothing, the other cannot."""
    model, _ = mlp()
    editor = model.edit()
    for name in ("w1.weight", "w1.bias"):
        values = model.weights[name].array().copy()
        values[4] = values[1]
        editor.set_weight(name, values)
    twin = editor.build()
    dataset = data(200, 5)
    coupling = couple(twin)
    found = score(twin, coupling, "obspa", Settings(data=dataset))["w1"]
    first, second = sorted((found[1], found[4]))
    assert first < 0.01 * second


@pytest.mark.parametrize("name", NAMES)
def test_a_dead_unit_goes_first(name: str) -> None:
    model, coupling = cnn(dead=3)
    found = score(model, coupling, name, Settings(data=DATA))[coupling.groups[0].name]
    assert found.argmin() == 3
    assert found[3] == 0
    assert (np.delete(found, 3) > 0).all()


@settings(max_examples=6, derandomize=True, deadline=None)
@given(st.permutations(range(6)), st.sampled_from(NAMES))
def test_permuted_units_have_permuted_scores(order: list[int], name: str) -> None:
    (one, first), (other, second) = cnn(), cnn(order)
    expected = score(one, first, name, Settings(data=DATA))[first.groups[0].name][order]
    found = score(other, second, name, Settings(data=DATA))[second.groups[0].name]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "net", ["grouped_conv", "depth_multiplier", "unet", "lstm_bidirectional", "vit", "shufflenet_v2", "siamese"]
)
def test_all_kinds_of_groups_have_scores(net: str, name: str) -> None:
    model = from_proto(export(net))
    coupling = couple(model)
    found = score(model, coupling, name, Settings(data=data_for(model), samples=6))
    for group in coupling.groups:
        assert found[group.name].shape == (group.units,)
        assert (found[group.name] >= 0).all()
        assert len(set(found[group.name])) == group.units
    assert not found.warnings


@pytest.mark.parametrize("name", NAMES)
def test_layers_of_too_many_columns_have_the_diagonal(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gram, "LARGEST", 8 * 54**2)  # not that of the Gemm with 120 columns
    model, coupling = cnn()
    found = score(model, coupling, name, PLAIN)[coupling.groups[1].name]
    x, w = tensor(model, DATA, "flat").astype(np.float64), model.weights["w3.weight"].array().astype(np.float64)
    expected = (np.square(w).sum(axis=0) * np.mean(x**2, axis=0)).reshape(4, 30).sum(axis=1)
    assert_close(expected, found)


def test_several_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    model, coupling = mlp(12)
    dataset = data(100, 5)
    one = score(model, coupling, "obspa", Settings(data=dataset))["w1"]
    monkeypatch.setattr(units, "STEPS", 12 * (12 * 12 * 11 + 4 * 4 * 12) / 3)
    three = score(model, coupling, "obspa", Settings(data=dataset))["w1"]
    assert (one != three).any()
    np.testing.assert_array_equal(np.argsort(one)[0], np.argsort(three)[0])
    assert len(set(three)) == 12


def test_passes_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    model, coupling = cnn()
    whole = score(model, coupling, "thinet", PLAIN)
    seen: list[str] = []
    monkeypatch.setattr(gram, "TOGETHER", 1)
    noted = Settings(data=DATA, normalise=False, samples=150, progress=lambda *args: seen.append(args[0]))
    apart = score(model, coupling, "thinet", noted)
    for name in whole:
        assert_close(whole[name], apart[name])
    assert seen.count("scoring groups") == 2
    assert "running the model" in seen


def test_weights_that_are_not_finite_have_a_substitute() -> None:
    model, coupling = cnn()
    editor = model.edit()
    values = model.weights["w2.weight"].array().copy()
    values[0, 0, 0, 0] = np.nan
    editor.set_weight("w2.weight", values)
    found = score(editor.build(), coupling, "thinet", Settings(data=DATA))
    assert any("no layer that reads these groups can be measured" in w for w in found.warnings)
    assert all(np.isfinite(v).all() for v in found.values())


@pytest.mark.parametrize("name", NAMES)
def test_what_belongs_to_the_criterion(name: str) -> None:
    assert find(name).recover == "least-squares"
    assert find(name).weights is None
