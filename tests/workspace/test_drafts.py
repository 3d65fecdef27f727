"""Drafts that several people change: whoever saw another one than there is changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest

from onnxprune.errors import StaleDraft
from onnxprune.workspace.steps import Drafts
from onnxprune.workspace.workspace import Workspace

EDIT = {"group": "conv1", "remove": [1]}
CHANGES: dict[str, Callable[[Drafts, str | None], object]] = {
    "add": lambda drafts, expected: drafts.add(1, EDIT, expected),
    "undo": lambda drafts, expected: drafts.undo(1, expected),
    "redo": lambda drafts, expected: drafts.redo(1, expected),
    "clear": lambda drafts, expected: drafts.clear(1, expected),
}


def test_every_change_makes_another_revision(workspace: Workspace) -> None:
    drafts = workspace.drafts
    seen = [drafts.revision(1)]
    for name in ("add", "add", "undo", "undo", "redo", "add", "clear", "add"):
        CHANGES[name](drafts, seen[-1])
        seen.append(drafts.revision(1))
    assert all(one != next_one for one, next_one in pairwise(seen))
    assert seen[3] == seen[5]  # the same draft again
    assert len(set(seen)) == len(seen) - 2  # and empty twice


def test_revisions_of_two_steps_differ(workspace: Workspace) -> None:
    assert workspace.drafts.revision(1) != workspace.drafts.revision(2)


@pytest.mark.parametrize("name", CHANGES)
def test_a_stale_change_is_refused_and_changes_nothing(workspace: Workspace, name: str) -> None:
    drafts = workspace.drafts
    drafts.add(1, EDIT)
    drafts.add(1, EDIT)
    seen = drafts.revision(1)
    drafts.undo(1)
    before = drafts.entries(1)
    with pytest.raises(StaleDraft, match="the draft of step 1 was changed elsewhere"):
        CHANGES[name](drafts, seen)
    assert drafts.entries(1) == before
    CHANGES[name](drafts, drafts.revision(1))
    assert drafts.entries(1) != before
