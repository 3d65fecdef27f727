"""Time and memory of scoring every weight of VGG-19 (144M) and writing the scores, in fresh processes.

    python -m benchmarks.scoring [--net vgg19] [--repeats N] [--folder DIR] [--markdown] [--json FILE]

Random float32 weights in one file, which has just been written and so is in the page cache. Each process imports
onnxprune, loads the file, looks for groups (which also hashes every weight), and then does what counts:
``score_weights`` and ``save_scores``, which computes the scores as it writes them and flushes the file to the disk.
Seconds are those of the median process, memory that of the worst; writing as many bytes and flushing them, without
scores, is timed for comparison.

Memory, by the kernel's count (Linux only; 1 MB is a million bytes):

- *load*: the largest resident set up to the end of ``load``, Python and its libraries included, over the file
- *extra*: the largest resident set while scoring, less what was resident before. Of the model's own file the pages
  that are mapped and have been touched count as long as the mapping lives, so up to the largest weight (72% of VGG-19
  lie in one), although they are clean pages of the page cache, which the kernel takes back when memory gets scarce
- *extra, own*: the same without mapped pages: memory that only this process has. Looked at every 2 ms

Wanted: 2 s for magnitude, 4 s for lookahead; *extra, own* below 0.5 of the weights; *load* below 1.3.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.tables import emit, percent, save_json

LIMITS = {"l1": 2.0, "l2": 2.0, "lap": 4.0}  # seconds
EXTRA, LOAD = 0.5, 1.3
EVERY = 0.002  # seconds between two looks at the memory
COLUMNS = (
    "criterion", "load s", "groups s", "score s", "save s", "score + save", "limit", "load", "extra", "extra, own", "",
)  # fmt: skip
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class Process:
    """What one process found: seconds of each stage, and bytes."""

    load_s: float
    analyse_s: float
    score_s: float
    save_s: float
    load_peak: int
    extra: int
    extra_own: int
    weights: int


@dataclass(frozen=True)
class Outcome:
    """All processes of one criterion. ``file``: bytes of the model's."""

    criterion: str
    file: int
    processes: tuple[Process, ...]

    def seconds(self, name: str) -> float:
        return median(getattr(p, name) for p in self.processes)

    @property
    def total(self) -> float:
        return median(p.score_s + p.save_s for p in self.processes)

    @property
    def load(self) -> float:
        return max(p.load_peak for p in self.processes) / self.file

    @property
    def extra(self) -> float:
        return max(p.extra / p.weights for p in self.processes)

    @property
    def extra_own(self) -> float:
        return max(p.extra_own / p.weights for p in self.processes)

    @property
    def passed(self) -> bool:
        return self.total < LIMITS[self.criterion] and self.extra_own < EXTRA and self.load < LOAD


class Peak:
    """Largest amounts of memory while something runs, in bytes; filled in when it ends."""

    resident = own = 0


@contextmanager
def watched() -> Iterator[Peak]:
    """Look at this process's memory: the kernel's high-water mark of all, and private pages every 2 ms."""
    CLEAR.write_text("5")  # sets the high-water mark back
    peak, done = Peak(), threading.Event()

    def look() -> None:
        while not done.wait(EVERY):
            peak.own = max(peak.own, memory("RssAnon"))

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield peak
    finally:
        done.set()
        watcher.join()
        peak.resident, peak.own = memory("VmHWM"), max(peak.own, memory("RssAnon"))


def memory(name: str) -> int:
    """One line of what the kernel tells about this process."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(name))
    return 1024 * int(line.split()[1])


def in_this_process(criterion: str, source: Path, target: Path) -> Process:
    """All stages, one after the other."""
    from onnxprune.criteria import save_scores, score_weights  # noqa: PLC0415 - counts as loading
    from onnxprune.experiment import analyse  # noqa: PLC0415 - as above
    from onnxprune.model import load  # noqa: PLC0415 - as above

    times = [time.perf_counter()]
    with watched() as loading:
        model = load(source)
    times.append(time.perf_counter())
    model, coupling = analyse(model)
    times.append(time.perf_counter())
    resident, own = memory("VmRSS"), memory("RssAnon")
    with watched() as scoring:
        start = time.perf_counter()
        scores = score_weights(model, coupling, criterion)
        middle = time.perf_counter()
        save_scores(scores, target)
        end = time.perf_counter()
    return Process(
        times[1] - times[0], times[2] - times[1], middle - start, end - middle,
        loading.resident, scoring.resident - resident, scoring.own - own, model.nbytes,
    )  # fmt: skip


def measure(criterion: str, source: Path, repeats: int) -> Outcome:
    """Some fresh processes, one after the other."""
    found = []
    for _ in range(repeats):
        target = source.with_name("scores.npz")
        child = [sys.executable, "-m", "benchmarks.scoring", "--child", criterion, str(source), str(target)]
        answer = subprocess.run(child, check=True, stdout=subprocess.PIPE, text=True).stdout
        found.append(Process(**json.loads(answer)))
        target.unlink()
    return Outcome(criterion, source.stat().st_size, tuple(found))


def write_alone(folder: Path, size: int) -> float:
    """Seconds to write so many bytes and to flush them to the disk."""
    piece = os.urandom(1 << 20)
    start = time.perf_counter()
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        for _ in range(size >> 20):
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())
        return time.perf_counter() - start


def _cells(outcome: Outcome) -> list[str]:
    stages = (outcome.seconds(name) for name in ("load_s", "analyse_s", "score_s", "save_s"))
    return [
        outcome.criterion,
        *(f"{seconds:.2f}" for seconds in stages),
        f"{outcome.total:.2f}",
        f"{LIMITS[outcome.criterion]:.0f}",
        *(percent(share) for share in (outcome.load, outcome.extra, outcome.extra_own)),
        "pass" if outcome.passed else "FAIL",
    ]


def _export(net: str, path: Path) -> None:
    """Write a test net to a file, in a process of its own: torch takes memory, and this one starts others."""
    code = f"from tests.nets import export; open({str(path)!r}, 'wb').write(export({net!r}).SerializeToString())"
    subprocess.run([sys.executable, "-c", code], check=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; 1 if a limit is passed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scoring", description=__doc__.partition("\n")[0])
    parser.add_argument("--net", default="vgg19", help="a test net; the limits are meant for vgg19")
    parser.add_argument(
        "--repeats", type=int, default=3, metavar="N", help="processes for each criterion, 3 by default"
    )
    parser.add_argument("--folder", type=Path, help="where the files are made; the temporary folder by default")
    parser.add_argument("--markdown", action="store_true", help="print Markdown")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.child:
        criterion, source, target = options.child
        json.dump(asdict(in_this_process(criterion, Path(source), Path(target))), sys.stdout)
        return 0
    if not CLEAR.exists():
        parser.error("this needs Linux: memory is read from /proc")
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        source = Path(folder, "net.onnx")
        _export(options.net, source)
        for criterion in LIMITS:
            outcomes.append(measure(criterion, source, options.repeats))
            print(*_cells(outcomes[-1]), file=sys.stderr, flush=True)
        alone = write_alone(Path(folder), source.stat().st_size)
    file = outcomes[0].file / 1e6
    emit(f"Scoring {options.net}, {file:,.0f} MB", COLUMNS, [_cells(o) for o in outcomes], as_markdown=options.markdown)
    print(f"Writing {file:,.0f} MB and flushing them to the disk, without scores: {alone:.2f} s")
    save_json(options.json, _record(outcomes, alone))
    return int(not all(o.passed for o in outcomes))


def _record(outcomes: Sequence[Outcome], alone: float) -> dict[str, Any]:
    return {"write_alone_s": alone, "outcomes": [asdict(o) | {"passed": o.passed} for o in outcomes]}


if __name__ == "__main__":
    sys.exit(main())
