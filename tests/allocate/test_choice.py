"""The machine's step in narrow groups."""

from __future__ import annotations

from pathlib import Path

import pytest

from onnxprune.allocate import Budget, allocate
from onnxprune.allocate.choice import narrowed
from onnxprune.criteria import score
from onnxprune.experiment import analyse
from onnxprune.model import load


@pytest.mark.parametrize(
    ("channels", "step", "expected"), [(16, 16, 8), (24, 16, 8), (48, 16, 16), (64, 32, 32), (3, 32, 1)]
)
def test_the_machines_step_leaves_a_group_two_blocks(channels: int, step: int, expected: int) -> None:
    assert narrowed(channels, step) == expected


def test_a_step_that_is_given_is_kept_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """16 units under the machine's step of 16: half of them may go; under a step of 16 that was asked for, none."""
    monkeypatch.setattr("onnxprune.allocate.units.default_step", lambda *_: 16)
    model, coupling = analyse(load(Path(__file__).parents[2] / "examples" / "nets" / "residual.onnx"))
    scores = score(model, coupling)
    group = next(g.name for g in coupling.groups if g.units == 16)
    _, reached = allocate(coupling, scores, Budget(ratio=0.5))
    assert reached.groups[group] == (8, 16)
    _, kept = allocate(coupling, scores, Budget(ratio=0.5, round_to=16))
    assert kept.groups[group] == (0, 16)
