"""The check that a plan's single weights, and nothing else, became zero.

Every weight of the result is held against the same one of the model before, bit for bit. With m the plan's mask on a
weight w::

    result = cut(where(m, 0, w))        cut leaves out what belongs to removed units; 0 is the stored zero

Places of units that were zeroed rather than removed are no part of this: they go by the plan's units.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.cuts import AxisCut, cut_array, cuts_of, masks
from onnxprune.errors import ProofError
from onnxprune.graph import Graph
from onnxprune.model import Model
from onnxprune.ops.quantized import stored_zero
from onnxprune.plan import Plan
from onnxprune.values import Coupling

__all__ = ["Zeroed", "assert_still_zero", "assert_zeroed", "masks_left"]

Array = NDArray[Any]
Bools = NDArray[np.bool_]
BITS = {"f2": "u2", "f4": "u4", "f8": "u8"}  # NaN equals NaN, and -0 is not 0
MATRIX = 2  # axes
NO_VERIFY = "Write the file unchecked with --no-verify; please report it."


@dataclass(frozen=True)
class Zeroed:
    """``named``: single weights that the plan names; ``left``: those that are still there, and zero.

    The others went with a unit. ``same``: numbers that were looked at besides, and are what they were.
    """

    named: int
    left: int
    same: int

    def to_dict(self) -> dict[str, int]:
        """The same as values that JSON can hold."""
        return dict(vars(self))


def masks_left(coupling: Coupling, plan: Plan, named: Mapping[str, Bools], *, removed: bool) -> dict[str, Bools]:
    """Masks on the weights of the model before, as masks on those of the result; the ones that are left.

    ``removed``: the plan's units are not there any longer; otherwise shapes are as they were.
    """
    cuts = cuts_of(coupling, plan.units) if removed else {}
    left = {name: cut_array(mask, cuts.get(name, {})) for name, mask in named.items()}
    return {name: mask for name, mask in left.items() if mask.any()}


def assert_zeroed(model: Model, coupling: Coupling, plan: Plan, result: Model, *, removed: bool) -> Zeroed:
    """Hold every weight of ``result`` against ``model``; ``removed`` as in ``masks_left``.

    Raises ProofError that names the first weight that is not as it should be. Integers are looked at only where they
    are cut or masked (others are sizes, which follow the cut), and weights inside control flow are not.
    """
    graph: Graph = coupling.graph
    cuts = cuts_of(coupling, plan.units)
    left = masks_left(coupling, plan, plan.weights, removed=removed)
    shared = Counter(graph.origin.values())
    same = 0
    for name, weight in graph.weights.items():
        origin = graph.origin.get(name, name)
        touched = name in cuts or name in plan.weights
        if origin not in model.weights or not (touched or weight.dtype.kind in "fV"):
            continue
        wanted = _wanted(graph, name, plan.weights.get(name))
        if removed:
            wanted = cut_array(wanted, cuts.get(name, {}))
        if origin != name or shared[name]:
            _check_shared(name, wanted, result, hidden=not removed and name in cuts)
        elif name in result.weights:
            hidden = {} if removed else cuts.get(name, {})
            same += _check(name, result.weights[name].array(), wanted, left.get(name), hidden)
    return Zeroed(plan.removed_weights, sum(int(mask.sum()) for mask in left.values()), same)


def assert_still_zero(coupling: Coupling, left: Mapping[str, Bools], result: Model) -> None:
    """Raise ProofError where a repair filled what ``left`` names (of ``masks_left``).

    Vectors are not looked at: biases and statistics of a normalisation are what a repair is there to write.
    """
    for name, mask in left.items():
        found = result.weights.get(name)
        vector = sum(size > 1 for size in mask.shape) < MATRIX
        if found is not None and not vector and tuple(found.shape) == mask.shape:
            filled = int((found.array()[mask] != 0).sum())
            if filled and not np.any(stored_zero(coupling.graph, name)):
                raise ProofError(f"`{name}`: the repair filled {filled} weights that the plan zeroed", NO_VERIFY)


def _wanted(graph: Graph, name: str, mask: Bools | None) -> Array:
    array = np.asarray(graph.weights[name].array())
    if mask is None:
        return array
    return np.where(mask, np.asarray(stored_zero(graph, name)).astype(array.dtype), array)


def _check(name: str, found: Array, wanted: Array, mask: Bools | None, hidden: Mapping[int, AxisCut]) -> int:
    """How many numbers beside those of the mask are what they were. Raises ProofError."""
    if found.shape != wanted.shape or found.dtype != wanted.dtype:
        raise ProofError(f"`{name}` is {found.shape}, where the plan leaves {wanted.shape}", NO_VERIFY)
    seen = np.ones(found.shape, np.bool_)
    for units in masks(found.shape, hidden):
        seen &= ~units
    other = seen & (_bits(found) != _bits(wanted))
    if other.any():
        here = other if mask is None else other & mask
        kind = "of the plan are not zero" if here.any() else "changed that the plan does not name"
        bad = here if here.any() else other
        place = tuple(np.argwhere(bad)[0].tolist())
        raise ProofError(f"`{name}`: {int(bad.sum())} weights {kind}, the first at {place}", NO_VERIFY)
    return int((seen if mask is None else seen & ~mask).sum())


def _check_shared(name: str, wanted: Array, result: Model, *, hidden: bool) -> None:
    """A vector that several nodes read may lie under any name: one weight of the result has to be it."""
    if hidden:  # its units were zeroed as well, each reader's on its own
        return
    same = (
        weight.array() for weight in result.weights.values()
        if tuple(weight.shape) == wanted.shape and weight.dtype == wanted.dtype
    )  # fmt: skip
    if not any(np.array_equal(_bits(array), _bits(wanted)) for array in same):
        raise ProofError(f"`{name}`: no weight of the result is what the plan leaves of it", NO_VERIFY)


def _bits(array: Array) -> Array:
    plain = np.asarray(array, order="C")
    return plain.view(BITS.get(plain.dtype.str[1:], plain.dtype))
