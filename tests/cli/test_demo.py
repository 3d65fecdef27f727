from __future__ import annotations

import re
from pathlib import Path

import pytest

from onnxprune.cli.report import Section, markdown
from onnxprune.model import load
from onnxprune.plan import Plan
from tests.cli.conftest import Call


def test_the_whole_way(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = call("demo")
    assert result.code == 0, result.err
    folder = tmp_path / "demo-output"
    small, big = load(folder / "digits_half.onnx"), load(folder / "digits_cnn.onnx")
    assert small.nbytes < 0.35 * big.nbytes
    assert Plan.load(folder / "plan.json").model_hash == big.hash
    report = (folder / "report.md").read_text()
    for words in ("Proven", "accuracy", "latency", "MACs", "measured", "estimated", "| conv1 | filters | 24 | 12 |"):
        assert words in report
    for words in ("Proven", "accuracy", "conv1", "report.md"):
        assert words in result.out
    shares = re.search(r"\| accuracy \| ([\d.]+)% \| ([\d.]+)% \| ([\d.]+)% \|", report)
    assert shares is not None
    original, pruned, repaired = map(float, shares.groups())
    assert original > 99
    assert repaired > pruned + 0.6 * (original - pruned)


def test_twice_into_a_folder_of_choice(call: Call, tmp_path: Path) -> None:
    for _ in range(2):
        assert call("demo", "--out", tmp_path / "a" / "b").code == 0
    assert (tmp_path / "a" / "b" / "report.md").is_file()


def test_where_it_cannot_write(call: Call, tmp_path: Path) -> None:
    (tmp_path / "taken").touch()
    result = call("demo", "--out", tmp_path / "taken")
    assert result.code == 2
    assert "taken" in result.err
    assert "--out" in result.err


def test_what_markdown_would_misread() -> None:
    text = markdown("t", [Section("s", ("name", "n"), [("a|b<c>", "1")], (1,), ("x<y",))])
    assert "| a\\|b&lt;c> | 1 |" in text
    assert "| --- | ---: |" in text
    assert "x&lt;y" in text
