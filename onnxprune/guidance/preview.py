"""A plan tried out: what is left of the model, and how good it is on some samples, before any training.

What is measured is what the step would be: the same units by the same scores, removed in the same way, with the repair
that belongs to the criterion. A preview belongs to what a model computes, the samples, and what goes; it is found
again from another step with the same model. Every one is stored on its own, so that nothing is lost when the work is
broken off.

The samples are a calibration subset: up to ``samples`` of those that steps are measured on, drawn by ``seed`` with the
shares of their classes. Where there are no more than that, the figures are those that the step will have.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from onnxprune.data import open_calibration
from onnxprune.errors import DataError, OnnxPruneError
from onnxprune.evaluate import Metric, measured
from onnxprune.guidance.asked import COMMON, asked
from onnxprune.guidance.kept import there
from onnxprune.guidance.subject import Subject, Units
from onnxprune.guidance.trial import Attempt, Outcome, Trials, attempt, carried_out
from onnxprune.spread import as_finished
from onnxprune.workplace import Place
from onnxprune.workspace.paths import FIRST
from onnxprune.workspace.recording import Progress, dumps
from onnxprune.workspace.workspace import Workspace

__all__ = ["SAMPLES", "Bench", "Preview", "conditions", "failures", "previews_of", "units_key"]

SAMPLES = 512
Recipe = Mapping[str, Any]


@dataclass(frozen=True)
class Preview:
    """One plan, measured. ``plan``: its key (`units_key`); ``removed`` of ``units`` go, ``groups`` says from where.

    ``value`` of ``metric`` on ``samples`` samples, ``baseline`` with nothing removed. ``parameters``, ``macs``,
    ``file_bytes``: of what is left, without the plan that a step has in its metadata. ``recipes``: what it came of
    ({"criterion", "ratio"}, {"criterion", "threshold"}).
    """

    plan: str
    removed: int
    units: int
    groups: Mapping[str, int] = field(hash=False)
    parameters: int
    macs: int
    file_bytes: int
    metric: str
    value: float
    baseline: float
    samples: int
    metrics: Mapping[str, float] = field(hash=False)
    recipes: tuple[Recipe, ...] = field(default=(), hash=False)
    seconds: float = 0.0

    @property
    def change(self) -> Metric:
        """By how much the metric changes."""
        return measured(self.metric, self.value - self.baseline)

    def ratios_of(self, criterion: str) -> tuple[float, ...]:
        """The ratios of this criterion that it came of, in their order."""
        return tuple(
            sorted(float(r["ratio"]) for r in self.recipes if r.get("criterion") == criterion and "ratio" in r)
        )

    def ratio_of(self, criterion: str) -> float | None:
        """The lowest of them; None where it came of something else."""
        return next(iter(self.ratios_of(criterion)), None)

    def threshold_of(self, criterion: str) -> float | None:
        """The same with a threshold."""
        named = (r for r in self.recipes if r.get("criterion") == criterion and "threshold" in r)
        return next((float(r["threshold"]) for r in named), None)


def conditions(workspace: Workspace, step: int, options: Mapping[str, Any]) -> tuple[str, str]:
    """The hash of a step's model, and under what circumstances previews of it are measured, as text.

    ``options``: data, samples, seed, and those that groups depend on. Raises as `asked.asked` does.
    """
    known = {name: value for name, value in options.items() if name in COMMON}
    question = asked(workspace, step, "activity", {"samples": SAMPLES, **known})
    return question.model, question.settings


def units_key(units: Mapping[str, Any], method: str = "") -> str:
    """A key for what goes (group -> unit numbers), and the repair after it."""
    plain = {name: sorted(int(n) for n in gone) for name, gone in units.items() if len(gone)}
    return hashlib.sha256(json.dumps([plain, method], sort_keys=True).encode()).hexdigest()


def attempt_of(units: Units, method: str) -> Attempt:
    """The task that carries a plan out."""
    return Attempt({name: tuple(int(n) for n in gone) for name, gone in units.items() if len(gone)}, method)


def previews_of(workspace: Workspace, model: str, subset: str) -> dict[str, Preview]:
    """All previews of a model under some circumstances, by the key of what goes; broken rows are left out."""
    return {p.plan: p for p in _rows(workspace, model, subset) if isinstance(p, Preview)}


def failures(workspace: Workspace, model: str, subset: str) -> list[Recipe]:
    """What was tried and cannot be measured."""
    return [row for row in _rows(workspace, model, subset) if not isinstance(row, Preview)]


def _rows(workspace: Workspace, model: str, subset: str) -> Iterator[Preview | Recipe]:
    if not there(workspace):
        return
    query = "SELECT plan, content FROM preview WHERE model = ? AND subset = ? ORDER BY created, plan"
    for row in workspace.database.rows(query, model, subset):
        try:
            content = json.loads(row["content"])
            if "problem" in content:
                yield content["recipe"]
            else:
                yield Preview(row["plan"], **{**content, "recipes": tuple(content["recipes"])})
        except (ValueError, TypeError, KeyError):
            continue


class Bench:
    """Tries out plans of one step; what they have in common is loaded once.

    Raises DataError where there are no data, or none that the step can be measured on.
    """

    def __init__(self, about: Subject, progress: Progress, *, samples: int = SAMPLES, seed: int = 0) -> None:
        if about.dataset is None:
            raise DataError(f"there are no data that fit step {about.step.number}", "Put them into data/.")
        self.about, self.progress = about, progress
        self.model_hash, self.subset = conditions(
            about.workspace, about.step.number, {**about.options, "samples": samples, "seed": seed}
        )
        self.seed = seed
        self.dataset = about.dataset.subset(samples, seed)
        root = about.step.root
        self._original = None if about.labelled else about.workspace.model(root)
        self._baseline: Preview | None = previews_of(about.workspace, self.model_hash, self.subset).get(units_key({}))

    def baseline(self) -> Preview:
        """With nothing removed."""
        if self._baseline is None:
            self._baseline = self._measure({}, "", {})
        return self._baseline

    def measure(self, units: Units, recipe: Recipe, method: str = "") -> Preview | None:
        """Measure it unless it is known, and store it; None where it cannot be measured: that is stored, too."""
        key = units_key(units, method if any(map(len, units.values())) else "")
        self.baseline()
        known = previews_of(self.about.workspace, self.model_hash, self.subset).get(key)
        try:
            return self._store(known, recipe) if known is not None else self._measure(units, method, recipe)
        except OnnxPruneError as error:
            self.failed(recipe, error)
            return None

    def failed(self, recipe: Recipe, error: OnnxPruneError) -> None:
        """Note that this cannot be measured, so that it is not tried again and again."""
        key = hashlib.sha256(json.dumps(dict(recipe), sort_keys=True).encode()).hexdigest()
        self._write(f"failed {key}", {"problem": error.message, "recipe": dict(recipe)})

    def measure_all(self, tasks: Iterable[tuple[Units, Recipe, str]], place: Place) -> Generator[Preview | None]:
        """The same for many, on the workers of a place, in whatever order they end; each is stored as it does."""
        self.baseline()
        todo = [(task, attempt_of(*task[::2])) for task in tasks]
        running = {**self.about.running, "threads": place.threads or self.about.running.get("threads")}
        common = replace(self.trials, running=running)
        known = previews_of(self.about.workspace, self.model_hash, self.subset)
        fresh = []
        for (units, recipe, method), one in todo:
            found = known.get(units_key(units, method))
            if found is not None:
                yield self._store(found, recipe)
            else:
                fresh.append((units, recipe, one))
        with closing(as_finished(attempt, common, [one for _, _, one in fresh], place.executor, place.share)) as ended:
            for number, outcome in ended:
                units, recipe, one = fresh[number]
                try:
                    yield self._preview(units, one.method, recipe, outcome)
                except OnnxPruneError as error:
                    self.failed(recipe, error)
                    yield None

    @cached_property
    def trials(self) -> Trials:
        """What all attempts have in common."""
        about = self.about
        fitted = None if about.source is None else open_calibration(about.source)
        return Trials(
            about.model, self.dataset, about.coupling.options, self._original, fitted, self.seed, dict(about.running)
        )

    def _measure(self, units: Units, method: str, recipe: Recipe) -> Preview:
        one = attempt_of(units, method)
        return self._preview(units, method, recipe, carried_out(self.trials, self.about.coupling, one, self.progress))

    def _preview(self, units: Units, method: str, recipe: Recipe, outcome: Outcome) -> Preview:
        """Store what came of an attempt. Raises DataError where it was no use."""
        about, values = self.about, outcome.metrics
        if outcome.problem is not None:
            raise DataError(*outcome.problem)
        judged = (*FIRST, *values) if self._baseline is None else (self._baseline.metric,)
        name = next((n for n in judged if n in values), None)
        if name is None:
            raise DataError(f"{about.step.name}: it has no metric on {self.dataset.name}", "Look at its outputs.")
        cost = about.costs.after(units)
        preview = Preview(
            units_key(units, method), sum(map(len, units.values())), about.coupling.units,
            {n: len(gone) for n, gone in units.items()}, cost.parameters, cost.macs, outcome.file_bytes, name,
            values[name], values[name] if self._baseline is None else self._baseline.value, len(self.dataset), values,
            seconds=outcome.seconds,
        )  # fmt: skip
        return self._store(preview, recipe)

    def _store(self, preview: Preview, recipe: Recipe) -> Preview:
        """Add the recipe to those that the preview came of."""
        content = {name: value for name, value in vars(preview).items() if name != "plan"}
        content["recipes"] = [dict(recipe)] if recipe else []
        self._write(preview.plan, content)
        return previews_of(self.about.workspace, self.model_hash, self.subset).get(preview.plan, preview)

    def _write(self, key: str, content: dict[str, Any]) -> None:
        workspace = self.about.workspace
        workspace.check_writable()
        with workspace.database.writing() as connection:
            query = "SELECT content FROM preview WHERE model = ? AND subset = ? AND plan = ?"
            row = connection.execute(query, (self.model_hash, self.subset, key)).fetchone()
            if "recipes" in content:
                content["recipes"] = _united(_recipes(row["content"]) if row else [], content["recipes"])
            values = (self.model_hash, self.subset, key, time.time(), dumps(content).decode())
            connection.execute("INSERT OR REPLACE INTO preview VALUES (?, ?, ?, ?, ?)", values)


def _recipes(text: str) -> list[dict[str, Any]]:
    try:
        return list(json.loads(text).get("recipes", []))
    except (ValueError, AttributeError):
        return []


def _united(old: Sequence[dict[str, Any]], new: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [*old, *(recipe for recipe in new if recipe not in old)]
