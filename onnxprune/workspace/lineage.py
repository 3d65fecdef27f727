"""Which unit of one step is which unit of another: followed through the plans between them.

Numbers of units are those of one model: what was filter 17 before a removal may be filter 12 after it. Plans name the
units that go, so that each unit can be followed from the root down, as long as every step between was made by a plan
or kept the shapes (repair, fine-tuning). A group keeps its name as long as it is there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onnxprune.values import Ints
from onnxprune.workspace.facts import Fact, fact_of
from onnxprune.workspace.values import Step
from onnxprune.workspace.workspace import Workspace

__all__ = ["Lineage", "Match", "lineage", "match_units", "matched"]


@dataclass(frozen=True, eq=False)
class Lineage:
    """``numbers[u]``: number that unit u of a step has in step ``since``; ``zeroed[u]``: a plan zeroed it on the way.

    ``since`` is the original, or the nearest step above which units cannot be followed (an import).
    """

    since: int
    numbers: Ints
    zeroed: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Match:
    """Units of a step ``after`` beside those of a step ``before``.

    ``before[u]``: which unit of ``before`` the unit u of ``after`` was, -1 for none. ``gone``: units of ``before`` that
    ``after`` has not. ``original[u]``: its number in the original, -1 where that is not known. ``zeroed[u]``: it is
    there, but a plan zeroed it.
    """

    before: Ints
    gone: Ints
    original: Ints
    zeroed: NDArray[np.bool_]


def lineage(workspace: Workspace, number: int, group: str, units: int) -> Lineage:
    """Follow the units of a group up from a step, which has ``units`` of them. Raises StepNotFound."""
    path = workspace.steps.path(number)
    return followed(path, [fact_of(workspace, step) for step in path], group, units)


def followed(path: Sequence[Step], facts: Sequence[Fact], group: str, units: int) -> Lineage:
    """The same for a path from the root on, with the fact of each of its steps."""
    numbers, zeroed, since = np.arange(units), np.zeros(units, np.bool_), path[-1].number
    size = units
    for step, fact in zip(reversed(path), reversed(facts), strict=True):
        since = step.number
        removal = fact.removal
        if removal is None and step.kind == "import":
            break
        gone = np.asarray([] if removal is None else removal.removed.get(group, ()), np.int64)
        if removal is None or not gone.size:
            continue
        if removal.masked:
            zeroed |= np.isin(numbers, gone)
            continue
        stay = np.setdiff1d(np.arange(removal.sizes[group]), gone)
        if stay.size != size:  # the group was another one under this name
            break
        numbers, size = stay[numbers], int(removal.sizes[group])
    return Lineage(since, numbers, zeroed)


def matched(workspace: Workspace, before: int, after: int, group: str, units: tuple[int, int]) -> Match:
    """Match the units of a group in two steps. ``units``: how many it has in each. Raises StepNotFound."""
    return match_units(
        lineage(workspace, before, group, units[0]),
        lineage(workspace, after, group, units[1]),
        root=workspace.steps.get(after).root,
    )


def match_units(before: Lineage, after: Lineage, root: int | None = None) -> Match:
    """Match by the numbers that both have in the step that they come from.

    Where they do not come from the same one, units of equal number match if there are equally many of them, else none.
    """
    count = before.numbers.size
    if before.since == after.since:
        place = np.full(int(max(before.numbers.max(initial=-1), after.numbers.max(initial=-1))) + 1, -1)
        place[before.numbers] = np.arange(count)
        was = place[after.numbers]
    else:
        same = count == after.numbers.size
        was = np.arange(count) if same else np.full(after.numbers.size, -1)
    known = root is None or after.since == root
    original = after.numbers if known else np.full(after.numbers.size, -1)
    return Match(was, np.setdiff1d(np.arange(count), was), original, after.zeroed & ~_at(before.zeroed, was))


def _at(flags: NDArray[np.bool_], places: Ints) -> NDArray[np.bool_]:
    """The flags at these places, False at -1."""
    return np.append(flags, False)[places]
