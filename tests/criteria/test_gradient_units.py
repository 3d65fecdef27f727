"""Contributions of units: against torch hooks, example by example, and against small changes of what reads them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from onnxprune.coupling import couple
from onnxprune.criteria import Settings, score
from onnxprune.criteria.gradient_gates import gated
from onnxprune.criteria.gradient_goal import OutputNorm
from onnxprune.criteria.gradient_runs import of_units
from onnxprune.data import Dataset
from onnxprune.model import Model, from_proto
from onnxprune.values import Coupling, Group
from tests.criteria.gradients_torch import cnn, contributions_by_hooks, dataset, exported, mlp, residual
from tests.doubles import Runner, double, double_feeds
from tests.nets import NETS as CATALOGUE
from tests.nets import export

Array = NDArray[np.float64]

IMAGE = (3, 8, 8)
RTOL = 1e-5


def contributions(model: Model, coupling: Coupling, settings: Settings) -> dict[str, Array]:
    """Group -> (examples, units)."""
    ran = of_units(model, coupling, settings, lambda _, values: values)
    parts: dict[str, list[Array]] = {}
    for count, found in ran.run(settings):
        for name, values in found.items():
            parts.setdefault(name, []).append(values[:count])
            assert not values[count:].any()
    return {name: np.concatenate(each) for name, each in parts.items()}


def assert_near(expected: Array, got: Array, rtol: float = RTOL) -> None:
    assert np.abs(np.asarray(expected) - np.asarray(got)).max() <= rtol * np.abs(expected).max()


@pytest.mark.parametrize("batch", [1, 4, 64])
def test_channels_and_neurons_are_those_of_torch_hooks(batch: int) -> None:
    module = cnn()
    model, coupling = exported(module, *IMAGE)
    data = dataset(*IMAGE)
    expected = contributions_by_hooks(module, [module[2], module[6], module[10]], data)
    # the second convolution is read behind Flatten, where pooling has left one position
    found = contributions(model, coupling, Settings(data=data, batch=batch))
    assert len(found) == 3
    for values, got in zip(expected, found.values(), strict=True):
        assert_near(values, got)
    scores = score(model, coupling, "sensitivity", Settings(data=data, batch=batch, normalise="none"))
    for values, got in zip(expected, scores.values(), strict=True):
        assert_near(np.abs(values).mean(axis=0), got)


def test_a_fixed_batch_counts_no_filled_rows() -> None:
    module = cnn()
    model, coupling = exported(module, *IMAGE, batch=4)
    data = dataset(*IMAGE)  # 10 samples: two rows of the last batch are fill
    expected = contributions_by_hooks(module, [module[2]], data)[0]
    found = contributions(model, coupling, Settings(data=data))
    assert_near(expected, next(iter(found.values())))


def test_norms_over_the_layer_and_over_the_model() -> None:
    model, coupling = exported(mlp(), 6)
    data = dataset(6)
    plain, layer, default, whole = (
        score(model, coupling, "sensitivity", Settings(data=data, normalise=how))
        for how in (False, "layer", True, "model")
    )
    norm = np.sqrt(sum((values**2).sum() for values in plain.values()))
    for name, values in plain.items():
        np.testing.assert_allclose(layer[name], values / np.linalg.norm(values), rtol=1e-12)
        np.testing.assert_array_equal(layer[name], default[name])
        np.testing.assert_allclose(whole[name], values / norm, rtol=1e-12)


def test_other_criteria_can_be_normalised_as_well() -> None:
    model, coupling = exported(mlp(), 6)
    for name, values in score(model, coupling, "l1", Settings(normalise="layer")).items():
        np.testing.assert_allclose(np.linalg.norm(values), 1)
        plain = score(model, coupling, "l1")[name]
        np.testing.assert_allclose(values * np.linalg.norm(plain), plain)


NETS = {
    "residual": (residual, IMAGE),
    "cnn": (cnn, IMAGE),
    "mlp": (mlp, (6,)),
}


@pytest.mark.parametrize("name", NETS)
def test_small_changes_of_torch_nets(name: str) -> None:
    make, shape = NETS[name]
    model, coupling = exported(make(), *shape)
    check_small_changes(model, coupling, dataset(*shape))


@pytest.mark.parametrize("name", ["encoder_prenorm", "vit", "conv_lstm"])
def test_heads_and_cells(name: str) -> None:
    spec = CATALOGUE[name]
    model = from_proto(export(name))
    coupling = couple(model)
    rng = np.random.default_rng(0)
    feeds = {i.name: i.sample({"batch": 6, **spec.sizes}, rng) for i in spec.inputs}
    check_small_changes(model, coupling, Dataset(feeds))


def check_small_changes(model: Model, coupling: Coupling, data: Dataset) -> None:
    """What a unit contributes is how half the squared norm of each output changes with the weights that read it.

    Central differences in float64; what a recurrent layer reads of itself is left as it is.
    """
    settings = Settings(data=Dataset(data.inputs))
    found = contributions(model, coupling, settings)
    assert set(found) == {group.name for group in coupling.groups}
    wide = double(model)
    inputs = double_feeds({name: np.asarray(rows[:]) for name, rows in data.inputs.items()})
    step = 1e-5
    for group in coupling.groups:
        for unit in range(min(group.units, 3)):
            ends = []
            for sign in (1, -1):
                outputs = Runner(scaled_readers(wide, coupling, group, unit, 1 + sign * step))(inputs)
                size = len(next(iter(inputs.values())))
                ends.append(sum((y.reshape(size, -1) ** 2).sum(axis=1) / 2 for y in outputs.values()))
            slope = (ends[0] - ends[1]) / (2 * step)
            scale = max(np.abs(found[group.name]).max(), 1e-6)
            assert np.abs(slope - found[group.name][:, unit]).max() <= 2e-5 * scale, (group.name, unit)


def scaled_readers(model: Model, coupling: Coupling, group: Group, unit: int, factor: float) -> Model:
    """The model with the weights that read a unit multiplied by a factor."""
    editor = model.edit()
    graph = coupling.graph
    for member in group.weights:
        home = graph.origin.get(member.tensor, member.tensor)
        own = any(node.op in ("LSTM", "GRU", "RNN") and node.input(2) == member.tensor for node in graph.nodes)
        if not member.consumes or own:
            continue
        values = np.array(editor.weights[home].array())
        np.moveaxis(values, member.axis, 0)[member.index[member.unit == unit]] *= factor
        editor.set_weight(home, values)
    return editor.build()


def test_what_reads_a_stream_elsewhere_is_left_out() -> None:
    model, coupling = exported(residual(), *IMAGE)
    found = gated(model, coupling)
    (stream,) = (gates for gates in found.gates.values() if len(gates) > 1)
    assert len(model.proto.graph.node) < len(found.model.proto.graph.node)
    tensors = [name for gate in stream for name in gate.tensors]
    assert len(set(tensors)) == len(tensors) == 3
    assert model.hash == coupling.model_hash  # the model itself is as it was


def test_without_labels_the_outputs_are_what_counts() -> None:
    model, coupling = exported(mlp(), 6)
    data = replace(dataset(6), labels=None)
    scores = score(model, coupling, "sensitivity", Settings(data=data))
    assert scores.warnings == OutputNorm().warnings
    assert all((values > 0).all() for values in scores.values())


def test_the_same_seed_gives_the_same_numbers() -> None:
    model, coupling = exported(cnn(), *IMAGE)
    first, again, other = (
        score(model, coupling, "sensitivity", Settings(data=dataset(*IMAGE), samples=6, seed=seed, threads=1))
        for seed in (1, 1, 2)
    )
    for name in first:
        np.testing.assert_array_equal(first[name], again[name])
    assert any((first[name] != other[name]).any() for name in first)
