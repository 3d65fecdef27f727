"""The pieces of work of docs/scenarios.md, at a pace for tests; their story has to come out, not their figures."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from examples import scenarios
from examples.scenarios import FLOOR, LEAST, SCENARIOS, WRONG, Bench, Pace
from onnxprune.plan import diff
from onnxprune.workspace.workspace import Workspace

PACE = Pace(epochs=4, short=3, fresh=10, most=3, tries=1, seeds=3, halves=1)
DOCS = Path(__file__).resolve().parents[1] / "docs" / "scenarios.md"


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def bench(tmp_path: Path, told: list[str], monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setenv("ONNXPRUNE_NO_MEASURE", "1")
    return Bench(tmp_path / "digits", PACE, told.append)


def test_automatic_until_an_iteration_fails(bench: Bench, told: list[str]) -> None:
    found = scenarios.automatic(bench)
    units = [row["units"] for row in found["tries"]]
    assert units == [112, 75, 50][: len(units)], "a third each time"
    held = [row for row in found["tries"] if row["holds"]]
    assert all(row["value"] >= LEAST for row in held)
    assert [row["holds"] for row in found["tries"][:-1]] == [True] * (len(units) - 1), "the first failure ends it"
    assert found["result"] == held[-1]["step"]
    assert "is the smallest that holds" in told[-1]


def test_the_second_stage_tries_what_the_estimator_says(bench: Bench, told: list[str]) -> None:
    found = scenarios.two_stages(bench)
    holding, failing = ([row["units"] for row in found["tries"] if row["holds"] is kind] for kind in (True, False))
    assert failing, "at four epochs half of the filters, three times, is too much"
    (second,) = found["second"]
    assert failing[0] < second["units"] < holding[-1]
    assert second["units"] in (second["asked"], failing[0] + 1, holding[-1] - 1)
    assert found["units"] == [holding[-1], second["units"] if second["holds"] else holding[-1]]
    assert any("The estimator says" in line for line in told)


def test_a_class_is_rescued_and_that_is_no_luck(bench: Bench, told: list[str]) -> None:
    found = scenarios.rescue(bench)
    before, after = found["recall"]
    assert before < FLOOR <= after
    assert found["accuracy"][1] > found["accuracy"][0]
    assert found["improved"] > found["degenerated"]
    assert sum("comes back" in line for line in told) == 4
    swap = bench.swap
    assert swap is not None
    with Workspace.open(bench.folder, scan=False) as workspace:
        plans = workspace.plan(swap.cut), workspace.plan(swap.swapped)
    assert plans[0] is not None
    assert plans[1] is not None
    assert plans[0].removed_units == plans[1].removed_units, "the same number of filters"
    assert sum(row.only_a.size for row in diff(*plans).groups) == 4
    again = scenarios.repeats(bench)
    assert again["class"] == found["class"]
    assert again["plans"] == [swap.cut, swap.swapped]
    assert again["recall"]["mean"][1] - again["recall"]["mean"][0] > 0.1


def test_wrong_labels_are_pointed_out(bench: Bench) -> None:
    found = scenarios.mislabelled(bench)
    assert found["chance"] == WRONG
    assert found["test"]["all steps"] >= 0.6
    assert found["train"]["smallest"] >= 0.3
    assert found["train"]["smallest"] >= found["train"]["original"], "what is pruned knows fewer samples by heart"


def test_the_documents_tell_all_of_them() -> None:
    titles = re.findall(r"^## (.+)$", DOCS.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(titles) >= len(SCENARIOS)
    for name in SCENARIOS:
        assert f"python -m examples.scenarios {name}" in DOCS.read_text(encoding="utf-8")
