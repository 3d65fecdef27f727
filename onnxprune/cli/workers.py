"""The options that say where independent tasks run."""

from __future__ import annotations

import importlib.util
from typing import Annotated

import typer

from onnxprune.errors import OptionError
from onnxprune.workplace import Place, workplace

__all__ = ["Place", "SchedulerOption", "WorkersOption", "check_workers", "workplace"]

WorkersOption = Annotated[
    int, typer.Option("--workers", metavar="N", help="Processes that share the work, each with its own activations.")
]
SchedulerOption = Annotated[
    str | None,
    typer.Option(
        "--scheduler",
        metavar="tcp://HOST:PORT",
        help="A Dask scheduler, whose workers share the work; needs `distributed`.",
        show_default=False,
    ),
]


def check_workers(workers: int, scheduler: str | None) -> None:
    """Raise OptionError before the work, not after it."""
    if workers < 1:
        raise OptionError(f"--workers {workers}: expected a number from 1 up", "Leave it out for one.")
    if scheduler is not None and workers > 1:
        raise OptionError("--workers and --scheduler are given: a cluster has its own workers", "Give one of them.")
    if scheduler is not None and importlib.util.find_spec("distributed") is None:
        raise OptionError(
            "--scheduler needs the package `distributed`, which is not installed",
            "Run pip install distributed, or use --workers for processes of this machine.",
        )
