"""``run_schedule``: prune, train, again and again, until enough is gone or a floor fails."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import Any

from onnxprune.allocate import Floor, check_floors
from onnxprune.cost import cost
from onnxprune.data import Dataset
from onnxprune.errors import BudgetError, OptionError
from onnxprune.evaluate import Metric
from onnxprune.model import Model, inline_functions, load, save
from onnxprune.plan import Plan
from onnxprune.schedule.course import Course
from onnxprune.schedule.cutting import Cut, Cutter
from onnxprune.schedule.journal import Journal, Round
from onnxprune.schedule.rewinding import with_weights
from onnxprune.train import Trained, train
from onnxprune.train.judge import Judge
from onnxprune.train.settings import data_print
from onnxprune.train.stops import CANCELLED, DIVERGED
from onnxprune.values import Options

__all__ = ["CANCELLED", "Scheduled", "run_schedule"]

ALL, FLOOR = "all rounds", "floor"
REWOUND, CHECKPOINT = "rewind.onnx", "training-{:02d}.ckpt"
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, eq=False)
class Scheduled:
    """What came of a schedule. ``model``: that of round ``delivered``, the smallest whose floors hold.

    ``plan``: all that is gone of the model at the start. ``stopped``: "all rounds", "floor" or "cancelled".
    """

    model: Model
    plan: Plan
    rounds: tuple[Round, ...]
    delivered: int
    stopped: str


def run_schedule(  # noqa: PLR0913 - every option of the command is an argument
    model: Model,
    dataset: Dataset,
    course: Course,
    *,
    validation: Dataset | None = None,
    criterion: str = "l2",
    budget: Mapping[str, Any] | None = None,
    options: Options | None = None,
    training: Mapping[str, Any] | None = None,
    floors: Sequence[Floor] = (),
    rewind_to: Model | None = None,
    rewind_epoch: int = 0,
    folder: Path | None = None,
    resume: bool = False,
    seed: int = 0,
    provider: str = "auto",
    threads: int | None = None,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Scheduled:
    """Prune and train in rounds, as the course says.

    ``criterion`` and ``budget`` (fields of `allocate.Budget` beside the ratio) choose what goes, ``training`` are
    options of `train`, whose seed is ``seed`` plus the round. ``floors``: on metrics of ``validation``; the first round
    after whose training one fails is the last. Lottery tickets begin each round with the weights of ``rewind_to``;
    without it the model is trained first, and rewound to epoch ``rewind_epoch`` of that training (0: as it was given).

    ``folder``: a model for each round goes there, and ``resume`` goes on after the last finished one. Raises
    OptionError, DataError, BudgetError (the model at the start misses a floor) and whatever `prune` and `train` raise.
    """
    return _Schedule(
        model, dataset, course, validation, floors, dict(training or {}),
        Cutter(inline_functions(model), course.granularity, criterion, options or Options(), dataset, seed,
               dict(budget or {}), provider, threads, progress),
        (rewind_to, rewind_epoch), (progress, cancelled),
    ).run(folder, resume=resume)  # fmt: skip


class _Schedule:
    """A schedule under way."""

    def __init__(  # noqa: PLR0913, PLR0917 - each is one part of a schedule
        self,
        model: Model,
        dataset: Dataset,
        course: Course,
        validation: Dataset | None,
        floors: Sequence[Floor],
        training: dict[str, Any],
        cutter: Cutter,
        rewind: tuple[Model | None, int],
        told: tuple[Progress | None, Callable[[], bool] | None],
    ) -> None:
        self.given, self.dataset, self.course, self.validation = model, dataset, course, validation
        self.floors, self.training, self.cutter = tuple(floors), training, cutter
        self.rewind_to, self.rewind_epoch = rewind
        self.progress, self.cancelled = told
        self._check()

    def _check(self) -> None:
        if self.floors and self.validation is None:
            raise OptionError("floors need data to measure on", "Give validation data.")
        if self.rewind_to is not None and not self.course.rewinds:
            raise OptionError(f"{self.course.kind} keeps the weights it has", "Rewinding belongs to lottery tickets.")
        odd = {"masks", "checkpoint", "resume", "keep_epochs", "seed", "validation"} & self.training.keys()
        if odd:
            raise OptionError(f"training: {', '.join(sorted(odd))} is up to the schedule", "Leave it out.")

    def run(self, folder: Path | None, *, resume: bool) -> Scheduled:
        """All rounds that are not done yet."""
        levels = self.course.levels()
        self.journal = Journal.open(folder, self.given.hash, self._settings(levels), resume=resume)
        if self.journal.rounds:
            last = self.journal.rounds[-1].number
            self.current, self.gone = self.journal.model(last), self.journal.plan(last)
            path = self.journal.path(REWOUND)
            self.base = load(path) if self.course.rewinds and path is not None and path.exists() else self.rewind_to
        elif not self._begin():
            return self._done(CANCELLED)
        for number, level in enumerate(levels, 1):
            if not self.journal.rounds[-1].held:
                return self._done(FLOOR)
            if number < len(self.journal.rounds):
                continue
            if (self.cancelled is not None and self.cancelled()) or not self._round(number, level):
                return self._done(CANCELLED)
        return self._done(ALL if self.journal.rounds[-1].held else FLOOR)

    def _begin(self) -> bool:
        """Round 0: the model as it is; a lottery's is trained first. False where that was cancelled."""
        start = time.perf_counter()
        self.gone = self.cutter.start()
        self.current, self.base, trained = self.given, self.rewind_to, None
        if self.course.rewinds and self.rewind_to is None:
            trained = self._train(self.given, 0)
            if trained.stopped == CANCELLED:
                return False
            self.current = trained.model
            self.base = self._rewind_base(trained)
        path = self.journal.path(REWOUND)
        if self.base is not None and path is not None:
            save(self.base, path)
        cut = Cut(self.current, self.gone, 0.0)
        if trained is None:
            row = self._row(0, 0.0, cut, self.current, start, after=self._judge().measure(self.current))
        else:
            row = self._trained_row(0, 0.0, cut, trained, start)
        if not row.held:
            raise BudgetError(
                "the model at the start already misses a floor: " + str(check_floors(self.floors, _values(row.after))),
                "Set the floor below what it reaches.",
            )
        self._finish(row)
        return True

    def _rewind_base(self, trained: Trained) -> Model:
        """The model with the weights of the epoch that is rewound to."""
        if self.rewind_epoch == 0:
            return self.cutter.root
        if self.rewind_epoch not in trained.kept:
            raise OptionError(
                f"rewind epoch: {self.rewind_epoch}, but the first training ended in epoch "
                f"{len(trained.history.trained)} ({trained.stopped})",
                "Rewind to an earlier one"
                + (", or try a smaller learning rate." if trained.stopped == DIVERGED else "."),
            )
        return with_weights(self.cutter.root, trained.kept[self.rewind_epoch])

    def _round(self, number: int, level: float) -> bool:
        """Prune, train, record. False where it was cancelled."""
        start = time.perf_counter()
        self._tell(f"round {number}: pruning to {level:.1%}")
        cut = self.cutter.cut(self.current, self.gone, level, self.base)
        trained = self._train(cut.model, number, cut.plan)
        if trained.stopped == CANCELLED:
            return False
        self.current, self.gone = trained.model, cut.plan
        self._finish(self._trained_row(number, level, cut, trained, start))
        return True

    def _train(self, model: Model, number: int, gone: Plan | None = None) -> Trained:
        masks = gone.weights if gone is not None and gone.weights else None
        path = self.journal.path(CHECKPOINT.format(number))
        keep = (self.rewind_epoch,) if number == 0 and self.rewind_epoch else ()
        told = self.progress
        return train(
            model, self.dataset, validation=self.validation, masks=masks, seed=self.cutter.seed + number,
            checkpoint=path, resume=path is not None, keep_epochs=keep, provider=self.cutter.provider,
            threads=self.cutter.threads, cancelled=self.cancelled,
            progress=None if told is None else lambda words, done, of: told(f"round {number}: {words}", done, of),
            **self.training,
        )  # fmt: skip

    def _trained_row(self, number: int, level: float, cut: Cut, trained: Trained, start: float) -> Round:
        history, best = trained.history, trained.best
        return self._row(
            number, level, cut, trained.model, start,
            before=history.before.metrics if history.before else (), after=best.metrics if best else (),
            epochs=len(history.trained), best_epoch=trained.best_epoch, stopped=trained.stopped,
        )  # fmt: skip

    def _row(self, number: int, level: float, cut: Cut, model: Model, start: float, **told: Any) -> Round:
        found = cost(model, shapes=dict(self.cutter.options.shapes))
        held = not self.floors or bool(check_floors(self.floors, _values(told["after"])))
        return Round(
            number, level, cut.reached, found.parameters, found.nonzero or 0, found.macs,
            seconds=time.perf_counter() - start, held=held, proof_error=cut.error, **told,
        )  # fmt: skip

    def _finish(self, row: Round) -> None:
        self.journal = self.journal.with_round(row, self.current, self.gone)
        for number in range(row.number + 1):  # one that a kill left behind is taken along
            path = self.journal.path(CHECKPOINT.format(number))
            if path is not None:
                path.unlink(missing_ok=True)
        held = [done for done in self.journal.rounds if done.held]
        if self.journal.folder is None and held and held[-1] is row:
            self._best = (self.current, self.gone)

    def _done(self, why: str) -> Scheduled:
        rounds = self.journal.rounds
        held = [row.number for row in rounds if row.held]
        if not held:
            return Scheduled(self.given, self.gone, rounds, 0, why)
        if self.journal.folder is None:
            return Scheduled(*self._best, rounds, held[-1], why)
        return Scheduled(self.journal.model(held[-1]), self.journal.plan(held[-1]), rounds, held[-1], why)

    def _judge(self) -> Judge:
        t = self.training
        return Judge(
            self.validation, t.get("teacher"), t.get("metric"), t.get("ignore_label"), self.cutter.provider,
            self.cutter.threads,
        )  # fmt: skip

    def _settings(self, levels: Sequence[float]) -> dict[str, Any]:
        """What a resumed schedule must have in common with the one before."""
        base = self.rewind_to
        return {
            "kind": self.course.kind,
            "granularity": self.course.granularity,
            "levels": [round(level, 9) for level in levels],
            "criterion": self.cutter.criterion,
            "budget": {name: str(value) for name, value in self.cutter.budget.items()},
            "options": str(self.cutter.options),
            "training": {name: _words(value) for name, value in sorted(self.training.items())},
            "floors": [str(floor) for floor in self.floors],
            "rewind": f"epoch {self.rewind_epoch}" if base is None else base.hash,
            "seed": self.cutter.seed,
            "data": data_print(self.dataset),
        }

    def _tell(self, words: str) -> None:
        if self.progress is not None:
            self.progress(words, 0, 0)


def _values(metrics: Sequence[Metric]) -> dict[tuple[str, str], float]:
    return {(metric.name, ""): metric.value for metric in metrics}


def _words(value: Any) -> str:
    if isinstance(value, Model):
        return value.hash
    if callable(value):
        return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', type(value).__name__)}"
    return str(asdict(value)) if is_dataclass(value) and not isinstance(value, type) else str(value)
