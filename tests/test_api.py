"""The names that the package promises, and the snippet that the README shows."""

from __future__ import annotations

from pathlib import Path

import pytest

import onnxprune

ROOT = Path(__file__).parent.parent


def test_every_promised_name_is_there() -> None:
    assert sorted(onnxprune.__all__) == sorted(onnxprune._HOMES)
    for name in onnxprune.__all__:
        assert getattr(onnxprune, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = onnxprune.nothing


def test_no_function_hides_a_module_of_its_name() -> None:
    modules = {p.stem for p in (ROOT / "onnxprune").iterdir()}
    assert not modules & set(onnxprune.__all__)


def test_the_snippet_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    snippet = text.split("```python\n")[1].split("```")[0]
    (tmp_path / "model.onnx").write_bytes((ROOT / "examples" / "digits_cnn.onnx").read_bytes())
    data = ROOT / "onnxprune" / "demo_data" / "digits.npz"
    (tmp_path / "digits.npz").write_bytes(data.read_bytes())
    monkeypatch.chdir(tmp_path)
    exec(compile(snippet, "README.md", "exec"), {})  # noqa: S102 - our own README
    assert (tmp_path / "small.onnx").stat().st_size < (tmp_path / "model.onnx").stat().st_size
