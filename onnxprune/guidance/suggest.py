"""All suggestions for a step, the most worthwhile first; taking one into the draft; measuring what is missing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from onnxprune.errors import OnnxPruneError, OptionError, WorkspaceError
from onnxprune.guidance.ahead import ahead
from onnxprune.guidance.asked import COUPLING, RUNNING
from onnxprune.guidance.headroom import headroom
from onnxprune.guidance.hints import hints
from onnxprune.guidance.idle import idle
from onnxprune.guidance.preview import Bench, Preview, conditions, previews_of
from onnxprune.guidance.rounding import rounding
from onnxprune.guidance.scores import (
    ask,
    kept_activity,
    kept_instability,
    kept_latency,
    kept_scan,
    measure,
)
from onnxprune.guidance.shares import shares
from onnxprune.guidance.speculate import mark, marker, speculation
from onnxprune.guidance.subject import Subject, subject
from onnxprune.guidance.suggestion import MEASURED, Action, Suggestion
from onnxprune.guidance.unstable import unstable
from onnxprune.workspace.edits import check_edit
from onnxprune.workspace.job import Job
from onnxprune.workspace.recording import Progress
from onnxprune.workspace.values import Entry
from onnxprune.workspace.workspace import Workspace

__all__ = ["LOSS", "NEEDED", "accept", "ask_missing", "measure_missing", "missing", "suggest", "try_out"]

LOSS = 0.01  # of the metric that a group may cost
NEEDED: Mapping[str, str] = {
    "activity": "units that are never active, and units that double others",
    "instability": "units that matter little, and how sure that is",
    "scan": "what each group can lose, and at what cost",
    "latency": "what a few units more or less do to the latency on this machine",
}
"""What is measured for suggestions -> what it tells."""
NEEDS_DATA = ("activity", "instability", "scan")

Maker = Callable[[Subject, Mapping[str, Preview], float], Iterator[Suggestion]]
MAKERS: tuple[Maker, ...] = (idle, unstable, headroom, rounding, shares, ahead)


def suggest(
    workspace: Workspace,
    step: int,
    *,
    loss: float = LOSS,
    progress: Progress | None = None,
    **options: Any,
) -> tuple[Suggestion, ...]:
    """What to do next with a step, the most worthwhile first, made of what was measured so far; nothing is measured.

    ``loss``: how much of the metric may go. ``options``: data, seed, those that groups depend on, provider, threads.
    What was not measured is among the suggestions, too (kind "measure"), with the job that would. Raises OptionError,
    StepNotFound, StoreDamaged, and ModelError for a model whose groups cannot be found.
    """
    if not 0 <= loss < float("inf"):
        raise OptionError(f"loss: got {loss}, expected 0 or more", "0.01 is one point of accuracy.")
    about = _subject(workspace, step, options, progress)
    known = _known(about)
    found = [*hints(about), *_missing(about)]
    for make in MAKERS if about.coupling.groups else ():
        if progress:
            progress("looking for suggestions", 0, 0)
        found += make(about, known, loss)
    return tuple(sorted(_different(found), key=lambda one: -one.worth))


def accept(workspace: Workspace, step: int, suggestion: Suggestion) -> list[Entry]:
    """Add a suggestion to the draft of its step; returns the new entries.

    Raises OptionError for one that is no edit, StepNotFound, and WorkspaceError where nothing may be recorded or the
    step is in the trash.
    """
    if not suggestion.edits:
        what = "" if suggestion.action is None else f"{suggestion.action.name} of step {suggestion.action.step}"
        raise OptionError(
            f"{suggestion.title!r} is no edit of a draft",
            f"It is an action of its own: {what}." if what else "There is nothing to accept.",
        )
    workspace.check_writable()
    if workspace.steps.get(step).trashed:
        raise WorkspaceError(f"step {step} is in the trash", f"`onnxprune ws restore {step}` brings it back.")
    for edit in suggestion.edits:
        check_edit(edit)
    notes = {"by": "suggestion", "why": suggestion.title}
    return [workspace.drafts.add(step, {**edit, **notes}) for edit in suggestion.edits]


def missing(workspace: Workspace, step: int, **options: Any) -> tuple[str, ...]:
    """What was not measured of a step yet, of NEEDED, and can be. Raises as `suggest` does, but loads no model."""
    given = {name: value for name, value in options.items() if name in ("data", "seed", *COUPLING, *RUNNING)}
    there = workspace.dataset_name(step, given.get("data")) is not None
    readers: Mapping[str, Callable[..., object]] = {
        "activity": kept_activity, "instability": kept_instability, "scan": kept_scan, "latency": kept_latency,
    }  # fmt: skip
    return tuple(
        kind for kind in NEEDED
        if (there or kind not in NEEDS_DATA) and readers[kind](workspace, step, **given) is None
    )  # fmt: skip


def ask_missing(workspace: Workspace, step: int, **options: Any) -> list[Job]:
    """Queue jobs for all of it; the caller starts a worker. Raises as `scores.ask` does."""
    jobs = (ask(workspace, step, kind, **options) for kind in missing(workspace, step, **options))
    return [job for job in jobs if job is not None]


def measure_missing(
    workspace: Workspace, step: int, progress: Progress, *, tried: int = 0, loss: float = LOSS, **options: Any
) -> dict[str, str]:
    """Measure all of it now, and try out the first ``tried`` suggestions; returns what could not be, and why."""
    failed = {}
    for kind in missing(workspace, step, **options):
        try:
            measure(workspace, step, kind, options, progress)
        except OnnxPruneError as error:
            failed[kind] = error.message
    if tried and workspace.dataset_name(step, options.get("data")) is not None:
        try:
            try_out(workspace, step, tried, progress, loss=loss, **options)
        except OnnxPruneError as error:
            failed["preview"] = error.message
    return failed


def try_out(
    workspace: Workspace, step: int, count: int, progress: Progress, *, loss: float = LOSS, **options: Any
) -> None:
    """Carry out the first ``count`` suggestions that were not measured, each alone, and measure what they do."""
    about = _subject(workspace, step, options, progress)
    rules = speculation(workspace)
    bench = Bench(about, progress, samples=rules.samples, seed=int(options.get("seed") or 0))
    found = [one for one in suggest(workspace, step, loss=loss, progress=progress, **options) if _untried(one)][:count]
    noted = marker(workspace, bench.model_hash)
    for done, one in enumerate(found):
        progress(f"trying out: {one.title}", done, len(found))
        units = about.resolve(one.edits)
        if units is not None:
            bench.measure(units, {"suggestion": one.kind})
    mark(workspace, bench.model_hash, bench.subset, noted)


def _untried(suggestion: Suggestion) -> bool:
    """Whether what it does to the quality of the model was not measured."""
    costs = ("parameters", "macs", "latency")
    return bool(suggestion.units) and not any(e.basis == MEASURED and e.name not in costs for e in suggestion.effects)


def _subject(workspace: Workspace, step: int, options: Mapping[str, Any], progress: Progress | None) -> Subject:
    known = ("data", "seed", *COUPLING, *RUNNING)
    for name in options:
        if name not in known:
            raise OptionError(f"suggestions have no option {name!r}", f"Options: {', '.join(known)}.")
    running = {name: value for name, value in options.items() if name in RUNNING and value is not None}
    return subject(workspace, step, {n: v for n, v in options.items() if n not in RUNNING}, running, progress)


def _known(about: Subject) -> dict[str, Preview]:
    samples = speculation(about.workspace).samples
    model, subset = conditions(about.workspace, about.step.number, {**about.options, "samples": samples})
    return previews_of(about.workspace, model, subset)


def _missing(about: Subject) -> Iterator[Suggestion]:
    """What was not measured, with the job that would."""
    number = about.step.number
    if not about.coupling.groups:
        reason = "No unit of this model can be removed; `onnxprune inspect` says why."
        yield Suggestion("measure", "Nothing can be removed", reason, 0.0)
        return
    options = {**about.options, **about.running}
    for kind in missing(about.workspace, number, **options):
        reason = f"It would tell {NEEDED[kind]}."
        action = Action(kind, number, options)
        yield Suggestion("measure", f"Measure: {kind}", reason, 0.05, action=action)
    if about.data is None:
        told = "; ".join(NEEDED[kind] for kind in NEEDS_DATA)
        reason = f"Without data nobody can tell {told}."
        yield Suggestion("measure", "Put data that fit this model into data/", reason, 0.04)


def _different(found: Sequence[Suggestion]) -> list[Suggestion]:
    """Of several that remove the same units the one that is worth most; no share of what a better one removes."""
    best: dict[Any, Suggestion] = {}
    for number, one in enumerate(found):
        key = tuple(sorted(one.units.items())) if one.units else number
        if key not in best or one.worth > best[key].worth:
            best[key] = one
    return [one for one in best.values() if one.kind != "share" or not any(_within(one, b) for b in best.values())]


def _within(one: Suggestion, better: Suggestion) -> bool:
    """Whether a better suggestion removes all that this one does, in the same groups."""
    more = better is not one and better.worth >= one.worth and better.units.keys() == one.units.keys()
    return more and all(set(gone) <= set(better.units[name]) for name, gone in one.units.items())
