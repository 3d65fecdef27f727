"""What is slow to measure of a step, kept: scores of any criterion, instability, scans, activity of units.

Reading costs a row and a file; a model is loaded for nothing but measuring. ``ask`` queues a job for what is missing;
criteria that look at weights only can be computed at once (``score_now``). Nothing here makes a step.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from onnxprune.criteria import Settings, UnitScores, find, score
from onnxprune.data import Dataset, open_calibration, open_dataset
from onnxprune.errors import DataError, OptionError, WorkspaceError
from onnxprune.experiment import analyse
from onnxprune.guidance.activity import Activity, activity, load_activity
from onnxprune.guidance.asked import COUPLING, Asked, asked
from onnxprune.guidance.kept import keep, recall
from onnxprune.guidance.staircase import Staircase, load_staircase, staircase
from onnxprune.instability import Instability, Training, instability, load_instability
from onnxprune.model import Model
from onnxprune.sensitivity import Sensitivity, load_sensitivity, scan
from onnxprune.values import Coupling
from onnxprune.workspace.job import PERSON, Job
from onnxprune.workspace.jobs import Jobs
from onnxprune.workspace.recording import Progress
from onnxprune.workspace.workspace import Workspace

__all__ = [
    "KINDS",
    "ask",
    "calibration",
    "is_quick",
    "kept_activity",
    "kept_instability",
    "kept_latency",
    "kept_scan",
    "kept_scores",
    "measure",
    "queue",
    "score_now",
    "scores_of",
]

T = TypeVar("T")
OPEN = ("queued", "running")
WEIGHTS_ONLY = {"batchnorm", "ratios"}  # needs that weights can meet
KINDS = ("score", "instability", "scan", "activity", "latency")
PARTIAL = "checkpoints"  # folder for what was broken off, which `ws gc` looks after


def kept_scores(workspace: Workspace, step: int, criterion: str = "sensitivity", **options: Any) -> UnitScores | None:
    """Group -> scores of its units, as they were measured for this model; None where they were not.

    Raises OptionError, StepNotFound, WorkspaceError for options, a step or data that do not exist.
    """
    question = asked(workspace, step, "score", {**options, "criterion": criterion})
    return _read(workspace, question, _scores_from)


def kept_instability(workspace: Workspace, step: int, **options: Any) -> Instability | None:
    """How far ranks of sensitivity spread; None where it was not measured. Raises as `kept_scores` does."""
    return _read(workspace, asked(workspace, step, "instability", options), load_instability)


def kept_scan(workspace: Workspace, step: int, **options: Any) -> Sensitivity | None:
    """How much each group can lose; None where it was not measured. Raises as `kept_scores` does."""
    return _read(workspace, asked(workspace, step, "scan", options), load_sensitivity)


def kept_activity(workspace: Workspace, step: int, **options: Any) -> Activity | None:
    """What units do on data; None where it was not measured. Raises as `kept_scores` does."""
    return _read(workspace, asked(workspace, step, "activity", options), load_activity)


def kept_latency(workspace: Workspace, step: int, **options: Any) -> Staircase | None:
    """The staircase of this machine; None where it was not measured. Raises as `kept_scores` does."""
    return _read(workspace, asked(workspace, step, "latency", options), load_staircase)


def is_quick(criterion: str) -> bool:
    """Whether a criterion needs nothing but weights. Raises OptionError for one that does not exist."""
    return set(find(criterion).needs) <= WEIGHTS_ONLY


def score_now(workspace: Workspace, step: int, criterion: str = "l2", **options: Any) -> UnitScores:
    """Scores of a criterion that looks at weights only, kept if they can be.

    Raises OptionError for a criterion that needs data: they are measured by a job (`ask`).
    """
    if not is_quick(criterion):
        raise OptionError(
            f"criterion {criterion!r} needs {', '.join(find(criterion).needs)}", "Measure it with a job, as `ask` does."
        )
    question = asked(workspace, step, "score", {**options, "criterion": criterion})
    found = _read(workspace, question, _scores_from)
    if found is not None:
        return found
    found = scores_of(workspace, question, *_analysed(workspace, question), lambda *_: None)
    if not workspace.readonly:
        _keep(workspace, question, _scores_text(found))
    return found


def ask(workspace: Workspace, step: int, kind: str, *, priority: int = PERSON, **options: Any) -> Job | None:
    """Queue a job that measures ``kind`` (one of KINDS) of a step; None where it is kept already.

    One that waits or runs for the same is returned instead of a second. Raises OptionError, StepNotFound, and
    DataError where it needs data and none fit.
    """
    question = asked(workspace, step, kind, options)
    if recall(workspace, question.model, kind, question.settings) is not None:
        return None
    workspace.check_writable()
    if kind not in ("score", "latency") or (kind == "score" and not is_quick(question.values["criterion"])):
        question.source(workspace)
    given = {name: value for name, value in options.items() if value is not None}
    return queue(workspace, kind, step, given, priority)


def queue(
    workspace: Workspace, action: str, step: int, options: Mapping[str, Any], priority: int, returns: int = 0
) -> Job:
    """A job, or the same one that waits or runs already."""
    jobs = Jobs(workspace.database)
    jobs.mark_lost()
    plain = json.loads(json.dumps(dict(options)))
    here = _alike(jobs, action, step, plain, priority)
    if here:
        return here[0]
    made = jobs.add(action, step, plain, priority=priority, returns=returns)
    first = _alike(jobs, action, step, plain, priority)[:1]
    if first and first[0].number < made.number:  # another program was quicker
        with suppress(WorkspaceError):
            jobs.cancel(made.number)
        return first[0]
    return made


def _alike(jobs: Jobs, action: str, step: int, options: Mapping[str, Any], priority: int) -> list[Job]:
    """Jobs that wait or run for the same, none of them less urgent."""
    found = (job for job in jobs.all(OPEN) if (job.action, job.step, dict(job.options)) == (action, step, options))
    return [job for job in found if not job.cancel and job.priority >= priority]


def measure(workspace: Workspace, step: int, kind: str, options: Mapping[str, Any], progress: Progress) -> None:
    """Measure and keep it, unless it is kept already. Raises OnnxPruneError where it cannot be measured."""
    question = asked(workspace, step, kind, options)
    if recall(workspace, question.model, kind, question.settings) is not None:
        return
    workspace.check_writable()
    progress("reading the model", 0, 0)
    model, coupling = _analysed(workspace, question)
    _keep(workspace, question, MEASURES[kind](workspace, question, model, coupling, progress))


def scores_of(
    workspace: Workspace, question: Asked, model: Model, coupling: Coupling, progress: Progress
) -> UnitScores:
    """Scores as ``ws prune`` would have them with the same options."""
    values = question.values
    needs_data = not is_quick(values["criterion"])
    dataset = calibration(workspace, question) if needs_data else None
    settings = Settings(
        normalise=values["normalise"], seed=values["seed"], data=dataset, samples=values["samples"],
        ratios=values["ratio"], progress=progress, **question.running,
    )  # fmt: skip
    return score(model, coupling, values["criterion"], settings)


def calibration(workspace: Workspace, question: Asked) -> Dataset:
    """The samples that something is fitted on: of the training part, where there is one. Raises DataError."""
    return open_calibration(question.source(workspace), question.values["samples"], question.values["seed"])


def _measured_scores(workspace: Workspace, q: Asked, model: Model, coupling: Coupling, progress: Progress) -> str:
    return _scores_text(scores_of(workspace, q, model, coupling, progress))


def _measured_instability(workspace: Workspace, q: Asked, model: Model, coupling: Coupling, progress: Progress) -> str:
    v = q.values
    training = Training(v["rate"], v["momentum"], v["batch"], v["steps"])
    found = instability(
        model, coupling, calibration(workspace, q), runs=v["runs"], within=v["within"], training=training,
        normalise=v["normalise"], seed=v["seed"], progress=progress, **q.running,
    )  # fmt: skip
    return found.to_json()


def _measured_scan(workspace: Workspace, q: Asked, model: Model, coupling: Coupling, progress: Progress) -> str:
    """Rows are written to a file on the way, from which the next try goes on."""
    v = q.values
    source = q.source(workspace)
    known = kept_scores(workspace, q.step, v["criterion"], **{name: v[name] for name in ("data", "seed", *COUPLING)})
    settings = Settings(seed=v["seed"], data=open_calibration(source), progress=progress, **q.running)
    scores = known if known is not None else score(model, coupling, v["criterion"], settings)
    dataset = open_dataset(source).subset(v["samples"], v["seed"])
    file = workspace.store / PARTIAL / f"{hashlib.sha256((q.model + q.settings).encode()).hexdigest()[:32]}.json"
    file.parent.mkdir(exist_ok=True)
    given: dict[str, Any] = {"ratios": v["ratios"], "metric": v["metric"], "progress": progress, **q.running}
    try:
        found = scan(model, coupling, scores, dataset, file=file, **given)
    except DataError:
        if not file.exists():
            raise
        file.unlink(missing_ok=True)  # damaged, or of another version: from the beginning then
        found = scan(model, coupling, scores, dataset, file=file, **given)
    file.unlink(missing_ok=True)
    return found.to_json()


def _measured_activity(workspace: Workspace, q: Asked, model: Model, coupling: Coupling, progress: Progress) -> str:
    return activity(model, coupling, calibration(workspace, q), progress=progress, **q.running).to_json()


def _measured_latency(_: Workspace, q: Asked, model: Model, coupling: Coupling, progress: Progress) -> str:
    return staircase(model, coupling, progress, **q.running).to_json()


MEASURES: Mapping[str, Callable[[Workspace, Asked, Model, Coupling, Progress], str]] = {
    "score": _measured_scores,
    "instability": _measured_instability,
    "scan": _measured_scan,
    "activity": _measured_activity,
    "latency": _measured_latency,
}


def _analysed(workspace: Workspace, question: Asked) -> tuple[Model, Coupling]:
    model = workspace.model(question.step)
    return analyse(model, question.options, **question.running)


def _keep(workspace: Workspace, question: Asked, text: str) -> None:
    keep(workspace, question.model, question.kind, question.settings, text.encode("utf-8", "backslashreplace"))


def _read(workspace: Workspace, question: Asked, reader: Callable[[Path], T]) -> T | None:
    """What is kept; None where nothing is, or nothing that this version can read."""
    path = recall(workspace, question.model, question.kind, question.settings)
    if path is None:
        return None
    try:
        return reader(path)
    except DataError:
        return None


def _scores_text(scores: UnitScores) -> str:
    """Numbers in JSON are read back to the last bit."""
    groups = {name: scores[name].tolist() for name in scores}
    head = {"criterion": scores.criterion, "model_hash": scores.model_hash, "warnings": scores.warnings}
    return json.dumps({**head, "groups": groups})


def _scores_from(path: Path) -> UnitScores:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return UnitScores(content["groups"], content["criterion"], content["model_hash"], tuple(content["warnings"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: no scores: {error}", "Measure them again.") from error
