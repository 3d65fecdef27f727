"""Scores the slow way: one loop over the entries of every weight, straight from the definitions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from onnxprune.values import Coupling, Group, Member

__all__ = ["unit_entries", "unit_scores"]

NORMS: dict[str, Callable[[list[float], int], float]] = {
    "l1": lambda w, n: sum(abs(x) for x in w) / n,
    "l2": lambda w, n: (sum(x * x for x in w) / n) ** 0.5,
    "linf": lambda w, n: max(abs(x) for x in w) if n else 0.0,
}


def unit_scores(
    norm: str, coupling: Coupling, values: Mapping[str, np.ndarray], *, normalise: bool = True, sides: str = "all"
) -> dict[str, list[float]]:
    """Group name -> norm of every unit. ``values``: what the constants stand for."""
    result = {}
    for group in coupling.groups:
        entries = unit_entries(group, values, sides)
        parts = [entries[unit] for unit in range(group.units)]
        result[group.name] = [NORMS[norm](w, len(w) if normalise else 1) if w else 0.0 for w in parts]
    return result


def unit_entries(group: Group, values: Mapping[str, np.ndarray], sides: str = "all") -> dict[int, list[float]]:
    """Unit -> the entries of all its slices, one after the other."""
    linear = [m for m in group.members if m.weight and m.linear]
    producing = [m for m in linear if not m.consumes]
    result: dict[int, list[float]] = defaultdict(list)
    for member in producing if sides == "producing" and producing else linear:
        for unit, entry in _entries(member, values[member.tensor]):
            result[unit].append(entry)
    return result


def _entries(member: Member, value: np.ndarray) -> Iterator[tuple[int, float]]:
    owner: dict[tuple[int, int], list[int]] = defaultdict(list)
    for i in range(len(member.index)):
        block = 0 if member.block is None else int(member.block[i])
        owner[block, int(member.index[i])].append(int(member.unit[i]))
    for place in np.ndindex(value.shape):
        block = 0
        if member.block is not None:
            block = place[member.along] // (value.shape[member.along] // member.blocks)
        for unit in owner.get((block, place[member.axis]), ()):
            yield unit, float(value[place])
