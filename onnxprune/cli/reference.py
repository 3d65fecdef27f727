"""The reference of the command line as Markdown, from the commands themselves.

python -m onnxprune.cli.reference > docs/cli.md
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import typer.main

from onnxprune.cli.commands import app

__all__ = ["reference"]

HEAD = """# Command line

Made by `python -m onnxprune.cli.reference > docs/cli.md`; a test compares. `onnxprune COMMAND --help` shows the same.

`onnxprune --version` prints the version. `ONNXPRUNE_NO_MEASURE=1` turns off the measurement that decides to which
multiple channels are rounded by default (8 then), and refuses `--target-latency`; `ONNXPRUNE_CACHE` names the folder
that keeps what was measured here: that multiple, and milliseconds of layers.

Results go to stdout, messages and progress to stderr; with `--json` stdout holds one JSON document. Exit codes: 0 done,
2 bad input (with what is wrong and what to do next), 1 a fault of onnxprune (`ONNXPRUNE_DEBUG=1` shows where), 130
interrupted. Files are written whole or not at all.
"""


def reference() -> str:
    """The whole page."""
    return "\n".join([HEAD, *_commands(typer.main.get_command(app), "onnxprune")])


def _commands(command: Any, path: str) -> Iterator[str]:
    """The sections of a command and of those below it, in the order of the alphabet."""
    inner = getattr(command, "commands", {})
    if not inner:
        yield "\n".join(_section(command, path))
    for name in sorted(inner):
        yield from _commands(inner[name], f"{path} {name}")


def _section(command: Any, path: str) -> Iterator[str]:
    arguments = [p for p in command.params if not p.opts[0].startswith("-")]
    yield f"## {path}\n"
    yield f"{' '.join((command.help or '').split())}\n"
    yield f"```\n{' '.join([path, *(_metavar(p) for p in arguments), '[OPTIONS]'])}\n```\n"
    yield "| option | default | what |\n| --- | --- | --- |"
    for parameter in command.params:
        if parameter.name != "help":
            yield f"| `{_name(parameter)}` | {_default(parameter)} | {_cell(parameter.help or '')} |"
    examples = [line.strip() for line in (command.epilog or "").split("\n\n")[1:]]
    if examples:
        yield "\n".join(["", "```", *examples, "```"])
    yield ""


def _name(parameter: Any) -> str:
    if not parameter.opts[0].startswith("-"):
        return _metavar(parameter)
    names = ", ".join([*parameter.opts, *parameter.secondary_opts])
    return names if isinstance(parameter.default, bool) else f"{names} {_metavar(parameter)}"


def _metavar(parameter: Any) -> str:
    return _cell(parameter.metavar or parameter.name.upper())


def _default(parameter: Any) -> str:
    value = getattr(parameter.default, "value", parameter.default)
    if parameter.required:
        return "required"
    return "" if value is None or isinstance(value, bool) else f"`{value}`"


def _cell(text: str) -> str:
    """Text inside a table."""
    return text.replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(reference())
