"""`onnxprune sensitivity`: the table, files that go on, charts, workers, and bad input."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from rich.console import Console

from onnxprune import workplace
from onnxprune.cli import sensitivity as command
from onnxprune.evaluate import measured
from onnxprune.sensitivity import Failure, Row, Sensitivity, load_sensitivity
from onnxprune.surgery import remove
from tests.cli.conftest import Call, one_layer, save
from tests.cli.test_bad_input import only, refused

ROOT = Path(__file__).parents[2]
DIGITS = ROOT / "onnxprune" / "demo_data" / "digits.npz"
NET = ROOT / "onnxprune" / "demo_data" / "digits_cnn.onnx"


@pytest.fixture
def without_labels(tmp_path: Path) -> Path:
    path = tmp_path / "bare.npz"
    np.savez(path, x=np.random.default_rng(0).standard_normal((12, 1, 8, 8)).astype(np.float32))
    return path


class TestText:
    def test_the_table(self, call: Call) -> None:
        result = call("sensitivity", NET, "--data", DIGITS, "--ratios", "0.25,0.5", "--samples", "100")
        assert result.code == 0, result.err
        lines = result.out.splitlines()
        assert lines[0].startswith("Accuracy; 9")
        assert lines[1].split() == ["group", "parameters", "MACs", "25%", "gone", "50%", "gone", "headroom"]
        assert [line.split()[0] for line in lines[2:6]] == ["conv1", "conv2", "conv3", "conv4"]
        assert "worse by at most 1 point." in result.out
        assert "Measured on digits.npz (test), 100 of 450 samples, 100 samples; units go by lowest l2." in result.out

    def test_without_labels(self, call: Call, cnn_file: Path, without_labels: Path) -> None:
        result = call("sensitivity", cnn_file, "--data", without_labels, "--ratios", "0.5")
        assert result.code == 0, result.err
        assert result.out.splitlines()[1].split()[0] == "group", result.out
        assert result.out.startswith("Top-1 agreement; 100.00% with nothing removed")
        assert "There are no labels: top-1 agreement says how far the outputs stay those of the original" in result.out

    def test_without_data(self, call: Call, cnn_file: Path) -> None:
        result = call("sensitivity", cnn_file, "--ratios", "0.5", "--samples", "20")
        assert result.code == 0, result.err
        assert "There are no data: top-1 agreement was measured on 20 generated inputs." in result.out

    def test_what_cannot_be_measured_is_told(self, call: Call, cnn_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        found = Sensitivity(
            "abc", "l2", measured("mse", 2.0), 9, (Row("conv1", 0.5, 4, 8, 2.5, 0.5, 0.5, 0.5),),
            (Failure("conv2", 0.5, "it cannot follow\n  at all"),),
        )  # fmt: skip
        monkeypatch.setattr(command, "scan", lambda *_, **__: found)
        result = call("sensitivity", cnn_file, "--ratios", "0.5", "--loss", "0.75")
        lines = result.out.splitlines()
        assert lines[0].startswith("Mean squared error; 2 with nothing removed")
        assert [line.split()[-2:] for line in lines[2:4]] == [["2.5", "50%"], ["-", "0%"]]
        assert "worse by at most 0.75." in result.out
        assert "Not measured: conv2 at 50%: it cannot follow" in result.out
        assert "at all" not in result.out

    def test_colours(self) -> None:
        rows = tuple(Row("g", r, 1, 2, 0.9 - loss, loss, 1, 1) for r, loss in ((0.1, 0.0), (0.3, 0.04), (0.5, 0.4)))
        found = Sensitivity("abc", "l2", measured("accuracy", 0.9), 9, rows)
        file = io.StringIO()
        Console(file=file, force_terminal=True, color_system="standard", width=100).print(
            command._table(found, {"g": (0.5, 0.5)}, 0.01)
        )
        for code, text in (("32", "90.00%"), ("33", "86.00%"), ("31", "50.00%")):
            assert re.search(rf"\x1b\[{code}m *{text}", file.getvalue())


class TestJson:
    def test_figures(self, call: Call, tmp_path: Path) -> None:
        out = tmp_path / "scan.json"
        arguments = ("--data", DIGITS, "--ratios", "0.5,0.9", "--samples", "100", "--loss", "0.1")
        result = call("sensitivity", NET, *arguments, "-o", out, "--metric", "loss", "--json")
        assert (result.code, result.err) == (0, "")
        found = result.json
        scan = load_sensitivity(out)
        assert found["metric"]["name"] == "loss"
        assert (found["samples"], found["agreement"], found["generated"], found["loss"]) == (100, False, False, 0.1)
        assert [g["name"] for g in found["groups"]] == list(scan.groups)
        assert {g["name"]: g["headroom"] for g in found["groups"]} == scan.headroom(0.1)
        assert [row["value"] for g in found["groups"] for row in g["rows"]] == [row.value for row in scan.rows]
        assert all(0 < g["parameters"] < 1 and 0 < g["macs"] < 1 for g in found["groups"])

    def test_criteria_that_need_data_get_the_train_part(self, call: Call, tmp_path: Path) -> None:
        files = {}
        for name in ("apoz", "l2"):
            files[name] = tmp_path / f"{name}.json"
            arguments = ("--criterion", name, "--samples", "50", "--ratios", "0.5", "-o", files[name])
            assert call("sensitivity", NET, "--data", DIGITS, *arguments).code == 0
        one, other = (load_sensitivity(file) for file in files.values())
        assert one.criterion == "apoz"
        assert [row.value for row in one.rows] != [row.value for row in other.rows]

    def test_a_scan_is_what_prune_takes(self, call: Call, tmp_path: Path) -> None:
        scan, small = tmp_path / "scan.json", tmp_path / "small.onnx"
        assert call("sensitivity", NET, "--data", DIGITS, "--samples", "50", "-o", scan).code == 0
        result = call("prune", NET, "-o", small, "--ratio", "0.5", "--sensitivity", scan, "--no-verify")
        assert result.code == 0, result.err

    def test_shapes_and_several_inputs(self, call: Call, tmp_path: Path) -> None:
        proto = onnx.parser.parse_model("""
            <ir_version: 8, opset_import: ["": 17]> net (float[n, length, 4] a, float[n, 6] b) => (float[n, 3] y) {
                m = ReduceMean <axes = [1], keepdims = 0> (a)
                h = MatMul (m, w1)
                t = ReduceMean <axes = [1]> (b)
                s = Add (h, t)
                r = Relu (h)
                y = MatMul (r, w2)
            }""")
        rng = np.random.default_rng(0)
        for name, shape in (("w1", (4, 6)), ("w2", (6, 3))):
            array = rng.standard_normal(shape).astype(np.float32)
            proto.graph.initializer.append(numpy_helper.from_array(array, name))
        file = save(proto, tmp_path / "two.onnx")
        result = call("sensitivity", file, "--shape", "a=1,9,4", "--samples", "8", "--metric", "cosine", "--json")
        assert result.code == 0, result.err
        assert len(result.json["groups"]) == 1


@pytest.mark.parametrize("ending", ["html", "png", "svg"])
def test_plot(ending: str, call: Call, cnn_file: Path, data_file: Path, tmp_path: Path) -> None:
    picture = tmp_path / f"scan.{ending}"
    result = call("sensitivity", cnn_file, "--data", data_file, "--ratios", "0.5", "--plot", picture)
    assert result.code == 0, result.err
    assert f"{picture} written" in result.err
    assert picture.read_bytes().startswith({"html": b"<!", "png": b"\x89PNG", "svg": b"<?xml"}[ending])


@pytest.fixture(autouse=True)
def _interruptible() -> Iterator[None]:
    """A shell starts what runs in the background with SIGINT ignored, and processes hand that on."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class TestGoingOn:
    arguments = ("--data", DIGITS, "--samples", "60", "--ratios", "0.25,0.5")

    def test_after_ctrl_c(self, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        out = tmp_path / "scan.json"
        calls: list[int] = []

        def stopped(*given: Any) -> Any:
            calls.append(1)
            if len(calls) == 4:
                signal.raise_signal(signal.SIGINT)
            return remove(*given)

        monkeypatch.setattr("onnxprune.sensitivity.desk.remove", stopped)
        result = call("sensitivity", NET, *self.arguments, "-o", out)
        assert (result.code, result.out) == (130, "")
        assert f"Interrupted. 3 measurements are in {out}; the same command goes on from there." in result.err
        result = call("sensitivity", NET, *self.arguments, "-o", out)
        assert result.code == 0, result.err
        assert len(calls) == 4 + 5
        assert len(load_sensitivity(out).rows) == 8

    def test_without_a_file_it_is_told_that_there_could_be_one(
        self, call: Call, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("onnxprune.sensitivity.desk.remove", lambda *_: signal.raise_signal(signal.SIGINT))
        result = call("sensitivity", NET, *self.arguments)
        assert result.code == 130
        assert "With -o FILE a scan can go on where it was stopped." in result.err

    def test_another_scan_is_not_overwritten(self, call: Call, tmp_path: Path) -> None:
        out = tmp_path / "scan.json"
        assert call("sensitivity", NET, *self.arguments, "-o", out).code == 0
        before = out.read_bytes()
        for option, word in ((("--metric", "loss"), "metric"), (("--criterion", "l1"), "criterion")):
            refused(call("sensitivity", NET, *self.arguments, "-o", out, *option), str(out), f"another {word}")
        assert out.read_bytes() == before


class TestWorkers:
    def test_processes(self, call: Call, tmp_path: Path) -> None:
        arguments = ("--data", DIGITS, "--samples", "60", "--ratios", "0.5", "--provider", "cpu")
        alone, together = tmp_path / "alone.json", tmp_path / "together.json"
        assert call("sensitivity", NET, *arguments, "-o", alone).code == 0
        result = call("sensitivity", NET, *arguments, "-o", together, "--workers", "2")
        assert result.code == 0, result.err
        assert load_sensitivity(together) == load_sensitivity(alone)

    def test_processes_end_at_ctrl_c(self, tmp_path: Path) -> None:
        """As a person would: the signal goes to the whole group, workers say nothing."""
        out = tmp_path / "scan.json"
        ratios = ",".join(f"{r / 100}" for r in range(1, 100))
        process = subprocess.Popen(
            [sys.executable, "-c", "import sys; from onnxprune.cli import main; sys.exit(main())",
             "sensitivity", NET, "--data", DIGITS, "--ratios", ratios, "--workers", "2", "-o", out],
            start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not (out.exists() and load_sensitivity(out).rows):
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGINT)
        output, errors = process.communicate(timeout=20)
        assert process.returncode == 130, errors
        assert output == ""
        (line,) = errors.splitlines()
        assert line.startswith(f"Interrupted. {len(load_sensitivity(out).rows)} measurements are in {out}; ")

    def test_a_worker_that_dies(self, call: Call, cnn_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(workplace, "_ignore_interrupts", _die)
        result = call("sensitivity", cnn_file, "--workers", "2", "--samples", "8", "--ratios", "0.5")
        refused(result, "a worker ended without an answer", "fewer workers or samples")

    def test_a_scheduler_without_dask(self, call: Call, cnn_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "distributed", None)
        result = call("sensitivity", cnn_file, "--scheduler", "tcp://10.0.0.1:8786")
        refused(result, "needs the package `distributed`", "pip install distributed")

    def test_numbers(self, call: Call, cnn_file: Path) -> None:
        refused(call("sensitivity", cnn_file, "--workers", "0"), "--workers 0", "from 1 up")
        result = call("sensitivity", cnn_file, "--workers", "2", "--scheduler", "tcp://10.0.0.1:8786")
        refused(result, "--workers and --scheduler", "Give one of them")


def _die() -> None:
    os._exit(3)


class TestBadInput:
    @pytest.mark.parametrize("ratios", ["", "0.5,", "0.5,x", "0.5,1", "0,0.5", "-0.5", "nan"])
    def test_ratios(self, ratios: str, call: Call, cnn_file: Path) -> None:
        refused(call("sensitivity", cnn_file, f"--ratios={ratios}"), f"--ratios {ratios}", "0.1,0.3,0.5")

    def test_numbers(self, call: Call, cnn_file: Path) -> None:
        refused(call("sensitivity", cnn_file, "--loss", "-1"), "--loss -1", "from 0 up")
        refused(call("sensitivity", cnn_file, "--loss", "nan"), "--loss nan")
        refused(call("sensitivity", cnn_file, "--samples", "0"), "--samples 0")

    def test_data(self, call: Call, cnn_file: Path, mlp_file: Path, data_file: Path, tmp_path: Path) -> None:
        refused(call("sensitivity", cnn_file, "--data", tmp_path / "dat.npz"), "dat.npz", "Nearest: data.npz")
        refused(call("sensitivity", cnn_file, "--data", data_file, "--split", "dev"), "'dev'", "Splits there: test")
        refused(call("sensitivity", cnn_file, "--split", "test"), "--split test", "--data")
        refused(call("sensitivity", mlp_file, "--data", data_file), "data.npz", "(10, 1, 8, 8)")

    def test_nan_in_the_data(self, call: Call, cnn_file: Path, tmp_path: Path) -> None:
        x = np.zeros((20, 1, 8, 8), np.float32)
        x[[3, 17]] = np.nan
        np.savez(tmp_path / "data.npz", x=x, y=np.arange(20) % 3)
        refused(call("sensitivity", cnn_file, "--data", tmp_path / "data.npz"), "NaN or Inf in 2 rows", "3, 17")

    def test_groups_and_metrics(self, call: Call, cnn_file: Path, data_file: Path) -> None:
        result = call("sensitivity", cnn_file, "--data", data_file, "--group", "conv")
        refused(result, "no group 'conv'", "Nearest: conv")
        refused(call("sensitivity", cnn_file, "--data", data_file, "--metric", "speed"), "no metric 'speed'")
        result = call("sensitivity", cnn_file, "--data", data_file, "--metric", "r2")
        refused(result, "'r2' was not measured (task: classification)", "accuracy")
        refused(call("sensitivity", cnn_file, "--metric", "accuracy"), "no labels", "agreement")

    def test_criteria(self, call: Call, cnn_file: Path) -> None:
        refused(call("sensitivity", cnn_file, "--criterion", "l3"), "l3")
        refused(call("sensitivity", cnn_file, "--criterion", "apoz"), "apoz", "--data")

    def test_nothing_to_remove(self, call: Call, tmp_path: Path) -> None:
        refused(call("sensitivity", save(one_layer(), tmp_path / "line.onnx")), "no group has a unit to spare")

    def test_files(self, call: Call, cnn_file: Path, data_file: Path, tmp_path: Path) -> None:
        refused(call("sensitivity", cnn_file, "-o", tmp_path / "nowhere" / "scan.json"), "there is no folder")
        refused(call("sensitivity", cnn_file, "-o", tmp_path), "it is a folder")
        refused(call("sensitivity", cnn_file, "-o", cnn_file), "belongs to the input")
        refused(call("sensitivity", cnn_file, "-o", data_file), "data.npz", "not a sensitivity scan")
        refused(call("sensitivity", cnn_file, "--plot", tmp_path / "scan.gif"), "scan.gif", ".html")
        only(tmp_path, "cnn.onnx", "data.npz")

    def test_nothing_is_measured_before_the_file_is_known_to_be_writable(
        self, call: Call, cnn_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(command, "load", lambda _: pytest.fail("too late"))
        refused(call("sensitivity", cnn_file, "-o", tmp_path / "nowhere" / "scan.json"), "there is no folder")
