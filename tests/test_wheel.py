"""The wheel, built from a copy of the checkout and installed into a fresh environment outside of it.

The fresh environment borrows the dependencies of the one that runs the tests (a ``.pth`` file names its folder), so
that this takes seconds; the package itself can only come from the wheel.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
PACKAGES = {"onnxprune", "dash_ui", "converters"}
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "onnxprune", "dash_ui", "converters", "tests")


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run outside the checkout, with nothing of it on the path; a failure shows what the command printed."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYTEST"))}
    result = subprocess.run(
        [str(part) for part in command],
        cwd=cwd, env=plain, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, f"{command}\n{result.stdout}\n{result.stderr}"
    return result


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("build")
    source = folder / "source"
    source.mkdir()
    for name in SOURCES:
        part = ROOT / name
        copy = shutil.copytree if part.is_dir() else shutil.copy2
        copy(part, source / name)
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    run(*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, source, cwd=folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def scripts(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the fresh environment that holds ``python`` and ``onnxprune``."""
    folder = tmp_path_factory.mktemp("fresh")
    venv.EnvBuilder(with_pip=False, symlinks=sys.platform != "win32").create(folder)
    paths = sysconfig.get_paths(scheme="venv", vars={"base": str(folder), "platbase": str(folder)})
    Path(paths["purelib"], "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    python = Path(paths["scripts"]) / ("python.exe" if sys.platform == "win32" else "python")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python)
    run(*pip, "install", "--no-deps", "--no-index", wheel, cwd=folder)
    return python.parent


def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return Parser().parsestr(archive.read(name).decode("utf-8"))


def requirements(wheel: Path) -> list[Requirement]:
    return [Requirement(text) for text in metadata(wheel).get_all("Requires-Dist", [])]


def test_the_wheel_holds_the_three_packages_and_no_tests(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == PACKAGES
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert "onnxprune/py.typed" in names


@pytest.mark.parametrize(
    ("system", "machine", "runtime"),
    [
        ("linux", "x86_64", "onnxruntime-gpu"),
        ("win32", "AMD64", "onnxruntime-gpu"),
        ("linux", "aarch64", "onnxruntime"),
        ("win32", "ARM64", "onnxruntime"),
        ("darwin", "arm64", "onnxruntime"),
        ("darwin", "x86_64", "onnxruntime"),
    ],
)
def test_exactly_one_runtime_is_required_everywhere(wheel: Path, system: str, machine: str, runtime: str) -> None:
    place = {"sys_platform": system, "platform_machine": machine, "extra": ""}
    required = {r.name for r in requirements(wheel) if r.marker is None or r.marker.evaluate(place)}
    assert {name for name in required if name.startswith("onnxruntime")} == {runtime}
    assert {"dash", "numpy", "onnx", "onnx-graphsurgeon", "plotly", "rich", "scipy", "typer"} <= required


def test_pytest_is_what_the_test_extra_installs(wheel: Path) -> None:
    extra = {r.name for r in requirements(wheel) if r.marker is not None and r.marker.evaluate({"extra": "test"})}
    assert {"pytest", "hypothesis"} <= extra


def test_the_installed_package_is_the_one_from_the_wheel(scripts: Path, tmp_path: Path) -> None:
    code = "import onnxprune, dash_ui, converters; print(onnxprune.__file__)"
    assert str(scripts.parent) in run(scripts / "python", "-c", code, cwd=tmp_path).stdout


def test_version(scripts: Path, wheel: Path, tmp_path: Path) -> None:
    assert metadata(wheel)["Version"] in run(scripts / "onnxprune", "--version", cwd=tmp_path).stdout


def test_commands_from_the_other_packages_are_there(scripts: Path, tmp_path: Path) -> None:
    assert "convert" in run(scripts / "onnxprune", "--help", cwd=tmp_path).stdout
    run(scripts / "onnxprune", "convert", "--help", cwd=tmp_path)


def test_the_demo_runs_outside_the_checkout(scripts: Path, tmp_path: Path) -> None:
    run(scripts / "onnxprune", "demo", cwd=tmp_path)
    assert list(tmp_path.rglob("*.onnx"))
    assert list(tmp_path.rglob("*.json"))
