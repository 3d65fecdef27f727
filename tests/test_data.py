from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnxprune.data import Dataset, batches, fit, open_dataset
from onnxprune.errors import DataError
from onnxprune.runtime import TensorInfo

FLOAT = np.dtype(np.float32)
IMAGE = TensorInfo("image", FLOAT, ("batch", 1, 4, 4))
TOKENS = TensorInfo("ids", np.dtype(np.int64), ("batch", "length"))
MASK = TensorInfo("mask", np.dtype(np.int64), ("batch", "length"))


def images(count: int, dtype: Any = np.float32) -> np.ndarray[Any, Any]:
    return np.arange(count * 16).reshape(count, 1, 4, 4).astype(dtype)


class TestOpening:
    def test_whole(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "d.npz", x=images(5), y=np.arange(5), class_names=["cat", "dog"])
        found = open_dataset(tmp_path / "d.npz")
        assert len(found) == 5
        assert found.class_names == ("cat", "dog")
        np.testing.assert_array_equal(found.labels, np.arange(5))

    @pytest.mark.parametrize(("split", "count"), [("train", 6), ("test", 3), (None, 3)])
    def test_splits(self, split: str | None, count: int, tmp_path: Path) -> None:
        np.savez(tmp_path / "d.npz", x_train=images(6), y_train=np.zeros(6), x_test=images(3), y_test=np.ones(3))
        found = open_dataset(str(tmp_path / "d.npz"), split)
        assert len(found) == count
        assert list(found.inputs) == ["x"]

    def test_several_inputs_with_splits(self) -> None:
        ids = np.zeros((4, 7), np.int64)
        found = open_dataset({"ids_test": ids, "mask_test": ids, "y_test": np.zeros(4), "ids_train": ids[:1]})
        assert list(found.inputs) == ["ids", "mask"]

    def test_a_pair_of_files_is_mapped(self, tmp_path: Path) -> None:
        np.save(tmp_path / "x_test.npy", images(4))
        np.save(tmp_path / "y_test.npy", np.arange(4))
        found = open_dataset(tmp_path / "x_test.npy")
        assert isinstance(found.inputs["x"], np.memmap)
        np.testing.assert_array_equal(found.labels, np.arange(4))

    def test_one_file_has_no_labels(self, tmp_path: Path) -> None:
        np.save(tmp_path / "images.npy", images(4))
        assert open_dataset(tmp_path / "images.npy").labels is None

    def test_arrays(self) -> None:
        assert open_dataset(images(3)).labels is None
        found = open_dataset((images(3), np.arange(3)))
        assert open_dataset(found) is found

    def test_objects_are_not_read(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "d.npz", x=images(2), y=np.array(["a", None], object))
        with pytest.raises(DataError, match=r"d.npz: cannot be read as npz: Object arrays"):
            open_dataset(tmp_path / "d.npz")

    def test_a_split_of_a_dataset_without(self) -> None:
        with pytest.raises(DataError, match="no split 'test'; it holds x, y\nIt has no splits"):
            open_dataset({"x": images(2), "y": np.arange(2)}, "test")

    def test_a_folder(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"not a .npz or .npy file"):
            open_dataset(tmp_path)

    def test_a_single_value(self) -> None:
        with pytest.raises(DataError, match="`x` is a single value"):
            open_dataset(np.float32(1))  # type: ignore[arg-type]

    def test_nothing(self) -> None:
        with pytest.raises(DataError, match="no samples"):
            open_dataset({"y": np.arange(3)})


class TestFitting:
    def test_the_only_input_may_be_called_x(self) -> None:
        assert list(fit(open_dataset(images(2)), [IMAGE]).inputs) == ["image"]

    @pytest.mark.parametrize("dtype", [np.float64, np.float16])
    def test_floats_are_cast(self, dtype: Any) -> None:
        (batch,) = batches(fit(open_dataset(images(2, dtype)), [IMAGE]))
        assert batch.feeds["image"].dtype == FLOAT

    def test_integers_are_widened(self) -> None:
        (batch,) = batches(fit(open_dataset({"ids": np.zeros((2, 3), np.int32)}), [TOKENS]))
        assert batch.feeds["ids"].dtype == np.int64

    @pytest.mark.parametrize(
        ("dataset", "info", "message"),
        [
            (images(2, np.uint8), IMAGE, r"`x` is uint8 \(2, 1, 4, 4\), .*`image` takes float32 \(batch, 1, 4, 4\)"),
            ({"ids": np.zeros((2, 3), np.float32)}, TOKENS, r"float32 \(2, 3\).* int64 \(batch, length\)"),
            (np.zeros((2, 16), np.float32), IMAGE, r"float32 \(2, 16\)(.|\n)*Reshape it: x.reshape\(-1, 1, 4, 4\)"),
            (np.zeros((2, 1, 4, 5), np.float32), IMAGE, r"\(2, 1, 4, 5\)"),
            (np.zeros((2, 5), np.float32), TensorInfo("a", FLOAT, ()), r"float32 \(2, 5\).*`a` takes float32 \(\)"),
            ({"z": images(2)}, IMAGE, r"nothing for the model's input `image`, float32 .* holds `z` float32"),
        ],
    )
    def test_mismatches_name_both(self, dataset: Any, info: TensorInfo, message: str) -> None:
        with pytest.raises(DataError, match=message):
            fit(open_dataset(dataset), [info])

    def test_two_inputs_need_their_names(self) -> None:
        with pytest.raises(DataError, match="nothing for the model's input `mask`"):
            fit(open_dataset({"ids": np.zeros((2, 3), np.int64)}), [TOKENS, MASK])

    def test_a_symbolic_size_is_one_size(self) -> None:
        arrays = {"ids": np.zeros((2, 3), np.int64), "mask": np.ones((2, 4), np.int64)}
        with pytest.raises(DataError, match="`length` is 3 in `ids` and 4 in `mask`"):
            fit(open_dataset(arrays), [TOKENS, MASK])


class TestBatches:
    def test_all_samples_in_order(self) -> None:
        data = fit(open_dataset((images(10), np.arange(10))), [IMAGE])
        found = list(batches(data, 4))
        assert [b.count for b in found] == [4, 4, 2]
        np.testing.assert_array_equal(np.concatenate([b.feeds["image"] for b in found]), images(10))
        np.testing.assert_array_equal(np.concatenate([b.labels for b in found]), np.arange(10))  # type: ignore[misc]

    def test_a_limit(self) -> None:
        assert [b.count for b in batches(fit(open_dataset(images(10)), [IMAGE]), 4, limit=5)] == [4, 1]

    def test_a_fixed_batch_is_filled_up(self) -> None:
        data = fit(open_dataset(images(5)), [TensorInfo("image", FLOAT, (3, 1, 4, 4))])
        first, last = batches(data, 64)
        assert (first.count, last.count) == (3, 2)
        assert last.feeds["image"].shape == (3, 1, 4, 4)
        np.testing.assert_array_equal(last.feeds["image"][2], last.feeds["image"][1])

    def test_different_fixed_batches(self) -> None:
        infos = [TensorInfo("a", FLOAT, (2, 3)), TensorInfo("b", FLOAT, (4, 3))]
        with pytest.raises(DataError, match=r"different fixed sizes on axis 0: \[2, 4\]"):
            fit(open_dataset({"a": np.zeros((8, 3), np.float32), "b": np.zeros((8, 3), np.float32)}), infos)


def test_unequal_numbers_of_samples() -> None:
    with pytest.raises(DataError, match="`x` 3, `y` 2"):
        Dataset({"x": images(3)}, np.arange(2))
