"""What a workspace knows about automatic pruning, as plain rows: for the estimator, tables, the tree and charts.

``path_points``   a row for every count of units on the way from the root to a step, for the estimator
``tree_points``   a row for every step of a tree that was fine-tuned or judged, for the estimator
``try_rows``      a row for every step that a run judged
``run_rows``      a row for every run
``verdicts``      step -> what a run said about it

Every step that a run makes has the document ``auto`` (JSON): ``run`` (its key), ``strategy``, ``start``, ``phase``
("auto", "manual", "estimator" or "bisect"), ``try`` (0, 1, ...), ``part`` ("prune", "recover" or "fine-tune"),
``parent``, ``units`` (left), ``wanted``, ``ratio`` (of the parent's units that went), ``metric``, ``requirement``,
``settings`` (a hash), and for the last part of a try ``verdict`` (see `requirement.Verdict`), else None.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from onnxprune.automatic.estimator import COSTS
from onnxprune.automatic.requirement import words_of
from onnxprune.automatic.units import units_by_step
from onnxprune.workspace.paths import main_metric
from onnxprune.workspace.values import Step
from onnxprune.workspace.workspace import Workspace

__all__ = [
    "AUTO",
    "auto_documents",
    "documents_named",
    "path_points",
    "run_rows",
    "tree_points",
    "try_rows",
    "verdicts",
]

Row = dict[str, Any]

AUTO = "auto"
KEPT = 1 << 16  # documents that are remembered: blobs never change


def path_points(workspace: Workspace, number: int) -> list[Row]:
    """A row for every count of units on the path to a step: the last step with that count that was measured."""
    path = workspace.steps.path(number)
    last: dict[int, Row] = {}
    for row in _points(workspace, path, units_by_step(workspace, path)):
        last[row["units"]] = row
    return list(last.values())


def tree_points(workspace: Workspace, root: int) -> list[Row]:
    """A row for the original of a tree and for each of its steps that was fine-tuned, or judged by a run."""
    steps = [step for step in workspace.steps.all() if step.root == root]
    judged = {number for number, found in auto_documents(workspace, root).items() if found["verdict"] is not None}
    wanted = [step for step in steps if step.kind in ("original", "fine-tune") or step.number in judged]
    return _points(workspace, wanted, units_by_step(workspace, steps))


def try_rows(workspace: Workspace, root: int, run: str | None = None) -> list[Row]:
    """A row for every judged step of a tree, or of one run, in the order of making.

    ``removed``: units less than in ``parent``. ``epochs``: of the fine-tuning, 0 without. ``seconds``: of all of a try.
    ``parameters_left`` and ``macs_left``: share of the root's. ``verdict``: in words.
    """
    documents = auto_documents(workspace, root)
    steps = {step.number: step for step in workspace.steps.all() if step.root == root}
    units = units_by_step(workspace, steps.values())
    seconds: dict[tuple[str, int], float] = {}
    rows = []
    for number, found in documents.items():
        step = steps.get(number)
        if step is None or (run is not None and found["run"] != run):
            continue
        key = (found["run"], found["try"])
        seconds[key] = seconds.get(key, 0.0) + step.seconds
        if found["verdict"] is None:
            continue
        before, here = units.get(found["parent"]), units[number]
        rows.append({
            **{name: found[name] for name in ("run", "strategy", "phase", "try", "parent", "wanted", "metric")},
            "step": number,
            "name": step.name,
            "units": here,
            "removed": None if before is None or here is None else before - here,
            "value": step.metrics.get(found["metric"] or ""),
            "holds": found["verdict"]["holds"],
            "reached": found["verdict"]["reached"],
            "verdict": words_of(found["verdict"]),
            "epochs": _epochs(workspace, number),
            "seconds": seconds[key],
            **_left(step, steps.get(root)),
        })  # fmt: skip
    return rows


def run_rows(workspace: Workspace, root: int) -> list[Row]:
    """A row for every run on a tree: what it tried, what it took, and what came of it.

    ``result``: the judged step with the fewest units that holds, None where none does. ``epochs``: of all tries.
    ``epochs_per_unit``: for each unit that the result has less than ``start``.
    """
    tries = try_rows(workspace, root)
    units = units_by_step(workspace, [step for step in workspace.steps.all() if step.root == root])
    documents = auto_documents(workspace, root)
    first = {found["run"]: found for found in reversed(list(documents.values()))}
    rows = []
    for run in dict.fromkeys(row["run"] for row in tries):
        own = [row for row in tries if row["run"] == run]
        held = [row for row in own if row["holds"]]
        best = min(held, key=lambda row: (row["units"], -row["step"]), default=None)
        begun = units.get(first[run]["start"])
        epochs = sum(row["epochs"] for row in own)
        gone = None if best is None or begun is None else begun - best["units"]
        rows.append({
            "run": run,
            "strategy": first[run]["strategy"],
            "start": first[run]["start"],
            "requirement": first[run]["requirement"],
            "tries": len(own),
            "held": len(held),
            "failed": len(own) - len(held),
            "result": None if best is None else best["step"],
            "units_start": begun,
            **{name: None if best is None else best[name] for name in
               ("units", "metric", "value", "parameters", "parameters_left", "macs", "macs_left")},
            "epochs": epochs,
            "epochs_per_unit": epochs / gone if gone else None,
            "seconds": sum(row["seconds"] for row in own),
        })  # fmt: skip
    return rows


def verdicts(workspace: Workspace, root: int) -> dict[int, Row]:
    """Step -> run, strategy, phase, try, holds, verdict (in words), of those steps of a tree that runs judged."""
    return {
        number: {
            **{name: found[name] for name in ("run", "strategy", "phase", "try")},
            "holds": found["verdict"]["holds"],
            "verdict": words_of(found["verdict"]),
        }
        for number, found in auto_documents(workspace, root).items()
        if found["verdict"] is not None
    }


def auto_documents(workspace: Workspace, root: int, run: str | None = None) -> dict[int, Row]:
    """Step -> its document ``auto``, of the steps of a tree that are not in the trash, in the order of making."""
    found = documents_named(workspace, root, AUTO)
    return {number: row for number, row in found.items() if run is None or row["run"] == run}


def documents_named(workspace: Workspace, root: int, name: str) -> dict[int, Row]:
    """Step -> its document (JSON) of a name, of the steps of a tree that are not in the trash, in their order."""
    rows = workspace.database.rows(
        "SELECT document.step AS step, blob FROM document JOIN step ON step.number = document.step "
        "JOIN label ON label.step = step.number WHERE document.name = ? AND root = ? AND trashed IS NULL "
        "ORDER BY document.step",
        name,
        root,
    )
    return {int(row["step"]): dict(_read(workspace.blobs.folder, row["blob"])) for row in rows}


@lru_cache(KEPT)
def _read(folder: Path, blob: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = json.loads((folder / blob).read_bytes())
    return found


def _points(workspace: Workspace, steps: Iterable[Step], units: Mapping[int, int | None]) -> list[Row]:
    """Rows for the estimator, of the steps that were measured."""
    wanted = [step for step in steps if main_metric([step]) is not None and units[step.number] is not None]
    classes = _class_metrics(workspace, [step.number for step in wanted])
    samples: dict[str | None, int | None] = {}
    rows = []
    for step in wanted:
        if step.dataset not in samples:
            samples[step.dataset] = _samples(workspace, step.number)
        rows.append({
            "step": step.number,
            "units": units[step.number],
            "samples": samples[step.dataset],
            **{name: step.metrics.get(name) for name in COSTS},
            **{name: value for name, value in step.metrics.items() if name not in COSTS},
            **classes.get(step.number, {}),
        })  # fmt: skip
    return rows


def _class_metrics(workspace: Workspace, numbers: Sequence[int]) -> dict[int, dict[str, float]]:
    """Step -> "recall:7" -> value."""
    rows = workspace.database.rows(
        "SELECT step, name, class, value FROM metric WHERE class <> '' AND step IN (SELECT value FROM json_each(?))",
        json.dumps(list(numbers)),
    )
    found: dict[int, dict[str, float]] = {}
    for row in rows:
        found.setdefault(row["step"], {})[f"{row['name']}:{row['class']}"] = row["value"]
    return found


def _samples(workspace: Workspace, number: int) -> int | None:
    text = workspace.document(number, "evaluation")
    return None if text is None else json.loads(text).get("samples")


def _epochs(workspace: Workspace, number: int) -> int:
    text = workspace.document(number, "report")
    return 0 if text is None else int(json.loads(text).get("epochs") or 0)


def _left(step: Step, root: Step | None) -> Row:
    row: Row = {}
    for name in ("parameters", "macs"):
        value, whole = step.metrics.get(name), None if root is None else root.metrics.get(name)
        row[name] = value
        row[f"{name}_left"] = None if value is None or not whole else value / whole
    return row
