"""Second moments batch by batch are those of all samples; least squares from them is least squares."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from onnxprune import gram
from onnxprune.coupling import couple
from onnxprune.data import open_dataset
from onnxprune.errors import UnsupportedModel
from onnxprune.gram import Gram, enough, fits, gram_bytes, grams, in_passes
from onnxprune.linear import LinearLayer, linear_layers
from onnxprune.model import load
from tests.criteria.measured import cnn, data, mlp, tensor
from tests.oracle import assert_close

DEMO = Path(__file__).parent.parent / "onnxprune" / "demo_data"
RNG = np.random.default_rng(0)


def layer(weight: str) -> LinearLayer:
    _, coupling = cnn()
    return next(x for x in linear_layers(coupling.graph) if x.weight == weight)


def test_sums_are_those_of_the_definition() -> None:
    """Every column of every position, one at a time."""
    conv = layer("w2.weight")
    x, y = RNG.normal(size=(3, 6, 4, 5)), RNG.normal(size=(3, 4, 4, 5))
    found = Gram(conv)
    found.add(x[:2], y[:2])
    found.add(x[2:], y[2:])
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    h, xy, yy, sums = np.zeros((54, 54)), np.zeros((54, 4)), np.zeros(4), np.zeros(54)
    for n, i, j in np.ndindex(3, 4, 5):
        column, row = padded[n, :, i : i + 3, j : j + 3].reshape(-1), y[n, :, i, j]
        h, xy, yy, sums = h + np.outer(column, column), xy + np.outer(column, row), yy + row**2, sums + column
    assert found.count == 60
    assert_close(h, found.h[0])
    assert_close(xy, found.xy[0])
    assert_close(yy, found.yy[0])
    assert_close(sums / 60, found.mean_x[0])
    assert_close(y.mean(axis=(0, 2, 3)), found.mean_y[0])
    assert_close(np.diag(h) / 60, found.second[0])


def test_pieces_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = RNG.normal(size=(9, 6, 4, 5)), RNG.normal(size=(9, 4, 4, 5))
    whole = Gram(layer("w2.weight"))
    whole.add(x, y)
    monkeypatch.setattr(gram, "PIECE", 1 << 12)
    pieces = Gram(layer("w2.weight"))
    pieces.add(x, y)
    assert pieces.count == whole.count == 180
    assert_close(whole.h, pieces.h)
    assert_close(whole.xy, pieces.xy)


def test_least_squares_with_a_bias_is_that_of_the_samples() -> None:
    fc = layer("w3.weight")
    x = RNG.normal(size=(500, 120)) + 1
    y = x @ RNG.normal(size=(120, 3)) + 5 + RNG.normal(size=(500, 3))
    found = Gram(fc)
    for part in np.split(np.arange(500), 5):
        found.add(x[part], y[part])
    h, xy = found.centred()
    direct = np.linalg.lstsq(np.column_stack([x, np.ones(500)]), y, rcond=None)[0]
    weights = np.linalg.solve(h[0], xy[0])
    assert_close(direct[:-1], weights)
    assert_close(direct[-1], found.mean_y[0] - found.mean_x[0] @ weights)


def test_some_positions_are_drawn_again_in_every_batch() -> None:
    conv = layer("w2.weight")
    x = RNG.normal(size=(40, 6, 8, 8))
    some, again = (Gram(conv, share=0.25, seed=3) for _ in range(2))
    every = Gram(conv)
    for part in np.split(np.arange(40), 10):
        for g in (some, again, every):
            g.add(x[part])
    assert some.count == 40 * 16
    np.testing.assert_array_equal(some.h, again.h)
    # the share of border positions is that of all, which one draw for all batches would not give so well
    assert_close(every.second, some.second, rtol=0.2)
    assert (some.second != every.second).any()


def test_grams_are_those_of_the_activations() -> None:
    model, coupling = cnn()
    dataset = data(250, 3, 6, 5)
    layers = linear_layers(coupling.graph)
    found = grams(model, dataset, layers, limit=250, outputs=[x.biased for x in layers])
    for x, g in zip(layers, found, strict=True):
        columns = x.columns(np.asarray(dataset.inputs["x"]) if x.input == "x" else tensor(model, dataset, x.input))
        rows = x.outputs(tensor(model, dataset, x.biased))
        assert g.count == columns.shape[1]
        assert_close(columns.swapaxes(1, 2) @ columns, g.h)
        assert_close(columns.swapaxes(1, 2) @ rows, g.xy)
    diagonal = grams(model, dataset, layers, limit=250, diagonal=True)
    for one, other in zip(found, diagonal, strict=True):
        assert_close(one.second, other.second)


def test_enough_samples_and_no_more() -> None:
    model = load(DEMO / "digits_cnn.onnx")
    layers = linear_layers(couple(model).graph)
    dataset = open_dataset(DEMO / "digits.npz", split="train")
    found = grams(model, dataset, layers)
    for x, g in zip(layers, found, strict=True):
        wanted = enough(g.h.shape[2])
        assert g.count >= min(wanted, len(dataset)), x.weight
        assert g.count <= 1.3 * max(wanted, gram.CHEAP), x.weight
    few = grams(model, dataset, layers, limit=20)
    assert few[-1].count == 20
    assert enough(100) == 2000
    assert enough(4000) < 20 * 4000
    assert enough(20000) == 4 * 20000


def test_layers_that_read_the_same_share_their_moments() -> None:
    model = load(DEMO.parent.parent / "examples" / "nets" / "residual.onnx")
    layers = {x.weight: x for x in linear_layers(couple(model).graph)}
    both = [layers["layer2.0.conv1.weight"], layers["layer2.0.downsample.0.weight"], layers["fc.weight"]]
    twice = [*both, both[0]]
    found = grams(model, open_dataset(DEMO / "digits.npz", split="train"), twice, limit=64)
    assert found[0] is found[3]
    assert len({id(g) for g in found}) == 3


def test_too_many_columns_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gram, "LARGEST", 54 * 54 * 8 - 1)
    conv = layer("w2.weight")
    assert gram_bytes(conv, (4, 6, 3, 3)) == 54 * 54 * 8
    assert not fits(conv, (4, 6, 3, 3))
    with pytest.raises(UnsupportedModel, match=r"second moments of `r1` \(54 columns\) would take .* GB"):
        Gram(conv).add(np.ones((1, 6, 4, 4)))
    diagonal = Gram(conv, diagonal=True)
    diagonal.add(np.ones((1, 6, 4, 4)))
    assert diagonal.h.shape == (1, 54)


def test_passes_hold_what_memory_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gram, "TOGETHER", 10)
    assert list(in_passes([4, 6, 1, 20, 3], lambda n: n)) == [[4, 6], [1], [20], [3]]
    assert list(in_passes([], lambda n: n)) == []


def test_what_is_not_finite_shows() -> None:
    model, coupling = mlp()
    (first, _) = linear_layers(coupling.graph)
    good, bad = Gram(first), Gram(first)
    good.add(np.ones((2, 5)))
    bad.add(np.array([[1, 2, 3, np.nan, 5.0]]))
    assert good.finite
    assert not bad.finite
    assert model.weights["w1.weight"].shape == (8, 5)
