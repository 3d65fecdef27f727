"""Documents read piece by piece tell what the whole document tells."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnxprune.data import open_dataset
from onnxprune.errors import OptionError, StoreDamaged
from onnxprune.evaluate import Curve, evaluate
from onnxprune.experiment import analyse
from onnxprune.latency_table import known_rates
from onnxprune.workspace.evaluations import Documents, mean_curve
from onnxprune.workspace.measuring import measure
from onnxprune.workspace.recording import dumps
from onnxprune.workspace.registry import ALL_ACTIONS
from onnxprune.workspace.values import Cancelled, NewStep
from onnxprune.workspace.workspace import Workspace


@pytest.fixture
def measured(workspace: Workspace) -> Workspace:
    workspace.measure(1, threads=1)
    return workspace


def test_parts_are_those_of_the_whole(measured: Workspace) -> None:
    documents, whole = Documents(measured), json.loads(measured.document(1, "evaluation") or b"")
    head = documents.head(1)
    assert head is not None
    assert (head.task, head.samples, head.curves) == ("classification", 12, True)
    assert head.names == ("0", "1", "2")
    assert list(head.classes) == whole["classes"]
    confusion = documents.confusion(1)
    assert confusion is not None
    assert confusion.tolist() == whole["confusion"]
    assert documents.cell(1, 0, 1) == (whole["confusion"][0][1], sum(whole["confusion"][0]))
    for i, entry in enumerate(whole["curves"]):
        curve = documents.curve(1, i)
        assert curve is not None
        assert (curve.name, curve.average_precision) == (entry["name"], entry["average_precision"])
        np.testing.assert_array_equal(curve.recall, np.float32(entry["recall"]))
        np.testing.assert_array_equal(curve.precision, np.float32(entry["precision"]))
    assert documents.curve(1, 3) is None
    mean = documents.mean_curve(1)
    assert mean is not None
    assert mean.average_precision == pytest.approx(measured.steps.get(1).metrics["mean_average_precision"])


def _with(workspace: Workspace, evaluation: dict[str, Any], **documents: bytes) -> int:
    step = workspace.steps.get(1)
    blobs = {"evaluation": workspace.blobs.put(dumps(evaluation))}
    blobs |= {name: workspace.blobs.put(text) for name, text in documents.items()}
    return workspace.add(NewStep("import", step.model, step.model_hash, parent=1, documents=blobs)).number


def test_names_that_look_like_parts(measured: Workspace) -> None:
    found = evaluate(measured.model(1), open_dataset(measured.folder / "data" / "bright.npz"))
    told = json.loads(dumps(found.as_dict()))
    for entry, name in zip(told["classes"], (',"confusion":', '{"name":', 'ü\\"'), strict=True):
        entry["name"] = name
        told["curves"][entry["index"]]["name"] = name
    number = _with(measured, told)
    documents = Documents(measured)
    head, last = documents.head(number), documents.curve(number, 2)
    assert head is not None
    assert last is not None
    assert head.names == (',"confusion":', '{"name":', 'ü\\"')
    assert last.name == 'ü\\"'
    confusion = documents.confusion(number)  # this step has no predictions: the matrix is read
    assert found.confusion is not None
    assert confusion is not None
    assert confusion.tolist() == found.confusion.tolist()
    assert documents.cell(number, 1, 2) == (int(found.confusion[1, 2]), int(found.confusion[1].sum()))


def test_what_is_not_there_is_none(workspace: Workspace) -> None:
    documents = Documents(workspace)
    assert documents.head(1) is documents.confusion(1) is documents.predictions(1) is documents.history(1) is None
    assert documents.curve(1, 0) is documents.mean_curve(1) is documents.cell(1, 0, 0) is None


def test_a_document_of_something_else(measured: Workspace) -> None:
    number = _with(measured, {"task": "classification"}, history=b"[]")
    with pytest.raises(StoreDamaged, match="holds no evaluation"):
        Documents(measured).head(number)
    with pytest.raises(StoreDamaged, match="holds no history"):
        Documents(measured).history(number)


def test_what_is_kept_is_read_once(measured: Workspace) -> None:
    kept: dict[Hashable, Any] = {}
    made: list[Hashable] = []

    def keep(key: Hashable, make: Callable[[], Any], /) -> Any:
        if key not in kept:
            made.append(key)
            kept[key] = make()
        return kept[key]

    for _ in range(2):
        documents = Documents(measured, keep)
        documents.head(1)
        documents.confusion(1)
        documents.cell(1, 0, 0)
    assert len(made) == len(set(made)) == 3  # the head, the predictions, and their labels


def test_the_mean_of_curves() -> None:
    nothing = np.zeros(0, np.float32)
    steady = Curve("a", np.float32([0.5, 1]), np.float32([1, 0]), nothing, 0.5)
    perfect = Curve("b", np.float32([0.25, 1, 1]), np.float32([1, 1, 0]), nothing, 1.0)
    missing = Curve("c", nothing, nothing, nothing, math.nan)
    plain = mean_curve([steady, perfect, missing])
    assert plain is not None
    assert plain.recall[0] == 1
    assert plain.recall[-1] == 0
    assert plain.average_precision == 0.75
    np.testing.assert_allclose(plain.precision[:-1], 0.75)  # (1/2 + 1) / 2 at every recall but 0
    assert plain.precision[-1] == 1
    weighted = mean_curve([steady, perfect, missing], [3, 1, 5])
    assert weighted is not None
    np.testing.assert_allclose(weighted.precision[:-1], (3 * 0.5 + 1) / 4)
    assert mean_curve([missing]) is None


def test_measuring_is_an_action(workspace: Workspace) -> None:
    assert ALL_ACTIONS["measure"] is measure
    assert ALL_ACTIONS["measure"](workspace, 1, {"threads": 1}, lambda *_: None, lambda: False) is None
    assert "accuracy" in workspace.steps.get(1).metrics
    with pytest.raises(Exception, match="no option 'epochs'"):
        measure(workspace, 1, {"epochs": 1}, lambda *_: None, lambda: False)
    (workspace.folder / "data" / "bright.npz").unlink()
    workspace.scan()
    with pytest.raises(Exception, match="no data to measure step 1 on"):
        measure(workspace, 1, {}, lambda *_: None, lambda: False)


@pytest.mark.parametrize("harm", ["gone", "changed"])
@pytest.mark.parametrize("name", ["evaluation", "predictions"])
def test_what_is_damaged_is_measured_again(measured: Workspace, name: str, harm: str) -> None:
    before = measured.steps.get(1).metrics, Documents(measured).confusion(1)
    blob = measured.blobs.path(measured.steps.documents(1)[name])
    if harm == "gone":
        blob.unlink()
    else:
        blob.chmod(0o600)
        blob.write_bytes(b"{}")
    assert [damage.step for damage in measured.check()] == [1]
    found = measured.measure(1, threads=1)
    assert (found.damaged, found.metrics) == ("", before[0])
    assert measured.check() == []
    documents = Documents(measured)
    np.testing.assert_array_equal(documents.confusion(1), before[1])
    assert documents.predictions(1) is not None


def test_layers_are_timed_for_the_drawing(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ONNXPRUNE_CACHE", str(tmp_path))
    monkeypatch.delenv("ONNXPRUNE_NO_MEASURE")
    stages: list[str] = []

    def told(stage: str, *_: int) -> None:
        stages.append(stage)

    assert ALL_ACTIONS["time-layers"](workspace, 1, {"threads": 1}, told, lambda: False) is None
    _, coupling = analyse(workspace.model(1))
    rates, macs = known_rates(coupling, threads=1)
    assert {coupling.graph.nodes[number].op for number in rates} >= {"Conv"}
    assert all(rate > 0 and macs[number] > 0 for number, rate in rates.items())
    assert stages
    with pytest.raises(OptionError, match="time-layers has no option 'thread'"):
        ALL_ACTIONS["time-layers"](workspace, 1, {"thread": 1}, told, lambda: False)
    with pytest.raises(Cancelled):
        ALL_ACTIONS["time-layers"](workspace, 1, {"threads": 1}, told, lambda: True)
