"""What lies in the folder of a workspace: models and data, with what is wrong with them, and which fit each other.

Models are ``*.onnx`` in the folder and in ``models/``. Data are ``.npz`` files in the folder, and in ``data/`` every
``.npz`` and ``.npy`` file and every folder; where ``data/`` is a dataset itself (arrays, class folders, train/ and
test/), it is that one. A file is read again when its size or its time changed; a hash of its content decides whether
it is another one. What cannot be read is listed with the reason.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from onnxprune.data import SPLITS, fit, open_dataset
from onnxprune.errors import DataError, OnnxPruneError, WorkspaceError
from onnxprune.model import Model, load
from onnxprune.runtime import model_inputs
from onnxprune.workspace.blobs import Blobs
from onnxprune.workspace.database import Database
from onnxprune.workspace.recording import original_step
from onnxprune.workspace.steps import Steps

__all__ = ["Change", "Files", "Listed", "inside"]

MODEL, DATA = "model", "data"
MODELS_FOLDER, DATA_FOLDER = "models", "data"
IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
WHOLE = 1 << 30  # bytes up to which the whole content of a file of data is hashed
PIECE, PIECES = 1 << 20, 64  # of a larger one: so many pieces, spread evenly


@dataclass(frozen=True)
class Listed:
    """One file, or one folder of data. ``problem``: why it cannot be used, "" where it can.

    ``path``: relative to the workspace. ``hash``: of the model (`Model.hash`) or of the data. ``step``: the original
    that a model is.
    """

    path: str
    kind: str
    size: int
    hash: str
    problem: str
    step: int | None


@dataclass(frozen=True)
class Change:
    """What a look into the folder found: paths that came, that changed and that went."""

    came: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    went: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.came or self.changed or self.went)


@dataclass(frozen=True)
class _Found:
    """What the disk says of a file; ``changed`` in nanoseconds."""

    kind: str
    size: int
    changed: int


def inside(folder: Path, path: str) -> Path:
    """A path of a workspace on the disk. Raises WorkspaceError for one that leads out of the folder."""
    pure = PurePosixPath(path.replace("\\", "/"))
    if not path or pure.is_absolute() or ".." in pure.parts or ":" in pure.parts[0]:
        raise WorkspaceError(f"{path!r} leads out of the workspace", "Name what lies in its folder.")
    return folder / pure


class Files:
    """The models and data of one workspace, as the last ``scan`` found them."""

    def __init__(self, folder: Path, database: Database, steps: Steps, blobs: Blobs) -> None:
        self.folder, self.database, self.steps, self.blobs = folder, database, steps, blobs

    def listed(self, kind: str | None = None) -> list[Listed]:
        """All of them, or the "model"s or "data" alone, by name."""
        rows = self.database.rows("SELECT * FROM file WHERE kind = coalesce(?, kind) ORDER BY path", kind)
        return [Listed(r["path"], r["kind"], r["size"], r["hash"], r["problem"], r["step"]) for r in rows]

    def fitting(self, model_hash: str) -> list[str]:
        """The data that fit a model of the folder, by name."""
        rows = self.database.rows(
            "SELECT path FROM file JOIN pair ON pair.data = file.hash "
            "WHERE file.kind = 'data' AND pair.model = ? AND pair.problem = '' AND file.problem = '' ORDER BY path",
            model_hash,
        )
        return [row["path"] for row in rows]

    def misfits(self, model_hash: str) -> dict[str, str]:
        """The data that do not fit a model of the folder, and why."""
        rows = self.database.rows(
            "SELECT path, pair.problem FROM file JOIN pair ON pair.data = file.hash "
            "WHERE file.kind = 'data' AND pair.model = ? AND pair.problem <> '' ORDER BY path",
            model_hash,
        )
        return {row["path"]: row["problem"] for row in rows}

    def scan(self) -> Change:
        """Look into the folder: new and changed models become originals; what went is forgotten.

        An original whose file has gone stays where something was made of it, and is put aside otherwise.
        """
        found = dict(_found(self.folder))
        known = {row["path"]: row for row in self.database.rows("SELECT * FROM file")}
        came, changed = [], []
        for path, now in found.items():
            row = known.get(path)
            same = row is not None and (row["kind"], row["size"], row["changed"]) == (now.kind, now.size, now.changed)
            if row is not None and same and not row["problem"]:
                continue
            listed = self._read(path, now)
            if row is None:
                came.append(path)
            elif (row["hash"], row["problem"]) != (listed.hash, listed.problem):
                changed.append(path)
        went = sorted(known.keys() - found.keys())
        with self.database.writing() as connection:
            connection.executemany("DELETE FROM file WHERE path = ?", [(path,) for path in went])
            left = {row["step"] for row in connection.execute("SELECT step FROM file WHERE step IS NOT NULL")}
            for number in {row["step"] for row in known.values() if row["step"] is not None} - left:
                self.steps.put_aside(connection, number)
        self.pair()
        return Change(tuple(sorted(came)), tuple(sorted(changed)), tuple(went))

    def _read(self, path: str, now: _Found) -> Listed:
        """Read one file and note what it is."""
        content, problem, new = "", "", None
        try:
            if now.kind == MODEL:
                model = load(self.folder / path)
                new, content = original_step(self.blobs, model, path), model.hash
            else:
                open_dataset(self.folder / path)
                content = _content(self.folder / path)
        except WorkspaceError:
            raise
        except (OnnxPruneError, OSError) as error:
            problem = str(error)
        with self.database.writing() as connection:
            step = None if new is None else self.steps.original(connection, new)
            connection.execute(
                "INSERT OR REPLACE INTO file VALUES (?, ?, ?, ?, ?, ?, ?)",
                (path, now.kind, now.size, now.changed, content, problem, step),
            )
        return Listed(path, now.kind, now.size, content, problem, step)

    def pair(self) -> None:
        """Hold every root of the tree against every dataset that it was not held against before."""
        missing = self.database.rows(
            "SELECT DISTINCT step.model AS blob, step.model_hash AS model, file.path AS path, file.hash AS data "
            "FROM step JOIN label ON label.step = step.number, file "
            "WHERE step.parent IS NULL AND label.trashed IS NULL AND file.kind = 'data' AND file.problem = '' "
            "AND NOT EXISTS (SELECT 1 FROM pair WHERE pair.model = step.model_hash AND pair.data = file.hash)"
        )
        models: dict[str, Model] = {}
        for row in missing:
            blob = row["blob"]
            try:
                if blob not in models:
                    models[blob] = load(self.blobs.path(blob))
                problem = _misfit(models[blob], self.folder / row["path"])
            except (OnnxPruneError, OSError):
                continue  # a damaged blob, or data that change in this moment: the next look finds out
            with self.database.writing() as connection:
                values = (row["model"], row["data"], problem)
                connection.execute("INSERT OR REPLACE INTO pair VALUES (?, ?, ?)", values)


def _misfit(model: Model, data: Path) -> str:
    """Why a dataset does not fit a model; "" where it does."""
    dataset = open_dataset(data)
    try:
        fit(dataset, model_inputs(model))
    except DataError as error:
        return str(error)
    return ""


def _found(folder: Path) -> Iterator[tuple[str, _Found]]:
    """Relative path -> what the disk says, for everything that could be a model or data."""
    for place in (folder, folder / MODELS_FOLDER):
        for path in _entries(place):
            if path.suffix.lower() == ".onnx" and path.is_file():
                # Weights beside it are part of it; whose they are only the model knows.
                weights = [other for other in place.glob(f"{path.name}*") if other != path and other.is_file()]
                yield _relative(path, folder), _stamp(MODEL, [path, *weights])
    for path in _entries(folder):
        if path.suffix.lower() == ".npz" and path.is_file():
            yield _relative(path, folder), _stamp(DATA, _with_settings(path))
    data = folder / DATA_FOLDER
    for path in (data,) if _is_dataset(data) else _entries(data):
        if path.is_dir():
            yield _relative(path, folder), _stamp(DATA, _all_files(path))
        elif path.suffix.lower() in (".npz", ".npy"):
            yield _relative(path, folder), _stamp(DATA, _with_settings(path))


def _entries(folder: Path) -> list[Path]:
    """Files and folders in it by name, without hidden ones; none where it cannot be read."""
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError:
        return []


def _is_dataset(folder: Path) -> bool:
    """Whether ``data/`` is one dataset, and not a place for several."""
    inside_it = _entries(folder)
    return any(
        path.suffix == ".npy" if path.is_file() else path.name in SPLITS or any(map(_is_image, _entries(path)))
        for path in inside_it
    )


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGES


def _with_settings(path: Path) -> list[Path]:
    """A file of data and what says how to read it."""
    beside = (path.with_suffix(".toml"), path.with_name("dataset.toml"))
    return [path, *(other for other in beside if other.is_file())]


def _all_files(folder: Path) -> list[Path]:
    return sorted(Path(place) / name for place, _, names in os.walk(folder) for name in names)


def _stamp(kind: str, paths: list[Path]) -> _Found:
    """The sum of the sizes and the latest time; a file that goes in this moment counts as empty."""
    facts = []
    for path in paths:
        try:
            facts.append(path.stat())
        except OSError:
            continue
    return _Found(kind, sum(f.st_size for f in facts), max((f.st_mtime_ns for f in facts), default=0))


def _relative(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()


def _content(path: Path) -> str:
    """A hash of data: of a file's content, or of the names, sizes and times of the files of a folder."""
    digest = hashlib.sha256()
    if path.is_dir():
        for file in _all_files(path):
            facts = file.stat()
            digest.update(f"{_relative(file, path)} {facts.st_size} {facts.st_mtime_ns}\n".encode())
        return digest.hexdigest()
    for file in _with_settings(path):
        size = file.stat().st_size
        digest.update(f"{size}\n".encode())
        with file.open("rb") as opened:
            for start in _starts(size):
                opened.seek(start)
                digest.update(opened.read(PIECE))
    return digest.hexdigest()


def _starts(size: int) -> Iterator[int]:
    """Where the pieces begin that are hashed."""
    if size <= WHOLE:
        yield from range(0, size, PIECE)
    else:
        yield from (k * (size - PIECE) // (PIECES - 1) for k in range(PIECES))
