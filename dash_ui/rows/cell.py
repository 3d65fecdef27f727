"""What there is to say of one cell of a mask, and since which step it is zero."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dash_ui.desk import Desk
from dash_ui.rows.mask import AUTO, HAND, SINGLE, ZERO, Mask, kept, role_of
from dash_ui.rows.units import choices, units_of
from onnxprune import Coupling
from onnxprune.cuts import cut_array, cuts_of
from onnxprune.drawing import singular
from onnxprune.masks import Matrix
from onnxprune.workspace.edits import edit_words
from onnxprune.workspace.values import Entry, Step
from onnxprune.workspace.workspace import Workspace

__all__ = ["cell_state", "cell_words", "zero_since"]


FARTHEST = 254  # steps that are told apart


def cell_words(
    desk: Desk, workspace: Workspace, step: Step, mask: Mask, row: int, column: int, criterion: str | None
) -> list[str]:
    """Lines: where it is, its value, the units that it belongs to with their scores, and what removed it."""
    matrix, code = mask.layer.matrix, int(mask.codes[row, column])
    _, coupling = desk.analysis(workspace, step)
    where = ", ".join(filter(None, (matrix.rows.words(row), matrix.columns.words(column)))) or "the only number"
    units = _units(matrix, coupling, row, column)
    scores = _scores(desk, workspace, step, coupling, criterion) if units else {}
    entries = [entry for entry in workspace.drafts.entries(step.number) if not entry.undone]
    lines = [where, f"value {float(mask.layer.values[row, column]):.5g}"]
    for role, group, unit in units:
        found = coupling.groups[group]
        score = scores.get(found.name)
        word = f"{role} {singular(found.kind)} {unit} of {found.name}"
        lines.append(word if score is None else f"{word}: {criterion or 'l2'} {score[unit]:.4g}")
    lines += _zero(desk, workspace, step, mask, row, column) if code & ZERO else []
    if code & SINGLE:
        place = int(matrix.row_place[row] + matrix.column_place[column])
        value = abs(float(mask.layer.values[row, column]))
        entry = next((e for e in reversed(entries) if _takes(e.edit, matrix.name, place, value)), None)
        lines.append(_told(entry, "brushed"))
    for _, group, unit in units:
        name = coupling.groups[group].name
        if mask.state.gone[name][unit]:
            lines.append(_unit(mask, entries, name, unit))
    return lines


def cell_state(mask: Mask, row: int, column: int) -> str:
    """In a word or two, what becomes of it."""
    code = int(mask.codes[row, column])
    if code & (AUTO | HAND | SINGLE):
        return "goes by hand" if code & (HAND | SINGLE) else "goes by score"
    return "zero already" if code & ZERO else "stays"


def _units(matrix: Matrix, coupling: Coupling, row: int, column: int) -> list[tuple[str, int, int]]:
    """Words (makes, reads) with the numbers of the group and the unit."""
    found = []
    for side, own, other in ((matrix.rows, row, column), (matrix.columns, column, row)):
        block = side.block[other]
        group, unit = int(side.group[block, own]), int(side.unit[block, own])
        if group >= 0:
            found.append((role_of(matrix, coupling, group, side), group, unit))
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

    The newest first. A weight that a plan made smaller is followed through the removal. None where nothing is zero.
    """
    key = (step.number, mask.layer.matrix.tensor)
    return kept(desk, "since", 3).get(key, lambda: _since(desk, workspace, step, mask))


def _since(desk: Desk, workspace: Workspace, step: Step, mask: Mask) -> tuple[list[int], NDArray[np.uint8]] | None:
    matrix = mask.layer.matrix
    if not (mask.layer.values == 0).any():
        return None
    steps: list[int] = []
    since = np.zeros((0,), np.uint8)  # in the weight as it is stored: place among the steps + 1, 0 for what is not zero
    before: Step | None = None
    for one in workspace.steps.path(step.number):
        weight = workspace.model(one.number).weights.get(matrix.name)
        if weight is None:
            before = None
            continue
        if before is not None and tuple(weight.shape) != since.shape:
            since = _cut(desk, workspace, before, one, matrix, since)
        if before is None or tuple(weight.shape) != since.shape or len(steps) == FARTHEST:
            steps, since = [], np.zeros(weight.shape, np.uint8)
        if before is None or one.model_hash != before.model_hash or not steps:
            steps.append(one.number)
            zero = np.asarray(weight.array()) == 0
            since = np.where(zero, np.where(since > 0, since, len(steps)), 0).astype(np.uint8)
        before = one
    places = matrix.view(since)
    return steps[::-1], np.where(places > 0, len(steps) - places, 0).astype(np.uint8)


def _cut(
    desk: Desk, workspace: Workspace, before: Step, after: Step, matrix: Matrix, array: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """Without what the plan of ``after`` took out of the weight; as it is where no plan tells."""
    plan = workspace.plan(after.number)
    if plan is None:
        return array
    _, coupling = desk.analysis(workspace, before)
    known = {name: units for name, units in plan.units.items() if name in coupling.by_name}
    return cut_array(array, cuts_of(coupling, known).get(matrix.tensor, {}))
