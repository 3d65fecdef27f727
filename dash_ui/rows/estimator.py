"""What the estimator node shows: the counts of units between the steps of one branch, and what is expected there.

The figures are those of `onnxprune.automatic.estimator`; below the smallest count that was measured nothing is claimed,
and the node can be dragged there nevertheless, to prune further than anybody did before.
"""

from __future__ import annotations

import json
from typing import Any

from dash_ui.desk import Desk
from dash_ui.rows.history import Node, Tree
from onnxprune.automatic.estimator import COSTS, estimate_rows
from onnxprune.errors import OptionError
from onnxprune.evaluate import kind_of

__all__ = ["branch_of", "estimator_points", "samples_of"]

POINTS = 200
LEAST = 0.02  # of the root's units: the node goes no lower than that


def samples_of(desk: Desk, tree: Tree) -> int | None:
    """Samples that the steps of a tree were measured on, as its original was; None where it was not."""

    def count() -> int | None:
        with desk.workspace() as workspace:
            text = workspace.document(tree.root.number, "evaluation")
        return None if text is None else json.loads(text).get("samples")

    return desk.kept.get(("samples", tree.root.number, tree.root.value), count)


def estimator_points(tree: Tree, number: int, samples: int | None = None) -> dict[str, Any] | None:
    """Points from many units to few, with words for them; None where the units of the step are not known.

    ``samples``: that metrics were measured on, for the band.

    ``points``: units, value, low, high, parameters, macs (None: not known there). ``start``: where the node appears.
    """
    node = tree.get(number)
    if node is None or not node.units or tree.root.units is None:
        return None
    branch = branch_of(tree, number)
    points = _points(tree, branch, samples)
    last = points[-1]["units"]
    least = max(len(node.groups or ()), int(LEAST * tree.root.units), 1)
    if least < last:
        unknown = {"value": None, "low": None, "high": None, "parameters": None, "macs": None}
        points += [{"units": last - 1, **unknown}, {"units": least, **unknown}]
    kind = None if tree.metric is None else kind_of(tree.metric)
    below = [other.units for other in branch if other.units is not None and other.units < node.units]
    start = (node.units + max(below)) / 2 if below else max(least, 0.9 * node.units)
    known = len({other.units for other in branch if other.units is not None and other.value is not None})
    return {
        "step": number,
        "units": node.units,
        "start": start,
        "noun": tree.words.noun(),
        "metric": tree.metric_label,
        "percent": kind is not None and kind.format.endswith("%"),
        "unit": "" if kind is None else kind.unit,
        "root": {"parameters": tree.root.metrics.get("parameters"), "macs": tree.root.metrics.get("macs")},
        "basis": f"estimated from {known} measured counts of this branch"
        if known > 1
        else "to estimate, this branch needs a second step that was measured",
        "points": points,
    }


def branch_of(tree: Tree, number: int) -> list[Node]:
    """The steps that estimates follow from: from the root to a step and on to the newest one that was made of it.

    Of several steps in a row with the same units the last one counts, since training comes after pruning.
    """
    below = {number}
    newest = number
    for node in tree.nodes:
        if node.parent in below:
            below.add(node.number)
            newest = node.number
    path = [node for node in tree.path(newest) if node.units is not None and node.edge != "failed"]
    measured = [node for node in path if node.value is not None]
    return [node for k, node in enumerate(measured) if k + 1 == len(measured) or measured[k + 1].units != node.units]


def _points(tree: Tree, branch: list[Node], samples: int | None) -> list[dict[str, Any]]:
    rows = [
        {"step": node.number, "units": node.units, "value": node.value, "samples": samples}
        | {name: node.metrics[name] for name in COSTS if name in node.metrics}
        for node in branch
    ]
    try:
        found = [] if tree.metric is None else _estimated(rows, tree.metric)
    except OptionError:  # fewer than two counts
        found = []
    if found:
        return found
    known = branch[-1] if branch else tree.root
    costs = {name: known.metrics.get(name) for name in ("parameters", "macs")}
    return [{"units": known.units, "value": known.value, "low": None, "high": None, **costs}]


def _estimated(rows: list[dict[str, Any]], metric: str) -> list[dict[str, Any]]:
    named = [{(metric if key == "value" else key): value for key, value in row.items()} for row in rows]
    names = ("units", "value", "low", "high", "parameters", "macs")
    return [{name: row.get(name) for name in names} for row in estimate_rows(named, metric, points=POINTS)[::-1]]
