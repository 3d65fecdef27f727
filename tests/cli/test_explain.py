"""`onnxprune explain`: tables, arrays, pictures, charts, JSON, and bad input."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.cli.conftest import Call
from tests.cli.test_bad_input import refused

ROOT = Path(__file__).parents[2]
DIGITS = ROOT / "onnxprune" / "demo_data" / "digits.npz"
NET = ROOT / "onnxprune" / "demo_data" / "digits_cnn.onnx"
TABLE = ROOT / "examples" / "nets" / "tabular_mlp.onnx"
CANCER = ROOT / "examples" / "nets" / "breast_cancer.npz"


class TestResults:
    def test_guided_is_what_a_net_for_pictures_gets(self, call: Call, tmp_path: Path) -> None:
        out, plot = tmp_path / "a.npz", tmp_path / "a.png"
        result = call("explain", NET, "--data", DIGITS, "-o", out, "--plot", plot)
        assert result.code == 0, result.err
        lines = result.out.splitlines()
        assert lines[0] == "conv4: guided of 16 of 64 filters, instances 0, 1, 2, 3"
        assert lines[1].split() == ["unit", "activation", "largest", "where"]
        assert [line.split()[0] for line in lines[2:18]] == [str(k) for k in range(16)]
        with np.load(out) as arrays:
            assert arrays["values"].shape == (4, 16, 1, 8, 8)
            assert arrays["histogram_counts"].sum(1).tolist() == [4 * 64] * 16
            assert (arrays["scores"] >= 0).all()
            values = arrays["values"]
        picture = np.asarray(Image.open(plot))
        assert picture.shape == (4 * 66 + 2, 17 * 66 + 2, 3)
        shown = values[0, 0, 0] / np.abs(values[0, 0]).max()
        np.testing.assert_allclose(picture[6:66:8, 72:132:8, 0], np.rint(127.5 + 127.5 * shown), atol=1)

    def test_feature_maps_of_a_class(self, call: Call, tmp_path: Path) -> None:
        out = tmp_path / "a.npz"
        arguments = ("--layer", "conv1", "--method", "feature-maps", "--class", "3", "--units", "0-2,7")
        result = call("explain", NET, "--data", DIGITS, *arguments, "-o", out)
        assert result.code == 0, result.err
        with np.load(out) as arrays, np.load(DIGITS) as data:
            assert arrays["values"].shape == (4, 4, 8, 8)
            assert arrays["units"].tolist() == [0, 1, 2, 7]
            assert data["y_test"][arrays["instances"]].tolist() == [3] * 4

    def test_a_class_of_a_table(self, call: Call) -> None:
        result = call("explain", TABLE, "--data", CANCER, "--target", "predicted", "--instances", "0,5", "--json")
        assert result.code == 0, result.err
        found = result.json
        assert (found["method"], found["instances"], found["shape"]) == ("gradient-x-input", [0, 5], [30])
        assert np.shape(found["units"]) == (2, 1)

    def test_integrated_says_what_it_misses(self, call: Call) -> None:
        arguments = ("--target", "1", "--method", "integrated", "--steps", "8")
        result = call("explain", TABLE, "--data", CANCER, *arguments)
        assert result.code == 0, result.err
        assert "The contributions miss their sum by" in result.out

    def test_json_of_feature_maps(self, call: Call) -> None:
        arguments = ("--layer", "conv2", "--method", "feature-maps", "--units", "1")
        found = call("explain", NET, "--data", DIGITS, *arguments, "--json").json
        assert found["layer"] == {"name": "conv2", "tensor": "/relu_1/Relu_output_0", "kind": "filters", "units": 32}
        assert len(found["statistics"]["mean"]) == 1

    @pytest.mark.parametrize("ending", ["png", "html", "svg"])
    def test_plots_of_a_table(self, ending: str, call: Call, tmp_path: Path) -> None:
        plot = tmp_path / f"a.{ending}"
        result = call("explain", TABLE, "--data", CANCER, "--units", "0-1", "--plot", plot)
        assert result.code == 0, result.err
        assert plot.read_bytes().startswith({"html": b"<!", "png": b"\x89PNG", "svg": b"<?xml"}[ending])

    def test_a_page_of_pictures(self, call: Call, tmp_path: Path) -> None:
        plot = tmp_path / "a.html"
        assert call("explain", NET, "--data", DIGITS, "--units", "0-1", "--plot", plot).code == 0
        assert b"Distribution of the values" in plot.read_bytes()


class TestBadInput:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("--layer", "conv9"), "no layer `conv9`"),
            (("--instances", "450"), "there is no instance 450; it holds 450, 0 to 449"),
            (("--instances", "4-2"), "--instances 4-2: expected numbers and ranges"),
            (("--units", "a"), "--units a: expected numbers and ranges"),
            (("--units", "64"), "unit 64 is asked for; it has 64 filters, 0 to 63"),
            (("--instances", "1", "--class", "1"), "both --instances and --class"),
            (("--layer", "conv1", "--target", "1"), "both --layer and --target"),
            (("--units", "1", "--target", "1"), "both --units and --target"),
            (("--target", "1", "--method", "feature-maps"), "has no feature maps"),
            (("--target", "best"), "--target best: expected numbers and ranges"),
            (("--class", "11"), "no sample of class 11; there are 0, 1, 2"),
            (("--steps", "0"), "--steps 0: expected at least 1"),
            (("--out", "a.npy"), "--out a.npy: the arrays are written as .npz"),
            (("--plot", "a.gif"), "cannot draw a.gif"),
            (("--plot", "nowhere/a.png"), "there is no folder nowhere"),
        ],
    )
    def test_refused(self, arguments: tuple[str, ...], message: str, call: Call) -> None:
        refused(call("explain", NET, "--data", DIGITS, *arguments), message)

    def test_data_of_another_shape(self, call: Call) -> None:
        refused(call("explain", NET, "--data", CANCER), "the model's input `x` takes")
