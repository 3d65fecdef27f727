"""`onnxprune finetune` and `onnxprune train`: tables, files, Ctrl-C, going on, and bad input."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxprune.cli import training_options
from onnxprune.data import open_dataset
from onnxprune.errors import OptionError
from onnxprune.evaluate import evaluate
from onnxprune.model import load
from onnxprune.runtime import clear_sessions, native, sessions
from onnxprune.train import load_checkpoint, load_history, weights_at
from onnxprune.train.running import Loop
from tests.cli.conftest import Call, cnn, model_of, save
from tests.cli.test_bad_input import only, refused
from tests.train.nets import arrays, perceptron, same_weights

ROOT = Path(__file__).parents[2]
QUICK = ("--epochs", "3", "--rate", "0.02", "--threads", "1", "--provider", "cpu")


@pytest.fixture
def net(tmp_path: Path) -> Path:
    path = tmp_path / "net.onnx"
    path.write_bytes(perceptron().to_bytes())
    return path


@pytest.fixture
def points(tmp_path: Path) -> Path:
    """Data with a training and a test part."""
    (x, y), (x_test, y_test) = arrays(120), arrays(60, 2)
    np.savez(tmp_path / "points.npz", x_train=x, y_train=y, x_test=x_test, y_test=y_test)
    return tmp_path / "points.npz"


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """Without labels, and without parts."""
    np.savez(tmp_path / "bare.npz", x=arrays(100)[0])
    return tmp_path / "bare.npz"


@pytest.fixture(autouse=True)
def _interruptible() -> Iterator[None]:
    """A shell starts what runs in the background with SIGINT ignored, and processes hand that on."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class TestText:
    def test_before_best_and_last(self, call: Call, net: Path, points: Path, out: Path) -> None:
        result = call("finetune", net, "--data", points, "-o", out, *QUICK)
        assert result.code == 0, result.err
        lines = result.out.splitlines()
        assert lines[0].strip() == "What came of it"
        assert lines[1].split()[0] == "before"
        assert "best (epoch" in lines[1]
        assert "last (epoch 3)" in lines[1]
        assert lines[2].split()[0] == "accuracy"
        assert "Trained for cross-entropy of `scores` (3 classes); stopped since all epochs are done." in result.out
        assert "3 epochs, 12 steps, " in result.out
        assert f"{out} written: the model after epoch " in result.out
        assert not same_weights(load(out), load(net))

    def test_the_test_part_is_measured_and_chooses_nothing(
        self, call: Call, net: Path, points: Path, out: Path
    ) -> None:
        result = call("finetune", net, "--data", points, "-o", out, *QUICK, "--json")
        found = json.loads(result.out)
        test = open_dataset(points, "test")
        assert found["test"]["samples"] == len(test)
        for side, model in (("before", net), ("after", out)):
            assert found["test"][side]["accuracy"] == evaluate(load(model), test).value("accuracy")
        assert "12 of 120 samples are held out, to choose the epoch by" in found["notes"][-1]
        result = call("finetune", net, "--data", points, "-o", out, *QUICK, "--validation", "test", "--json")
        assert json.loads(result.out)["test"] is None

    def test_epoch_by_epoch(self, call: Call, net: Path, points: Path, out: Path) -> None:
        result = call("finetune", net, "--data", points, "-o", out, *QUICK, "--verbose")
        lines = result.out.splitlines()
        assert lines[0].startswith("Epoch by epoch, * the best")
        assert [line.split()[0] for line in lines[2:6]] == ["0", "1", "2", "3"]
        assert sum(" * " in f"{line} " for line in lines[2:6]) == 1

    def test_a_share_is_held_out_where_there_is_no_test_part(
        self, call: Call, net: Path, out: Path, tmp_path: Path
    ) -> None:
        x, y = arrays(100)
        np.savez(tmp_path / "one.npz", x=x, y=y)
        result = call("finetune", net, "--data", tmp_path / "one.npz", "-o", out, *QUICK)
        assert "10 of 100 samples are held out, to measure on; --validation says otherwise." in result.out
        assert "on the test part" not in result.out
        result = call("finetune", net, "--data", tmp_path / "one.npz", "-o", out, *QUICK, "--validation", "0.3")
        assert "30 of 100 samples are held out, to measure on." in result.out
        result = call("finetune", net, "--data", tmp_path / "one.npz", "-o", out, *QUICK, "--validation", "none")
        assert "There is nothing to measure on" in result.out

    def test_by_distillation(self, call: Call, net: Path, bare: Path, out: Path, tmp_path: Path) -> None:
        teacher = tmp_path / "teacher.onnx"
        teacher.write_bytes(perceptron(seed=3).to_bytes())
        result = call("finetune", net, "--data", bare, "--teacher", teacher, "-o", out, *QUICK)
        assert result.code == 0, result.err
        assert result.out.splitlines()[2].startswith("top-1 agreement")
        assert "Trained for distillation of `scores`" in result.out

    def test_json(self, call: Call, net: Path, points: Path, out: Path, tmp_path: Path) -> None:
        file = tmp_path / "history.json"
        result = call("finetune", net, "--data", points, "-o", out, *QUICK, "--json", "--history", file)
        assert (result.code, result.err) == (0, "")
        found, history = result.json, load_history(file)
        assert (found["stopped"], found["epochs"], found["steps"]) == ("max epochs", 3, 12)
        assert found["hash"] == load(out).hash
        assert found["best"]["accuracy"] == history.of(found["best_epoch"]).metrics[0].value
        assert found["before"]["loss"] is not None
        assert [row["epoch"] for row in found["history"]["epochs"]] == [0, 1, 2, 3]
        assert found["recovery"]["cost"]["epochs"] == 3
        assert found["recovery"]["capability"]["before"] == found["before"]["accuracy"]
        assert found["recovery"]["fluctuation"]["span"] > 0

    @pytest.mark.parametrize("ending", ["html", "png"])
    def test_charts(self, ending: str, call: Call, net: Path, points: Path, out: Path, tmp_path: Path) -> None:
        picture = tmp_path / f"p.{ending}"
        result = call("finetune", net, "--data", points, "-o", out, *QUICK, "--plot", picture)
        assert f"{picture} written" in result.err
        assert picture.stat().st_size > 1000

    def test_stops(self, call: Call, net: Path, points: Path, out: Path) -> None:
        result = call("finetune", net, "--data", points, "-o", out, *QUICK, "--target", "accuracy=0.1")
        assert "stopped since the target is reached" in result.out
        assert f"{out} written: the model as it was." in result.out
        options = ("--delta-loss", "0.9", "--patience", "1")
        result = call("finetune", net, "--data", points, "-o", out, *QUICK, *options)
        assert "stopped since the loss goes down no further" in result.out

    def test_divergence(self, call: Call, net: Path, points: Path, out: Path) -> None:
        options = ("--optimizer", "sgd", "--rate", "1e20", "--threads", "1")
        result = call("finetune", net, "--data", points, "-o", out, *options)
        assert result.code == 0
        assert "Try a smaller learning rate: 0.05 instead of 1e+20." in result.out
        assert same_weights(load(out), load(net))


class TestTrain:
    def test_from_fresh_weights(self, call: Call, net: Path, points: Path, out: Path, tmp_path: Path) -> None:
        other = tmp_path / "other.onnx"
        for file, seed in ((out, "0"), (other, "1")):
            result = call(
                "train", net, "--init", "--data", points, "-o", file, *QUICK, "--epochs", "15", "--seed", seed
            )
            assert result.code == 0, result.err
            assert float(result.out.splitlines()[2].split()[2].rstrip("%")) > 80
        assert not same_weights(load(out), load(other))

    def test_without_init_the_weights_are_those_of_the_file(
        self, call: Call, net: Path, points: Path, out: Path, tmp_path: Path
    ) -> None:
        file = tmp_path / "c.npz"
        options = ("--checkpoint", file, "--keep-epochs", "0")
        assert call("train", net, "--data", points, "-o", out, *QUICK, *options).code == 0
        assert np.array_equal(weights_at(file, 0)["w1"], load(net).array("w1"))


class TestAugment:
    def test_a_function_of_a_file(self, call: Call, net: Path, points: Path, out: Path, tmp_path: Path) -> None:
        moves = tmp_path / "moves.py"
        moves.write_text("def still(feeds, labels, rng):\n    return {'x': 0 * feeds['x']}, labels\n")
        result = call("finetune", net, "--data", points, "-o", out, *QUICK, "--augment", f"{moves}:still", "--json")
        assert result.code == 0, result.err
        assert result.json["last"]["loss"] > 1.0  # nothing can be learnt from zeros

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("moves.py", "expected FILE.py:FUNCTION"),
            ("nowhere.py:f", "there is no file nowhere.py"),
            ("{}:missing", "there is no function missing"),
            ("{}:number", "there is no function number"),
        ],
    )
    def test_what_is_none(self, text: str, words: str, call: Call, net: Path, points: Path, out: Path) -> None:
        moves = out.with_name("moves.py")
        moves.write_text("number = 3\n")
        refused(call("finetune", net, "--data", points, "-o", out, "--augment", text.format(moves)), words)

    def test_a_file_that_fails(self, call: Call, net: Path, points: Path, out: Path, tmp_path: Path) -> None:
        (tmp_path / "moves.py").write_text("1 / 0\n")
        result = call("finetune", net, "--data", points, "-o", out, "--augment", f"{tmp_path / 'moves.py'}:f")
        refused(result, "moves.py cannot be run: ZeroDivisionError")


class TestCtrlC:
    def after(self, steps: int, monkeypatch: pytest.MonkeyPatch, times: int = 1) -> None:
        """Press it after so many steps of all trainings to come."""
        count: list[int] = []
        original: Callable[..., None] = Loop._step

        def pressed(self: Loop, *arguments: Any) -> None:
            original(self, *arguments)
            count.append(1)
            if len(count) == steps:
                for _ in range(times):
                    signal.raise_signal(signal.SIGINT)

        monkeypatch.setattr(Loop, "_step", pressed)

    def test_the_best_is_written_and_it_goes_on(
        self, call: Call, net: Path, points: Path, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        whole, file = tmp_path / "whole.onnx", tmp_path / "c.npz"
        assert call("finetune", net, "--data", points, "-o", whole, *QUICK).code == 0
        arguments = ("finetune", net, "--data", points, "-o", out, *QUICK, "--checkpoint", file)
        self.after(6, monkeypatch)
        result = call(*arguments)
        assert result.code == 130
        assert f"Interrupted: {out} holds the best so far." in result.err
        assert f"The same command with --resume goes on from {file}." in result.err
        assert "stopped since it was interrupted" in result.out
        load(out)
        result = call(*arguments, "--resume")
        assert result.code == 0, result.err
        assert f"Gone on after step 6, from {file}." in result.out
        assert same_weights(load(out), load(whole))

    def test_without_a_checkpoint(
        self, call: Call, net: Path, points: Path, out: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.after(2, monkeypatch)
        result = call("finetune", net, "--data", points, "-o", out, *QUICK)
        assert result.code == 130
        assert "With --checkpoint FILE a training can go on" in result.err
        assert out.exists()

    def test_twice_ends_it_at_once(
        self, call: Call, net: Path, points: Path, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.after(2, monkeypatch, times=2)
        result = call("finetune", net, "--data", points, "-o", out, *QUICK)
        assert (result.code, result.out) == (130, "")
        assert f"{out} is not written" in result.err
        only(tmp_path, "net.onnx", "points.npz")

    def test_the_handler_is_put_back(self, call: Call, net: Path, points: Path, out: Path) -> None:
        before = signal.getsignal(signal.SIGINT)
        assert call("finetune", net, "--data", points, "-o", out, *QUICK).code == 0
        assert signal.getsignal(signal.SIGINT) is before

    def test_a_process(self, net: Path, points: Path, out: Path, tmp_path: Path) -> None:
        file = tmp_path / "c.npz"
        process = subprocess.Popen(
            [sys.executable, "-c", "import sys; from onnxprune.cli import main; sys.exit(main())",
             "finetune", net, "--data", points, "-o", out, "--epochs", "100000", "--checkpoint", file],
            start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not (file.exists() and load_checkpoint(file).position.epoch > 2):
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 130, errors
        assert "Traceback" not in errors
        assert not same_weights(load(out), load(net))


class TestZeros:
    def test_a_masked_model_stays_masked(self, call: Call, net: Path, points: Path, out: Path, tmp_path: Path) -> None:
        sparse = tmp_path / "sparse.onnx"
        assert call("prune", net, "-o", sparse, "--ratio", "0.6", "--granularity", "weight").code == 0
        assert call("finetune", sparse, "--data", points, "-o", out, *QUICK).code == 0
        before, after = load(sparse), load(out)
        assert np.array_equal(before.array("w1") == 0, after.array("w1") == 0)
        assert after.array("b1").any()
        again = tmp_path / "again.onnx"
        assert call("finetune", out, "--data", points, "-o", again, *QUICK, "--keep-zeros").code == 0
        assert np.array_equal(before.array("w1") == 0, load(again).array("w1") == 0)


class TestBadInput:
    @pytest.mark.parametrize(
        ("options", "words"),
        [
            (("--batch", "0"), ("batch: got 0", "For example 64")),
            (("--rate", "0"), ("learning rate: got 0.0", "expected more than 0")),
            (("--rate", "-1"), ("learning rate: got -1.0",)),
            (("--epochs", "0"), ("epochs: got 0",)),
            (("--optimizer", "adagrad"), ("got 'adagrad'", "sgd, adam, adamw")),
            (("--schedule", "sine"), ("no schedule 'sine'", "constant, step, cosine, linear, one-cycle")),
            (("--loss", "mse"), ("the loss mse wants numbers",)),
            (("--loss", "crossentropy"), ("crossentropy", "cross-entropy")),
            (("--loss", "distillation"), ("needs a model to learn from",)),
            (("--freeze", "*"), ("there is nothing to train", "freeze fewer")),
            (("--freeze", "conv1*"), ("no weight fits `conv1*`", "Nearest")),
            (("--batchnorm", "off"), ("batchnorm: got 'off'",)),
            (("--target", "accuracy"), ("--target accuracy", "accuracy=0.98")),
            (("--target", "speed=1"), ("'speed' is no metric to train towards",)),
            (("--target", "mae=1"), ("no metric 'mae' was measured", "accuracy")),
            (("--metric", "mae"), ("no metric 'mae' was measured",)),
            (("--time-limit", "soon"), ("--time-limit soon", "60s, 5m or 1h")),
            (("--time-limit", "0s"), ("--time-limit 0s",)),
            (("--checkpoint-every", "x"), ("--checkpoint-every x",)),
            (("--delta-loss", "2"), ("delta loss: got 2.0",)),
            (("--validation", "1.5"), ("validation: a share of 1.5",)),
            (("--validation", "dev"), ("no split 'dev'", "Splits there: test, train")),
            (("--resume",), ("no checkpoint is named", "--checkpoint FILE")),
            (("--keep-epochs", "1"), ("needs a file to keep them in",)),
            (("--keep-epochs", "one"), ("--keep-epochs one",)),
            (("--samples", "0"), ("got 0, expected at least 1 sample",)),
            (("--clip", "-1"), ("clip: got -1.0",)),
            (("--seed", "-1"), ("seed: got -1",)),
        ],
    )
    def test_options(
        self, options: tuple[str, ...], words: tuple[str, ...], call: Call, net: Path, points: Path, out: Path
    ) -> None:
        refused(call("finetune", net, "--data", points, "-o", out, *options), *words)
        only(out.parent, "net.onnx", "points.npz")

    def test_no_labels_and_no_teacher(self, call: Call, net: Path, bare: Path, out: Path, tmp_path: Path) -> None:
        refused(call("finetune", net, "--data", bare, "-o", out), "no labels", "--teacher ORIGINAL.onnx")
        small = tmp_path / "small.onnx"
        assert call("prune", net, "-o", small, "--ratio", "0.5", "--round-to", "1").code == 0
        result = call("finetune", small, "--data", bare, "-o", out)
        refused(result, "--teacher net.onnx: the model that this one was pruned from")

    def test_data_that_do_not_fit(self, call: Call, cnn_file: Path, net: Path, points: Path, out: Path) -> None:
        refused(call("finetune", cnn_file, "--data", points, "-o", out), "float32 (108, 6)", "(batch, 1, 8, 8)")
        refused(call("finetune", net, "--data", out.with_name("p.npz"), "-o", out), "p.npz", "no such file")

    def test_a_teacher_of_another_kind(self, call: Call, cnn_file: Path, net: Path, bare: Path, out: Path) -> None:
        result = call("finetune", net, "--data", bare, "-o", out, "--teacher", cnn_file)
        assert result.code == 2, result.err

    def test_weights_that_are_no_floats(self, call: Call, points: Path, out: Path, tmp_path: Path) -> None:
        nodes = [
            helper.make_node("DequantizeLinear", ["q", "scale"], ["w"]),
            helper.make_node("MatMul", ["x", "w"], ["scores"]),
        ]
        graph = helper.make_graph(
            nodes, "quantised", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 6])],
            [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", 3])],
            [numpy_helper.from_array(np.ones((6, 3), np.int8), "q"),
             numpy_helper.from_array(np.float32(0.1), "scale")],
        )  # fmt: skip
        path = save(model_of(graph), tmp_path / "q.onnx")
        refused(call("finetune", path, "--data", points, "-o", out), "weights are quantised", "`q`")

    def test_files(self, call: Call, net: Path, points: Path, out: Path, tmp_path: Path) -> None:
        nowhere = tmp_path / "nowhere"
        base = ("finetune", net, "--data", points)
        refused(call(*base, "-o", net), "belongs to the input")
        refused(call(*base, "-o", points), "would replace the data")
        refused(call(*base, "-o", nowhere / "o.onnx"), "there is no folder")
        refused(call(*base, "-o", out, "--checkpoint", nowhere / "c"), "there is no folder")
        refused(call(*base, "-o", out, "--history", nowhere / "h"), "there is no folder")
        refused(call(*base, "-o", out, "--plot", nowhere / "p.html"), "there is no folder")
        refused(call(*base, "-o", out, "--plot", tmp_path / "p.gif"), "p.gif", ".html")
        refused(call(*base, "-o", out, "--history", out), "two results would go into one file")
        refused(call(*base, "-o", out, "--checkpoint", net, "--resume"), "belongs to the input")
        refused(call(*base, "-o", out, "--teacher", tmp_path / "t.onnx"), "t.onnx does not exist")
        teacher = save(cnn(), tmp_path / "t.onnx")
        refused(call(*base, "-o", teacher, "--teacher", teacher), "belongs to the input")
        only(tmp_path, "net.onnx", "points.npz", "t.onnx")

    def test_no_permission(self, call: Call, net: Path, points: Path, tmp_path: Path) -> None:
        folder = tmp_path / "locked"
        folder.mkdir(mode=0o500)
        if os.access(folder, os.W_OK):  # the superuser may write anywhere but where the kernel says no
            folder = Path("/sys/kernel")
        refused(call("finetune", net, "--data", points, "-o", folder / "o.onnx"), "o.onnx", "cannot be written")

    def test_checkpoints(self, call: Call, net: Path, points: Path, out: Path, tmp_path: Path) -> None:
        file = tmp_path / "c.npz"
        arguments = ("finetune", net, "--data", points, "-o", out, *QUICK, "--checkpoint", file)
        assert call(*arguments).code == 0
        before = file.read_bytes()
        refused(call(*arguments), "is there already", "--resume")
        refused(call(*arguments, "--resume", "--seed", "4"), "another seed (4, was 0)")
        other = tmp_path / "other.onnx"
        other.write_bytes(perceptron(seed=8).to_bytes())
        refused(call("finetune", other, *arguments[2:], "--resume"), "a checkpoint of another model")
        assert file.read_bytes() == before
        refused(
            call("finetune", net, "--data", points, "-o", out, "--checkpoint", points, "--resume"), "replace the data"
        )


@pytest.mark.parametrize("command", ["finetune", "train"])
def test_every_session_obeys(
    command: str, call: Call, net: Path, points: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[native.Setup] = []
    original = sessions.native

    def recorded(content: bytes, setup: native.Setup, options: object) -> object:
        made.append(setup)
        return original(content, setup, options)

    monkeypatch.setattr(sessions, "native", recorded)
    clear_sessions()
    assert call(command, net, "--data", points, "-o", out, *QUICK).code == 0
    assert {(setup.device, setup.threads) for setup in made} == {("cpu", 1)}
    assert any(setup.training for setup in made)


@pytest.mark.parametrize("command", ["finetune", "train"])
def test_help_has_examples(command: str, call: Call) -> None:
    result = call(command, "--help")
    assert result.code == 0
    assert f"onnxprune {command} " in result.out.partition("Examples")[2]


@pytest.mark.parametrize(("text", "seconds"), [("60s", 60), ("1.5m", 90), ("2h", 7200), ("45", 45), (" 3 min ", 180)])
def test_durations(text: str, seconds: float) -> None:
    assert training_options.duration("--time-limit", text) == seconds
    with pytest.raises(OptionError, match="--time-limit -1s"):
        training_options.duration("--time-limit", "-1s")


def test_onnx_checker_accepts_the_result(call: Call, net: Path, points: Path, out: Path) -> None:
    assert call("finetune", net, "--data", points, "-o", out, *QUICK).code == 0
    onnx.checker.check_model(str(out), full_check=True)
