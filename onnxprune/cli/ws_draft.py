"""``onnxprune ws draft``: what shall go from a step, one edit after the other, until `ws edit` carries it out."""

from __future__ import annotations

import json as texts
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from onnxprune.cli.console import emit_json, show
from onnxprune.cli.options import JsonOption, examples
from onnxprune.cli.ws_options import FolderOption, StepArgument, opened
from onnxprune.errors import OptionError
from onnxprune.workspace.edits import FORMS, check_edit

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        name="draft",
        epilog=examples(
            "onnxprune ws draft 1 --remove conv1=0,3",
            "onnxprune ws draft 1 --lowest l2=0.25",
            "onnxprune ws draft 1 --remove conv1=0 --zero fc.weight=17,64-127",
        ),
    )(draft)


def draft(
    step: StepArgument,
    remove: Annotated[
        list[str] | None,
        typer.Option("--remove", metavar="GROUP=N,N", help="Units that go. May be repeated.", show_default=False),
    ] = None,
    back: Annotated[
        list[str] | None,
        typer.Option("--restore", metavar="GROUP=N,N", help="Units that stay after all.", show_default=False),
    ] = None,
    lowest: Annotated[
        list[str] | None,
        typer.Option("--lowest", metavar="CRITERION=R", help="The lowest share R of every group.", show_default=False),
    ] = None,
    zero: Annotated[
        list[str] | None,
        typer.Option(
            "--zero",
            metavar="WEIGHT=N,A-B",
            help="Single weights that become zero, by their place in C order; A-B takes both ends in.",
            show_default=False,
        ),
    ] = None,
    others: Annotated[
        list[str] | None,
        typer.Option(
            "--edit", metavar="JSON", help="Any edit, as `ws draft` shows it. May be repeated.", show_default=False
        ),
    ] = None,
    folder: FolderOption = Path(),
    json: JsonOption = False,
) -> None:
    """Add edits to the draft of a step, or show it; `ws undo` and `ws redo` walk in it, `ws edit` carries it out."""
    edits: list[dict[str, Any]] = [
        *({"group": group, "remove": numbers} for group, numbers in map(_units, remove or ())),
        *({"group": group, "restore": numbers} for group, numbers in map(_units, back or ())),
        *({"criterion": criterion, "ratio": share} for criterion, share in map(_lowest, lowest or ())),
        *map(_weights, zero or ()),
        *map(_edit, others or ()),
    ]
    for one in edits:
        check_edit(one)
    with opened(folder) as workspace:
        number = workspace.find(step).number
        for one in edits:
            workspace.check_writable()
            workspace.drafts.add(number, one)
        entries = workspace.drafts.entries(number)
    if json:
        emit_json({"step": number, "draft": [{"place": e.place, "undone": e.undone, "edit": e.edit} for e in entries]})
    else:
        for entry in entries:
            show(f"{entry.place}. {texts.dumps(dict(entry.edit))}{' (undone)' if entry.undone else ''}")
        show(f"{len(entries)} edits in the draft of step {number}; `onnxprune ws edit {number}` carries them out.")


def _lowest(text: str) -> tuple[str, float]:
    name, _, value = text.rpartition("=")
    try:
        return name, float(value)
    except ValueError:
        raise OptionError(f"--lowest {text}: {value!r} is not a number", "Write it as NAME=0.5.") from None


def _units(text: str) -> tuple[str, list[int]]:
    """``conv1=0,3``: a group and its units. A group may have ``=`` in its name."""
    try:
        name, numbers = _named(text)
        return name, [int(number) for number in numbers]
    except ValueError:
        raise OptionError(f"{text}: expected GROUP=N,N", "For example conv1=0,3.") from None


def _weights(text: str) -> dict[str, Any]:
    """``fc.weight=17,64-127``: a weight and the places of its numbers."""
    try:
        name, numbers = _named(text)
        places = [int(number) for number in numbers if "-" not in number]
        ends = [number.split("-", 1) for number in numbers if "-" in number]
        ranges = [[int(first), int(last) + 1] for first, last in ends]
    except ValueError:
        raise OptionError(f"{text}: expected WEIGHT=N,A-B", "For example fc.weight=17,64-127.") from None
    return {"weight": name, "remove": places, **({"ranges": ranges} if ranges else {})}


def _named(text: str) -> tuple[str, Sequence[str]]:
    name, equals, numbers = text.rpartition("=")
    if not (name and equals):
        raise ValueError
    return name, numbers.split(",")


def _edit(text: str) -> dict[str, Any]:
    try:
        found = texts.loads(text)
    except ValueError as error:
        raise OptionError(f"--edit {text}: not JSON: {error}", FORMS) from None
    if not isinstance(found, dict):
        raise OptionError(f"--edit {text}: expected an object", FORMS)
    return found
