from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxprune.data import Dataset, batches, check_finite, fit, open_dataset
from onnxprune.errors import DataError, OptionError
from onnxprune.runtime import TensorInfo

Array = np.ndarray[Any, Any]
FLOAT = np.dtype(np.float32)
IMAGE = TensorInfo("image", FLOAT, ("batch", 1, 4, 4))


def images(count: int) -> Array:
    return np.arange(count * 16).reshape(count, 1, 4, 4).astype(np.float32)


class TestBatches:
    @given(st.integers(1, 40), st.integers(1, 50), st.none() | st.integers(1, 50))
    @settings(deadline=None)
    def test_together_are_the_whole(self, count: int, size: int, limit: int | None) -> None:
        data = fit(open_dataset((images(count), np.arange(count))), [IMAGE])
        found = list(batches(data, size, limit))
        total = min(count, limit or count)
        assert all(b.count == size for b in found[:-1])
        np.testing.assert_array_equal(np.concatenate([b.feeds["image"] for b in found]), images(total))
        np.testing.assert_array_equal(np.concatenate([b.labels for b in found]), np.arange(total))  # type: ignore[misc]

    def test_a_fixed_batch_is_filled_up(self) -> None:
        data = fit(open_dataset(images(5)), [TensorInfo("image", FLOAT, (3, 1, 4, 4))])
        first, last = batches(data, 64)
        assert (first.count, last.count) == (3, 2)
        assert last.feeds["image"].shape == (3, 1, 4, 4)
        np.testing.assert_array_equal(last.feeds["image"][2], last.feeds["image"][1])

    def test_c_order_and_aligned(self) -> None:
        packed = np.frombuffer(bytearray(b"\0" + images(4).tobytes()), np.uint8)[1:].view(np.float32)
        (batch,) = batches(open_dataset(packed.reshape(4, 1, 4, 4).transpose(0, 1, 3, 2)))
        assert batch.feeds["x"].flags.c_contiguous
        assert batch.feeds["x"].flags.aligned

    def test_a_size_that_makes_no_sense(self) -> None:
        with pytest.raises(OptionError, match="batch size: got 0, expected at least 1"):
            next(batches(open_dataset(images(4)), 0))


class TestSelection:
    @given(st.lists(st.integers(-12, 11), min_size=1, max_size=30), st.integers(1, 7))
    @settings(deadline=None)
    def test_rows_in_any_order(self, rows: list[int], size: int) -> None:
        data = open_dataset((images(12), np.arange(12))).select(rows)
        found = list(batches(data, size))
        np.testing.assert_array_equal(np.concatenate([b.feeds["x"] for b in found]), images(12)[rows])
        np.testing.assert_array_equal(np.concatenate([b.labels for b in found]), np.arange(12)[rows])  # type: ignore[misc]

    def test_twice(self) -> None:
        data = open_dataset(images(9)).select([8, 3, 5]).select([2, 0])
        np.testing.assert_array_equal(data.inputs["x"], images(9)[[5, 8]])

    def test_by_truth_values(self) -> None:
        labels = np.array([0, 1, 1, 0])
        assert np.asarray(open_dataset((images(4), labels)).select(labels == 1).labels).tolist() == [1, 1]

    def test_a_row_that_is_not_there(self) -> None:
        with pytest.raises(OptionError, match=r"rows 2 to 4 of a column with 4\nIts samples are 0 to 3"):
            open_dataset(images(4)).select([2, 4])

    def test_head(self) -> None:
        assert open_dataset(images(4)).head(3)["x"].shape == (3, 1, 4, 4)
        assert len(open_dataset(images(4)).head(9)["x"]) == 4


class TestSubsets:
    @given(st.lists(st.integers(0, 4), min_size=2, max_size=60), st.data(), st.integers(0, 5))
    @settings(deadline=None)
    def test_every_class_has_its_share(self, classes: list[int], data: st.DataObject, seed: int) -> None:
        labels = np.array(classes)
        limit = data.draw(st.integers(1, len(labels) - 1))
        part = open_dataset((np.arange(len(labels)), labels)).subset(limit, seed)
        rows, drawn = np.asarray(part.inputs["x"]), np.asarray(part.labels)
        assert len(set(rows.tolist())) == limit
        assert (np.diff(rows) > 0).all()
        np.testing.assert_array_equal(drawn, labels[rows])
        there, counts = np.unique(labels, return_counts=True)
        quota = np.array([(drawn == c).sum() for c in there])
        if limit >= len(there):
            assert quota.min() >= 1
        # One for each class, the rest in proportion: never more than one away from the exact share of the rest.
        base = np.full(len(there), int(limit >= len(there)))
        exact = base + (counts - base) * (limit - base.sum()) / max(1, (counts - base).sum())
        assert (np.abs(quota - exact) < 1 + 1e-9).all()

    def test_labels_are_read_in_blocks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        labels = np.random.default_rng(0).choice([7, -2, 300], 1000, p=[0.6, 0.3, 0.1])
        data = open_dataset((np.arange(1000), labels))
        whole = np.asarray(data.subset(50).inputs["x"])
        monkeypatch.setattr("onnxprune.data.subsets.BLOCK", 64)
        np.testing.assert_array_equal(data.subset(50).inputs["x"], whole)

    def test_every_row_may_be_drawn(self) -> None:
        data = open_dataset((np.arange(12), np.arange(12) % 3))
        drawn = [np.asarray(data.subset(6, seed).inputs["x"]) for seed in range(200)]
        assert (np.bincount(np.concatenate(drawn), minlength=12) > 60).all()  # 100 on average

    def test_without_classes_uniform(self) -> None:
        data = open_dataset((np.arange(1000), np.linspace(0, 1, 1000)))
        rows = np.asarray(data.subset(100).inputs["x"])
        assert len(np.unique(rows)) == 100
        assert 350 < rows.mean() < 650

    def test_seeded(self) -> None:
        data = open_dataset((np.arange(50), np.arange(50) % 3))
        one, same, other = (np.asarray(data.subset(9, seed).inputs["x"]).tolist() for seed in (1, 1, 2))
        assert one == same != other

    def test_all_of_it(self) -> None:
        data = open_dataset(images(4))
        assert data.subset(4) is data

    def test_samples_of_classes(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("onnxprune.data.subsets.BLOCK", 3)
        labels = np.array([2, 0, 1, 1, 2, 0, 0, 1])
        data = Dataset({"x": np.arange(8.0)}, labels, ("cat", "dog", "1"), "pets")
        for classes, rows in ((["dog"], [2, 3, 7]), (["1"], [0, 4]), ([0, "dog"], [1, 2, 3, 5, 6, 7])):
            part = data.of_classes(classes)  # type: ignore[arg-type]
            np.testing.assert_array_equal(part.inputs["x"], rows)
            np.testing.assert_array_equal(np.asarray(part.labels), labels[rows])
        assert data.of_classes(["dog"]).name == "pets, 3 of 8 samples: class dog"

    def test_samples_of_no_class(self) -> None:
        data = Dataset({"x": np.arange(3.0)}, np.array([0, 1, 1]), ("cat", "dog", "cow"), "pets")
        with pytest.raises(OptionError, match="pets: there is no class 'emu'"):
            data.of_classes(["emu"])
        with pytest.raises(OptionError, match="no sample is of class 'cow'"):
            data.of_classes(["cow"])
        with pytest.raises(DataError, match="there is not one class for each sample"):
            Dataset({"x": np.arange(3.0)}, np.array([0.5, 1, 1])).of_classes([1])
        with pytest.raises(DataError, match="there is not one class for each sample"):
            Dataset({"x": np.arange(3.0)}).of_classes([1])

    def test_none_of_it(self) -> None:
        with pytest.raises(OptionError, match="limit: got 0, expected at least 1 sample"):
            open_dataset(images(4)).subset(0)


class TestFinite:
    def broken(self) -> Dataset:
        array = images(200)
        array[[3, 70, 71, 150], 0, 1, 2] = np.nan, np.inf, -np.inf, np.nan
        return open_dataset((array, np.arange(200)))

    def test_the_first_bad_batch(self) -> None:
        stream = batches(self.broken(), 60)
        with pytest.raises(DataError, match=r"`x` holds NaN or Inf in 1 rows of the 60 from row 0 on: 3\n.*allow_nan"):
            next(stream)

    def test_all_rows(self) -> None:
        seen: list[tuple[str, int, int]] = []
        with pytest.raises(DataError, match=r"`x` holds NaN or Inf in 4 rows: 3, 70, 71, 150\n"):
            check_finite(self.broken(), lambda *at: seen.append(at))
        assert seen[-1] == ("looking for NaN", 200, 200)

    def test_numbers_are_those_of_the_source(self) -> None:
        part = self.broken().select([0, 150, 2, 70]).select([3, 2, 1])
        with pytest.raises(DataError, match=r"in 2 rows of the 3 from row 0 on: 70, 150\n"):
            next(batches(part))

    def test_numbers_survive_preprocessing(self) -> None:
        part = fit(self.broken().select([150]), [TensorInfo("image", np.dtype(np.float64), ("n", 1, 4, 4))])
        with pytest.raises(DataError, match=r"`image` holds NaN or Inf in 1 rows.*: 150\n"):
            next(batches(part))

    def test_targets_too(self) -> None:
        with pytest.raises(DataError, match=r"`y` holds NaN or Inf in 1 rows.*: 1\n"):
            next(batches(open_dataset((images(2), np.array([0.5, np.nan])))))

    def test_unless_they_are_meant(self) -> None:
        assert sum(b.count for b in batches(self.broken(), finite=False)) == 200
        allowed = Dataset(self.broken().inputs, allow_nan=True)
        assert sum(b.count for b in batches(allowed)) == 200

    def test_a_fixed_batch_does_not_shift_the_rows(self) -> None:
        array = images(7)
        array[6] = np.nan
        data = fit(open_dataset(array), [TensorInfo("image", FLOAT, (4, 1, 4, 4))])
        with pytest.raises(DataError, match=r"in 1 rows: 6\n"):
            check_finite(data)


def test_datasets_of_files_travel_without_their_contents(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "small.npz", x=images(3))
    np.save(tmp_path / "x.npy", np.zeros((1000, 1000), np.float32))
    sent = pickle.dumps(open_dataset(tmp_path / "x.npy").select(np.arange(10)))
    assert len(sent) < 2000
    assert len(pickle.loads(sent)) == 10  # noqa: S301 - made two lines above
