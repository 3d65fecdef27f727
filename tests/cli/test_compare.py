"""``onnxprune compare``: what it prints adds up, with labels, without, and without any data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from onnxprune.cost import cost
from onnxprune.model import load
from tests.cli.conftest import Call, cnn, mlp, save


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """The model of ``cnn_file`` with other weights in its classifier."""
    proto = cnn()
    classifier = proto.graph.initializer[4]
    classifier.raw_data = (np.frombuffer(classifier.raw_data, np.float32)[::-1] * 2).tobytes()
    return save(proto, tmp_path / "other.onnx")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Samples without labels."""
    path = tmp_path / "photos.npz"
    np.savez(path, x=np.random.default_rng(0).standard_normal((30, 1, 8, 8)).astype(np.float32))
    return path


def test_text(call: Call, cnn_file: Path, other: Path, data_file: Path) -> None:
    result = call("compare", cnn_file, other, "--data", data_file)
    assert result.code == 0, result.err
    for words in (
        "data.npz (test), 10 samples (classification)",
        "accuracy",
        "points",
        "B against A",
        "top-1 agreement",
        "degenerated (right before, wrong after)",
        "improved (wrong before, right after)",
        "Class by class",
        "non-zero parameters",
    ):
        assert words in result.out


def test_json_adds_up(call: Call, cnn_file: Path, other: Path, data_file: Path) -> None:
    result = call("compare", cnn_file, other, "--data", data_file, "--split", "train", "--json")
    assert (result.code, result.err) == (0, "")
    told = result.json
    assert (told["split"], told["samples"]) == ("train", 24)
    accuracy = told["metrics"][0]
    balance = len(told["improved"]) - len(told["degenerated"])
    assert accuracy["name"] == "accuracy"
    assert accuracy["delta"] == pytest.approx(balance / 24)
    assert sum(c["degenerated"] for c in told["classes"]) == len(told["degenerated"])
    assert sum(c["support"] for c in told["classes"]) == 24
    assert set(told["degenerated"]) | set(told["improved"]) <= set(told["moved"])
    assert np.sum(told["confusion"]) == 0
    assert {m["name"] for m in told["fidelity"]} == {"agreement", "cosine", "kl", "largest_difference"}
    for path, told_cost in zip((cnn_file, other), told["costs"], strict=True):
        counted = cost(load(path))
        assert (told_cost["parameters"], told_cost["macs"]) == (counted.parameters, counted.macs)
        assert told_cost["file_bytes"] == path.stat().st_size


def test_a_model_and_itself(call: Call, cnn_file: Path, data_file: Path) -> None:
    told = call("compare", cnn_file, cnn_file, "--data", data_file, "--json").json
    assert told["degenerated"] == told["improved"] == told["moved"] == []
    assert {metric["delta"] for metric in told["metrics"]} <= {0, None}


def test_without_labels(call: Call, cnn_file: Path, other: Path, photos: Path) -> None:
    result = call("compare", cnn_file, other, "--data", photos, "--limit", "20", "--json")
    assert result.code == 0, result.err
    assert (result.json["metrics"], result.json["degenerated"], result.json["samples"]) == ([], None, 20)
    agreement = next(m["value"] for m in result.json["fidelity"] if m["name"] == "agreement")
    assert len(result.json["moved"]) == round(20 * (1 - agreement))


def test_without_data(call: Call, cnn_file: Path, other: Path) -> None:
    result = call("compare", cnn_file, other, "--limit", "40")
    assert result.code == 0, result.err
    assert "on generated inputs, 40 samples" in result.out
    assert "Note: 40 generated inputs and no data" in result.out
    assert "cosine to the original" in result.out


def test_many_classes_are_shown_by_their_loss(call: Call, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "many.npz", x=rng.standard_normal((60, 6)).astype(np.float32), y=np.arange(60) % 30)
    files = [save(mlp(hidden=hidden, outputs=30), tmp_path / f"{hidden}.onnx") for hidden in (12, 9)]
    result = call("compare", *files, "--data", tmp_path / "many.npz")
    assert result.code == 0, result.err
    assert "The 20 of 30 classes whose recall fell most" in result.out


def test_plot(call: Call, cnn_file: Path, other: Path, data_file: Path, tmp_path: Path) -> None:
    with_data, without = tmp_path / "with.html", tmp_path / "without.html"
    assert call("compare", cnn_file, other, "--data", data_file, "--plot", with_data).code == 0
    assert call("compare", cnn_file, other, "--plot", without).code == 0
    for title, there in (("What B costs", True), ("Confusion, B minus A", False), ("Recall by class", False)):
        assert title in with_data.read_text()
        assert (title in without.read_text()) == there


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--plot", "chart.xyz"], "cannot draw chart.xyz"),
        (["--plot", "/nowhere/chart.html"], "there is no folder /nowhere"),
        (["--split", "train"], "no data are given to split"),
        (["--task", "regression"], "no data are given"),
        (["--data", "{data}", "--task", "guessing"], "task: got 'guessing'"),
        (["--data", "{data}", "--top-k", "3"], "top-3 accuracy: the output `scores` has 3 classes"),
        (["--data", "{data}", "--split", "dev"], "there is no split 'dev'"),
        (["--data", "{photos}", "--task", "regression"], "no labels"),
        (["--data", "{data}", "--limit", "0"], "limit of 0 samples"),
        (["--limit", "0"], "0 samples"),
    ],
)
def test_options_that_make_no_sense(
    arguments: list[str], message: str, call: Call, cnn_file: Path, other: Path, data_file: Path, photos: Path
) -> None:
    result = call("compare", cnn_file, other, *(a.format(data=data_file, photos=photos) for a in arguments))
    assert (result.code, result.out) == (2, "")
    assert message in result.err


def test_models_for_different_things(call: Call, cnn_file: Path, mlp_file: Path, data_file: Path) -> None:
    result = call("compare", cnn_file, mlp_file, "--data", data_file)
    assert (result.code, result.out) == (2, "")
    assert "x" in result.err
