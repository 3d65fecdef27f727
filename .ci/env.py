"""Make the project's virtual environments, and make them again only when what they hold has changed.

    python3.11 .ci/env.py main keras      # or: demo

Needs nothing but Python itself. The stamp inside an environment is a hash of the Python version, the install steps
below and the parts of pyproject.toml that installation reads; while it fits, nothing is done.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import time
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# Environment -> (folder, what each pip call installs). torch comes first and by its exact version: a range would
# let pip take the newest build with several gigabytes of CUDA packages.
ENVIRONMENTS: dict[str, tuple[str, list[list[str]]]] = {
    "main": (".venv", [["torch==2.13.0"], ["-e", ".[test,dev,torch,sklearn]"]]),
    "keras": (".venvs/keras", [["tensorflow-cpu", "keras", "tf2onnx"], ["-e", ".[test]"]]),
    "bench": (".venvs/bench", [["torch==2.13.0"], ["-e", ".[bench,torch]"]]),
    "demo": (".venvs/demo", [["-e", "."]]),
}
INSTALLED = ("name", "version", "requires-python", "dependencies", "optional-dependencies", "scripts", "entry-points")


def stamp(steps: list[list[str]]) -> str:
    """SHA-256 over all that decides what an environment holds."""
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    project = {key: pyproject["project"].get(key) for key in INSTALLED}
    facts = [sys.version_info[:3], steps, pyproject["build-system"], project, str(ROOT)]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def python_of(folder: Path) -> Path:
    """The interpreter of an environment."""
    return folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def build(name: str) -> None:
    """Make one environment from nothing, unless its stamp fits."""
    relative, steps = ENVIRONMENTS[name]
    folder = ROOT / relative
    mark, expected = folder / ".onnxprune-stamp", stamp(steps)
    if mark.is_file() and mark.read_text(encoding="utf-8") == expected:
        print(f"{relative}: up to date", flush=True)
        return
    begin = time.monotonic()
    print(f"{relative}: python -m venv --clear", flush=True)
    venv.EnvBuilder(clear=True, with_pip=True, symlinks=sys.platform != "win32").create(folder)
    pip = [str(python_of(folder)), "-m", "pip", "--disable-pip-version-check", "--no-input"]
    for packages in steps:
        print(f"{relative}: pip install {' '.join(packages)}", flush=True)
        subprocess.run([*pip, "install", "-qq", "--progress-bar", "off", *packages], cwd=ROOT, check=True)
    mark.write_text(expected, encoding="utf-8")
    print(f"{relative}: ready after {time.monotonic() - begin:.0f} s", flush=True)


def main(names: list[str]) -> int:
    """Build the environments named; 2 when there is no such environment, 1 when pip failed."""
    unknown = [name for name in names if name not in ENVIRONMENTS]
    if unknown or not names:
        print(f"usage: env.py {'|'.join(ENVIRONMENTS)} ...", file=sys.stderr)
        return 2
    try:
        for name in names:
            build(name)
    except subprocess.CalledProcessError as error:
        print(f"failed: {' '.join(error.cmd)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
