"""Columns against the arrays that they stand for."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from onnxprune.data.archive import Inflated, npz
from onnxprune.data.prepare import Prepared, Steps
from onnxprune.data.rows import Rows, Stored, Taken, source_rows
from onnxprune.errors import DataError

Array = np.ndarray[Any, Any]
ARRAY = np.random.default_rng(0).standard_normal((300, 3, 4)).astype(np.float32)
KINDS = ("stored", "inflated", "taken", "prepared")
SLICES = st.builds(slice, *[st.none() | st.integers(-320, 320)] * 2, st.none() | st.sampled_from([1, 2, 7, -1, -3]))


@pytest.fixture(scope="module")
def columns(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Rows]:
    folder = tmp_path_factory.mktemp("rows")
    (folder / "raw.bin").write_bytes(b"header" + ARRAY.tobytes())
    np.savez_compressed(folder / "d.npz", x=ARRAY)
    order = np.random.default_rng(1).permutation(300)
    return {
        "stored": Stored(folder / "raw.bin", 6, ARRAY.shape, ARRAY.dtype),
        "inflated": Inflated(folder / "d.npz", "x.npy", 128, ARRAY.shape, ARRAY.dtype),
        "taken": Taken(ARRAY[order], np.argsort(order)),
        "prepared": Prepared(ARRAY / 2, Steps(scale=2.0)),
    }


@pytest.mark.parametrize("kind", KINDS)
class TestColumns:
    def test_whole(self, kind: str, columns: dict[str, Rows]) -> None:
        column = columns[kind]
        assert (column.shape, column.dtype, len(column)) == (ARRAY.shape, ARRAY.dtype, 300)
        np.testing.assert_array_equal(np.asarray(column), ARRAY)
        np.testing.assert_array_equal(np.asarray(column, np.float64), ARRAY.astype(np.float64))

    @given(SLICES)
    @settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_any_slice(self, kind: str, columns: dict[str, Rows], rows: slice) -> None:
        np.testing.assert_array_equal(columns[kind][rows], ARRAY[rows])

    @given(st.lists(st.integers(-300, 299), max_size=40))
    @settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_any_rows(self, kind: str, columns: dict[str, Rows], rows: list[int]) -> None:
        np.testing.assert_array_equal(columns[kind][np.array(rows, np.int64)], ARRAY[rows])

    def test_rows_that_are_not_there(self, kind: str, columns: dict[str, Rows]) -> None:
        with pytest.raises(IndexError, match="rows 300 to 300 of a column with 300"):
            columns[kind][np.array([300])]
        with pytest.raises(IndexError, match="whole numbers, not by float64"):
            columns[kind][np.array([0.5])]

    def test_what_is_not_in_memory_has_no_view(self, kind: str, columns: dict[str, Rows]) -> None:
        with pytest.raises(ValueError, match="cannot be had without a copy"):
            np.array(columns[kind], copy=False)


def test_scattered_rows_are_read_in_pieces(monkeypatch: pytest.MonkeyPatch, columns: dict[str, Rows]) -> None:
    read: list[int] = []
    original = Stored.read

    def counted(self: Stored, start: int, stop: int) -> Array:
        read.append(stop - start)
        return original(self, start, stop)

    monkeypatch.setattr(Stored, "read", counted)
    monkeypatch.setattr("onnxprune.data.rows.SPAN", 48 * 50)  # fifty rows
    column = columns["stored"]
    rows = np.array([299, 3, 0, 120, 4])
    np.testing.assert_array_equal(column[rows], ARRAY[rows])
    assert read == [5, 1, 1]


def test_source_rows_through_several_columns() -> None:
    column = Prepared(Taken(Taken(ARRAY, np.array([9, 5, 7])), np.array([2, 0])), Steps(scale=1.0))
    assert source_rows(column, np.array([0, 1])).tolist() == [7, 9]


def test_a_file_that_is_too_short(tmp_path: Path) -> None:
    (tmp_path / "raw.bin").write_bytes(ARRAY.tobytes()[:-5])
    with pytest.raises(DataError, match=r"raw.bin: cannot be read: the file ends 5 bytes too early"):
        Stored(tmp_path / "raw.bin", 0, ARRAY.shape, ARRAY.dtype)


def test_a_file_that_is_cut_while_it_is_in_use(tmp_path: Path) -> None:
    path = tmp_path / "raw.npy"
    np.save(path, ARRAY)
    column = Stored(path, 128, ARRAY.shape, ARRAY.dtype)
    path.write_bytes(path.read_bytes()[:-5])
    assert len(column[0:3]) == 3
    with pytest.raises(DataError, match=r"raw.npy: cannot be read as npy: the file ends too early"):
        column[290:300]
    path.unlink()
    with pytest.raises(DataError, match="No such file"):
        column[0:1]


def test_threads_have_their_own_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnxprune.data.archive.MEDIUM", 0)
    np.savez_compressed(tmp_path / "d.npz", x=ARRAY)
    column = npz(tmp_path / "d.npz")["x"]

    def walk(size: int) -> Array:
        return np.concatenate([column[k : k + size] for k in range(0, 300, size)])

    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(walk, [1, 3, 7, 11, 50, 300]):
            np.testing.assert_array_equal(found, ARRAY)
