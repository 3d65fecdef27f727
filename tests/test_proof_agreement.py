"""The measure of the proof, on arrays whose distance is known."""

from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import pytest

from onnxprune.proof.agreement import as_array, differs, distance, finite, flips

F = np.float32


class TestDistance:
    def test_relative_to_the_largest(self) -> None:
        assert distance(np.array([1, -4], F), np.array([1, -3], F)) == pytest.approx(0.25)

    def test_zero_has_a_floor(self) -> None:
        assert distance(np.zeros(2, F), np.full(2, 1e-7, F)) == pytest.approx(0.1)

    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    def test_not_finite(self, bad: float) -> None:
        assert math.isinf(distance(np.array([bad], F), np.array([bad], F)))

    def test_other_shapes(self) -> None:
        assert math.isinf(distance(np.zeros((2, 3), F), np.zeros((3, 2), F)))

    def test_empty(self) -> None:
        assert distance(np.zeros((0, 3), F), np.zeros((0, 3), F)) == 0

    def test_text(self) -> None:
        assert distance(np.array(["a"]), np.array(["a"])) == 0
        assert math.isinf(distance(np.array(["a"], object), np.array(["b"], object)))

    def test_unsigned_numbers_do_not_wrap(self) -> None:
        assert distance(np.array([1], np.uint8), np.array([2], np.uint8)) == 1

    def test_float16_does_not_overflow(self) -> None:
        assert distance(np.array([60000], np.float16), np.array([-60000], np.float16)) == pytest.approx(2)


def test_differs() -> None:
    a = np.array([100.0, 0], F)
    assert not differs(a, a + F(0.5), 0.01)
    assert differs(a, a + F(2), 0.01)
    assert differs(a, a[:1], 0.01)
    assert not differs(np.full(1, np.nan, F), np.zeros(1, F), 0.01)


class TestFlips:
    def test_whole_numbers(self) -> None:
        assert flips(np.array([1, 2, 3]), np.array([1, 3, 5]), 1e-5) == (2, 2)

    def test_conditions(self) -> None:
        assert flips(np.array([True, False]), np.array([True, True]), 1e-5) == (1, 1)

    def test_noise_is_none(self) -> None:
        assert flips(np.array([1, 2], F), np.array([1 + 1e-7, 3], F), 1e-5) == (1, 0)

    def test_other_shapes(self) -> None:
        assert flips(np.zeros(3, int), np.zeros(5, int), 1e-5)[0] == 2


def test_finite() -> None:
    assert finite(np.array([1, 2]))
    assert finite(np.array(["a"], object))
    assert finite(np.array([1], ml_dtypes.int4))
    assert not finite(np.array([np.inf], ml_dtypes.bfloat16))


def test_as_array() -> None:
    assert as_array([{"a": 0.25, "b": 0.75}, {"a": 1.0, "b": 0.0}]).tolist() == [[0.25, 0.75], [1.0, 0.0]]
    assert as_array([np.zeros((2, 2)), np.ones(3)]).shape == (7,)
    assert as_array([]).shape == (0,)
