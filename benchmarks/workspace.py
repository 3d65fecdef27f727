"""What a large workspace costs to look at.

    python -m benchmarks.workspace [--steps 10000] [--markdown] [--json FILE]

A tree of steps with ten metrics and ten metrics of classes each, in a new database; the median of repeated calls.
Wanted: all steps are listed in 150 ms, one is opened (metrics, classes, documents, path to the root) in 50 ms.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

from benchmarks.tables import emit, save_json
from onnxprune.workspace.database import Database
from onnxprune.workspace.steps import Steps
from onnxprune.workspace.values import NewStep

LIST_WITHIN, OPEN_WITHIN = 150.0, 50.0  # ms
REPEATS = 15


def tree(steps: Steps, count: int) -> None:
    """Fill a database: every step has two children."""
    metrics = {
        **{(f"metric {k}", ""): k / 7 for k in range(10)},
        **{("recall", str(k)): 0.5 for k in range(10)},
    }
    with steps.database.writing() as connection:
        steps.insert(connection, NewStep("original", "a" * 64, "h0", metrics=metrics))
        for k in range(1, count):
            command = ("onnxprune", "ws", "prune", str(k), "--set", "ratio=0.5")
            steps.insert(
                connection,
                NewStep(
                    "prune", "b" * 64, f"h{k}", parent=(k + 1) // 2, plan="c" * 64, command=command,
                    versions={"onnx": "1.23"}, metrics=metrics, documents={"history": "d" * 64},
                ),
            )  # fmt: skip


def milliseconds(call: Callable[[], object]) -> float:
    """Of one call, in the median."""
    taken = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        call()
        taken.append(1000 * (time.perf_counter() - start))
    return median(taken)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; 1 where something takes longer than wanted."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.workspace", description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=10_000, metavar="N", help="in the tree")
    parser.add_argument("--markdown", action="store_true", help="print Markdown")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        steps = Steps(Database(Path(folder, "tree.sqlite")))
        tree(steps, options.steps)
        last = options.steps - 1

        def opened() -> None:
            steps.get(last), steps.class_metrics(last), steps.documents(last), steps.path(last)

        found = {"list": (milliseconds(steps.all), LIST_WITHIN), "open one": (milliseconds(opened), OPEN_WITHIN)}
    rows = [
        [what, f"{taken:.1f}", f"{wanted:.0f}", "pass" if taken <= wanted else "FAIL"]
        for what, (taken, wanted) in found.items()
    ]
    emit(f"A workspace of {options.steps:,} steps", ("", "ms", "wanted", ""), rows, as_markdown=options.markdown)
    save_json(options.json, {what: taken for what, (taken, _) in found.items()})
    return int(any(taken > wanted for taken, wanted in found.values()))


if __name__ == "__main__":
    sys.exit(main())
