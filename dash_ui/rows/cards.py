"""The cards of a branch as plain rows: what is drawn, the figures of a step and how they changed, all in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dash_ui.rows.history import Node, Tree, edge_words, label_of, shown
from onnxprune.evaluate import better, delta, kind_of, measured

__all__ = ["card_rows", "drawing", "shown_nodes"]

FIGURES = ("loss", "parameters", "nonzero", "macs", "file_bytes")
LEAST = 0.0005  # of a cost: a smaller change would read as 0.0%
BOXES = 28  # layers that are drawn; neighbours share a box where there are more


def shown_nodes(tree: Tree, number: int | None, other: int | None = None) -> list[Node]:
    """What has a card: the path from the root to the selected step, then the baseline and what it is compared with."""
    path = tree.path(number) if number is not None else []
    found = {node.number: node for node in path or [tree.root]}
    for node in (tree.baseline, tree.get(other)):
        if node is not None:
            found.setdefault(node.number, node)
    return list(found.values())


def card_rows(tree: Tree, number: int | None, other: int | None = None) -> list[dict[str, Any]]:
    """A row for each card. ``figures``: label, value, and its change against the parent and against the baseline."""
    path = {node.number for node in tree.path(number)} if number is not None else set()
    return [_card(tree, node, number, other, path) for node in shown_nodes(tree, number, other)]


def _card(tree: Tree, node: Node, number: int | None, other: int | None, path: set[int]) -> dict[str, Any]:
    parent, baseline = tree.get(node.parent), tree.baseline
    roles = {
        "selected": node.number == number,
        "compared": node.number == other and node.number != number,
        "baseline": node is baseline,
        "aside": node.number not in path,
        "damaged": bool(node.damaged),
        "given up": node.edge == "failed",
    }
    return {
        "step": node.number,
        "title": node.title,
        "kind": node.kind,
        "note": node.note,
        "roles": [role for role, there in roles.items() if there],
        "how": edge_words(node) if node.parent is not None else "as it was given",
        "seconds": f"{node.seconds:,.1f} s" if node.parent is not None else "",
        "command": node.command,
        "deletable": node.parent is not None,
        "ratio": _ratio(tree, node),
        "noun": tree.words.noun(),
        "against": baseline.number,
        "parent": node.parent,
        "figures": [
            _figure(name, node, parent, None if node is baseline else baseline)
            for name in _names(tree)
            if name in node.metrics
        ],
        "drawing": drawing(tree, node),
        "problem": node.damaged,
    }


def _names(tree: Tree) -> list[str]:
    names = [name for name in (tree.metric, *FIGURES) if name is not None]
    masked = any(n.metrics.get("nonzero", 0) < n.metrics.get("parameters", 0) for n in tree.nodes)
    return [name for name in dict.fromkeys(names) if name != "nonzero" or masked]


def _ratio(tree: Tree, node: Node) -> str:
    """What has gone: of units, or of parameters where units are not known."""
    if node.units is not None and tree.root.units:
        gone = 1 - node.units / tree.root.units
        return f"{gone:.1%} of {tree.words.noun()} removed ({node.units:,} of {tree.root.units:,} left)"
    return "" if node.left is None else f"{1 - node.left:.1%} of parameters removed"


def _figure(name: str, node: Node, parent: Node | None, baseline: Node | None) -> dict[str, Any]:
    return {
        "name": name,
        "label": label_of(name),
        "value": shown(name, node.metrics[name]),
        "parent": _change(name, parent, node),
        "baseline": _change(name, baseline, node),
    }


def _change(name: str, before: Node | None, after: Node) -> dict[str, str] | None:
    """``text``: "-1.20 points" or "-35.0%"; ``is``: "better", "worse" or "same"."""
    if before is None or name not in before.metrics:
        return None
    kind = kind_of(name)
    old, new = before.metrics[name], after.metrics[name]
    whole = name in FIGURES[1:] and old
    if old == new or kind is None or (whole and abs(new - old) < LEAST * old):
        return {"text": "same" if kind is not None else f"{new - old:+.4g}", "is": "same", "arrow": "="}
    a, b = measured(name, old), measured(name, new)
    verdict = "better" if better(b, a) else "worse" if better(a, b) else "same"
    text = f"{(new - old) / old:+.1%}" if whole else delta(a, b)
    return {"text": text, "is": verdict, "arrow": "▲" if new > old else "▼"}


def drawing(tree: Tree, node: Node) -> list[dict[str, Any]]:
    """The layers of a step: name, what is left and what the original had; neighbours together where they are many."""
    whole = tree.root.groups or {}
    names = list(whole)
    size = -(-len(names) // BOXES) or 1
    return [_box(tree, node, names[k : k + size]) for k in range(0, len(names), size)]


def _box(tree: Tree, node: Node, names: Sequence[str]) -> dict[str, Any]:
    whole = tree.root.groups or {}
    here = node.groups or {}
    of = sum(whole[name] for name in names)
    left = sum(here.get(name, 0) for name in names) if node.groups is not None else of
    name = names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"
    return {"name": name, "left": left, "of": of, "noun": tree.words.noun(names)}
