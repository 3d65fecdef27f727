from __future__ import annotations

from pathlib import Path

import pytest

from onnxprune.model import load
from onnxprune.plan import Plan
from tests.cli.conftest import Call


@pytest.fixture
def half(call: Call, cnn_file: Path, tmp_path: Path) -> Path:
    """A plan, and beside it the model that it makes."""
    path = tmp_path / "half.json"
    options = ("--ratio", "0.5", "--round-to", "1", "--save-plan", path)
    assert call("prune", cnn_file, "-o", tmp_path / "half.onnx", *options).code == 0
    return path


@pytest.fixture
def sparse(call: Call, cnn_file: Path, tmp_path: Path) -> Path:
    path = tmp_path / "sparse.json"
    options = ("--ratio", "0.5", "--granularity", "weight", "--save-plan", path)
    assert call("prune", cnn_file, "-o", tmp_path / "sparse.onnx", *options).code == 0
    return path


class TestShow:
    def test_text(self, call: Call, half: Path) -> None:
        result = call("plan", "show", half)
        assert result.code == 0
        for words in ("cnn.onnx", Plan.load(half).model_hash, "criterion: l2", "conv1", "50.0%"):
            assert words in result.out

    def test_masks(self, call: Call, sparse: Path) -> None:
        assert "conv2.weight" in call("plan", "show", sparse).out

    def test_json(self, call: Call, half: Path) -> None:
        found = call("plan", "show", half, "--json").json
        assert found["model"]["name"] == "cnn.onnx"
        assert found["removed_units"] == 12
        assert found["groups"][0]["removed"] == Plan.load(half).units["conv1"].tolist()
        assert found["weights"] == []


class TestDiff:
    def test_with_itself(self, call: Call, half: Path) -> None:
        assert "The plans remove the same." in call("plan", "diff", half, half).out
        assert call("plan", "diff", half, half, "--json").json["same"] is True

    def test_with_another(self, call: Call, half: Path, cnn_file: Path, tmp_path: Path) -> None:
        other = tmp_path / "other.json"
        options = ("--group", "conv1=0.75", "--round-to", "1", "--save-plan", other)
        assert call("prune", cnn_file, "-o", tmp_path / "other.onnx", *options).code == 0
        found = call("plan", "diff", half, other, "--json").json
        assert found["same"] is False
        conv1, conv2 = found["groups"]
        assert (len(conv1["both"]), len(conv1["only_a"]), len(conv1["only_b"])) == (4, 0, 2)
        assert (len(conv2["both"]), len(conv2["only_a"]), len(conv2["only_b"])) == (0, 8, 0)
        assert "conv2" in call("plan", "diff", half, other).out


class TestApply:
    def test_the_same_model_comes_out(self, call: Call, half: Path, cnn_file: Path, out: Path) -> None:
        result = call("plan", "apply", half, cnn_file, "-o", out)
        assert result.code == 0, result.err
        assert out.read_bytes() == half.with_suffix(".onnx").read_bytes()

    def test_prune_does_the_same(self, call: Call, half: Path, cnn_file: Path, out: Path) -> None:
        found = call("prune", cnn_file, "-o", out, "--plan", half, "--json").json
        assert (found["removed"], found["total"]) == (12, 24)
        assert found["proof"]["ok"]
        assert load(out).hash == load(half.with_suffix(".onnx")).hash

    def test_masks(self, call: Call, sparse: Path, cnn_file: Path, out: Path) -> None:
        found = call("plan", "apply", sparse, cnn_file, "-o", out, "--json").json
        assert found["mode"] == "mask"
        assert load(out).hash == load(sparse.with_suffix(".onnx")).hash

    def test_a_plan_of_units_as_a_mask(self, call: Call, half: Path, cnn_file: Path, out: Path) -> None:
        assert call("plan", "apply", half, cnn_file, "-o", out, "--mode", "mask").code == 0
        assert load(out).weights["conv1.weight"].shape == (8, 1, 3, 3)

    def test_its_options_come_with_it(self, call: Call, cnn_file: Path, out: Path, tmp_path: Path) -> None:
        plan = tmp_path / "plan.json"
        options = ("--group", "fc=0.5", "--round-to", "1", "--allow-io", "scores", "--save-plan", plan)
        assert call("prune", cnn_file, "-o", out, *options).code == 0
        assert call("plan", "apply", plan, cnn_file, "-o", out).code == 0
        assert load(out).weights["fc.weight"].shape == (2, 16)
