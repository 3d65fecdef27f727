from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.cli.conftest import Call, mlp, save


def test_text(call: Call, cnn_file: Path, data_file: Path) -> None:
    result = call("evaluate", cnn_file, "--data", data_file)
    assert result.code == 0, result.err
    for words in ("data.npz (test), 10 samples", "accuracy", "loss", "latency (measured)", "ms"):
        assert words in result.out


@pytest.mark.parametrize(("split", "samples"), [("train", 24), ("test", 10)])
def test_json(split: str, samples: int, call: Call, cnn_file: Path, data_file: Path) -> None:
    result = call("evaluate", cnn_file, "--data", data_file, "--split", split, "--json")
    assert (result.code, result.err) == (0, "")
    assert (result.json["split"], result.json["samples"]) == (split, samples)
    accuracy, loss, *_ = result.json["metrics"]
    assert (accuracy["name"], accuracy["direction"]) == ("accuracy", "higher")
    assert 0 <= accuracy["value"] <= 1
    assert (loss["name"], loss["unit"], loss["direction"]) == ("loss", "nats", "lower")
    assert result.json["latency"]["median_ms"] > 0
    assert result.json["latency"]["batch"] == 1


def test_fidelity_needs_no_labels(call: Call, cnn_file: Path, out: Path, tmp_path: Path) -> None:
    assert call("prune", cnn_file, "-o", out, "--ratio", "0.5").code == 0
    np.savez(tmp_path / "x.npz", x=np.random.default_rng(0).standard_normal((6, 1, 8, 8)).astype(np.float32))
    result = call("evaluate", out, "--data", tmp_path / "x.npz", "--original", cnn_file, "--json")
    assert result.code == 0, result.err
    found = {metric["name"]: metric["value"] for metric in result.json["metrics"]}
    assert 0 < found["cosine"] < 1
    assert found["largest_difference"] > 0


def test_class_by_class(call: Call, cnn_file: Path, data_file: Path) -> None:
    plain, full = (
        call("evaluate", cnn_file, "--data", data_file, *options) for options in ((), ("--per-class", "--confusion"))
    )
    assert (plain.code, full.code) == (0, 0), full.err
    for words in ("Class by class", "support", "label \\ taken for"):
        assert words in full.out
        assert words not in plain.out
    told = call("evaluate", cnn_file, "--data", data_file, "--json").json
    assert [c["support"] for c in told["classes"]] == [4, 3, 3] == np.sum(told["confusion"], axis=1).tolist()
    assert told["task"] == "classification"
    assert len(told["curves"]) == 3


def test_mistakes_among_many_classes(call: Call, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "many.npz", x=rng.standard_normal((60, 6)).astype(np.float32), y=np.arange(60) % 30)
    model = save(mlp(outputs=30), tmp_path / "many.onnx")
    result = call("evaluate", model, "--data", tmp_path / "many.npz", "--confusion", "--top-k", "2")
    assert result.code == 0, result.err
    assert "Most frequent mistakes" in result.out
    assert "top-2 accuracy" in result.out


def test_a_regression_by_name(call: Call, cnn_file: Path, tmp_path: Path) -> None:
    x = np.zeros((6, 1, 8, 8), np.float32)
    np.savez(tmp_path / "x.npz", x=x, y=np.arange(18).reshape(6, 3))
    result = call("evaluate", cnn_file, "--data", tmp_path / "x.npz", "--task", "regression", "--per-class")
    assert result.code == 0, result.err
    for words in ("mean squared error", "R2", "6 samples (regression)", "nothing of that kind to tell class by class"):
        assert words in result.out
    refused = call("evaluate", cnn_file, "--data", tmp_path / "x.npz")
    assert (refused.code, refused.out) == (2, "")
    assert "label 2 in row 0" in refused.err


@pytest.mark.parametrize("ending", ["html", "png", "svg"])
def test_plot(ending: str, call: Call, cnn_file: Path, data_file: Path, tmp_path: Path) -> None:
    result = call("evaluate", cnn_file, "--data", data_file, "--plot", tmp_path / f"chart.{ending}", "--json")
    assert result.code == 0, result.err
    assert result.json["task"] == "classification"
    assert f"chart.{ending} written" in result.err
    assert (tmp_path / f"chart.{ending}").stat().st_size > 1000


def test_nothing_to_plot(call: Call, cnn_file: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.zeros((6, 1, 8, 8), np.float32), y=np.eye(6, 3))
    result = call("evaluate", cnn_file, "--data", tmp_path / "x.npz", "--plot", tmp_path / "chart.html")
    assert (result.code, (tmp_path / "chart.html").exists()) == (0, False)
    assert "nothing to draw" in result.err
