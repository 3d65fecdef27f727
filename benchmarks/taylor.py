"""What sensitivity costs: contributions of all units in one graph, against a forward pass of the same onnxruntime.

    python -m benchmarks.taylor [--only PATTERN] [--rounds 9] [--threads 1] [--markdown] [--json FILE]

Both run the same batch with weights as constants and full optimisation, and take turns, round by round. *Sensitivity*
is the graph of criterion `sensitivity` for all groups: forward, loss, gradients of activations, products and sums; no
gradients of weights. *With weights* puts out the gradients of all weights as well, as `instability` does, with weights
as inputs. The figures are ratios of CPU time in the median round. Wanted: at most 2.5 forward passes for ResNet-18.
"""

from __future__ import annotations

import argparse
import io
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatch
from pathlib import Path
from statistics import median

import onnx
import torch
from torch import nn

from benchmarks.tables import emit, save_json
from benchmarks.training_nets import NETS
from onnxprune.autodiff import build
from onnxprune.criteria import Settings
from onnxprune.criteria.gradient_runs import of_units, trainable, write_units
from onnxprune.criteria.gradient_sensitivity import absolute
from onnxprune.data import Dataset, batches
from onnxprune.experiment import analyse
from onnxprune.model import Model, from_proto
from onnxprune.runtime import session
from onnxprune.values import Coupling

WANTED = {"ResNet-18": 2.5}
CHOSEN = ("ResNet-18", "4-layer CNN", "transformer", "MobileNetV2")
Call = Callable[[], object]


@dataclass(frozen=True)
class Outcome:
    """One net. Milliseconds of CPU time in each round: forward, sensitivity, sensitivity with gradients of weights."""

    net: str
    batch: int
    groups: int
    units: int
    forward: tuple[float, ...]
    sensitivity: tuple[float, ...]
    weights: tuple[float, ...]

    def ratio(self, which: str) -> float:
        """To the forward pass, in the median round."""
        return median(b / a for a, b in zip(self.forward, getattr(self, which), strict=True))

    @property
    def passed(self) -> bool:
        return self.net not in WANTED or self.ratio("sensitivity") <= WANTED[self.net]


def exported(net: str) -> Model:
    """The net with random weights and BatchNorm statistics, for inference; BatchNorm kept."""
    torch.manual_seed(0)
    module = NETS[net].make().eval()
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d) and part.running_mean is not None and part.running_var is not None:
            part.running_mean.normal_(0, 0.1)
            part.running_var.uniform_(0.8, 1.2)
    x, file = torch.from_numpy(NETS[net].batch()[0]), io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module, (x,), file, dynamo=False, opset_version=18, input_names=["x"], output_names=["y"],
            dynamic_axes={"x": {0: "n"}, "y": {0: "n"}}, do_constant_folding=False,
            training=torch.onnx.TrainingMode.PRESERVE,
        )  # fmt: skip
    return from_proto(onnx.load_from_string(file.getvalue()))


def measure(net: str, rounds: int, threads: int) -> Outcome:
    """All three, in turns."""
    model, coupling = analyse(exported(net))
    x, y = NETS[net].batch()
    settings = Settings(data=Dataset({"x": x}, y), batch=len(x), threads=threads, provider="cpu")
    calls = _calls(model, coupling, settings)
    taken: list[list[float]] = [[] for _ in calls]
    for _ in range(rounds):
        for call, mine in zip(calls, taken, strict=True):
            start = time.process_time()
            call()
            mine.append(1000 * (time.process_time() - start))
    forward, sensitivity, weights = (tuple(mine) for mine in taken)
    return Outcome(net, len(x), len(coupling.groups), coupling.units, forward, sensitivity, weights)


def _calls(model: Model, coupling: Coupling, settings: Settings) -> tuple[Call, Call, Call]:
    ran = of_units(model, coupling, settings, absolute)
    batch = next(batches(ran.data, settings.batch))
    feeds = {**batch.feeds, **ran.goal.feeds(batch)}
    both = write_units(model, coupling, ran.goal, trainable(coupling))
    outputs = [*(absolute(both.tape, value) for value in both.values.values()), *both.weights.values()]
    trained = build(both.tape, outputs, parameters=list(both.weights))
    start = {name: both.tape.graph.weights[name].array() for name in both.weights}

    def call(made: Model) -> Call:
        run = session(made, threads=settings.threads, provider="cpu", cache=False)
        return run.call({info.name: {**feeds, **start}[info.name] for info in run.inputs})

    return call(model), call(ran.model), call(trained)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; 1 where sensitivity takes too long."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.taylor", description=__doc__.partition("\n")[0])
    parser.add_argument("--only", default="*", metavar="PATTERN", help="nets whose name fits")
    parser.add_argument("--rounds", type=int, default=9, metavar="N", help="rounds of all three")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="threads of a run")
    parser.add_argument("--markdown", action="store_true", help="print Markdown")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures")
    options = parser.parse_args(arguments)
    nets = [net for net in CHOSEN if fnmatch(net, options.only)]
    if not nets:
        parser.error(f"--only fits none of {', '.join(CHOSEN)}")
    outcomes = [measure(net, options.rounds, options.threads) for net in nets]
    rows = [
        [
            o.net, str(o.batch), str(o.groups), str(o.units), f"{median(o.forward):.1f}",
            f"{median(o.sensitivity):.1f}", f"{o.ratio('sensitivity'):.2f}", f"{o.ratio('weights'):.2f}",
        ]
        for o in outcomes
    ]  # fmt: skip
    columns = ("net", "batch", "groups", "units", "forward ms", "sensitivity ms", "ratio", "with weights")
    emit("Sensitivity of all units against a forward pass", columns, rows, as_markdown=options.markdown)
    passed = all(o.passed for o in outcomes)
    told = ", ".join(f"{net} at most {ratio}" for net, ratio in WANTED.items())
    print(f"wanted: {told}: {'pass' if passed else 'FAIL'}")
    save_json(options.json, [asdict(o) for o in outcomes])
    return int(not passed)


if __name__ == "__main__":
    sys.exit(main())
