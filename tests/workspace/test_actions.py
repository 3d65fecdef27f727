"""What is done to a step: recorded whole, reproducible by its command, and nothing of it when it breaks off."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnxprune.errors import GroupNotFound, NothingToPrune, OptionError, PlanMismatch, WorkspaceError
from onnxprune.experiment import prune
from onnxprune.model import load, save
from onnxprune.train import History
from onnxprune.workspace.actions import ACTIONS, options_of
from onnxprune.workspace.values import Cancelled, Step
from onnxprune.workspace.workspace import Workspace
from tests.cli.conftest import cnn
from tests.cli.conftest import save as write


def do(workspace: Workspace, action: str, number: int = 1, **options: Any) -> Step:
    return ACTIONS[action](workspace, number, options, lambda *_: None, lambda: False)


def again(workspace: Workspace, step: Step) -> Step:
    """What the step's command says, done again."""
    program, ws, verb, number, *rest = step.command
    assert (program, ws) == ("onnxprune", "ws")
    assert rest[::2] == ["--set"] * (len(rest) // 2)
    options = {}
    for text in rest[1::2]:
        name, _, value = text.partition("=")
        try:
            options[name] = json.loads(value)
        except ValueError:
            options[name] = value
    return do(workspace, {"finetune": "fine-tune"}.get(verb, verb), int(number), **options)


def test_a_pruning_is_recorded_with_all_that_is_known(workspace: Workspace) -> None:
    step = do(workspace, "prune", ratio=0.5, name="half", seed=4)
    assert (step.kind, step.parent, step.name, step.dataset) == ("prune", 1, "half", "data/bright.npz")
    assert (step.seed, step.promise) == (4, "identical")
    direct = prune(workspace.model(1), ratio=0.5, round_to=1, seed=4)
    assert step.model_hash == direct.model.hash == workspace.model(step.number).hash
    plan = workspace.plan(step.number)
    assert plan is not None
    assert plan.removed_units == 12
    assert step.metrics["parameters"] == direct.after.parameters
    assert step.metrics["macs"] == direct.after.macs
    documents = workspace.steps.documents(step.number)
    assert documents.keys() == {"evaluation", "predictions", "report"}
    report = json.loads(workspace.document(step.number, "report") or b"")
    assert report["proof"]["ok"] is True
    assert "accuracy" in workspace.steps.get(1).metrics, "there must be something to compare with"
    assert workspace.document(step.number, "history") is None


def test_floors_and_losses_are_given_as_values(workspace: Workspace) -> None:
    step = do(
        workspace, "prune", ratio=0.75, min={"accuracy": 0.0, "recall:1": 0.0}, loss="cross-entropy", criterion="taylor"
    )
    assert step.metrics["parameters"] < workspace.steps.get(1).metrics["parameters"]
    with pytest.raises(OptionError, match=r"min: got 0\.9, expected metrics and values"):
        do(workspace, "prune", ratio=0.5, min=0.9)


def test_every_kind_is_made_again_by_its_command(workspace: Workspace, tmp_path: Path) -> None:
    half = do(workspace, "prune", ratio=0.5, recover="none")
    mended = do(workspace, "recover", half.number)
    tuned = do(workspace, "fine-tune", mended.number, epochs=2, deterministic=True, rate=0.001)
    workspace.drafts.add(tuned.number, {"group": "conv1", "remove": [0]})
    edited = do(workspace, "edit", tuned.number)
    workspace.export(half.number, tmp_path / "out")
    planned = do(workspace, "import", 1, plan=str(tmp_path / "out" / "plan.json"))
    imported = do(workspace, "import", 1, model=str(tmp_path / "out" / "model.onnx"))
    (tmp_path / "out" / "plan.json").unlink()
    (tmp_path / "out" / "model.onnx").unlink()
    made = (half, mended, tuned, edited, planned, imported)
    assert [step.kind for step in made] == ["prune", "recover", "fine-tune", "edit", "import", "import"]
    assert all(step.promise == "identical" for step in made)
    workspace.steps.trash(half.number)
    for step in made:
        same = again(workspace, step)
        assert same.number > imported.number
        assert (same.kind, same.parent, same.model_hash) == (step.kind, step.parent, step.model_hash)
        assert same.command == step.command
    assert planned.model_hash == imported.model_hash == half.model_hash


def test_a_repair_repairs(workspace: Workspace) -> None:
    half = do(workspace, "prune", ratio=0.5, recover="none")
    mended = do(workspace, "recover", half.number, method="least-squares")
    assert (mended.kind, mended.parent, mended.plan) == ("recover", half.number, None)
    assert mended.model_hash != half.model_hash
    assert workspace.model(mended.number).metadata["onnxprune.hash"] == mended.model_hash
    with pytest.raises(WorkspaceError, match=r"nothing was removed on the way to step 1"):
        do(workspace, "recover", 1)


def test_a_training_keeps_its_history(workspace: Workspace) -> None:
    options = {"epochs": 3, "optimizer": "sgd", "rate": 0.01, "target": "accuracy=2", "teacher": 1}
    step = do(workspace, "fine-tune", validation="test", **options)
    assert step.promise == "close"
    history = History.from_dict(json.loads(workspace.document(step.number, "history") or b""))
    assert len(history.trained) == 3
    assert history.model_hash == workspace.steps.get(1).model_hash
    assert history.before is not None
    assert history.before.metric("accuracy").value == workspace.steps.get(1).metrics["accuracy"]  # type: ignore[union-attr]


@pytest.mark.parametrize("validation", ["none", "0.25", "test"])
def test_what_is_measured_on_while_training(workspace: Workspace, validation: str) -> None:
    assert do(workspace, "fine-tune", epochs=1, validation=validation).kind == "fine-tune"


def test_wrong_options_are_refused(workspace: Workspace) -> None:
    for action, options, words in (
        ("prune", {"ratoi": 0.5}, r"(?s)prune has no option 'ratoi'.*ratio"),
        ("fine-tune", {"deterministic": True, "time_limit": 5}, r"deterministic and time_limit"),
        ("fine-tune", {"target": 3}, r"target: got 3"),
        ("import", {}, r"takes a model or a plan"),
        ("edit", {"ratio": 1}, r"edit has no option 'ratio'"),
    ):
        with pytest.raises(OptionError, match=words):
            do(workspace, action, **options)
    assert [step.number for step in workspace.steps.all()] == [1]
    assert {"ratio", "target_macs", "criterion", "data", "min"} <= set(options_of("prune"))


def test_a_plan_of_another_model_is_refused(workspace: Workspace, tmp_path: Path) -> None:
    half = do(workspace, "prune", ratio=0.5)
    workspace.export(half.number, tmp_path)
    with pytest.raises(PlanMismatch, match=r"another model|made for"):
        do(workspace, "import", half.number, plan=str(tmp_path / "plan.json"))
    with pytest.raises(WorkspaceError, match=r"leads out of the workspace"):
        do(workspace, "import", 1, plan=".onnxprune/../../plan.json")


def test_an_imported_model_may_be_a_tree_of_its_own(workspace: Workspace, tmp_path: Path) -> None:
    path = tmp_path / "small.onnx"
    save(prune(workspace.model(1), ratio=0.5).model, path)
    root = do(workspace, "import", 0, model=str(path), name="small")
    assert (root.parent, root.root, root.name) == (None, root.number, "small")
    assert workspace.dataset_name(root.number) == "data/bright.npz"
    assert "accuracy" in workspace.measure(root.number).metrics
    assert do(workspace, "fine-tune", root.number, epochs=1).root == root.number


class TestDrafts:
    def units(self, workspace: Workspace, *edits: dict[str, Any], **options: Any) -> dict[str, list[int]]:
        for edit in edits:
            workspace.drafts.add(1, edit)
        plan = workspace.plan(do(workspace, "edit", 1, **options).number)
        assert plan is not None
        return {name: units.tolist() for name, units in plan.units.items()}

    def test_entries_add_up(self, workspace: Workspace) -> None:
        found = self.units(
            workspace,
            {"group": "conv1", "remove": [1, 2, 5]},
            {"group": "conv1", "restore": [2]},
            {"group": "conv2", "remove": [0], "brush": "scatter"},
        )
        assert found == {"conv1": [1, 5], "conv2": [0]}
        assert workspace.drafts.entries(1) == []

    def test_what_was_undone_does_not_count(self, workspace: Workspace) -> None:
        workspace.drafts.add(1, {"group": "conv1", "remove": [1]})
        workspace.drafts.add(1, {"group": "conv1", "remove": [2]})
        workspace.drafts.undo(1)
        assert self.units(workspace) == {"conv1": [1]}

    def test_by_criterion(self, workspace: Workspace) -> None:
        found = self.units(workspace, {"criterion": "l2", "ratio": 0.25})
        assert {name: len(units) for name, units in found.items()} == {"conv1": 2, "conv2": 4}
        assert found == self.units(workspace, {"criterion": "l2", "ratio": 0.25})
        everything = self.units(
            workspace, {"criterion": "l2", "threshold": 1e9, "group": "conv1"}, {"group": "conv1", "restore": [3]}
        )
        assert everything == {"conv1": [0, 1, 2, 4, 5, 6, 7]}

    def test_single_weights(self, workspace: Workspace) -> None:
        workspace.drafts.add(1, {"weight": "fc.weight", "remove": [0, 17, 3]})
        workspace.drafts.add(1, {"weight": "fc.weight", "restore": [3]})
        step = do(workspace, "edit", 1)
        values = workspace.model(step.number).array("fc.weight").reshape(-1)
        assert np.flatnonzero(values == 0).tolist() == [0, 17]

    @pytest.mark.parametrize(
        ("edit", "error", "words"),
        [
            ({"group": "conv9", "remove": [0]}, GroupNotFound, r"there is no group 'conv9'"),
            ({"weight": "w", "remove": [0]}, OptionError, r"no weight 'w'"),
            ({"group": "conv1", "remove": [8]}, OptionError, r"has no number 8"),
            ({"group": "conv1", "remove": []}, NothingToPrune, r"the draft removes nothing"),
            ({"group": "conv1"}, OptionError, r"says one thing, this one 0"),
            ({"remove": [1]}, OptionError, r"names a group or a weight"),
            ({"group": "conv1", "remove": "12"}, OptionError, r"expected a list of numbers"),
            ({"ratio": 0.5}, OptionError, r"ratio needs a criterion"),
            ({"criterion": "l2", "ratio": 2}, OptionError, r"ratio: got 2"),
            ({"criterion": "l2", "threshold": "x"}, OptionError, r"expected a number"),
        ],
    )  # fmt: skip
    def test_bad_ones(self, workspace: Workspace, edit: dict[str, Any], error: type[Exception], words: str) -> None:
        workspace.drafts.add(1, edit)
        with pytest.raises(error, match=words):
            do(workspace, "edit", 1)
        assert len(workspace.drafts.entries(1)) == 1


def test_what_is_drafted_while_a_draft_is_applied_stays(workspace: Workspace) -> None:
    workspace.drafts.add(1, {"group": "conv1", "remove": [0]})

    def progress(stage: str, *_: int) -> None:
        if stage == "recording":
            workspace.drafts.add(1, {"group": "conv1", "remove": [1]})

    made = ACTIONS["edit"](workspace, 1, {}, progress, lambda: False)
    assert [entry.edit["remove"] for entry in workspace.drafts.entries(1)] == [[1]]
    plan = workspace.plan(made.number)
    assert plan is not None
    assert plan.units["conv1"].tolist() == [0]


@pytest.mark.parametrize(("action", "options"), [("prune", {"ratio": 0.5}), ("fine-tune", {"epochs": 3})])
def test_cancelled_work_leaves_nothing(workspace: Workspace, action: str, options: dict[str, Any]) -> None:
    workspace.measure(1)
    for asked in (1, 2, 4):
        answers = iter([*[False] * (asked - 1), *[True] * 1000])
        with pytest.raises(Cancelled):
            ACTIONS[action](workspace, 1, options, lambda *_: None, lambda: next(answers))  # noqa: B023 - called at once
    assert [step.number for step in workspace.steps.all(trashed=True)] == [1]
    workspace.gc(grace=0)
    assert set(workspace.blobs.names()) == workspace.steps.blobs()


def test_without_data_there_are_costs_only(tmp_path: Path) -> None:
    write(cnn(), tmp_path / "cnn.onnx")
    with Workspace.open(tmp_path) as workspace:
        step = do(workspace, "prune", ratio=0.5)
        assert "accuracy" not in step.metrics
        assert step.metrics["parameters"] > 0
        with pytest.raises(WorkspaceError, match=r"there are no data that fit step 1"):
            do(workspace, "fine-tune")


def test_without_labels_models_are_compared_with_the_original(folder: Path) -> None:
    with np.load(folder / "data" / "bright.npz") as file:
        arrays = {name: file[name] for name in ("x_train", "x_test")}
    np.savez(folder / "data" / "bright.npz", **arrays)
    with Workspace.open(folder) as workspace:
        step = do(workspace, "prune", ratio=0.5)
        assert 0 <= step.metrics["agreement"] <= 1
        assert load(workspace.blobs.path(step.model)).hash == step.model_hash


def test_labels_that_fit_no_output_do_not_stop_the_work(folder: Path) -> None:
    with np.load(folder / "data" / "bright.npz") as file:
        arrays = {name: file[name] for name in ("x_train", "x_test")}
    labels = {name.replace("x", "y"): np.zeros((len(rows), 7, 2), np.float32) for name, rows in arrays.items()}
    np.savez(folder / "data" / "bright.npz", **arrays, **labels)
    with Workspace.open(folder) as workspace:
        step = do(workspace, "prune", ratio=0.5)
        assert "accuracy" not in step.metrics
        assert step.metrics["parameters"] > 0
        for number in (1, 2):
            assert "label" in workspace.problem(number)
