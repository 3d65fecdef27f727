from __future__ import annotations

from pathlib import Path

import numpy as np

from onnxprune.criteria import load_scores
from onnxprune.model import load
from tests.cli.conftest import Call


def test_units(call: Call, cnn_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "scores.npz"
    result = call("score", cnn_file, "--criterion", "l1", "-o", path, "--json")
    assert result.code == 0, result.err
    with np.load(path) as found:
        assert found["conv1"].shape == (8,)
        assert found["conv2"].shape == (16,)
    assert load_scores(path).model_hash == result.json["hash"] == load(cnn_file).hash
    assert [(row["name"], row["scores"]) for row in result.json["scores"]] == [("conv1", 8), ("conv2", 16)]


def test_single_weights(call: Call, cnn_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "weights.npz"
    assert call("score", cnn_file, "--granularity", "weight", "-o", path).code == 0
    with np.load(path) as found:
        np.testing.assert_allclose(found["fc.weight"], load(cnn_file).array("fc.weight") ** 2, rtol=1e-6)


def test_text(call: Call, cnn_file: Path, tmp_path: Path) -> None:
    result = call("score", cnn_file, "-o", tmp_path / "scores.npz")
    for words in ("conv1", "median", "scores.npz written"):
        assert words in result.out


def test_the_model_is_not_overwritten(call: Call, cnn_file: Path) -> None:
    before = cnn_file.read_bytes()
    assert call("score", cnn_file, "-o", cnn_file).code == 2
    assert cnn_file.read_bytes() == before
