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


def test_what_matters_for_a_class(call: Call, cnn_file: Path, data_file: Path, tmp_path: Path) -> None:
    found = []
    with np.load(data_file) as held:
        own = held["y_train"] == 2
        np.savez(tmp_path / "own.npz", x=held["x_train"][own], y=held["y_train"][own])
    for data, more in ((data_file, ("--class", "2")), (tmp_path / "own.npz", ()), (data_file, ())):
        out = tmp_path / "scores.npz"
        assert call("score", cnn_file, "--criterion", "taylor", "--data", data, *more, "-o", out).code == 0
        with np.load(out) as scores:
            found.append(scores["conv2"])
    np.testing.assert_array_equal(found[0], found[1])
    assert not np.allclose(found[0], found[2])


def test_a_class_without_data(call: Call, cnn_file: Path, data_file: Path, tmp_path: Path) -> None:
    result = call("score", cnn_file, "--class", "2", "-o", tmp_path / "scores.npz")
    assert result.code == 2
    assert "--class: there are no data to look at" in result.err
    result = call("score", cnn_file, "--data", data_file, "--class", "7", "-o", tmp_path / "scores.npz")
    assert result.code == 2
    assert "no sample is of class '7'" in result.err
    assert not (tmp_path / "scores.npz").exists()
