"""Files that a person brings: checked before they enter the folder."""

from __future__ import annotations

import base64
import binascii
import os
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from onnxprune.data import open_dataset
from onnxprune.errors import DataError, OnnxPruneError, OptionError, WorkspaceError
from onnxprune.model import load
from onnxprune.plan import Plan
from onnxprune.workspace.workspace import Workspace

__all__ = ["KINDS", "Arrived", "fits", "receive"]

KINDS = {".onnx": "model", ".npz": "data", ".json": "plan"}
READERS: dict[str, Callable[[Path], object]] = {"model": load, "data": open_dataset, "plan": Plan.load}
PLACES = {"model": "models", "data": "data"}
NAME = re.compile(r"[\w][\w .()+-]{0,99}")


@dataclass(frozen=True)
class Arrived:
    """A file that was accepted. ``kind``: model, data or plan; ``path``: where it lies; a plan lies in the blobs."""

    kind: str
    name: str
    path: str


def receive(workspace: Workspace, name: str, contents: str) -> Arrived:
    """Put an upload into the folder. ``contents``: as a browser sends it, ``data:...;base64,...``.

    Raises OptionError for another kind of file or a name that is none, WorkspaceError where one of that name is there
    already, and ModelError, DataError, PlanError for what is not what it says.
    """
    workspace.check_writable()
    plain = PurePosixPath(name.replace("\\", "/")).name
    kind = KINDS.get(Path(plain).suffix.lower())
    if kind is None:
        raise OptionError(f"{plain or name}: not a kind of file that is used here", f"Bring one of {', '.join(KINDS)}.")
    if not NAME.fullmatch(plain):
        raise OptionError(f"{plain!r} is not a name for a file here", "Rename it to letters, digits, - and _.")
    data = _decoded(plain, contents)
    with tempfile.TemporaryDirectory(dir=workspace.store, prefix="upload-") as place:
        fresh = Path(place) / plain
        fresh.write_bytes(data)
        try:
            READERS[kind](fresh)
        except OnnxPruneError as error:  # in words of the person, who knows of no such place
            raise type(error)(_named(error.message, fresh), _named(error.hint, fresh)) from error
        if kind == "plan":
            return Arrived(kind, plain, workspace.blobs.put(data))
        return Arrived(kind, plain, _settled(workspace, fresh, PLACES[kind]))


def fits(workspace: Workspace, path: str) -> tuple[str, str]:
    """What data of the folder are good for, after a scan: a sentence about the models, and why they fit none.

    Two texts, the second one empty where some model takes the data, or where there is none.
    """
    paths = {entry.step: entry.path for entry in workspace.files.listed("model")}
    roots = [step for step in workspace.steps.all() if step.parent is None]
    taking = [paths.get(step.number, step.name) for step in roots if path in workspace.files.fitting(step.model_hash)]
    if taking:
        return f"{path} fits {', '.join(taking)}.", ""
    whys = [why for step in roots if (why := workspace.files.misfits(step.model_hash).get(path))]
    if not whys:
        return f"{path} is in the folder now.", ""
    return f"{path} is in the folder now, but fits no model of it.", whys[0]


def _named(text: str, fresh: Path) -> str:
    """A text that calls the file by its name alone."""
    return text.replace(str(fresh), fresh.name)


def _decoded(name: str, contents: str) -> bytes:
    try:
        return base64.b64decode(contents.partition(",")[2], validate=True)
    except (binascii.Error, ValueError) as error:
        raise DataError(f"{name}: did not arrive whole", "Bring it again.") from error


def _settled(workspace: Workspace, fresh: Path, place: str) -> str:
    """Move a file into a folder of the workspace; none is ever replaced."""
    target = workspace.folder / place / fresh.name
    try:
        target.parent.mkdir(exist_ok=True)
        if target.parent.resolve() != workspace.folder / place:
            raise WorkspaceError(f"{place} leads out of the workspace", "Make it a folder of its own.")
        os.link(fresh, target)
    except FileExistsError as error:
        raise WorkspaceError(f"there is a {place}/{fresh.name} already", "Rename the file that you bring.") from error
    except OSError as error:
        raise WorkspaceError(f"{target}: cannot be written: {error.strerror}", "Free some space.") from error
    return f"{place}/{fresh.name}"
