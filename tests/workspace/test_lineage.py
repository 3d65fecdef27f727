"""Which unit was which, through removals, masks and trainings."""

from __future__ import annotations

from typing import Any

import numpy as np

from onnxprune.workspace.actions import ACTIONS
from onnxprune.workspace.facts import Fact, Removal
from onnxprune.workspace.lineage import followed, lineage, match_units, matched
from onnxprune.workspace.values import Step
from onnxprune.workspace.workspace import Workspace


def step(number: int, kind: str = "prune") -> Step:
    parent = number - 1 or None
    return Step(number, parent, 1, kind, 0, 0, "", "", None, None, None, (), "identical", {}, {})


def removal(size: int, *gone: int, masked: bool = False) -> Fact:
    return Fact(Removal({"a": size}, {"a": gone}, masked))


PATH = [step(1, "original"), step(2), step(3, "fine-tune"), step(4)]


def test_through_two_removals() -> None:
    facts = [Fact(), removal(8, 1, 2), Fact(), removal(6, 0, 5)]
    found = followed(PATH, facts, "a", 4)
    assert found.since == 1
    assert found.numbers.tolist() == [3, 4, 5, 6]  # 0 3 4 5 6 7 are left after the first, 3 4 5 6 of them
    assert not found.zeroed.any()
    assert followed(PATH, facts, "b", 3).numbers.tolist() == [0, 1, 2]


def test_what_a_mask_zeroed_keeps_its_place() -> None:
    found = followed(PATH, [Fact(), removal(6, 4, masked=True), Fact(), removal(6, 0)], "a", 5)
    assert found.numbers.tolist() == [1, 2, 3, 4, 5]
    assert found.zeroed.tolist() == [False, False, False, True, False]


def test_an_import_ends_what_is_known() -> None:
    path = [step(1, "original"), step(2, "import"), step(3)]
    found = followed(path, [Fact(), Fact(), removal(4, 0)], "a", 3)
    assert (found.since, found.numbers.tolist()) == (2, [1, 2, 3])


def test_a_group_of_another_size_ends_it_too() -> None:
    found = followed(PATH[:2], [Fact(), removal(8, 1)], "a", 5)
    assert (found.since, found.numbers.tolist()) == (2, [0, 1, 2, 3, 4])


def test_match_of_parent_and_child() -> None:
    facts = [Fact(), removal(6, 1, 4)]
    before, after = followed(PATH[:1], facts[:1], "a", 6), followed(PATH[:2], facts, "a", 4)
    found = match_units(before, after, root=1)
    assert found.before.tolist() == found.original.tolist() == [0, 2, 3, 5]
    assert found.gone.tolist() == [1, 4]
    back = match_units(after, before, root=1)
    assert back.before.tolist() == [0, -1, 1, 2, -1, 3]
    assert back.gone.size == 0


def test_match_of_strangers() -> None:
    one = followed([step(1, "original")], [Fact()], "a", 3)
    other = followed([step(1, "original"), step(2, "import")], [Fact(), Fact()], "a", 3)
    assert match_units(one, other, root=1).before.tolist() == [0, 1, 2]
    assert match_units(one, other, root=1).original.tolist() == [-1, -1, -1]
    smaller = followed([step(1, "original"), step(2, "import")], [Fact(), Fact()], "a", 2)
    found = match_units(one, smaller, root=1)
    assert (found.before.tolist(), found.gone.tolist()) == ([-1, -1], [0, 1, 2])


def test_of_steps_of_a_workspace(workspace: Workspace) -> None:
    def run(parent: int, **options: Any) -> int:
        given = {"criterion": "l2", "ratio": 0.25, "verify": False, **options}
        return ACTIONS["prune"](workspace, parent, given, lambda *_: None, lambda: False).number

    first = run(1)
    second = run(first)
    plans = [workspace.plan(number) for number in (first, second)]
    group = max(plans[1].units, key=lambda name: plans[1].units[name].size)  # type: ignore[union-attr]
    alive = np.arange(plans[0].group_sizes[group])  # type: ignore[union-attr]
    for plan in plans:
        assert plan is not None
        alive = np.delete(alive, plan.units.get(group, np.zeros(0, np.int64)))
    assert lineage(workspace, second, group, alive.size).numbers.tolist() == alive.tolist()
    middle = plans[1].group_sizes[group]  # type: ignore[union-attr]
    found = matched(workspace, first, second, group, (middle, alive.size))
    assert found.original.tolist() == alive.tolist()
    assert found.gone.tolist() == plans[1].units[group].tolist()  # type: ignore[union-attr]
