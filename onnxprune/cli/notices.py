"""What a person should know whatever the command is."""

from __future__ import annotations

from onnxprune.cli.console import warn
from onnxprune.runtime import check_install

__all__ = ["check_environment"]


def check_environment() -> None:
    """Warn when two builds of onnxruntime are installed, of which one has broken the other."""
    problem = check_install()
    if problem:
        warn(problem)
