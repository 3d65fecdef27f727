"""Single weights beside units: what the page is told of them, how they are applied, what the tree says of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dash_ui.desk import Desk
from dash_ui.rows.draft import draft_of, payload
from dash_ui.rows.effects import draft_effect
from dash_ui.rows.history import tree_of
from dash_ui.rows.instances import Chosen, source_for
from dash_ui.rows.units import units_of
from dash_ui.views.settings import applied
from onnxprune.workspace.actions import ACTIONS
from onnxprune.workspace.facts import proof_words
from onnxprune.workspace.workspace import Workspace

EDITS = ({"weight": "conv2.weight", "remove": [], "ranges": [[0, 90]]}, {"group": "conv1", "remove": [3]})


@pytest.fixture
def drafted(demo: Path) -> Desk:
    with Workspace.open(demo) as workspace:
        for edit in EDITS:
            workspace.drafts.add(1, edit)
    return Desk(demo)


def test_the_page_is_told_of_single_weights(drafted: Desk) -> None:
    with drafted.workspace() as workspace:
        step = workspace.steps.get(1)
        state, revision = draft_of(drafted, workspace, step)
        found = payload(units_of(drafted, workspace, step, "l2", "score"), state, revision)
    assert (found["weights"], len(found["gone"])) == (90, 1)


def test_feature_maps_tell_the_effect_of_both(drafted: Desk) -> None:
    with drafted.workspace() as workspace:
        step = workspace.steps.get(1)
        source = source_for(drafted, workspace, 1, None)
        assert source is not None
        state, _ = draft_of(drafted, workspace, step)
        effect = draft_effect(drafted, workspace, source, Chosen((0, 1, 2)), (step, None), state)
        made = ACTIONS["edit"](workspace, 1, {}, lambda *_: None, lambda: False)
        state, _ = draft_of(drafted, workspace, made)
        after = draft_effect(drafted, workspace, source, Chosen((0, 1, 2)), (made, 1), state)
    foreseen, found = ({row["index"]: row[word] for row in e.rows} for e, word in ((effect, "draft"), (after, "after")))
    assert foreseen.keys() == found.keys()
    assert np.allclose([foreseen[k] for k in foreseen], [found[k] for k in foreseen], atol=1e-5)
    assert after.moved["after"] > 0


def test_the_tree_tells_what_was_proven(drafted: Desk) -> None:
    with drafted.workspace() as workspace:
        made = ACTIONS["edit"](workspace, 1, {}, lambda *_: None, lambda: False)
        plan = workspace.plan(made.number)
        tree = tree_of(drafted, workspace, made.number, {})
    assert tree is not None
    assert plan is not None
    node = tree.get(made.number)
    assert node is not None
    assert node.proof.startswith("proven: masked and removed agree")
    left = 90 - int(plan.weights["conv2.weight"][:, 3].sum())
    assert f"{left} single weights are zero as planned, {90 - left} went with their unit" in node.proof
    assert tree.root.proof == ""


def test_what_was_not_proven_is_not_told() -> None:
    assert (
        proof_words({}) == proof_words({"proof": None, "zeroed": None}) == proof_words({"proof": {"ok": False}}) == ""
    )
    exact = {"proof": {"ok": True, "error": 0.0}, "zeroed": {"named": 3, "left": 3, "same": 9}}
    assert proof_words(exact) == (
        "proven: masked and removed agree exactly; 3 single weights are zero as planned, all others are what they were"
    )


def test_a_draft_is_masked_where_the_settings_say_so() -> None:
    assert applied({"prune": {"mode": "mask", "ratio": 0.5}}) == {"mode": "mask"}
    assert applied({"prune": {"mode": "remove"}}) == applied({"prune": None}) == applied(None) == {}
