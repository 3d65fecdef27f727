"""The action ``measure``: what was not measured of a step when it was made, or was lost since; it records no step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from onnxprune.errors import DataError, OptionError, WorkspaceError
from onnxprune.workspace.recording import Progress
from onnxprune.workspace.workspace import Workspace

__all__ = ["measure"]

OPTIONS = ("provider", "threads")


def measure(
    workspace: Workspace,
    number: int,
    options: Mapping[str, Any],
    progress: Progress,
    cancelled: Callable[[], bool],  # noqa: ARG001 - one signature; `progress` ends what is to end
) -> None:
    """Measure a step on its data; a step that was measured stays as it is.

    Options: ``provider``, ``threads``. Raises OptionError for others, WorkspaceError where there are no data for it,
    DataError where it cannot be measured on them.
    """
    unknown = [name for name in options if name not in OPTIONS]
    if unknown:
        raise OptionError(f"measure has no option {unknown[0]!r}", f"It has: {', '.join(OPTIONS)}.")
    if workspace.dataset_name(number) is None:
        raise WorkspaceError(
            f"there are no data to measure step {number} on", "Put data that fit the model into data/."
        )
    given = {name: value for name, value in options.items() if value is not None}
    workspace.measure(number, progress, **given)
    problem = workspace.problem(number)
    if problem:
        raise DataError(
            f"step {number} cannot be measured on {workspace.dataset_name(number)}: {problem}",
            "Mend the data, or put others that fit the model into data/, and measure again.",
        )
