"""A folder with one small model whose units are what they are on purpose, and data for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from onnxprune.workspace.actions import ACTIONS
from onnxprune.workspace.values import Step
from onnxprune.workspace.workspace import Workspace
from tests.cli.conftest import cnn, save
from tests.workspace.conftest import write_data

DEAD, CONSTANT, UNREAD = 3, 5, 2  # filters of conv1
TWINS = (4, 7)  # filters of conv2

Prune = Callable[..., Step]


def peculiar() -> onnx.ModelProto:
    """The net of the command line's tests: of conv1 one filter is never active, one constant, one not read.

    Of conv2 one filter is twice another one.
    """
    model = cnn()
    arrays = {t.name: np.array(numpy_helper.to_array(t)) for t in model.graph.initializer}
    arrays["conv1.weight"][[DEAD, CONSTANT]] = 0
    arrays["conv1.bias"][DEAD], arrays["conv1.bias"][CONSTANT] = -1, 1
    arrays["conv2.weight"][:, UNREAD] = 0
    arrays["conv2.weight"][TWINS[0]] = 2 * arrays["conv2.weight"][TWINS[1]]
    arrays["conv2.bias"][TWINS[0]] = 2 * arrays["conv2.bias"][TWINS[1]]
    for tensor in model.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(arrays[tensor.name], tensor.name))
    return model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """``net.onnx`` and ``data/bright.npz``: 48 samples to fit on, 12 to measure on."""
    place = tmp_path / "work"
    place.mkdir()
    save(peculiar(), place / "net.onnx")
    write_data(place / "data" / "bright.npz")
    return place


@pytest.fixture(autouse=True)
def no_measuring(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is timed."""
    monkeypatch.setenv("ONNXPRUNE_NO_MEASURE", "1")


@pytest.fixture
def workspace(folder: Path) -> Iterator[Workspace]:
    with Workspace.open(folder) as opened:
        yield opened


@pytest.fixture
def prune(workspace: Workspace) -> Prune:
    """Make a step of step 1."""

    def make(number: int = 1, **options: object) -> Step:
        return ACTIONS["prune"](workspace, number, options, quiet, lambda: False)

    return make


def quiet(stage: str, done: int = 0, total: int = 0) -> None:
    """Progress that nobody looks at."""


def unlabelled(folder: Path) -> None:
    """Take the labels out of the data."""
    path = folder / "data" / "bright.npz"
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files if not name.startswith("y")}
    np.savez(path, **arrays)
