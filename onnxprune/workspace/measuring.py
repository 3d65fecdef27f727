"""Actions that measure a step and record none: ``measure`` its metrics on data, ``time-layers`` its layers.

``measure`` measures what was not measured when the step was made, or was lost since.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from onnxprune.errors import DataError, OptionError, WorkspaceError
from onnxprune.experiment import analyse
from onnxprune.latency_table import latency_table
from onnxprune.workspace.recording import Progress, ending
from onnxprune.workspace.workspace import Workspace

__all__ = ["measure", "time_layers"]

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
    given = _given("measure", options)
    if workspace.dataset_name(number) is None:
        raise WorkspaceError(
            f"there are no data to measure step {number} on", "Put data that fit the model into data/."
        )
    workspace.measure(number, progress, **given)
    problem = workspace.problem(number)
    if problem:
        raise DataError(
            f"step {number} cannot be measured on {workspace.dataset_name(number)}: {problem}",
            "Mend the data, or put others that fit the model into data/, and measure again.",
        )


def time_layers(
    workspace: Workspace,
    number: int,
    options: Mapping[str, Any],
    progress: Progress,
    cancelled: Callable[[], bool],
) -> None:
    """Time each layer of a step's model on this machine; the times are kept for it (`latency_table.known_rates`).

    Options: ``provider``, ``threads``. Raises OptionError for others, ModelError, Cancelled.
    """
    given = _given("time-layers", options)

    model, coupling = analyse(workspace.model(number), **given)
    latency_table(model, coupling, progress=ending(progress, cancelled), **given)


def _given(action: str, options: Mapping[str, Any]) -> dict[str, Any]:
    unknown = [name for name in options if name not in OPTIONS]
    if unknown:
        raise OptionError(f"{action} has no option {unknown[0]!r}", f"It has: {', '.join(OPTIONS)}.")
    return {name: value for name, value in options.items() if value is not None}
