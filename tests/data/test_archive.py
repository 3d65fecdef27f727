from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnxprune.data import archive
from onnxprune.data.archive import Inflated, npy, npz
from onnxprune.data.rows import Stored
from onnxprune.errors import DataError

Array = np.ndarray[Any, Any]
ARRAYS = {
    "x": np.random.default_rng(0).standard_normal((50, 3, 4)).astype(np.float32),
    "ids": np.arange(150).reshape(50, 3),
    "fortran": np.asfortranarray(np.arange(200.0).reshape(50, 4)),
    "big_endian": np.arange(50, dtype=">i4"),
    "half": np.arange(50, dtype=np.float16),
    "flags": np.arange(50) % 2 == 0,
    "words": np.array([f"word {k}" for k in range(50)]),
    "nothing": np.zeros((50, 0), np.float32),
    "empty": np.zeros((0, 4), np.float32),
}


@pytest.fixture(params=["small", "large"])
def limits(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Read whole as all small members are, or as if every member were large."""
    if request.param == "large":
        monkeypatch.setattr(archive, "SMALL", 0)
        monkeypatch.setattr(archive, "MEDIUM", 0)
    return str(request.param)


class TestArchives:
    @pytest.mark.parametrize("name", ARRAYS)
    def test_stored(self, name: str, limits: str, tmp_path: Path) -> None:
        np.savez(tmp_path / "d.npz", **ARRAYS)
        column = npz(tmp_path / "d.npz")[name]
        np.testing.assert_array_equal(column, ARRAYS[name])
        np.testing.assert_array_equal(column[10:13], ARRAYS[name][10:13])
        assert isinstance(column, np.ndarray if limits == "small" or name == "fortran" else Stored)

    @pytest.mark.parametrize("name", ARRAYS)
    def test_compressed(self, name: str, limits: str, tmp_path: Path) -> None:
        np.savez_compressed(tmp_path / "d.npz", **ARRAYS)
        members = npz(tmp_path / "d.npz")
        if name == "fortran" and limits == "large":
            with pytest.raises(DataError, match=r"`fortran.npy` is compressed, in Fortran order(.|\n)*ascontiguous"):
                members[name]
            return
        column = members[name]
        for rows in (slice(0, 7), slice(40, 50), slice(3, 5), slice(5, 9)):
            np.testing.assert_array_equal(column[rows], ARRAYS[name][rows])
        assert isinstance(column, np.ndarray if limits == "small" else Inflated)

    def test_only_what_is_asked_for_is_opened(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "d.npz", x=np.zeros(3), broken=np.array([None]))
        members = npz(tmp_path / "d.npz")
        assert list(members) == ["x", "broken"]
        assert members["x"].shape == (3,)
        with pytest.raises(DataError, match="Object arrays"):
            members["broken"]

    def test_a_compressed_column_travels(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(archive, "MEDIUM", 0)
        np.savez_compressed(tmp_path / "d.npz", **ARRAYS)
        column = npz(tmp_path / "d.npz")["x"]
        column[5:9]
        again = pickle.loads(pickle.dumps(column))  # noqa: S301 - our own
        np.testing.assert_array_equal(again[20:30], ARRAYS["x"][20:30])

    def test_other_files_in_the_zip(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "d.npz", x=ARRAYS["x"])
        with zipfile.ZipFile(tmp_path / "d.npz", "a") as file:
            file.writestr("README.txt", "hello")
        members = npz(tmp_path / "d.npz")
        np.testing.assert_array_equal(members["x"], ARRAYS["x"])
        with pytest.raises(DataError, match="magic string"):
            members["README.txt"]


class TestDamage:
    def test_a_wrong_byte_in_a_small_member(self, tmp_path: Path) -> None:
        path = tmp_path / "d.npz"
        np.savez(path, x=ARRAYS["x"])
        content = bytearray(path.read_bytes())
        content[400] ^= 255
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"d.npz: cannot be read as npz: Bad CRC-32"):
            npz(path)["x"]

    def test_a_wrong_byte_in_a_large_compressed_member(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(archive, "MEDIUM", 0)
        path = tmp_path / "d.npz"
        np.savez_compressed(path, x=np.random.default_rng(0).standard_normal(100_000))
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 255
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"d.npz: `x.npy` cannot be read as npz"):
            np.asarray(npz(path)["x"])

    def test_a_header_that_promises_too_much(self, tmp_path: Path) -> None:
        path = tmp_path / "d.npz"
        np.save(tmp_path / "x.npy", ARRAYS["x"])
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("x.npy", (tmp_path / "x.npy").read_bytes().replace(b"(50, 3, 4), ", b"(50, 3, 400)"))
        with pytest.raises(DataError, match=r"d.npz: cannot be read as npz: `x.npy` ends too early"):
            npz(path)["x"]

    @pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"\x93NUMPY\x09\x09abc", b"not an array at all"])
    def test_no_array(self, content: bytes, tmp_path: Path) -> None:
        path = tmp_path / "x.npy"
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"x.npy: cannot be read as npy"):
            npy(path)

    def test_one_array_under_another_name(self, tmp_path: Path) -> None:
        np.save(tmp_path / "x.npy", ARRAYS["x"])
        (tmp_path / "x.npy").rename(tmp_path / "x.npz")
        with pytest.raises(DataError, match=r"x.npz: holds one array, not an archive"):
            npz(tmp_path / "x.npz")


@pytest.mark.parametrize("name", ARRAYS)
def test_array_files(name: str, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", ARRAYS[name])
    column = npy(tmp_path / "x.npy")
    assert isinstance(column, np.memmap if name == "fortran" else Stored)
    np.testing.assert_array_equal(column, ARRAYS[name])
    np.testing.assert_array_equal(column[7:9], ARRAYS[name][7:9])
