"""All units of a step in flat arrays, one group after the other from the input to the output.

With each goes what is known of it: its score by a criterion, its instability, the parameters that it carries.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dash_ui.desk import Desk
from onnxprune import Coupling
from onnxprune.cost import CostModel, is_parameter
from onnxprune.criteria import criteria, score
from onnxprune.criteria.registry import usable
from onnxprune.drawing import preview, singular
from onnxprune.errors import OptionError
from onnxprune.graph import Graph
from onnxprune.guidance import is_quick, kept_instability, kept_scores
from onnxprune.instability import Instability
from onnxprune.stored import numbers_per_entry
from onnxprune.values import Group, Ints
from onnxprune.workspace.drafting import SCALES, Source, on_scale
from onnxprune.workspace.values import Step
from onnxprune.workspace.workspace import Workspace

__all__ = [
    "SCALE_WORDS", "SENSITIVITY", "GroupRow", "NotMeasured", "Units", "choices", "first_choice", "options_of",
    "source_of", "units_of",
]  # fmt: skip

SENSITIVITY = "sensitivity"
SCALE_WORDS: Mapping[str, str] = {
    "score": "as measured",
    "layer": "per norm of the layer",
    "largest": "share of the largest in the layer",
    "rank": "rank in the layer",
    "model-rank": "rank in the model",
}

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


class NotMeasured(OptionError):
    """Scores that take data, and were not measured yet."""


@dataclass(frozen=True)
class GroupRow:
    """``kind``: the word for its units (filters, heads, cells), ``noun``: for one. ``start``: number of its first.

    ``along``: what goes with one of them in other layers, in words, "" for nothing.
    """

    name: str
    kind: str
    units: int
    start: int
    along: str = ""

    @property
    def noun(self) -> str:
        """The word for one unit."""
        return singular(self.kind)


@dataclass(frozen=True, eq=False)
class Units:
    """Flat arrays over all units. ``group``: number of its group, ``index``: its number there.

    ``scores``: group -> scores as the criterion gives them, empty where they were not measured; ``x``: on the scale,
    NaN where unknown; ``normalised``: divided by the L2 norm over the group. ``instability``: in ranks, None where it
    was not measured. ``parameters``: that go with the unit alone; a weight between two groups is carried by both.
    ``options``: what the scores were measured with, as an entry of a draft names it; None for weights alone.
    """

    model_hash: str
    groups: tuple[GroupRow, ...]
    group: Ints
    index: Ints
    criterion: str
    scale: str
    scores: Mapping[str, Floats]
    parameters: Ints
    instability: Floats | None = None
    options: Mapping[str, Any] | None = None

    @property
    def measured(self) -> bool:
        """Whether there are scores."""
        return bool(self.scores)

    @cached_property
    def key(self) -> str:
        """What these units are shown by."""
        return json.dumps([self.model_hash, self.criterion, self.scale, self.options, self.measured])

    @property
    def unsteady_key(self) -> float | None:
        """Another number for another instability."""
        weights = 1.0 + np.arange(self.index.size)
        return None if self.instability is None else float(np.nansum(self.instability * weights))

    @cached_property
    def x(self) -> Floats:
        """On the scale."""
        return self.flat(on_scale(self.scores, self.scale))

    @cached_property
    def normalised(self) -> Floats:
        """Comparable over groups, not negative, 0 where unknown: what is summed up for the share that is left."""
        return np.abs(np.nan_to_num(self.flat(on_scale(self.scores, "layer")), posinf=0.0, neginf=0.0))

    def flat(self, values: Mapping[str, Any]) -> Floats:
        """By group, as one array; NaN for groups that are not named."""
        return self._joined(values, np.nan, np.float64)

    def mask(self, masks: Mapping[str, Mask]) -> Mask:
        """Masks by group, as one."""
        return self._joined(masks, False, np.bool_)

    def _joined(self, values: Mapping[str, Any], missing: object, kind: Any) -> NDArray[Any]:
        found = np.full(self.index.size, missing, kind)
        for group in self.groups:
            if group.name in values:
                found[group.start : group.start + group.units] = values[group.name]
        return found

    def entry(self, threshold: float) -> dict[str, Any]:
        """The edit that sets the threshold."""
        found = {"criterion": self.criterion, "threshold": threshold, "scale": self.scale}
        return found if self.options is None else {**found, "scores": dict(self.options)}


def choices(coupling: Coupling, *, data: bool) -> list[str]:
    """The criteria that can score the units of a model: those on weights, and with data the others."""
    now = set(usable("units", coupling))
    found = [
        name
        for name, criterion in criteria().items()
        if criterion.units is not None and "ratios" not in criterion.needs
        and (name in now or (data and not is_quick(name)))
    ]  # fmt: skip
    return sorted(found, key=lambda name: (name != SENSITIVITY, not is_quick(name), name))


def options_of(workspace: Workspace, step: int, criterion: str, data: str | None) -> dict[str, Any] | None:
    """What kept scores are found again by; None for a criterion that looks at weights only."""
    if is_quick(criterion):
        return None
    return {"data": data or workspace.dataset_name(step)}


def first_choice(workspace: Workspace, step: int, data: str | None) -> tuple[str, str]:
    """Criterion and scale to begin with: those of the draft's last threshold, sensitivity where it is kept, else l2."""
    for entry in reversed(workspace.drafts.entries(step)):
        if not entry.undone and "threshold" in entry.edit:
            return str(entry.edit["criterion"]), str(entry.edit.get("scale", SCALES[0]))
    options = options_of(workspace, step, SENSITIVITY, data) or {}
    if options.get("data") is not None and kept_scores(workspace, step, SENSITIVITY, **options) is not None:
        return SENSITIVITY, "layer"
    return "l2", SCALES[0]


def source_of(desk: Desk, workspace: Workspace, step: Step) -> Source:
    """Scores that entries of a draft of this step speak of. Raises NotMeasured."""

    def source(edit: Mapping[str, Any]) -> Mapping[str, Floats]:
        return _scores(desk, workspace, step, str(edit["criterion"]), edit.get("scores"))

    return source


def _scores(
    desk: Desk, workspace: Workspace, step: Step, criterion: str, options: Mapping[str, Any] | None
) -> Mapping[str, Floats]:
    def make() -> Mapping[str, Floats]:
        if is_quick(criterion):
            return dict(score(*desk.analysis(workspace, step), criterion))
        found = kept_scores(workspace, step.number, criterion, **(options or {}))
        if found is None:
            raise NotMeasured(f"{criterion} was not measured for this step", "Measure it first.")
        return dict(found)

    return desk.kept.get(("scores", step.model_hash, criterion, json.dumps(options, sort_keys=True)), make)


def units_of(
    desk: Desk, workspace: Workspace, step: Step, criterion: str, scale: str, *, data: str | None = None, runs: int = 5
) -> Units:
    """The units of a step. ``data``: in place of the step's own; ``runs``: of the instability that is looked for.

    Raises ModelError, StoreDamaged, and OptionError for a criterion or scale that does not exist.
    """
    _, coupling = desk.analysis(workspace, step)
    order, parameters, along = desk.kept.get(("carried", step.model_hash), lambda: _carried(coupling))
    options = options_of(workspace, step.number, criterion, data)
    try:
        scores = _scores(desk, workspace, step, criterion, options)
    except NotMeasured:
        scores = {}
    groups, start = [], 0
    for number in order:
        group = coupling.groups[number]
        groups.append(GroupRow(group.name, group.kind, group.units, start, along[number]))
        start += group.units
    sizes = [group.units for group in groups]
    found = Units(
        step.model_hash, tuple(groups), np.repeat(np.arange(len(groups)), sizes),
        np.concatenate([np.zeros(0, np.int64), *map(np.arange, sizes)]), criterion, scale, scores,
        np.concatenate([np.zeros(0, np.int64), *(parameters[number] for number in order)]), options=options,
    )  # fmt: skip
    path = data or workspace.dataset_name(step.number)
    unsteady = None if path is None else kept_instability(workspace, step.number, data=path, runs=runs)
    if unsteady is None:
        return found
    return Units(**{**_fields(found), "instability": _instability(found, unsteady)})


def _fields(units: Units) -> dict[str, Any]:
    return {name: getattr(units, name) for name in units.__dataclass_fields__}


def _instability(units: Units, found: Instability) -> Floats:
    known = {group.name: np.array(group.instability) for group in found.groups}
    sizes = {group.name: group.units for group in units.groups}
    return units.flat({name: values for name, values in known.items() if sizes.get(name) == values.size})


def _carried(coupling: Coupling) -> tuple[list[int], list[Ints], list[str]]:
    """Numbers of the groups by depth; by group, in its own order, the parameters of its units and what goes along."""
    graph: Graph = coupling.graph
    depth = [_depth(graph, group) for group in coupling.groups]
    order = sorted(range(len(depth)), key=lambda number: (depth[number], number))
    costs = CostModel(coupling)
    along = [_along(preview(coupling, group.name, [0], costs).words) for group in coupling.groups]
    return order, [_parameters(graph, group) for group in coupling.groups], along


def _along(words: str) -> str:
    """Of a sentence "Removing ... also removes ...: 652 parameters in all." what it removes as well."""
    return words.partition(" also removes ")[2].rpartition(": ")[0]


def _depth(graph: Graph, group: Group) -> int:
    """Number of the first node that makes units of the group with a weight of theirs."""
    makers = [
        node.number
        for member in group.weights
        if member.linear and not member.consumes
        for node, _ in graph.consumers.get(member.tensor, ())
    ]
    return min(makers, default=len(graph.nodes))


def _parameters(graph: Graph, group: Group) -> Ints:
    """Elements of parameters on the positions of each unit."""
    found = np.zeros(group.units, np.int64)
    for member in group.weights:
        if not is_parameter(graph, member.tensor):
            continue
        shape = graph.weights[member.tensor].shape
        each = int(np.prod(shape, dtype=np.int64)) // max(shape[member.axis] * member.blocks, 1)
        found += np.bincount(member.unit, minlength=group.units) * each * numbers_per_entry(graph, member.tensor)
    return found
