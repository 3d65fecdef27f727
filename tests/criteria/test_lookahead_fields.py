"""Fields: whatever happens to a tensor happens to the numbers of its channels, positions never counted twice."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxprune.criteria.lookahead_fields import AxisMap, Field

SHAPE = (2, 6, 4, 3)
TARGETS = [
    (2, 72),
    (2, 2, 3, 12),
    (2, 6, 12),
    (12, 4, 3),
    (2, 24, 3),
    (2, 3, 2, 2, 2, 3),
    (144,),
    (2, 1, 6, 4, 3),
    (9, 16),
]


def full(field: Field) -> np.ndarray:
    """The number at every position of the tensor."""
    sizes = [n for factors in field.sizes for n in factors]
    return np.broadcast_to(field.values, sizes).reshape(field.shape)


def numbers(axes: tuple[int, ...], seed: int = 0) -> Field:
    return Field.along(SHAPE, axes, np.random.default_rng(seed).uniform(1, 2, [SHAPE[a] for a in axes]))


@settings(max_examples=60, derandomize=True)
@given(st.lists(st.sampled_from(TARGETS), min_size=1, max_size=3), st.sampled_from([(1,), (1, 3), (2,), ()]))
def test_reshapes_and_transpositions_are_those_of_the_tensor(
    shapes: list[tuple[int, ...]], axes: tuple[int, ...]
) -> None:
    field = numbers(axes)
    expected = full(field)
    for shape in shapes:
        field, expected = field.reshaped(shape), expected.reshape(shape)
        np.testing.assert_array_equal(full(field), expected)
        order = list(range(len(shape)))[::-1]
        field, expected = field.transposed(order), expected.transpose(order)
        np.testing.assert_array_equal(full(field), expected)
        np.testing.assert_array_equal(full(field.plain()), expected)


@pytest.mark.parametrize("shape", [s for s in TARGETS if s != (9, 16)])
def test_there_and_back_nothing_is_counted_twice(shape: tuple[int, ...]) -> None:
    field = numbers((1,))
    back = field.reshaped(shape).reshaped(SHAPE)
    assert back.varying == (1,)
    np.testing.assert_array_equal(back.table((1,)), field.table((1,)))


def test_a_reshape_without_common_factors_goes_position_by_position() -> None:
    field = numbers((1,)).reshaped((9, 16))
    np.testing.assert_array_equal(full(field), full(numbers((1,))).reshape(9, 16))
    assert not Field.uniform(SHAPE).reshaped((9, 16)).varying


def test_sums_run_over_what_matters_only() -> None:
    field = numbers((1, 3))
    np.testing.assert_allclose(field.table((1,)), field.table((1, 3)).sum(axis=1))
    np.testing.assert_allclose(field.like(numbers((1,))).table((1,)), field.table((1,)))
    flat = numbers((1,)).reshaped((2, 72))
    doubled = flat.plus(Field.along((2, 72), (1,), np.ones(72)))
    np.testing.assert_allclose(full(doubled), full(flat) + 1)
    np.testing.assert_allclose(doubled.like(flat).reshaped(SHAPE).table((1,)), 12 * (numbers((1,)).table((1,)) + 1))


def test_a_gain_per_channel() -> None:
    gain = np.random.default_rng(1).uniform(1, 2, (6, 1, 1))
    np.testing.assert_allclose(full(numbers((1,)).scaled(gain)), full(numbers((1,))) * gain)
    flat = numbers((1,)).reshaped((2, 72)).scaled(np.arange(72.0))
    np.testing.assert_allclose(full(flat), full(numbers((1,))).reshape(2, 72) * np.arange(72))


class TestMaps:
    """Axis 1 of SHAPE at positions 1, 3, 5 goes to positions 0, 4, 2 of an axis of 5."""

    maps = (
        AxisMap(0, 0, np.arange(2), np.arange(2), whole=True),
        AxisMap(1, 1, np.array([1, 3, 5]), np.array([0, 4, 2]), whole=False),
        AxisMap(2, 2, np.arange(4), np.arange(4), whole=True),
    )
    after = (2, 5, 4)

    def test_forwards(self) -> None:
        field = numbers((1,))
        values = field.table((1,))
        moved = field.forward(self.after, self.maps)
        np.testing.assert_array_equal(moved.table((1,)), [values[1], 0, values[5], 0, values[3]])
        filled = moved.covered(1, np.array([0, 4, 2]))
        np.testing.assert_array_equal(filled.table((1,)), [values[1], 1, values[5], 1, values[3]])

    def test_an_axis_that_is_lost_is_summed_over(self) -> None:
        moved = numbers((1, 3)).forward(self.after, self.maps)
        np.testing.assert_allclose(moved.table((1,))[4], numbers((1, 3)).table((1, 3))[3].sum())

    def test_numbers_that_do_not_depend_on_the_axis_stay_so_unless_asked(self) -> None:
        field = numbers((2,))
        assert field.forward(self.after, self.maps).varying == (2,)
        asked = field.forward(self.after, self.maps, (1,))
        np.testing.assert_array_equal(asked.table((1, 2))[[0, 2, 4]], np.tile(field.table((2,)), (3, 1)))
        np.testing.assert_array_equal(asked.table((1, 2))[[1, 3]], 0)

    def test_backwards_is_forwards_turned_round(self) -> None:
        rng = np.random.default_rng(2)
        one, other = numbers((1,), 3), Field.along(self.after, (1,), rng.uniform(1, 2, 5))
        there = (one.forward(self.after, self.maps).table((1,)) * other.table((1,))).sum()
        back = (one.table((1,)) * other.backward(one, self.maps).table((1,))).sum()
        np.testing.assert_allclose(there, back)
