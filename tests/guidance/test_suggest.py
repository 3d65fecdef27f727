"""Suggestions: what each kind finds, that its figures are true, and what is said where something is missing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from onnxprune.cost import cost
from onnxprune.data import open_dataset
from onnxprune.errors import OptionError, StepNotFound, WorkspaceError
from onnxprune.evaluate import evaluate
from onnxprune.experiment import analyse
from onnxprune.experiment import prune as prune_model
from onnxprune.guidance import (
    Effect,
    Staircase,
    Suggestion,
    accept,
    ask_missing,
    kept_instability,
    kept_scan,
    kept_scores,
    measure_missing,
    missing,
    suggest,
)
from onnxprune.guidance.asked import asked
from onnxprune.guidance.kept import keep
from onnxprune.guidance.scores import measure
from onnxprune.guidance.shares import shares
from onnxprune.guidance.staircase import jump, known_step, load_staircase
from onnxprune.guidance.subject import subject
from onnxprune.guidance.suggestion import listed
from onnxprune.plan import Plan
from onnxprune.surgery import remove
from onnxprune.workspace.actions import ACTIONS
from onnxprune.workspace.values import Step
from onnxprune.workspace.worker import work
from onnxprune.workspace.workspace import Workspace
from tests.cli.conftest import save
from tests.guidance.conftest import CONSTANT, DEAD, TWINS, UNREAD, Prune, quiet, unlabelled

LOOSE = 0.2  # of the accuracy of a net that was never trained, on 12 samples


def of_kind(found: tuple[Suggestion, ...], kind: str, group: str = "") -> list[Suggestion]:
    return [one for one in found if one.kind == kind and (not group or group in one.units)]


def only(found: tuple[Suggestion, ...], kind: str, group: str = "") -> Suggestion:
    (one,) = of_kind(found, kind, group)
    return one


def applied(workspace: Workspace, suggestion: Suggestion, number: int = 1) -> Step:
    """Accept it and carry the draft out."""
    accept(workspace, number, suggestion)
    return ACTIONS["edit"](workspace, number, {}, quiet, lambda: False)


class TestUnitsThatDoNothing:
    def test_a_filter_that_nothing_reads_is_found_without_data(self, folder: Path, workspace: Workspace) -> None:
        (folder / "data" / "bright.npz").unlink()
        workspace.scan()
        one = only(suggest(workspace, 1), "dead")
        assert one.units == {"conv1": (UNREAD,)}
        assert "are zero" in one.reason
        before, after = (workspace.model(1), workspace.model(applied(workspace, one).number))
        effects = {name: one.effect(name) for name in ("parameters", "macs")}
        for name, effect in effects.items():
            assert effect is not None
            assert effect.basis == "counted"
            assert (effect.before, effect.after) == (getattr(cost(before), name), getattr(cost(after), name))

    def test_dead_constant_and_twin_on_data(self, workspace: Workspace) -> None:
        measure(workspace, 1, "activity", {}, quiet)
        found = suggest(workspace, 1)
        dead = {unit for one in of_kind(found, "dead") for unit in one.units["conv1"]}
        assert dead == {DEAD, UNREAD}
        assert only(found, "constant").units == {"conv1": (CONSTANT,)}
        twin = only(found, "twin")
        assert TWINS[1] in twin.units["conv2"]  # the smaller one
        assert TWINS[0] not in twin.units["conv2"]
        assert f"{TWINS[1]} like {TWINS[0]} (1.0000)" in twin.reason

    def test_removing_a_dead_filter_changes_nothing(self, workspace: Workspace) -> None:
        measure(workspace, 1, "activity", {}, quiet)
        before = workspace.measure(1)
        for one in of_kind(suggest(workspace, 1), "dead"):
            accept(workspace, 1, one)
        after = ACTIONS["edit"](workspace, 1, {}, quiet, lambda: False)
        assert after.metrics["parameters"] < before.metrics["parameters"]
        assert after.metrics["loss"] == pytest.approx(before.metrics["loss"], rel=1e-5)

    def test_a_twin_costs_nothing_after_a_repair(self, workspace: Workspace) -> None:
        measure(workspace, 1, "activity", {}, quiet)
        before = workspace.measure(1)
        step = applied(workspace, only(suggest(workspace, 1), "twin"))
        repaired = ACTIONS["recover"](workspace, step.number, {}, quiet, lambda: False)
        lost = abs(step.metrics["loss"] - before.metrics["loss"])
        assert abs(repaired.metrics["loss"] - before.metrics["loss"]) < 0.1 * lost


class TestUnstable:
    def test_it_takes_low_ranks_that_spread(self, workspace: Workspace) -> None:
        measure(workspace, 1, "instability", {"rate": 0.01}, quiet)
        measure(workspace, 1, "instability", {}, quiet)
        ranks = kept_instability(workspace, 1)
        assert ranks is not None
        low = np.quantile(np.concatenate([g.mean_rank for g in ranks.groups]), 0.2)
        middle = np.quantile(np.concatenate([g.instability for g in ranks.groups]), 0.5)
        wanted = {
            g.name: tuple(np.flatnonzero((np.array(g.mean_rank) <= low) & (np.array(g.instability) >= middle)).tolist())
            for g in ranks.groups
        }
        found = of_kind(suggest(workspace, 1), "unstable")
        single = {name: units for one in found if len(one.units) == 1 for name, units in one.units.items()}
        assert single == {name: units for name, units in wanted.items() if units}


class TestHeadroom:
    def test_it_says_what_the_scan_measured(self, workspace: Workspace) -> None:
        measure(workspace, 1, "scan", {}, quiet)
        scan = kept_scan(workspace, 1)
        assert scan is not None
        room = {name: ratio for name, ratio in scan.headroom(LOOSE).items() if ratio}
        assert room
        found = of_kind(suggest(workspace, 1, loss=LOOSE), "headroom")
        for name, ratio in room.items():
            row = next(r for r in scan.of(name) if r.ratio == ratio)
            one = next(s for s in found if list(s.units) == [name])
            assert len(one.units[name]) == row.removed
            effect = one.effect("accuracy")
            assert effect == Effect(
                "accuracy", scan.baseline.value, row.value, "measured", effect.how if effect else ""
            )
            parameters = one.effect("parameters")
            assert parameters is not None
            assert parameters.after / parameters.before == pytest.approx(row.parameters)

    def test_what_was_measured_is_what_the_step_has(self, workspace: Workspace) -> None:
        measure(workspace, 1, "scan", {}, quiet)
        one = next(s for s in of_kind(suggest(workspace, 1, loss=LOOSE), "headroom") if len(s.units) == 1)
        effect = one.effect("accuracy")
        assert effect is not None
        assert applied(workspace, one).metrics["accuracy"] == pytest.approx(effect.after)


class TestRounding:
    def stairs(self, workspace: Workspace, steps: Mapping[int, float], timed: Mapping[str, Any] | None = None) -> None:
        found = Staircase(steps[16], 4, {"conv2": steps}, timed or {})
        question = asked(workspace, 1, "latency", {})
        keep(workspace, question.model, "latency", question.settings, found.to_json().encode())

    def test_without_a_measurement_blocks_are_assumed_and_it_is_said_so(
        self, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("onnxprune.guidance.rounding.known_step", lambda *_: (15, False))
        one = only(suggest(workspace, 1), "rounding")
        lowest = int(np.argmin(kept_scores(workspace, 1, "l2")["conv2"]))  # type: ignore[index]
        assert one.units == {"conv2": (lowest,)}
        effect = one.effect("latency")
        assert effect is not None
        assert effect.basis == "estimated"
        assert "not measured here" in one.reason
        assert "16 channels take as long as 30" in one.reason
        assert 0.5 <= effect.after < 1

    def test_a_multiple_is_left_alone(self, workspace: Workspace) -> None:
        assert of_kind(suggest(workspace, 1), "rounding") == []  # 8 and 16 channels, blocks of 8

    def test_a_staircase_that_was_measured(self, workspace: Workspace) -> None:
        self.stairs(workspace, {16: 1.0, 15: 0.99, 14: 0.9, 13: 0.9, 12: 0.89})
        one = only(suggest(workspace, 1), "rounding")
        assert len(one.units["conv2"]) == 2
        effect = one.effect("latency")
        assert effect is not None
        assert (effect.before, effect.after, effect.basis) == (1.0, 0.9, "measured")
        assert "2 channels fewer" in one.reason or "2 filters fewer here save 10%" in one.reason
        assert "One fewer of them saves 1%" in one.reason

    def test_a_saving_that_the_whole_model_does_not_show_is_none(self, workspace: Workspace) -> None:
        self.stairs(workspace, {16: 1.0, 15: 0.99, 14: 0.9, 13: 0.9, 12: 0.89}, {"conv2": (14, 1.0, 0.99)})
        assert of_kind(suggest(workspace, 1), "rounding") == []
        self.stairs(workspace, {16: 1.0, 15: 0.99, 14: 0.9, 13: 0.9, 12: 0.89}, {"conv2": (14, 2.0, 1.5)})
        effect = only(suggest(workspace, 1), "rounding").effect("latency")
        assert effect is not None
        assert (effect.before, effect.after) == (2.0, 1.5)

    def test_what_a_draft_removes_for_nothing_may_come_back(self, workspace: Workspace) -> None:
        workspace.drafts.add(1, {"group": "conv2", "remove": [0, 1, 2]})
        one = only(suggest(workspace, 1), "rounding")
        scores = kept_scores(workspace, 1, "l2")
        assert scores is not None
        assert one.edits == ({"group": "conv2", "restore": [0, 1, 2]},)  # 13 channels cost what 16 do, in blocks of 8
        assert "save nothing with blocks of 8, which were not measured here until 5 more go" in one.reason
        accept(workspace, 1, one)
        assert of_kind(suggest(workspace, 1), "rounding") == []

    def test_the_same_with_a_staircase(self, workspace: Workspace) -> None:
        self.stairs(workspace, {16: 1.0, 15: 0.7, 14: 0.7, 13: 0.698, 12: 0.5, 11: 0.5, 10: 0.5})
        workspace.drafts.add(1, {"group": "conv2", "remove": [0, 1, 2]})
        back = [one for one in of_kind(suggest(workspace, 1), "rounding") if "restore" in one.edits[0]]
        scores = kept_scores(workspace, 1, "l2")
        assert scores is not None
        best = sorted(sorted(range(3), key=lambda unit: -scores["conv2"][unit])[:2])
        assert back[0].edits == ({"group": "conv2", "restore": best},)
        more = [one for one in of_kind(suggest(workspace, 1), "rounding") if one.units]
        assert more[0].title.startswith("Remove 1 more")

    def test_jump(self) -> None:
        assert jump({8: 1.0, 7: 0.9, 6: 0.8, 5: 0.7}, 8) == 0  # as it should be
        assert jump({8: 1.0, 7: 1.0, 6: 0.7, 5: 0.69, 4: 0.68}, 8) == 2
        assert jump({8: 1.0, 7: 0.99}, 8) == 0  # not worth it
        assert jump({8: 0.01, 7: 0.009, 6: 0.009}, 8) == 0  # less than a profile can tell
        assert jump({8: 1.0}, 8) == 0

    def test_nothing_is_measured_to_know_the_step(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ONNXPRUNE_CACHE", str(tmp_path))
        monkeypatch.delenv("ONNXPRUNE_NO_MEASURE")
        assert known_step() == (8, False)
        (tmp_path / "alignment.json").write_text("[")
        assert known_step() == (8, False)
        monkeypatch.setattr("onnxprune.guidance.staircase.machine", lambda *_: "here")
        (tmp_path / "alignment.json").write_text('{"here": 16}')
        assert known_step() == (16, True)
        monkeypatch.setenv("ONNXPRUNE_NO_MEASURE", "1")
        assert known_step() == (8, False)


def test_a_staircase_is_measured_and_read_back(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ONNXPRUNE_NO_MEASURE")
    monkeypatch.setenv("ONNXPRUNE_CACHE", str(tmp_path))
    monkeypatch.setattr("onnxprune.guidance.staircase.default_step", lambda *_: 2)
    measure(workspace, 1, "latency", {"threads": 1}, quiet)
    question = asked(workspace, 1, "latency", {"threads": 1})
    row = workspace.database.row("SELECT blob FROM kept WHERE settings = ?", question.settings)
    assert row is not None
    found = load_staircase(workspace.blobs.path(row["blob"]))
    assert list(found.groups["conv2"]) == [16, 15, 14]
    assert found.step == 2
    assert all(ms > 0 for steps in found.groups.values() for ms in steps.values())
    assert found.groups["conv1"][8] == pytest.approx(found.whole)


class TestShares:
    def test_the_group_with_most(self, workspace: Workspace) -> None:
        found = of_kind(suggest(workspace, 1), "share")
        assert {name for one in found for name in one.units} <= {"conv1", "conv2"}
        one = only(suggest(workspace, 1), "share", "conv1")  # what reads its filters belongs to it, too
        assert len(one.units["conv1"]) == 2
        assert "was not measured" in one.reason
        measure(workspace, 1, "scan", {}, quiet)
        again = next(shares(subject(workspace, 1), {}, 0.01))
        assert "the scan lost" in again.reason
        assert again.units == one.units

    def test_it_is_left_out_where_a_better_one_removes_as_much(self, workspace: Workspace) -> None:
        """All but one of conv1 may go by the scan, in a tolerance that allows anything."""
        assert of_kind(suggest(workspace, 1), "share", "conv1")
        measure(workspace, 1, "scan", {}, quiet)
        found = suggest(workspace, 1, loss=2.0)
        room = next(one for one in of_kind(found, "headroom") if list(one.units) == ["conv1"])
        lost = next(shares(subject(workspace, 1), {}, 2.0))
        assert set(lost.units["conv1"]) <= set(room.units["conv1"])
        assert of_kind(found, "share", "conv1") == []


class TestHistory:
    def test_a_cut_that_was_not_trained_after(self, workspace: Workspace) -> None:
        step = _worse(workspace, accuracy=0.5)
        found = of_kind(suggest(workspace, step.number), "history")
        tune = next(one for one in found if one.action and one.action.name == "fine-tune")
        assert tune.action is not None
        assert tune.action.step == step.number
        assert "50.0 points" in tune.reason
        assert any(one.action and one.action.name == "recover" for one in found)
        with pytest.raises(OptionError, match=r"is no edit of a draft"):
            accept(workspace, step.number, tune)
        options: Mapping[str, Any] = {"epochs": 1, "batch": 16}
        ACTIONS["fine-tune"](workspace, step.number, options, quiet, lambda: False)
        left = of_kind(suggest(workspace, step.number), "history")
        assert [one.action.name for one in left if one.action] == []

    def test_a_class_that_lost_most_gets_a_floor(self, workspace: Workspace) -> None:
        step = _worse(workspace, accuracy=0.9, recalls={"0": 0.99, "1": 0.7, "2": 0.99})
        one = next(s for s in of_kind(suggest(workspace, step.number), "history") if "floor" in s.title)
        assert one.action is not None
        assert one.action.step == 1
        assert one.action.options["min"] == {"recall:1": 0.97}
        assert one.effects[0].name == "recall:1"

    def test_a_training_that_was_still_getting_better(self, workspace: Workspace) -> None:
        options: Mapping[str, Any] = {"epochs": 2, "batch": 16, "rate": 0.01}
        step = ACTIONS["fine-tune"](workspace, 1, options, quiet, lambda: False)
        report = workspace.document(step.number, "report")
        assert report is not None
        best = b'"best_epoch":2' in report
        titles = [one.title for one in of_kind(suggest(workspace, step.number), "history")]
        assert ("Train on" in titles) == best


def _worse(workspace: Workspace, *, accuracy: float, recalls: Mapping[str, float] | None = None) -> Step:
    """A pruned step whose metrics are made up, beside an original that was right on everything."""
    metrics = {("accuracy", ""): 1.0, **{("recall", cls): 1.0 for cls in recalls or ()}}
    workspace.steps.measured(1, metrics, {})
    plan = prune_model(workspace.model(1), ratio=0.5, round_to=1, verify=False).plan
    file = workspace.folder / "plan.json"
    plan.save(file)
    with pytest.MonkeyPatch.context() as patch:
        made_up = {("accuracy", ""): accuracy, **{("recall", cls): value for cls, value in (recalls or {}).items()}}
        patch.setattr("onnxprune.workspace.actions.measure", lambda *_, **__: _Measured(made_up))
        return ACTIONS["edit"](workspace, 1, {"plan": str(file)}, quiet, lambda: False)


class _Measured:
    def __init__(self, metrics: Mapping[tuple[str, str], float]) -> None:
        self.metrics, self.documents = metrics, dict[str, str]()


class TestWhatIsMissing:
    def test_it_says_what_was_not_measured_and_what_would(self, workspace: Workspace) -> None:
        assert missing(workspace, 1) == ("activity", "instability", "scan", "latency")
        found = of_kind(suggest(workspace, 1), "measure")
        assert {one.action.name for one in found if one.action} == set(missing(workspace, 1))
        jobs = ask_missing(workspace, 1)
        assert [job.action for job in jobs] == list(missing(workspace, 1))
        states: dict[str, str] = {}
        work(workspace, ended=lambda job: states.update({job.action: job.state}))
        assert states == {"activity": "done", "instability": "done", "scan": "done", "latency": "failed"}
        assert missing(workspace, 1) == ("latency",)

    def test_all_at_once(self, workspace: Workspace) -> None:
        failed = measure_missing(workspace, 1, quiet, tried=2, loss=LOOSE)
        assert list(failed) == ["latency"]
        assert "NO_MEASURE" in failed["latency"]
        found = suggest(workspace, 1, loss=LOOSE)
        assert [one.worth for one in found] == sorted((one.worth for one in found), reverse=True)
        tried = [one for one in found if one.kind != "headroom" and one.units and one.effect("accuracy") is not None]
        assert len(tried) >= 2
        for one in tried:
            effect = one.effect("accuracy")
            assert effect is not None
            assert effect.basis == "measured"
            units = {name: np.array(gone) for name, gone in one.units.items()}
            assert effect.after == _accuracy_without(workspace, units)

    def test_without_data_weights_still_speak(self, folder: Path, workspace: Workspace) -> None:
        (folder / "data" / "bright.npz").unlink()
        workspace.scan()
        found = suggest(workspace, 1)
        assert {one.kind for one in found} >= {"dead", "share", "measure"}
        assert missing(workspace, 1) == ("latency",)
        (told,) = [one for one in of_kind(found, "measure") if one.action is None]
        assert "Put data" in told.title
        assert "never active" in told.reason
        assert list(measure_missing(workspace, 1, quiet, tried=1)) == ["latency"]

    def test_without_labels(self, folder: Path) -> None:
        unlabelled(folder)
        with Workspace.open(folder) as workspace:
            failed = measure_missing(workspace, 1, quiet, tried=1, loss=LOOSE)
            assert "activity" not in failed
            assert "scan" not in failed
            found = suggest(workspace, 1, loss=LOOSE)
            room = of_kind(found, "headroom")
            assert room
            assert room[0].effect("agreement") is not None

    def test_a_model_without_groups(self, tmp_path: Path) -> None:
        place = tmp_path / "bare"
        place.mkdir()
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])
        y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])
        graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "bare", [x], [y])
        save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), place / "bare.onnx")
        with Workspace.open(place) as workspace:
            (one,) = suggest(workspace, 1)
            assert one.title == "Nothing can be removed"

    def test_bad_input(self, workspace: Workspace) -> None:
        with pytest.raises(StepNotFound, match=r"there is no step 9"):
            suggest(workspace, 9)
        with pytest.raises(OptionError, match=r"suggestions have no option 'ratio'"):
            suggest(workspace, 1, ratio=0.5)
        with pytest.raises(OptionError, match=r"loss: got -1"):
            suggest(workspace, 1, loss=-1)


class TestAccepting:
    def test_it_goes_into_the_draft_and_can_be_undone(self, workspace: Workspace) -> None:
        one = only(suggest(workspace, 1), "share", "conv1")
        entries = accept(workspace, 1, one)
        assert [entry.edit["by"] for entry in entries] == ["suggestion"]
        assert entries[0].edit["remove"] == list(one.units["conv1"])
        assert of_kind(suggest(workspace, 1), "share", "conv1") == []
        workspace.drafts.undo(1)
        assert only(suggest(workspace, 1), "share", "conv1").units == one.units

    def test_a_step_in_the_trash(self, workspace: Workspace, prune: Prune) -> None:
        step = prune(ratio=0.25)
        one = next(s for s in suggest(workspace, step.number) if s.edits)
        workspace.steps.trash(step.number)
        assert suggest(workspace, step.number)
        with pytest.raises(WorkspaceError, match=rf"step {step.number} is in the trash"):
            accept(workspace, step.number, one)

    def test_a_folder_for_viewing(self, folder: Path) -> None:
        with Workspace.open(folder, readonly=True) as viewer:
            one = next(s for s in suggest(viewer, 1) if s.edits)
            with pytest.raises(WorkspaceError, match=r"was opened for viewing"):
                accept(viewer, 1, one)


def _accuracy_without(workspace: Workspace, units: Mapping[str, Any]) -> float:
    model, coupling = analyse(workspace.model(1))
    sizes = {group.name: group.units for group in coupling.groups}
    small = remove(model, coupling, Plan(coupling.model_hash, units, sizes))
    return evaluate(small, open_dataset(workspace.folder / "data/bright.npz")).value("accuracy")


def test_words() -> None:
    assert listed([1, 2]) == "1, 2"
    assert listed(range(9)) == "0, 1, 2, 3, 4 and 4 more"
    effect = Effect("macs", 0, 0, "counted")
    assert effect.share is None
    one = Suggestion("share", "t", "r", 0.5, effects=(Effect("macs", 10, 6, "counted"),))
    assert one.worth == pytest.approx(0.5 * 0.65)
    assert one.as_dict()["effects"][0]["share"] == pytest.approx(-0.4)
