from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.cli.conftest import Call


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
    accuracy, loss = result.json["metrics"]
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
    assert 0 < found["cosine to the original"] < 1
    assert found["largest difference"] > 0
