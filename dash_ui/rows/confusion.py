"""The confusion matrix of a step beside that of another one, cut down to the classes that matter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.workspace.evaluations import Documents
from onnxprune.workspace.paths import Row

__all__ = ["LIMIT", "MOST", "ORDERS", "Matrix", "class_options", "instances_in", "matrix_of", "pair_rows"]

LIMIT = 120  # classes in one picture; 14,400 cells
MOST = 48  # classes in the picture of more than that, so that one sees and hits its cells
ORDERS = ("index", "error", "change")
Counts = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Matrix:
    """The rows and columns of some classes of a confusion matrix.

    ``counts[i, j]``: labels of class ``indices[i]`` taken for ``indices[j]``. ``totals``: labels of each class, those
    taken for classes that are not shown included. ``before``, ``totals_before``: of the ``other`` step. ``of``: how
    many classes there are.
    """

    indices: NDArray[np.int64]
    names: tuple[str, ...]
    counts: Counts
    totals: Counts
    before: Counts | None = None
    totals_before: Counts | None = None
    of: int = 0
    other: int | None = None

    @property
    def labels(self) -> list[str]:
        """The names, with the numbers of the classes where names alone would not tell them apart."""
        if len(set(self.names)) == len(self.names):
            return list(self.names)
        return [f"{i} · {name}" for i, name in zip(self.indices.tolist(), self.names, strict=True)]

    @property
    def shares(self) -> NDArray[np.float64]:
        """Of the labels of each row."""
        return _shares(self.counts, self.totals)

    @property
    def change(self) -> NDArray[np.float64] | None:
        """Of the shares, after - before."""
        if self.before is None or self.totals_before is None:
            return None
        return self.shares - _shares(self.before, self.totals_before)


def matrix_of(
    documents: Documents,
    step: int,
    other: int | None = None,
    classes: Sequence[int] = (),
    order: str = "index",
    limit: int = LIMIT,
    most: int = MOST,
) -> Matrix | None:
    """The matrix of a step; None where it has none.

    ``classes``: those to show, by index, by default all. ``order``: "index", "error" (share of the labels that are
    missed, largest first) or "change" (of any cell of the row, largest first). Of more than ``limit`` classes ``most``
    are shown: those of the pairs that are confused most, or those that changed most where that is the order.
    """
    both = _both(documents, step, other)
    if both is None:
        return None
    names, counts, before = both
    chosen = np.array(sorted({c for c in classes if 0 <= c < len(names)}) or range(len(names)), np.int64)
    totals = counts.sum(axis=1)
    totals_before = None if before is None else before.sum(axis=1)
    ranks = _ranks(counts, totals, before, totals_before, order)
    if len(chosen) > limit:
        first = ranks if order == "change" and before is not None else _confused(counts)
        chosen = np.sort(chosen[np.argsort(-first[chosen], kind="stable")[:most]])
    if order != "index":
        chosen = chosen[np.argsort(-ranks[chosen], kind="stable")]
    cut = np.ix_(chosen, chosen)
    return Matrix(
        chosen, tuple(names[i] for i in chosen.tolist()), counts[cut], totals[chosen],
        None if before is None else before[cut], None if totals_before is None else totals_before[chosen],
        len(names), other,
    )  # fmt: skip


def pair_rows(documents: Documents, step: int, other: int | None = None, classes: Sequence[int] = ()) -> list[Row]:
    """A row for each pair of classes that is, or was, confused; most first. ``classes``: of either side, () for all."""
    both = _both(documents, step, other)
    if both is None:
        return []
    names, counts, before = both
    there = (counts > 0) if before is None else (counts > 0) | (before > 0)
    np.fill_diagonal(there, val=False)
    if classes:
        wanted = np.zeros(len(names), bool)
        wanted[[c for c in classes if 0 <= c < len(names)]] = True
        there &= wanted[:, None] | wanted
    labels, taken = np.nonzero(there)
    found, totals = counts[labels, taken], counts.sum(axis=1)[labels]
    order = np.lexsort((taken, labels, -found))
    rows: list[Row] = []
    for k in order.tolist():
        i, j, count, total = int(labels[k]), int(taken[k]), int(found[k]), int(totals[k])
        row: Row = {
            "label": names[i],
            "prediction": names[j],
            "count": count,
            "share": count / total if total else None,
        }
        if before is not None:
            row |= {"before": int(before[i, j]), "change": count - int(before[i, j])}
        rows.append({**row, "i": i, "j": j})
    return rows


def instances_in(documents: Documents, step: int, other: int | None, label: int, prediction: int) -> list[Row] | None:
    """The instances in one cell, now or in the other step; None where instances are not known one by one.

    ``instance``: its row in the data. ``before``, ``after``: what it was and is taken for. ``moved``: "came" into the
    cell, "went" out of it, or "" for neither.
    """
    now = documents.predictions(step) or {}
    if "labels" not in now or "predictions" not in now:
        return None
    old = (documents.predictions(other) or {}) if other is not None else {}
    if "labels" not in old or not np.array_equal(old["labels"], now["labels"]):
        old = {}
    head = documents.head(step)
    names = head.names if head else ()
    own, inside = now["labels"] == label, now["predictions"] == prediction
    was = old["predictions"] == prediction if "predictions" in old else np.zeros_like(inside)
    rows: list[Row] = []
    for k in np.flatnonzero(own & (inside | was)).tolist():
        row: Row = {"instance": k, "label": names[label], "after": names[int(now["predictions"][k])]}
        if old:
            moved = "" if inside[k] and was[k] else "came" if inside[k] else "went"
            row |= {"before": names[int(old["predictions"][k])], "moved": moved}
        rows.append(row)
    return rows


def _both(documents: Documents, step: int, other: int | None) -> tuple[tuple[str, ...], Counts, Counts | None] | None:
    """Names, counts and those of the other step, where it knows the same classes."""
    head, counts = documents.head(step), documents.confusion(step)
    if head is None or counts is None:
        return None
    before = None
    if other is not None and other != step:
        known = documents.head(other)
        if known is not None and known.names == head.names:
            before = documents.confusion(other)
    return head.names, counts, before


def _ranks(
    counts: Counts, totals: Counts, before: Counts | None, totals_before: Counts | None, order: str
) -> NDArray[np.float64]:
    shares = _shares(counts, totals)
    if order == "change" and before is not None and totals_before is not None:
        found: NDArray[np.float64] = np.abs(shares - _shares(before, totals_before)).max(axis=1, initial=0.0)
        return found
    return np.where(totals > 0, 1 - np.diagonal(shares), -1.0)


def _confused(counts: Counts) -> NDArray[np.float64]:
    """How often each class was confused with the one that it is confused with most; then with all others."""
    wrong = counts - np.diag(np.diagonal(counts))
    whole = max(int(wrong.sum()), 1)
    most = np.maximum(wrong.max(axis=1, initial=0), wrong.max(axis=0, initial=0))
    found: NDArray[np.float64] = most + (wrong.sum(axis=1) + wrong.sum(axis=0)) / (2 * whole + 1)
    return found


def _shares(counts: Counts, totals: Counts) -> NDArray[np.float64]:
    shares: NDArray[np.float64] = counts / np.maximum(totals, 1)[:, None]
    return shares


def class_options(names: Sequence[str]) -> list[dict[str, Any]]:
    """What a choice of classes offers."""
    return [{"label": name if name == str(i) else f"{i} · {name}", "value": i} for i, name in enumerate(names)]
