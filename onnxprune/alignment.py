"""The channel step that suits this machine: a latency staircase, measured once and remembered.

Kernels work on blocks of channels, so that 65 channels may cost as much as 80. A small convolution and a small matrix
product are timed at every width from 48 to 96; for each step the mean time per multiply-accumulate is taken, with all
widths rounded to the nearest multiple of it::

    mean(step) = mean over widths w of  time(r) / r^2 / (time(64) / 64^2)      r = the multiple of step nearest to w

The answer is the smallest step within 6% of the best mean: what is kept then runs at nearly full speed. It is kept in
a file per user, by machine, onnxruntime version, device and number of threads. ``ONNXPRUNE_CACHE`` names the folder,
``ONNXPRUNE_NO_MEASURE=1`` turns measuring off: the step is then 8, as it is wherever measuring fails.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

from onnxprune._atomic import replacing
from onnxprune.errors import OnnxPruneError
from onnxprune.model import Model, from_proto
from onnxprune.runtime import check_running, device_of, measure_latency

__all__ = [
    "FALLBACK",
    "STEPS",
    "WIDTHS",
    "best_step",
    "cache_file",
    "convolution",
    "default_step",
    "machine",
    "matrix_product",
    "staircase",
]

STEPS = (1, 2, 4, 8, 16, 32)
FALLBACK = 8
WIDTHS = range(48, 97)
TOLERANCE = 1.06
RUNTIMES = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-directml", "onnxruntime-openvino")
PASSES = 4  # each width is timed so often, at different moments
RUNS, WARMUP = 7, 2  # calls each time

Times = Mapping[int, float]


def default_step(threads: int | None = None, provider: str = "auto") -> int:
    """The step for this machine, from the file or measured now (one to two seconds, once). Raises OptionError."""
    check_running(provider, threads)
    if os.environ.get("ONNXPRUNE_NO_MEASURE", "") not in ("", "0"):
        return FALLBACK
    path, key = cache_file(), machine(threads, provider)
    known = _read(path)
    if known.get(key) in STEPS:
        return known[key]
    try:
        step = best_step(*(staircase(make, threads, provider) for make in (convolution, matrix_product)))
    except (OnnxPruneError, OSError, MemoryError):
        return FALLBACK
    _write(path, {**_read(path), key: step})
    return step


def best_step(*measured: Times) -> int:
    """The smallest step whose mean time per MAC, widths rounded to it, is within 6% of the best."""
    means = {step: float(np.mean([_mean(times, step) for times in measured])) for step in STEPS}
    return min(step for step, mean in means.items() if mean <= TOLERANCE * min(means.values()))


def _mean(times: Times, step: int) -> float:
    nearest = [step * round(w / step) for w in WIDTHS]
    return float(np.mean([times[r] / r**2 for r in nearest])) / (times[64] / 64**2)


def staircase(
    make: Callable[[int], tuple[Model, tuple[int, ...]]], threads: int | None = None, provider: str = "auto"
) -> dict[int, float]:
    """Milliseconds per width, 48 to 96: the 10th percentile of some runs, the smallest of some measurements each."""
    times: dict[int, float] = {}
    for _ in range(PASSES):
        for width in WIDTHS:
            model, shape = make(width)
            feeds = {"x": np.ones(shape, np.float32)}
            latency = measure_latency(
                model, feeds, runs=RUNS, warmup=WARMUP, seconds=0, threads=threads, provider=provider
            )
            times[width] = min(latency.p10_ms, times.get(width, np.inf))
    return times


def convolution(width: int) -> tuple[Model, tuple[int, ...]]:
    """A 3x3 convolution of ``width`` to ``width`` channels, and the shape of its input."""
    weight = np.full((width, width, 3, 3), 0.01, np.float32)
    node = helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1])
    return _model(node, weight, shape := (1, width, 14, 14)), shape


def matrix_product(width: int) -> tuple[Model, tuple[int, ...]]:
    """A product of ``width`` columns to four times as many, and the shape of its input."""
    return _model(
        helper.make_node("MatMul", ["x", "w"], ["y"]),
        np.full((width, 4 * width), 0.01, np.float32),
        shape := (256, width),
    ), shape


def _model(node: NodeProto, weight: np.ndarray[tuple[int, ...], np.dtype[np.float32]], shape: tuple[int, ...]) -> Model:
    graph = helper.make_graph(
        [node],
        "staircase",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(weight, "w")],
    )
    return from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8))


def machine(threads: int | None = None, provider: str = "auto") -> str:
    """What the measurement depends on, as a short text."""
    versions = [f"{name} {v}" for name in RUNTIMES if (v := _version(name))]
    device = device_of(provider)
    about = [platform.machine(), _processor(), str(os.cpu_count()), *versions, device, f"threads {threads}"]
    return hashlib.sha256("\n".join(about).encode()).hexdigest()[:16]


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _processor() -> str:
    """The processor's name; Linux tells it in a file only."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.lower().startswith("model name")), platform.processor())


def cache_file() -> Path:
    """Where steps are remembered: in ``ONNXPRUNE_CACHE``, else in the user's cache folder."""
    if folder := os.environ.get("ONNXPRUNE_CACHE"):
        return Path(folder) / "alignment.json"
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "onnxprune" / "alignment.json"


def _read(path: Path) -> dict[str, int]:
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _write(path: Path, known: Mapping[str, int]) -> None:
    """Remember; a folder that cannot be written to only means that the next process measures again."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            file.write(json.dumps(known, indent=1).encode())
    except OSError:
        return
