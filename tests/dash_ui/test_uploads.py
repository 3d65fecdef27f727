"""Files that a person brings: what is said of those that are of no use, in words without places of ours."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dash_ui.rows.uploads import fits, receive
from onnxprune.errors import DataError, OnnxPruneError
from onnxprune.workspace.workspace import Workspace


def npz(**arrays: Any) -> bytes:
    written = io.BytesIO()
    np.savez(written, **arrays)
    return written.getvalue()


def sent(data: bytes) -> str:
    """As a browser sends it."""
    return "data:application/octet-stream;base64," + base64.b64encode(data).decode()


@pytest.fixture
def workspace(small: Path) -> Iterator[Workspace]:
    with Workspace.open(small) as opened:
        yield opened


@pytest.mark.parametrize(
    ("name", "data"),
    [("a.onnx", b"no model"), ("b.npz", b"no archive"), ("c.json", b"{}"), ("d.npz", npz(x=[1.0, 2.0], y=[1]))],
)
def test_a_file_is_called_by_its_name_alone(workspace: Workspace, name: str, data: bytes) -> None:
    with pytest.raises(OnnxPruneError, match=name.replace(".", r"\.")) as told:
        receive(workspace, f"../../{name}", sent(data))
    assert str(workspace.folder) not in told.value.message + told.value.hint
    assert told.value.hint


def test_arrays_that_could_run_programs_are_not_read(workspace: Workspace) -> None:
    with pytest.raises(DataError, match="Object arrays"):
        receive(workspace, "objects.npz", sent(npz(x=np.array([{}, 1], dtype=object))))
    assert not (workspace.folder / "data" / "objects.npz").exists()


def test_data_are_said_to_fit_or_why_they_do_not(workspace: Workspace) -> None:
    good, wrong = np.zeros((4, 1, 8, 8), np.float32), np.zeros((4, 3, 9, 9), np.float32)
    for name, x in (("good.npz", good), ("wrong.npz", wrong)):
        receive(workspace, name, sent(npz(x=x, y=np.arange(4) % 3)))
    workspace.scan()
    assert fits(workspace, "data/good.npz") == ("data/good.npz fits cnn.onnx.", "")
    text, why = fits(workspace, "data/wrong.npz")
    assert text == "data/wrong.npz is in the folder now, but fits no model of it."
    assert "3 channels" in why


def test_data_before_any_model(bare: Path) -> None:
    with Workspace.open(bare) as workspace:
        receive(workspace, "some.npz", sent(npz(x=np.zeros((4, 3), np.float32))))
        workspace.scan()
        assert fits(workspace, "data/some.npz") == ("data/some.npz is in the folder now.", "")
