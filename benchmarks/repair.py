"""Accuracy that comes back without training: the example nets with half of their units gone, before and after repair.

    python -m benchmarks.repair [--only PATTERN] [--markdown] [--json FILE]

Half of the units of every group go by their L2 norm, without rounding. Repairs are fitted on the training part's inputs
(1024 at most; the function takes no labels) and measured on the held-out part; "made up" has no data at all. Wanted,
over the nets that lost more than 5 points, of which there must be four: regained / lost >= 0.6 by least squares, each
repair in less than 10 s. A second table repairs 80% and 90% masked single weights (by l1) the same way. Seconds are
those of the slowest repair of a row, by the clock and of all processors together.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatch
from pathlib import Path

import numpy as np

from benchmarks.tables import emit, save_json
from onnxprune.allocate import Budget, allocate
from onnxprune.criteria import score, score_weights
from onnxprune.data import Dataset, open_dataset
from onnxprune.errors import NothingToPrune
from onnxprune.evaluate import evaluate
from onnxprune.experiment import analyse
from onnxprune.model import Model, load
from onnxprune.plan import Plan
from onnxprune.recover import recover
from onnxprune.surgery import mask, remove
from onnxprune.values import Coupling

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"
DIGITS, TABLE = ROOT / "onnxprune" / "demo_data" / "digits.npz", EXAMPLES / "nets" / "breast_cancer.npz"
NETS = ("digits_cnn", "keras_digits", *(f"nets/{n}" for n in ("residual", "vgg", "mlp", "lstm", "vit", "tabular_mlp")))
METHODS = ("bias", "batchnorm", "least-squares")
MADE_UP = "least-squares, made up"
LOST, WANTED, SECONDS, FEWEST = 0.05, 0.6, 10.0, 4
SPARSE = (0.8, 0.9)


@dataclass(frozen=True)
class Outcome:
    """One net: accuracies, and by method those of the repaired net, seconds, and seconds of all processors."""

    net: str
    what: str
    original: float
    pruned: float
    repaired: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    processor: dict[str, float] = field(default_factory=dict)

    @property
    def lost(self) -> float:
        return self.original - self.pruned

    def regained(self, method: str) -> float:
        return self.repaired[method] - self.pruned


def data_of(net: str) -> tuple[Dataset, Dataset]:
    """Training inputs without labels, and the held-out part."""
    source = TABLE if net.endswith("tabular_mlp") else DIGITS
    parts = [open_dataset(source, split) for split in ("train", "test")]
    if net == "keras_digits":  # Keras has channels last
        parts = [Dataset({"x": np.moveaxis(np.asarray(p.inputs["x"]), 1, -1)}, p.labels) for p in parts]
    return Dataset(parts[0].inputs), parts[1]


def accuracy(model: Model, dataset: Dataset) -> float:
    """On held-out data."""
    return evaluate(model, dataset, curves="none").value("accuracy")


def units(net: str) -> Outcome:
    """Half of the units."""
    model, coupling = analyse(load(EXAMPLES / f"{net}.onnx"))
    plan, _ = allocate(coupling, score(model, coupling, "l2"), Budget(ratio=0.5, round_to=1))
    return repaired(net, "50% of units", model, coupling, plan, remove(model, coupling, plan), (*METHODS, MADE_UP))


def weights(net: str) -> Iterator[Outcome]:
    """Single weights."""
    model, coupling = analyse(load(EXAMPLES / f"{net}.onnx"))
    for ratio in SPARSE:
        plan, _ = allocate(coupling, score_weights(model, coupling, "l1"), Budget(ratio=ratio))
        what = f"{ratio:.0%} of weights"
        yield repaired(net, what, model, coupling, plan, mask(model, coupling, plan), METHODS[-1:])


def repaired(
    net: str, what: str, model: Model, coupling: Coupling, plan: Plan, pruned: Model, methods: Sequence[str]
) -> Outcome:
    """One pruned model, repaired in every way that it can be."""
    fitted, held_out = data_of(net)
    found = Outcome(net.rpartition("/")[2], what, accuracy(model, held_out), accuracy(pruned, held_out))
    for method in methods:
        data = None if method == MADE_UP else fitted
        start = time.process_time()
        try:
            result = recover(model, coupling, plan, pruned, data, method=method.partition(",")[0])
        except NothingToPrune:  # no BatchNormalization
            continue
        found.processor[method] = time.process_time() - start
        found.seconds[method] = result.seconds
        found.repaired[method] = accuracy(result.model, held_out)
    return found


def share(outcomes: Sequence[Outcome], method: str) -> tuple[float, int]:
    """Regained / lost, summed over the nets that lost enough, and how many those are."""
    counted = [o for o in outcomes if o.lost > LOST and method in o.repaired]
    return sum(o.regained(method) for o in counted) / max(sum(o.lost for o in counted), 1e-9), len(counted)


def rows(outcomes: Sequence[Outcome], methods: Sequence[str]) -> list[list[str]]:
    """Percentages of accuracy."""
    return [
        [
            o.net, o.what, f"{o.original:.1%}", f"{o.pruned:.1%}",
            *(f"{o.repaired[m]:.1%}" if m in o.repaired else "-" for m in methods),
            f"{max(o.seconds.values()):.1f}", f"{max(o.processor.values()):.1f}",
        ]
        for o in outcomes
    ]  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables; 1 where too little comes back, or too slowly."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.repair", description=__doc__.partition("\n")[0])
    parser.add_argument("--only", default="*", metavar="PATTERN", help="nets whose name fits")
    parser.add_argument("--markdown", action="store_true", help="print Markdown")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures")
    options = parser.parse_args(arguments)
    nets = [net for net in NETS if fnmatch(net.rpartition("/")[2], options.only)]
    if not nets:
        parser.error(f"--only fits none of {', '.join(NETS)}")
    removed = [units(net) for net in nets]
    masked = [outcome for net in nets for outcome in weights(net)]
    for title, outcomes, methods in (
        ("Half of the units removed by L2, then repaired: accuracy on held-out data", removed, (*METHODS, MADE_UP)),
        ("Single weights masked by magnitude, then repaired", masked, METHODS[-1:]),
    ):
        columns = ("net", "gone", "original", "pruned", *methods, "seconds", "of processor")
        emit(title, columns, rows(outcomes, methods), as_markdown=options.markdown)
    passed = True
    for method in (*METHODS, MADE_UP):
        found, count = share(removed, method)
        print(f"{method}: regained / lost = {found:.2f} over {count} nets that lost more than {LOST:.0%}")
        if method == METHODS[-1]:
            slow = [o.net for o in removed if max(o.seconds.values()) > SECONDS]
            passed = found >= WANTED and count >= FEWEST and not slow
            print(f"  wanted: {WANTED} over at least {FEWEST}, each in {SECONDS:.0f} s: {'pass' if passed else 'FAIL'}")
    save_json(options.json, {"removed": [asdict(o) for o in removed], "masked": [asdict(o) for o in masked]})
    return int(not passed)


if __name__ == "__main__":
    sys.exit(main())
