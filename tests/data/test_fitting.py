from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from onnxprune.data import Dataset, Preprocess, batches, fit, open_dataset
from onnxprune.errors import DataError
from onnxprune.runtime import TensorInfo

Array = np.ndarray[Any, Any]
FLOAT = np.dtype(np.float32)
IMAGE = TensorInfo("image", FLOAT, ("batch", 1, 4, 4))
COLOUR = TensorInfo("image", FLOAT, ("batch", 3, 4, 5))
TOKENS = TensorInfo("ids", np.dtype(np.int64), ("batch", "length"))
MASK = TensorInfo("mask", np.dtype(np.int64), ("batch", "length"))


def images(count: int, dtype: Any = np.float32) -> Array:
    return np.arange(count * 16).reshape(count, 1, 4, 4).astype(dtype)


def floats(*shape: int) -> Array:
    return np.zeros(shape, np.float32)


class TestNames:
    def test_the_only_input_may_be_called_x(self) -> None:
        assert list(fit(open_dataset(images(2)), [IMAGE]).inputs) == ["image"]

    def test_two_inputs_need_their_names(self) -> None:
        with pytest.raises(DataError, match="nothing for the model's input `mask`"):
            fit(open_dataset({"ids": np.zeros((2, 3), np.int64)}), [TOKENS, MASK])

    def test_fitting_twice_is_fitting_once(self) -> None:
        data = Dataset({"x": np.full((2, 4, 4, 1), 8, np.uint8)}, prepare={"": Preprocess(0.5, layout="NHWC")})
        once = fit(data, [IMAGE])
        twice = fit(once, [IMAGE])
        assert twice.inputs["image"] is once.inputs["image"]
        np.testing.assert_array_equal(twice.inputs["image"], np.full((2, 1, 4, 4), 4, np.float32))


class TestTypes:
    @pytest.mark.parametrize("dtype", [np.float64, np.float16])
    def test_floats_are_cast(self, dtype: Any) -> None:
        (batch,) = batches(fit(open_dataset(images(2, dtype)), [IMAGE]))
        assert batch.feeds["image"].dtype == FLOAT

    def test_integers_are_widened(self) -> None:
        (batch,) = batches(fit(open_dataset({"ids": np.zeros((2, 3), np.int32)}), [TOKENS]))
        assert batch.feeds["ids"].dtype == np.int64

    def test_text(self) -> None:
        info = TensorInfo("word", np.dtype(object), ("batch", 1))
        (batch,) = batches(fit(open_dataset(np.array([["a"], ["bc"]])), [info]))
        assert batch.feeds["word"].dtype == np.dtype(object)
        assert batch.feeds["word"].tolist() == [["a"], ["bc"]]


class TestMismatches:
    @pytest.mark.parametrize(
        ("dataset", "info", "message"),
        [
            (images(2, np.uint8), IMAGE, r"`x` is uint8 \(2, 1, 4, 4\), .*`image` takes float32 \(batch, 1, 4, 4\)"),
            (images(2, np.uint8), IMAGE, r"astype\('float32'\), or put dtype = \"float32\" into dataset.toml"),
            ({"ids": np.zeros((2, 3), np.float32)}, TOKENS, r"float32 \(2, 3\).* int64 \(batch, length\)"),
            (floats(2, 16), IMAGE, r"float32 \(2, 16\)(.|\n)*Reshape it: x.reshape\(-1, 1, 4, 4\), or .*\[1, 4, 4\]"),
            (floats(2), TensorInfo("a", FLOAT, ("n", 1)), r"Reshape it: x.reshape\(-1, 1\)"),
            (floats(2, 1, 4, 5), IMAGE, r"\(2, 1, 4, 5\)"),
            (floats(2, 5), TensorInfo("a", FLOAT, ()), r"float32 \(2, 5\).*`a` takes float32 \(\)"),
            ({"z": images(2)}, IMAGE, r"nothing for the model's input `image`, float32 .* holds `z` float32"),
            (floats(2, 4, 5, 3), COLOUR, r'looks like NHWC: add layout = "NHWC" to .* x.transpose\(0, 3, 1, 2\)'),
            (floats(2, 3, 4, 5), TensorInfo("a", FLOAT, (None, 4, 5, 3)), r"looks like NCHW: .*\(0, 2, 3, 1\)"),
            (floats(2, 1, 4, 5), COLOUR, r"It has 1 channels, the model takes 3"),
            (floats(9, 2, 3, 4, 5), COLOUR, r"It looks like batches"),
            (floats(2, 7), TensorInfo("a", FLOAT, ("n", 8)), r"float32 \(2, 7\).*float32 \(n, 8\)"),
        ],
    )
    def test_name_both_and_what_helps(self, dataset: Any, info: TensorInfo, message: str) -> None:
        with pytest.raises(DataError, match=message):
            fit(open_dataset(dataset), [info])

    def test_a_symbolic_size_is_one_size(self) -> None:
        arrays = {"ids": np.zeros((2, 3), np.int64), "mask": np.ones((2, 4), np.int64)}
        with pytest.raises(DataError, match="`length` is 3 in `ids` and 4 in `mask`"):
            fit(open_dataset(arrays), [TOKENS, MASK])

    def test_different_fixed_batches(self) -> None:
        infos = [TensorInfo("a", FLOAT, (2, 3)), TensorInfo("b", FLOAT, (4, 3))]
        with pytest.raises(DataError, match=r"different fixed sizes on axis 0: \[2, 4\]"):
            fit(open_dataset({"a": floats(8, 3), "b": floats(8, 3)}), infos)

    def test_both_shapes_around_preprocessing(self) -> None:
        data = Dataset({"x": floats(2, 20)}, prepare={"": Preprocess(reshape=(4, 5))})
        with pytest.raises(DataError, match=r"float32 \(2, 4, 5\) \(float32 \(2, 20\) before preprocessing\)"):
            fit(data, [COLOUR])

    def test_preprocessing_for_nobody(self) -> None:
        data = Dataset({"x": images(2)}, prepare={"imgae": Preprocess(0.5)})
        with pytest.raises(DataError, match=r"preprocessing for `imgae`.*\nNearest: image"):
            fit(data, [IMAGE])

    def test_image_keys_on_an_array(self) -> None:
        data = Dataset({"x": images(2)}, prepare={"x": Preprocess(resize=(4, 4))})
        with pytest.raises(DataError, match=r"`x`: resize is for images in files, this is an array"):
            fit(data, [IMAGE])
