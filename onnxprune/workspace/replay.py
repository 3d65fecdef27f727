"""Steps done again: from the command line that each of them holds, in their place or at another step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from onnxprune.errors import WorkspaceError
from onnxprune.workspace.actions import ACTIONS
from onnxprune.workspace.recording import Progress, value_of
from onnxprune.workspace.values import Step
from onnxprune.workspace.workspace import Workspace

__all__ = ["Recorded", "branch", "recorded"]

ACTION_OF = {"finetune": "fine-tune"}  # of a verb of the command line, where the two differ


@dataclass(frozen=True)
class Recorded:
    """What a step's command line says: an action, the step that it was done to (0 for nothing), and its options."""

    action: str
    step: int
    options: Mapping[str, Any]


def recorded(step: Step) -> Recorded:
    """What was done to make a step. Raises WorkspaceError for an original, which was not made but found."""
    words = list(step.command)
    verb = words[2] if len(words) > 2 else ""
    action = ACTION_OF.get(verb, verb)
    if words[:2] != ["onnxprune", "ws"] or action not in ACTIONS or len(words) < 4:
        raise WorkspaceError(
            f"step {step.number} was not made by an action: {' '.join(words)}", "Name a step that was made of another."
        )
    options = dict(_option(text) for flag, text in zip(words[4::2], words[5::2], strict=True) if flag == "--set")
    return Recorded(action, int(words[3]), options)


def _option(text: str) -> tuple[str, Any]:
    name, _, value = text.partition("=")
    return name, value_of(value)


def branch(
    workspace: Workspace,
    at: int,
    like: int,
    *,
    whole: bool = False,
    options: Mapping[str, Any] | None = None,
    name: str = "",
    progress: Progress,
    cancelled: Callable[[], bool],
) -> list[Step]:
    """Do to step ``at`` what was done to make step ``like``, and with ``whole`` also what was made of that.

    ``options`` replace those of ``like``; its name is not taken over, ``name`` is given. Steps in the trash are
    followed only where ``like`` itself lies there. Done again at ``like``'s own parent, a step comes out as its promise
    says. Each step is recorded as it is made; returns them all, the first one first.

    Raises WorkspaceError for an original, and what the actions raise; what was made before stays.
    """
    first = workspace.steps.get(like)
    children: dict[int, list[Step]] = {}
    if whole:
        for step in workspace.steps.all(trashed=first.trashed):
            if step.parent is not None:
                children.setdefault(step.parent, []).append(step)
    made: list[Step] = []
    todo = [(first, at)]
    while todo:
        old, place = todo.pop(0)
        told = recorded(old)
        given = {key: value for key, value in told.options.items() if key != "name"}
        if old is first:
            given = {**given, **(options or {}), **({"name": name} if name else {})}
        new = ACTIONS[told.action](workspace, place, given, progress, cancelled)
        made.append(new)
        todo += [(child, new.number) for child in children.get(old.number, ())]
    return made
