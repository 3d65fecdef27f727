"""The job ``auto``: a run, as `registry` calls it."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from onnxprune.automatic.run import Run
from onnxprune.automatic.settings import settings_of
from onnxprune.automatic.strategies import carry_out
from onnxprune.workspace.recording import Progress
from onnxprune.workspace.values import Step
from onnxprune.workspace.workspace import Workspace

__all__ = ["auto", "new_run"]


def new_run() -> str:
    """A key for a run."""
    return uuid.uuid4().hex[:8]


def auto(
    workspace: Workspace,
    number: int,
    options: Mapping[str, Any],
    progress: Progress,
    cancelled: Callable[[], bool] = lambda: False,
) -> Step:
    """Prune a step for as long as the result holds what is required; returns the smallest that does.

    That is the step itself where nothing smaller holds. ``options``: the fields of `settings.AutoSettings`, as JSON
    values. With the ``run`` of an earlier call and otherwise the same options it goes on where that one broke off.
    Raises OptionError, NothingToPrune, Cancelled, and whatever pruning and fine-tuning raise.
    """
    settings = settings_of(options)
    if not settings.run:
        settings = replace(settings, run=new_run())
    best = carry_out(Run(workspace, workspace.steps.get(number), settings, progress, cancelled)).step
    if best.number != number:
        if settings.name:
            best = workspace.steps.describe(best.number, name=settings.name)
        if settings.pin:
            best = workspace.steps.pin(best.number)
    return best
