"""What is done to a step to make the next one: prune, recover, fine-tune, apply the draft, import.

Each loads the step's model, works through the public API, and records one step in one transaction at the end; what
breaks off, or is cancelled, leaves nothing. Options are JSON values, so that a command line, a job in the queue and the
web app all say the same; the step's ``command`` says them again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import fields
from difflib import get_close_matches
from inspect import signature
from pathlib import Path
from typing import Any

from onnxprune.allocate import Budget, Floor
from onnxprune.criteria import Settings
from onnxprune.data import open_calibration, open_dataset
from onnxprune.errors import OptionError, WorkspaceError
from onnxprune.evaluate import kind_of
from onnxprune.experiment import analyse, prune
from onnxprune.experiment.signing import signature_changes, signed
from onnxprune.losses import parse_loss
from onnxprune.model import Model, load
from onnxprune.plan import Plan
from onnxprune.recover import recover
from onnxprune.train import DECAY, KEEP_ZEROS, MASKED, Optimizer, divided, train
from onnxprune.train.stops import CANCELLED
from onnxprune.values import Options
from onnxprune.workspace.drafting import scored_by
from onnxprune.workspace.edits import draft_plan, kept_or_computed
from onnxprune.workspace.folder import inside
from onnxprune.workspace.recording import (
    Progress,
    command_of,
    finished,
    measure,
    pruned_report,
    put_model,
    trained_report,
)
from onnxprune.workspace.unfinished import checkpoint_file
from onnxprune.workspace.values import Cancelled, Step
from onnxprune.workspace.workspace import BLOBS, STORE, Workspace

__all__ = ["ACTIONS", "Action", "check_options", "options_of"]

Action = Callable[[Workspace, int, Mapping[str, Any], Progress, Callable[[], bool]], Step]

COMMON = ("data", "name", "provider", "threads", "seed")
NOT_JSON = {"model", "plan", "data", "losses", "floors", "progress", "notify", "measure", "evaluate", "budget"}
PRUNE = (
    *COMMON, "loss", "min",
    *(name for name in signature(prune).parameters if name not in NOT_JSON),
    *(field.name for field in fields(Budget)),
)  # fmt: skip
RECOVER = (*COMMON, "method", "samples")
TRAINING = (
    "batch", "epochs", "rate", "schedule", "clip", "batchnorm", "delta_loss", "patience", "time_limit", "metric",
    "ignore_label", "samples",
)  # fmt: skip
FINE_TUNE = (
    *COMMON, *TRAINING, "loss", "validation", "teacher", "optimizer", "momentum", "weight_decay", "freeze", "target",
    "keep_zeros", "deterministic",
)  # fmt: skip
EDIT = (*COMMON, "plan", "mode", "recover", "samples", "verify", *(field.name for field in fields(Options)))
IMPORT = (*COMMON, "model", "plan")
OPTIONS: Mapping[str, tuple[str, ...]] = {
    "prune": PRUNE, "recover": RECOVER, "fine-tune": FINE_TUNE, "edit": EDIT, "import": IMPORT,
}  # fmt: skip


def options_of(action: str) -> tuple[str, ...]:
    """The options that an action has."""
    return tuple(dict.fromkeys(OPTIONS[action]))


class _Work:
    """One action on one step: its options, data and clock."""

    def __init__(
        self, workspace: Workspace, action: str, number: int, options: Mapping[str, Any],
        progress: Progress, cancelled: Callable[[], bool],
    ) -> None:  # fmt: skip
        workspace.check_writable()
        check_options(action, options)
        self.workspace, self.kind, self.number = workspace, action, number
        self.options = {name: value for name, value in options.items() if value is not None}
        self.cancelled, self._progress = cancelled, progress
        self.applied = 0  # the last entry of the draft that is carried out
        self.start = time.perf_counter()
        self.seed = int(self.options.get("seed", 0))
        self.running = {"provider": self.options.get("provider", "auto"), "threads": self.options.get("threads")}
        name = self.options.get("data")
        self.data = workspace.dataset_name(number, name) if number else name and workspace.data_named(str(name))

    @property
    def source(self) -> Path | None:
        """The data on the disk."""
        return None if self.data is None else inside(self.workspace.folder, self.data)

    def data_hash(self) -> str:
        """A hash of the content of the data, "" without any."""
        return next((e.hash for e in self.workspace.files.listed("data") if e.path == self.data), "")

    def report(self, stage: str, done: int = 0, total: int = 0) -> None:
        """Tell how far it is. Raises Cancelled where it is to end."""
        if self.cancelled():
            raise Cancelled(f"{self.kind} of step {self.number} was cancelled")
        self._progress(stage, done, total)

    def model(self) -> Model:
        """The step's model; its metrics are measured if they were not yet, so that there is something to compare."""
        self.report("reading the model")
        self.workspace.measure(self.number, self.report, **self.running)
        return self.workspace.model(self.number)

    def given(self, names: Collection[str]) -> dict[str, Any]:
        """Those of the options that were given."""
        return {name: value for name, value in self.options.items() if name in names}

    def record(
        self, verb: str, model: Model, report: Mapping[str, Any], *,
        plan: Plan | None = None, history: str | None = None, promise: str = "identical",
        command: Mapping[str, Any] | None = None, parent: int | None = None,
    ) -> Step:  # fmt: skip
        """Measure the result and record it."""
        workspace = self.workspace
        original = workspace.model(workspace.steps.get(self.number).root) if self._compared() else None
        found = measure(workspace.blobs, model, self.source, original=original, progress=self.report, **self.running)
        self.report("recording")
        options = {**self.options, **(command or {})}
        if self.data is not None:
            options["data"] = self.data
        text = None if plan is None else plan.to_json()
        new = finished(
            workspace.blobs, self.kind, parent or self.number or None, model,
            command=command_of(verb, self.number, options), report=report, measured=found, plan=text, history=history,
            dataset=self.data, seed=self.seed, promise=promise, seconds=time.perf_counter() - self.start,
            name=str(self.options.get("name", "")),
        )  # fmt: skip
        return workspace.add(new, applied=self.applied)

    def _compared(self) -> bool:
        """Whether metrics compare the result with the original, for want of labels."""
        return bool(self.number) and self.source is not None and open_dataset(self.source).labels is None

    def blob(self, name: str) -> str:
        """A blob as a path relative to the workspace, for a command line."""
        return f"{STORE}/{BLOBS}/{name}"

    def file(self, option: str) -> Path:
        """A file that an option names: a blob of this workspace, or wherever a person has it."""
        path = Path(str(self.options[option]))
        return inside(self.workspace.folder, path.as_posix()) if path.parts[:1] == (STORE,) else path


def check_options(action: str, options: Mapping[str, Any]) -> None:
    """Raises OptionError for what is no option of an action."""
    known = options_of(action)
    for name in options:
        if name not in known:
            near = get_close_matches(name, known)
            hint = f"Nearest: {', '.join(near)}." if near else f"Options: {', '.join(sorted(known))}."
            raise OptionError(f"{action} has no option {name!r}", hint)


def _prune(
    workspace: Workspace, number: int, options: Mapping[str, Any], progress: Progress, cancelled: Callable[[], bool]
) -> Step:
    """``onnxprune ws prune``: the options of ``prune``; ``min`` is name -> least value, "recall:7" for a class."""
    work = _Work(workspace, "prune", number, options, progress, cancelled)
    chosen = work.given(set(PRUNE) - {"data", "name", "loss", "min", "round_to"})
    round_to = work.options.get("round_to", 1)  # what suits a machine would be another number on another one
    model = work.model()
    found = prune(
        model, data=work.source, losses=_losses(work.options), floors=_floors(work.options.get("min", {})),
        round_to=round_to, progress=work.report, **chosen,
    )  # fmt: skip
    return work.record(
        "prune", found.model, pruned_report(found), plan=found.plan, command={"round_to": round_to},
        promise="close" if "target_latency" in chosen else "identical",
    )  # fmt: skip


def _losses(options: Mapping[str, Any]) -> Any:
    text = options.get("loss")
    return None if text is None else parse_loss(str(text))


def _floors(least: Mapping[str, float]) -> tuple[Floor, ...]:
    if not isinstance(least, Mapping):
        raise OptionError(f"min: got {least!r}, expected metrics and values", 'For example {"accuracy": 0.98}.')
    found = []
    for name, value in least.items():
        metric, _, label = name.partition(":")
        kind = kind_of(metric)
        found.append(Floor(metric, float(value), label, higher=kind is None or kind.direction != "lower"))
    return tuple(found)


def _edit(
    workspace: Workspace, number: int, options: Mapping[str, Any], progress: Progress, cancelled: Callable[[], bool]
) -> Step:
    """``onnxprune ws edit``: carry out the draft of a step, or the ``plan`` in a file.

    The draft is empty then, but for what was added to it meanwhile.
    """
    work = _Work(workspace, "edit", number, options, progress, cancelled)
    model = work.model()
    if "plan" in work.options:
        plan = Plan.load(work.file("plan"))
    else:
        entries = workspace.drafts.entries(number)
        edits = [entry.edit for entry in entries if not entry.undone]
        work.applied = max((entry.number for entry in entries), default=0)
        inlined, coupling = analyse(model, _coupling_options(work), **work.running)
        data = None if work.source is None else open_calibration(work.source)
        settings = Settings(data=data, seed=work.seed, progress=work.report, **work.running)
        scores = kept_or_computed(workspace, number, scored_by(inlined, coupling, settings))
        plan = draft_plan(inlined, coupling, edits, scores=scores)
    return _carried_out(work, "edit", model, plan)


def _coupling_options(work: _Work) -> Options:
    given = work.given([field.name for field in fields(Options)])
    if "shapes" in given:
        given["shapes"] = tuple((name, tuple(shape)) for name, shape in given["shapes"].items())
    if "allow_io" in given:
        given["allow_io"] = tuple(given["allow_io"])
    return Options(**given)


def _carried_out(work: _Work, verb: str, model: Model, plan: Plan) -> Step:
    """Carry out a plan, and record that the plan's blob does it again."""
    chosen = work.given(("mode", "recover", "samples", "verify", "seed", "provider", "threads"))
    found = prune(model, plan=plan, data=work.source, progress=work.report, **chosen)
    blob = work.workspace.blobs.put(plan.to_json().encode("utf-8", "backslashreplace"))
    options = {field.name: None for field in fields(Options)}  # the plan brings them
    return work.record(verb, found.model, pruned_report(found), plan=plan, command={**options, "plan": work.blob(blob)})


def _recover(
    workspace: Workspace, number: int, options: Mapping[str, Any], progress: Progress, cancelled: Callable[[], bool]
) -> Step:
    """``onnxprune ws recover``: repair without training, towards the model that the last plan was made for."""
    work = _Work(workspace, "recover", number, options, progress, cancelled)
    planned = next((step for step in reversed(workspace.steps.path(number)) if step.plan is not None), None)
    plan = None if planned is None else workspace.plan(planned.number)
    if planned is None or plan is None or planned.parent is None:
        raise WorkspaceError(f"nothing was removed on the way to step {number}", "Prune it first, then repair it.")
    model = work.model()
    method = str(work.options.get("method", "least-squares"))
    original, coupling = analyse(workspace.model(planned.parent), plan.options, **work.running)
    data = None if work.source is None else open_calibration(work.source)
    found = recover(
        original, coupling, plan, model, data, method=method, samples=work.options.get("samples"), seed=work.seed,
        progress=work.report, **work.running,
    )  # fmt: skip
    changes = signature_changes(original, found.model)
    result = signed(found.model, coupling.model_hash, plan, changes, found.method)
    return work.record("recover", result, {"recover": found.as_dict()}, command={"method": method})


def _fine_tune(
    workspace: Workspace, number: int, options: Mapping[str, Any], progress: Progress, cancelled: Callable[[], bool]
) -> Step:
    """``onnxprune ws finetune``: the options of ``finetune``; ``teacher`` is a step.

    One that was broken off goes on where it was when it is asked for again.
    """
    work = _Work(workspace, "fine-tune", number, options, progress, cancelled)
    if work.source is None:
        raise WorkspaceError(f"there are no data that fit step {number}", "Put them into data/, and name them.")
    given = work.options
    deterministic = bool(given.get("deterministic"))
    if deterministic and "time_limit" in given:
        raise OptionError("deterministic and time_limit are given: a clock is never the same", "Leave one out.")
    if deterministic:
        work.running["threads"] = 1
    model = work.model()
    wanted = work.options.get("validation")
    division = divided(work.source, None if wanted is None else str(wanted), work.seed)
    teacher = None if "teacher" not in given else workspace.model(workspace.find(given["teacher"]).number)
    file = checkpoint_file(workspace.store, model.hash, work.data_hash(), {**given, "seed": work.seed})
    trained = train(
        model, division.training, checkpoint=file, resume=True, validation=division.validation,
        losses=_losses(given), teacher=teacher,
        optimizer=_optimizer(given), target=_target(given.get("target")), freeze=tuple(given.get("freeze", ())),
        seed=work.seed,
        masks=KEEP_ZEROS if given.get("keep_zeros") else MASKED, progress=work.report, cancelled=cancelled,
        **work.given(TRAINING), **work.running,
    )  # fmt: skip
    if trained.stopped == CANCELLED:
        raise Cancelled(f"fine-tuning of step {number} was cancelled")
    step = work.record(
        "finetune", trained.model, trained_report(trained), history=trained.history.to_json(),
        promise="identical" if deterministic else "close",
    )  # fmt: skip
    file.unlink(missing_ok=True)
    return step


def _optimizer(given: Mapping[str, Any]) -> Optimizer:
    kind = str(given.get("optimizer", "adamw"))
    decay = given.get("weight_decay", DECAY if kind == "adamw" else 0.0)
    return Optimizer(kind, momentum=float(given.get("momentum", 0.9)), weight_decay=float(decay))


def _target(value: Any) -> tuple[str, float] | None:
    """``accuracy=0.98``, or the two in a list. Raises OptionError."""
    if value is None:
        return None
    name, number = value.split("=", 1) if isinstance(value, str) and "=" in value else (value, None)
    try:
        if number is None:
            name, number = value
        return str(name).strip(), float(number)
    except (TypeError, ValueError):
        raise OptionError(f"target: got {value!r}, expected METRIC=VALUE", "For example accuracy=0.98.") from None


def _import(
    workspace: Workspace, number: int, options: Mapping[str, Any], progress: Progress, cancelled: Callable[[], bool]
) -> Step:
    """``onnxprune ws import``: a ``model`` as a child of a step (0: as a new tree), or a ``plan`` carried out."""
    work = _Work(workspace, "import", number, options, progress, cancelled)
    if ("model" in work.options) == ("plan" in work.options):
        raise OptionError("import takes a model or a plan", "Name one file.")
    if "plan" in work.options:
        if not number:
            raise OptionError("a plan belongs to a step", "Name the step that it was made for.")
        return _carried_out(work, "import", work.model(), Plan.load(work.file("plan")))
    work.report("reading the model")
    path = work.file("model")
    model = load(path)
    blob, _ = put_model(workspace.blobs, model)
    step = work.record("import", model, {"file": path.name}, command={"model": work.blob(blob)})
    workspace.files.pair()
    return step


ACTIONS: Mapping[str, Action] = {
    "prune": _prune, "recover": _recover, "fine-tune": _fine_tune, "edit": _edit, "import": _import,
}  # fmt: skip
