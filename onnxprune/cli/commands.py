"""The Typer application: the commands of this package, then those of installed packages.

A package adds commands with an entry point in the group ``onnxprune.commands``: a function that takes the application.
"""

from __future__ import annotations

from importlib.metadata import entry_points, version
from typing import Annotated

import typer

from onnxprune.cli import (
    auto,
    bench,
    compare,
    demo,
    draw,
    estimate,
    evaluate,
    explain,
    finetune,
    inspect,
    instability,
    jobs,
    plan,
    prune,
    repeat,
    schedule,
    score,
    sensitivity,
    suggest,
    suspects,
    ws,
)
from onnxprune.cli.console import show, warn

__all__ = ["GROUP", "app", "load_commands"]

GROUP = "onnxprune.commands"

app = typer.Typer(
    name="onnxprune",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        show(f"onnxprune {version('onnxprune')}")
        raise typer.Exit


@app.callback()
def options(
    _: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Prune any ONNX model, see what goes, and have it proven."""


def load_commands(application: typer.Typer) -> None:
    """Let every installed package add its commands. One that fails to is a warning, not the end."""
    for entry in sorted(entry_points(group=GROUP), key=lambda e: e.name):
        try:
            entry.load()(application)
        except Exception as error:  # noqa: BLE001 - somebody else's package may fail in any way
            warn(f"the command {entry.name!r} of {entry.value} cannot be loaded: {type(error).__name__}: {error}")


_COMMANDS = (
    *(inspect, draw, prune, plan, score, sensitivity, instability),
    *(finetune, schedule, evaluate, compare, explain, bench, ws, auto, estimate, repeat, suspects, jobs, suggest, demo),
)
for _module in _COMMANDS:
    _module.register(app)
load_commands(app)
