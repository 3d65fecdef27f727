"""``onnxprune suspects``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.cli.conftest import Call, cnn, one_layer, save
from tests.workspace.conftest import write_data

WRONG = (5, 23)


@pytest.fixture
def folder(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A net that was trained on right labels, pruned, trained again; and data with two wrong labels."""
    place = tmp_path / "work"
    place.mkdir()
    save(cnn(), place / "cnn.onnx")
    data = write_data(place / "data" / "bright.npz")
    with np.load(data) as held:
        x, y = held["x_train"], held["y_train"].copy()
    y[list(WRONG)] = (y[list(WRONG)] + 1) % 3
    monkeypatch.chdir(place)
    tune = ("--epochs", "20", "--rate", "0.02", "--set", "batch=16", "--deterministic", "--data", "bright")
    assert call("ws", "finetune", "1", *tune).code == 0
    assert call("ws", "prune", "2", "--ratio", "0.25", "--data", "bright").code == 0
    assert call("ws", "finetune", "3", *tune).code == 0
    np.savez(place / "data" / "doubtful.npz", x_train=x, y_train=y, x_test=x[:12], y_test=y[:12])
    return place


def test_wrong_labels_are_found(call: Call, folder: Path) -> None:
    assert folder.is_dir()
    answer = call("suspects", "4", "--data", "doubtful", "--split", "train", "--json")
    assert answer.code == 0, answer.err
    found = answer.json
    assert found["steps"] == [1, 2, 4], "step 3 was hurt, and trained afterwards"
    assert found["samples"] == 48
    assert len(found["suspects"]) == 20
    asked = call("suspects", "2", "4", "--data", "doubtful", "--split", "train", "--top", "5", "--json").json
    assert asked["steps"] == [2, 4]
    assert {one["row"] for one in asked["suspects"][:2]} == set(WRONG)
    assert [one["against"] for one in asked["suspects"]] == [2, 2, 0, 0, 0]
    assert asked["suspects"][0]["sure"]
    assert asked["sure"] == sum(one["sure"] for one in asked["suspects"])


def test_as_a_table(call: Call, folder: Path) -> None:
    assert folder.is_dir()
    options = ("--data", "doubtful", "--split", "train", "--top", "1")
    found, told = call("suspects", "2", "4", *options).out, call("suspects", "2", "4", *options, "--json").json
    title = f"{told['sure']} of the 48 samples of doubtful.npz (train) are surely of another class, say #2, #4"
    assert title in found
    assert found.count("2 of 2  sure") == 1
    alone = call("suspects", "4", "--alone", *options, "--json").json
    assert (alone["steps"], alone["models"]) == ([4], 1)
    assert "0 of the 12 samples of bright.npz" in call("suspects", "2", "4", "--data", "bright").out


def test_bad_input(call: Call, folder: Path) -> None:
    for arguments, message in (
        (("4", "--top", "0"), "--top: got 0, expected 1 or more"),
        (("9",), "no step 9"),
        (("4", "--data", "other"), "there are no data 'other'"),
        (("4", "--split", "dev"), "there is no split 'dev'"),
    ):
        found = call("suspects", *arguments)
        assert found.code == 2
        assert message in found.err
    save(one_layer(), folder / "line.onnx")
    assert call("ws", "open").code == 0
    found = call("suspects", "line")
    assert found.code == 2
    assert "there are no data for step 5" in found.err
