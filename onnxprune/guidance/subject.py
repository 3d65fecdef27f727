"""A step to think about: its model in groups, its data, and what was measured of it before."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from onnxprune.cost import Cost, CostModel, example_graph
from onnxprune.criteria import UnitScores
from onnxprune.data import Dataset, open_dataset
from onnxprune.errors import OnnxPruneError
from onnxprune.experiment import analyse
from onnxprune.guidance.activity import Activity
from onnxprune.guidance.asked import coupling_options
from onnxprune.guidance.scores import (
    kept_activity,
    kept_instability,
    kept_latency,
    kept_scan,
    kept_scores,
    score_now,
)
from onnxprune.guidance.staircase import Staircase
from onnxprune.instability import Instability
from onnxprune.model import Model
from onnxprune.plan import Plan
from onnxprune.sensitivity import Sensitivity
from onnxprune.values import Coupling, Ints
from onnxprune.workspace.edits import draft_plan
from onnxprune.workspace.folder import inside
from onnxprune.workspace.values import Step
from onnxprune.workspace.workspace import Workspace

__all__ = ["Subject", "Units", "subject"]

Units = Mapping[str, Ints]


@dataclass(frozen=True, eq=False)
class Subject:
    """A step and what belongs to it. ``model``: without local functions, in which ``coupling`` names the groups.

    ``data``: path of its data relative to the workspace, None without any. ``options``: those that all questions about
    it have in common (data, seed, what groups depend on); ``running``: how models are run.
    """

    workspace: Workspace
    step: Step
    model: Model
    coupling: Coupling
    data: str | None
    options: Mapping[str, Any] = field(default_factory=dict)
    running: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def source(self) -> Path | None:
        """The data on the disk."""
        return None if self.data is None else inside(self.workspace.folder, self.data)

    @cached_property
    def dataset(self) -> Dataset | None:
        """The data that steps are measured on; None where there are none, or none that can be read."""
        try:
            return None if self.source is None else open_dataset(self.source)
        except OnnxPruneError:
            return None

    @cached_property
    def labelled(self) -> bool:
        """Whether the data have labels."""
        return self.dataset is not None and self.dataset.labels is not None

    @cached_property
    def costs(self) -> CostModel:
        """What is left of the model after a removal, for a batch of 1."""
        return CostModel(self.coupling, example_graph(self.model, dict(self.coupling.options.shapes)))

    @property
    def before(self) -> Cost:
        """Cost of the model as it is."""
        return self.costs.before

    @cached_property
    def sensitivity(self) -> UnitScores | None:
        """Kept scores of the criterion "sensitivity"."""
        return kept_scores(self.workspace, self.step.number, "sensitivity", **self.options)

    @cached_property
    def instability(self) -> Instability | None:
        """Kept instability."""
        return kept_instability(self.workspace, self.step.number, **self.options)

    @cached_property
    def scan(self) -> Sensitivity | None:
        """Kept sensitivity scan."""
        return kept_scan(self.workspace, self.step.number, **self.options)

    @cached_property
    def activity(self) -> Activity | None:
        """Kept activity of units."""
        return kept_activity(self.workspace, self.step.number, **self.options)

    @cached_property
    def latency(self) -> Staircase | None:
        """Kept latencies of this machine."""
        return kept_latency(self.workspace, self.step.number, **self.options, **self.running)

    @cached_property
    def order(self) -> tuple[str, UnitScores]:
        """A criterion and its scores, by which units are chosen: sensitivity where it is kept, else l2."""
        if self.sensitivity is not None:
            return "sensitivity", self.sensitivity
        return "l2", score_now(self.workspace, self.step.number, "l2", **self.options)

    @cached_property
    def sizes(self) -> dict[str, int]:
        """Group -> number of its units."""
        return {group.name: group.units for group in self.coupling.groups}

    @cached_property
    def drafted(self) -> Units:
        """Group -> units that the draft of the step removes already, as far as scores for it are at hand."""
        edits = [e.edit for e in self.workspace.drafts.entries(self.step.number) if not e.undone]
        return self.resolve(edits) or {}

    def left(self, group: str) -> int:
        """Units of a group that the draft leaves."""
        return self.sizes[group] - len(self.drafted.get(group, ()))

    def plan(self, units: Units) -> Plan:
        """These units as a plan."""
        return Plan(self.coupling.model_hash, units, self.sizes, options=self.coupling.options)

    def resolve(self, edits: Sequence[Mapping[str, Any]]) -> Units | None:
        """Group -> units that go by these edits, with those that must go or stay along; None where nothing can."""
        if not edits:
            return None
        try:
            return dict(draft_plan(self.model, self.coupling, edits, scores=self.scores_for).units)
        except OnnxPruneError:
            return None

    def scores_for(self, edit: Mapping[str, Any]) -> UnitScores:
        """Scores of an edit's criterion, if they are kept or need weights only. Raises OptionError where not."""
        criterion = str(edit["criterion"])
        found = kept_scores(self.workspace, self.step.number, criterion, **self.options)
        return score_now(self.workspace, self.step.number, criterion, **self.options) if found is None else found


def subject(
    workspace: Workspace,
    number: int,
    options: Mapping[str, Any] | None = None,
    running: Mapping[str, Any] | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Subject:
    """Load a step. Raises StepNotFound, StoreDamaged, and ModelError for a model whose groups cannot be found."""
    if progress:
        progress("reading the model", 0, 0)
    given = {name: value for name, value in (options or {}).items() if value is not None}
    step = workspace.steps.get(number)
    data = workspace.dataset_name(number, given.get("data"))
    how = dict(running or {})
    model, coupling = analyse(workspace.model(number), coupling_options(given), **how)
    return Subject(workspace, step, model, coupling, data, given, how)
