"""``onnxprune ws branch``: do to a step what was done to another one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from onnxprune.cli.console import emit_json, progress, say, show
from onnxprune.cli.options import JsonOption, examples
from onnxprune.cli.training import interrupts
from onnxprune.cli.ws_actions import INTERRUPTED, SetOption, settings
from onnxprune.cli.ws_options import FolderOption, StepArgument, describe, document, opened
from onnxprune.errors import OptionError
from onnxprune.workspace.paths import main_metric
from onnxprune.workspace.replay import branch, recorded
from onnxprune.workspace.values import Cancelled

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        name="branch",
        epilog=examples(
            "onnxprune ws branch 2 --like 5",
            "onnxprune ws branch 1 --like half --whole --set criterion=taylor",
        ),
    )(start_branch)


def start_branch(
    step: StepArgument,
    like: Annotated[
        str | None,
        typer.Option("--like", metavar="STEP", help="What made this step is done again.", show_default=False),
    ] = None,
    whole: Annotated[bool, typer.Option("--whole", help="And so is all that was made of it.")] = False,
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="A name for the first new step.", show_default=False)
    ] = None,
    others: SetOption = None,
    folder: FolderOption = Path(),
    json: JsonOption = False,
) -> None:
    """Begin a branch at a step, by doing to it what was done to another one, perhaps with other options (--set)."""
    if like is None:
        raise OptionError(
            "a branch needs something to begin with",
            f"Name a step to do the same again with --like, or prune step {step}: every action begins a branch.",
        )
    with opened(folder, scan=True) as workspace:
        at, old = workspace.find(step).number, workspace.find(like).number
        recorded(workspace.steps.get(old))
        with interrupts() as cancelled, progress("branch", remaining=True) as report:
            try:
                made = branch(
                    workspace, at, old, whole=whole, options=settings(others), name=name or "",
                    progress=report, cancelled=cancelled,
                )  # fmt: skip
            except Cancelled:
                made = []
        if not made:
            say("Interrupted; the steps that were finished before are recorded.", "yellow")
            raise typer.Exit(INTERRUPTED)
        if json:
            emit_json({"steps": [document(new) for new in made]})
            return
        path = workspace.steps.path(made[0].number)
        for new in made:
            show(describe(new, path[0], main_metric(path)))
