"""The command line: parse, call, print. ``main`` is the console script, ``app`` the Typer application."""

from onnxprune.cli.commands import app
from onnxprune.cli.errors import main

__all__ = ["app", "main"]
