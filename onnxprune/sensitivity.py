"""How much each group can lose: every group on its own, at a ladder of ratios, measured on data.

For each group and ratio the units with the lowest scores are removed from the original, and the metric is measured.
Only what comes after the first changed node is run (`frontier`). Groups are independent of each other, so that
they can be spread over the workers of a ``concurrent.futures.Executor``; finished rows can be written to a file, from
which an interrupted scan goes on. SparseML's one-shot sensitivity analysis of ONNX files is the prior art.

Without labels the original's own decisions take their place: accuracy is then the agreement with the original.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, as_completed
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from onnxprune._atomic import replacing
from onnxprune.allocate import Budget, allocate_units
from onnxprune.allocate.budget import check_names
from onnxprune.cost import CostModel
from onnxprune.coupling import couple
from onnxprune.criteria import UnitScores
from onnxprune.data import Dataset, batches, fit
from onnxprune.errors import DataError, NothingToPrune, OptionError
from onnxprune.evaluate import Metric, evaluate
from onnxprune.frontier import Frontier, first_change
from onnxprune.model import Model
from onnxprune.plan import Plan
from onnxprune.runtime import session
from onnxprune.surgery import remove
from onnxprune.values import Coupling

__all__ = ["RATIOS", "Row", "Sensitivity", "answers_of", "load_sensitivity", "scan"]

RATIOS = (0.1, 0.3, 0.5, 0.7, 0.9)
FORMAT = 1
AGAIN = "Run `onnxprune sensitivity` again."

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Row:
    """One measurement: ``removed`` of ``units`` of a group went.

    ``loss``: by how much the metric is worse (below 0: better). ``parameters``, ``macs``: share of the model left.
    """

    group: str
    ratio: float
    removed: int
    units: int
    value: float
    loss: float
    parameters: float
    macs: float


@dataclass(frozen=True)
class Sensitivity:
    """A whole scan. ``baseline``: the original's metric, with which all ``rows`` are compared.

    ``agreement``: there were no labels, and the original's decisions took their place.
    """

    model_hash: str
    criterion: str
    baseline: Metric
    samples: int
    rows: tuple[Row, ...]
    agreement: bool = False

    def of(self, group: str) -> tuple[Row, ...]:
        """The rows of one group, by ratio."""
        return tuple(sorted((r for r in self.rows if r.group == group), key=lambda r: r.ratio))

    @property
    def groups(self) -> tuple[str, ...]:
        """The groups that were scanned, in their order."""
        return tuple(dict.fromkeys(r.group for r in self.rows))

    def headroom(self, loss: float) -> dict[str, float]:
        """Group -> the largest ratio of the ladder up to which the metric gets worse by no more than ``loss``."""
        result = {}
        for group in self.groups:
            held = 0.0
            for row in self.of(group):
                if row.loss > loss:
                    break
                held = row.ratio
            result[group] = held
        return result

    def to_json(self) -> str:
        """The scan as text; `load_sensitivity` reads it."""
        return json.dumps({"onnxprune_sensitivity": FORMAT, **asdict(self)}, indent=1)

    def save(self, path: str | Path) -> None:
        """Write the scan to a file, wholly or not at all."""
        with replacing(Path(path)) as file:
            file.write(self.to_json().encode())


def load_sensitivity(path: str | Path) -> Sensitivity:
    """Read a scan. Raises DataError for a file that is none."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        if content.pop("onnxprune_sensitivity") != FORMAT:
            raise DataError(f"{path}: a sensitivity scan of another version", AGAIN)
        rows = tuple(Row(**row) for row in content.pop("rows"))
        return Sensitivity(**{**content, "baseline": Metric(**content["baseline"])}, rows=rows)
    except OSError as error:
        raise DataError(f"{path}: cannot read the scan: {error.strerror or error}", AGAIN) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: not a sensitivity scan: {error}", AGAIN) from error


@dataclass(frozen=True, eq=False)
class _Task:
    """What a worker needs for some neighbouring groups: sent once, answered with rows."""

    model: Model
    coupling: Coupling | None  # None: the worker finds the groups itself, which is cheaper than sending them
    options: Any
    scores: UnitScores
    dataset: Dataset
    metric: str
    todo: tuple[tuple[str, tuple[float, ...]], ...]
    baseline: Metric
    size: int
    provider: str
    threads: int | None


def scan(  # noqa: PLR0913 - one argument for each option of the command
    model: Model,
    coupling: Coupling,
    scores: UnitScores,
    dataset: Dataset,
    *,
    ratios: Sequence[float] = RATIOS,
    groups: Sequence[str] | None = None,
    metric: str | None = None,
    size: int = 64,
    provider: str = "auto",
    threads: int | None = None,
    executor: Executor | None = None,
    workers: int = 1,
    file: Path | None = None,
    progress: Progress | None = None,
) -> Sensitivity:
    """Measure every group (or those named) at every ratio.

    ``model``: without local functions, as `experiment.analyse` gives it. ``metric``: the name of one of the metrics
    that ``evaluate`` gives; by default the first. ``executor``: runs the groups in ``workers`` portions, each with
    its share of the processor. ``file``: rows are written there as they come; rows that a scan of the same model,
    scores, metric and samples left there are not measured again.

    Raises OptionError (ratios, group, metric), DataError (the dataset, the file).
    """
    _check(ratios)
    names = _chosen(coupling, groups)
    agreement = dataset.labels is None
    if agreement:
        dataset = answers_of(model, dataset, size=size, provider=provider, threads=threads)
    baseline = _metric(evaluate(model, dataset, size=size, provider=provider, threads=threads), metric)
    empty = Sensitivity(coupling.model_hash, scores.criterion, baseline, len(dataset), (), agreement)
    known = _known(file, empty)
    todo = _todo(names, ratios, known)
    done, total = len(known), len(known) + sum(len(r) for _, r in todo)
    rows = dict(known)
    alone = executor is None
    task = _Task(
        model, coupling if alone else None, coupling.options, scores, dataset, baseline.name, todo, baseline,
        size, provider, threads,
    )  # fmt: skip
    for row in _measured(task) if executor is None else _spread(task, executor, workers):
        rows[row.group, row.ratio] = row
        done += 1
        if progress:
            progress(f"{row.group} at {row.ratio:.0%}", done, total)
        if file is not None:
            _in_order(empty, rows, names).save(file)
    result = _in_order(empty, rows, names)
    if file is not None:
        result.save(file)
    return result


def answers_of(
    model: Model, dataset: Dataset, *, size: int = 64, provider: str = "auto", threads: int | None = None
) -> Dataset:
    """The dataset with the model's own answers as labels: the top class where it gives scores, else its output.

    The answers are those at the first floating-point output.
    """
    run = session(model, provider=provider, threads=threads)
    parts = []
    for batch in batches(fit(dataset, run.inputs), size):
        found = [v[: batch.count] for v in run.run(batch.feeds).values() if v.dtype.kind == "f"]
        if not found:
            raise DataError(f"{model.label} has no floating-point output", "Give a dataset with labels.")
        values = found[0]
        scores = values.ndim > 1 and values.shape[-1] > 1
        parts.append(values.argmax(axis=-1) if scores and values.ndim <= 3 else values)
    return replace(dataset, labels=np.concatenate(parts))


def _check(ratios: Sequence[float]) -> None:
    if not ratios or any(not 0 < r < 1 for r in ratios):
        raise OptionError(f"ratios: got {list(ratios)}, expected numbers between 0 and 1", "For example 0.3,0.5,0.7.")


def _chosen(coupling: Coupling, groups: Sequence[str] | None) -> tuple[str, ...]:
    check_names(groups or (), coupling.by_name)
    names = tuple(g.name for g in coupling.groups if g.units > 1 and (groups is None or g.name in groups))
    if not names:
        raise NothingToPrune("no group has a unit to spare", "`onnxprune inspect` lists the groups.")
    return names


def _metric(found: Iterable[Metric], name: str | None) -> Metric:
    metrics = {m.name: m for m in found}
    if name is None:
        return next(iter(metrics.values()))
    if name not in metrics:
        raise OptionError(f"there is no metric {name!r} for this dataset", f"There are: {', '.join(metrics)}.")
    return metrics[name]


def _known(file: Path | None, like: Sensitivity) -> dict[tuple[str, float], Row]:
    if file is None or not file.exists():
        return {}
    old = load_sensitivity(file)
    if replace(old, rows=()) != like:
        raise DataError(
            f"{file}: holds a scan of another model, criterion, metric or dataset", "Name another file, or delete it."
        )
    return {(row.group, row.ratio): row for row in old.rows}


def _todo(
    names: Sequence[str], ratios: Sequence[float], known: Mapping[tuple[str, float], Row]
) -> tuple[tuple[str, tuple[float, ...]], ...]:
    wanted = ((n, tuple(r for r in sorted(set(ratios)) if (n, r) not in known)) for n in names)
    return tuple((name, missing) for name, missing in wanted if missing)


def _in_order(empty: Sensitivity, rows: Mapping[tuple[str, float], Row], names: Sequence[str]) -> Sensitivity:
    place = {name: k for k, name in enumerate(names)}
    ordered = sorted(rows.values(), key=lambda r: (place.get(r.group, len(place)), r.group, r.ratio))
    return replace(empty, rows=tuple(ordered))


def _spread(task: _Task, executor: Executor, workers: int) -> Iterator[Row]:
    """Neighbouring groups go to one worker, so that it can move one frontier through them."""
    portions = [p for p in np.array_split(np.arange(len(task.todo)), max(workers, 1)) if p.size]
    futures = [executor.submit(_portion, replace(task, todo=tuple(task.todo[k] for k in p))) for p in portions]
    try:
        for future in as_completed(futures):
            yield from future.result()
    finally:
        for future in futures:
            future.cancel()


def _portion(task: _Task) -> list[Row]:
    return list(_measured(task))


def _measured(task: _Task) -> Iterator[Row]:
    coupling = task.coupling or replace(couple(task.model, task.options), model_hash=task.scores.model_hash)
    costs = CostModel(coupling)
    jobs = [(name, r, plan) for name, ratios in task.todo for r, plan in _plans(coupling, task.scores, name, ratios)]
    jobs.sort(key=lambda job: (first_change(coupling, job[2]), coupling.by_name[job[0]]))
    frontier = Frontier(task.model, task.dataset, size=task.size, provider=task.provider, threads=task.threads)
    for name, ratio, plan in jobs:
        frontier.move(first_change(coupling, plan))
        candidate = frontier.tail(remove(task.model, coupling, plan))
        found = evaluate(candidate, frontier.dataset, size=task.size, provider=task.provider, threads=task.threads)
        value = _metric(found, task.metric).value
        after = costs.after(plan.units)
        yield Row(
            name, ratio, len(plan.units.get(name, ())), coupling.groups[coupling.by_name[name]].units, value,
            _loss(task.baseline, value),
            after.parameters / max(costs.before.parameters, 1), after.macs / max(costs.before.macs, 1),
        )  # fmt: skip


def _loss(baseline: Metric, value: float) -> float:
    """How much worse; a metric without a direction counts any change."""
    change = value - baseline.value
    return {"higher": -change, "lower": change}.get(baseline.direction, abs(change))


def _plans(coupling: Coupling, scores: UnitScores, name: str, ratios: Sequence[float]) -> Iterator[tuple[float, Plan]]:
    """What goes at each ratio; a ratio at which no unit goes is left out."""
    for ratio in ratios:
        try:
            yield ratio, allocate_units(coupling, scores, Budget(group_ratios={name: ratio}, round_to=1))[0]
        except NothingToPrune:
            continue
