"""The channel step: read off a staircase, measured once, remembered, and harmless where it cannot be."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from onnxprune import alignment
from onnxprune.alignment import FALLBACK, STEPS, WIDTHS, best_step, cache_file, default_step, machine, staircase
from onnxprune.errors import UnsupportedModel

ALL = list(WIDTHS)


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ONNXPRUNE_CACHE", str(tmp_path))
    monkeypatch.delenv("ONNXPRUNE_NO_MEASURE", raising=False)


def stairs(step: int, slope: float = 1.0) -> dict[int, float]:
    """Time of a kernel that works on blocks of ``step`` channels, and pays more for each that is left over."""
    return {w: (-(-w // step) * step) ** 2 * (1 + slope * (w % step > 0)) for w in ALL}


@pytest.mark.parametrize("step", STEPS)
def test_the_step_of_a_staircase_is_found(step: int) -> None:
    assert best_step(stairs(step)) == step


def test_a_smooth_kernel_needs_no_rounding() -> None:
    assert best_step({w: float(w) for w in ALL}, {w: float(w) ** 2 for w in ALL}) == 1


def test_two_kernels_are_weighed_together() -> None:
    assert best_step(stairs(8), {w: float(w) for w in ALL}) == 8
    assert best_step(stairs(4, 0.0), {w: float(w) ** 2 for w in ALL}) == 1


def test_noise_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        assert best_step({w: t * rng.uniform(1, 1.05) for w, t in stairs(8).items()}) == 8


def test_measured_for_real_once_and_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    step = default_step(threads=1)
    assert step in STEPS
    assert json.loads(cache_file().read_text()) == {machine(1): step}
    monkeypatch.setattr(alignment, "staircase", None)  # calling it again would fail
    assert default_step(threads=1) == step


def test_every_width_is_timed() -> None:
    assert set(staircase(alignment.matrix_product, threads=1)) == set(ALL)
    assert machine(1) != machine(2)


def test_measuring_can_be_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONNXPRUNE_NO_MEASURE", "1")
    assert default_step() == FALLBACK == 8
    assert not cache_file().exists()


def test_a_failure_is_not_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise UnsupportedModel(f"no kernel for {len(arguments)} arguments")

    monkeypatch.setattr(alignment, "staircase", fail)
    assert default_step() == FALLBACK
    assert not cache_file().exists()


@pytest.mark.parametrize("content", ["", "not json", "[1]", '{"x": 1}', json.dumps({machine(): 7})])
def test_a_cache_that_makes_no_sense_is_replaced(monkeypatch: pytest.MonkeyPatch, content: str) -> None:
    cache_file().write_text(content)
    monkeypatch.setattr(alignment, "staircase", lambda *_: stairs(4))
    assert default_step() == 4
    assert json.loads(cache_file().read_text())[machine()] == 4


def test_a_folder_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ONNXPRUNE_CACHE", str(tmp_path / "file" / "below"))
    monkeypatch.setattr(alignment, "staircase", lambda *_: stairs(16))
    assert default_step() == 16


@pytest.mark.parametrize(
    ("platform", "variable", "tail"),
    [
        ("linux", "XDG_CACHE_HOME", "onnxprune/alignment.json"),
        ("win32", "LOCALAPPDATA", "onnxprune/alignment.json"),
        ("darwin", "HOME", "Library/Caches/onnxprune/alignment.json"),
    ],
)
def test_the_users_cache_folder(monkeypatch: pytest.MonkeyPatch, platform: str, variable: str, tail: str) -> None:
    monkeypatch.delenv("ONNXPRUNE_CACHE")
    monkeypatch.setattr("sys.platform", platform)
    monkeypatch.setenv(variable, "/somewhere")
    assert cache_file() == Path("/somewhere") / tail
