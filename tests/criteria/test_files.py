"""Score files: there and back, plain NumPy can read them, and what is not one is refused by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from onnxprune.coupling import couple
from onnxprune.criteria import (
    UnitScores,
    WeightScores,
    load_scores,
    save_scores,
    score,
    score_weights,
    slices,
)
from onnxprune.criteria.base import Pieces, streamed
from onnxprune.errors import DataError
from onnxprune.model import from_proto
from tests.random_graphs import build

MODEL = from_proto(build([0, 2, 13]))
COUPLING = couple(MODEL)


def test_units_there_and_back(tmp_path: Path) -> None:
    scores = UnitScores({"a/b": [1.0, 2.0], "/x": [3.0], "file": [0.5]}, "l1", "abc", ("odd",))
    save_scores(scores, tmp_path / "s.npz")
    found = load_scores(tmp_path / "s.npz")
    assert isinstance(found, UnitScores)
    assert (found.criterion, found.model_hash, found.warnings) == ("l1", "abc", ("odd",))
    assert {k: v.tolist() for k, v in found.items()} == {"a/b": [1.0, 2.0], "/x": [3.0], "file": [0.5]}


def test_weights_there_and_back(tmp_path: Path) -> None:
    scores = score_weights(MODEL, COUPLING, "l2")
    save_scores(scores, tmp_path / "s.npz")
    found = load_scores(tmp_path / "s.npz")
    assert isinstance(found, WeightScores)
    assert list(found) == list(scores)
    for name in scores:
        np.testing.assert_array_equal(found[name], scores[name])


def test_scores_are_written_piece_by_piece(tmp_path: Path) -> None:
    whole = np.arange(12, dtype=np.float32).reshape(3, 4)

    def stream(name: str) -> Pieces:
        assert name == "a"
        return Pieces((3, 4), np.dtype(np.float32), iter((whole[:1], whole[1:2, :3], whole[1:2, 3:], whole[2])))

    def compute(name: str) -> np.ndarray:
        raise AssertionError(f"the whole array {name} was asked for")

    save_scores(WeightScores(("a",), compute, stream=stream), tmp_path / "s.npz")
    np.testing.assert_array_equal(load_scores(tmp_path / "s.npz")["a"], whole)
    np.testing.assert_array_equal(streamed(("a",), stream)["a"], whole)


@pytest.mark.parametrize("criterion", ["l1", "lap"])
def test_pieces_are_smaller_than_the_weights(criterion: str, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = score_weights(MODEL, COUPLING, criterion)
    expected = {name: scores[name] for name in scores}
    monkeypatch.setattr(slices.blocks, "__defaults__", (50,))
    for name in scores:
        parts = list(scores.pieces(name).parts)
        assert max(part.size for part in parts) <= 50
        found = np.concatenate([part.reshape(-1) for part in parts])
        np.testing.assert_array_equal(found.reshape(expected[name].shape), expected[name])


def test_numpy_reads_them_by_the_names_of_groups(tmp_path: Path) -> None:
    scores = score(MODEL, COUPLING)
    save_scores(scores, tmp_path / "s.npz")
    with np.load(tmp_path / "s.npz") as file:
        assert set(scores) < set(file.files)
        for name in scores:
            np.testing.assert_array_equal(file[name], scores[name])


def test_equal_scores_make_equal_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_scores(score(MODEL, COUPLING), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_what_is_no_score_file(tmp_path: Path) -> None:
    (tmp_path / "text.npz").write_text("no")
    np.savez(tmp_path / "other.npz", x=np.ones(3))
    np.save(tmp_path / "one.npy", np.ones(3))
    for name, what in (("text.npz", "not a score file"), ("other.npz", "has no entry"), ("one.npy", "not a score")):
        with pytest.raises(DataError, match=rf"{name}: .*{what}"):
            load_scores(tmp_path / name)
    with pytest.raises(DataError, match=r"none.npz: cannot read the scores: No such file"):
        load_scores(tmp_path / "none.npz")


def test_a_truncated_file(tmp_path: Path) -> None:
    save_scores(score(MODEL, COUPLING), tmp_path / "s.npz")
    content = (tmp_path / "s.npz").read_bytes()
    (tmp_path / "s.npz").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"s.npz: not a score file"):
        load_scores(tmp_path / "s.npz")


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    save_scores(score(MODEL, COUPLING), tmp_path / "s.npz")
    before = (tmp_path / "s.npz").read_bytes()

    def fail(name: str) -> np.ndarray:
        raise OSError(28, f"No space left on device ({name})")

    with pytest.raises(DataError, match=r"cannot write the scores: No space left"):
        save_scores(WeightScores(("a",), fail), tmp_path / "s.npz")
    assert (tmp_path / "s.npz").read_bytes() == before
    with pytest.raises(DataError, match=r"cannot write the scores"):
        save_scores(score(MODEL, COUPLING), tmp_path / "none" / "s.npz")
