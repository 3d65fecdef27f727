"""Arrays as pictures: layouts, preprocessing undone, grids, charts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image

from onnxprune.coupling import couple
from onnxprune.data import Dataset, Preprocess, open_dataset
from onnxprune.errors import ModelSaveError, OptionError
from onnxprune.explain import (
    attribute,
    class_layer,
    feature_maps,
    find_layer,
    grid,
    input_pictures,
    is_pictures,
    look_at,
    pixels,
    save_png,
    to_pictures,
)
from onnxprune.explain_charts import attribution_charts, feature_map_charts
from onnxprune.figures import Chart, Heatmap, write
from onnxprune.model import Model, from_proto
from tests.cli.conftest import model_of
from tests.explain.torch_side import net


def takes(*sample: int) -> Model:
    """A model that hands its input on."""
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", *sample]) for n in "xy")
    return from_proto(model_of(helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "one", [x], [y])))


class TestLayout:
    def test_channels_come_last(self) -> None:
        values = np.random.default_rng(0).random((2, 5, 3, 6, 7))
        shown = to_pictures(takes(3, 6, 7), "x", values)
        assert shown.shape == (2, 5, 6, 7, 3)
        np.testing.assert_array_equal(shown[1, 2, 3, 4], values[1, 2, :, 3, 4])
        np.testing.assert_array_equal(to_pictures(takes(6, 7, 3), "x", shown), shown)

    def test_other_numbers_of_channels(self) -> None:
        values = np.random.default_rng(0).random((2, 5, 6, 7))
        np.testing.assert_allclose(to_pictures(takes(5, 6, 7), "x", values)[..., 0], values.mean(1))
        assert to_pictures(takes(4, 6, 7), "x", values[:, :4]).shape == (2, 6, 7, 3)

    def test_what_is_a_picture(self) -> None:
        assert is_pictures(takes(1, 8, 8), "x")
        assert not is_pictures(takes(8, 8), "x")
        assert not is_pictures(takes(8), "x")


class TestUndone:
    raw = np.random.default_rng(1).integers(0, 256, (3, 6, 7, 3)).astype(np.uint8)

    def test_scale_mean_std_and_layout(self) -> None:
        recipe = Preprocess(scale=1 / 255, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.1), layout="NHWC", dtype="float32")
        data = Dataset({"x": self.raw}, prepare={"x": recipe})
        np.testing.assert_array_equal(input_pictures(takes(3, 6, 7), data, [2, 0], "x"), self.raw[[2, 0]])

    def test_image_files(self, tmp_path: Path) -> None:
        for k, image in enumerate(self.raw):
            Image.fromarray(image).save(tmp_path / f"{k}.png")
        for color in ("rgb", "bgr"):
            (tmp_path / "dataset.toml").write_text(
                f'mean = [0.4, 0.5, 0.6]\nstd = [0.2, 0.3, 0.1]\ncolor = "{color}"\n'
            )
            data = open_dataset(tmp_path)
            np.testing.assert_array_equal(input_pictures(takes(3, 6, 7), data, [0, 1, 2], "x"), self.raw)

    def test_channels_last_models(self) -> None:
        data = Dataset({"x": self.raw.astype(np.float32) / 255})
        np.testing.assert_array_equal(input_pictures(takes(6, 7, 3), data, [1], "x"), self.raw[[1]])

    def test_unknown_preprocessing_is_stretched(self) -> None:
        values = np.random.default_rng(0).standard_normal((2, 1, 6, 7)).astype(np.float32)
        shown = input_pictures(takes(1, 6, 7), {"x": values}, [0, 1], "x")
        assert (shown.min((1, 2, 3)).tolist(), shown.max((1, 2, 3)).tolist()) == ([0, 0], [255, 255])


class TestPixels:
    def test_signed_keeps_zero_in_the_middle(self) -> None:
        values = np.array([-2.0, 0.0, 1.0]).reshape(1, 1, 3, 1)
        assert pixels(values)[0, 0, :, 0].tolist() == [0, 128, 191]

    def test_other_ways(self) -> None:
        values = np.array([1.0, 2.0, 3.0]).reshape(1, 1, 3, 1)
        assert pixels(values, "range").ravel().tolist() == [0, 128, 255]
        assert pixels(values, "positive").ravel().tolist() == [85, 170, 255]
        with pytest.raises(OptionError, match="way: got 'upwards'"):
            pixels(values, "upwards")

    def test_each_picture_on_its_own_and_flat_ones(self) -> None:
        values = np.stack([np.zeros((2, 2, 1)), np.full((2, 2, 1), 5.0), np.arange(4.0).reshape(2, 2, 1)])
        assert np.unique(pixels(values)[0]).tolist() == [128]
        assert np.unique(pixels(values, "range")[:2]).tolist() == [0]
        assert pixels(values)[2].max() == 255


class TestGrid:
    def test_places(self) -> None:
        small, large = np.full((8, 8, 1), 10, np.uint8), np.full((70, 100, 3), 200, np.uint8)
        sheet = grid([[small, large], [large]])
        assert sheet.shape == (2 * 72 + 2, 2 * 102 + 2, 3)
        assert sheet[2:72, 2:102].min() == sheet[2:72, 2:102].max() == 10
        assert sheet[2:72, 104:204].min() == 200
        assert sheet[:, :2].min() == 255
        assert sheet[74:144, 104:].min() == 255  # no picture there

    def test_nothing(self) -> None:
        with pytest.raises(OptionError, match="no picture"):
            grid([[]])

    def test_png(self, tmp_path: Path) -> None:
        sheet = grid([[np.arange(64, dtype=np.uint8).reshape(8, 8, 1)]])
        save_png(sheet, tmp_path / "a.png")
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "a.png")), sheet)
        with pytest.raises(ModelSaveError, match="cannot be written"):
            save_png(sheet, tmp_path / "no" / "a.png")


class TestCharts:
    def test_a_table_has_bars(self, tmp_path: Path) -> None:
        _, view, feeds = net("mlp")
        charts = attribution_charts(attribute(view, feeds, find_layer(view, "3"), units=[1, 2]))
        assert [type(chart) for chart in charts] == [Chart] * 3
        first = charts[0]
        assert isinstance(first, Chart)
        assert first.kind == "bars"
        assert first.flat
        assert len(first.y.categories) == 9
        write(charts, tmp_path / "a.html")

    def test_tokens_have_their_numbers(self) -> None:
        _, view, feeds = net("encoder_prenorm")
        found = attribute(view, feeds, class_layer(view), method="gradient-x-input", units=[1], rows=[2])
        chart = attribution_charts(found)[0]
        assert isinstance(chart, Chart)
        assert list(chart.y.categories) == [f"{k}: {token}" for k, token in enumerate(feeds["ids"][2])]
        np.testing.assert_allclose(chart.series[0].x, found.values["ids"][0, 0])

    def test_pictures_are_heatmaps(self, tmp_path: Path) -> None:
        _, view, feeds = net("plain_cnn")
        charts = attribution_charts(attribute(view, feeds, find_layer(view, "1.0"), units=[0, 1], method="guided"))
        maps = [chart for chart in charts if isinstance(chart, Heatmap)]
        assert len(maps) == 6
        assert maps[0].array.shape == (16, 16)
        assert isinstance(charts[-1], Chart)
        assert charts[-1].title == "Distribution of the values"
        write(charts, tmp_path / "a.html")

    def test_feature_maps(self, tmp_path: Path) -> None:
        for name, layer, kinds in (("plain_cnn", "1.0", 6), ("mlp", "0", 0), ("conv1d", "4", 5)):
            _, view, feeds = net(name)
            charts = feature_map_charts(feature_maps(view, feeds, find_layer(view, layer), units=range(4)))
            assert len(charts) == 1 + kinds
            write(charts, tmp_path / f"{name}.html")

    def test_a_sequence_has_a_line_over_its_steps(self) -> None:
        view = look_at(model := takes(8, 6), couple(model))
        feeds = {"x": np.random.default_rng(0).standard_normal((2, 8, 6)).astype(np.float32)}
        found = attribute(view, feeds, find_layer(view, "y"), units=[1], at="sum", method="gradient-x-input")
        chart = attribution_charts(found)[0]
        assert isinstance(chart, Chart)
        expected = np.maximum(feeds["x"][1, :, 1], 0)
        np.testing.assert_allclose(chart.series[1].y, expected, atol=1e-6)


def test_large_pictures_are_shown_smaller() -> None:
    view = look_at(model := takes(1, 130, 64), couple(model))
    feeds = {"x": np.ones((1, 1, 130, 64), np.float32)}
    found = attribute(view, feeds, find_layer(view, "y"), at="sum", method="gradient")
    chart = attribution_charts(found)[0]
    assert isinstance(chart, Heatmap)
    assert chart.array.shape == (64, 64)
    np.testing.assert_allclose(chart.array, 1)
    assert isinstance(model.proto, onnx.ModelProto)
