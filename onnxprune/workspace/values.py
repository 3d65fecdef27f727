"""What a workspace is made of, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["KINDS", "PROMISES", "Cancelled", "Entry", "NewStep", "Step"]

KINDS = ("original", "prune", "edit", "recover", "fine-tune", "import")
PROMISES = ("identical", "close")


class Cancelled(Exception):
    """Somebody wanted the work to end; nothing of it was recorded."""


@dataclass(frozen=True)
class NewStep:
    """A step before it has a number.

    ``parent``: number of the step that it was made of, None for an original. ``kind``: one of KINDS. ``model`` and
    ``plan``: blobs. ``model_hash``: of what the model computes (`Model.hash`). ``command``: the command line that makes
    it again. ``promise``: what that gives: an "identical" model, or one whose metrics are "close". ``versions``: of the
    libraries by name. ``metrics``: (name, class or "") -> value. ``documents``: name -> blob (history, predictions,
    confusion, report, log).
    """

    kind: str
    model: str
    model_hash: str
    parent: int | None = None
    plan: str | None = None
    dataset: str | None = None
    seed: int | None = None
    command: tuple[str, ...] = ()
    promise: str = "identical"
    seconds: float = 0.0
    versions: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[tuple[str, str], float] = field(default_factory=dict)
    documents: Mapping[str, str] = field(default_factory=dict)
    name: str = ""


@dataclass(frozen=True)
class Step:
    """A node of the tree. All but the last five fields never change.

    ``number``: given in the order of making, never used again. ``root``: the original that it descends from.
    ``created``: seconds since 1970. ``metrics``: those of the whole model, not of classes. ``trashed``: deleted, and
    may come back. ``damaged``: what is wrong with its blobs, "" for nothing.
    """

    number: int
    parent: int | None
    root: int
    kind: str
    created: float
    seconds: float
    model: str
    model_hash: str
    plan: str | None
    dataset: str | None
    seed: int | None
    command: tuple[str, ...]
    promise: str
    versions: Mapping[str, str]
    metrics: Mapping[str, float]
    name: str = ""
    note: str = ""
    pinned: bool = False
    trashed: bool = False
    damaged: str = ""


@dataclass(frozen=True)
class Entry:
    """One edit of a draft. ``edit``: what it does, as JSON values. ``undone``: it may be done again."""

    number: int
    step: int
    place: int
    created: float
    edit: Mapping[str, Any]
    undone: bool = False
