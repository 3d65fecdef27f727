"""What the history tells of a step without its model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from onnxprune.experiment import analyse
from onnxprune.plan import Plan
from onnxprune.workspace.actions import ACTIONS
from onnxprune.workspace.facts import Fact, Removal, converged, fact_of, units_left
from onnxprune.workspace.values import NewStep, Step
from onnxprune.workspace.workspace import Workspace


def step(number: int, parent: int | None, kind: str = "prune") -> Step:
    return Step(number, parent, 1, kind, 0.0, 0.0, "", f"hash {number}", None, None, None, (), "identical", {}, {})


@pytest.mark.parametrize(
    ("stopped", "best", "epochs", "expected"),
    [
        ("delta loss", 9, 9, True),
        ("target accuracy", 1, 1, True),
        ("max epochs", 10, 10, False),
        ("max epochs", 9, 10, False),
        ("max epochs", 8, 10, True),
        ("max epochs", 2, 3, False),
        ("time limit", 1, 20, True),
        ("diverged", 1, 2, False),
    ],
)
def test_converged(stopped: str, best: int, epochs: int, expected: bool) -> None:
    assert converged({"stopped": stopped, "best_epoch": best, "epochs": epochs}) is expected


def test_units_of_real_steps_are_those_of_their_models(workspace: Workspace) -> None:
    def silent(*_: object) -> None:
        """Nobody looks."""

    first = ACTIONS["prune"](workspace, 1, {"ratio": 0.5}, silent, lambda: False)
    trained = ACTIONS["fine-tune"](workspace, first.number, {"epochs": 1}, silent, lambda: False)
    second = ACTIONS["prune"](workspace, trained.number, {"ratio": 0.5}, silent, lambda: False)
    steps = workspace.steps.all()
    found = units_left(steps, {s.number: fact_of(workspace, s) for s in steps})
    for number in (1, first.number, trained.number, second.number):
        groups = analyse(workspace.model(number))[1].groups
        assert found[number] == {group.name: group.units for group in groups}


def test_masked_units_count_as_gone_once() -> None:
    sizes = {"a": 6}
    facts = {
        1: Fact(),
        2: Fact(Removal(sizes, {"a": [0, 1]}, masked=True)),
        3: Fact(Removal(sizes, {"a": [1, 2]}, masked=True)),
        4: Fact(Removal(sizes, {"a": [0, 5]})),
    }
    found = units_left([step(1, None, "original"), step(2, 1), step(3, 2), step(4, 3)], facts)
    assert [found[n] for n in (1, 2, 3, 4)] == [{"a": 6}, {"a": 4}, {"a": 3}, {"a": 2}]


def test_groups_that_only_a_later_plan_names_are_in_all_steps() -> None:
    facts = {1: Fact(), 2: Fact(Removal({"a": 4}, {"a": [0]})), 3: Fact(Removal({"a": 3, "b": 5}, {"b": [1]}))}
    found = units_left([step(1, None, "original"), step(2, 1), step(3, 2)], facts)
    assert found == {1: {"b": 5, "a": 4}, 2: {"b": 5, "a": 3}, 3: {"b": 4, "a": 3}}


def test_an_original_without_plans_has_what_was_counted() -> None:
    root = step(1, None, "original")
    assert units_left([root], {1: Fact()}) == {1: None}
    assert units_left([root], {1: Fact()}, {"hash 1": {"a": 3}}) == {1: {"a": 3}}


def test_an_imported_model_has_units_of_its_own() -> None:
    facts = {1: Fact(), 2: Fact(Removal({"a": 4}, {"a": [0]})), 3: Fact(), 4: Fact(Removal({"z": 9}, {"z": [0, 1]}))}
    found = units_left([step(1, None, "original"), step(2, 1), step(3, 2, "import"), step(4, 3)], facts)
    assert found == {1: {"a": 4}, 2: {"a": 3}, 3: {"z": 9}, 4: {"z": 7}}


def test_damaged_documents_tell_nothing(workspace: Workspace) -> None:
    root = workspace.steps.get(1)
    plan = workspace.blobs.put(Plan("0" * 64, {"conv1": np.array([0])}, {"conv1": 4}).to_json().encode())
    report = workspace.blobs.put(b'{"best_epoch": 3, "epochs": 3, "stopped": "max epochs"}')
    added = workspace.add(NewStep("fine-tune", root.model, "x", 1, plan, documents={"report": report}))
    assert fact_of(workspace, added) == Fact(Removal({"conv1": 4}, {"conv1": [0]}), False, 3, "max epochs")
    for blob in (plan, report):
        path = Path(workspace.blobs.path(blob))
        path.chmod(0o644)
        path.write_bytes(b"something else")
    assert fact_of(workspace, added) == Fact(Removal({}, {}))
