"""masked == removed on random graphs, and what else must hold whatever the graph is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from onnxprune import model as models
from onnxprune.coupling import couple
from onnxprune.surgery import mask, remove
from tests.oracle import assert_differs, assert_equal, feeds_for, run
from tests.plans import half
from tests.random_graphs import build, step_slice, steps

PICKS = st.lists(st.integers(0, len(steps) - 1), min_size=1, max_size=6)


def check(picks: list[int], *, dynamic: bool, seed: int) -> None:
    model = models.from_proto(build(picks, dynamic=dynamic))
    before = model.hash
    coupling = couple(model)
    plan = half(coupling, seed)
    masked, removed = mask(model, coupling, plan), remove(model, coupling, plan)
    assert models.from_proto(model.to_proto()).hash == before, "surgery edited its input"
    for batch in (1, 3) if dynamic else (2,):
        feeds = feeds_for(model, seed, batch)
        expected = run(masked, feeds)
        assert_equal(expected, run(removed, feeds))
        if plan.removed_units and steps.index(step_slice) not in [p % len(steps) for p in picks]:  # sliced off: dead
            assert_differs(run(model, feeds), expected, rtol=1e-4)
    if plan.removed_units:
        assert sum(np.prod(w.shape) for w in removed.weights.values()) < sum(
            np.prod(w.shape) for w in model.weights.values()
        )


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(PICKS, st.booleans(), st.integers(0, 99))
def test_masked_equals_removed(picks: list[int], dynamic: bool, seed: int) -> None:
    check(picks, dynamic=dynamic, seed=seed)


@pytest.mark.parametrize("step", range(len(steps)), ids=[s.__name__ for s in steps])
def test_every_step_twice(step: int) -> None:
    check([step, 0, step], dynamic=True, seed=1)


@settings(max_examples=25, derandomize=True)
@given(PICKS)
def test_every_position_of_a_group_belongs_to_one_unit(picks: list[int]) -> None:
    coupling = couple(models.from_proto(build(picks)))
    seen: dict[tuple[str, int], list[tuple[int, int]]] = {}
    for group in coupling.groups:
        for member in group.members:
            blocks = member.block if member.block is not None else np.zeros_like(member.index)
            seen.setdefault((member.tensor, member.axis), []).extend(
                zip(blocks.tolist(), member.index.tolist(), strict=True)
            )
            assert set(member.unit.tolist()) == set(range(group.units))
    assert all(len(places) == len(set(places)) for places in seen.values())
