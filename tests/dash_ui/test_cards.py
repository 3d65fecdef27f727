"""The cards: which steps have one, what is drawn, and how figures changed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dash_ui.desk import Desk
from dash_ui.rows.cards import BOXES, card_rows, drawing, shown_nodes
from dash_ui.rows.history import Tree
from onnxprune.workspace.workspace import Workspace
from tests.dash_ui.history import grow
from tests.dash_ui.test_tree import tree


@pytest.fixture
def found(demo: Path) -> Tree:
    with Workspace.open(demo) as workspace:
        grow(workspace)
    return tree(Desk(demo))


def card(tree: Tree, step: int, selected: int = 5, other: int | None = None) -> dict[str, Any]:
    return next(row for row in card_rows(tree, selected, other) if row["step"] == step)


def test_the_path_has_cards_and_what_it_is_compared_with(found: Tree) -> None:
    assert [node.number for node in shown_nodes(found, 5)] == [1, 2, 3, 4, 5]
    assert [node.number for node in shown_nodes(found, 3, 6)] == [1, 2, 3, 6]
    assert [node.number for node in shown_nodes(found, None)] == [1]
    assert "aside" in card(found, 6, 3, 6)["roles"]
    assert "compared" in card(found, 6, 3, 6)["roles"]
    assert card(found, 1)["roles"] == ["baseline"]
    assert card(found, 5)["roles"] == ["selected"]
    assert "given up" in card(found, 7, 7)["roles"]


def test_changes_have_words_and_arrows(found: Tree) -> None:
    figures = {row["name"]: row for row in card(found, 3)["figures"]}
    assert list(figures) == ["accuracy", "loss", "parameters", "macs", "file_bytes"]
    assert figures["accuracy"]["parent"] == {"text": "+38.50 points", "is": "better", "arrow": "▲"}
    assert figures["accuracy"]["baseline"] == {"text": "-0.50 points", "is": "worse", "arrow": "▼"}
    assert figures["loss"]["parent"]["is"] == "better"
    assert figures["loss"]["parent"]["arrow"] == "▼"
    assert figures["macs"]["value"] == "500 k"


def test_what_did_not_change_is_the_same(found: Tree) -> None:
    figures = {row["name"]: row for row in card(found, 2)["figures"]}
    assert card(found, 1)["figures"][0]["parent"] is None
    assert card(found, 1)["figures"][0]["baseline"] is None
    three = next(node for node in found.nodes if node.number == 3)
    same = replace(found, nodes=tuple(replace(n, metrics=three.metrics) if n.number == 4 else n for n in found.nodes))
    assert card(same, 4)["figures"][0]["parent"] == {"text": "same", "is": "same", "arrow": "="}
    assert figures["parameters"]["baseline"]["is"] in ("better", "same")


def test_a_cost_that_hardly_changed_is_the_same(found: Tree) -> None:
    three = next(node for node in found.nodes if node.number == 3)
    hardly = {**three.metrics, "file_bytes": three.metrics["file_bytes"] * 0.9997}
    same = replace(found, nodes=tuple(replace(n, metrics=hardly) if n.number == 4 else n for n in found.nodes))
    assert card(same, 4)["figures"][-1]["parent"] == {"text": "same", "is": "same", "arrow": "="}


def test_ratio_and_how(found: Tree) -> None:
    assert card(found, 3)["ratio"] == "50.0% of filters removed (84 of 168 left)"
    assert card(found, 3)["how"] == "fine-tuning converged (delta loss after 6 epochs)"
    assert card(found, 3)["seconds"] == "1.5 s"
    assert card(found, 1)["how"] == "as it was given"
    assert not card(found, 1)["deletable"]


def test_the_drawing_has_what_is_left_of_each_layer(found: Tree) -> None:
    boxes = card(found, 5)["drawing"]
    assert [(box["name"], box["left"], box["of"]) for box in boxes] == [
        ("conv1", 6, 24), ("conv2", 8, 32), ("conv3", 12, 48), ("conv4", 16, 64),
    ]  # fmt: skip
    assert {box["noun"] for box in boxes} == {"filters"}


def test_many_layers_share_boxes(found: Tree) -> None:
    groups = {f"layer{k}": 10 for k in range(100)}
    nodes = tuple(replace(node, groups=groups if node.number == 1 else {**groups, "layer3": 4}) for node in found.nodes)
    many = replace(found, nodes=nodes)
    boxes = drawing(many, many.nodes[1])
    assert len(boxes) <= BOXES
    assert sum(box["of"] for box in boxes) == 1000
    assert sum(b["left"] for b in boxes) == 994
    assert boxes[0]["name"] == "layer0 to layer3"
    assert boxes[0]["left"] == 34


def test_without_groups_nothing_is_drawn(found: Tree) -> None:
    plain = replace(found, nodes=tuple(replace(node, groups=None, units=None) for node in found.nodes))
    assert drawing(plain, plain.nodes[1]) == []
    assert card(plain, 2)["ratio"].endswith("of parameters removed")
