"""``onnxprune ws prune|recover|finetune|edit|import``: what makes a new step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from onnxprune.cli.console import emit_json, progress, say, show
from onnxprune.cli.notices import check_environment
from onnxprune.cli.options import JsonOption, examples
from onnxprune.cli.training import interrupts
from onnxprune.cli.ws_draft import register as register_draft
from onnxprune.cli.ws_options import FolderOption, StepArgument, describe, document, opened
from onnxprune.errors import OptionError
from onnxprune.workspace.actions import ACTIONS, check_options
from onnxprune.workspace.jobs import Jobs
from onnxprune.workspace.paths import main_metric
from onnxprune.workspace.recording import value_of
from onnxprune.workspace.values import Cancelled
from onnxprune.workspace.workspace import STORE, Workspace

__all__ = ["INTERRUPTED", "SetOption", "register", "settings"]

INTERRUPTED = 130

SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="Any other option by name; the value is JSON or text. May be repeated.",
        show_default=False,
    ),
]
DataOption = Annotated[
    str | None,
    typer.Option(
        "--data",
        metavar="NAME",
        help="Data of the folder, where several fit. By default the first by name.",
        show_default=False,
    ),
]
BackgroundOption = Annotated[
    bool,
    typer.Option("--background", help="Queue it, and let a worker do it; `onnxprune jobs` follows and cancels it."),
]
NameOption = Annotated[
    str | None, typer.Option("--name", metavar="NAME", help="A name for the new step.", show_default=False)
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(
        name="prune",
        epilog=examples(
            "onnxprune ws prune 1 --ratio 0.5",
            "onnxprune ws prune 1 --ratio 0.5 --criterion taylor --set scope=global --set 'skip=[\"conv1\"]'",
        ),
    )(prune)
    app.command(name="recover", epilog=examples("onnxprune ws recover 2", "onnxprune ws recover 2 --method bias"))(
        recover
    )
    app.command(
        name="finetune",
        epilog=examples("onnxprune ws finetune 2 --epochs 5", "onnxprune ws finetune 2 --teacher 1 --deterministic"),
    )(finetune)
    register_draft(app)
    app.command(name="edit", epilog=examples("onnxprune ws edit 1"))(edit)
    app.command(name="import", epilog=examples("onnxprune ws import 0 other.onnx", "onnxprune ws import 1 plan.json"))(
        import_file
    )


def prune(
    step: StepArgument,
    ratio: Annotated[
        float | None, typer.Option("--ratio", metavar="R", help="Share of units that go.", show_default=False)
    ] = None,
    criterion: Annotated[
        str | None,
        typer.Option(
            "--criterion", metavar="NAME", help="How importance is scored; l2 by default.", show_default=False
        ),
    ] = None,
    minimum: Annotated[
        list[str] | None,
        typer.Option(
            "--min",
            metavar="METRIC[:CLASS]=VALUE",
            help="What a metric must not fall below; the largest removal that holds is taken. May be repeated.",
            show_default=False,
        ),
    ] = None,
    data: DataOption = None,
    name: NameOption = None,
    others: SetOption = None,
    background: BackgroundOption = False,
    folder: FolderOption = Path(),
    json: JsonOption = False,
) -> None:
    """Prune the model of a step: a new step, with the options of `onnxprune prune`; channels are not rounded."""
    least = _floors(minimum) if minimum else None
    given = {"ratio": ratio, "criterion": criterion, "min": least, "data": data, "name": name}
    _act("prune", step, given, others, folder, json, background)


def recover(
    step: StepArgument,
    method: Annotated[
        str | None,
        typer.Option(
            "--method", metavar="METHOD", help="As `prune --recover`; least-squares by default.", show_default=False
        ),
    ] = None,
    data: DataOption = None,
    name: NameOption = None,
    others: SetOption = None,
    background: BackgroundOption = False,
    folder: FolderOption = Path(),
    json: JsonOption = False,
) -> None:
    """Repair the model of a step without training, towards the one that was pruned last on the way to it."""
    _act("recover", step, {"method": method, "data": data, "name": name}, others, folder, json, background)


def finetune(
    step: StepArgument,
    epochs: Annotated[
        int | None, typer.Option("--epochs", metavar="N", help="At most so many.", show_default=False)
    ] = None,
    rate: Annotated[
        float | None, typer.Option("--rate", metavar="R", help="The highest learning rate.", show_default=False)
    ] = None,
    target: Annotated[
        str | None,
        typer.Option("--target", metavar="METRIC=VALUE", help="Stop when it is reached.", show_default=False),
    ] = None,
    delta_loss: Annotated[
        float | None,
        typer.Option(
            "--delta-loss", metavar="S", help="Stop when the loss falls by less than this share.", show_default=False
        ),
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option("--teacher", metavar="STEP", help="A step to learn from; needs no labels.", show_default=False),
    ] = None,
    deterministic: Annotated[
        bool, typer.Option("--deterministic", help="One thread, so that the same command gives the same model.")
    ] = False,
    data: DataOption = None,
    name: NameOption = None,
    others: SetOption = None,
    background: BackgroundOption = False,
    folder: FolderOption = Path(),
    json: JsonOption = False,
) -> None:
    """Train the model of a step further: a new step, with the options of `onnxprune finetune`."""
    given = {
        "epochs": epochs, "rate": rate, "target": target, "delta_loss": delta_loss, "teacher": teacher,
        "deterministic": deterministic or None, "data": data, "name": name,
    }  # fmt: skip
    _act("fine-tune", step, given, others, folder, json, background)


def edit(
    step: StepArgument,
    data: DataOption = None,
    name: NameOption = None,
    others: SetOption = None,
    background: BackgroundOption = False,
    folder: FolderOption = Path(),
    json: JsonOption = False,
) -> None:
    """Carry out the draft of a step: a new step, and the draft is empty."""
    _act("edit", step, {"data": data, "name": name}, others, folder, json, background)


def import_file(
    step: StepArgument,
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="An ONNX file, or a plan (.json).", show_default=False)
    ] = None,
    data: DataOption = None,
    name: NameOption = None,
    others: SetOption = None,
    folder: FolderOption = Path(),
    json: JsonOption = False,
) -> None:
    """Add a model as a child of a step (0: as a tree of its own), or carry out a plan that was made for the step."""
    given: dict[str, Any] = {"data": data, "name": name}
    if file is not None:
        path = file if file.parts[:1] == (STORE,) else file.absolute()  # what is in the store, the workspace finds
        given["plan" if file.suffix.lower() == ".json" else "model"] = str(path)
    _act("import", step, given, others, folder, json)


def _act(
    action: str,
    step: str,
    given: Mapping[str, Any],
    others: Sequence[str] | None,
    folder: Path,
    json: bool,
    background: bool = False,
) -> None:
    """Do it, with progress, and show the new step. Raises typer.Exit(130) after an interruption."""
    options = {**settings(others), **{name: value for name, value in given.items() if value is not None}}
    check_environment(options.get("provider", "auto"), options.get("threads"))
    with opened(folder, scan=True) as workspace:
        number = 0 if action == "import" and step == "0" else workspace.find(step).number
        if background:
            _queue(workspace, action, number, options, json)
            return
        with interrupts() as cancelled, progress(action, remaining=True) as report:
            try:
                made = ACTIONS[action](workspace, number, options, report, cancelled)
            except Cancelled:
                made = None
        if made is None:
            say("Interrupted; nothing was recorded.", "yellow")
            raise typer.Exit(INTERRUPTED)
        if json:
            emit_json(document(made))
        else:
            path = workspace.steps.path(made.number)
            show(describe(made, path[0], main_metric(path)))


def _queue(workspace: Workspace, action: str, number: int, options: Mapping[str, Any], json: bool) -> None:
    """Let a worker do it; what is no option of the action is refused at once."""
    check_options(action, options)
    workspace.check_writable()
    jobs = Jobs(workspace.database)
    job = jobs.add(action, number, options)
    worker = jobs.start_worker(workspace.folder)
    if json:
        emit_json({**asdict(job), "options": dict(job.options), "worker": worker})
    else:
        show(f"Job {job.number} is queued: {action} of step {number}; `onnxprune jobs wait {job.number}` follows it.")


def settings(pairs: Sequence[str] | None) -> dict[str, Any]:
    """``NAME=VALUE`` ... as values: JSON where it is JSON, else text."""
    found = {}
    for text in pairs or ():
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise OptionError(f"--set {text}: expected NAME=VALUE", "For example --set scope=global.")
        found[name] = value_of(value)
    return found


def _number(option: str, text: str, value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise OptionError(f"{option} {text}: {value!r} is not a number", "Write it as NAME=0.5.") from None


def _floors(pairs: Sequence[str]) -> dict[str, float]:
    found = {}
    for text in pairs:
        name, _, value = text.rpartition("=")
        found[name] = _number("--min", text, value)
    return found
