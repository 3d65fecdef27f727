"""Weights in stretches: they cover the weight in order, and tables added up from them are those of the whole."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxprune.criteria.slices import blocks, tables

SHAPES = st.lists(st.integers(1, 7), min_size=1, max_size=4)


@settings(max_examples=100, derandomize=True)
@given(SHAPES, st.integers(1, 60))
def test_blocks_are_consecutive_and_small(shape: list[int], limit: int) -> None:
    values = np.arange(np.prod(shape)).reshape(shape)
    parts = [values[place] for place in blocks(shape, limit)]
    np.testing.assert_array_equal(np.concatenate([p.reshape(-1) for p in parts]), values.reshape(-1))
    assert max(p.size for p in parts) <= limit
    assert all(p.ndim == len(shape) for p in parts)


def test_nothing_is_cut_from_nothing() -> None:
    assert list(blocks((3, 0, 2))) == []


@settings(max_examples=50, derandomize=True)
@given(SHAPES, st.integers(1, 30), st.sampled_from([np.add, np.maximum]))
def test_tables(shape: list[int], limit: int, collect: np.ufunc) -> None:
    values = np.random.default_rng(0).uniform(0, 1, shape)
    keep = {(0,), (len(shape) - 1,), tuple(range(len(shape)))}
    found = tables(((place, values[place]) for place in blocks(shape, limit)), shape, keep, collect)
    for axes, table in found.items():
        others = tuple(a for a in range(len(shape)) if a not in axes)
        np.testing.assert_allclose(table, collect.reduce(values, axis=others) if others else values)
