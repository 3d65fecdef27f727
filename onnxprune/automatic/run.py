"""A run: tries that are recorded as steps, judged, and not made again when the run is taken up once more.

A try takes a step that holds, removes units until so many are left, repairs and fine-tunes, and judges what came of it.
Each of these is a step of the workspace with the command line that makes it again, and with a document ``auto`` (see
`rows`) that is recorded in the step's own transaction. Which try comes next follows from the verdicts of those before,
so that a run that broke off goes on by itself: tries and parts of tries that are there are taken as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from onnxprune.automatic.amount import removal_options
from onnxprune.automatic.requirement import Requirement, Verdict, check_start, requirement_of
from onnxprune.automatic.rows import AUTO, auto_documents
from onnxprune.automatic.settings import AutoSettings
from onnxprune.automatic.units import units_after, units_of
from onnxprune.data import open_dataset
from onnxprune.errors import NothingToPrune, OptionError, WorkspaceError
from onnxprune.experiment import analyse
from onnxprune.values import Options
from onnxprune.workspace.actions import ACTIONS
from onnxprune.workspace.paths import main_metric
from onnxprune.workspace.recording import Progress, dumps, measure
from onnxprune.workspace.values import NewStep, Step
from onnxprune.workspace.workspace import Workspace

__all__ = ["Run", "Try"]

COUPLING = ("include_inexact", "attention", "norm_groups", "allow_io", "shapes")


@dataclass(frozen=True)
class Try:
    """A judged step. ``units``: left in it. ``number``: of the try, -1 for the start."""

    number: int
    step: Step
    units: int
    verdict: Verdict


@dataclass
class Run:
    """One run from a step on. ``tries``: those that were judged so far, the start not among them."""

    workspace: Workspace
    start: Step
    settings: AutoSettings
    progress: Progress
    cancelled: Callable[[], bool]
    tries: list[Try] = field(default_factory=list)

    def __post_init__(self) -> None:
        workspace, settings = self.workspace, self.settings
        workspace.check_writable()
        self.data = workspace.dataset_name(self.start.number, settings.data)
        if self.data is None and settings.epochs:
            raise WorkspaceError(
                f"there are no data that fit step {self.start.number}",
                "Put them into data/; without any, only pruning without fine-tuning (epochs 0) towards a budget works.",
            )
        running = {name: value for name in ("provider", "threads") if (value := getattr(settings, name)) is not None}
        for number in dict.fromkeys((self.start.root, self.start.number)):
            workspace.measure(number, partial(self._report, "measuring"), **running)
        root, self.start = workspace.steps.get(self.start.root), workspace.steps.get(self.start.number)
        self.metric = main_metric([root]) or ("agreement" if self._unlabelled() else None)
        self.requirement = self._required(root)
        self._documents = auto_documents(workspace, self.start.root, settings.run)
        for found in self._documents.values():
            if found["settings"] != settings.digest or found["start"] != self.start.number:
                raise OptionError(
                    f"the run {settings.run!r} was begun with other options or from another step",
                    "Give it the same ones, or another key.",
                )
        self.first = self._first()

    def _required(self, root: Step) -> Requirement:
        units = units_of(self.workspace, root.number)
        if units is None:
            analyse(self.workspace.model(root.number))  # says why
        values, given = self._known(root), self.settings
        return requirement_of(given.require, given.max_loss, given.budget, values, units or 0, self.metric)

    def _known(self, step: Step, required: Requirement | None = None) -> Mapping[tuple[str, str], float]:
        """A step's metrics on the data of this run; measured now where those that are recorded are of other data.

        ``required``: also where a metric that it asks for is not among them.
        """
        values = _values(self.workspace, step)
        same = self.data in (None, step.dataset or self.workspace.dataset_name(step.number))
        floors = () if required is None else required.floors
        if self.data is None or (same and all((floor.metric, floor.label) in values for floor in floors)):
            return values
        source = self.workspace.dataset(step.number, self.data)
        compared = self._unlabelled() and step.parent is not None
        original = self.workspace.model(step.root) if compared else None
        return measure(self.workspace.blobs, self.workspace.model(step.number), source, original=original).metrics

    def _unlabelled(self) -> bool:
        source = self.workspace.dataset(self.start.number, self.settings.data)
        return source is not None and open_dataset(source).labels is None

    def _first(self) -> Try:
        """The start as if it were a try. Raises OptionError where it does not hold, NothingToPrune."""
        units = units_of(self.workspace, self.start.number)
        if not units or not self._removal(self.start, 1):
            raise NothingToPrune(
                f"No unit of step {self.start.number} can be removed.", "`onnxprune inspect` says why, axis by axis."
            )
        root = self.start.parent is None
        values = self._known(self.start, self.requirement)
        what = "the original" if root else f"step {self.start.number}"
        return Try(-1, self.start, units, check_start(self.requirement, values, units, what, original=root))

    @property
    def held(self) -> list[Try]:
        """What holds, the start included, the fewest units first."""
        return sorted([t for t in (self.first, *self.tries) if t.verdict.holds], key=lambda t: (t.units, -t.number))

    @property
    def best(self) -> Try:
        """The smallest that holds."""
        return self.held[0]

    def attempt(self, parent: Try, wanted: int, phase: str) -> Try | None:
        """Prune to ``wanted`` units, fine-tune and judge; None where no unit can go.

        Raises Cancelled, and what the actions raise.
        """
        number = len(self.tries)
        options = self._removal(parent.step, parent.units - wanted)
        if not options:
            return None
        settings = self.settings
        parts: list[tuple[str, dict[str, Any]]] = [
            ("prune", {"criterion": settings.criterion, **settings.prune, **settings.common(), **options})
        ]
        if settings.recover:
            parts.append(("recover", {"method": settings.recover, **settings.common()}))
        if settings.epochs:
            parts.append(("fine-tune", self._tuning()))
        step = parent.step
        for place, (part, given) in enumerate(parts):
            about = {"phase": phase, "try": number, "part": part, "parent": parent.step.number, "wanted": wanted}
            about |= {"ratio": (parent.units - wanted) / parent.units, "last": place == len(parts) - 1}
            try:
                step = self._done(about) or self._act(part, step, given, about)
            except NothingToPrune:
                return None
        units = units_of(self.workspace, step.number) or 0
        found = Try(number, step, units, self.requirement.judge(_values(self.workspace, step), units))
        self.tries.append(found)
        return found

    def _tuning(self) -> dict[str, Any]:
        """Options of the fine-tuning; without labels the original teaches."""
        given = self.settings.tuning()
        if "teacher" not in given and self._unlabelled():
            given["teacher"] = self.start.root
        return given

    def _removal(self, step: Step, count: int) -> dict[str, Any]:
        """Options by which ``count`` units of a step go; empty where none can."""
        chosen = self.settings.prune
        given = {name: chosen[name] for name in COUPLING if name in chosen}
        if "shapes" in given:
            given["shapes"] = tuple((name, tuple(shape)) for name, shape in given["shapes"].items())
        if "allow_io" in given:
            given["allow_io"] = tuple(given["allow_io"])
        _, coupling = analyse(self.workspace.model(step.number), Options(**given))
        return removal_options(coupling, count, chosen)

    def _done(self, about: Mapping[str, Any]) -> Step | None:
        """The step of a part that was recorded before; the newest of several."""
        keys = ("try", "part", "parent", "wanted")
        same = [n for n, found in self._documents.items() if all(found[key] == about[key] for key in keys)]
        return self.workspace.steps.get(same[-1]) if same else None

    def _act(self, part: str, step: Step, options: Mapping[str, Any], about: Mapping[str, Any]) -> Step:
        settings = self.settings
        shared = {
            "run": settings.run, "strategy": settings.strategy, "start": self.start.number, "metric": self.metric,
            "settings": settings.digest, "requirement": self.requirement.words,
        }  # fmt: skip

        def tags(new: NewStep) -> dict[str, bytes]:
            found = {**shared, **about, "verdict": None}
            if found.pop("last"):
                units = units_after(self.workspace, step.number, new.plan) or 0
                found["verdict"] = self.requirement.judge(new.metrics, units).as_dict()
            return {AUTO: dumps(found)}

        words = f"try {about['try'] + 1}, {part}"
        with self.workspace.tagging(tags):
            return ACTIONS[part](self.workspace, step.number, options, partial(self._report, words), self.cancelled)

    def _report(self, words: str, stage: str, done: int = 0, total: int = 0) -> None:
        self.progress(f"{words}: {stage}", done, total)


def _values(workspace: Workspace, step: Step) -> dict[tuple[str, str], float]:
    """All metrics of a step, those of classes as well."""
    return {**{(name, ""): value for name, value in step.metrics.items()}, **workspace.steps.class_metrics(step.number)}
