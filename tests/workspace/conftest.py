"""A folder with one small model and data for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from onnxprune.workspace.workspace import Workspace
from tests.cli.conftest import cnn, save


def write_data(path: Path, *, size: int = 8, seed: int = 0) -> Path:
    """48 samples to train on and 12 to test on, of three classes that can be told apart by their brightness."""
    rng = np.random.default_rng(seed)
    labels = np.arange(60) % 3
    x = (rng.standard_normal((60, 1, size, size)) / 4 + labels[:, None, None, None]).astype(np.float32)
    path.parent.mkdir(exist_ok=True)
    np.savez(path, x_train=x[:48], y_train=labels[:48], x_test=x[48:], y_test=labels[48:])
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """``cnn.onnx`` and ``data/bright.npz``."""
    place = tmp_path / "work"
    place.mkdir()
    save(cnn(), place / "cnn.onnx")
    write_data(place / "data" / "bright.npz")
    return place


@pytest.fixture
def workspace(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    monkeypatch.setenv("ONNXPRUNE_NO_MEASURE", "1")
    with Workspace.open(folder) as opened:
        yield opened
