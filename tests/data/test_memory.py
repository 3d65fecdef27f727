"""Large files are never loaded: a process of its own reads them, and says by how many megabytes it has grown."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path
from textwrap import dedent

import numpy as np
import pytest

GIGABYTE = 1 << 30
MEGABYTE = 1 << 20
ROW = 150_528  # values of an image of 224 x 224 x 3

GROWTH = """
    import os, sys
    import psutil
    from onnxprune.data import batches, check_finite, fit, open_dataset
    from onnxprune.data import archive
    from onnxprune.runtime import TensorInfo
    import numpy as np

    archive.SMALL = archive.MEDIUM = 1 << 20
    process = psutil.Process()
    model = TensorInfo("in", np.dtype(np.float32), ("n", ROW))
    before, most = process.memory_info().rss, 0
    data = fit(open_dataset(sys.argv[1]), [model])
    part = data.select(np.linspace(0, len(data) - 1, 200).astype(int))
    for stream in (batches(data, 64, LIMIT), batches(part, 64)):
        for batch in stream:
            most = max(most, process.memory_info().rss)
    print(len(data), (most - before) >> 20)
"""


def growth(path: Path, limit: int | None = None) -> tuple[int, int]:
    """Number of samples, and megabytes that a process needs for passes over them."""
    script = dedent(GROWTH).replace("ROW", str(ROW)).replace("LIMIT", str(limit))
    done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    samples, megabytes = map(int, done.stdout.split())
    return samples, megabytes


def header(samples: int, dtype: type = np.float32) -> bytes:
    """What a ``.npy`` file begins with."""
    shape = f"({samples}, {ROW})"
    text = f"{{'descr': '{np.dtype(dtype).str}', 'fortran_order': False, 'shape': {shape}, }}"
    text = text.ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_six_gigabytes(dtype: type, tmp_path: Path) -> None:
    """A sparse file: it takes no room on the disk, and would take all of it in memory."""
    samples = 6 * GIGABYTE // (ROW * np.dtype(dtype).itemsize)
    start = header(samples, dtype)
    with (tmp_path / "x.npy").open("wb") as file:
        file.write(start)
        file.truncate(len(start) + samples * ROW * np.dtype(dtype).itemsize)
    found, megabytes = growth(tmp_path / "x.npy", limit=1500)
    assert found == samples
    assert megabytes < 5 * 64 * ROW * 4 / MEGABYTE  # a few batches


@pytest.mark.parametrize("kind", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_members_of_archives(kind: int, tmp_path: Path) -> None:
    samples = 600
    with (
        zipfile.ZipFile(tmp_path / "d.npz", "w", kind, compresslevel=1) as archive,
        archive.open("x.npy", "w", force_zip64=True) as member,
    ):
        member.write(header(samples))
        for _ in range(samples):
            member.write(bytes(ROW * 4))
    found, megabytes = growth(tmp_path / "d.npz")
    assert found == samples
    assert samples * ROW * 4 > 340 * MEGABYTE
    assert megabytes < 5 * 64 * ROW * 4 / MEGABYTE
