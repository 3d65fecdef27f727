"""Folders to open: the bundled example, a small one, one without anything."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from dash_ui.cli import unpack
from tests.cli.conftest import cnn, save
from tests.workspace.conftest import write_data


@pytest.fixture(scope="session")
def _example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("example") / "digits"
    unpack(place)
    return place


@pytest.fixture
def demo(_example: Path, tmp_path: Path) -> Path:
    """A fresh copy of the bundled example: a trained CNN for digits, and its data."""
    return Path(shutil.copytree(_example, tmp_path / "digits"))


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """``cnn.onnx``, untrained, with three classes of 8x8 images."""
    place = tmp_path / "small"
    place.mkdir()
    save(cnn(), place / "cnn.onnx")
    write_data(place / "data" / "bright.npz")
    return place


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A folder without a model."""
    place = tmp_path / "bare"
    place.mkdir()
    return place
