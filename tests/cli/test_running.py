"""`--provider` and `--threads`: on every command that runs a model, obeyed by every session, refused at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import typer.main

from onnxprune.cli import app
from onnxprune.runtime import clear_sessions, native, providers, sessions
from tests.cli.conftest import Call, save
from tests.cli.test_bad_input import refused

COMMANDS = ("inspect", "prune", "score", "sensitivity", "evaluate", "plan apply", "bench", "demo")


@pytest.fixture
def arguments(call: Call, cnn_file: Path, data_file: Path, tmp_path: Path) -> dict[str, list[Any]]:
    """What each command needs to do its work."""
    plan = tmp_path / "plan.json"
    assert call("prune", cnn_file, "-o", tmp_path / "s.onnx", "--ratio", "0.5", "--save-plan", plan).code == 0
    return {
        "inspect": [cnn_file],
        "prune": [cnn_file, "-o", tmp_path / "small.onnx", "--ratio", "0.5", "--data", data_file],
        "score": [cnn_file, "-o", tmp_path / "scores.npz", "--data", data_file],
        "sensitivity": [cnn_file, "--data", data_file],
        "evaluate": [cnn_file, "--data", data_file],
        "plan apply": [plan, cnn_file, "-o", tmp_path / "small.onnx"],
        "bench": [cnn_file, "--runs", "3"],
        "demo": ["--out", tmp_path / "demo"],
    }


@pytest.fixture
def setups(monkeypatch: pytest.MonkeyPatch) -> list[native.Setup]:
    """How every session of a model was made."""
    made: list[native.Setup] = []
    original = sessions.native

    def recorded(content: bytes, setup: native.Setup, options: object) -> object:
        made.append(setup)
        return original(content, setup, options)

    monkeypatch.setattr(sessions, "native", recorded)
    clear_sessions()
    return made


@pytest.mark.parametrize("command", COMMANDS)
def test_every_session_obeys(
    command: str, call: Call, arguments: dict[str, list[Any]], setups: list[native.Setup]
) -> None:
    result = call(*command.split(), *arguments[command], "--provider", "cpu", "--threads", "1")
    assert result.code == 0, result.err
    assert {(setup.device, setup.threads) for setup in setups} <= {("cpu", 1)}
    assert bool(setups) == (command not in {"inspect", "score"})


def test_shapes_that_only_a_run_can_tell(call: Call, setups: list[native.Setup], tmp_path: Path) -> None:
    """A contrib operator, of which onnx infers no shape: the model is run, as it is asked to be."""
    proto = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17, "com.microsoft": 1]> g (float[n, 6] x) => (float[n, 4] y)'
        " { a = MatMul(x, w) b = com.microsoft.FastGelu(a) y = MatMul(b, v) }"
    )
    weights = {"w": np.ones((6, 8), np.float32), "v": np.ones((8, 4), np.float32)}
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(value, name) for name, value in weights.items())
    result = call("inspect", save(proto, tmp_path / "gelu.onnx"), "--threads", "1", "--json")
    assert result.code == 0, result.err
    assert {(setup.device, setup.threads) for setup in setups} == {("cpu", 1)}


@pytest.mark.parametrize("command", COMMANDS)
def test_nonsense_is_refused_at_once(command: str, call: Call, arguments: dict[str, list[Any]], tmp_path: Path) -> None:
    before = set(tmp_path.iterdir())
    refused(call(*command.split(), *arguments[command], "--threads", "0"), "0 threads", "at least one")
    result = call(*command.split(), *arguments[command], "--provider", "tpu")
    assert (result.code, result.out) == (2, "")
    assert "tpu" in result.err
    if "cuda" not in providers():
        refused(call(*command.split(), *arguments[command], "--provider", "cuda"), "does not work on this machine")
    assert set(tmp_path.iterdir()) == before


def test_the_report_names_the_provider(call: Call, cnn_file: Path, out: Path) -> None:
    result = call("prune", cnn_file, "-o", out, "--ratio", "0.5", "--provider", "cpu", "--json")
    assert (result.json["proof"]["provider"], result.json["proof"]["tolerance"]) == ("cpu", 1e-5)
    text = call("prune", cnn_file, "-o", out, "--ratio", "0.5", "--provider", "cpu").out
    assert "(1e-05 is allowed)" in text
    assert "on cpu" in text


def test_every_command_that_takes_a_model_has_both() -> None:
    """But those that only translate one."""
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    found = {**commands, **{f"plan {name}": command for name, command in commands["plan"].commands.items()}}
    running = {
        name for name, command in found.items() if any(p.metavar in {"MODEL", "MODEL..."} for p in command.params)
    }
    assert {*COMMANDS[:-1]} <= running | {"convert"}
    for name in running - {"convert"}:
        options = {option for parameter in found[name].params for option in parameter.opts}
        assert {"--provider", "--threads"} <= options, name
