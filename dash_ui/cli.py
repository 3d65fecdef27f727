"""``onnxprune ui``: the web app. ``register`` is the entry point that adds the command."""

from __future__ import annotations

import json as jsonlib
import shutil
import signal
import threading
import webbrowser
from importlib import resources
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from onnxprune.errors import WorkspaceError

__all__ = ["register", "serve", "unpack"]

EPILOG = """Examples:

  onnxprune ui --demo

  onnxprune ui my-models

  onnxprune ui my-models --host 0.0.0.0 --no-browser"""
PORT = 8050
DEMO_FOLDER = "onnxprune-demo"
DEMO_FILES = {"digits_cnn.onnx": "models", "digits.npz": "data"}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(name="ui", epilog=EPILOG)(run)


def run(
    folder: Annotated[
        Path | None, typer.Argument(help="A folder with models; the one you are in.", show_default=False)
    ] = None,
    demo: Annotated[
        bool, typer.Option("--demo", help=f"The bundled example, put into FOLDER ({DEMO_FOLDER} by default).")
    ] = False,
    port: Annotated[
        int,
        typer.Option("--port", metavar="N", min=0, max=65535, help="Where it listens, or the next free one; 0: any."),
    ] = PORT,
    host: Annotated[
        str,
        typer.Option("--host", metavar="ADDRESS", help="Listen to other machines, too; the address has a token then."),
    ] = "127.0.0.1",
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page in the browser.")] = True,
    json: Annotated[bool, typer.Option("--json", help="Print where it listens as JSON.")] = False,
) -> None:
    """Open a folder of models in the browser: look, prune, train, compare, go back, export."""
    place = folder or Path(DEMO_FOLDER if demo else ".")
    if demo:
        unpack(place)
    serve(place, host=host, port=port, browser=browser, json=json)


def serve(folder: Path, *, host: str, port: int, browser: bool, json: bool) -> None:
    """Serve until Ctrl-C or until the process is asked to end. Raises WorkspaceError, StoreDamaged, OptionError."""
    # Dash takes a second to import, which the other commands need not wait for.
    from dash_ui.app import content_policy, create  # noqa: PLC0415
    from dash_ui.beginning import begin  # noqa: PLC0415
    from dash_ui.serving import Server  # noqa: PLC0415

    app = create(folder)
    begin(folder)
    with Server(app.server, host=host, port=port, content_policy=content_policy(app)) as server:
        if json:
            typer.echo(
                jsonlib.dumps({"url": server.url, "port": server.port, "folder": str(folder.resolve())}, indent=2)
            )
        else:
            taken = f" (port {port} is taken)" if server.taken else ""
            _say(f"{folder.resolve()} is at {server.url}{taken}")
            if server.gate.token:
                _say("Whoever has this address can change the workspace. Others who listen on the network can read it:")
                _say("it is not encrypted. Over networks that you do not trust, use an SSH tunnel instead.")
            _say("Ctrl-C ends it.")
        if browser:
            threading.Timer(0.3, webbrowser.open, (server.url,)).start()
        for number in (signal.SIGTERM, signal.SIGINT):  # a shell may have started it with the latter ignored
            signal.signal(number, _end)
        try:
            server.run()
        except KeyboardInterrupt:
            _say("Ended. Jobs that run go on; `onnxprune jobs` shows them.")


def _say(text: str) -> None:
    typer.echo(text, err=True)


def _end(_: int, __: FrameType | None) -> None:
    raise KeyboardInterrupt


def unpack(folder: Path) -> None:
    """Put the bundled example into a folder, unless it is there. Raises WorkspaceError."""
    for name, place in DEMO_FILES.items():
        target = folder / place / name
        if target.exists():
            continue
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with (
                resources.files("onnxprune").joinpath("demo_data", name).open("rb") as source,
                target.open("wb") as copy,
            ):
                shutil.copyfileobj(source, copy)
        except OSError as error:
            raise WorkspaceError(
                f"{target}: the example cannot be put there: {error.strerror or error}", "Name another folder."
            ) from error
