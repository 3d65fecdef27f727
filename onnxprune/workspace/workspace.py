"""A workspace: a folder of models and data, and in ``.onnxprune/`` the tree of what was made of them.

    with Workspace.open("my-models") as workspace:
        for step in workspace.steps.all():
            print(step.number, step.kind, step.metrics.get("accuracy"))

The tree lies in ``.onnxprune/tree.sqlite`` and ``.onnxprune/blobs/``. What is done to a model is in ``actions``.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

from onnxprune._atomic import replacing
from onnxprune.data import open_dataset
from onnxprune.errors import OptionError, PlanError, StepNotFound, StoreDamaged, WorkspaceError
from onnxprune.model import Model, load, save
from onnxprune.plan import Plan
from onnxprune.workspace.blobs import GRACE, Blobs
from onnxprune.workspace.database import Database
from onnxprune.workspace.folder import Change, Files, inside
from onnxprune.workspace.recording import Progress, dumps, measure
from onnxprune.workspace.steps import Drafts, Steps
from onnxprune.workspace.unfinished import sweep
from onnxprune.workspace.values import NewStep, Step

__all__ = ["STORE", "Damage", "Workspace"]

STORE = ".onnxprune"
TREE, BLOBS = "tree.sqlite", "blobs"
MEASURED = ("evaluation", "predictions")  # documents that measuring a step makes
QUALITY = "evaluation"  # the document of a step whose metrics were measured


@dataclass(frozen=True)
class Damage:
    """A step whose blobs are not what was written, and what is wrong."""

    step: int
    reason: str


class Workspace:
    """One opened workspace; ``open`` makes it, ``close`` or the end of a ``with`` block ends it.

    ``steps``: the tree. ``drafts``: edits that are not applied. ``files``: what lies in the folder. ``change``: what
    came, changed and went since it was opened the last time. ``readonly``: nothing may be recorded.
    """

    def __init__(self, folder: Path, store: Path, *, readonly: bool, temporary: bool = False) -> None:
        self.folder, self.store, self.readonly = folder, store, readonly
        self.change = Change()
        self._tags: Callable[[NewStep], Mapping[str, bytes]] | None = None
        self._closing = ExitStack()
        self.database = Database(store / TREE, readonly=readonly and not temporary)
        self._closing.callback(self.database.close)
        self.blobs = Blobs(store / BLOBS)
        self.steps, self.drafts = Steps(self.database), Drafts(self.database)
        self.files = Files(folder, self.database, self.steps, self.blobs)

    @classmethod
    def open(cls, folder: str | Path, *, readonly: bool = False, scan: bool = True) -> Workspace:
        """Open the workspace in a folder, which becomes one if it is none yet; its models become originals.

        A folder that cannot be written is opened for viewing. ``scan``: look for models and data that came, changed
        or went, which takes a look at every file; it is done in any case where the folder is no workspace yet. Raises
        WorkspaceError for what is no folder, StoreDamaged for a damaged database.
        """
        folder = Path(os.path.realpath(folder))
        if not folder.is_dir():
            raise WorkspaceError(f"{folder}: there is no such folder", "Make it and put models into it.")
        store = folder / STORE
        readonly = readonly or not _writable(store if store.exists() else folder)
        if readonly and not (store / TREE).exists():
            return cls._viewing(folder)
        if not readonly:
            try:
                store.mkdir(exist_ok=True)
            except OSError as error:
                raise WorkspaceError(
                    f"{store}: cannot be made: {error.strerror or error}", "Free some space, or choose another folder."
                ) from error
        fresh = not (store / TREE).exists()
        found = cls(folder, store, readonly=readonly)
        if (scan or fresh) and not readonly:
            with found._ending_on_error():
                found.scan()
        return found

    @classmethod
    def _viewing(cls, folder: Path) -> Workspace:
        """A folder that cannot be written and has no tree yet: the tree is kept elsewhere until it is closed."""
        place = tempfile.TemporaryDirectory(prefix="onnxprune-")
        found = cls(folder, Path(place.name), readonly=True, temporary=True)
        found._closing.pop_all()
        found._closing.callback(place.cleanup)
        found._closing.callback(found.database.close)
        with found._ending_on_error():
            found.scan()
        return found

    def __enter__(self) -> Workspace:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the database."""
        self._closing.close()

    def scan(self) -> Change:
        """Look again for models and data that came, changed or went."""
        self.change = self.files.scan()
        return self.change

    # -- reading -----------------------------------------------------------------------------------------------------

    def find(self, text: str | int) -> Step:
        """A step by its number or its name, one in the trash only where no other has the name.

        Raises StepNotFound, and OptionError for a name that several have.
        """
        if isinstance(text, int) or text.strip().lstrip("#").isdigit():
            return self.steps.get(int(str(text).strip().lstrip("#")))
        named = self.steps.named(text)
        found = [step for step in named if not step.trashed] or named
        if len(found) > 1:
            numbers = ", ".join(str(step.number) for step in found)
            raise OptionError(f"{len(found)} steps have the name {text!r}: {numbers}", "Give the number.")
        if not found:
            raise StepNotFound(f"there is no step {text!r}", "`onnxprune ws tree` lists the steps.")
        return found[0]

    def model(self, number: int) -> Model:
        """The model of a step. Raises StoreDamaged where its blob is not what was written; the step is marked then."""
        step = self.steps.get(number)
        with self.marking(step):
            weights = self.steps.documents(number).get("weights")
            if weights is not None:
                self.blobs.check(weights)
            return replace(load(self.blobs.check(step.model)), path=None)

    def plan(self, number: int) -> Plan | None:
        """The plan by which a step was made of its parent; None where there is none. Raises StoreDamaged."""
        step = self.steps.get(number)
        if step.plan is None:
            return None
        with self.marking(step):
            return Plan.from_json(self.blobs.read(step.plan).decode("utf-8", "replace"), f"plan of step {number}")

    def document(self, number: int, name: str) -> bytes | None:
        """A document of a step (see ``recording``); None where it has none of that name. Raises StoreDamaged."""
        blob = self.steps.documents(number).get(name)
        if blob is None:
            return None
        with self.marking(self.steps.get(number)):
            return self.blobs.read(blob)

    def dataset(self, number: int, name: str | None = None) -> Path | None:
        """The data for a step: those of that ``name``, its own, or the first by name that fit; None without any.

        Raises DataError or WorkspaceError for a name that is not one of data in the folder.
        """
        path = self.dataset_name(number, name)
        return None if path is None else inside(self.folder, path)

    def dataset_name(self, number: int, name: str | None = None) -> str | None:
        """The same as a path relative to the workspace."""
        if name is not None:
            return self.data_named(name)
        path, there = self.steps.path(number), self._data()
        own = next((step.dataset for step in reversed(path) if step.dataset is not None), None)
        if own in there:
            return own
        fitting = self.files.fitting(path[0].model_hash)
        return fitting[0] if fitting else None

    def data_named(self, name: str) -> str:
        """The data of the folder with this path, file name or stem. Raises WorkspaceError where there are none."""
        inside(self.folder, name)
        there = self._data()
        match = [path for path in there if name in (path, Path(path).name, Path(path).stem)]
        if not match:
            hint = f"There are: {', '.join(there)}." if there else "Put them into data/."
            raise WorkspaceError(f"there are no data {name!r} in {self.folder}", hint)
        return match[0]

    def _data(self) -> list[str]:
        return [entry.path for entry in self.files.listed("data") if not entry.problem]

    # -- recording ---------------------------------------------------------------------------------------------------

    def add(self, new: NewStep, *, applied: int = 0) -> Step:
        """Record a step whose blobs are written, in one transaction.

        ``applied``: the number of the last entry of its parent's draft that it carries out; those up to it are gone
        then. Raises StepNotFound, StoreDamaged for a blob that is not there, WorkspaceError where nothing may be
        recorded.
        """
        self.check_writable()
        if self._tags is not None:
            tags = {name: self.blobs.put(content) for name, content in self._tags(new).items()}
            new = replace(new, documents={**new.documents, **tags})
        if new.dataset is not None:
            inside(self.folder, new.dataset)
        for blob in (new.model, new.plan, *new.documents.values()):
            if blob is not None and not self.blobs.path(blob).exists():
                raise StoreDamaged(f"{self.blobs.path(blob)} is not there", "Write the blob before the step.")
        with self.database.writing() as connection:
            number = self.steps.insert(connection, new)
            if applied:
                connection.execute("DELETE FROM entry WHERE step = ? AND number <= ?", (new.parent, applied))
        return self.steps.get(number)

    @contextmanager
    def tagging(self, tags: Callable[[NewStep], Mapping[str, bytes]]) -> Iterator[None]:
        """While the block runs, what is recorded here gets these documents as well, in the step's own transaction."""
        before, self._tags = self._tags, tags
        try:
            yield
        finally:
            self._tags = before

    def measure(self, number: int, progress: Progress | None = None, **running: Any) -> Step:
        """Measure a step that was not measured yet on its data; where that cannot be, `problem` tells why.

        What was measured before and cannot be read any more is measured again.
        """
        step = self.steps.get(number)
        source, lost = self.dataset(number), self.lost(number)
        if source is None or (QUALITY in self.steps.documents(number) and not lost):
            return step
        self.check_writable()
        for blob in lost.values():
            self.blobs.path(blob).unlink(missing_ok=True)  # what is there in its place is not it
        original = None
        if step.number != step.root and open_dataset(source).labels is None:
            original = self.model(step.root)
        found = measure(self.blobs, self.model(number), source, original=original, progress=progress, **running)
        step = self.steps.measured(number, found.metrics, found.documents, [*lost, "problem"])
        if lost:
            self._look(step, {})
        return self.steps.get(number)

    def lost(self, number: int) -> dict[str, str]:
        """What was measured of a step and cannot be read any more: document -> blob."""
        documents = self.steps.documents(number)
        return {name: documents[name] for name in MEASURED if name in documents and self._reason(documents[name], {})}

    def problem(self, number: int) -> str:
        """Why a step has no metrics, "" where it has, or where nobody tried."""
        text = self.document(number, "problem")
        if text is None or QUALITY in self.steps.documents(number):
            return ""
        return str(json.loads(text)["message"])

    def check_writable(self) -> None:
        """Raise WorkspaceError where nothing may be recorded."""
        if self.readonly:
            raise WorkspaceError(
                f"{self.folder} was opened for viewing", "Open a workspace in a folder that can be written."
            )

    # -- keeping house -----------------------------------------------------------------------------------------------

    def export(self, number: int, folder: str | Path) -> tuple[Path, ...]:
        """Write a step into a folder: ``model.onnx``, ``plan.json`` where it has one, and ``report.json``.

        Returns the files. Raises ModelSaveError, WorkspaceError, StoreDamaged.
        """
        target, model, plan = Path(folder), self.model(number), self.plan(number)
        try:
            target.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise WorkspaceError(
                f"{target}: cannot be made: {error.strerror or error}", "Name another folder."
            ) from error
        files = [target / "model.onnx"]
        save(model, files[0])
        if plan is not None:
            files.append(target / "plan.json")
            plan.save(files[-1])
        files.append(target / "report.json")
        try:
            with replacing(files[-1]) as file:
                file.write(self.report(number))
        except OSError as error:
            raise WorkspaceError(f"{files[-1]}: cannot be written: {error}", "Name another folder.") from error
        return tuple(files)

    def report(self, number: int) -> bytes:
        """Everything that is known about a step, with the command lines from the root on, as JSON."""
        step = self.steps.get(number)
        found = {
            **{key: value for key, value in vars(step).items() if key not in ("trashed", "damaged", "pinned")},
            "classes": [
                {"metric": name, "class": cls, "value": value}
                for (name, cls), value in self.steps.class_metrics(step.number).items()
            ],
            "path": [{"step": s.number, "kind": s.kind, "command": s.command} for s in self.steps.path(step.number)],
        }
        return dumps(found)

    def gc(self, grace: float = GRACE) -> tuple[int, int]:
        """Take away blobs that no step names and that are older than ``grace`` seconds; how many, and their bytes.

        With them go the checkpoints of trainings that nobody came back to for a week.
        """
        self.check_writable()
        blobs, checkpoints = self.blobs.sweep(self.steps.blobs(), grace), sweep(self.store)
        return blobs[0] + checkpoints[0], blobs[1] + checkpoints[1]

    def check(self) -> list[Damage]:
        """Read the database and every blob; steps with damaged ones are marked, healed ones are marked no longer.

        Raises StoreDamaged for a damaged database.
        """
        self.database.check()
        known: dict[str, str] = {}
        found = []
        for step in self.steps.all(trashed=True):
            reason = self._look(step, known)
            if reason:
                found.append(Damage(step.number, reason))
        return found

    def _look(self, step: Step, known: dict[str, str]) -> str:
        """What is wrong with the blobs of a step, "" for nothing; it is marked so."""
        blobs = (step.model, step.plan, *self.steps.documents(step.number).values())
        reasons = [self._reason(blob, known) for blob in blobs if blob is not None]
        reason = next((text for text in reasons if text), "")
        if reason != step.damaged and not self.readonly:
            self.steps.mark_damaged(step.number, reason)
        return reason

    def _reason(self, blob: str, known: dict[str, str]) -> str:
        if blob not in known:
            try:
                self.blobs.check(blob)
                known[blob] = ""
            except (StoreDamaged, WorkspaceError) as error:
                known[blob] = error.message
        return known[blob]

    @contextmanager
    def marking(self, step: Step) -> Iterator[None]:
        """Mark the step where a blob of it turns out to be damaged."""
        try:
            yield
        except (StoreDamaged, PlanError) as error:
            if not self.readonly:
                self.steps.mark_damaged(step.number, error.message)
            raise

    @contextmanager
    def _ending_on_error(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self.close()
            raise


def _writable(folder: Path) -> bool:
    return os.access(folder, os.W_OK | os.X_OK)
