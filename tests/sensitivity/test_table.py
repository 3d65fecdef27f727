"""A scan as a value: headroom, files, and what they refuse."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxprune.errors import DataError
from onnxprune.evaluate import measured
from onnxprune.sensitivity import Failure, Row, Sensitivity, load_sensitivity

BASE = measured("accuracy", 0.9)


def table(losses: dict[str, dict[float, float]], failures: tuple[Failure, ...] = ()) -> Sensitivity:
    rows = tuple(
        Row(group, ratio, round(10 * ratio), 10, 0.9 - loss, loss, 1 - ratio / 2, 1 - ratio / 3)
        for group, each in losses.items()
        for ratio, loss in each.items()
    )
    return Sensitivity("abc", "l2", BASE, 100, rows, failures, False, "print")


def test_headroom_is_the_last_ratio_before_the_first_that_costs_too_much() -> None:
    found = table({"a": {0.1: 0.0, 0.3: 0.02, 0.5: 0.0}, "b": {0.1: 0.2, 0.3: 0.0}, "c": {0.1: -0.1, 0.3: 0.01}})
    assert found.headroom(0.01) == {"a": 0.1, "b": 0.0, "c": 0.3}
    assert found.headroom(0.05) == {"a": 0.5, "b": 0.0, "c": 0.3}
    assert found.groups == ("a", "b", "c")
    assert found.ratios == (0.1, 0.3, 0.5)


def test_one_of_a_hundred_samples_is_one_point() -> None:
    assert 0.98 - 0.97 > 0.01
    assert table({"a": {0.5: 0.98 - 0.97}}).headroom(0.01) == {"a": 0.5}


def test_what_could_not_be_measured_counts_as_too_much() -> None:
    found = table({"a": {0.1: 0.0, 0.5: 0.0}}, (Failure("a", 0.3, "why"), Failure("b", 0.1, "why")))
    assert found.headroom(1.0) == {"a": 0.1, "b": 0.0}
    assert found.groups == ("a", "b")


@given(st.dictionaries(st.sampled_from((0.1, 0.2, 0.4, 0.8)), st.floats(-1, 1), min_size=1), st.floats(0, 1))
def test_headroom_grows_with_the_loss_that_is_allowed(losses: dict[float, float], loss: float) -> None:
    found = table({"a": losses})
    held = found.headroom(loss)["a"]
    assert all(row.within(loss) for row in found.of("a") if row.ratio <= held)
    assert held <= found.headroom(loss + 0.1)["a"]
    assert found.headroom(2.0)["a"] == max(losses)


def test_files(tmp_path: Path) -> None:
    found = table({"conv \udcff [1]": {0.1: 0.25}}, (Failure("b", 0.1, "why"),))
    found.save(tmp_path / "scan.json")
    assert load_sensitivity(tmp_path / "scan.json") == found


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{}", "not a sensitivity scan"),
        ("[1]", "not a sensitivity scan"),
        ("PK\x03", "not a sensitivity scan"),
        ('{"onnxprune_sensitivity": 99}', "of another version"),
        ('{"onnxprune_sensitivity": 1, "rows": [{"group": 1}]}', "not a sensitivity scan"),
    ],
)
def test_files_that_are_none(text: str, words: str, tmp_path: Path) -> None:
    file = tmp_path / "scan.json"
    file.write_text(text)
    with pytest.raises(DataError, match=words):
        load_sensitivity(file)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot read the scan"):
        load_sensitivity(tmp_path / "missing.json")
