"""What is typed into the settings, and what it would come to."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from dash_ui.desk import Desk
from dash_ui.rows.effect import effect_of, group_rows
from dash_ui.rows.fields import ACTIONS, fields_of
from dash_ui.rows.form import options_of_form
from dash_ui.views.settings import applied, effect_words
from onnxprune.automatic.settings import AutoSettings
from onnxprune.cost import CostModel
from onnxprune.workspace.actions import ACTIONS as DONE
from onnxprune.workspace.actions import options_of

DEMO = Path(__file__).parents[2] / "onnxprune" / "demo_data"


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    shutil.copy(DEMO / "digits_cnn.onnx", tmp_path)
    found = Desk(tmp_path)
    with found.workspace(scan=True):
        return found


@pytest.mark.parametrize("action", ACTIONS)
def test_every_field_is_an_option_of_its_action(action: str) -> None:
    fields = fields_of(action)
    known = {field.name for field in dataclasses.fields(AutoSettings)} if action == "auto" else options_of(action)
    assert {field.name for field in fields} <= set(known)
    assert len({field.name for field in fields}) == len(fields)
    assert all(field.choices for field in fields if field.kind == "choice")


@pytest.mark.parametrize("action", ACTIONS)
def test_what_it_begins_with_can_be_used(action: str) -> None:
    found = options_of_form(action, {field.name: field.value for field in fields_of(action)})
    assert found.problems == {}


@pytest.mark.parametrize(
    ("text", "share"), [("50%", 0.5), ("50", 0.5), ("0.5", 0.5), ("0,5", 0.5), ("1/2", 0.5), (" 1/3 ", 1 / 3)]
)
def test_shares_may_be_written_in_many_ways(text: str, share: float) -> None:
    assert options_of_form("prune", {"ratio": text}).given["ratio"] == pytest.approx(share)


def test_a_target_takes_the_place_of_a_share() -> None:
    form = {"ratio": "50%", "distribution": "uniform", "target_params": "2.5M", "target_macs": "40%"}
    assert options_of_form("prune", form).given == {"target_params": "2.5M", "target_macs": 0.4}


def test_floors() -> None:
    found = options_of_form("prune", {"ratio": "50%", "min": "accuracy=98%, recall:7=0.9"})
    assert found.given["min"] == {"accuracy": 0.98, "recall:7": 0.9}


def test_groups() -> None:
    rows = [{"group": "a", "ratio": "1/4", "locked": False}, {"group": "b", "ratio": "50%", "locked": True}]
    found = options_of_form("prune", {"ratio": "50%"}, rows)
    assert found.given["group_ratios"] == {"a": 0.25}
    assert found.given["skip"] == ["b"]


@pytest.mark.parametrize(
    ("action", "form", "field", "words"),
    [
        ("prune", {"ratio": "half"}, "ratio", "half is not a share"),
        ("prune", {"ratio": "1/0"}, "ratio", "1/0 is not a share"),
        ("prune", {"ratio": "150%"}, "ratio", "1.5"),
        ("prune", {}, "", "no ratio and no target"),
        ("prune", {"ratio": "50%", "min": "accuracy"}, "min", "accuracy is not metrics with values"),
        ("prune", {"ratio": "50%", "pattern": "2:4"}, "", "both"),
        ("prune", {"target_macs": "many"}, "target_macs", "many is not a share"),
        ("fine-tune", {"epochs": "few"}, "epochs", "few is not a whole number"),
        ("fine-tune", {"epochs": "-1"}, "epochs", "-1 is not a whole number"),
        ("fine-tune", {"target": "98%"}, "target", "accuracy=0.98"),
        ("auto", {"ratio": "1"}, "ratio", "ratio"),
    ],
)
def test_what_is_wrong_is_said_at_its_field(action: str, form: Mapping[str, Any], field: str, words: str) -> None:
    found = options_of_form(action, form)
    assert list(found.problems) == [field]
    assert words in found.problems[field]


def test_a_wrong_group_is_named() -> None:
    found = options_of_form("prune", {"ratio": "50%"}, [{"group": "conv1", "ratio": "x", "locked": False}])
    assert found.problems == {"groups": "conv1: x is not a share such as 50%, 0.5 or 1/2."}


@pytest.mark.parametrize("options", [{"ratio": 0.5}, {"target_params": 0.5}, {"ratio": 0.3, "distribution": "global"}])
def test_the_effect_is_what_pruning_comes_to(desk: Desk, options: dict[str, Any]) -> None:
    with desk.workspace() as workspace:
        step = workspace.steps.get(1)
        found = effect_of(desk, workspace, step, options)
        made = DONE["prune"](workspace, 1, options, lambda *_: None, lambda: False)
        assert found.parameters_left == pytest.approx(made.metrics["parameters"] / step.metrics["parameters"])
        assert found.macs_left == pytest.approx(made.metrics["macs"] / step.metrics["macs"])
        plan = workspace.plan(made.number)
        assert plan is not None
        assert found.groups == {name: len(gone) for name, gone in plan.units.items()}
        assert found.units == sum(map(len, plan.units.values()))
    assert f"{found.units:,} of {found.of:,} units go" in str(effect_words(found)[0])


def test_effects_that_nobody_can_tell(desk: Desk) -> None:
    with desk.workspace() as workspace:
        step = workspace.steps.get(1)
        assert "measured while pruning" in effect_of(desk, workspace, step, {"target_latency": "5ms"}).problem
        unknown = effect_of(desk, workspace, step, {"ratio": 0.5, "skip": ["nothing"]})
        assert "nothing" in unknown.problem
        data = effect_of(desk, workspace, step, {"ratio": 0.5, "criterion": "taylor", "distribution": "global"})
        assert (data.exact, data.units > 0) == (False, True)
        weights = effect_of(desk, workspace, step, {"ratio": 0.5, "granularity": "weight"})
        assert weights.units / weights.of == pytest.approx(0.5, abs=0.01)


def test_group_rows(desk: Desk) -> None:
    with desk.workspace() as workspace:
        _, coupling = desk.analysis(workspace, workspace.steps.get(1))
    rows = group_rows(coupling, CostModel(coupling))
    assert [row["group"] for row in rows] == [group.name for group in coupling.groups]
    assert all(0 < row["parameters"] <= 1 for row in rows)


def test_what_the_settings_say_holds_for_a_draft() -> None:
    assert applied(None) == {}
    given = {"criterion": "l2", "ratio": 0.5, "mode": "mask", "recover": "bias", "samples": 64}
    assert applied({"prune": given}) == {"mode": "mask", "recover": "bias", "samples": 64}
    assert applied({"prune": {"mode": "remove"}}) == {}
