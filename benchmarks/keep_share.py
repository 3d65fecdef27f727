"""Shares of parameters that standard nets keep at a 50% unit ratio, against what was set as a target.

    python -m benchmarks.keep_share [--only PATTERN] [--no-verify] [--markdown] [--json FILE]

Local scope, L2 magnitude, no rounding. In the encoders the embedding width must stay as it is: no LayerNormalization
may change its size. (The file is not called ``numbers``: run by path, that would hide Python's own module.)
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatch
from pathlib import Path

from benchmarks.tables import emit, percent, save_json
from onnxprune.allocate import Budget, allocate
from onnxprune.cost import cost
from onnxprune.coupling import couple
from onnxprune.criteria import score
from onnxprune.model import Model, from_proto
from onnxprune.proof import prove
from onnxprune.surgery import remove
from tests.nets import NETS, export

TARGETS = {
    "resnet18": 0.30, "resnet50": 0.30, "densenet121": 0.30, "googlenet": 0.30, "vgg19": 0.30, "mobilenet_v2": 0.36,
    "shufflenet_v1_g3": 0.55, "shufflenet_v2_x1": 0.55, "vit_tiny": 0.68, "bert_small": 0.68, "bert_base": 0.68,
}  # fmt: skip
COLUMNS = ("net", "exporter", "parameters", "kept", "target", "MACs kept", "widths kept", "proof error", "result")
TOLERANCE = 1e-5


@dataclass(frozen=True)
class Outcome:
    """One net: shares kept, beside the target; ``widths``: every LayerNormalization kept its size."""

    net: str
    exporter: str
    parameters: int
    kept: float
    target: float
    macs: float
    widths: bool
    error: float | None
    vacuous: bool

    @property
    def passed(self) -> bool:
        proven = self.error is None or (self.error <= TOLERANCE and not self.vacuous)
        return self.kept <= self.target and self.widths and proven


def measure(net: str, exporter: str, *, verify: bool) -> Outcome:
    """Prune one net and compare with its target."""
    model = from_proto(export(net, exporter))
    coupling = couple(model)
    plan, _ = allocate(coupling, score(model, coupling, "l2"), Budget(ratio=0.5, round_to=1))
    removed = remove(model, coupling, plan)
    before, after = cost(model, count_nonzero=False), cost(removed, count_nonzero=False)
    proof = prove(model, coupling, plan, removed) if verify else None
    return Outcome(
        net=net,
        exporter=exporter,
        parameters=before.parameters,
        kept=after.parameters / before.parameters,
        target=TARGETS[net],
        macs=after.macs / before.macs,
        widths=_widths(model) == _widths(removed),
        error=proof.error if proof else None,
        vacuous=proof.vacuous if proof else False,
    )


def _widths(model: Model) -> list[tuple[int, ...]]:
    """Shapes of the scales of all LayerNormalization nodes."""
    nodes = [n for n in model.proto.graph.node if n.op_type == "LayerNormalization"]
    return [model.weights[n.input[1]].shape for n in nodes if n.input[1] in model.weights]


def _cells(outcome: Outcome) -> list[str]:
    return [
        outcome.net,
        outcome.exporter,
        f"{outcome.parameters:,}",
        percent(outcome.kept),
        f"<= {percent(outcome.target)}",
        percent(outcome.macs),
        "yes" if outcome.widths else "no",
        "-" if outcome.error is None else f"{outcome.error:.0e}{' vacuous' if outcome.vacuous else ''}",
        "pass" if outcome.passed else "FAIL",
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; 1 if a target is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.keep_share", description=__doc__.partition("\n")[0])
    parser.add_argument("--only", default="*", metavar="PATTERN", help="nets whose name fits")
    parser.add_argument("--no-verify", action="store_true", help="leave out the proof")
    parser.add_argument("--markdown", action="store_true", help="print Markdown")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures")
    options = parser.parse_args(arguments)
    outcomes = []
    for net in TARGETS:
        if fnmatch(net, options.only):
            for exporter in NETS[net].exporters:
                outcomes.append(measure(net, exporter, verify=not options.no_verify))
                print(" ".join(_cells(outcomes[-1])), file=sys.stderr, flush=True)
    emit("Parameters kept at a 50% ratio", COLUMNS, [_cells(o) for o in outcomes], as_markdown=options.markdown)
    save_json(options.json, [asdict(o) | {"passed": o.passed} for o in outcomes])
    return int(not all(o.passed for o in outcomes))


if __name__ == "__main__":
    sys.exit(main())
