"""Measured memory: what loading and running a model takes, in a process of its own.

    peak = max(peak while loading, peak while running) - what the process held before

"Before" is a process with onnxruntime imported and a model of one node run, so that libraries do not count. On Linux
the peak is VmHWM, the kernel's high-water mark of resident memory, set back between the stages; elsewhere it is what
the system keeps for the whole process (peak_wset on Windows, ru_maxrss on macOS). Memory of a GPU does not count.
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onnxprune._messages import translated
from onnxprune._model import PROTOBUF_LIMIT, Model
from onnxprune.errors import ModelError, OptionError
from onnxprune.runtime.arrays import Array
from onnxprune.runtime.devices import check_running, device_of
from onnxprune.runtime.native import Setup
from onnxprune.runtime.probe import Task

__all__ = ["Memory", "measure_memory"]


@dataclass(frozen=True)
class Memory:
    """Bytes of main memory beyond ``baseline_bytes``, which the process held before it loaded the model.

    ``load_bytes``: the peak while the session was made. ``run_bytes``: the peak while it ran, the session included.
    ``peak_bytes``: the larger of the two. ``kept_bytes``: held at the end. ``method``: "VmHWM", "peak_wset" or
    "ru_maxrss"; with the latter two the peak of a run is never below that of loading.
    """

    peak_bytes: int
    load_bytes: int
    run_bytes: int
    kept_bytes: int
    baseline_bytes: int
    runs: int
    threads: int | None
    provider: str
    method: str


def measure_memory(
    model: Model | str | os.PathLike[str],
    feeds: Mapping[str, Array],
    *,
    runs: int = 2,
    repeats: int = 3,
    threads: int | None = None,
    provider: str = "auto",
) -> Memory:
    """Load a model in a new process, run it ``runs`` times, and say how much memory that took at most.

    Of ``repeats`` such processes the one with the median peak counts: how the allocator fares with several threads is
    chance, and moved the peak of a ResNet-18 by 12%. A file is loaded as it is, the way a program would that uses
    onnxruntime with its defaults; a ``Model`` is written to a temporary file first. A process takes 0.2 s beyond
    loading and running. Raises OptionError (no runs; a model in memory beyond 2 GiB, of which the file has to be
    named), UnsupportedModel and ModelError.
    """
    if runs < 1 or repeats < 1:
        raise OptionError(f"{runs} runs, {repeats} repeats", "Ask for at least one.")
    check_running(provider, threads)
    setup = Setup(device_of(provider), threads, tf32=True)
    label = model.label if isinstance(model, Model) else os.fspath(model)
    with _file_of(model) as path:
        task = Task(path, dict(feeds), runs, setup)
        found = sorted((_measured(task, label) for _ in range(repeats)), key=lambda memory: memory.peak_bytes)
    return found[(repeats - 1) // 2]


def _measured(task: Task, label: str) -> Memory:
    answer = _ask(task, label)
    if "error" in answer:
        raise translated(RuntimeError(answer["error"]), f"{label} failed while its memory was measured")
    load, run, kept = (max(answer[stage] - answer["baseline"], 0) for stage in ("load", "run", "kept"))
    return Memory(
        max(load, run), load, run, kept, answer["baseline"],
        task.runs, task.setup.threads, answer["provider"], answer["method"],
    )  # fmt: skip


@contextmanager
def _file_of(model: Model | str | os.PathLike[str]) -> Iterator[str]:
    if not isinstance(model, Model):
        yield str(Path(model).absolute())
        return
    filled = model.filled()
    if filled.size > PROTOBUF_LIMIT:
        raise OptionError(
            f"{model.label} takes {filled.size:,} bytes, more than one file without external data holds",
            "Save it, and measure the file.",
        )
    with tempfile.TemporaryDirectory(prefix="onnxprune-") as folder:
        path = Path(folder, "model.onnx")
        with path.open("wb") as file:
            file.writelines(filled.chunks)
        yield str(path)


def _ask(task: Task, label: str) -> dict[str, Any]:
    """What the process answers. It finds the modules that this one does, and never sees its ``__main__``."""
    done = subprocess.run(
        [sys.executable, "-m", "onnxprune.runtime.probe"],
        input=pickle.dumps(task),
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    if done.returncode == 0:
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer
    if done.returncode < 0:
        raise ModelError(
            f"{label}: the process that measured its memory was ended by signal {-done.returncode}",
            "The memory of this machine is probably too small for it: try a smaller batch.",
        )
    last = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
    raise ModelError(f"{label}: the process that measures memory failed: {last}", "Please report it.")
