"""What jobs do for guidance: they measure, keep what they found, and make no step."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from typing import Any

from onnxprune.allocate import Budget, allocate
from onnxprune.criteria import UnitScores, find
from onnxprune.errors import NothingToPrune, OnnxPruneError, StoreDamaged
from onnxprune.guidance.asked import RUNNING
from onnxprune.guidance.preview import Bench, previews_of
from onnxprune.guidance.scores import kept_scores, measure
from onnxprune.guidance.speculate import speculation
from onnxprune.guidance.subject import Units, subject
from onnxprune.guidance.suggest import try_out
from onnxprune.workplace import workplace
from onnxprune.workspace.edits import draft_plan
from onnxprune.workspace.recording import Progress, ending
from onnxprune.workspace.workspace import Workspace

__all__ = ["activity", "instability", "latency", "preview", "scan", "score"]

Stop = Callable[[], bool]


def score(workspace: Workspace, number: int, options: Mapping[str, Any], progress: Progress, cancelled: Stop) -> None:
    """Scores of a criterion; the options are those of `scores.kept_scores`."""
    measure(workspace, number, "score", options, ending(progress, cancelled))


def instability(
    workspace: Workspace, number: int, options: Mapping[str, Any], progress: Progress, cancelled: Stop
) -> None:
    """How far ranks spread; the options are those of `scores.kept_instability`."""
    measure(workspace, number, "instability", options, ending(progress, cancelled))


def scan(workspace: Workspace, number: int, options: Mapping[str, Any], progress: Progress, cancelled: Stop) -> None:
    """A sensitivity scan; the options are those of `scores.kept_scan`."""
    measure(workspace, number, "scan", options, ending(progress, cancelled))


def activity(
    workspace: Workspace, number: int, options: Mapping[str, Any], progress: Progress, cancelled: Stop
) -> None:
    """What units do on data; the options are those of `scores.kept_activity`."""
    measure(workspace, number, "activity", options, ending(progress, cancelled))


def latency(workspace: Workspace, number: int, options: Mapping[str, Any], progress: Progress, cancelled: Stop) -> None:
    """The staircase of this machine; the options are those of `scores.kept_latency`."""
    measure(workspace, number, "latency", options, ending(progress, cancelled))


def preview(workspace: Workspace, number: int, options: Mapping[str, Any], progress: Progress, cancelled: Stop) -> None:
    """Measure what is likely to be wanted next: ``recipes``, and what the first suggestions come to.

    The other options are those of `speculate.previews`, provider and threads.
    """
    given = {name: value for name, value in options.items() if name not in ("recipes", "samples")}
    work = Speculating(workspace, number, given, options.get("samples"), ending(progress, cancelled))
    work.run(options.get("recipes", ()))


class Speculating:
    """One job of previews, within the rules of the workspace."""

    def __init__(
        self, workspace: Workspace, number: int, options: Mapping[str, Any], samples: int | None, progress: Progress
    ) -> None:
        self.workspace, self.number, self.options, self.progress = workspace, number, options, progress
        self.rules = speculation(workspace)
        self.end = time.monotonic() + self.rules.seconds
        running = {name: value for name, value in options.items() if name in RUNNING and value is not None}
        rest = {name: value for name, value in options.items() if name not in RUNNING}
        self.about = subject(workspace, number, rest, running, progress)
        seed = int(options.get("seed") or 0)
        self.bench = Bench(self.about, progress, samples=samples or self.rules.samples, seed=seed)

    def run(self, recipes: Sequence[Mapping[str, Any]]) -> None:
        """Each stored when it is done; on workers where the rules name some."""
        self.bench.baseline()
        with workplace(self.rules.workers, self.rules.scheduler, self.options.get("threads")) as place:
            if place.executor is None:
                for units, recipe, method in self.planned(recipes):
                    self.bench.measure(units, recipe, method)
            else:
                with closing(self.bench.measure_all(self.planned(recipes), place)) as ended:
                    for done, _ in enumerate(ended, 1):
                        self.progress("measuring likely next steps", done, len(recipes))
                        if self.over:
                            break
        if self.rules.suggestions and not self.over:
            try_out(self.workspace, self.number, self.rules.suggestions, self.progress, **self.options)

    def planned(self, recipes: Sequence[Mapping[str, Any]]) -> Generator[tuple[Units, Mapping[str, Any], str]]:
        """What goes by each recipe, and the repair after it, until the rules allow no more."""
        for done, recipe in enumerate(recipes):
            if self.over:
                return
            self.progress(
                f"{recipe['criterion']} at {recipe.get('ratio', recipe.get('threshold'))}", done, len(recipes)
            )
            try:
                units, method = self.plan(recipe)
            except NothingToPrune:
                units, method = {}, ""
            except OnnxPruneError as error:
                self.bench.failed(recipe, error)
                continue
            yield units, recipe, method

    @property
    def over(self) -> bool:
        """Whether the rules allow no more."""
        known = previews_of(self.workspace, self.bench.model_hash, self.bench.subset)
        return not self.rules.on or time.monotonic() > self.end or len(known) >= self.rules.entries

    def plan(self, recipe: Mapping[str, Any]) -> tuple[Units, str]:
        """What goes, and the repair after it: as ``ws prune`` does with a ratio, as a draft does with a threshold."""
        scores = self.scores(str(recipe["criterion"]), recipe.get("ratio"))
        if "threshold" in recipe:
            plan = draft_plan(self.about.model, self.about.coupling, [recipe], scores=lambda _: scores)
            return plan.units, ""
        plan, _ = allocate(self.about.coupling, scores, Budget(ratio=float(recipe["ratio"]), round_to=1))
        return plan.units, find(str(recipe["criterion"])).recover

    def scores(self, criterion: str, ratio: float | None) -> UnitScores:
        """As they are kept; else they are measured, and kept."""
        given: dict[str, Any] = {**self.options, "criterion": criterion}
        if "ratios" in find(criterion).needs:
            given["ratio"] = ratio
        measure(self.workspace, self.number, "score", given, self.progress)
        found = kept_scores(self.workspace, self.number, **given)
        if found is None:
            raise StoreDamaged(f"the scores by {criterion} were damaged in this moment", "Try again.")
        return found
