"""What the history of a step calls for: a training that was left out, or broken off, and classes that paid most."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from onnxprune.evaluate import kind_of
from onnxprune.guidance.subject import Subject
from onnxprune.guidance.suggestion import MEASURED, Action, Effect, Suggestion, worse
from onnxprune.workspace.paths import main_metric
from onnxprune.workspace.values import Step

__all__ = ["hints"]

FELL = 0.005  # of a share; of other metrics as a share of the value before
CLASS_FELL = 0.03
CUTS = ("prune", "edit", "import")


def hints(about: Subject) -> Iterator[Suggestion]:
    """From what is recorded of the step and its parent: nothing is run."""
    path = about.workspace.steps.path(about.step.number)
    metric = main_metric(path)
    here, before = path[-1], path[-2] if len(path) > 1 else None
    if metric is not None and before is not None and metric in here.metrics and metric in before.metrics:
        yield from _fall(about, before, here, metric)
        yield from _classes(about, before, here)
    yield from _unfinished(about, here)


def _fall(about: Subject, before: Step, here: Step, metric: str) -> Iterator[Suggestion]:
    """A cut that was not trained after."""
    old, new = before.metrics[metric], here.metrics[metric]
    lost = worse(metric, new - old)
    kind = kind_of(metric)
    share = kind is not None and kind.format.endswith("%")
    if here.kind not in CUTS or lost <= (FELL if share else FELL * abs(old)):
        return
    children = {step.kind for step in about.workspace.steps.all() if step.parent == here.number}
    points = f"{100 * lost:.1f} points" if share else f"{lost:.4g}"
    effect = Effect(metric, old, new, MEASURED, "of this step against the one before")
    if "fine-tune" not in children and about.data is not None:
        reason = f"{metric} got worse by {points} at this step ({here.kind}), and it was not fine-tuned."
        action = Action("fine-tune", here.number)
        yield Suggestion("history", "Fine-tune this step", reason, 0.9, effects=(effect,), action=action)
    if not children & {"recover", "fine-tune"}:
        reason = (
            f"{metric} got worse by {points} at this step. A repair without training takes seconds and needs no labels."
        )
        action = Action("recover", here.number)
        yield Suggestion("history", "Repair this step", reason, 0.6, effects=(effect,), action=action)


def _classes(about: Subject, before: Step, here: Step) -> Iterator[Suggestion]:
    """The class that lost most, where it lost much more than the classes do on average."""
    steps = about.workspace.steps
    old, new = steps.class_metrics(before.number), steps.class_metrics(here.number)
    falls = {
        cls: old[name, cls] - value for (name, cls), value in new.items() if name == "recall" and (name, cls) in old
    }
    if len(falls) < 2 or here.kind not in CUTS:
        return
    worst = max(falls, key=falls.__getitem__)
    mean = sum(falls.values()) / len(falls)
    if falls[worst] < CLASS_FELL or falls[worst] < 2 * mean:
        return
    least = round(max(old["recall", worst] - CLASS_FELL, 0.0), 3)
    options = {**_again(about, here), "min": {f"recall:{worst}": least}}
    reason = (
        f"Class {worst} lost {100 * falls[worst]:.1f} points of recall at this step, the classes on average "
        f"{100 * mean:.1f}. A floor for it lets go only as much as it can bear."
    )
    effect = Effect(f"recall:{worst}", old["recall", worst], new["recall", worst], MEASURED, "at this step")
    yield Suggestion(
        "history", f"Prune step {before.number} again with a floor for class {worst}", reason, 0.5,
        effects=(effect,), action=Action("prune", before.number, options),
    )  # fmt: skip


def _again(about: Subject, here: Step) -> dict[str, Any]:
    """The options that a pruning was made with: ``--set name=value`` of its command line."""
    words = list(here.command) if here.kind == "prune" else []
    pairs = [words[k + 1].partition("=") for k in range(len(words) - 1) if words[k] == "--set"]
    found = {}
    for name, _, text in pairs:
        try:
            found[name] = json.loads(text)
        except ValueError:
            found[name] = text
    found = {name: value for name, value in found.items() if name not in ("name", "min")}
    return found or {"ratio": 0.5, **({} if about.data is None else {"data": about.data})}


def _unfinished(about: Subject, here: Step) -> Iterator[Suggestion]:
    """A training whose best epoch was its last: it was still getting better."""
    text = about.workspace.document(here.number, "report") if here.kind == "fine-tune" else None
    report = {} if text is None else json.loads(text)
    best, epochs = report.get("best_epoch"), report.get("epochs")
    if best is None or not epochs or best < epochs:
        return
    reason = f"The best epoch of this training was its last one ({epochs}): it was still getting better."
    yield Suggestion("history", "Train on", reason, 0.4, action=Action("fine-tune", here.number))
