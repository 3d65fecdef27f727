"""Zeros are known by the step that made them, also after later steps took units out beside them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dash_ui.desk import Desk
from dash_ui.rows.cell import cell_words, zero_since
from onnxprune.workspace.actions import ACTIONS
from onnxprune.workspace.workspace import Workspace
from tests.dash_ui.test_mask import CONV, look


def edited(workspace: Workspace, step: int, *edits: dict[str, object]) -> int:
    for edit in edits:
        workspace.drafts.add(step, edit)
    return ACTIONS["edit"](workspace, step, {"verify": False}, lambda *_: None, lambda: False).number


@pytest.fixture
def steps(demo: Path) -> tuple[Desk, list[int]]:
    """Weights and a unit at once; another unit; more weights."""
    with Workspace.open(demo) as workspace:
        place = 5 * 216 + 4 * 9  # output 5, input 4
        first = edited(workspace, 1, {"weight": CONV, "remove": [place, place + 1]}, {"group": "conv2", "remove": [0]})
        second = edited(workspace, first, {"group": "conv2", "remove": [1]}, {"group": "conv1", "remove": [2]})
        third = edited(workspace, second, {"weight": CONV, "remove": [7]})
    return Desk(demo), [first, second, third]


def test_zeros_are_followed_through_removals(steps: tuple[Desk, list[int]]) -> None:
    desk, (first, _, third) = steps
    mask, _ = look(desk, step=third)
    rows, columns = np.nonzero(mask.layer.values == 0)
    with desk.workspace() as workspace:
        step = workspace.steps.get(third)
        found = zero_since(desk, workspace, step, mask)
        assert found is not None
        numbers = [found[0][found[1][cell]] for cell in zip(rows, columns, strict=True)]
        words = cell_words(desk, workspace, step, mask, int(rows[-1]), int(columns[-1]), "l2")
    assert numbers == [third, first, first]
    assert words[0] == "output 3, ky 0, input 3, kx 1", "outputs 0 and 2 and input 2 went in front of it"
    assert f"zero since step #{first}" in words


def test_none_without_zeros(demo: Path) -> None:
    desk = Desk(demo)
    mask, _ = look(desk)
    with desk.workspace() as workspace:
        assert zero_since(desk, workspace, workspace.steps.get(1), mask) is None
