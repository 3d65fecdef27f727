"""Merged axes: which factor stays live, and what freezing does to the choice."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from onnxprune.ops.shape import segments
from onnxprune.ops.ties import Ties
from onnxprune.solver import solve
from onnxprune.values import Options


def ties(**options: str) -> Ties:
    graph = SimpleNamespace(nodes=(SimpleNamespace(number=0),), shapes={}, weights={}, values={})
    t = Ties(graph, Options(**options))  # type: ignore[arg-type]
    t.node = graph.nodes[0]  # type: ignore[assignment]
    return t


def test_segments_refine_both_factorisations() -> None:
    (segment,) = segments((2, 12), (8, 3))
    assert segment.atoms == (2, 4, 3)
    assert dict(segment.inputs) == {0: (0,), 1: (1, 2)}
    assert dict(segment.outputs) == {0: (0, 1), 1: (2,)}


def test_segments_that_do_not_divide_have_no_atoms() -> None:
    (segment,) = segments((6, 4), (4, 6))
    assert segment.atoms == ()


def test_axes_of_size_one_belong_to_no_segment() -> None:
    found = segments((1, 5, 1, 4), (5, 2, 1, 2))
    assert [s.atoms for s in found] == [(5,), (2, 2)]


def test_policy_takes_the_outermost_factor_of_features_and_the_innermost_on_request() -> None:
    for attention, expected in (("heads", 0), ("dims", 1)):
        t = ties(attention=attention)
        merged, a, b = t.virtual(12), t.virtual(3), t.virtual(4)
        t.merge(merged, [a, b], into=False, last=True)
        solution = solve(t)
        assert solution.live == (expected,)
        live, dead = (a, b) if expected == 0 else (b, a)
        assert solution.frozen[solution.labels[dead]].all()
        assert not solution.frozen[solution.labels[live]].any()
        position = np.arange(12) // 4 if expected == 0 else np.arange(12) % 4
        assert np.array_equal(solution.labels[merged], solution.labels[live][position])


def test_a_frozen_factor_leaves_the_other_one() -> None:
    t = ties()
    merged, a, b = t.virtual(12), t.virtual(3), t.virtual(4)
    t.merge(merged, [a, b], into=False, last=True)
    t.freeze_ids(a, "because")
    solution = solve(t)
    assert solution.live == (1,)
    assert not solution.frozen[solution.labels[b]].any()


def test_a_frozen_product_freezes_all_factors() -> None:
    t = ties()
    merged, a, b = t.virtual(12), t.virtual(3), t.virtual(4)
    t.merge(merged, [a, b], into=False, last=True)
    t.freeze_ids(merged, "graph output")
    solution = solve(t)
    assert solution.live == (-1,)
    assert solution.frozen.all()


def test_choices_are_consistent_along_a_chain() -> None:
    """Two merges that share a factor: the second follows what the first chose."""
    t = ties()
    first, second = t.virtual(12), t.virtual(12)
    a, b = t.virtual(3), t.virtual(4)
    t.merge(first, [a, b], into=False, last=True)
    t.merge(second, [b, a], into=True, last=True)
    solution = solve(t)
    assert solution.live == (0, 1)
    assert not solution.frozen[solution.labels[a]].any()
    assert solution.frozen[solution.labels[b]].all()


def test_the_first_reason_wins() -> None:
    t = ties()
    a = t.virtual(3)
    t.freeze_ids(a, "first")
    t.freeze_ids(a, "second")
    solution = solve(t)
    assert {solution.reasons[r] for r in solution.reason[solution.labels[a]]} == {"first"}
