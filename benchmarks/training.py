"""What a step of training costs: forward, backward and update, against torch in eager mode.

    python -m benchmarks.training [--only PATTERN] [--threads 1] [--rounds 7] [--markdown] [--json FILE]

Each net is written in torch, exported with its BatchNorm, and trained on one batch of noise with SGD and momentum by
both. Each side is a process of its own (idle threads of one library would take the other's core) and both take turns,
round by round. The figure is the ratio of CPU time in the median round; wall time and peak memory stand beside it.
torch's memory includes torch itself, ours onnxruntime. Wanted: the ratio in the table, memory at most 1.1 of torch's.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatch
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.tables import emit, save_json

SECONDS = 1.5  # of each side in each round, about
MEMORY = 1.1
SIDES = ("torch", "ours")
# Net -> CPU time at most this many times torch's.
WANTED = {
    "ResNet-18": 1.2,
    "ResNet-18, BN frozen": 1.2,
    "4-layer CNN": 1.3,
    "transformer": 0.8,
    "bi-LSTM": 1.1,
    "MobileNetV2": 2.0,
}


@dataclass(frozen=True)
class Outcome:
    """One net: CPU and wall milliseconds of a step in each round, peak bytes, and the loss after the same steps."""

    net: str
    threads: int
    cpu: tuple[tuple[float, ...], tuple[float, ...]]
    wall: tuple[tuple[float, ...], tuple[float, ...]]
    memory: tuple[int, int]
    loss: tuple[float, float]

    def ratio(self, which: str) -> float:
        """Ours over torch's in the median round."""
        torch, ours = getattr(self, which)
        return median(b / a for a, b in zip(torch, ours, strict=True))

    @property
    def passed(self) -> bool:
        return self.ratio("cpu") <= WANTED[self.net] and self.memory[1] <= MEMORY * self.memory[0]


class Side:
    """One library in a process of its own, told to do so many steps at a time."""

    def __init__(self, side: str, net: str, model: Path, threads: int) -> None:
        command = [sys.executable, "-m", f"benchmarks.training_{side}", net, str(model), str(threads)]
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def steps(self, count: int) -> dict[str, float]:
        """CPU and wall milliseconds of a step, peak bytes, last loss."""
        if self.process.stdin is None or self.process.stdout is None or self.process.poll() is not None:
            raise RuntimeError(f"a side ended with {self.process.returncode}")
        self.process.stdin.write(f"{count}\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"a side ended with {self.process.wait()}")
        found: dict[str, float] = json.loads(line)
        return found

    def end(self) -> None:
        self.process.communicate()


def measure(net: str, threads: int, rounds: int) -> Outcome:
    """Both sides in turns."""
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder, "net.onnx")
        subprocess.run([sys.executable, "-m", "benchmarks.training_nets", net, str(model)], check=True)
        sides = [Side(side, net, model, threads) for side in SIDES]
        first = [side.steps(3) for side in sides]
        counts = [max(int(1000 * SECONDS / side.steps(2)["wall"]), 1) for side in sides]
        found = [[side.steps(n) for side, n in zip(sides, counts, strict=True)] for _ in range(rounds)]
        for side in sides:
            side.end()

    def of(figure: str) -> Any:
        return tuple(tuple(each[k][figure] for each in found) for k in range(2))

    memory = tuple(int(found[-1][k]["memory"]) for k in range(2))
    return Outcome(net, threads, of("cpu"), of("wall"), memory, tuple(f["loss"] for f in first))  # type: ignore[arg-type]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; 1 where something is more than wanted."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", description=__doc__.partition("\n")[0])
    parser.add_argument("--only", default="*", metavar="PATTERN", help="nets whose name fits")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="of each side")
    parser.add_argument("--rounds", type=int, default=7, metavar="N", help="in which both take turns")
    parser.add_argument("--markdown", action="store_true", help="print Markdown")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures")
    options = parser.parse_args(arguments)
    nets = [net for net in WANTED if fnmatch(net, options.only)]
    if not nets:
        parser.error(f"--only fits none of {', '.join(WANTED)}")
    outcomes = []
    for net in nets:
        outcomes.append(measure(net, options.threads, options.rounds))
        print(f"{net}: CPU {outcomes[-1].ratio('cpu'):.2f}, wall {outcomes[-1].ratio('wall'):.2f}", file=sys.stderr)
    rows = [
        [
            o.net, *(f"{median(side):.1f}" for side in o.cpu), f"{o.ratio('cpu'):.2f}", f"{WANTED[o.net]}",
            f"{o.ratio('wall'):.2f}", *(f"{m / 1e6:.0f}" for m in o.memory), f"{o.memory[1] / o.memory[0]:.2f}",
            f"{abs(o.loss[1] / o.loss[0] - 1):.0e}", "pass" if o.passed else "FAIL",
        ]
        for o in outcomes
    ]  # fmt: skip
    columns = (
        "net", "torch ms", "ms", "CPU ratio", "wanted", "wall ratio", "torch MB", "MB", "memory ratio",
        "loss differs", "",
    )  # fmt: skip
    title = f"A training step, {options.threads} thread{'s' if options.threads > 1 else ''}"
    emit(title, columns, rows, as_markdown=options.markdown)
    save_json(options.json, [asdict(o) for o in outcomes])
    return int(not all(o.passed for o in outcomes)) if options.threads == 1 else 0


if __name__ == "__main__":
    sys.exit(main())
