"""A workspace with a small model that was trained, so that there is something to hold."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from onnxprune.automatic import auto
from onnxprune.automatic.rows import Row
from onnxprune.workspace.actions import ACTIONS
from onnxprune.workspace.values import Step
from onnxprune.workspace.workspace import Workspace
from tests.cli.conftest import cnn, save
from tests.workspace.conftest import write_data

TRAINED = 2  # the step that runs start from: 24 units, right on all test samples
Auto = Callable[..., Step]


def quiet(_stage: str, _done: int = 0, _total: int = 0) -> None:
    """Progress that nobody looks at."""


def no() -> bool:
    return False


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder as it is before a test."""
    place = tmp_path_factory.mktemp("trained")
    save(cnn(), place / "cnn.onnx")
    write_data(place / "data" / "bright.npz")
    with Workspace.open(place) as workspace:
        options = {"epochs": 20, "rate": 0.02, "batch": 16, "deterministic": True}
        step = ACTIONS["fine-tune"](workspace, 1, options, quiet, no)
        assert step.number == TRAINED
        assert step.metrics["accuracy"] == 1.0
    return place


@pytest.fixture
def workspace(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    monkeypatch.setenv("ONNXPRUNE_NO_MEASURE", "1")
    place = tmp_path / "work"
    place.mkdir()
    for file in trained.rglob("*"):
        if file.is_file():
            copy = place / file.relative_to(trained)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(file.read_bytes())
    with Workspace.open(place) as opened:
        yield opened


@pytest.fixture
def run(workspace: Workspace) -> Auto:
    """A run from the trained step; without fine-tuning unless it is asked for."""

    def begin(number: int = TRAINED, **options: Any) -> Step:
        return auto(workspace, number, {"epochs": 0, **options}, quiet)

    return begin


def points(*pairs: tuple[int, float], samples: int | None = 400) -> list[Row]:
    """Rows for the estimator: units and accuracy; parameters grow with the square of the units."""
    return [
        {"step": k + 1, "units": units, "accuracy": value, "samples": samples, "parameters": units**2}
        for k, (units, value) in enumerate(pairs)
    ]
