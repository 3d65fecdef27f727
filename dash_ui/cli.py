"""``onnxprune ui``: the web app. ``register`` is the entry point that adds the command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(name="ui")(ui)


def ui(
    folder: Annotated[Path, typer.Argument(help="A folder with models.")] = Path(),
    port: Annotated[int, typer.Option("--port", metavar="N", help="Where it listens.")] = 8050,
) -> None:
    """Open a folder of models in the browser."""
    from dash_ui.app import create  # noqa: PLC0415 - Dash takes a second to import

    create(folder).run(port=port, debug=False)
