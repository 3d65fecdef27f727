"""A process that does steps of some work when it is told to, and tells what they cost."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable

__all__ = ["serve"]


def serve(step: Callable[[], float]) -> None:
    """Do as many steps as each line says, and tell what they cost."""
    for line in sys.stdin:
        count = int(line)
        cpu, wall = time.process_time(), time.perf_counter()
        for _ in range(count):
            loss = step()
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        told = {"cpu": 1000 * cpu / count, "wall": 1000 * wall / count, "memory": memory, "loss": loss}
        print(json.dumps(told), flush=True)
