"""``onnxprune estimate``."""

from __future__ import annotations

from pathlib import Path

import pytest

from onnxprune.automatic import estimate, path_points
from onnxprune.workspace.workspace import Workspace
from tests.cli.conftest import Call, cnn, save
from tests.workspace.conftest import write_data


@pytest.fixture
def folder(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace with steps of 24, 16, 11, 8 and 6 units on one path, and one of 18 beside it."""
    place = tmp_path / "work"
    place.mkdir()
    save(cnn(), place / "cnn.onnx")
    write_data(place / "data" / "bright.npz")
    monkeypatch.chdir(place)
    assert call("auto", "1", "--iterations", "4", "--epochs", "0").code == 0
    assert call("auto", "1", "--iterations", "1", "--ratio", "1/4", "--epochs", "0").code == 0
    return place


def test_units_to_metrics(call: Call, folder: Path) -> None:
    found = call("estimate", "5", "--units", "13", "--json").json
    with Workspace.open(folder) as workspace:
        rows = path_points(workspace, 5)
    assert [row["units"] for row in rows] == [24, 16, 11, 8, 6]
    expected = estimate(rows, 13)
    assert found["estimate"]["value"] == expected.value
    assert found["estimate"]["between"] == [3, 2]
    assert [row["units"] for row in found["points"]] == [24, 16, 11, 8, 6]
    assert found["curve"][0]["units"] == 6
    text = call("estimate", "5", "--units", "13").out
    assert text.startswith("13 units: accuracy ")
    assert "at 90%; pchip, steps 3 and 2)" in text


def test_the_path_or_the_tree(call: Call, folder: Path) -> None:
    assert folder.is_dir()
    assert len(call("estimate", "1", "--json").json["points"]) == 6
    assert len(call("estimate", "3", "--json").json["points"]) == 3
    assert len(call("estimate", "3", "--over", "tree", "--json").json["points"]) == 6


def test_metrics_to_units(call: Call, folder: Path) -> None:
    assert folder.is_dir()
    low = call("estimate", "5", "--min", "loss=100", "--json").json["suggestion"]
    assert (low["units"], low["measured"]) == (6, True)
    assert (
        "6 units are expected to hold it, the fewest that were measured"
        in call("estimate", "5", "--min", "loss=100").out
    )
    assert "Not even the largest measured model" in call("estimate", "5", "--min", "accuracy=1.01").out
    assert call("estimate", "5", "--min", "accuracy=1.01", "--json").json["suggestion"] is None


def test_a_table_and_a_chart(call: Call, folder: Path) -> None:
    found = call("estimate", "5", "--plot", "expected.html")
    assert found.code == 0, found.err
    assert (folder / "expected.html").stat().st_size > 1000
    assert "Expected from 6 to 24 units" in found.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("5", "--units", "99"), "units: got 99, expected 6 to 24"),
        (("1", "--over", "path"), "nothing lies between"),
        (("5", "--metric", "acc"), "no step has the metric 'acc'"),
        (("5", "--min", "accuracy=-1%"), "expected a number"),
        (("5", "--method", "spline"), "method: got 'spline'"),
        (("5", "--confidence", "1"), "confidence: got 1"),
        (("9", "--units", "9"), "there is no step 9"),
        (("5", "--plot", "x.doc"), "x.doc"),
    ],
)
def test_bad_input(call: Call, folder: Path, arguments: tuple[str, ...], message: str) -> None:
    assert folder.is_dir()
    found = call("estimate", *arguments)
    assert found.code == 2
    assert message in found.err
