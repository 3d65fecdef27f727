"""What goes along with units of a group (X3), as rows for a table."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from dash_ui.desk import Desk
from onnxprune.cost import CostModel, example_graph
from onnxprune.drawing import Preview, preview
from onnxprune.values import Coupling
from onnxprune.workspace.values import Step
from onnxprune.workspace.workspace import Workspace

__all__ = ["preview_of", "preview_rows"]


def preview_of(desk: Desk, workspace: Workspace, step: Step, group: str, units: Collection[int]) -> Preview:
    """What removing these units of a step's group takes. Raises GroupNotFound, OptionError."""
    _, coupling = desk.analysis(workspace, step)
    costs = desk.kept.get(("costs", step.model_hash), lambda: _costs(coupling))
    return preview(coupling, group, units, costs)


def _costs(coupling: Coupling) -> CostModel:
    return CostModel(coupling, example_graph(coupling.graph.model, dict(coupling.options.shapes)))


def preview_rows(found: Preview) -> list[dict[str, Any]]:
    """Layer, operator, role, tensor, positions and parameters of each slice."""
    return [
        {
            "layer": row.layer,
            "op": row.op,
            "role": row.role,
            "tensor": row.tensor,
            "axis": row.axis,
            "index": row.index.tolist(),
            "parameters": row.parameters,
        }
        for row in found.rows
    ]
