"""A Dask cluster of this machine in a process of its own, so that a test can end any part of it without mercy.

python -m tests.clusters WORKERS      prints its address and goes on until its input ends
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Cluster:
    """``kill`` ends the scheduler, and with it the workers."""

    address: str
    process: subprocess.Popen[str]

    def ask(self, question: Callable[..., Any]) -> dict[str, Any]:
        """The answer of each worker."""
        from distributed import Client  # noqa: PLC0415 - only where a cluster was started

        with Client(self.address, set_as_default=False) as client:
            return dict(client.run(question))

    def pids(self) -> list[int]:
        """Of the workers."""
        return list(self.ask(os.getpid).values())

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@contextmanager
def started(workers: int) -> Iterator[Cluster]:
    """A cluster of so many workers with one thread each; a task may end one worker, and not two."""
    settings = {
        "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "1",
        "DASK_DISTRIBUTED__WORKER__MEMORY__TERMINATE": "False",
        "DASK_DISTRIBUTED__WORKER__MEMORY__PAUSE": "False",
        "OMP_NUM_THREADS": "1",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.clusters", str(workers)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT,
        env={**os.environ, **settings},
    )  # fmt: skip
    with process:
        try:
            assert process.stdout is not None
            yield Cluster(process.stdout.readline().strip(), process)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)


def main(workers: int) -> None:
    from distributed import LocalCluster  # noqa: PLC0415 - the tests of everything else do not need it

    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    with LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None, memory_limit=0) as cluster:
        sys.stdout.write(f"{cluster.scheduler_address}\n")
        sys.stdout.flush()
        sys.stdin.read()


if __name__ == "__main__":
    main(int(sys.argv[1]))
