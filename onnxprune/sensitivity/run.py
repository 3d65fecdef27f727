"""The scan: which groups at which ratios, in which order; going on from a file."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from onnxprune.allocate import Budget, allocate_units
from onnxprune.allocate.balance import cells_of
from onnxprune.allocate.budget import check_names
from onnxprune.criteria import UnitScores
from onnxprune.data import Dataset
from onnxprune.errors import DataError, NothingToPrune, OptionError
from onnxprune.frontier import positions
from onnxprune.model import Model
from onnxprune.plan import Plan
from onnxprune.sensitivity.desk import Desk, Job, Portion, Work
from onnxprune.sensitivity.original import check_metric, fingerprint, measure_original
from onnxprune.sensitivity.table import Failure, Row, Sensitivity, load_sensitivity
from onnxprune.spread import Share, as_finished, own
from onnxprune.values import Coupling, Ints

__all__ = ["RATIOS", "in_order", "scan", "tied_groups"]

RATIOS = (0.1, 0.3, 0.5, 0.7, 0.9)
PAUSE = 2.0  # seconds between two writings of the file: what a crash may cost

Progress = Callable[[str, int, int], None]
Entry = Row | Failure


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
    memory: int | None = None,
    executor: Executor | None = None,
    share: Share | None = None,
    file: Path | None = None,
    progress: Progress | None = None,
) -> Sensitivity:
    """Measure every group that has a unit to spare (or those named) at every ratio, removed alone by lowest score.

    Groups that must lose equally many (`Coupling.constraints`) are removed together. ``model``: without local
    functions, as `experiment.analyse` gives it. ``metric``: the name of one that ``evaluate`` gives, by default the
    first; without labels one that compares with the original, by default the share of equal top classes.

    ``executor``: takes the groups one by one; ``share`` says how what they have in common gets to its workers (by
    default in a file of this machine). ``memory``: bytes for activations in each of them, by default a quarter of what
    is free. ``file``: rows are written there every few seconds and in the end, however it ends; rows that a scan of
    the same model, scores, metric and samples left there are not measured again.

    A candidate that cannot be built or measured is a `Failure`. Raises OptionError (ratios, group, metric), DataError
    (the dataset, the file), NothingToPrune, and, where no candidate at all can be measured, ModelError.
    """
    _check(ratios)
    check_metric(metric, dataset)
    names = _chosen(coupling, groups)
    known = None if file is None or not file.exists() else load_sensitivity(file)
    original = measure_original(
        model, dataset, metric, size=size, provider=provider, threads=threads, progress=progress
    )
    print_ = fingerprint(scores, (repr(coupling.options), original.baseline.name), original.digest)
    like = Sensitivity(
        coupling.model_hash, scores.criterion, original.baseline, len(dataset), agreement=dataset.labels is None,
        fingerprint=print_,
    )  # fmt: skip
    book = _Book(like, known, file, coupling)
    work = Work(
        model, coupling.options, dataset, book.scan.baseline, original.reference, size, provider,
        threads, memory,
    )  # fmt: skip
    portions = _portions(coupling, scores, names, sorted(set(ratios)), book.rows)
    done = sum(1 for name, ratio in book.rows if name in names and ratio in ratios)
    total = done + sum(len(portion.jobs) for portion in portions)
    entries = _alone(work, coupling, portions) if executor is None else _spread(work, portions, executor, share)
    with book, closing(entries):
        for number, entry in enumerate(entries, done + 1):
            book.add(entry)
            if progress:
                progress(f"{entry.group} at {entry.ratio:.0%}", number, total)
    return book.finished()


def tied_groups(coupling: Coupling) -> tuple[tuple[str, ...], ...]:
    """Groups that can only lose units together, in the order of the model."""
    clusters = (cluster.groups for cluster in cells_of(coupling).clusters)
    return tuple(tuple(coupling.groups[g].name for g in sorted(c)) for c in clusters if len(c) > 1)


def in_order(coupling: Coupling) -> list[str]:
    """All groups in the order in which the model comes to them."""
    found = positions(coupling)
    return sorted(found, key=found.__getitem__)


def _check(ratios: Sequence[float]) -> None:
    if not ratios or any(not 0 < r < 1 for r in ratios):
        raise OptionError(f"ratios: got {list(ratios)}, expected numbers between 0 and 1", "For example 0.3,0.5,0.7.")


def _chosen(coupling: Coupling, groups: Sequence[str] | None) -> tuple[str, ...]:
    check_names(groups or (), coupling.by_name)
    names = tuple(g.name for g in coupling.groups if g.units > 1 and (groups is None or g.name in groups))
    if not names:
        raise NothingToPrune("no group has a unit to spare", "`onnxprune inspect` lists the groups.")
    return names


class _Book:
    """Rows as they come, and the file that they are written to."""

    def __init__(self, like: Sensitivity, known: Sensitivity | None, file: Path | None, coupling: Coupling) -> None:
        """Raises DataError where ``known``, what the file holds, is a scan of something else, or cannot be written."""
        if known is not None:
            different = list(known.differences(like))
            if different:
                raise DataError(
                    f"{file}: holds a scan with another {', '.join(different)}", "Name another file, or delete it."
                )
            like = replace(like, baseline=known.baseline)
        self.scan, self.file = like, file
        self.rows: dict[tuple[str, float], Row] = {(r.group, r.ratio): r for r in (known.rows if known else ())}
        self.failures: dict[tuple[str, float], Failure] = {}
        self.place = {name: place for place, name in enumerate(in_order(coupling))}
        self._save()

    def add(self, entry: Entry) -> None:
        if isinstance(entry, Failure):
            self.failures[entry.group, entry.ratio] = entry
        else:
            self.rows[entry.group, entry.ratio] = entry
        if time.monotonic() > self._saved + PAUSE:
            self._save()

    def _save(self) -> None:
        self._saved = time.monotonic()
        if self.file is not None:
            self.now().save(self.file)

    def now(self) -> Sensitivity:
        """All rows so far, in the order of the model."""
        order = lambda entry: (self.place[entry.group], entry.ratio)  # noqa: E731
        rows = tuple(sorted(self.rows.values(), key=order))
        return replace(self.scan, rows=rows, failures=tuple(sorted(self.failures.values(), key=order)))

    def finished(self) -> Sensitivity:
        """All rows. Raises DataError where there is none."""
        found = self.now()
        if not found.rows:
            first = found.failures[0]
            raise DataError(
                f"no candidate could be measured; {first.group} at {first.ratio:.0%}: {first.reason}",
                "See whether `onnxprune prune` and `onnxprune evaluate` work for this model.",
            )
        return found

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        self._save()


def _portions(
    coupling: Coupling,
    scores: UnitScores,
    names: Sequence[str],
    ratios: Sequence[float],
    known: Mapping[tuple[str, float], Row],
) -> tuple[Portion, ...]:
    """What is still to be measured, in the order of the first change; tied groups in one portion."""
    tied = {name: cluster for cluster in tied_groups(coupling) for name in cluster}
    jobs: dict[tuple[str, ...], list[Job]] = {}
    for ratio in ratios:
        units = _lowest(coupling, scores, ratio)
        for name in names:
            together = tied.get(name, (name,))
            if (name, ratio) not in known:
                plan = Plan(
                    coupling.model_hash, {n: units[n] for n in together if n in units},
                    group_sizes={n: coupling.groups[coupling.by_name[n]].units for n in together},
                    options=coupling.options,
                )  # fmt: skip
                jobs.setdefault(together, []).append(Job(name, ratio, plan))
    found = positions(coupling)
    portions = (Portion(min(found[name] for name in together), tuple(mine)) for together, mine in jobs.items())
    return tuple(sorted(portions, key=lambda portion: portion.change))


def _lowest(coupling: Coupling, scores: UnitScores, ratio: float) -> Mapping[str, Ints]:
    """Group -> what goes of it at this ratio; without groups in which nothing goes."""
    try:
        return allocate_units(coupling, scores, Budget(ratio=ratio, round_to=1))[0].units
    except NothingToPrune:
        return {}


def _spread(work: Work, portions: Sequence[Portion], executor: Executor, share: Share | None) -> Generator[Entry]:
    """Rows as portions are finished; those of a worker come in the order of the model, so its frontier moves on."""
    with closing(as_finished(_measure, work, portions, executor, share)) as found:
        for _, entries in found:
            yield from entries


def _measure(work: Work, portion: Portion) -> list[Entry]:
    """In the worker."""
    return list(own(work, Desk).measure(portion))


def _alone(work: Work, coupling: Coupling, portions: Sequence[Portion]) -> Generator[Entry]:
    if portions:
        desk = Desk(work, coupling)
        for portion in portions:
            yield from desk.measure(portion)
