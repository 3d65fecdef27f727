"""The process that ``measure_memory`` starts: it loads and runs one model, and says what that took.

It reads a pickled ``Task`` from its standard input and writes one JSON object to its standard output: bytes by stage
and how they were found out, or ``error``.
"""

from __future__ import annotations

import gc
import json
import pickle
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from onnxprune.runtime.arrays import Array, call_of, gives_odd
from onnxprune.runtime.native import ERRORS, Setup, native, runs_on, tiny

__all__ = ["Task", "main"]

STATUS = Path("/proc/self/status")
CLEAR = Path("/proc/self/clear_refs")
FORGET_PEAK = "5"  # what Linux wants to hear there
ONE = np.ones(1, np.float32)


@dataclass(frozen=True)
class Task:
    """Run the model at ``path`` on ``feeds``, ``runs`` times."""

    path: str
    feeds: Mapping[str, Array]
    runs: int
    setup: Setup


class LinuxGauge:
    """Resident memory as the kernel counts it; its peak can be set back, so that each stage has its own."""

    method = "VmHWM"

    def now(self) -> int:
        return self._read("VmRSS")

    def peak(self) -> int:
        """The largest since the last ``restart``."""
        return self._read("VmHWM")

    def restart(self) -> None:
        CLEAR.write_text(FORGET_PEAK)

    @staticmethod
    def _read(name: str) -> int:
        line = next(line for line in STATUS.read_text().splitlines() if line.startswith(name))
        return 1024 * int(line.split()[1])


class OtherGauge:
    """What psutil and the standard library tell: the peak is that of the whole process and is never set back."""

    def __init__(self) -> None:
        import psutil  # noqa: PLC0415 - not needed on Linux

        self.process = psutil.Process()
        self.method = "peak_wset" if hasattr(self.process.memory_info(), "peak_wset") else "ru_maxrss"

    def now(self) -> int:
        return int(self.process.memory_info().rss)

    def peak(self) -> int:
        if self.method == "peak_wset":
            return int(self.process.memory_info().peak_wset)
        import resource  # noqa: PLC0415 - Windows has none

        found = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return found if sys.platform == "darwin" else 1024 * found

    def restart(self) -> None:
        """Nothing can be done."""


def gauge() -> LinuxGauge | OtherGauge:
    """The better one that works here."""
    try:
        found = LinuxGauge()
        found.restart()
        found.peak()
    except (OSError, StopIteration):
        return OtherGauge()
    return found


def measure(task: Task) -> dict[str, Any]:
    """Bytes at each stage. Raises onnxruntime's errors."""
    native(tiny(), task.setup).run(None, {"x": ONE})
    gc.collect()
    memory = gauge()
    baseline = memory.now()
    made = native(task.path, task.setup)
    load = memory.peak()
    memory.restart()
    names = [output.name for output in made.get_outputs()]
    call = call_of(made, names, task.feeds, odd=gives_odd(made))
    for _ in range(task.runs):
        found = call()
    run = memory.peak()
    found.clear()
    kept = memory.now()
    return {
        "baseline": baseline, "load": load, "run": run, "kept": kept,
        "method": memory.method, "provider": runs_on(made),
    }  # fmt: skip


def main() -> None:
    """Do the task on the standard input."""
    task: Task = pickle.load(sys.stdin.buffer)  # noqa: S301 - it comes from the process that started this one
    try:
        answer = measure(task)
    except ERRORS as error:
        answer = {"error": str(error)}
    except MemoryError:
        answer = {"error": "there is not enough memory"}
    sys.stdout.write(json.dumps(answer))


if __name__ == "__main__":
    main()
