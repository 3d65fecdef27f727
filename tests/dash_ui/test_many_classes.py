"""Hundreds of classes: documents stay small and tell everything, and pictures show what is confused most."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import pytest

from dash_ui.figures.confusion import confusion_figure
from dash_ui.rows.confusion import LIMIT, MOST, matrix_of, pair_rows
from dash_ui.rows.statistics import focus_of
from dash_ui.theme import LIGHT
from dash_ui.views.confusion import PAIRS, _file
from onnxprune.data import open_dataset
from onnxprune.evaluate import Evaluation, evaluate
from onnxprune.workspace.evaluations import Documents
from onnxprune.workspace.recording import dumps
from onnxprune.workspace.values import NewStep
from onnxprune.workspace.workspace import Workspace
from tests.cli.conftest import mlp, save

CLASSES = 300


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """An untrained model with 300 classes, which takes most samples for a few of them."""
    folder = tmp_path_factory.mktemp("classes")
    save(mlp(outputs=CLASSES), folder / "wide.onnx")
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2000, 6)).astype(np.float32)
    (folder / "data").mkdir()
    names = np.array([f"a class with a rather long name, {i}" for i in range(CLASSES)])
    np.savez(folder / "data" / "wide.npz", x=x, y=np.arange(2000) % CLASSES, class_names=names)
    with Workspace.open(folder) as opened:
        opened.measure(1, threads=1)
        yield opened


@pytest.fixture
def documents(workspace: Workspace) -> Documents:
    return Documents(workspace)


@pytest.fixture(scope="module")
def whole(workspace: Workspace) -> Evaluation:
    return evaluate(workspace.model(1), open_dataset(workspace.folder / "data" / "wide.npz"), threads=1)


def test_a_document_is_small_and_tells_everything(
    workspace: Workspace, documents: Documents, whole: Evaluation
) -> None:
    text = workspace.document(1, "evaluation") or b""
    told = json.loads(text)
    assert max(len(curve["recall"]) for curve in told["curves"]) <= 2 * 7 + 2  # 7 labels of each class, at most
    assert len(told["confusion"]["places"]) == np.count_nonzero(whole.confusion)
    for i in (0, 7, CLASSES - 1):
        curve = documents.curve(1, i)
        assert curve is not None
        np.testing.assert_array_equal(curve.recall, whole.curves[i].recall)
        np.testing.assert_array_equal(curve.precision, whole.curves[i].precision)
        np.testing.assert_array_equal(curve.thresholds, whole.curves[i].thresholds)


@pytest.mark.parametrize("old", [True, False])
def test_matrices_are_read_as_they_were_and_are_written(workspace: Workspace, whole: Evaluation, *, old: bool) -> None:
    """Without the predictions, so that the matrix comes from the evaluation: all its cells, or those that hold any."""
    text = dumps(whole.as_dict()) if old else workspace.document(1, "evaluation") or b""
    step = workspace.steps.get(1)
    blobs = {"evaluation": workspace.blobs.put(text)}
    number = workspace.add(NewStep("import", step.model, step.model_hash, parent=1, documents=blobs)).number
    found = Documents(workspace).confusion(number)
    assert found is not None
    np.testing.assert_array_equal(found, whole.confusion)


def test_the_picture_shows_the_pairs_that_are_confused_most(documents: Documents) -> None:
    matrix = matrix_of(documents, 1)
    assert matrix is not None
    assert CLASSES > LIMIT
    assert (len(matrix.indices), matrix.of) == (MOST, CLASSES)
    assert (np.diff(matrix.indices) > 0).all()
    first = pair_rows(documents, 1)[0]
    assert {first["i"], first["j"]} <= set(matrix.indices.tolist())
    worst = matrix_of(documents, 1, order="error")
    assert worst is not None
    assert set(worst.indices.tolist()) == set(matrix.indices.tolist())
    assert (np.diff(np.diagonal(worst.shares)) >= 0).all()
    chosen = matrix_of(documents, 1, classes=range(100))
    assert chosen is not None
    assert chosen.indices.tolist() == list(range(100))


def test_long_names_are_written_short_and_found_whole(documents: Documents) -> None:
    matrix = matrix_of(documents, 1)
    assert matrix is not None
    figure = confusion_figure(matrix, LIGHT)
    axis = figure.layout.yaxis
    assert axis.tickvals is None  # as many as there is room for
    assert max(map(len, axis.labelalias.values())) <= 12
    assert list(axis.labelalias) == list(figure.data[0].y) == matrix.labels


def test_the_file_of_pairs_has_more_than_the_table(workspace: Workspace, documents: Documents) -> None:
    name, rows = _file(focus_of(workspace, {"step": 1}), documents, None)
    assert name == "confusions-of-1.csv"
    assert len(rows) == len(pair_rows(documents, 1)) > PAIRS
    assert list(rows[0]) == ["label", "taken for", "count", "share of label"]
