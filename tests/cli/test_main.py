"""The program as a whole: how it ends, what it prints where, and commands from other packages."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import NoReturn

import pytest
import typer
import typer.main

from onnxprune.cli import app as application
from onnxprune.cli import inspect, main, notices
from onnxprune.cli.commands import load_commands
from onnxprune.cli.console import plain
from onnxprune.cli.reference import reference
from tests.cli.conftest import Call

ROOT = Path(__file__).parent.parent.parent
COMMANDS = ("inspect", "prune", "plan", "score", "evaluate", "compare", "demo", "convert")


def failing(error: BaseException) -> Callable[..., NoReturn]:
    def fail(*_: object) -> NoReturn:
        raise error

    return fail


def test_version(call: Call) -> None:
    result = call("--version")
    assert (result.code, result.out) == (0, f"onnxprune {version('onnxprune')}\n")


def test_help_lists_the_commands(call: Call) -> None:
    out = call("--help").out
    assert [command for command in COMMANDS if command not in out] == []


@pytest.mark.parametrize("command", [*COMMANDS, "plan show", "plan diff", "plan apply"])
def test_help_has_examples(command: str, call: Call) -> None:
    result = call(*command.split(), "--help")
    assert result.code == 0
    assert f"onnxprune {command}" in result.out


def test_without_a_command_there_is_help(call: Call) -> None:
    result = call()
    assert "Usage" in result.out + result.err


class TestEnds:
    def test_the_unforeseen(self, call: Call, cnn_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(inspect, "load", failing(RuntimeError("a gremlin")))
        result = call("inspect", cnn_file, "--json")
        assert (result.code, result.out) == (1, "")
        assert "RuntimeError: a gremlin" in result.err
        assert "ONNXPRUNE_DEBUG=1" in result.err

    def test_the_unforeseen_with_its_traceback(
        self, cnn_file: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(inspect, "load", failing(RuntimeError("a gremlin")))
        monkeypatch.setenv("ONNXPRUNE_DEBUG", "1")
        assert main(["inspect", str(cnn_file)]) == 1
        assert "Traceback" in capfd.readouterr().err

    def test_interrupted(self, call: Call, cnn_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(inspect, "load", failing(KeyboardInterrupt()))
        assert call("inspect", cnn_file).code == 130

    def test_a_reader_that_goes_away(self, cnn_file: Path) -> None:
        code = "import sys; from onnxprune.cli import main; sys.exit(main())"
        command = f"{sys.executable} -c '{code}' inspect {cnn_file} | true"
        done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)  # noqa: S602
        assert "Traceback" not in done.stderr


def test_two_builds_of_onnxruntime_are_a_warning(call: Call, cnn_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notices, "check_install", lambda: "Both onnxruntime and onnxruntime-gpu are installed")
    result = call("inspect", cnn_file, "--json")
    assert result.code == 0
    assert "Warning: Both onnxruntime and onnxruntime-gpu are installed" in result.err
    assert result.json["groups"]


class TestOtherPackages:
    def entries(self, monkeypatch: pytest.MonkeyPatch, load: Callable[[], object]) -> typer.Typer:
        entry = SimpleNamespace(name="shine", value="polish:register", load=load)
        monkeypatch.setattr("onnxprune.cli.commands.entry_points", lambda **_: [entry])
        result = typer.Typer()
        result.command(name="own")(lambda: None)
        load_commands(result)
        return result

    def test_a_command_is_added(self, monkeypatch: pytest.MonkeyPatch) -> None:
        found = self.entries(monkeypatch, lambda: lambda app: app.command(name="shine")(lambda: None))
        assert set(typer.main.get_command(found).commands) == {"own", "shine"}  # type: ignore[attr-defined]

    def test_one_that_fails_is_a_warning(
        self, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        self.entries(monkeypatch, failing(ImportError("no polish here")))
        assert "'shine' of polish:register cannot be loaded: ImportError: no polish" in capfd.readouterr().err

    def test_our_own_one_is_there(self) -> None:
        assert "convert" in typer.main.get_command(application).commands  # type: ignore[attr-defined]


def test_the_reference_is_up_to_date() -> None:
    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    assert page == reference(), "run: python -m onnxprune.cli.reference > docs/cli.md"


def test_what_json_cannot_hold() -> None:
    assert plain({"a": float("nan"), "b": (1, float("inf")), "c": Path("x")}) == {"a": None, "b": [1, None], "c": "x"}
