"""Classes of a step beside those of another one, and their precision-recall curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from onnxprune.evaluate import Curve
from onnxprune.workspace.evaluations import Documents, Head
from onnxprune.workspace.paths import Row

__all__ = ["AVERAGES", "METRICS", "change_rows", "curves_of", "mean_rows"]

METRICS = ("precision", "recall", "f1", "average_precision")
AVERAGES = {"macro": "macro mean", "weighted": "mean weighted by support"}


def change_rows(documents: Documents, step: int, other: int | None) -> list[Row]:
    """A row for each class: support, each of METRICS, its change against the other step, and moved instances.

    ``d_recall`` and its like: after - before. None for what is not known.
    """
    head = documents.head(step)
    if head is None:
        return []
    before = _before(documents, head, other)
    lost, won = _moves(documents, step, other, len(head.classes))
    rows = []
    for entry in head.classes:
        old = before[entry["index"]] if before else {}
        row: Row = {"index": entry["index"], "class": entry["name"], "support": entry["support"]}
        for name in METRICS:
            row[name], row[f"d_{name}"] = entry.get(name), _less(entry.get(name), old.get(name))
        row["degenerated"] = None if lost is None else lost[entry["index"]]
        row["improved"] = None if won is None else won[entry["index"]]
        rows.append(row)
    return rows


def mean_rows(rows: Sequence[Row]) -> list[Row]:
    """Of `change_rows`: the plain mean over the classes with labels, and the one weighted by support."""
    there = [row for row in rows if row["support"]]
    if not there:
        return []
    found = []
    for name, weights in (("macro mean", [1] * len(there)), ("weighted mean", [row["support"] for row in there])):
        mean: Row = {"class": name, "support": sum(row["support"] for row in there)}
        for metric in (*METRICS, *(f"d_{m}" for m in METRICS)):
            known = [
                (row[metric], weight) for row, weight in zip(there, weights, strict=True) if row[metric] is not None
            ]
            mean[metric] = sum(v * w for v, w in known) / sum(w for _, w in known) if known else None
        for count in ("degenerated", "improved"):
            known_counts = [row[count] for row in there if row[count] is not None]
            mean[count] = sum(known_counts) if known_counts else None
        found.append(mean)
    return found


def curves_of(documents: Documents, number: int | None, chosen: Sequence[str | int]) -> list[Curve]:
    """The curves of a step for classes by index, or for the averages of AVERAGES; those that there are."""
    found = []
    for which in chosen if number is not None else ():
        if isinstance(which, str) and which in AVERAGES:
            curve = documents.mean_curve(number or 0, weighted=which == "weighted")
        else:
            curve = documents.curve(number or 0, int(which))
        if curve is not None and curve.recall.size:
            found.append(curve)
    return found


def why_no_curves(head: Head) -> str:
    """Why an evaluation has no curves."""
    if head.task in ("segmentation", "sequence"):
        return f"Curves are not made of a {head.task}: it has a decision for each place of each sample."
    for note in head.notes:
        if "no curves" in note:
            return f"{note[0].upper()}{note[1:]}."
    return "The model puts out classes and no scores, so that there is no threshold to move."


def _before(documents: Documents, head: Head, other: int | None) -> Sequence[Mapping[str, Any]] | None:
    """The classes of the other step, where they are the same ones."""
    known = documents.head(other) if other is not None else None
    return known.classes if known is not None and known.names == head.names else None


def _moves(
    documents: Documents, step: int, other: int | None, classes: int
) -> tuple[list[int] | None, list[int] | None]:
    """How many instances of each class became wrong, and right."""
    new = documents.predictions(step) or {}
    old = (documents.predictions(other) or {}) if other is not None else {}
    if any("labels" not in arrays or "right" not in arrays for arrays in (old, new)):
        return None, None
    if not np.array_equal(old["labels"], new["labels"]):
        return None, None
    labels = new["labels"]
    counts = [
        np.bincount(labels[mask & (labels >= 0)], minlength=classes).tolist()
        for mask in (new["right"] < old["right"], new["right"] > old["right"])
    ]
    return counts[0], counts[1]


def _less(after: float | None, before: float | None) -> float | None:
    return None if after is None or before is None else after - before
