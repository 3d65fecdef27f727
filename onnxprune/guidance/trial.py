"""One plan carried out and measured: a task that any worker can do, with the same figures wherever it is done."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from onnxprune.data import Dataset
from onnxprune.errors import OnnxPruneError
from onnxprune.evaluate import evaluate
from onnxprune.experiment import analyse
from onnxprune.model import Model
from onnxprune.plan import Plan
from onnxprune.recover import recover
from onnxprune.spread import own
from onnxprune.surgery import remove
from onnxprune.values import Coupling, Options

__all__ = ["Attempt", "Outcome", "Trials", "attempt", "carried_out"]

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, eq=False)
class Trials:
    """What all attempts on one step have in common.

    ``model``: of the step, without local functions; ``options``: those that its groups depend on. ``dataset``: what is
    measured on; ``original``: what a model without labels is compared with; ``fitted``: what a repair is fitted on.
    ``running``: provider and threads.
    """

    model: Model
    dataset: Dataset
    options: Options
    original: Model | None = None
    fitted: Dataset | None = None
    seed: int = 0
    running: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Attempt:
    """Group -> units that go, and the repair after it ("" for none)."""

    units: Mapping[str, tuple[int, ...]] = field(hash=False)
    method: str = ""


@dataclass(frozen=True)
class Outcome:
    """Metrics by name, those that are numbers; the size of the file; or the problem, and what to do about it."""

    metrics: Mapping[str, float] = field(default_factory=dict, hash=False)
    file_bytes: int = 0
    seconds: float = 0.0
    problem: tuple[str, str] | None = None


def attempt(common: Trials, task: Attempt) -> Outcome:
    """Carry out a plan and measure it. What cannot be carried out or measured comes back as its problem."""
    try:
        coupling = own(common, _coupling)
        return carried_out(common, coupling, task)
    except OnnxPruneError as error:
        return Outcome(problem=(error.message, error.hint))


def _coupling(common: Trials) -> Coupling:
    return analyse(common.model, common.options, **common.running)[1]


def carried_out(common: Trials, coupling: Coupling, task: Attempt, progress: Progress | None = None) -> Outcome:
    """The same with the groups at hand. Raises what surgery, repairs and evaluation raise."""
    start = time.perf_counter()
    model = common.model
    if any(task.units.values()):
        units = {name: np.asarray(gone, np.int64) for name, gone in task.units.items() if gone}
        sizes = {group.name: group.units for group in coupling.groups}
        plan = Plan(coupling.model_hash, units, sizes, options=coupling.options)
        model = remove(common.model, coupling, plan)
        if task.method:
            model = recover(
                common.model, coupling, plan, model, common.fitted, method=task.method, seed=common.seed,
                progress=progress, **common.running,
            ).model  # fmt: skip
    found = evaluate(
        model, common.dataset, original=common.original, curves="none", progress=progress, **common.running
    )
    values = {metric.name: float(metric.value) for metric in found if math.isfinite(metric.value)}
    return Outcome(values, model.filled().size, time.perf_counter() - start)
