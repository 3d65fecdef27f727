"""Distributions that follow from the layers: densities of ERK, steps of a preset, equal losses; totals met exactly."""

from __future__ import annotations

from math import floor
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxprune.allocate.levels import (
    Levels,
    check_table,
    counts_for,
    erk_levels,
    preset_levels,
    sensitivity_levels,
    uniform_levels,
)
from onnxprune.errors import DataError, OptionError

SIZES = st.lists(st.integers(1, 400), min_size=1, max_size=8)
SHAPES = st.lists(st.tuples(st.integers(1, 64), st.integers(1, 64), st.sampled_from([1, 3, 5])), min_size=1, max_size=8)


def weight_shapes(drawn: list[tuple[int, int, int]]) -> list[tuple[int, ...]]:
    return [(o, i, k, k) if k > 1 else (o, i) for o, i, k in drawn]


@settings(max_examples=80, derandomize=True)
@given(SHAPES, st.floats(0.05, 0.95))
def test_erk_meets_its_total_with_its_densities(drawn: list[tuple[int, int, int]], ratio: float) -> None:
    shapes = weight_shapes(drawn)
    sizes = np.array([np.prod(s) for s in shapes], np.int64)
    most = int((sizes - 1).sum())
    total = min(floor(ratio * sizes.sum()), most)
    counts = counts_for(total, sizes, erk_levels([[s] for s in shapes]))
    assert counts.sum() == total
    assert ((counts >= 0) & (counts < np.maximum(sizes, 1))).all()
    density = np.array([sum(s) / np.prod(s) for s in shapes])
    kept = 1 - counts / sizes
    inside = (counts > 0) & (counts < sizes - 1)
    scale = kept / density
    if inside.sum() > 1:  # one common factor, to one weight of each layer
        slack = 1 / sizes[inside] / density[inside]
        assert (scale[inside] - slack).max() <= (scale[inside] + slack).min() + 1e-9
    if inside.any():  # whole layers are those that would be denser than whole
        factor = (scale[inside] + 1 / sizes[inside] / density[inside]).max()
        whole = counts == 0
        assert (factor * density[whole] * (1 + 1e-9) >= 1 - 2 / sizes[whole]).all()


def test_erk_of_an_example_computed_by_hand() -> None:
    shapes = [(10, 20), (30, 10)]  # densities 0.15 and 0.1333 before scaling
    counts = counts_for(250, np.array([200, 300]), erk_levels([[s] for s in shapes]))
    kept = 250  # factor e with 0.15 e 200 + 0.13333 e 300 = 250
    e = kept / (30 + 40)
    assert counts.tolist() == pytest.approx([200 - 30 * e, 300 - 40 * e], abs=1)
    assert counts.sum() == 250


@settings(max_examples=60, derandomize=True)
@given(SIZES, st.integers(0, 10**6), st.sampled_from(["uniform", "erk", "preset", "sensitivity"]), st.integers(0, 9))
def test_a_total_is_met_whenever_it_can_be(sizes: list[int], amount: int, kind: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    names = [str(k) for k in range(len(sizes))]
    curves: dict[str, Levels] = {
        "uniform": uniform_levels(),
        "erk": erk_levels([[tuple(rng.integers(1, 20, 2))] for _ in sizes]),
        "preset": preset_levels(rng.uniform(0.05, 0.5, len(sizes)).tolist()),
        "sensitivity": sensitivity_levels(
            {n: [(r, float(rng.normal(0, 0.1))) for r in (0.2, 0.5, 0.8)] for n in names}, names, [True] * len(names)
        ),
    }
    many = np.array(sizes, np.int64)
    total = amount % (int((many - 1).sum()) + 1)
    counts = counts_for(total, many, curves[kind])
    assert counts.sum() == total
    assert ((counts >= 0) & (counts <= many - 1)).all()
    layers = np.arange(many.size)
    gone = counts > 0
    if gone.any() and (counts < many - 1).any():  # nothing that stays comes before what went
        last = curves[kind](layers, counts / many)[gone].max()
        following = curves[kind](layers, np.minimum(counts + 1, many) / many)[counts < many - 1].min()
        assert following >= last - 1e-6 * max(abs(last), 1)


def test_a_layer_with_ratio_0_never_loses_anything() -> None:
    sizes = np.array([50, 50])
    assert counts_for(30, sizes, preset_levels([0.0, 0.15])).tolist() == [0, 30]
    assert counts_for(80, sizes, preset_levels([0.0, 0.15])).tolist() == [0, 49]


@pytest.mark.parametrize("steps", [1, 2, 7])
def test_preset_levels_count_iterations(steps: int) -> None:
    rates = [0.5, 0.2, 0.15]
    shares = np.array([1 - (1 - p) ** steps for p in rates])
    np.testing.assert_allclose(preset_levels(rates)(np.arange(3), shares), steps, rtol=1e-12)


class Row(NamedTuple):
    group: str
    ratio: float
    loss: float


def rows(table: dict[str, list[tuple[float, float]]]) -> list[Row]:
    return [Row(g, r, loss) for g, pairs in table.items() for r, loss in pairs]


def test_all_groups_lose_equally() -> None:
    table = {"a": [(0.5, 0.1)], "b": [(0.5, 0.02), (0.9, 0.1)]}
    for given_as in (table, rows(table)):
        levels = sensitivity_levels(given_as, ["a", "b"], [True, True])
        counts = counts_for(900, np.array([1000, 1000]), levels)
        a, b = counts / 1000
        assert np.interp(a, [0, 0.5], [0, 0.1]) == pytest.approx(np.interp(b, [0, 0.5, 0.9], [0, 0.02, 0.1]), abs=5e-4)


def test_curves_rise_and_go_on_as_steeply_as_they_were() -> None:
    levels = sensitivity_levels({"a": [(0.2, -0.3), (0.4, 0.2), (0.6, 0.1)]}, ["a"], [True])
    shares = np.array([0.2, 0.4, 0.6, 0.8, 1.0])
    found = levels(np.zeros(5, np.int64), shares)
    np.testing.assert_allclose(found, [0.0, 0.2, 0.2, 0.4, 0.6], atol=1e-6)
    assert (np.diff(found) > 0).all()


def test_tables_that_make_no_sense() -> None:
    with pytest.raises(OptionError, match=r"no rows for 2 of 3 names: b, c"):
        sensitivity_levels({"a": [(0.5, 0.1)]}, ["a", "b", "c"], [True] * 3)
    sensitivity_levels({"a": [(0.5, 0.1)]}, ["a", "b"], [True, False])
    with pytest.raises(OptionError, match=r"the sensitivity table is empty"):
        check_table([])
    for ratio, loss in ((1.5, 0.1), (0.5, float("nan"))):
        with pytest.raises(DataError, match=rf"sensitivity of 'a': ratio {ratio} with loss {loss}"):
            check_table({"a": [(ratio, loss)]})
