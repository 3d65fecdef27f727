"""`onnxprune schedule`: the table, JSON, files, a kill, and bad input."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from onnxprune.model import load
from tests.cli.conftest import Call
from tests.cli.test_bad_input import refused

ROOT = Path(__file__).parents[2]
DATA = ROOT / "onnxprune" / "demo_data" / "digits.npz"
NET = ROOT / "examples" / "nets" / "mlp.onnx"
FAST = ("--data", DATA, "--epochs", "1", "--batch", "128", "--samples", "512", "--rate", "1e-4", "--round-to", "1")


class TestResults:
    def test_table_and_files(self, call: Call, tmp_path: Path) -> None:
        out, plot = tmp_path / "rounds", tmp_path / "a.html"
        arguments = ("--kind", "iterative", "--ratio", "0.4", "--rounds", "2", "-o", out, "--plot", plot)
        result = call("schedule", NET, *FAST, *arguments)
        assert result.code == 0, result.err
        lines = result.out.splitlines()
        assert lines[0].rstrip() == "Round by round, * delivered"
        assert [line.split()[0] for line in lines[2:5]] == ["0", "1", "2"]
        assert lines[4].split()[1] == "*"
        assert "that of round 2, the smallest that holds." in result.out
        assert load(out / "delivered.onnx").hash == load(out / "round-02.onnx").hash
        assert b"Accuracy over sparsity" in plot.read_bytes()

    def test_json_of_tickets(self, call: Call, tmp_path: Path) -> None:
        arguments = ("--kind", "lottery", "--granularity", "weight", "--rounds", "2", "-o", tmp_path / "rounds")
        result = call("schedule", NET, *FAST[:-2], *arguments, "--json")
        assert result.code == 0, result.err
        found = result.json
        np.testing.assert_allclose(found["levels"], [0.2, 0.36])
        assert [row["number"] for row in found["rounds"]] == [0, 1, 2]
        assert 0.9 < found["rounds"][2]["after"]["accuracy"] <= 1
        assert (found["delivered"], found["stopped"]) == (2, "all rounds")

    def test_a_floor(self, call: Call, tmp_path: Path) -> None:
        arguments = ("--kind", "iterative", "--ratio", "0.7", "--rounds", "5", "--min", "accuracy=0.9")
        result = call("schedule", NET, *FAST, *arguments, "-o", tmp_path / "rounds")
        assert result.code == 0, result.err
        assert "(fails)" in result.out
        assert "a floor fails." in result.out


def command(out: Path) -> list[str]:
    program = "import sys; from onnxprune.cli import main; sys.exit(main())"
    arguments = (
        "schedule",
        NET,
        *FAST,
        "--kind",
        "iterative",
        "--ratio",
        "0.2",
        "--rounds",
        "4",
        "-o",
        out,
        "--threads",
        "1",
    )
    return [sys.executable, "-c", program, *map(str, arguments)]


def rounds(folder: Path) -> list[dict[str, object]]:
    path = folder / "schedule.json"
    return json.loads(path.read_text())["rounds"] if path.exists() else []


def test_after_a_kill_the_rounds_are_those_of_an_uninterrupted_run(call: Call, tmp_path: Path) -> None:
    whole, part = tmp_path / "whole", tmp_path / "part"
    process = subprocess.Popen(command(part), env={**os.environ, "ONNXPRUNE_NO_MEASURE": "1"}, start_new_session=True)
    deadline = time.monotonic() + 120
    while len(rounds(part)) < 2 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    done = rounds(part)
    assert 2 <= len(done) < 5
    result = call(*command(part)[3:], "--resume")
    assert result.code == 0, result.err
    assert call(*command(whole)[3:]).code == 0
    assert rounds(part)[: len(done)] == done
    for number in range(5):
        assert load(part / f"round-0{number}.onnx").hash == load(whole / f"round-0{number}.onnx").hash
        names = ("asked", "reached", "before", "after", "parameters", "best_epoch", "epochs", "held")
        one, other = rounds(part)[number], rounds(whole)[number]
        assert {n: one[n] for n in names} == {n: other[n] for n in names}


class TestBadInput:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("--kind", "magic"), "kind: got 'magic'"),
            (("--kind", "gradual"), "no sparsity"),
            (("--kind", "iterative", "--ratio", "0.2"), "two of sparsity, ratio and rounds"),
            (("--target-sparsity", "0.5", "--rewind-epoch", "1"), "--rewind-epoch is for lottery tickets"),
            (("--target-sparsity", "0.5", "--rewind-to", "x.onnx"), "--rewind-to is for lottery tickets"),
            (("--kind", "lottery", "--rewind-epoch", "-1"), "--rewind-epoch -1: expected 0 or more"),
            (("--kind", "lottery", "--rewind-to", "no.onnx"), "no.onnx does not exist"),
            (("--kind", "lottery", "--rewind-to", "no.ckpt"), "no.ckpt: not the checkpoint of a training"),
            (("--target-sparsity", "0.5", "--min", "accuracy"), "--min accuracy: expected METRIC=VALUE"),
        ],
    )
    def test_refused(self, arguments: tuple[str, ...], message: str, call: Call, tmp_path: Path) -> None:
        refused(call("schedule", NET, *FAST, *arguments, "-o", tmp_path / "rounds"), message)

    def test_a_file_where_the_folder_should_be(self, call: Call, tmp_path: Path) -> None:
        (tmp_path / "rounds").write_text("")
        refused(call("schedule", NET, *FAST, "--target-sparsity", "0.5", "-o", tmp_path / "rounds"), "is a file")
