"""A few of the kills of `make test-crash`, with every run of the tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
LONG = 1200.0  # seconds, on a machine that has other things to do


def test_programs_that_are_killed_lose_nothing_and_leave_nothing_half_done() -> None:
    command = [sys.executable, "-m", "tests.workspace.crash", "--kills", "8", "--seconds", "3"]
    program = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    try:
        told, _ = program.communicate(timeout=LONG)
    finally:
        if program.poll() is None:
            os.killpg(program.pid, signal.SIGKILL)
            program.wait()
    assert program.returncode == 0, told
    for name in ("steps and blobs", "migrations", "opening", "claims", "prune", "fine-tune"):
        assert f"\n{name}: " in told
    assert "4 writers: " in told
    assert "nothing was lost" in told
