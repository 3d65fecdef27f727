"""Several strategies from the same step with the same requirement, side by side."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from onnxprune.automatic.action import auto
from onnxprune.automatic.rows import run_rows
from onnxprune.automatic.settings import AUTO, BISECT, MANUAL, settings_of
from onnxprune.workspace.recording import Progress
from onnxprune.workspace.workspace import Workspace

__all__ = ["compare_strategies", "contenders"]

SMALL = "1/8"  # the ratio of small steps
COARSE = "1/2"  # what bisection begins with


def contenders(options: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Words -> options of the runs that are compared: those given by ratio, in small steps, and each refinement.

    ``manual+estimator`` is among them where counts are given.
    """
    shared = {key: value for key, value in options.items() if key not in ("strategy", "units", "ratios", "run", "name")}
    ratio = shared.get("ratio", "1/3")
    found = {
        f"auto {ratio}": {**shared, "strategy": AUTO},
        f"auto {SMALL}": {**shared, "strategy": AUTO, "ratio": SMALL},
        f"auto {ratio} + estimator": {**shared, "strategy": "auto+estimator"},
        f"bisect from {COARSE}": {**shared, "strategy": BISECT, "ratio": COARSE},
    }
    counts = {key: options[key] for key in ("units", "ratios") if options.get(key)}
    if counts:
        found["manual + estimator"] = {**shared, **counts, "strategy": f"{MANUAL}+estimator"}
    return found


def compare_strategies(
    workspace: Workspace,
    number: int,
    plans: Mapping[str, Mapping[str, Any]],
    progress: Progress,
    cancelled: Callable[[], bool] = lambda: False,
) -> list[dict[str, Any]]:
    """Run every plan (words -> options of `action.auto`) from a step; a row of `run_rows` for each, with ``plan``.

    A plan that was compared before with the same options is not run again. Raises as `action.auto`.
    """
    keys = {words: _key(number, options) for words, options in plans.items()}
    for words, options in plans.items():
        auto(workspace, number, {**options, "run": keys[words]}, partial(_named, progress, words), cancelled)
    rows = {row["run"]: row for row in run_rows(workspace, workspace.steps.get(number).root)}
    return [{"plan": words, **rows[key]} for words, key in keys.items() if key in rows]


def _key(number: int, options: Mapping[str, Any]) -> str:
    text = json.dumps([number, settings_of({**options, "run": None}).digest])
    return f"compare-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _named(progress: Progress, words: str, stage: str, done: int = 0, total: int = 0) -> None:
    progress(f"{words}, {stage}", done, total)
