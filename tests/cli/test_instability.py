"""`onnxprune instability`, and the options of `score` and `prune` that belong to gradients."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from onnxprune.criteria import load_scores
from onnxprune.instability import load_instability
from tests.cli.conftest import Call

FAST = ("--runs", "2", "--batch", "6", "--rate", "0.05")


def test_tables(call: Call, cnn_file: Path, data_file: Path) -> None:
    result = call("instability", cnn_file, "--data", data_file, *FAST)
    assert result.code == 0
    assert "Sensitivity and instability" in result.out
    assert "The 20 of 24 units that go first" in result.out
    assert "2 runs of 4 steps (SGD, rate 0.05)" in result.out
    assert "by cross-entropy of `scores` (3 classes)" in " ".join(result.out.split())


def test_json_and_file(call: Call, cnn_file: Path, data_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "ranks.json"
    arguments = ("instability", cnn_file, "--data", data_file, *FAST, "--within", "layer", "--json")
    result = call(*arguments, "-o", out)
    document = result.json
    saved = load_instability(out)
    assert document["within"] == saved.within == "layer"
    assert [group["name"] for group in document["groups"]] == ["conv1", "conv2"]
    for shown, group in zip(document["groups"], saved.groups, strict=True):
        assert shown["instability"] == list(group.instability)
        assert shown["mean_rank"] == list(group.mean_rank)
        assert len(shown["ranks"]) == 2
    assert call(*arguments).json["groups"] == document["groups"]
    assert call(*arguments, "--seed", "1").json["groups"] != document["groups"]


def test_plot(call: Call, cnn_file: Path, data_file: Path, tmp_path: Path) -> None:
    plot = tmp_path / "ranks.html"
    assert call("instability", cnn_file, "--data", data_file, *FAST, "--plot", plot).code == 0
    assert "Sensitivity and instability" in plot.read_text(encoding="utf-8")


def test_workers(call: Call, cnn_file: Path, data_file: Path) -> None:
    arguments = ("instability", cnn_file, "--data", data_file, *FAST, "--threads", "1", "--json")
    assert call(*arguments, "--workers", "2").json["groups"] == call(*arguments).json["groups"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (("--runs", "1"), "runs: got 1"),
        (("--rate", "0"), "rate: got 0"),
        (("--steps", "0"), "steps: got 0"),
        (("--samples", "0"), "--samples 0: expected at least 1"),
        (("--workers", "0"), "--workers 0"),
        (("--loss", "hinge"), "hinge"),
        (("--loss", "distillation"), "learn from itself"),
        (("--split", "valid"), "valid"),
        (("--plot", "ranks.gif"), "gif"),
        (("-o", "no/such/folder.json"), "no folder"),
    ],
)
def test_bad_input(call: Call, cnn_file: Path, data_file: Path, wrong: tuple[str, str], message: str) -> None:
    result = call("instability", cnn_file, "--data", data_file, *wrong)
    assert result.code == 2
    assert message in " ".join(result.err.split())


def test_scores_of_another_loss_and_norm(call: Call, cnn_file: Path, data_file: Path, tmp_path: Path) -> None:
    def scores(*extra: str) -> dict[str, np.ndarray]:
        out = tmp_path / "scores.npz"
        result = call("score", cnn_file, "--criterion", "sensitivity", "--data", data_file, "-o", out, *extra)
        assert result.code == 0, result.err
        found = load_scores(out)
        return {name: np.asarray(found[name]) for name in found}

    usual, plain, whole = scores(), scores("--normalise", "none"), scores("--normalise", "model")
    for name, values in usual.items():
        np.testing.assert_allclose(np.linalg.norm(values), 1)
        np.testing.assert_allclose(values * np.linalg.norm(plain[name]), plain[name])
    assert sum((values**2).sum() for values in whole.values()) == pytest.approx(1)
    smooth = scores("--normalise", "none", "--loss", "cross-entropy(label_smoothing=0.5)")
    assert any((smooth[name] != plain[name]).any() for name in plain)


@pytest.mark.parametrize("criterion", ["sensitivity", "crop"])
def test_pruning_by_gradients(call: Call, cnn_file: Path, data_file: Path, out: Path, criterion: str) -> None:
    arguments = ("prune", cnn_file, "-o", out, "--criterion", criterion, "--data", data_file, "--round-to", "1")
    result = call(*arguments, "--ratio", "0.5", "--normalise", "model", "--loss", "cross-entropy", "--json")
    assert result.code == 0, result.err
    assert out.exists()


def test_weights_by_gradients(call: Call, cnn_file: Path, data_file: Path, out: Path) -> None:
    arguments = ("prune", cnn_file, "-o", out, "--criterion", "taylor", "--data", data_file)
    assert call(*arguments, "--ratio", "0.5", "--granularity", "weight").code == 0


def test_gradients_need_data(call: Call, cnn_file: Path, out: Path) -> None:
    result = call("prune", cnn_file, "-o", out, "--criterion", "sensitivity", "--ratio", "0.5")
    assert result.code == 2
    assert "needs a dataset" in result.err
