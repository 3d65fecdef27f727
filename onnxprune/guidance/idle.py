"""Units that do nothing, always the same, or what another unit does.

dead      its weights are zero on one side, or its activation is never above 0 in size on the data
constant  its activation is the same for all of the data: what it adds can go into the biases behind it
twin      its activation is another unit's, but for a factor and a shift: what reads it can read the other one

The first costs nothing. The others cost nothing after a repair (``ws recover``), as far as the data tell.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from onnxprune.criteria.slices import weight_of
from onnxprune.guidance.activity import UnitActivity
from onnxprune.guidance.preview import Preview
from onnxprune.guidance.subject import Subject
from onnxprune.guidance.suggestion import Suggestion, made, named
from onnxprune.stored import is_float
from onnxprune.values import Group, Ints, Member

__all__ = ["idle"]

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]

NOTHING = 1e-6  # share of the largest activation of the group
STILL = 1e-4  # deviation as a share of the mean
ALIKE = 0.99  # correlation


def idle(about: Subject, known: Mapping[str, Preview], loss: float) -> Iterator[Suggestion]:
    """One for each group and each of the three."""
    found = about.activity
    for group in about.coupling.groups:
        zero = _zero(about, group)
        seen = None if found is None else found.of(group.name)
        dead = np.zeros(group.units, np.bool_) if seen is None else seen.largest <= NOTHING * seen.largest.max()
        for kind, chosen, words, sure in _cases(group, zero, dead, seen, 0 if found is None else found.samples):
            gone = np.setdiff1d(chosen, about.drafted.get(group.name, ()))[: about.left(group.name) - 1]
            if gone.size:
                title = f"Remove {gone.size} of {group.units} {group.kind} of {group.name}"
                reason = f"{named(group, gone)}: {words}"
                one = made(about, Suggestion(kind, title, reason, sure), {group.name: gone}, known, loss=loss)
                if one is not None:
                    yield one
    yield from _twins(about, known, loss)


def _cases(
    group: Group, zero: Bools, dead: Bools, seen: UnitActivity | None, samples: int
) -> Iterator[tuple[str, Ints, str, float]]:
    """Kind, units, in words, confidence."""
    yield "dead", np.flatnonzero(zero), "all weights that make them, or all that read them, are zero.", 0.95
    if seen is None:
        return
    words = f"never active on {samples} samples."
    yield "dead", np.flatnonzero(dead & ~zero), words, 0.9 if samples >= 100 else 0.6
    still = (seen.deviation <= STILL * np.abs(seen.mean)) & ~dead & ~zero
    if group.units > 1:
        words = (
            f"the same for all of {samples} samples. What they add can go into the biases behind them: "
            "`onnxprune ws recover` with method bias after removing them."
        )
        yield "constant", np.flatnonzero(still), words, 0.7


def _zero(about: Subject, group: Group) -> Bools:
    """Units whose weights are zero on the side that makes them, or on the side that reads them."""
    makes, reads = np.zeros(group.units), np.zeros(group.units)
    made_by = read_by = False
    for member in group.weights:
        weight = weight_of(about.model, about.coupling.graph, member.tensor)
        if not member.linear:
            continue
        if member.block is not None or not is_float(weight):
            return np.zeros(group.units, np.bool_)  # ragged or quantised: nothing is said
        sizes = _largest(weight.array(), member, group.units)
        if member.consumes:
            reads, read_by = np.maximum(reads, sizes), True
        else:
            makes, made_by = np.maximum(makes, sizes), True
    zero = np.zeros(group.units, np.bool_)
    if made_by and makes.any():
        zero |= makes == 0
    if read_by and reads.any():
        zero |= reads == 0
    return zero


def _largest(array: NDArray[np.generic], member: Member, units: int) -> Floats:
    """The largest entry of every unit's slice, in size."""
    rows = np.abs(np.moveaxis(array, member.axis, 0)).reshape(array.shape[member.axis], -1).max(axis=1)
    found = np.zeros(units)
    np.maximum.at(found, member.unit, np.nan_to_num(rows[member.index].astype(np.float64), nan=np.inf))
    return found


def _twins(about: Subject, known: Mapping[str, Preview], loss: float) -> Iterator[Suggestion]:
    """Of two units that are alike the one goes that scores lower."""
    found = about.activity
    if found is None:
        return
    criterion, scores = about.order
    for group in about.coupling.groups:
        seen = found.of(group.name)
        if seen is None or group.name not in scores:
            continue
        pairs: dict[int, int] = {}
        for unit in np.argsort(-seen.likeness, kind="stable").tolist():
            twin = int(seen.twin[unit])
            if seen.likeness[unit] < ALIKE:
                break
            low, high = sorted((unit, twin), key=lambda u: (float(scores[group.name][u]), u))
            if low not in pairs and high not in pairs:
                pairs[low] = high
        gone = np.setdiff1d(sorted(pairs), about.drafted.get(group.name, ()))[: about.left(group.name) - 1]
        if not gone.size:
            continue
        words = "; ".join(f"{u} like {pairs[int(u)]} ({seen.likeness[int(u)]:.4f})" for u in gone[:5].tolist())
        reason = (
            f"{group.kind.capitalize()} that move together on {found.samples} samples (correlation): {words}. Of each "
            f"two the one with the lower {criterion} goes; `onnxprune ws recover` lets what read it read the other one."
        )
        title = f"Remove {gone.size} of {group.units} {group.kind} of {group.name} that double others"
        one = made(about, Suggestion("twin", title, reason, 0.55), {group.name: gone}, known, loss=loss)
        if one is not None:
            yield one
