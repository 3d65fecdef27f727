from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnxprune.data import Dataset, batches, open_calibration, open_dataset, splits_of
from onnxprune.errors import DataError

Array = np.ndarray[Any, Any]


def images(count: int, dtype: Any = np.float32) -> Array:
    return np.arange(count * 16).reshape(count, 1, 4, 4).astype(dtype)


def saved(folder: Path, **arrays: Array) -> Path:
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    return folder


class TestArchives:
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
        assert splits_of(tmp_path / "d.npz") == ("test", "train")

    def test_a_split_that_is_not_there(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "d.npz", x_train=images(6))
        with pytest.raises(DataError, match=r"d.npz: there is no split 'val'; it holds x_train\nSplits there: train."):
            open_dataset(tmp_path / "d.npz", "val")

    def test_objects_are_not_read(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "d.npz", x=images(2), y=np.array(["a", None], object))
        with pytest.raises(DataError, match=r"d.npz: cannot be read as npz: Object arrays .* pad them"):
            open_dataset(tmp_path / "d.npz")

    def test_no_archive(self, tmp_path: Path) -> None:
        (tmp_path / "d.npz").write_bytes(b"PK\x03\x04 but nothing more")
        with pytest.raises(DataError, match=r"d.npz: cannot be read as npz: File is not a zip file"):
            open_dataset(tmp_path / "d.npz")

    def test_near_names(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "digits.npz", x=images(2))
        with pytest.raises(DataError, match=r"digit.npz: there is no such file\nNearest: digits.npz"):
            open_dataset(tmp_path / "digit.npz")

    def test_another_kind_of_file(self, tmp_path: Path) -> None:
        (tmp_path / "model.onnx").write_bytes(b"")
        with pytest.raises(DataError, match=r"model.onnx: not a .npz or .npy file, nor a folder"):
            open_dataset(tmp_path / "model.onnx")


class TestArrayFiles:
    def test_a_pair(self, tmp_path: Path) -> None:
        saved(tmp_path, x=images(4), y=np.arange(4))
        found = open_dataset(tmp_path / "x.npy")
        assert not isinstance(found.inputs["x"], np.ndarray)  # nothing is read yet
        np.testing.assert_array_equal(found.inputs["x"], images(4))
        np.testing.assert_array_equal(found.labels, np.arange(4))
        assert splits_of(tmp_path / "x.npy") == ()

    @pytest.mark.parametrize("name", ["x_test.npy", "x_train.npy"])
    @pytest.mark.parametrize(("split", "count"), [("train", 6), ("test", 4)])
    def test_splits_beside_each_other(self, name: str, split: str, count: int, tmp_path: Path) -> None:
        saved(tmp_path, x_train=images(6), y_train=np.arange(6), x_test=images(4), y_test=np.arange(4))
        found = open_dataset(tmp_path / name, split)
        assert (len(found), len(found.labels or ())) == (count, count)
        assert splits_of(tmp_path / name) == ("test", "train")

    def test_the_name_of_the_file_is_the_split(self, tmp_path: Path) -> None:
        saved(tmp_path, x_train=images(6), x_test=images(4))
        assert len(open_dataset(tmp_path / "x_train.npy")) == 6

    def test_names_that_only_begin_alike(self, tmp_path: Path) -> None:
        saved(tmp_path, x1=images(3), y1=np.arange(3), x2=images(2))
        assert len(open_dataset(tmp_path / "x1.npy").labels or ()) == 3
        assert open_dataset(tmp_path / "x2.npy").labels is None

    def test_one_file_has_no_labels(self, tmp_path: Path) -> None:
        saved(tmp_path, images=images(4), y=np.arange(4))
        assert open_dataset(tmp_path / "images.npy").labels is None

    @pytest.mark.parametrize("split", ["train", None])
    def test_a_folder_named_after_the_inputs(self, split: str | None, tmp_path: Path) -> None:
        ids = np.zeros((4, 7), np.int64)
        saved(tmp_path, ids_train=ids, mask_train=ids, y_train=np.zeros(4))
        found = open_dataset(tmp_path, split)
        assert sorted(found.inputs) == ["ids", "mask"]
        assert len(found.labels or ()) == 4

    def test_a_folder_that_cannot_be_listed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def denied(*_: Any, **__: Any) -> Any:
            raise PermissionError(13, "Permission denied", str(tmp_path))

        monkeypatch.setattr("os.scandir", denied)
        with pytest.raises(DataError, match="cannot be read: Permission denied"):
            open_dataset(tmp_path)

    def test_the_folder_one_stands_in(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        saved(tmp_path, x=images(3))
        monkeypatch.chdir(tmp_path)
        assert open_dataset(".").name == "."

    def test_an_empty_folder(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"there are no images and no arrays in this folder"):
            open_dataset(tmp_path)


class TestArrays:
    def test_several_inputs_with_splits(self) -> None:
        ids = np.zeros((4, 7), np.int64)
        found = open_dataset({"ids_test": ids, "mask_test": ids, "y_test": np.zeros(4), "ids_train": ids[:1]})
        assert list(found.inputs) == ["ids", "mask"]

    def test_one_array_and_a_pair(self) -> None:
        assert open_dataset(images(3)).labels is None
        found = open_dataset((images(3), np.arange(3)))
        assert open_dataset(found) is found

    def test_several_inputs_and_labels(self) -> None:
        found = open_dataset(({"a": images(3), "b": images(3)}, np.arange(3)))
        assert (list(found.inputs), len(found)) == (["a", "b"], 3)

    def test_columns_of_another_library_are_not_copied(self) -> None:
        class Hdf5:
            """As an HDF5 data set looks: rows by slice, no NumPy array."""

            shape, dtype, read = (6, 2), np.dtype(np.float32), 0

            def __len__(self) -> int:
                return 6

            def __getitem__(self, rows: slice) -> Array:
                type(self).read += len(range(*rows.indices(6)))
                return np.zeros((6, 2), np.float32)[rows]

            def __array__(self, dtype: Any = None, copy: Any = None) -> Array:
                raise AssertionError("all of it is read")

        found = open_dataset((Hdf5(), np.arange(6)))
        assert [b.count for b in batches(found, 4)] == [4, 2]
        assert Hdf5.read == 6

    def test_a_split_of_a_dataset_without(self) -> None:
        with pytest.raises(DataError, match="no split 'test'; it holds x, y\nIt has no splits"):
            open_dataset({"x": images(2), "y": np.arange(2)}, "test")
        with pytest.raises(DataError, match="no split 'test' in it\nIt has no splits"):
            open_dataset((images(2), np.arange(2)), "test")

    @pytest.mark.parametrize("source", [np.float32(1), np.array(3.0), {"x": 1.0}, (np.float32(1), None)])
    def test_a_single_value(self, source: Any) -> None:
        with pytest.raises(DataError, match="`x` is a single value"):
            open_dataset(source)

    def test_nothing(self) -> None:
        with pytest.raises(DataError, match="no samples"):
            open_dataset({"y": np.arange(3)})
        with pytest.raises(DataError, match="it holds 0 samples"):
            open_dataset(images(0))

    def test_unequal_numbers_of_samples(self) -> None:
        with pytest.raises(DataError, match="`x` 3, `y` 2"):
            Dataset({"x": images(3)}, np.arange(2))

    @pytest.mark.parametrize(
        ("source", "message"),
        [
            (([[1, 2], [3]], None), "`x` cannot be made an array(.|\n)*padded to one length"),
            ((np.array([np.zeros(2), np.zeros(3)], object), None), "holds Python objects(.|\n)*padded to one length"),
            ((images(2), images(2), images(2)), "a tuple of 3 is not a dataset"),
            (7, "a int is not a dataset"),
        ],
    )
    def test_what_is_none(self, source: Any, message: str) -> None:
        with pytest.raises(DataError, match=message):
            open_dataset(source)


class TestCalibration:
    def test_takes_the_train_part(self) -> None:
        arrays: Mapping[str, Array] = {"x_train": images(6), "x_test": images(3)}
        assert len(open_calibration(arrays)) == 6
        assert len(open_calibration(arrays, limit=2)) == 2

    def test_takes_what_there_is(self) -> None:
        assert len(open_calibration({"x_test": images(3)})) == 3
        assert len(open_calibration((images(4), np.arange(4)))) == 4
