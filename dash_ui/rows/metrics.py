"""Metrics of two steps side by side, written as a person reads them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from dash_ui.figures.steps import basis_of
from onnxprune.evaluate import better, delta, kind_of, measured
from onnxprune.workspace.paths import COSTS, FIRST, Row
from onnxprune.workspace.values import Step

__all__ = ["comparison_rows", "first_metrics"]

SHOWN = 4  # metrics before anybody chose
FITTING = ("r2", "rmse", "mae", "agreement", "kl", "cosine", "largest_difference")


def comparison_rows(step: Step, other: Step | None) -> list[Row]:
    """A row for each metric of a step, quality first: words, values with units, the change, whether it is better.

    ``exact``: the same as numbers that are not rounded, for a file of the table.
    """
    rows = []
    for name in sorted(step.metrics, key=_place):
        kind = kind_of(name)
        if kind is None:
            continue
        now = measured(name, step.metrics[name])
        row: Row = {"metric": name, "label": kind.label, "meaning": kind.meaning, "after": str(now)}
        row |= {"basis": basis_of(name), "before": "", "change": "", "verdict": "", "value": now.value}
        row["exact"] = {"after": now.value, "before": None, "change": None}
        old_value = None if other is None else other.metrics.get(name)
        if old_value is not None:
            old = measured(name, old_value)
            row["before"] = str(old)
            row["exact"] |= {"before": old.value, "change": now.value - old.value}
            row["verdict"] = "better" if better(now, old) else "worse" if better(old, now) else ""
            arrow = "" if now.value == old.value or math.isnan(now.value) else "▲ " if now.value > old.value else "▼ "
            row["change"] = "no change" if now.value == old.value else f"{arrow}{delta(old, now)}"
        rows.append(row)
    return rows


def first_metrics(names: Sequence[str]) -> list[str]:
    """What is drawn before anybody chose: what tasks are judged by, and what tells a fit."""
    order = dict.fromkeys((*FITTING, *FIRST))
    return [name for name in order if name in names][:SHOWN] or list(names[:SHOWN])


def _place(name: str) -> tuple[int, str]:
    """What a task is judged by, then what else tells how good it is, then how large."""
    if name in FIRST:
        return FIRST.index(name), name
    if name in COSTS:
        return len(FIRST) + 1 + COSTS.index(name), name
    return len(FIRST), name
