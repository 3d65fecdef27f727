"""Scores of weights by gradients, and by gradients of gradients, against torch autograd; what they make of units."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from onnxprune.coupling import couple
from onnxprune.criteria import Settings, gradient_flow, score, score_weights
from onnxprune.data import Dataset
from onnxprune.errors import UnsupportedModel
from onnxprune.model import Model, from_proto
from onnxprune.values import Coupling
from tests.criteria.gradients_torch import cnn, contributions_by_hooks, dataset, exported, mlp, residual, saliencies
from tests.nets import NETS as CATALOGUE
from tests.nets import export

IMAGE = (3, 8, 8)
NETS = {"cnn": (cnn, IMAGE), "residual": (residual, IMAGE), "mlp": (mlp, (6,))}
NAMES = ("taylor", "snip", "grasp", "crop", "fisher")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("net", NETS)
def test_weights_are_those_of_torch(net: str, name: str) -> None:
    make, shape = NETS[net]
    module = make()
    model, coupling = exported(module, *shape)
    data = dataset(*shape)
    found = score_weights(model, coupling, name, Settings(data=data))
    assert not found.warnings
    expected = saliencies(module, data)[name]
    assert set(found) == set(expected)
    top = max(np.abs(values).max() for values in expected.values())
    for weight, values in expected.items():
        assert np.abs(values - found[weight]).max() <= 2e-5 * max(np.abs(values).max(), 1e-3 * top), weight


@pytest.mark.parametrize("name", ["snip", "grasp", "crop", "fisher"])
def test_batches_change_nothing(name: str) -> None:
    model, coupling = exported(cnn(), *IMAGE)
    whole, parts = (score_weights(model, coupling, name, Settings(data=dataset(*IMAGE), batch=b)) for b in (64, 3))
    for weight in whole:
        np.testing.assert_allclose(whole[weight], parts[weight], rtol=1e-4, atol=1e-5 * np.abs(whole[weight]).max())


def test_taylor_is_the_mean_over_mini_batches() -> None:
    module = mlp()
    model, coupling = exported(module, 6)
    data = dataset(6)
    parts = [saliencies(module, data.select(rows))["taylor"] for rows in ([0, 1, 2, 3], [4, 5, 6, 7], [8, 9])]
    found = score_weights(model, coupling, "taylor", Settings(data=data, batch=4))
    for weight in found:
        expected = np.mean([part[weight] for part in parts], axis=0)
        np.testing.assert_allclose(found[weight], expected, rtol=1e-4, atol=1e-6 * expected.max())


def test_fixed_batches_take_one_example_at_a_time() -> None:
    module = mlp()
    model, coupling = exported(module, 6, batch=4)
    data = dataset(6)
    found = score_weights(model, coupling, "fisher", Settings(data=data))
    for weight, expected in saliencies(module, data)["fisher"].items():
        assert np.abs(expected - found[weight]).max() <= 2e-5 * expected.max()


@pytest.mark.parametrize("name", ["taylor", "snip", "grasp", "crop"])
def test_units_are_sums_over_their_parameters(name: str) -> None:
    model, coupling = exported(mlp(), 6)
    settings = Settings(data=dataset(6), sides="producing")
    units = score(model, coupling, name, settings)
    single = score_weights(model, coupling, "grasp" if name == "crop" else name, settings)
    for layer, group in zip(("0", "2"), coupling.groups, strict=True):
        expected = single[f"{layer}.weight"].sum(axis=1) + single[f"{layer}.bias"]
        expected = np.abs(expected) if name == "crop" else expected
        np.testing.assert_allclose(units[group.name], expected, rtol=1e-5)


def test_gates_by_hooks() -> None:
    module = mlp()
    model, coupling = exported(module, 6)
    data = dataset(6)
    each = contributions_by_hooks(module, [module[1], module[3]], data)
    gate, fisher = (score(model, coupling, name, Settings(data=data)) for name in ("taylor-gate", "fisher"))
    for values, group in zip(each, coupling.groups, strict=True):
        np.testing.assert_allclose(gate[group.name], values.mean(axis=0) ** 2, rtol=1e-4)
        np.testing.assert_allclose(fisher[group.name], (values**2).mean(axis=0) / 2, rtol=1e-4)


def test_the_gate_is_the_sum_over_the_weights_that_read_the_unit() -> None:
    module = mlp()
    model, coupling = exported(module, 6)
    data = dataset(6)
    gate = score(model, coupling, "taylor-gate", Settings(data=data))[coupling.groups[0].name]
    with torch.enable_grad():
        module = module.double()
        x, y = (torch.from_numpy(np.asarray(a[:])) for a in (data.inputs["x"], data.labels))
        torch.nn.functional.cross_entropy(module(x.double()), y).backward()
    reading = module[2].weight
    assert reading.grad is not None
    products = (reading * reading.grad).sum(0) ** 2
    np.testing.assert_allclose(gate, products.numpy(force=True), rtol=1e-4)


class TestCentralDifferences:
    """What takes the place of gradients of gradients where an operator has no rule for them."""

    def cannot(self, *_: object) -> None:
        raise UnsupportedModel("Foo node 'foo' has no gradient rule, and more", "nothing")

    def test_they_agree_to_three_digits(self, monkeypatch: pytest.MonkeyPatch) -> None:
        model, coupling = exported(cnn(), *IMAGE)
        settings = Settings(data=dataset(*IMAGE))
        exact = score_weights(model, coupling, "grasp", settings)
        monkeypatch.setattr(gradient_flow, "_differentiated_again", self.cannot)
        found = score_weights(model, coupling, "grasp", settings)
        assert found.warnings[0].startswith("H g is a central difference of gradients, good to about three digits: Foo")
        top = max(np.abs(exact[weight]).max() for weight in exact)
        assert all(np.abs(exact[weight] - found[weight]).max() <= 5e-3 * top for weight in exact)

    def test_shared_vectors_move_apart(self, monkeypatch: pytest.MonkeyPatch) -> None:
        model, coupling = shared_biases()
        settings = Settings(data=dataset(6))
        exact = score_weights(model, coupling, "grasp", settings)
        monkeypatch.setattr(gradient_flow, "_differentiated_again", self.cannot)
        found = score_weights(model, coupling, "grasp", settings)
        top = max(np.abs(exact[weight]).max() for weight in exact)
        assert all(np.abs(exact[weight] - found[weight]).max() <= 5e-3 * top for weight in exact)


def shared_biases() -> tuple[Model, Coupling]:
    """Two layers of one width with equal biases, stored once as exporters do."""
    module = torch.nn.Sequential(
        torch.nn.Linear(6, 8), torch.nn.Tanh(), torch.nn.Linear(8, 8), torch.nn.Tanh(), torch.nn.Linear(8, 4)
    )
    model, _ = exported(module, 6)
    editor = model.edit()
    editor.set_weight("0.bias", np.full(8, 0.3, np.float32))
    for node in editor.proto.graph.node:
        node.input[:] = ["0.bias" if name == "2.bias" else name for name in node.input]
    editor.weights.pop("2.bias")
    shared = editor.build()
    return shared, couple(shared)


def test_shared_vectors_have_a_gradient_for_each_layer() -> None:
    model, coupling = shared_biases()
    module = torch.nn.Sequential(
        torch.nn.Linear(6, 8), torch.nn.Tanh(), torch.nn.Linear(8, 8), torch.nn.Tanh(), torch.nn.Linear(8, 4)
    )
    exported(module, 6)
    with torch.no_grad():
        for layer in (0, 2):
            module[layer].bias.fill_(0.3)
    data = dataset(6)
    expected = saliencies(module, data)
    for name in ("snip", "grasp"):
        found = score_weights(model, coupling, name, Settings(data=data))
        biases = [found[weight] for weight in found if weight.startswith("0.bias")]
        assert len(biases) == 2
        for layer, values in zip((0, 2), biases, strict=True):
            np.testing.assert_allclose(values, expected[name][f"{layer}.bias"], rtol=1e-3, atol=1e-6)


def test_graphs_that_the_optimizer_of_onnxruntime_breaks(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = CATALOGUE["alexnet_lrn"]
    model = from_proto(export("alexnet_lrn"))
    coupling = couple(model)
    rng = np.random.default_rng(0)
    settings = Settings(data=Dataset({i.name: i.sample({"batch": 4, **spec.sizes}, rng) for i in spec.inputs}))
    exact = score_weights(model, coupling, "grasp", settings)
    assert not any("central difference" in warning for warning in exact.warnings)
    monkeypatch.setattr(gradient_flow, "_differentiated_again", TestCentralDifferences().cannot)
    found = score_weights(model, coupling, "grasp", settings)
    top = max(np.abs(exact[weight]).max() for weight in exact)
    assert all(np.abs(exact[weight] - found[weight]).max() <= 1e-3 * top for weight in exact)
