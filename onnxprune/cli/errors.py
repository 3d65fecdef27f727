"""The console script: runs the application and turns every end into a message and an exit code.

0: done. 2: the input is at fault, with what to do next. 1: a fault of ours, with how to see where. 130: Ctrl-C.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence

import typer.main

from onnxprune.cli.commands import app
from onnxprune.cli.console import say
from onnxprune.errors import OnnxPruneError

__all__ = ["DEBUG", "main"]

DEBUG = "ONNXPRUNE_DEBUG"  # set to 1 for the traceback of whatever goes wrong
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; ``arguments`` are those of the process by default. Returns the exit code."""
    try:
        typer.main.get_command(app).main(list(sys.argv[1:] if arguments is None else arguments), prog_name="onnxprune")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except OnnxPruneError as error:
        return _refuse(error)
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the last resort of a program: anything that was not foreseen
        return _fail(error)
    return 0


def _refuse(error: OnnxPruneError) -> int:
    _trace()
    say(f"Error: {error.message}", "red")
    if error.hint:
        say(f"  {error.hint}")
    return error.exit_code


def _fail(error: Exception) -> int:
    _trace()
    say(f"Error: something unforeseen happened, {type(error).__name__}: {error}", "red")
    if not os.environ.get(DEBUG):
        say(f"  This is a fault of onnxprune. Run it again with {DEBUG}=1 to see where, and report that.")
    return 1


def _trace() -> None:
    if os.environ.get(DEBUG):
        traceback.print_exc()
