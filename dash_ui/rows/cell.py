"""What there is to say of one cell of a mask, and since which step it is zero."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dash_ui.desk import Desk
from dash_ui.rows.mask import SINGLE, ZERO, Mask, kept
from dash_ui.rows.units import choices, units_of
from onnxprune import Coupling
from onnxprune.drawing import singular
from onnxprune.masks import Matrix
from onnxprune.workspace.edits import edit_words
from onnxprune.workspace.values import Entry, Step
from onnxprune.workspace.workspace import Workspace

__all__ = ["cell_words", "zero_since"]


def cell_words(
    desk: Desk, workspace: Workspace, step: Step, mask: Mask, row: int, column: int, criterion: str | None
) -> list[str]:
    """Lines: where it is, its value, the units that it belongs to with their scores, and what removed it."""
    matrix, code = mask.layer.matrix, int(mask.codes[row, column])
    _, coupling = desk.analysis(workspace, step)
    where = ", ".join(filter(None, (matrix.rows.words(row), matrix.columns.words(column)))) or "the only number"
    units = _units(matrix, row, column)
    scores = _scores(desk, workspace, step, coupling, criterion) if units else {}
    entries = [entry for entry in workspace.drafts.entries(step.number) if not entry.undone]
    lines = [where, f"value {float(mask.layer.values[row, column]):.5g}"]
    for side, (group, unit) in units.items():
        found = coupling.groups[group]
        score = scores.get(found.name)
        word = f"{side} {singular(found.kind)} {unit} of {found.name}"
        lines.append(word if score is None else f"{word}: {criterion or 'l2'} {score[unit]:.4g}")
    lines += _zero(desk, workspace, step, mask, row, column) if code & ZERO else []
    if code & SINGLE:
        place = int(matrix.row_place[row] + matrix.column_place[column])
        value = abs(float(mask.layer.values[row, column]))
        entry = next((e for e in reversed(entries) if _takes(e.edit, matrix.name, place, value)), None)
        lines.append(_told(entry, "brushed"))
    for group, unit in units.values():
        name = coupling.groups[group].name
        if mask.state.gone[name][unit]:
            lines.append(_unit(mask, entries, name, unit))
    return lines


def _units(matrix: Matrix, row: int, column: int) -> dict[str, tuple[int, int]]:
    """By word (makes, reads): numbers of the group and the unit."""
    found = {}
    for word, side, own, other in (("makes", matrix.rows, row, column), ("reads", matrix.columns, column, row)):
        block = side.block[other]
        if side.group[block, own] >= 0:
            found[word] = int(side.group[block, own]), int(side.unit[block, own])
    return found


def _scores(
    desk: Desk, workspace: Workspace, step: Step, coupling: Coupling, criterion: str | None
) -> Mapping[str, NDArray[np.float64]]:
    name = criterion or "l2"
    if name not in choices(coupling, data=True):
        return {}
    return units_of(desk, workspace, step, name, "score").scores


def _zero(desk: Desk, workspace: Workspace, step: Step, mask: Mask, row: int, column: int) -> list[str]:
    since = zero_since(desk, workspace, step, mask)
    if since is None:
        return []
    number = since[0][since[1][row, column]]
    root = workspace.steps.get(number).parent is None
    return ["zero in the original" if root else f"zero since step #{number}"]


def _unit(mask: Mask, entries: Sequence[Entry], name: str, unit: int) -> str:
    """What takes a unit."""
    if mask.state.by_hand[name][unit]:
        mine = (e for e in reversed(entries) if e.edit.get("group") == name and unit in e.edit.get("remove", ()))
        return _told(next(mine, None), f"{name} by hand")
    if mask.state.added[name][unit]:
        return f"draft: goes along in {name}, so that all blocks lose equally many"
    scored = (e for e in reversed(entries) if "criterion" in e.edit and e.edit.get("group", name) == name)
    return _told(next(scored, None), f"{name} by score")


def _told(entry: Entry | None, otherwise: str) -> str:
    return f"draft: {otherwise}" if entry is None else f"draft, entry {entry.place}: {edit_words(entry.edit)}"


def _takes(edit: Mapping[str, Any], name: str, place: int, value: float) -> bool:
    if edit.get("weight") != name or "remove" not in edit:
        return False
    if place in edit["remove"] or any(start <= place < stop for start, stop in edit.get("ranges") or ()):
        return True
    if edit.get("magnitude") is None:
        return False
    low, high = edit["magnitude"]
    return bool(low <= value and (high is None or value < high))


def zero_since(desk: Desk, workspace: Workspace, step: Step, mask: Mask) -> tuple[list[int], NDArray[np.uint8]] | None:
    """Numbers of steps, and for every cell of the matrix which of them was the first after which it stayed zero.

    Steps in which the weight had another shape are not looked at. None where nothing is zero.
    """
    return kept(desk, "since", 3).get((step.number, mask.layer.matrix.tensor), lambda: _since(workspace, step, mask))


def _since(workspace: Workspace, step: Step, mask: Mask) -> tuple[list[int], NDArray[np.uint8]] | None:
    matrix = mask.layer.matrix
    zero = mask.layer.values == 0
    if not zero.any():
        return None
    steps, found = [step.number], np.zeros(zero.shape, np.uint8)
    before = step.model_hash
    for ancestor in workspace.steps.path(step.number)[-2::-1]:
        weight = workspace.model(ancestor.number).weights.get(matrix.name)
        if weight is None or tuple(weight.shape) != matrix.shape or len(steps) == 255:
            break
        if ancestor.model_hash != before:
            zero = zero & (matrix.view(weight.array()) == 0)
            before = ancestor.model_hash
        steps.append(ancestor.number)
        found[zero] = len(steps) - 1
    return steps, found
