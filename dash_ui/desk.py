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
from onnxprune.errors import OptionError
from onnxprune.experiment import analyse
from onnxprune.workspace.edits import check_edit
from onnxprune.workspace.values import Step
from onnxprune.workspace.workspace import Workspace

__all__ = ["Desk", "Kept", "Stale"]

T = TypeVar("T")
KEPT = 32


class Stale(OptionError):
    """Somebody else changed what this change was made for; nothing was applied."""


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

    @contextmanager
    def workspace(self, *, scan: bool = False) -> Iterator[Workspace]:
        """The workspace, for one request."""
        with Workspace.open(self.folder, scan=scan) as opened:
            yield opened

    def analysis(self, workspace: Workspace, step: Step) -> tuple[Model, Coupling]:
        """The model of a step with its functions inlined, and its groups. Raises ModelError, StoreDamaged."""
        return self.kept.get(("analysis", step.model_hash), lambda: analyse(workspace.model(step.number)))

    def revisions(self) -> dict[str, str]:
        """A text for the tree and one for the jobs, each another one when something changed."""
        with self.workspace() as workspace:
            rows = workspace.database.rows
            tree = rows("SELECT step, name, note, pinned, trashed, damaged, length(metrics) FROM label ORDER BY step")
            jobs = rows("SELECT number, state, stage, done, total, cancel FROM job ORDER BY number DESC LIMIT 200")
        return {"tree": _digest(map(tuple, tree)), "jobs": _digest(map(tuple, jobs))}

    def draft_revision(self, step: int) -> str:
        """A text that is another one when the draft of a step changed."""
        with self.workspace() as workspace:
            return _digest((entry.number, entry.undone) for entry in workspace.drafts.entries(step))

    def edit(self, step: int, edit: dict[str, Any], revision: str | None) -> str:
        """Add an entry to a draft; returns its new revision. ``revision``: of the draft that the person saw.

        Raises Stale where that is no longer the draft, OptionError for what is no edit.
        """
        check_edit(edit)
        with self.workspace() as workspace:
            if revision is not None and revision != self.draft_revision(step):
                raise Stale("the draft was changed elsewhere", "Look at it as it is now, and try again.")
            workspace.drafts.add(step, edit)
        return self.draft_revision(step)


def _digest(rows: Any) -> str:
    return hashlib.sha256(json.dumps(list(rows), default=str).encode()).hexdigest()[:16]
