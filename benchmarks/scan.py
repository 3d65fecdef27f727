"""What a sensitivity scan saves: only what comes after the first changed node is run, on kept activations.

    python -m benchmarks.scan [--only PATTERN] [--markdown] [--json FILE]

Up to 20 groups of a net, evenly spread over it, at five ratios. *Scan* is ``onnxprune.sensitivity.scan`` with all that
belongs to it: the baseline, the choice of units, removal, the activations of the original, sessions, the metric. *One
by one*: the same candidates removed and evaluated as whole models (``remove``, then ``evaluate`` without curves). Both
take turns, candidate by candidate, so that other work on the machine meets both alike. The example nets have their
held-out data; the large nets have random weights, random images and random labels, and cross-entropy is compared.
Wanted: a scan of 20 groups takes at most 0.6 of the time.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatch
from pathlib import Path

import numpy as np

from benchmarks.tables import emit, save_json
from onnxprune.allocate import Budget, allocate
from onnxprune.criteria import UnitScores, score
from onnxprune.data import Dataset, open_dataset
from onnxprune.evaluate import evaluate
from onnxprune.experiment import analyse
from onnxprune.model import Model, from_proto, load
from onnxprune.sensitivity import scan
from onnxprune.sensitivity.run import in_order
from onnxprune.surgery import remove
from onnxprune.values import Coupling
from tests.nets import export

ROOT = Path(__file__).resolve().parents[1]
DIGITS = ROOT / "onnxprune" / "demo_data" / "digits.npz"
LARGE = {"resnet50": 32, "mobilenet_v2": 64}  # samples
EXAMPLES = ("residual", "vgg", "vit")
GROUPS, WANTED, METRIC = 20, 0.6, "loss"


@dataclass(frozen=True)
class Seconds:
    """Of the clock, and of all processors together."""

    wall: float
    processor: float

    @classmethod
    def now(cls) -> Seconds:
        return cls(time.perf_counter(), time.process_time())

    def since(self, start: Seconds) -> Seconds:
        return Seconds(self.wall - start.wall, self.processor - start.processor)

    def plus(self, other: Seconds) -> Seconds:
        return Seconds(self.wall + other.wall, self.processor + other.processor)


@dataclass(frozen=True)
class Outcome:
    """One net. ``difference``: the largest between both ways, relative to the loss."""

    net: str
    groups: int
    candidates: int
    samples: int
    scan: Seconds
    one_by_one: Seconds
    difference: float

    @property
    def share(self) -> float:
        return self.scan.wall / self.one_by_one.wall


class OneByOne:
    """Evaluates each candidate as a whole right after the scan has; what that takes is not the scan's time."""

    def __init__(self, model: Model, coupling: Coupling, scores: UnitScores, dataset: Dataset) -> None:
        self.model, self.coupling, self.scores, self.dataset = model, coupling, scores, dataset
        self.taken = Seconds(0.0, 0.0)
        self.values: dict[tuple[str, str], float] = {}

    def __call__(self, stage: str, *_: int) -> None:
        group, at, ratio = stage.rpartition(" at ")
        if not at:
            return
        start = Seconds.now()
        budget = Budget(group_ratios={group: float(ratio.rstrip("%")) / 100}, round_to=1)
        plan, _reached = allocate(self.coupling, self.scores, budget)
        small = remove(self.model, self.coupling, plan)
        self.values[group, ratio] = evaluate(small, self.dataset, curves="none").value(METRIC)
        self.taken = self.taken.plus(Seconds.now().since(start))


def measure(net: str) -> Outcome:
    """Both ways, in turns."""
    model, dataset = net_and_data(net)
    model, coupling = analyse(model)
    scores = score(model, coupling)
    names = [name for name in in_order(coupling) if coupling.groups[coupling.by_name[name]].units >= 10]
    chosen = [names[k] for k in np.unique(np.linspace(0, len(names) - 1, min(GROUPS, len(names))).astype(int))]
    evaluate(model, dataset, curves="none", limit=1)  # libraries are loaded now
    other = OneByOne(model, coupling, scores, dataset)
    start = Seconds.now()
    found = scan(model, coupling, scores, dataset, groups=chosen, metric=METRIC, progress=other)
    mine = Seconds.now().since(start).since(other.taken)
    worst = max(abs(row.value / other.values[row.group, f"{row.ratio:.0%}"] - 1) for row in found.rows)
    return Outcome(net, len(chosen), len(found.rows), len(dataset), mine, other.taken, worst)


def net_and_data(net: str) -> tuple[Model, Dataset]:
    """An example with its held-out data, or a large net with noise."""
    if net in EXAMPLES:
        return load(ROOT / "examples" / "nets" / f"{net}.onnx"), open_dataset(DIGITS, "test")
    model, rng = from_proto(export(net)), np.random.default_rng(0)
    name = model.proto.graph.input[0].name
    images = rng.standard_normal((LARGE[net], 3, 224, 224), np.float32)
    return model, Dataset({name: images}, rng.integers(0, 1000, LARGE[net]))


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; 1 where the scan of a net with enough groups takes too long, or says something else."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scan", description=__doc__.partition("\n")[0])
    parser.add_argument("--only", default="*", metavar="PATTERN", help="nets whose name fits")
    parser.add_argument("--markdown", action="store_true", help="print Markdown")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures")
    options = parser.parse_args(arguments)
    nets = [net for net in (*LARGE, *EXAMPLES) if fnmatch(net, options.only)]
    if not nets:
        parser.error(f"--only fits none of {', '.join((*LARGE, *EXAMPLES))}")
    outcomes = []
    for net in nets:
        outcomes.append(measure(net))
        print(outcomes[-1], file=sys.stderr, flush=True)
    rows = [
        [
            o.net, str(o.groups), str(o.candidates), str(o.samples), f"{o.scan.wall:.1f}", f"{o.one_by_one.wall:.1f}",
            f"{o.share:.2f}", f"{o.scan.processor / o.one_by_one.processor:.2f}", f"{o.difference:.0e}",
        ]
        for o in outcomes
    ]  # fmt: skip
    columns = (
        "net",
        "groups",
        "candidates",
        "samples",
        "scan s",
        "one by one s",
        "share",
        "of processor",
        "difference",
    )
    emit("A scan against evaluating its candidates one by one", columns, rows, as_markdown=options.markdown)
    counted = [o for o in outcomes if o.groups == GROUPS]
    passed = all(o.share <= WANTED for o in counted) and all(o.difference < 1e-3 for o in outcomes)
    print(f"wanted: a share of {WANTED} where there are {GROUPS} groups: {'pass' if passed else 'FAIL'}")
    save_json(options.json, [asdict(o) for o in outcomes])
    return int(not passed)


if __name__ == "__main__":
    sys.exit(main())
