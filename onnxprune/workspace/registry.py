"""All actions that a job may name: those of this package, and those of packages that build on it.

The latter are named by text and loaded when a job needs them, because this package imports nothing that builds on it:
``"package.module:function"``. An action is called as those in `actions` are, and returns the step that came of it, or
None where nothing is to be recorded: the job is done then without a result.

An action in MANY records as many steps as it likes, each in a transaction of its own: the job goes on after each, and
its result is the newest until the action returns the one that counts. It is given the option ``run``, a key that is
the same when the job is tried again, so that it can go on after the last step that it recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import Any

from onnxprune.workspace.actions import ACTIONS
from onnxprune.workspace.recording import Progress
from onnxprune.workspace.values import Step
from onnxprune.workspace.workspace import Workspace

__all__ = ["ALL_ACTIONS", "EXTRA", "MANY", "JobAction"]

JobAction = Callable[[Workspace, int, Mapping[str, Any], Progress, Callable[[], bool]], Step | None]

EXTRA: Mapping[str, str] = {
    "auto": "onnxprune.automatic.action:auto",
    "repeat": "onnxprune.automatic.repeats:repeat",
    "score": "onnxprune.guidance.action:score",
    "instability": "onnxprune.guidance.action:instability",
    "scan": "onnxprune.guidance.action:scan",
    "activity": "onnxprune.guidance.action:activity",
    "latency": "onnxprune.guidance.action:latency",
    "preview": "onnxprune.guidance.action:preview",
    "measure": "onnxprune.workspace.measuring:measure",
    "time-layers": "onnxprune.workspace.measuring:time_layers",
}
MANY = frozenset({"auto", "repeat"})


class _All(Mapping[str, JobAction]):
    """The actions of both tables; one of EXTRA is imported when it is looked up."""

    def __getitem__(self, name: str) -> JobAction:
        if name in ACTIONS:
            return ACTIONS[name]
        module, _, function = EXTRA[name].partition(":")
        found: JobAction = getattr(import_module(module), function)
        return found

    def __iter__(self) -> Iterator[str]:
        yield from ACTIONS
        yield from EXTRA

    def __len__(self) -> int:
        return len(ACTIONS) + len(EXTRA)


ALL_ACTIONS: Mapping[str, JobAction] = _All()
