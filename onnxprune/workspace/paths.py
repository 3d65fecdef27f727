"""Figures over the path from an original to a step, as plain rows: for tables, charts and CSV.

``path_rows``       a row for each step: cost, quality, recovery, degenerated and improved instances
``epoch_rows``      a row for each epoch of the trainings on the path
``loss_rows``       a row for each entry of their training loss
``class_rows``      a row for each step and class: precision, recall, ...
``confusion_rows``  a row for each step and pair of classes that was confused
``cell_rows``       a row for each step: how many labels of one class were taken for another one
``instance_rows``   a row for each instance that two steps judge differently
``tree_rows``       a row for each step of a whole tree, with all of its metrics

Recovery capability, loss fluctuation and recovery cost are those of CNNPruner (see `train.recovery`), and belong to
steps that were fine-tuned. What is not known is None. ``keep``: see `evaluations`; the app keeps what it read.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.errors import DataError, OptionError
from onnxprune.evaluate import better, kind_of, measured
from onnxprune.train import History, loss_fluctuation, recovery_capability, recovery_cost
from onnxprune.workspace.evaluations import Documents, Keep, anew
from onnxprune.workspace.values import Step
from onnxprune.workspace.workspace import Workspace

__all__ = [
    "COSTS",
    "FIRST",
    "Row",
    "cell_rows",
    "class_rows",
    "compare_steps",
    "confusion_rows",
    "epoch_rows",
    "instance_rows",
    "loss_rows",
    "main_metric",
    "pareto_front",
    "path_rows",
    "to_csv",
    "tree_rows",
]

Row = dict[str, Any]
Arrays = Mapping[str, NDArray[Any]]
FIRST = ("accuracy", "mean_iou", "r2", "rmse", "agreement", "cosine", "loss")  # what a task is judged by, if measured
COSTS = ("parameters", "nonzero", "macs", "file_bytes", "activation_bytes")


def main_metric(steps: Sequence[Step]) -> str | None:
    """The metric that the steps are judged by; None where none was measured."""
    return next((name for name in FIRST if any(name in step.metrics for step in steps)), None)


def path_rows(workspace: Workspace, number: int, metric: str | None = None, keep: Keep = anew) -> list[Row]:
    """A row for each step from the root on. ``metric``: by default `main_metric`. Raises StepNotFound, StoreDamaged.

    ``*_left``: share of the root's. ``degenerated``, ``improved``: instances against the step before, and with
    ``_since`` against the root. ``recovery_*``: of a fine-tuning, on the data that its epochs were chosen by;
    ``recovery_share`` is 1 where all of the root's metric came back. ``loss_*``: of its training loss. ``cost_*``: what
    it took, and until when it was needed.
    """
    path, documents = workspace.steps.path(number), Documents(workspace, keep)
    metric = metric or main_metric(path)
    rows = []
    for k, step in enumerate(path):
        row: Row = {"step": step.number, "kind": step.kind, "name": step.name, "seconds": step.seconds}
        row |= _costs(step, path[0])
        row["metric"], row["value"] = metric, None if metric is None else step.metrics.get(metric)
        row |= _kept_moves(documents, path[k - 1] if k else None, step, "")
        row |= _kept_moves(documents, path[0] if k else None, step, "_since")
        row |= _kept_recovery(documents, step, metric, path[0])
        rows.append(row)
    return rows


def epoch_rows(workspace: Workspace, number: int, metric: str | None = None, keep: Keep = anew) -> list[Row]:
    """A row for each epoch of each training from the root on; epoch 0 is the model before it.

    ``metric``: as in `path_rows`; where the epochs were not measured by it, by what they were chosen. ``value``: on the
    data that epochs are chosen by. ``loss``: the mean training loss. ``seconds``: since the start of the training.
    """
    path, documents = workspace.steps.path(number), Documents(workspace, keep)
    metric = metric or main_metric(path)
    rows = []
    for step in path:
        history = documents.history(step.number)
        if history is None or not history.trained:
            continue
        name = _told(history, metric)
        values = dict(history.values(name))
        rows += [
            {"step": step.number, "epoch": row.epoch, "metric": name, "value": _finite(values.get(row.epoch)),
             "loss": _finite(row.loss), "rate": row.rate, "seconds": row.seconds}
            for row in history.epochs
        ]  # fmt: skip
    return rows


def loss_rows(workspace: Workspace, number: int, keep: Keep = anew) -> list[Row]:
    """The training loss of each training from the root on: ``at`` counts the steps of the optimiser."""
    documents = Documents(workspace, keep)
    rows = []
    for step in workspace.steps.path(number):
        history = documents.history(step.number)
        if history is not None and history.trained:
            blob = documents.names(step.number)["history"]
            pairs = documents.keep(("losses", blob), partial(_losses, history))
            rows += [{"step": step.number, "at": at, "loss": _finite(value)} for at, value in pairs]
    return rows


def class_rows(workspace: Workspace, number: int) -> list[Row]:
    """A row for each step from the root on and each class, with the metrics of the class."""
    rows = []
    for step in workspace.steps.path(number):
        classes: dict[str, Row] = {}
        for (metric, cls), value in workspace.steps.class_metrics(step.number).items():
            classes.setdefault(cls, {})[metric] = value
        rows += [{"step": step.number, "class": cls, **values} for cls, values in classes.items()]
    return rows


def confusion_rows(workspace: Workspace, number: int, keep: Keep = anew) -> list[Row]:
    """A row for each step from the root on and each pair of a label and a prediction that occurs."""
    documents, rows = Documents(workspace, keep), []
    for step in workspace.steps.path(number):
        head, confusion = documents.head(step.number), documents.confusion(step.number)
        if head is None or confusion is None:
            continue
        for i, j in np.argwhere(confusion).tolist():
            pair = {"label": head.names[i], "prediction": head.names[j]}
            rows.append({"step": step.number, **pair, "count": int(confusion[i, j])})
    return rows


def cell_rows(workspace: Workspace, number: int, label: int, prediction: int, keep: Keep = anew) -> list[Row]:
    """A row for each step from the root on: labels of one class (by index) that were taken for another one.

    ``count`` of ``of`` labels, and the ``share``; None where a step has no such figures.
    """
    documents, rows = Documents(workspace, keep), []
    for step in workspace.steps.path(number):
        count, of = documents.cell(step.number, label, prediction) or (None, None)
        share = count / of if count is not None and of else None
        rows.append({"step": step.number, "kind": step.kind, "count": count, "of": of, "share": share})
    return rows


def instance_rows(workspace: Workspace, before: int, after: int, keep: Keep = anew) -> list[Row]:
    """A row for each instance that came out differently: "degenerated", "improved", or "moved" from wrong to wrong.

    Raises DataError where the steps were not measured on the same data, StepNotFound, StoreDamaged.
    """
    documents = Documents(workspace, keep)
    old, new = documents.predictions(before), documents.predictions(after)
    if old is None or new is None or not _alike(old, new):
        raise DataError(
            f"steps {before} and {after} were not measured on the same instances",
            "Measure both on the same data, which must have labels.",
        )
    worse, well = new["right"] < old["right"], new["right"] > old["right"]
    moved = np.zeros_like(worse)
    if "predictions" in old and "predictions" in new:
        moved = old["predictions"] != new["predictions"]
    rows = []
    for k in np.flatnonzero(worse | well | moved).tolist():
        row: Row = {"instance": k, "became": "degenerated" if worse[k] else "improved" if well[k] else "moved"}
        row["label"] = int(old["labels"][k]) if "labels" in old else None
        for name, arrays in (("before", old), ("after", new)):
            row[name] = int(arrays["predictions"][k]) if "predictions" in arrays else None
        rows.append(row)
    return rows


def tree_rows(workspace: Workspace, number: int) -> list[Row]:
    """A row for each step of the tree that a step belongs to, with all metrics that were measured of any of them.

    Raises StepNotFound.
    """
    root = workspace.steps.get(number).root
    steps = [step for step in workspace.steps.all() if step.root == root]
    names = list(dict.fromkeys(name for step in steps for name in step.metrics))
    return [
        {"step": step.number, "parent": step.parent, "kind": step.kind, "name": step.name, "pinned": step.pinned}
        | {name: step.metrics.get(name) for name in names}
        for step in steps
    ]


def pareto_front(x: Sequence[float], y: Sequence[float], directions: tuple[str, str]) -> NDArray[np.bool_]:
    """Which points no other one dominates: is as good in both and better in one.

    ``directions``: "higher" or "lower" is better, of each axis; equal points are on the front together. Points that
    are not finite are not on it. Raises OptionError for another direction.
    """
    for direction in directions:
        if direction not in ("higher", "lower"):
            raise OptionError(
                f"a front has no direction {direction!r}", "Choose metrics of which more or less is better."
            )
    goods = [np.asarray(v, np.float64) * (1 if d == "higher" else -1) for v, d in zip((x, y), directions, strict=True)]
    valid = np.flatnonzero(np.isfinite(goods[0]) & np.isfinite(goods[1]))
    front = np.zeros(len(goods[0]), np.bool_)
    order = valid[np.lexsort((-goods[1][valid], -goods[0][valid]))]  # best x first, and best y first among those
    if not order.size:
        return front
    first, second = goods[0][order], goods[1][order]
    best = np.concatenate([[-np.inf], np.maximum.accumulate(second)[:-1]])
    leads = second > best
    leader = np.maximum.accumulate(np.where(leads, np.arange(order.size), 0))
    front[order] = (first == first[leader]) & (second == second[leader])
    return front


def compare_steps(workspace: Workspace, before: int, after: int) -> Row:
    """Two steps side by side: metrics, classes, and how many instances degenerated and improved."""
    old, new = workspace.steps.get(before), workspace.steps.get(after)
    shared = [name for name in new.metrics if name in old.metrics]
    classes = [workspace.steps.class_metrics(number) for number in (before, after)]
    changes = [
        {"class": cls, **_change(name, classes[0][name, cls], value)}
        for (name, cls), value in classes[1].items()
        if (name, cls) in classes[0] and name != "support"
    ]
    documents = Documents(workspace)
    moves = _moves(documents.predictions(before), documents.predictions(after), "")
    return {
        "before": before,
        "after": after,
        "metrics": [_change(name, old.metrics[name], new.metrics[name]) for name in shared],
        "classes": changes,
        **moves,
    }


def to_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as CSV with a line of names; what is None is empty."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _change(name: str, before: float, after: float) -> Row:
    verdict = ""
    if kind_of(name) is not None:
        old, new = measured(name, before), measured(name, after)
        verdict = "better" if better(new, old) else "worse" if better(old, new) else ""
    return {"metric": name, "before": before, "after": after, "delta": after - before, "verdict": verdict}


def _costs(step: Step, root: Step) -> Row:
    row: Row = {}
    for name in COSTS:
        value, whole = step.metrics.get(name), root.metrics.get(name)
        row[name] = value
        row[f"{name}_left"] = None if value is None or not whole else value / whole
    return row


def _alike(old: Arrays, new: Arrays) -> bool:
    """Whether two steps were measured on the same instances, as far as their labels tell."""
    if "right" not in old or "right" not in new or old["right"].shape != new["right"].shape:
        return False
    return ("labels" in old) == ("labels" in new) and (
        "labels" not in old or np.array_equal(old["labels"], new["labels"])
    )


def _moves(old: Arrays | None, new: Arrays | None, suffix: str) -> Row:
    names = (f"degenerated{suffix}", f"improved{suffix}")
    if old is None or new is None or not _alike(old, new):
        return dict.fromkeys(names)
    return {
        names[0]: int(np.count_nonzero(new["right"] < old["right"])),
        names[1]: int(np.count_nonzero(new["right"] > old["right"])),
    }


def _kept_moves(documents: Documents, before: Step | None, after: Step, suffix: str) -> Row:
    if before is None:
        return _moves(None, None, suffix)
    blobs = [documents.names(step.number).get("predictions") for step in (before, after)]

    def make() -> Row:
        return _moves(documents.predictions(before.number), documents.predictions(after.number), suffix)

    return documents.keep(("moves", suffix, *blobs), make)


def _kept_recovery(documents: Documents, step: Step, metric: str | None, root: Step) -> Row:
    blob = documents.names(step.number).get("history")
    if blob is None:
        return _recovery(None, metric, root)
    key = ("recovery", blob, metric, root.number, root.metrics.get(metric or ""))
    return documents.keep(key, lambda: _recovery(documents.history(step.number), metric, root))


def _losses(history: History) -> list[tuple[int, float]]:
    loss = loss_fluctuation(history)
    return list(zip(loss.steps, loss.losses, strict=True))


def _told(history: History, metric: str | None) -> str:
    """The metric that the epochs of a training are told by."""
    return metric if metric is not None and history.values(metric) else history.chosen or "loss"


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else value


def _recovery(history: History | None, metric: str | None, root: Step) -> Row:
    """CNNPruner's three figures; None for all where nothing was trained."""
    row: Row = dict.fromkeys(
        ("recovery_before", "recovery_best", "recovery_low", "recovery_high", "recovery_damage", "recovery_share",
         "loss_first", "loss_last", "loss_span", "loss_roughness",
         "cost_epochs", "cost_steps", "cost_seconds", "cost_until_epoch", "cost_until_step", "cost_until_seconds")
    )  # fmt: skip
    if history is None or not history.trained:
        return row
    name = _told(history, metric)
    try:
        capability = recovery_capability(history, name, root.metrics.get(name))
        cost = recovery_cost(history, name)
    except DataError:  # neither the metric nor the loss of any epoch is known
        return row
    loss = loss_fluctuation(history)
    row |= {f"recovery_{key}": getattr(capability, key) for key in ("before", "best", "low", "high", "damage", "share")}
    row |= {f"loss_{key}": getattr(loss, key) for key in ("first", "last", "span", "roughness")}
    row |= {
        f"cost_{key}": getattr(cost, key)
        for key in ("epochs", "steps", "seconds", "until_epoch", "until_step", "until_seconds")
    }
    return {key: _finite(value) if isinstance(value, float) else value for key, value in row.items()}
