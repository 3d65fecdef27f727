"""Actions that pretend: `python -m tests.workspace.acting FOLDER` is a worker."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from onnxprune.errors import OptionError
from onnxprune.workspace.values import Cancelled, NewStep, Step
from onnxprune.workspace.worker import serve
from onnxprune.workspace.workspace import Workspace

Progress = Callable[[str, int, int], None]
Asked = Callable[[], bool]


def opened(folder: Path) -> Workspace:
    """The workspace of a folder, with an original in it."""
    workspace = Workspace.open(folder)
    if not workspace.steps.all():
        workspace.add(NewStep("original", workspace.blobs.put(b"original"), "h0"))
    return workspace


def record(ws: Workspace, step: int, options: Mapping[str, Any], progress: Progress, _asked: Asked) -> Step:
    """Write blobs and record a step that names them."""
    progress("writing", 0, 2)
    word = f"{step} {options.get('word', '')} {time.time_ns()}"
    model, history = ws.blobs.put(word.encode() * options.get("size", 100)), ws.blobs.put(f"history {word}".encode())
    progress("writing", 1, 2)
    new = NewStep("prune", model, word, step, metrics={("accuracy", ""): 0.5}, documents={"history": history})
    return ws.add(new)


def slow(ws: Workspace, step: int, options: Mapping[str, Any], progress: Progress, asked: Asked) -> Step:
    """Take time, and say so."""
    for n in range(int(options["seconds"] * 50)):
        progress("slow", n, int(options["seconds"] * 50))
        time.sleep(0.02)
    return record(ws, step, options, progress, asked)


def polite(_ws: Workspace, _step: int, _options: Mapping[str, Any], _progress: Progress, asked: Asked) -> Step:
    """Make no progress, but look whether it is to end."""
    while not asked():
        time.sleep(0.02)
    raise Cancelled


def deaf(_ws: Workspace, _step: int, options: Mapping[str, Any], progress: Progress, _asked: Asked) -> Step:
    """Hear nothing, as one long call of native code."""
    progress("deaf", 0, 0)
    time.sleep(options["seconds"])
    raise AssertionError("nobody ended this")


def refuse(_ws: Workspace, _step: int, _options: Mapping[str, Any], _progress: Progress, _asked: Asked) -> Step:
    raise OptionError("no such ratio", "Take 0.5.")


def fail(_ws: Workspace, _step: int, _options: Mapping[str, Any], _progress: Progress, _asked: Asked) -> Step:
    raise ZeroDivisionError("by zero")


def twice(ws: Workspace, step: int, options: Mapping[str, Any], progress: Progress, asked: Asked) -> Step:
    record(ws, step, options, progress, asked)
    return record(ws, step, options, progress, asked)


def several(ws: Workspace, step: int, options: Mapping[str, Any], progress: Progress, asked: Asked) -> Step:
    """Record as many steps as ``count`` says, each a child of the one before, going on after those of this run."""
    made = [s for s in ws.steps.all() if s.name == options["run"]]
    for _ in range(len(made), options["count"]):
        parent = made[-1].number if made else step
        progress("several", len(made), options["count"])
        time.sleep(options.get("seconds", 0.0))
        new = record(ws, parent, options, progress, asked)
        made.append(ws.steps.describe(new.number, name=str(options["run"])))
        if options.get("break") == len(made):
            raise OptionError("broke off", "Try again.")
    return made[options.get("best", -1)]


def nothing(_ws: Workspace, _step: int, _options: Mapping[str, Any], progress: Progress, _asked: Asked) -> None:
    """Record nothing, and return nothing."""
    progress("nothing", 1, 1)


def same(ws: Workspace, step: int, _options: Mapping[str, Any], _progress: Progress, _asked: Asked) -> Step:
    """Record nothing, because the result is there already."""
    return ws.steps.get(step)


def full(ws: Workspace, step: int, _options: Mapping[str, Any], _progress: Progress, _asked: Asked) -> Step:
    """Record a step on a disk that is full."""
    pages = ws.database.rows("PRAGMA page_count")[0][0]
    ws.database.rows(f"PRAGMA max_page_count = {pages}")
    try:
        return ws.add(NewStep("prune", ws.blobs.put(b"model"), "h1", step, command=("long" * 100_000,)))
    finally:
        ws.database.rows("PRAGMA max_page_count = 1000000")


ACTIONS: Mapping[str, Any] = {
    f.__name__: f for f in (record, slow, polite, deaf, refuse, fail, twice, same, full, several, nothing)
}
MANY = frozenset({"several"})


if __name__ == "__main__":
    serve(opened(Path(sys.argv[1])), ACTIONS, many=MANY, limit=int((*sys.argv, "1")[2]))
