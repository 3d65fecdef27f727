"""Blobs are whole, named by their content, and never lost while somebody wants them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from onnxprune.errors import StoreDamaged, WorkspaceError
from onnxprune.workspace.blobs import Blobs

DATA = b"one" * 1000


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs(tmp_path / "blobs")


def test_a_blob_has_the_hash_of_its_content(blobs: Blobs) -> None:
    name = blobs.put(iter((DATA[:7], DATA[7:])))
    assert name == hashlib.sha256(DATA).hexdigest() == blobs.put(DATA)
    assert blobs.read(name) == DATA == blobs.check(name).read_bytes()
    assert list(blobs.names()) == [name]


def test_damage_is_found(blobs: Blobs) -> None:
    name = blobs.put(DATA)
    blobs.path(name).write_bytes(DATA[:-1])
    for look in (blobs.read, blobs.check):
        with pytest.raises(StoreDamaged, match=r"is damaged: its content does not have the hash"):
            look(name)
    blobs.path(name).unlink()
    with pytest.raises(StoreDamaged, match=r"cannot be read: No such file"):
        blobs.read(name)


@pytest.mark.parametrize("name", ["../../etc/passwd", "abc", "G" * 64, ""])
def test_a_name_cannot_lead_out_of_the_folder(blobs: Blobs, name: str) -> None:
    with pytest.raises(WorkspaceError, match=r"is not the name of a blob"):
        blobs.read(name)


def test_what_breaks_off_leaves_nothing(blobs: Blobs) -> None:
    def breaks() -> Iterator[bytes]:
        yield DATA
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        blobs.put(breaks())
    assert list(blobs.folder.iterdir()) == []


def test_a_full_disk_is_said_and_leaves_nothing(blobs: Blobs) -> None:
    def full() -> Iterator[bytes]:
        yield DATA
        raise OSError(28, "No space left on device")

    with pytest.raises(WorkspaceError, match=r"(?s)No space left on device.*Nothing was recorded"):
        blobs.put(full())
    assert list(blobs.folder.iterdir()) == []


def test_orphans_are_swept_when_they_are_old(blobs: Blobs) -> None:
    kept, orphan = blobs.put(DATA), blobs.put(b"other")
    (blobs.folder / "half.tmp").write_bytes(b"12345")
    assert blobs.sweep({kept}) == (0, 0)
    assert blobs.sweep({kept}, grace=0) == (2, 10)
    assert list(blobs.names()) == [kept]
    assert orphan not in blobs.names()
