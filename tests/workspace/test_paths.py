"""Figures over a path: they agree with what they are made of."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import numpy as np
import pytest

from onnxprune.data import open_dataset
from onnxprune.errors import DataError, OptionError
from onnxprune.evaluate import compare, evaluate
from onnxprune.train import History, recovery_cost
from onnxprune.workspace.actions import ACTIONS
from onnxprune.workspace.paths import (
    cell_rows,
    class_rows,
    compare_steps,
    confusion_rows,
    epoch_rows,
    instance_rows,
    loss_rows,
    main_metric,
    pareto_front,
    path_rows,
    to_csv,
    tree_rows,
)
from onnxprune.workspace.values import NewStep
from onnxprune.workspace.workspace import Workspace


@pytest.fixture
def path(workspace: Workspace) -> Workspace:
    """1 is trained, 2 is pruned of it, and 3 fine-tuned."""
    options: tuple[tuple[str, dict[str, Any]], ...] = (
        ("fine-tune", {"epochs": 12, "rate": 0.03}), ("prune", {"ratio": 0.75}), ("fine-tune", {"epochs": 3}),
    )  # fmt: skip
    for number, (action, given) in enumerate(options, 1):
        ACTIONS[action](workspace, number, given, lambda *_: None, lambda: False)
    return workspace


def test_rows_from_the_root_on(path: Workspace) -> None:
    rows = path_rows(path, 4)
    steps = path.steps.all()
    assert main_metric(steps) == "accuracy"
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    assert [row["value"] for row in rows] == [step.metrics["accuracy"] for step in steps]
    assert [row["parameters"] for row in rows] == [step.metrics["parameters"] for step in steps]
    assert rows[0]["macs_left"] == rows[1]["macs_left"] == 1
    assert rows[2]["macs_left"] == rows[3]["macs_left"] == steps[2].metrics["macs"] / steps[0].metrics["macs"] < 0.5
    assert (rows[0]["degenerated"], rows[0]["improved_since"], rows[2]["cost_epochs"]) == (None, None, None)
    history = History.from_dict(json.loads(path.document(4, "history") or b""))
    assert rows[3]["cost_epochs"] == 3
    assert rows[3]["cost_until_step"] == recovery_cost(history, "accuracy").until_step
    assert history.before is not None
    before = history.before.metric("accuracy")
    assert before is not None
    assert rows[3]["recovery_before"] == before.value
    assert rows[3]["recovery_damage"] == rows[3]["recovery_high"] - rows[3]["recovery_low"]
    assert rows[3]["loss_first"] == history.steps[0].loss
    assert path_rows(path, 4, "loss")[1]["value"] == steps[1].metrics["loss"]


def test_instances_are_those_of_a_comparison(path: Workspace) -> None:
    data = open_dataset(path.folder / "data" / "bright.npz")
    found = [evaluate(path.model(number), data) for number in (1, 2, 3, 4)]
    rows = path_rows(path, 4)
    for k in (1, 2, 3):
        told, since = compare(found[k - 1], found[k]), compare(found[0], found[k])
        assert told.degenerated is not None
        assert since.improved is not None
        assert rows[k]["degenerated"] == len(told.degenerated)
        assert rows[k]["improved_since"] == len(since.improved)
    told = compare(found[0], found[1])
    listed = instance_rows(path, 1, 2)
    assert [r["instance"] for r in listed if r["became"] == "degenerated"] == np.asarray(told.degenerated).tolist()
    assert [r["instance"] for r in listed if r["became"] == "improved"] == np.asarray(told.improved).tolist() != []
    for row in listed:
        assert row["before"] != row["after"]
        assert row["label"] == int(np.asarray(data.labels)[row["instance"]])


def test_classes_and_confusion(path: Workspace) -> None:
    rows = class_rows(path, 4)
    assert [(row["step"], row["class"]) for row in rows] == [(n, c) for n in (1, 2, 3, 4) for c in "012"]
    assert {row["support"] for row in rows} == {4}
    confused = confusion_rows(path, 4)
    for step in path.steps.all():
        mine = [row for row in confused if row["step"] == step.number]
        assert sum(row["count"] for row in mine) == 12
        right = sum(row["count"] for row in mine if row["label"] == row["prediction"])
        assert right / 12 == step.metrics["accuracy"]


def test_two_steps_side_by_side(path: Workspace) -> None:
    found = compare_steps(path, 1, 2)
    accuracy = next(row for row in found["metrics"] if row["metric"] == "accuracy")
    assert accuracy["delta"] == accuracy["after"] - accuracy["before"] > 0
    assert accuracy["verdict"] == "better"
    assert found["improved"] > found["degenerated"]
    assert {row["class"] for row in found["classes"]} == {"0", "1", "2"}


def test_what_is_not_known_is_none(workspace: Workspace) -> None:
    step = workspace.steps.get(1)
    workspace.add(NewStep("import", step.model, step.model_hash, parent=1))
    rows = path_rows(workspace, 2)
    assert rows[1]["parameters"] is rows[1]["value"] is rows[1]["degenerated"] is rows[1]["metric"] is None
    assert class_rows(workspace, 2) == confusion_rows(workspace, 2) == []
    with pytest.raises(DataError, match=r"steps 1 and 2 were not measured on the same instances"):
        instance_rows(workspace, 1, 2)


def test_csv(path: Workspace) -> None:
    rows = path_rows(path, 3)
    found = list(csv.DictReader(io.StringIO(to_csv(rows))))
    assert [row["step"] for row in found] == ["1", "2", "3"]
    assert float(found[2]["value"]) == rows[2]["value"]
    assert found[0]["degenerated"] == ""
    assert to_csv([{"a": 1}, {"b": "x,y"}]) == 'a,b\n1,\n,"x,y"\n'


def test_epochs_and_losses_are_those_of_the_histories(path: Workspace) -> None:
    for number in (2, 4):
        history = History.from_dict(json.loads(path.document(number, "history") or b""))
        epochs = [row for row in epoch_rows(path, 4) if row["step"] == number]
        assert [(row["epoch"], row["value"]) for row in epochs] == list(history.values("accuracy"))
        losses = [(row["at"], row["loss"]) for row in loss_rows(path, 4) if row["step"] == number]
        assert losses == [(row.step, row.loss) for row in history.steps]
    assert {row["step"] for row in epoch_rows(path, 4)} == {row["step"] for row in loss_rows(path, 4)} == {2, 4}
    assert epoch_rows(path, 1) == loss_rows(path, 3)[:0] == []


def test_a_cell_over_the_path(path: Workspace) -> None:
    confused = confusion_rows(path, 4)
    for label, prediction in ((0, 0), (0, 1), (2, 1)):
        rows = cell_rows(path, 4, label, prediction)
        assert [row["step"] for row in rows] == [1, 2, 3, 4]
        for row in rows:
            pair = (row["step"], str(label), str(prediction))
            count = sum(r["count"] for r in confused if (r["step"], r["label"], r["prediction"]) == pair)
            assert (row["count"], row["of"], row["share"]) == (count, 4, count / 4)


def test_a_tree_has_all_its_branches(path: Workspace) -> None:
    path.steps.pin(2)
    rows = tree_rows(path, 4)
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    assert [row["pinned"] for row in rows] == [False, True, False, False]
    assert rows[2]["accuracy"] == path.steps.get(3).metrics["accuracy"]


def _dominated(points: list[tuple[float, float]], k: int) -> bool:
    a, b = points[k]
    return any(x <= a and y >= b and (x < a or y > b) for x, y in points)


def test_the_front_is_what_no_other_point_dominates() -> None:
    rng = np.random.default_rng(0)
    points = [(float(a), float(b)) for a, b in rng.integers(0, 12, (200, 2))]  # with many ties
    x, y = zip(*points, strict=True)
    front = pareto_front(x, y, ("lower", "higher"))
    assert front.tolist() == [not _dominated(points, k) for k in range(len(points))]
    swapped = pareto_front([-v for v in x], [-v for v in y], ("higher", "lower"))
    assert swapped.tolist() == front.tolist()
    assert pareto_front([1, float("nan")], [1, 5], ("lower", "higher")).tolist() == [True, False]
    assert pareto_front([], [], ("lower", "higher")).tolist() == []
    with pytest.raises(OptionError, match="no direction ''"):
        pareto_front([1], [1], ("", "higher"))
