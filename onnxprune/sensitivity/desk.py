"""The worker's side: one candidate after the other is built and measured, on a frontier that moves forwards."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.cost import CostModel
from onnxprune.coupling import couple
from onnxprune.data import Batch, Dataset
from onnxprune.errors import OnnxPruneError
from onnxprune.evaluate import Asked, Evaluation, Meter, Metric, kind_of
from onnxprune.frontier import Frontier
from onnxprune.model import Model
from onnxprune.plan import Plan
from onnxprune.sensitivity.table import Failure, Row
from onnxprune.surgery import mask, remove
from onnxprune.values import Coupling, Options

__all__ = ["Desk", "Job", "Portion", "Work", "asked_for", "needs_original", "worse"]

Array = NDArray[Any]
Batches = Iterable[tuple[Batch, Mapping[str, Array]]]


@dataclass(frozen=True)
class Job:
    """One candidate: what ``plan`` says goes for the row of ``group`` at ``ratio``."""

    group: str
    ratio: float
    plan: Plan


@dataclass(frozen=True)
class Portion:
    """Jobs with one first change: a node of the main graph, by position."""

    change: int
    jobs: tuple[Job, ...]


@dataclass(frozen=True, eq=False)
class Work:
    """What all measurements have in common: sent once to each worker. ``reference``: the original's outputs.

    ``memory``: bytes that a desk may keep activations in.
    """

    model: Model
    options: Options
    dataset: Dataset
    baseline: Metric
    reference: Sequence[Mapping[str, Array]] = ()
    size: int = 64
    provider: str = "auto"
    threads: int | None = None
    memory: int | None = None


class Desk:
    """Measures portions; fastest where none lies in front of the one before."""

    def __init__(self, work: Work, coupling: Coupling | None = None) -> None:
        self.work = work
        self.coupling = coupling or couple(work.model, work.options, provider=work.provider, threads=work.threads)
        self.frontier = self._frontier()
        self.costs = CostModel(self.coupling, self.frontier.graph)

    def _frontier(self) -> Frontier:
        work = self.work
        return Frontier(
            work.model, work.dataset,
            size=work.size, provider=work.provider, threads=work.threads, memory=work.memory,
        )  # fmt: skip

    def measure(self, portion: Portion) -> Iterator[Row | Failure]:
        """A row for each job, or why there is none."""
        if portion.change < self.frontier.position:
            self.frontier = self._frontier()
        self.frontier.move(portion.change)
        known: dict[Plan, float | Failure] = {}
        for job in portion.jobs:
            if job.plan not in known:
                known[job.plan] = self._value(job) if job.plan.units else self.work.baseline.value
            found = known[job.plan]
            if isinstance(found, Failure):
                yield replace(found, group=job.group, ratio=job.ratio)
            else:
                yield self._row(job, found)

    def _value(self, job: Job) -> float | Failure:
        try:
            evaluation = self.evaluate(self._candidate(job.plan))
            value = evaluation.value(self.work.baseline.name)
        except OnnxPruneError as error:
            return Failure(job.group, job.ratio, error.message)
        if not np.isfinite(value):
            return Failure(job.group, job.ratio, f"{self.work.baseline.label} is {value} then")
        return value

    def _candidate(self, plan: Plan) -> Model:
        """The removed model; the masked one where the data would not fit the removed one's inputs or outputs."""
        graph = self.coupling.graph
        groups = (self.coupling.groups[self.coupling.by_name[name]] for name in plan.units)
        ends = {*graph.inputs, *graph.outputs}
        cut = mask if any(m.tensor in ends for group in groups for m in group.members) else remove
        return cut(self.work.model, self.coupling, plan)

    def evaluate(self, candidate: Model) -> Evaluation:
        """The metrics of a model that the frontier can run."""
        return measured(self.frontier.run(candidate), self.frontier.data, self.work)

    def _row(self, job: Job, value: float) -> Row:
        before, after = self.costs.before, self.costs.after(job.plan.units)
        units = self.coupling.groups[self.coupling.by_name[job.group]].units
        removed = len(job.plan.units.get(job.group, ()))
        return Row(
            job.group, job.ratio, removed, units, value, worse(self.work.baseline, value),
            after.parameters / max(before.parameters, 1), after.macs / max(before.macs, 1),
        )  # fmt: skip


def measured(outputs: Batches, dataset: Dataset, work: Work) -> Evaluation:
    """The metrics of outputs as they come."""
    asked = asked_for(work.baseline.name)
    meter = Meter(asked, samples=len(dataset), class_names=dataset.class_names, name=dataset.name)
    for number, (batch, found) in enumerate(outputs):
        meter.add(found, batch.labels, batch.count, work.reference[number] if work.reference else None)
    return meter.finish()


def asked_for(metric: str) -> Asked:
    """No more than this metric needs: curves are the dearest part of an evaluation."""
    top = int(metric.removeprefix("top_")) if metric.startswith("top_") and metric != "top_k" else None
    return Asked(top_k=top, curves="auto" if metric == "mean_average_precision" else "none")


def needs_original(metric: str) -> bool:
    """Whether a metric compares with the original's outputs."""
    kind = kind_of(metric)
    return kind is not None and kind.needs == "original"


def worse(baseline: Metric, value: float) -> float:
    """How much worse than the baseline; a metric without a direction counts any change."""
    change = value - baseline.value
    return {"higher": -change, "lower": change}.get(baseline.direction, abs(change))
