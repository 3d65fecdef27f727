"""Preprocessing of arrays against the formula written out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxprune.data import Dataset, Preprocess, batches, fit
from onnxprune.errors import DataError
from onnxprune.runtime import TensorInfo

Array = np.ndarray[Any, Any]
RNG = np.random.default_rng(0)
NHWC = RNG.integers(0, 256, (6, 4, 5, 3)).astype(np.uint8)
NCHW = NHWC.transpose(0, 3, 1, 2)
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


def info(*sample: int | str | None, dtype: Any = np.float32) -> TensorInfo:
    return TensorInfo("in", np.dtype(dtype), ("n", *sample))


def prepared(array: Array, recipe: Preprocess, *sample: int | str | None, dtype: Any = np.float32) -> Array:
    data = fit(Dataset({"x": array}, prepare={"": recipe}), [info(*sample, dtype=dtype)])
    found = np.concatenate([b.feeds["in"] for b in batches(data, 4)])
    np.testing.assert_array_equal(found, data.inputs["in"])
    assert data.inputs["in"].shape == found.shape
    assert found.dtype == dtype
    return found


class TestFormula:
    @pytest.mark.parametrize("model", [(3, 4, 5), ("c", "h", "w"), (None, 4, 5)])
    def test_transposed_to_the_model_and_standardised(self, model: tuple[Any, ...]) -> None:
        recipe = Preprocess(1 / 255, tuple(MEAN), tuple(STD), layout="NHWC")
        expected = (NCHW / 255 - MEAN[:, None, None]) / STD[:, None, None]
        np.testing.assert_allclose(prepared(NHWC, recipe, *model), expected, rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize("model", [(4, 5, 3), (None, None, 3)])
    def test_as_it_is_where_the_model_takes_that(self, model: tuple[Any, ...]) -> None:
        recipe = Preprocess(mean=tuple(MEAN * 255), layout="NHWC")
        np.testing.assert_allclose(prepared(NHWC, recipe, *model), NHWC - MEAN * 255, rtol=1e-4, atol=1e-4)

    def test_the_other_way(self) -> None:
        np.testing.assert_array_equal(prepared(NCHW, Preprocess(1.0, layout="NCHW"), 4, 5, 3), NHWC)

    def test_what_the_model_does_not_tell_can_be_said(self) -> None:
        recipe = Preprocess(1.0, layout="NHWC", model_layout="NHWC")
        np.testing.assert_array_equal(prepared(NHWC, recipe, None, None, None), NHWC)

    def test_one_value_for_all(self) -> None:
        found = prepared(NCHW, Preprocess(mean=(10.0,), std=(4.0,)), 3, 4, 5)
        np.testing.assert_array_equal(found, (NCHW.astype(np.float32) - 10) / 4)

    def test_channels_without_a_layout(self) -> None:
        first = prepared(NCHW.astype(np.float32), Preprocess(mean=(1.0, 2.0, 3.0)), 3, 4, 5)
        np.testing.assert_array_equal(first, NCHW - np.array([1.0, 2, 3])[:, None, None])
        last = prepared(NHWC.astype(np.float32), Preprocess(mean=(1.0, 2.0, 3.0)), 4, 5, 3)
        np.testing.assert_array_equal(last, NHWC - np.array([1.0, 2, 3]))

    def test_columns_of_a_table(self) -> None:
        table = RNG.standard_normal((6, 4))
        found = prepared(table, Preprocess(mean=(1.0, 2, 3, 4), std=(5.0, 6, 7, 8)), 4)
        np.testing.assert_allclose(found, (table - [1, 2, 3, 4]) / [5, 6, 7, 8], rtol=1e-5)

    def test_features_of_a_sequence(self) -> None:
        series = RNG.standard_normal((6, 4, 4)).astype(np.float32)
        found = prepared(series, Preprocess(mean=(1.0, 2, 3, 4)), 4, 4)
        np.testing.assert_allclose(found, series - [1, 2, 3, 4], rtol=1e-5, atol=1e-6)

    def test_reshape_comes_first(self) -> None:
        recipe = Preprocess(1.0, reshape=(4, 5, 3), layout="NHWC")
        np.testing.assert_array_equal(prepared(NHWC.reshape(6, 60), recipe, 3, 4, 5), NCHW)
        np.testing.assert_array_equal(prepared(NHWC, Preprocess(1.0, reshape=(60,)), 60), NHWC.reshape(6, 60))

    def test_a_type_alone(self) -> None:
        np.testing.assert_array_equal(prepared(NCHW, Preprocess(dtype="float32"), 3, 4, 5), NCHW)
        found = prepared(NCHW, Preprocess(dtype="int64"), 3, 4, 5, dtype=np.int64)
        np.testing.assert_array_equal(found, NCHW)

    def test_the_source_is_left_alone(self) -> None:
        array = np.ones((3, 4), np.float32)
        prepared(array, Preprocess(2.0, (1.0,), (3.0,)), 4)
        np.testing.assert_array_equal(array, np.ones((3, 4)))

    @given(
        st.floats(-3, 3), st.floats(-3, 3), st.floats(0.1, 3), st.sampled_from(["NCHW", "NHWC"]), st.integers(0, 2**32)
    )
    @settings(deadline=None)
    def test_any(self, scale: float, mean: float, std: float, layout: str, seed: int) -> None:
        values = np.random.default_rng(seed).standard_normal((3, 3, 2, 5))
        array = values if layout == "NCHW" else values.transpose(0, 2, 3, 1)
        found = prepared(array, Preprocess(scale, (mean,), (std,), layout=layout), 3, 2, 5)
        np.testing.assert_allclose(found, (values * scale - mean) / std, rtol=1e-5, atol=1e-5)


class TestMistakes:
    @pytest.mark.parametrize(
        ("array", "recipe", "message"),
        [
            (NHWC, Preprocess(reshape=(7, 8)), r"reshape = \[7, 8\] has 56 values, a sample \(4, 5, 3\) has 60"),
            (NHWC.reshape(6, 60), Preprocess(layout="NHWC"), r"layout = 'NHWC', but a sample has the shape \(60,\)"),
            (NCHW, Preprocess(mean=(1.0, 2.0)), r"mean has 2 values, but no channel axis of a sample \(3, 4, 5\)"),
            (NHWC, Preprocess(std=(1.0,) * 5, layout="NHWC"), r"std has 5 values(.|\n)*the layout is NCHW"),
            (NCHW, Preprocess(), r"uint8 .*takes float32"),
        ],
    )
    def test_named(self, array: Array, recipe: Preprocess, message: str) -> None:
        with pytest.raises(DataError, match=message):
            fit(Dataset({"x": array}, prepare={"": recipe}), [info(3, 4, 5)])
