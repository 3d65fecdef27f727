"""Feature maps are torch's activations, unit by unit."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from onnxprune.coupling import couple
from onnxprune.errors import OptionError
from onnxprune.explain import View, default_layer, feature_maps, find_layer, look_at
from onnxprune.model import from_proto
from tests.cli.conftest import mlp
from tests.explain.torch_side import activations, close, net
from tests.nets import NETS, export


@pytest.mark.parametrize(
    ("name", "layer", "path"),
    [("plain_cnn", "1.0", "1"), ("resnet_basic", "2.body.0.0", "2.body.0"), ("mlp", "0", "2"), ("conv1d", "4", "6")],
)
def test_filters_and_neurons(name: str, layer: str, path: str) -> None:
    module, view, feeds = net(name)
    found = feature_maps(view, feeds, find_layer(view, layer))
    close(found.values, activations(module, path, [torch.from_numpy(feeds["x"])]))


def test_chosen_instances_and_units() -> None:
    _, view, feeds = net("plain_cnn")
    layer = find_layer(view, "1.0")
    found, whole = feature_maps(view, feeds, layer, rows=[4, 1], units=[7, 0]), feature_maps(view, feeds, layer)
    assert (found.rows, found.units.tolist()) == ((4, 1), [7, 0])
    np.testing.assert_allclose(found.values, whole.values[[4, 1]][:, [7, 0]], rtol=1e-5, atol=1e-6)


def test_cells_over_time_in_both_directions() -> None:
    module, view, feeds = net("lstm_bidirectional")
    names = [group.name for group in view.coupling.groups if group.kind == "cells"]
    found = feature_maps(view, feeds, find_layer(view, names[-1]))
    embedded = activations(module, "embed", [torch.from_numpy(feeds["ids"])])
    there_and_back = activations(module.lstm, "", [embedded]).transpose(1, 2)
    order = np.arange(20).reshape(2, 10).T.reshape(-1)  # unit 0 of both directions, then unit 1
    close(found.values, there_and_back[:, order])


def test_one_direction_has_no_axis_for_it() -> None:
    module, view, feeds = net("gru_stacked")
    names = [group.name for group in view.coupling.groups if group.kind == "cells"]
    found = feature_maps(view, feeds, find_layer(view, names[-1]))
    close(found.values, activations(module, "gru", [torch.from_numpy(feeds["x"])]).transpose(1, 2))


def test_heads_show_their_attention() -> None:
    _, view, feeds = net("encoder_prenorm")
    group = next(group for group in view.coupling.groups if group.kind == "heads")
    found = feature_maps(view, feeds, find_layer(view, group.name))
    assert found.values.shape == (5, 4, 9, 9)
    np.testing.assert_allclose(found.values.sum(-1), 1, rtol=1e-5)
    assert found.values.std() > 0


def test_a_unit_of_several_positions_is_their_mean() -> None:
    _, view, _ = net("encoder_prenorm")
    group = next(group for group in view.coupling.groups if group.kind == "heads")
    layer = find_layer(view, group.name)
    assert (layer.units, layer.index.size) == (4, 24)
    values = np.random.default_rng(0).standard_normal((5, 9, 24))
    expected = np.stack([values[..., layer.index[layer.unit == u]].mean(-1) for u in range(4)], 1)
    np.testing.assert_allclose(layer.per_unit(values, 5), expected, rtol=1e-12)


def test_statistics() -> None:
    _, view, feeds = net("plain_cnn")
    found = feature_maps(view, feeds, find_layer(view, "1.0"))
    rows = found.values[:, 3].astype(np.float64)
    stats = found.statistics
    expected = (rows.mean(), rows.std(), rows.min(), rows.max(), (rows > 0).mean())
    got = (stats.mean[3], stats.deviation[3], stats.smallest[3], stats.largest[3], stats.active[3])
    np.testing.assert_allclose(got, expected, rtol=1e-12)
    assert 0 < stats.active[3] < 1


def test_more_instances_than_fit_into_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    _, view, feeds = net("plain_cnn")
    layer = find_layer(view, "1.0")
    whole = feature_maps(view, feeds, layer).values
    monkeypatch.setattr("onnxprune.explain.maps.SIZE", 2)
    np.testing.assert_allclose(feature_maps(view, feeds, layer).values, whole, rtol=1e-5, atol=1e-6)


@pytest.fixture
def small() -> View:
    model = from_proto(mlp())
    return look_at(model, couple(model))


class TestLayers:
    def test_group_node_and_tensor(self, small: View) -> None:
        assert find_layer(small, "dense1").tensor == "b"  # behind the activation function
        assert find_layer(small, "relu").tensor == "b"
        assert find_layer(small, "a").tensor == "a"
        assert find_layer(small, "a").group == "dense1"
        assert find_layer(small, "y").units == 4
        assert find_layer(small, "x").units == 6

    def test_default_is_the_last_one_with_a_picture(self) -> None:
        for name, layer in (("plain_cnn", "2.0"), ("mlp", "3"), ("conv1d", "8")):
            _, view, _ = net(name)
            assert default_layer(view).name == layer

    def test_in_front_of_pooling(self) -> None:
        _, view, _ = net("plain_cnn")
        layer = find_layer(view, "2.0")
        assert view.graph.shapes[layer.tensor][2:] == (8, 8)

    def test_an_initial_state_is_not_what_a_recurrence_puts_out(self) -> None:
        """It has as many cells, and its size follows from the input's, but no value of it does."""
        model = from_proto(export("rnn_tanh", "dynamo"))
        view = look_at(model, couple(model))
        layer = find_layer(view, "rnn")
        assert layer.tensor not in {"zeros", "getitem", "unsqueeze"}
        found = feature_maps(view, NETS["rnn_tanh"].feeds(0), layer)
        assert (found.statistics.deviation > 0).all()

    def test_unknown(self, small: View) -> None:
        with pytest.raises(OptionError, match=r"no layer `dense3`(.|\n)*Did you mean dense2, dense1"):
            find_layer(small, "dense3")

    def test_unit_that_is_not_there(self, small: View) -> None:
        with pytest.raises(OptionError, match=r"unit 12 is asked for; it has 12 neurons, 0 to 11"):
            find_layer(small, "dense1").choose([0, 12])
        with pytest.raises(OptionError, match="no unit"):
            find_layer(small, "dense1").choose([])

    def test_instance_that_is_not_there(self, small: View) -> None:
        feeds = {"x": np.zeros((3, 6), np.float32)}
        for row in (3, -1):
            with pytest.raises(OptionError, match=rf"no instance {row}; it holds 3, 0 to 2"):
                feature_maps(small, feeds, find_layer(small, "dense1"), rows=[row])
