"""What jobs do for guidance: they measure, keep what they found, and make no step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from onnxprune.guidance.scores import measure
from onnxprune.workspace.recording import Progress
from onnxprune.workspace.values import Cancelled
from onnxprune.workspace.workspace import Workspace

__all__ = ["activity", "instability", "scan", "score"]

Stop = Callable[[], bool]


def score(
    workspace: Workspace, number: int, options: Mapping[str, Any], progress: Progress, cancelled: Stop
) -> None:
    """Scores of a criterion; the options are those of `scores.kept_scores`."""
    measure(workspace, number, "score", options, _ending(progress, cancelled))


def instability(
    workspace: Workspace, number: int, options: Mapping[str, Any], progress: Progress, cancelled: Stop
) -> None:
    """How far ranks spread; the options are those of `scores.kept_instability`."""
    measure(workspace, number, "instability", options, _ending(progress, cancelled))


def scan(
    workspace: Workspace, number: int, options: Mapping[str, Any], progress: Progress, cancelled: Stop
) -> None:
    """A sensitivity scan; the options are those of `scores.kept_scan`."""
    measure(workspace, number, "scan", options, _ending(progress, cancelled))


def activity(
    workspace: Workspace, number: int, options: Mapping[str, Any], progress: Progress, cancelled: Stop
) -> None:
    """What units do on data; the options are those of `scores.kept_activity`."""
    measure(workspace, number, "activity", options, _ending(progress, cancelled))


def _ending(progress: Progress, cancelled: Stop) -> Progress:
    """Progress that ends the work when it is to end."""

    def report(stage: str, done: int = 0, total: int = 0) -> None:
        if cancelled():
            raise Cancelled("it was cancelled")
        progress(stage, done, total)

    return report
