"""Attributions against torch: autograd, and guided back-propagation by hooks on its ReLUs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from onnxprune.coupling import couple
from onnxprune.data import Dataset
from onnxprune.errors import OptionError, UnsupportedModel
from onnxprune.explain import (
    Layer,
    View,
    attribute,
    class_layer,
    find_layer,
    look_at,
    suggest_method,
)
from onnxprune.model import from_proto
from tests.cli.conftest import mlp, model_of, weight
from tests.explain.torch_side import close, gradients, net

ROOT = Path(__file__).parents[2]
CNNS = [("plain_cnn", "2.0", "2"), ("resnet_basic", "3.body.0.0", "3.body.0")]


def view_of(proto: onnx.ModelProto) -> View:
    model = from_proto(proto)
    return look_at(model, couple(model))


@pytest.mark.parametrize("at", ["max", "sum"])
@pytest.mark.parametrize(("name", "layer", "path"), CNNS)
class TestFilters:
    def test_guided(self, name: str, layer: str, path: str, at: str) -> None:
        module, view, feeds = net(name)
        x = [torch.from_numpy(feeds["x"])]
        found = attribute(view, feeds, find_layer(view, layer), method="guided", units=[0, 3, 5], at=at)
        for k, unit in enumerate((0, 3, 5)):
            close(found.values["x"][:, k], gradients(module, path, x, (1, unit), at=at, guided=True))
        plain = gradients(module, path, x, (1, 3), at=at)
        assert np.abs(found.values["x"][:, 1] - plain.numpy()).max() > 0.1 * plain.abs().max()

    def test_plain_and_times_input(self, name: str, layer: str, path: str, at: str) -> None:
        module, view, feeds = net(name)
        x = [torch.from_numpy(feeds["x"])]
        chosen = find_layer(view, layer)
        expected = gradients(module, path, x, (1, 2), at=at)
        plain = attribute(view, feeds, chosen, method="gradient", units=[2], at=at)
        close(plain.values["x"][:, 0], expected)
        times = attribute(view, feeds, chosen, method="gradient-x-input", units=[2], at=at)
        close(times.values["x"][:, 0], expected * x[0])


class TestOtherNets:
    def test_a_table(self) -> None:
        module, view, feeds = net("mlp")
        found = attribute(view, feeds, find_layer(view, "3"), units=[4])
        close(found.values["x"][:, 0], gradients(module, "4", [torch.from_numpy(feeds["x"])], (1, 4), at="sum"))

    def test_a_sequence(self) -> None:
        module, view, feeds = net("gru_stacked")
        x = [torch.from_numpy(feeds["x"])]
        found = attribute(view, feeds, class_layer(view), units=[1])
        close(found.values["x"][:, 0], gradients(module, "", x, (1, 1), at="sum"))

    def test_cells(self) -> None:
        module, view, feeds = net("gru_stacked")
        names = [group.name for group in view.coupling.groups if group.kind == "cells"]
        x = [torch.from_numpy(feeds["x"])]
        found = attribute(view, feeds, find_layer(view, names[-1]), units=[3], at="sum")
        close(found.values["x"][:, 0], gradients(module, "gru", x, (2, 3), at="sum"))

    @pytest.mark.parametrize(("name", "by"), [("encoder_prenorm", "tokens"), ("lstm_bidirectional", "embed")])
    def test_tokens(self, name: str, by: str) -> None:
        module, view, feeds = net(name)
        ids = [torch.from_numpy(feeds["ids"])]
        expected = gradients(module, "", ids, (1, 2), at="sum", by=by)
        times = attribute(view, feeds, class_layer(view), method="gradient-x-input", units=[2])
        assert times.kinds == {"ids": "tokens"}
        close(times.values["ids"][:, 0], (expected * module.get_submodule(by)(ids[0])).sum(-1))
        plain = attribute(view, feeds, class_layer(view), method="gradient", units=[2])
        close(plain.values["ids"][:, 0], expected.norm(dim=-1))

    def test_a_head(self) -> None:
        _, view, feeds = net("encoder_prenorm")
        group = next(group for group in view.coupling.groups if group.kind == "heads")
        found = attribute(view, feeds, find_layer(view, group.name), method="gradient-x-input")
        assert found.values["ids"].shape == (5, 4, 9)
        assert (np.abs(found.values["ids"]).max((0, 2)) > 0).all()

    def test_both_directions_of_a_recurrence(self) -> None:
        """Cells of the way back see the future alone, those of the way there the past."""
        _, view, feeds = net("lstm_bidirectional")
        group = next(group for group in view.coupling.groups if group.kind == "cells")
        layer = find_layer(view, group.name)
        assert layer.along is not None
        masks = layer.masks([9, 2, 5, 10])
        assert masks.shape == (20, 1, 2, 1, 10)
        assert (masks.reshape(20, -1).sum(1) == 1).all()
        assert (masks.sum(0) == 1).all()
        found = attribute(view, feeds, layer, method="gradient", at="sum")
        assert found.values["ids"].shape == (5, 20, 9)

    def test_keras(self) -> None:
        """NHWC pictures: the gradient has their layout, and is that of central differences."""
        model = from_proto(onnx.load(ROOT / "examples" / "keras_digits.onnx"))
        view = look_at(model, couple(model))
        x = np.random.default_rng(0).random((2, 8, 8, 1)).astype(np.float32)
        layer = class_layer(view)
        found = attribute(view, {"image": x}, layer, units=[3], method="gradient")
        assert found.values["image"].shape == (2, 1, 8, 8, 1)
        step = np.float32(1e-3)
        for place in ((0, 3, 4, 0), (1, 5, 2, 0)):
            up, down = x.copy(), x.copy()
            up[place] += step
            down[place] -= step
            scores = [attribute(view, {"image": p}, layer, units=[3]).scores[place[0], 0] for p in (up, down)]
            expected = (scores[0] - scores[1]) / (2 * step)
            assert (
                abs(found.values["image"][place[0], 0][place[1:]] - expected)
                < 0.02 * np.abs(found.values["image"]).max()
            )


class TestIntegrated:
    @pytest.mark.parametrize("name", ["mlp", "gru_stacked", "encoder_prenorm"])
    def test_complete(self, name: str) -> None:
        """Contributions add up to what the score has gained over the baseline; the error falls with the steps."""
        _, view, feeds = net(name)
        layer = class_layer(view)
        found = attribute(view, feeds, layer, method="integrated", units=[0, 1], steps=64)
        few = attribute(view, feeds, layer, method="integrated", units=[0, 1], steps=4)
        assert found.missing is not None
        assert few.missing is not None
        key = next(iter(found.values))
        total = found.values[key].reshape(5, 2, -1).sum(-1) + found.missing
        baseline = attribute(view, feeds, layer, method="gradient", units=[0, 1])
        np.testing.assert_allclose(found.scores, baseline.scores, rtol=1e-5, atol=1e-6)
        assert np.abs(found.missing).max() < 0.02 * np.abs(total).max()
        assert np.abs(found.missing).max() < np.abs(few.missing).max()

    def test_a_linear_model_is_gradient_times_input(self) -> None:
        node = helper.make_node("MatMul", ["x", "w"], ["y"], name="dense")
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 6])
        y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])
        view = view_of(model_of(helper.make_graph([node], "line", [x], [y], [weight("w", 6, 4)])))
        feeds = {"x": np.random.default_rng(0).standard_normal((3, 6)).astype(np.float32)}
        one = attribute(view, feeds, class_layer(view), method="integrated", steps=1)
        other = attribute(view, feeds, class_layer(view), method="gradient-x-input")
        np.testing.assert_allclose(one.values["x"], other.values["x"], rtol=1e-6)
        moved = attribute(view, feeds, class_layer(view), method="integrated", baseline={"x": feeds["x"][:1]})
        assert np.abs(moved.values["x"][0]).max() == 0
        np.testing.assert_allclose(moved.missing, 0, atol=1e-5)


class TestPairs:
    def test_batches_equal_single_runs(self, monkeypatch: pytest.MonkeyPatch) -> None:
        _, view, feeds = net("mlp")
        layer = find_layer(view, "0")
        whole = attribute(view, feeds, layer)
        monkeypatch.setattr("onnxprune.explain.gradients.MOST", 7)
        parts = attribute(view, feeds, layer)
        np.testing.assert_allclose(parts.values["x"], whole.values["x"], rtol=1e-6, atol=1e-7)
        one = attribute(view, feeds, layer, rows=[3], units=[5])
        np.testing.assert_allclose(one.values["x"][0, 0], whole.values["x"][3, 5], rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(one.scores[0, 0], whole.scores[3, 5], rtol=1e-6)

    def test_a_fixed_batch(self) -> None:
        proto = mlp()
        free = view_of(proto)
        proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4
        proto.graph.output[0].type.tensor_type.shape.dim[0].dim_value = 4
        fixed = view_of(proto)
        feeds = {"x": np.random.default_rng(0).standard_normal((3, 6)).astype(np.float32)}
        for method in ("guided", "integrated"):
            a, b = (attribute(v, feeds, find_layer(v, "dense1"), method=method) for v in (free, fixed))
            np.testing.assert_allclose(a.values["x"], b.values["x"], rtol=1e-5, atol=1e-6)
        chosen = [attribute(v, feeds, class_layer(v), units="predicted").units for v in (free, fixed)]
        np.testing.assert_array_equal(*chosen)

    def test_the_first_of_equal_maxima_is_taken(self) -> None:
        """A filter of zeros has the same value everywhere: one position is differentiated, not all."""
        nodes = [helper.make_node("Mul", ["x", "one"], ["y"], name="scale")]
        x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", 2, 3, 3]) for n in "xy")
        one = onnx.numpy_helper.from_array(np.ones((1, 2, 1, 1), np.float32), "one")
        view = view_of(model_of(helper.make_graph(nodes, "same", [x], [y], [one])))
        found = attribute(view, {"x": np.zeros((1, 2, 3, 3), np.float32)}, find_layer(view, "y"))
        expected = np.zeros((2, 2, 3, 3))
        expected[0, 0, 0, 0] = expected[1, 1, 0, 0] = 1
        np.testing.assert_array_equal(found.values["x"][0], expected)


class TestClasses:
    def test_predicted_and_label(self) -> None:
        module, view, feeds = net("mlp")
        x = torch.from_numpy(feeds["x"])
        best = module(x).argmax(1)
        found = attribute(view, feeds, class_layer(view), units="predicted")
        assert found.units[:, 0].tolist() == best.tolist()
        for row in range(5):
            expected = gradients(module, "", [x], (1, int(best[row])), at="sum")[row]
            close(found.values["x"][row, 0], expected)
        data = Dataset({"x": feeds["x"]}, np.array([3, 1, 0, 2, 2]))
        assert attribute(view, data, class_layer(view), units="label").units[:, 0].tolist() == [3, 1, 0, 2, 2]
        with pytest.raises(OptionError, match="have no labels"):
            attribute(view, feeds, class_layer(view), units="label")

    def test_scores_are_those_in_front_of_the_softmax(self) -> None:
        proto = mlp()
        proto.graph.node.append(helper.make_node("Softmax", ["y"], ["p"], name="softmax"))
        proto.graph.output[0].name = "p"
        view = view_of(proto)
        assert class_layer(view).tensor == "y"
        assert class_layer(view, "p").name == "p"
        with pytest.raises(OptionError, match="no output `q`"):
            class_layer(view, "q")


class TestHistogram:
    def test_every_value_is_counted_once(self) -> None:
        _, view, feeds = net("mlp")
        found = attribute(view, feeds, find_layer(view, "0"), units=[1, 2])
        histogram = found.histogram(bins=10)
        assert histogram.counts.shape == (2, 10)
        assert histogram.counts.sum(1).tolist() == [45, 45]
        low, high = histogram.edges[0], histogram.edges[-1]
        assert (low, high) == (found.values["x"].min(), found.values["x"].max())


class TestSuggested:
    @pytest.mark.parametrize(
        ("name", "method"),
        [
            ("plain_cnn", "guided"),
            ("mlp", "gradient-x-input"),
            ("vit", "gradient-x-input"),
            ("conv1d", "gradient-x-input"),
        ],
    )
    def test_guided_for_pictures_and_rectifiers(self, name: str, method: str) -> None:
        _, view, _ = net(name)
        assert suggest_method(view, class_layer(view)) == method


def _with(node: onnx.NodeProto, *more: onnx.NodeProto, dtype: int = TensorProto.FLOAT) -> View:
    x = helper.make_tensor_value_info("x", dtype, ["n", 6])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 6])
    return view_of(model_of(helper.make_graph([node, *more], "odd", [x], [y], [weight("w", 6, 6)])))


FEEDS = {"x": np.ones((2, 6), np.float32)}


class TestBadInput:
    def layer(self, view: View) -> Layer:
        return find_layer(view, "y")

    def test_no_gradient_reaches(self) -> None:
        view = _with(helper.make_node("Floor", ["x"], ["a"]), helper.make_node("MatMul", ["a", "w"], ["y"]))
        with pytest.raises(OptionError, match=r"no gradient goes from layer y(.|\n)*feature-maps"):
            attribute(view, FEEDS, self.layer(view))

    def test_an_operator_without_a_rule(self) -> None:
        lost = helper.make_node("Strange", ["x"], ["a"], name="odd one", domain="com.example")
        proto = model_of(
            helper.make_graph(
                [lost, helper.make_node("MatMul", ["a", "w"], ["y"])],
                "odd",
                [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 6])],
                [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 6])],
                [weight("w", 6, 6)],
                value_info=[helper.make_tensor_value_info("a", TensorProto.FLOAT, ["n", 6])],
            )
        )
        proto.opset_import.append(helper.make_opsetid("com.example", 1))
        view = view_of(proto)
        with pytest.raises(UnsupportedModel, match=r"Strange node 'odd one' has no gradient rule(.|\n)*feature-maps"):
            attribute(view, FEEDS, self.layer(view))

    def test_an_input_that_is_only_cast(self) -> None:
        cast = helper.make_node("Cast", ["x"], ["a"], to=TensorProto.FLOAT)
        view = _with(cast, helper.make_node("MatMul", ["a", "w"], ["y"]), dtype=TensorProto.UINT8)
        found = attribute(view, {"x": np.ones((2, 6), np.uint8)}, self.layer(view), units=[1])
        assert found.kinds == {"x": "cast"}
        w = onnx.numpy_helper.to_array(weight("w", 6, 6))
        np.testing.assert_allclose(found.values["x"][0, 0], w[:, 1], rtol=1e-6)

    def test_options(self) -> None:
        view = view_of(mlp())
        layer = find_layer(view, "dense1")
        for name, value in (("method", "magic"), ("at", "min"), ("steps", 0), ("units", "best")):
            with pytest.raises(OptionError, match=name):
                attribute(view, FEEDS, layer, **{name: value})  # type: ignore[arg-type]

    def test_too_much_for_the_memory(self, monkeypatch: pytest.MonkeyPatch) -> None:
        view = view_of(mlp())
        monkeypatch.setattr("onnxprune.explain.attribution.spare_memory", lambda: 100)
        with pytest.raises(OptionError, match=r"12 units for 2 instances take .*Choose fewer|Choose fewer"):
            attribute(view, FEEDS, find_layer(view, "dense1"))
