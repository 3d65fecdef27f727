"""``onnxprune suggest``: what to do next with a step, why, and what it is expected to do."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from onnxprune.cli.console import count, emit_json, progress, say, show, table, warn
from onnxprune.cli.options import JsonOption, Provider, ProviderOption, ThreadsOption, examples
from onnxprune.cli.training import interrupts
from onnxprune.cli.workers import SchedulerOption, WorkersOption, check_workers
from onnxprune.cli.ws_options import FolderOption, StepArgument, opened
from onnxprune.errors import OptionError
from onnxprune.evaluate import measured
from onnxprune.guidance import (
    Effect,
    Preview,
    Suggestion,
    accept,
    measure_missing,
    previews,
    set_speculation,
    speculate,
    speculation,
    suggest,
)
from onnxprune.workspace.job import Job
from onnxprune.workspace.jobs import Jobs
from onnxprune.workspace.recording import Progress, command_of
from onnxprune.workspace.values import Cancelled, Entry
from onnxprune.workspace.workspace import Workspace

__all__ = ["register"]

LOSS = 0.01
TRIED = 3
SHOWN = 12
INTERRUPTED = 130
COSTS = ("parameters", "macs", "latency")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        name="suggest",
        epilog=examples(
            "onnxprune suggest 1",
            "onnxprune suggest 1 --measure",
            "onnxprune suggest 1 --accept 1 --accept 3 && onnxprune ws edit 1",
            "onnxprune suggest 1 --ahead --criterion taylor",
            "onnxprune suggest 1 --ahead --scheduler tcp://10.0.0.5:8786",
        ),
    )(suggestions)


def suggestions(
    step: StepArgument,
    measure: Annotated[
        bool,
        typer.Option(
            "--measure",
            help="First measure what is missing (activity, instability, scan, latency), and try out the first "
            f"{TRIED} suggestions.",
        ),
    ] = False,
    accepted: Annotated[
        list[int] | None,
        typer.Option(
            "--accept", metavar="N", help="Put suggestion N into the draft. May be repeated.", show_default=False
        ),
    ] = None,
    loss: Annotated[float, typer.Option("--loss", metavar="X", help="How much of the metric may go.")] = LOSS,
    data: Annotated[
        str | None,
        typer.Option("--data", metavar="NAME", help="Data of the folder, where several fit.", show_default=False),
    ] = None,
    ahead: Annotated[
        bool, typer.Option("--ahead", help="Let a worker measure likely next steps while nothing else runs.")
    ] = False,
    criterion: Annotated[
        str, typer.Option("--criterion", metavar="NAME", help="What likely next steps are scored by.")
    ] = "l2",
    rules: Annotated[
        str | None,
        typer.Option(
            "--speculation",
            metavar="on|off",
            help="Whether likely next steps are measured ahead at all, in this workspace.",
            show_default=False,
        ),
    ] = None,
    workers: WorkersOption = 1,
    scheduler: SchedulerOption = None,
    folder: FolderOption = Path(),
    provider: ProviderOption = Provider.AUTO,
    threads: ThreadsOption = None,
    json: JsonOption = False,
) -> None:
    """Say what to do next with a step: why, what it is expected to do, and whether that was measured."""
    if rules not in (None, "on", "off"):
        raise OptionError(f"--speculation {rules}: expected on or off", "For example --speculation off.")
    check_workers(workers, scheduler)
    if (workers > 1 or scheduler is not None) and not ahead:
        raise OptionError("workers share what is measured ahead", "Add --ahead, or leave them out.")
    options: dict[str, Any] = {"data": data, "provider": provider.value, "threads": threads}
    with opened(folder, scan=True) as workspace:
        number = workspace.find(step).number
        if rules is not None:
            set_speculation(workspace, on=rules == "on")
        if ahead:
            set_speculation(workspace, workers=workers, scheduler=scheduler)
        failed: dict[str, str] = {}
        with interrupts() as cancelled, progress("looking for suggestions", remaining=True) as report:
            try:
                if measure:
                    workspace.check_writable()
                    failed = measure_missing(
                        workspace, number, _stopping(report, cancelled), tried=TRIED, loss=loss, **options
                    )
                found = suggest(workspace, number, loss=loss, progress=report, **options)
            except Cancelled:
                say("Interrupted; what was measured by then is kept.", "yellow")
                raise typer.Exit(INTERRUPTED) from None
        chosen = [_at(found, n) for n in accepted or ()]
        entries = [entry for one in chosen for entry in accept(workspace, number, one)]
        job = _ahead(workspace, number, criterion, options) if ahead else None
        known = previews(workspace, number, data=data)
        on = speculation(workspace).on
    for kind, reason in failed.items():
        warn(f"{kind} could not be measured: {reason}")
    if json:
        emit_json(_document(number, found, known, entries, failed, job, on=on))
        return
    _tell(number, found, known, entries)
    if ahead:
        _tell_ahead(job, on=on)


def _stopping(report: Progress, cancelled: Any) -> Progress:
    """Progress that ends the work when somebody presses Ctrl-C."""

    def told(stage: str, done: int = 0, total: int = 0) -> None:
        if cancelled():
            raise Cancelled("it was interrupted")
        report(stage, done, total)

    return told


def _ahead(workspace: Workspace, number: int, criterion: str, options: dict[str, Any]) -> Job | None:
    workspace.check_writable()
    job = speculate(workspace, number, criterion, **options)
    if job is not None:
        Jobs(workspace.database).start_worker(workspace.folder)
    return job


def _at(found: Sequence[Suggestion], number: int) -> Suggestion:
    if not 1 <= number <= len(found):
        raise OptionError(f"--accept {number}: there are {len(found)} suggestions", "Give the number in the list.")
    return found[number - 1]


def _tell(number: int, found: Sequence[Suggestion], known: Sequence[Preview], entries: Sequence[Entry]) -> None:
    if not found:
        show(f"Nothing to suggest for step {number}.")
    shown = found[:SHOWN]
    rows = [
        (str(k), one.title, *(_cost(one.effect(name)) for name in COSTS), _quality(one))
        for k, one in enumerate(shown, 1)
    ]
    if rows:
        columns = ("#", "suggestion", "parameters", "MACs", "latency", "quality")
        show(table(f"What to do next with step {number}", columns, rows, right=(0, 2, 3, 4)))
        show("")
        for k, one in enumerate(shown, 1):
            show(f"{k}. {one.reason}{_action(one)}")
    if len(found) > len(shown):
        show(f"{len(found) - len(shown)} more with --json.")
    if known:
        _tell_known(known)
    if entries:
        show(
            f"{len(entries)} edits are new in the draft of step {number}; `onnxprune ws edit {number}` carries it out."
        )


def _tell_known(known: Sequence[Preview]) -> None:
    """Ratios and thresholds; what suggestions come to stands beside them."""
    known = [p for p in known if any("suggestion" not in recipe for recipe in p.recipes)]
    if not known:
        return
    rows = [
        (
            f"{p.removed} of {p.units}",
            ", ".join(_recipe(dict(r)) for r in p.recipes),
            count(p.parameters),
            count(p.macs),
            str(measured(p.metric, p.value)),
        )
        for p in known
    ]
    show("")
    title = f"Measured ahead, on {known[0].samples} samples, before any training"
    show(table(title, ("units", "by", "parameters", "MACs", known[0].metric), rows, right=(0, 2, 3, 4)))


def _recipe(recipe: dict[str, Any]) -> str:
    if "ratio" in recipe:
        return f"{recipe['criterion']} {recipe['ratio']:.0%}"
    if "threshold" in recipe:
        return f"{recipe['criterion']} below {recipe['threshold']:.3g}"
    return "a suggestion"


def _tell_ahead(job: Job | None, *, on: bool) -> None:
    if job is not None:
        show(f"Job {job.number} measures likely next steps while nothing else runs.")
    elif on:
        show("Nothing is left to be measured ahead.")
    else:
        show("Measuring ahead is off; `--speculation on` turns it on.")


def _cost(effect: Effect | None) -> str:
    if effect is None or effect.share is None:
        return "-"
    return f"{'about ' if effect.basis == 'estimated' else ''}{effect.share:+.0%}"


def _quality(one: Suggestion) -> str:
    """The effect on the metric, and how it is known."""
    effect = next((e for e in one.effects if e.name not in COSTS), None)
    if effect is None:
        return "not measured" if one.units else "-"
    name = effect.name.partition(":")[0]
    return f"{effect.name} {measured(name, effect.before)} -> {measured(name, effect.after)} ({effect.basis})"


def _action(one: Suggestion) -> str:
    """The command for what is no edit."""
    if one.action is None:
        return ""
    if one.kind == "measure":
        return f" `onnxprune suggest {one.action.step} --measure` measures it."
    name, options = one.action.name, one.action.options
    words = command_of({"fine-tune": "finetune"}.get(name, name), one.action.step, options)
    return f" `{shlex.join(words)}` does it."


def _document(
    number: int, found: Sequence[Suggestion], known: Sequence[Preview], entries: Sequence[Entry],
    failed: dict[str, str], job: Job | None, *, on: bool,
) -> dict[str, Any]:  # fmt: skip
    return {
        "step": number,
        "suggestions": [{"number": k, **one.as_dict()} for k, one in enumerate(found, 1)],
        "previews": [vars(preview) for preview in known],
        "accepted": [{"place": entry.place, "edit": dict(entry.edit)} for entry in entries],
        "not_measured": failed,
        "speculation": on,
        "job": None if job is None else job.number,
    }
