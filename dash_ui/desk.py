"""How views reach the workspace, and what is kept between two requests.

A request is answered by any of several threads, so that each opens the workspace for itself (a millisecond); what takes
long (the analysis of a model, scores) is kept here, by the hash of the model, and computed once even when several
requests want it at the same time.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from onnxprune import Coupling, Model
from onnxprune.errors import StaleDraft as Stale
from onnxprune.experiment import analyse
from onnxprune.workspace.database import Database
from onnxprune.workspace.edits import check_edit
from onnxprune.workspace.steps import Drafts
from onnxprune.workspace.values import Step
from onnxprune.workspace.workspace import Workspace

__all__ = ["Desk", "Kept", "Stale"]

T = TypeVar("T")
KEPT = 128


class Kept:
    """The last ``size`` results of slow functions; each is computed once, and others wait for it."""

    def __init__(self, size: int = KEPT) -> None:
        self._size, self._lock = size, threading.Lock()
        self._found: OrderedDict[Hashable, tuple[threading.Lock, list[Any]]] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """The result for this key. What ``make`` raises is raised, and not kept."""
        with self._lock:
            lock, cell = self._found.setdefault(key, (threading.Lock(), []))
            self._found.move_to_end(key)
            while len(self._found) > self._size:
                self._found.popitem(last=False)
        with lock:
            if not cell:
                cell.append(make())
            found: T = cell[0]
            return found


class Desk:
    """One folder, shown by one server. ``kept``: results by (what, hash of the model, ...)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.kept = Kept()
        self._viewing: Workspace | None = None
        self._watch: Database | None = None
        self._watching, self._seen = threading.Lock(), (-1, {"tree": "", "jobs": "", "ended": ""})

    def open(self) -> None:
        """Look into the folder for the first time. Raises what `Workspace.open` does."""
        opened = Workspace.open(self.folder)
        if opened.readonly and opened.store.parent != opened.folder:
            self._viewing = opened  # its tree lies elsewhere, and goes when it is closed
        else:
            opened.close()

    def close(self) -> None:
        """Let go of what is held open between requests."""
        with self._watching:
            if self._watch is not None:
                self._watch.close()
                self._watch = None
        if self._viewing is not None:
            self._viewing.close()
            self._viewing = None

    @contextmanager
    def workspace(self, *, scan: bool = False) -> Iterator[Workspace]:
        """The workspace, for one request."""
        if self._viewing is not None:
            opened = Workspace(self._viewing.folder, self._viewing.store, readonly=True, temporary=True)
        else:
            opened = Workspace.open(self.folder, scan=scan)
        with opened:
            yield opened

    def analysis(self, workspace: Workspace, step: Step) -> tuple[Model, Coupling]:
        """The model of a step with its functions inlined, and its groups. Raises ModelError, StoreDamaged."""
        return self.kept.get(("analysis", step.model_hash), lambda: analyse(workspace.model(step.number)))

    def revisions(self) -> dict[str, str]:
        """Texts for the tree, for the jobs, and for what came of them; each another one when something changed."""
        return self.now(None)[0]

    def draft_revision(self, step: int) -> str:
        """A text that is another one when the draft of a step changed."""
        return self.now(step)[1] or ""

    def now(self, step: int | None) -> tuple[dict[str, str], str | None]:
        """The `revisions`, and that of the draft of a step.

        Every open page asks once a second, so that a connection is kept for it, and the tree is read again only when
        somebody has written since.
        """
        with self._watching:
            if self._watch is None or not self._watch.path.exists():
                self._watch, self._seen = self._connect(), (-1, self._seen[1])
            changes = self._watch.changes
            if changes != self._seen[0]:
                self._seen = changes, _revisions(self._watch)
            return self._seen[1], None if step is None else Drafts(self._watch).revision(step)

    def _connect(self) -> Database:
        with self.workspace() as workspace:
            readonly = workspace.readonly and self._viewing is None
            return Database(workspace.database.path, readonly=readonly, shared=True)

    def edit(self, step: int, edit: dict[str, Any], revision: str | None) -> str:
        """Add an entry to a draft; returns its new revision. ``revision``: of the draft that the person saw.

        Raises Stale where that is no longer the draft, OptionError for what is no edit.
        """
        check_edit(edit)
        with self.workspace() as workspace:
            workspace.check_writable()
            workspace.drafts.add(step, edit, revision)
            return workspace.drafts.revision(step)


def _revisions(database: Database) -> dict[str, str]:
    tree = database.rows(
        "SELECT step, name, note, pinned, trashed, damaged, length(metrics), "
        "(SELECT count(*) FROM document WHERE document.step = label.step) FROM label ORDER BY step"
    )
    jobs = database.rows(
        "SELECT number, state, stage, done, total, cancel, result FROM job ORDER BY number DESC LIMIT 200"
    )
    files = database.rows("SELECT path, hash, problem FROM file ORDER BY path")
    ended = [(job["number"], job["state"]) for job in jobs] + _measured(database)
    return {
        "tree": _digest([*map(tuple, tree), *map(tuple, files)]), "jobs": _digest(map(tuple, jobs)),
        "ended": _digest(ended),
    }  # fmt: skip


def _measured(database: Database) -> list[tuple[str, int]]:
    """How much is kept of what was measured; a folder that may only be read may be of before there was any."""
    there = database.rows("SELECT name FROM sqlite_master WHERE type = 'table' AND name IN ('kept', 'preview')")
    queries = {"kept": "SELECT count(*) AS found FROM kept", "preview": "SELECT count(*) AS found FROM preview"}
    rows = ((row["name"], database.row(queries[row["name"]])) for row in there)
    return [(name, row["found"]) for name, row in rows if row is not None]


def _digest(rows: Any) -> str:
    return hashlib.sha256(json.dumps(list(rows), default=str).encode()).hexdigest()[:16]
