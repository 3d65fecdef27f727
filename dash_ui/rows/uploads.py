"""Files that a person brings: checked before they enter the folder."""

from __future__ import annotations

import base64
import binascii
import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from onnxprune.data import open_dataset
from onnxprune.errors import DataError, OptionError, WorkspaceError
from onnxprune.model import load
from onnxprune.plan import Plan
from onnxprune.workspace.workspace import Workspace

__all__ = ["KINDS", "Arrived", "receive"]

KINDS = {".onnx": "model", ".npz": "data", ".json": "plan"}
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
        if kind == "plan":
            Plan.load(fresh)
            return Arrived(kind, plain, workspace.blobs.put(data))
        if kind == "model":
            load(fresh)
        else:
            open_dataset(fresh)
        return Arrived(kind, plain, _settled(workspace, fresh, PLACES[kind]))


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
