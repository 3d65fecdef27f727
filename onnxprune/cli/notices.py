"""What a person should know whatever the command is."""

from __future__ import annotations

from onnxprune.cli.console import warn
from onnxprune.runtime import check_install, check_running

__all__ = ["check_environment"]


def check_environment(provider: str = "auto", threads: int | None = None) -> None:
    """Warn when two builds of onnxruntime are installed, of which one has broken the other.

    Raises OptionError when ``provider`` does not work here or ``threads`` makes no sense: before the work, not after.
    """
    check_running(provider, threads)
    problem = check_install()
    if problem:
        warn(problem)
