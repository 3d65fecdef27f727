"""``onnxprune draw`` and ``onnxprune preview``."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from tests.cli.conftest import Call, cnn, mlp, save


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save(cnn(), tmp_path / "cnn.onnx")


@pytest.fixture
def plan(call: Call, model: Path, tmp_path: Path) -> Path:
    found = tmp_path / "half.json"
    assert call("prune", model, "-o", tmp_path / "small.onnx", "--ratio", "0.5", "--save-plan", found).code == 0
    return found


class TestDraw:
    def test_svg(self, call: Call, model: Path, tmp_path: Path) -> None:
        result = call("draw", model, "-o", tmp_path / "net.svg")
        assert (result.code, result.out) == (0, "")
        assert "3 layers in 1 row" in result.err
        ET.parse(tmp_path / "net.svg")  # noqa: S314 - our own

    def test_a_plan_is_red(self, call: Call, model: Path, plan: Path, tmp_path: Path) -> None:
        result = call("draw", model, "-o", tmp_path / "net.svg", "--plan", plan, "--json")
        removed = {
            g["name"]: len(g["removed"]) / g["units"] for g in call("plan", "show", plan, "--json").json["groups"]
        }
        assert result.json["gone"] == {name: share for name, share in removed.items() if share}
        assert "url(#hatch)" in (tmp_path / "net.svg").read_text(encoding="utf-8")

    def test_places_as_json(self, call: Call, model: Path, tmp_path: Path) -> None:
        assert call("draw", model, "-o", tmp_path / "net.json", "--metric", "macs").code == 0
        found = json.loads((tmp_path / "net.json").read_text(encoding="utf-8"))
        assert [box["name"] for box in found["boxes"]] == ["x", "conv1", "conv2", "pool", "fc", "scores"]
        assert found["boxes"][1]["macs"] == 64 * 8 * 9
        assert len(found["places"]) == 6

    def test_a_page_with_scores(self, call: Call, model: Path, tmp_path: Path) -> None:
        assert call("draw", model, "-o", tmp_path / "net.html", "--metric", "l2").code == 0
        assert "mean l2 of the units" in (tmp_path / "net.html").read_text(encoding="utf-8")

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (["-o", "net.bmp"], "cannot draw into .bmp"),
            (["-o", "net.svg", "--width", "3"], "--width 3: expected 240 to 20000 pixels"),
            (["-o", "net.svg", "--scale", "99"], "--scale 99.0: expected 0.25 to 8"),
            (["-o", "nowhere/net.svg"], "there is no folder"),
            (["-o", "net.svg", "--metric", "beauty"], "beauty"),
        ],
    )
    def test_bad_options(
        self, call: Call, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], message: str
    ) -> None:
        monkeypatch.chdir(tmp_path)
        result = call("draw", model, *options)
        assert result.code == 1 or result.code == 2  # noqa: PLR1714 - either says that it failed
        assert message in result.err

    def test_a_plan_for_another_model(self, call: Call, plan: Path, tmp_path: Path) -> None:
        other = save(mlp(), tmp_path / "mlp.onnx")
        result = call("draw", other, "-o", tmp_path / "net.svg", "--plan", plan)
        assert result.code != 0
        assert "hash" in result.err
        assert not (tmp_path / "net.svg").exists()


class TestPreview:
    def test_table(self, call: Call, model: Path) -> None:
        result = call("preview", model, "--unit", "conv1=3")
        assert result.code == 0
        assert "Removing filter 3 of conv1 also removes inputs of conv2: 154 parameters in all." in result.out
        assert "conv2.weight[1]" in result.out

    def test_json(self, call: Call, model: Path) -> None:
        found = call("preview", model, "--unit", "conv1=3,4", "--unit", "conv2=0", "--json").json["previews"]
        assert [(one["group"], one["units"]) for one in found] == [("conv1", [3, 4]), ("conv2", [0])]
        assert found[0]["rows"][0] == {
            "tensor": "conv1.weight", "axis": 0, "index": [3, 4], "blocks": 1, "role": "produces", "layer": "conv1",
            "op": "Conv", "parameters": 18,
        }  # fmt: skip

    @pytest.mark.parametrize(
        ("unit", "message"),
        [
            ("conv1", "expected GROUP=N or GROUP=N,N"),
            ("conv1=x", "expected GROUP=N or GROUP=N,N"),
            ("conv7=1", "no group 'conv7'"),
            ("conv1=8", "`conv1` has no unit 8"),
        ],
    )
    def test_bad_units(self, call: Call, model: Path, unit: str, message: str) -> None:
        result = call("preview", model, "--unit", unit)
        assert result.code != 0
        assert message in result.err
