"""The mask of one weight of a step: its values, what is gone and why, counts, and the words for one cell.

Codes of cells are sums of ``ZERO`` (zero in the model of the step, as earlier steps left it), ``AUTO`` (a unit that a
threshold, ratio or constraint of the draft takes), ``HAND`` (a unit removed by hand) and ``SINGLE`` (a weight brushed
by itself).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dash_ui.desk import Desk, Kept
from dash_ui.rows.draft import draft_of
from onnxprune import Coupling, Model
from onnxprune.masks import Matrix, Side, matrices
from onnxprune.workspace.drafting import DraftState
from onnxprune.workspace.values import Step
from onnxprune.workspace.workspace import Workspace

__all__ = [
    "AUTO", "BINS", "HAND", "SINGLE", "ZERO", "Change", "Counts", "Layer", "Mask", "changes", "choices", "codes",
    "counts", "first_weight", "group_of", "kept", "kept_draft", "layer_of", "magnitudes", "mask_of", "matrices_of",
    "role_of",
]  # fmt: skip

ZERO, AUTO, HAND, SINGLE = 1, 2, 4, 8
BINS = 64  # of the histogram of |w|
PIECE = 1 << 16  # cells looked at in one go, so few that they stay near the processor
SAMPLED = 100_000  # values that the scale of colours looks at
Codes = NDArray[np.uint8]
Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Layer:
    """A weight and its matrix. ``values``: (rows, columns), in the order that is stored, where that is possible."""

    model_hash: str
    matrix: Matrix
    values: Floats
    tiles: Kept = field(default_factory=lambda: Kept(12))  # what was reduced for pictures

    @cached_property
    def zeros(self) -> Codes:
        """ZERO where the model of the step has a 0, and 0 elsewhere."""
        found: Codes = (self.values == 0).view(np.uint8)
        return found

    @cached_property
    def has_zeros(self) -> bool:
        """Whether the model of the step has a 0 anywhere."""
        return bool(self.zeros.any())

    @cached_property
    def scale(self) -> float:
        """The |w| that gets the strongest colour: 99.5 % of weights that are not 0 are smaller. 0 without any."""
        flat = self.values.T if self.values.flags.f_contiguous else self.values
        some = np.abs(flat.reshape(-1)[:: max(1, flat.size // SAMPLED)])
        some = some[np.isfinite(some) & (some > 0)]
        if not some.size:
            return float(np.abs(np.nan_to_num(self.values)).max(initial=0.0))
        return float(np.quantile(some, 0.995))

    @cached_property
    def largest(self) -> float:
        """The largest finite |w|."""
        low, high = float(self.values.min(initial=0.0)), float(self.values.max(initial=0.0))
        if np.isfinite(low) and np.isfinite(high):
            return max(-low, high)
        return float(np.abs(np.nan_to_num(self.values, nan=0.0, posinf=0.0, neginf=0.0)).max(initial=0.0))

    @cached_property
    def bins(self) -> Codes:
        """The number of the histogram's bin for every cell: BINS equal parts of 0 .. `largest`."""
        found = np.empty_like(self.values, np.uint8)
        values, bins = (self._flat(cells) for cells in (self.values, found))
        for start in range(0, values.size, PIECE):
            size = np.abs(values[start : start + PIECE])
            size *= BINS / (self.largest or 1.0)
            np.minimum(np.nan_to_num(size, copy=False, nan=0.0), BINS - 1, out=size)
            bins[start : start + PIECE] = size  # cuts the fraction off
        return found

    def _flat(self, cells: NDArray[Any]) -> NDArray[Any]:
        """As they lie in memory; not a copy."""
        return (cells.T if self.values.flags.f_contiguous else cells).reshape(-1)

    @cached_property
    def many(self) -> NDArray[np.int64]:
        """How many cells each bin has."""
        return self.lost(None)

    def lost(self, codes: Codes | None) -> NDArray[np.int64]:
        """How many cells of each bin have a code; all of them without ``codes``."""
        flat = self._flat(self.bins)
        if codes is None:
            return _histogram(flat, None)
        own = codes.T if self.values.flags.f_contiguous else codes
        return _histogram(flat, np.ascontiguousarray(own).reshape(-1))


def _histogram(bins: Codes, codes: Codes | None) -> NDArray[np.int64]:
    """Pillow counts bytes where a mask is not 0, in one pass and without copies."""
    if not bins.size:
        return np.zeros(BINS, np.int64)
    counted = _image(bins).histogram(None if codes is None else _image(codes))
    return np.asarray(counted[:BINS], np.int64)


def _image(cells: Codes) -> Image.Image:
    return Image.frombuffer("L", (cells.size, 1), cells, "raw", "L", 0, 1)


@dataclass(frozen=True, eq=False)
class Mask:
    """A layer with the draft of a step. ``codes``: (rows, columns). ``single``: weights can be removed one by one."""

    layer: Layer
    state: DraftState
    revision: str
    codes: Codes
    single: bool = True


@dataclass(frozen=True)
class Counts:
    """``of`` weights, ``gone`` of them zero or removed."""

    gone: int
    of: int

    @property
    def left(self) -> int:
        return self.of - self.gone


@dataclass(frozen=True)
class Change:
    """A step that made a weight smaller: what it had removed is not in the model any longer."""

    step: int
    parent: int
    before: tuple[int, ...]
    after: tuple[int, ...]


def kept(desk: Desk, what: str, size: int) -> Kept:
    """Arrays are large: they have places of their own, so that nothing else is thrown out for them."""
    return desk.kept.get(("mask", what), lambda: Kept(size))


def matrices_of(desk: Desk, workspace: Workspace, step: Step) -> dict[str, Matrix]:
    """The matrices of a step's model, by name of the constant. Raises ModelError, StoreDamaged."""
    _, coupling = desk.analysis(workspace, step)
    return desk.kept.get(("matrices", step.model_hash), lambda: matrices(coupling))


def _groups(matrix: Matrix) -> set[int]:
    found = {int(number) for side in (matrix.rows, matrix.columns) for number in np.unique(side.group)}
    return found - {-1}


def choices(found: Mapping[str, Matrix], coupling: Coupling, group: str | None) -> list[dict[str, str]]:
    """For a dropdown: weights of the group first, then all others; in the order of the model."""
    number = coupling.by_name.get(group or "", None)
    mine = [name for name, matrix in found.items() if number is not None and number in _groups(matrix)]
    rest = [name for name in found if name not in mine]
    return [
        {"value": name, "label": _label(found[name], coupling, number)}
        for name in [*_ranked(found, mine, number), *rest]
    ]


def first_weight(found: Mapping[str, Matrix], coupling: Coupling, group: str | None) -> str | None:
    """The largest weight that makes the group's units; where the group has none, of the first one that has some."""
    wanted = coupling.by_name.get(group or "")
    for number in (*(() if wanted is None else (wanted,)), *range(len(coupling.groups))):
        mine = [name for name, matrix in found.items() if number in _groups(matrix)]
        if mine:
            return _ranked(found, mine, number)[0]
    return max(found, key=lambda name: found[name].cells, default=None)


def _ranked(found: Mapping[str, Matrix], names: Sequence[str], number: int | None) -> list[str]:
    """What makes the units before what reads them, and the largest first."""
    return sorted(names, key=lambda name: (number not in found[name].rows.group, -found[name].cells))


def _label(matrix: Matrix, coupling: Coupling, number: int | None) -> str:
    shape = " × ".join(map(str, matrix.shape)) or "1"
    role = ""
    for side in (matrix.rows, matrix.columns):
        if number is not None and not role and number in side.group:
            role = f" · {role_of(matrix, coupling, number, side)} {coupling.groups[number].name}"
    return f"{matrix.label} · {matrix.op} {shape}{role}"


def role_of(matrix: Matrix, coupling: Coupling, number: int, side: Side) -> str:
    """What the weight does with units of a group on this side: it "makes" or it "reads" them."""
    axes = {part.axis for part in side.parts}
    mine = (one for one in coupling.groups[number].weights if one.tensor == matrix.tensor and one.axis in axes)
    return "reads" if any(member.consumes for member in mine) else "makes"


def layer_of(desk: Desk, workspace: Workspace, step: Step, tensor: str) -> Layer | None:
    """A weight of a step, None where its model has no such weight."""
    _, coupling = desk.analysis(workspace, step)
    matrix = matrices_of(desk, workspace, step).get(tensor)
    if matrix is None:
        return None
    return kept(desk, "layers", 6).get((step.model_hash, tensor), lambda: _layer(step.model_hash, coupling, matrix))


def _layer(model_hash: str, coupling: Coupling, matrix: Matrix) -> Layer:
    stored = coupling.graph.weights[matrix.tensor].array()
    values = matrix.view(np.asarray(stored, np.float32))
    if not (values.flags.c_contiguous or values.flags.f_contiguous):
        values = np.ascontiguousarray(values)
    return Layer(model_hash, matrix, values)


def kept_draft(desk: Desk, workspace: Workspace, step: Step) -> tuple[DraftState, str]:
    """The draft of a step and its revision, worked out once for each."""
    revision = workspace.drafts.revision(step.number)
    return kept(desk, "drafts", 3).get(
        (step.number, step.model_hash, revision), lambda: draft_of(desk, workspace, step)
    )


def mask_of(desk: Desk, workspace: Workspace, step: Step, tensor: str) -> Mask | None:
    """A weight with the step's draft, None where the model has no such weight."""
    layer = layer_of(desk, workspace, step, tensor)
    if layer is None:
        return None
    model, coupling = desk.analysis(workspace, step)
    state, revision = kept_draft(desk, workspace, step)
    found = kept(desk, "codes", 4).get(
        (step.model_hash, tensor, step.number, revision), lambda: codes(layer, coupling, state)
    )
    return Mask(layer, state, revision, found, layer.matrix.name in model.weights)


def codes(layer: Layer, coupling: Coupling, state: DraftState) -> Codes:
    """(rows, columns): what is gone, and why."""
    matrix = layer.matrix
    rows, columns = _bits(matrix.rows, coupling, state), _bits(matrix.columns, coupling, state)
    single = state.weights.get(matrix.name)
    if not rows.any() and not columns.any() and single is None:
        return layer.zeros
    found = layer.zeros.copy(order="K")
    if rows.any():
        found |= rows[0][:, None] if len(rows) == 1 else rows[matrix.rows.block].T
    if columns.any():
        found |= columns[:1] if len(columns) == 1 else columns[matrix.columns.block]
    if single is not None:
        found |= matrix.view(single).view(np.uint8) << 3  # SINGLE is 8
    return found


def _bits(side: Side, coupling: Coupling, state: DraftState) -> Codes:
    """(blocks, size): AUTO and HAND."""
    found = np.zeros(side.unit.shape, np.uint8)
    for number in np.unique(side.group[side.group >= 0]).tolist():
        name = coupling.groups[number].name
        here = side.group == number
        units = side.unit[here]
        gone, by_hand = state.gone[name][units], state.by_hand[name][units]
        found[here] = np.where(gone, np.where(by_hand, HAND, AUTO), 0)
    return found


def counts(desk: Desk, workspace: Workspace, step: Step, tensor: str) -> tuple[Counts, Counts | None, Counts]:
    """Of the weight, of all weights with units of the same group, and of the model. Zero and removed count as gone.

    The group is that of the rows, else of the columns; None where the weight is in none.
    """
    _, coupling = desk.analysis(workspace, step)
    found = matrices_of(desk, workspace, step)
    state, revision = kept_draft(desk, workspace, step)
    touched = {number for number, group in enumerate(coupling.groups) if state.gone[group.name].any()}

    def of(name: str) -> Counts:
        matrix = found[name]
        same = not (_groups(matrix) & touched) and matrix.name not in state.weights
        key = (step.model_hash, name, None if same else (step.number, revision))
        return kept(desk, "counts", 4096).get(key, lambda: _count(desk, workspace, step, name))

    group = group_of(found[tensor])
    mine = [name for name, matrix in found.items() if group is not None and group in _groups(matrix)]
    return of(tensor), _sum(map(of, mine)) if mine else None, _sum(map(of, found))


def group_of(matrix: Matrix) -> int | None:
    """Number of the group of the rows, else of the columns."""
    for side in (matrix.rows, matrix.columns):
        if side.group.max(initial=-1) >= 0:
            return int(np.bincount(side.group[side.group >= 0]).argmax())
    return None


def _count(desk: Desk, workspace: Workspace, step: Step, name: str) -> Counts:
    mask = mask_of(desk, workspace, step, name)
    return Counts(0, 0) if mask is None else Counts(int(np.count_nonzero(mask.codes)), mask.codes.size)


def _sum(found: Any) -> Counts:
    several = list(found)
    return Counts(sum(one.gone for one in several), sum(one.of for one in several))


def magnitudes(mask: Mask) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Edges of the bins of |w|, how many weights are left in each, and how many are gone."""
    edges = np.linspace(0.0, mask.layer.largest or 1.0, BINS + 1)
    plain = mask.codes is mask.layer.zeros and not mask.layer.has_zeros
    lost = np.zeros(BINS, np.int64) if plain else mask.layer.lost(mask.codes)
    return edges, mask.layer.many - lost, lost


def changes(workspace: Workspace, step: Step, name: str) -> list[Change]:
    """Steps of the path that made the weight smaller, the latest first."""
    path = workspace.steps.path(step.number)
    shapes = [_shape(workspace, one, name) for one in path]
    found = []
    for before, after, old, new in zip(path, path[1:], shapes, shapes[1:], strict=False):
        if old is not None and new is not None and old != new:
            found.append(Change(after.number, before.number, old, new))
    return found[::-1]


def _shape(workspace: Workspace, step: Step, name: str) -> tuple[int, ...] | None:
    model: Model = workspace.model(step.number)
    weight = model.weights.get(name)
    return None if weight is None else tuple(weight.shape)
