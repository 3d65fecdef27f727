"""Checkpoints: written whole, read back exactly, refused where they do not fit; a killed training goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from onnxprune.errors import DataError, OptionError
from onnxprune.model import load
from onnxprune.train import Optimizer, load_checkpoint, train, weights_at
from onnxprune.train.checkpoint import Checkpoint, Position
from onnxprune.train.history import History
from onnxprune.train.stops import Watch
from tests.train.nets import dataset, noisy, perceptron, same_weights

DROPOUT = 0.2
ROOT = Path(__file__).parents[2]
RUN: dict[str, Any] = {
    "threads": 1, "provider": "cpu", "batch": 20, "epochs": 4, "rate": 0.02, "augment": noisy, "every": 2,
}  # fmt: skip


def run(**options: Any) -> Any:
    return train(perceptron(dropout=DROPOUT), dataset(), **{"validation": dataset(60, 2), **RUN, **options})


def stopping_after(steps: int) -> Any:
    asked: list[int] = []

    def cancelled() -> bool:
        asked.append(1)
        return len(asked) > steps

    return cancelled


class TestGoingOn:
    @pytest.mark.parametrize("steps", [0, 3, 6, 11, 23])
    @pytest.mark.parametrize("optimizer", [Optimizer("sgd"), Optimizer("adamw", weight_decay=0.1)])
    def test_the_same_weights_as_without_a_break(self, steps: int, optimizer: Optimizer, tmp_path: Path) -> None:
        file = tmp_path / "c.npz"
        whole = run(optimizer=optimizer)
        part = run(optimizer=optimizer, checkpoint=file, cancelled=stopping_after(steps))
        assert part.stopped == "cancelled"
        rest = run(optimizer=optimizer, checkpoint=file, resume=True)
        assert rest.resumed == steps
        assert same_weights(rest.model, whole.model)
        for one, other in zip(rest.history.epochs, whole.history.epochs, strict=True):
            assert (one.epoch, one.step, repr(one.loss), one.rate, one.metrics, one.whole) == (
                other.epoch, other.step, repr(other.loss), other.rate, other.metrics, other.whole,
            )  # fmt: skip
        assert [(r.step, r.loss) for r in rest.history.steps] == [(r.step, r.loss) for r in whole.history.steps]
        assert rest.best_epoch == whole.best_epoch

    def test_killed(self, tmp_path: Path) -> None:
        """kill -9 in the middle of it, wherever that is."""
        (tmp_path / "slow.py").write_text(
            "import sys, time\n"
            "from pathlib import Path\n"
            "from onnxprune.model import save\n"
            "from tests.train.test_checkpoint import run\n"
            "def progress(words, done, total):\n"
            "    time.sleep(0.02)\n"
            "found = run(epochs=40, checkpoint=Path(sys.argv[1]), checkpoint_seconds=0.05, resume=True,"
            " progress=progress if len(sys.argv) > 3 else None)\n"
            "save(found.model, sys.argv[2])\n"
        )
        file, out = tmp_path / "c.npz", tmp_path / "out.onnx"
        command = [sys.executable, tmp_path / "slow.py", file, out]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        process = subprocess.Popen([*command, "slowly"], env=environment)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not (file.exists() and load_checkpoint(file).position.step > 20):
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        assert process.wait(timeout=20) == -signal.SIGKILL
        assert not out.exists()
        at = load_checkpoint(file).position.step
        assert 20 < at < 240
        subprocess.run(command, env=environment, check=True, timeout=60)
        assert same_weights(load(out), run(epochs=40).model)

    def test_a_finished_training_is_finished(self, tmp_path: Path) -> None:
        first = run(checkpoint=tmp_path / "c.npz")
        again = run(checkpoint=tmp_path / "c.npz", resume=True)
        assert (again.stopped, again.resumed) == ("max epochs", 24)
        assert same_weights(again.model, first.model)
        assert again.history.epochs[1:] == first.history.epochs[1:]

    def test_a_constant_rate_can_go_on_for_longer(self, tmp_path: Path) -> None:
        whole = run(schedule="constant", epochs=6)
        run(schedule="constant", epochs=2, checkpoint=tmp_path / "c.npz")
        rest = run(schedule="constant", epochs=6, checkpoint=tmp_path / "c.npz", resume=True)
        assert same_weights(rest.model, whole.model)

    def test_what_only_ends_it_may_change(self, tmp_path: Path) -> None:
        run(checkpoint=tmp_path / "c.npz", cancelled=stopping_after(8))
        found = run(checkpoint=tmp_path / "c.npz", resume=True, target=("accuracy", 0.01))
        assert found.stopped == "target accuracy"

    def test_resume_without_a_file_begins(self, tmp_path: Path) -> None:
        found = run(checkpoint=tmp_path / "c.npz", resume=True)
        assert found.resumed is None
        assert (tmp_path / "c.npz").exists()

    def test_after_a_divergence_the_file_is_the_last_good_one(self, tmp_path: Path) -> None:
        found = run(rate=1e30, optimizer=Optimizer("sgd"), checkpoint=tmp_path / "c.npz")
        assert found.stopped == "diverged"
        assert all(np.isfinite(array).all() for array in load_checkpoint(tmp_path / "c.npz").state.values())

    def test_a_disk_that_is_full_later_does_not_end_it(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        written: list[int] = []
        original = Checkpoint.save

        def full(self: Checkpoint, path: Path) -> None:
            written.append(1)
            if len(written) > 2:
                raise DataError(f"{path}: cannot write the checkpoint: No space left on device", "")
            original(self, path)

        monkeypatch.setattr(Checkpoint, "save", full)
        found = run(checkpoint=tmp_path / "c.npz")
        assert found.stopped == "max epochs"
        assert "The last checkpoint is an old one: " in found.notes[-1]
        assert "No space left on device" in found.notes[-1]
        assert load_checkpoint(tmp_path / "c.npz").position.epoch == 2


class TestKeptEpochs:
    def test_weights_at(self, tmp_path: Path) -> None:
        file = tmp_path / "c.npz"
        found = run(checkpoint=file, keep_epochs=(0, 2), schedule="constant")
        short = run(epochs=2, schedule="constant", checkpoint=tmp_path / "d.npz")
        assert sorted(found.kept) == [0, 2]
        start, later = weights_at(file, 0), weights_at(file, 2)
        assert all(np.array_equal(start[name], perceptron(dropout=DROPOUT).array(name)) for name in start)
        state = load_checkpoint(tmp_path / "d.npz").state
        assert sorted(later) == ["b1", "b2", "w1", "w2"]
        assert all(np.array_equal(later[name], state[name]) for name in later)
        assert short.stopped == "max epochs"

    def test_one_that_was_not_kept(self, tmp_path: Path) -> None:
        run(checkpoint=tmp_path / "c.npz", keep_epochs=(1,))
        with pytest.raises(DataError, match=r"the weights of epoch 2 are not in it\nEpochs in it: 1"):
            weights_at(tmp_path / "c.npz", 2)


class TestRefused:
    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        run(checkpoint=tmp_path / "c.npz", cancelled=stopping_after(3))
        return tmp_path / "c.npz"

    def test_another_model(self, file: Path) -> None:
        before = file.read_bytes()
        with pytest.raises(DataError, match="a checkpoint of another model"):
            train(perceptron(seed=9), dataset(), **RUN, checkpoint=file, resume=True)
        assert file.read_bytes() == before

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"rate": 0.01}, r"learning rate \(0.01, was 0.02\)"),
            ({"seed": 3}, r"seed \(3, was 0\)"),
            ({"batch": 10, "rate": 1.0}, r"learning rate \(1.0, was 0.02\), another batch size \(10, was 20\)"),
            ({"epochs": 9}, r"number of epochs \(9, was 4\)"),
            ({"schedule": "linear"}, r"schedule \(linear, was one-cycle\)"),
            ({"optimizer": Optimizer("sgd")}, r"optimizer \(kind=sgd"),
            ({"augment": None}, r"augmentation \(none, was"),
            ({"freeze": ("w1",)}, "frozen weights"),
            ({"masks": "zeros"}, "zeros that are kept"),
            ({"clip": 1.0}, r"clipping of gradients \(1.0, was none\)"),
            ({"batchnorm": "frozen"}, "treatment of BatchNorm"),
            ({"losses": "cross-entropy(label_smoothing=0.1)"}, "loss"),
            ({"metric": "loss"}, "metric of the best epoch"),
            ({"samples": 60}, "training data"),
            ({"teacher": perceptron(seed=4, dropout=DROPOUT)}, "teacher"),
        ],
    )
    def test_other_settings(self, file: Path, options: dict[str, Any], words: str) -> None:
        with pytest.raises(DataError, match=f"a training with another .*{words}"):
            run(checkpoint=file, resume=True, **options)

    def test_a_file_that_is_there(self, file: Path) -> None:
        with pytest.raises(OptionError, match="is there already, a checkpoint that would be lost"):
            run(checkpoint=file)

    @pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 cut off"])
    def test_a_file_that_is_none(self, content: bytes, tmp_path: Path) -> None:
        (tmp_path / "c.npz").write_bytes(content)
        with pytest.raises(DataError, match=r"c\.npz: not the checkpoint of a training"):
            run(checkpoint=tmp_path / "c.npz", resume=True)

    def test_another_npz(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "c.npz", x=np.ones(3))
        with pytest.raises(DataError, match="not the checkpoint of a training"):
            load_checkpoint(tmp_path / "c.npz")

    def test_nowhere(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="cannot write the checkpoint"):
            run(checkpoint=tmp_path / "nowhere" / "c.npz")


def test_names_and_types_that_files_do_not_like(tmp_path: Path) -> None:
    state = {
        "a/b:0": np.arange(3, dtype=np.float16), "../c": np.ones((2, 2), ml_dtypes.bfloat16), "": np.array(5),
        "ü": np.array([], np.float64),
    }  # fmt: skip
    watch = Watch().seen(0.1).seen(0.2)
    position = Position(3, 7, 40, 1.5, 0.1 + 0.2, 99, 1 / 3, 2)
    made = Checkpoint("hash", {"seed": 0}, position, History(), watch, state, (2, state), {0: state, 5: {}})
    made.save(tmp_path / "c.npz")
    again = load_checkpoint(tmp_path / "c.npz")
    assert (again.model_hash, again.settings, again.position, again.watch) == ("hash", {"seed": 0}, position, watch)
    for arrays in (again.state, again.best[1], again.kept[0]):
        assert list(arrays) == list(state)
        for name, array in state.items():
            assert (arrays[name].dtype, arrays[name].tobytes()) == (array.dtype, array.tobytes())
    assert (again.best[0], dict(again.kept[5])) == (2, {})
