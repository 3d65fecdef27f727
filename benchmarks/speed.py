"""Measured latency after pruning: aligned channels, MACs that turn into time, and budgets in milliseconds.

    python -m benchmarks.speed [--only PART] [--rounds N] [--threads N] [--markdown] [--json FILE]

- *alignment*: MobileNetV2 at half the MACs, channels rounded to this machine's step (`alignment.default_step`), to 16,
  and not rounded. Wanted: with the step of this machine at least 1.7 times as fast as dense.
- *ratios*: ResNet-18 with 30% to 60% of the units of every group removed, rounded to this machine's step. Wanted: the
  speed-up is at least 0.8 of the ratio of MACs.
- *budgets*: 0.7 and 0.5 of the latency asked for (``target_latency``), of both and of the trained residual example.
  Wanted: what comes out is within 10% of what was asked.

L2 magnitude; a batch of 1 at 224 x 224; weights of the large nets are random, which latency does not depend on. The
example takes 8 x 8 pixels, 64 at a time, as a single one takes 0.04 ms, most of which no pruning can save; its groups,
of 16 to 48 channels, are too narrow for steps of 16, and are rounded to 4. onnxruntime runs on the CPU with as many
threads as it chooses.

Each comparison starts new sessions and lets the models take turns of 20 ms for a second each
(`runtime.compare_latency`); a speed-up is the ratio of the medians, of which the median over the rounds counts.
"rounds" are the lowest and the highest. What was measured while a budget was being met is not used, nor any step or
table of latencies that earlier runs have left behind. Other work on the machine makes figures better or worse, most of
all those of models that take long; the load is printed.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from benchmarks.tables import emit, percent, save_json
from onnxprune.alignment import default_step
from onnxprune.bench import feeds_of
from onnxprune.cost import cost
from onnxprune.errors import BudgetError
from onnxprune.experiment import prune
from onnxprune.model import Model, from_proto, load
from onnxprune.runtime import compare_latency, model_inputs
from tests.nets import export

PARTS = ("alignment", "ratios", "budgets")
EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "nets" / "residual.onnx"
SPEED_UP, OF_MACS, WITHIN = 1.7, 0.8, 0.1
RATIOS, BUDGETS = (0.3, 0.4, 0.5, 0.6), (0.7, 0.5)
SMALL = (64, 4)  # batch and step of the example
SECONDS = 1.0  # of each model in each round
COLUMNS: Mapping[str, tuple[str, ...]] = {
    "alignment": ("MobileNetV2", "MACs kept", "dense ms", "ms", "speed-up", "rounds", "wanted", ""),
    "ratios": (
        "ResNet-18", "MACs kept", "dense ms", "ms", "speed-up", "rounds", "of the MACs ratio", "wanted", "",
    ),
    "budgets": ("net", "asked", "MACs kept", "dense ms", "ms", "reached", "rounds", "off by", "wanted", ""),
}  # fmt: skip
TITLES = {
    "alignment": "MobileNetV2 at half the MACs",
    "ratios": "ResNet-18, a share of the units of every group removed",
    "budgets": "Latency budgets",
}


@dataclass(frozen=True)
class Timed:
    """A pruned model against the dense one: medians of each round in milliseconds, and the share of MACs kept.

    There are no times where a budget is out of reach.
    """

    part: str
    name: str
    macs: float
    dense: tuple[float, ...]
    pruned: tuple[float, ...]
    asked: float | None = None
    note: str = ""

    @property
    def speed_ups(self) -> list[float]:
        return sorted(d / p for d, p in zip(self.dense, self.pruned, strict=True))

    @property
    def speed_up(self) -> float:
        """0 where there are no times."""
        return median(self.speed_ups) if self.dense else 0.0

    @property
    def of_macs(self) -> float:
        """The speed-up over the ratio of MACs."""
        return self.speed_up * self.macs

    @property
    def off(self) -> float:
        """By how much what was reached is larger than what was asked."""
        return 1 / self.speed_up / (self.asked or 1) - 1

    @property
    def wanted(self) -> str:
        """The limit in words; "" where nothing is wanted."""
        if self.part == "ratios":
            return f">= {OF_MACS}"
        if self.part == "budgets":
            return f"within {100 * WITHIN:.0f}%"
        return f">= {SPEED_UP}" if self.note else ""

    @property
    def passed(self) -> bool:
        if self.part == "budgets":
            return bool(self.dense) and abs(self.off) <= WITHIN
        if self.part == "ratios":
            return self.of_macs >= OF_MACS
        return not self.wanted or self.speed_up >= SPEED_UP


class Clock:
    """Times models against each other. ``nets``: the dense ones."""

    def __init__(self, rounds: int, threads: int | None) -> None:
        self.rounds, self.threads = rounds, threads
        self.nets = {
            "MobileNetV2": from_proto(export("mobilenet_v2")),
            "ResNet-18": from_proto(export("resnet18")),
            "residual example": load(EXAMPLE),
        }

    def against(self, dense: Model, pruned: Sequence[Model], batch: int = 1) -> list[tuple[float, ...]]:
        """Milliseconds in every round: of the dense model, then of each of the others."""
        models, feeds = [dense, *pruned], feeds_of(dense, batch)
        found = [
            compare_latency(models, feeds, seconds=SECONDS, threads=self.threads, provider="cpu")
            for _ in range(self.rounds)
        ]
        return [tuple(round_[number].median_ms for round_ in found) for number in range(len(models))]


def alignment(clock: Clock) -> Iterator[Timed]:
    """MobileNetV2 at half the MACs, in several steps."""
    dense = clock.nets["MobileNetV2"]
    made: dict[int, Model] = {}
    for asked in (None, 16, 1):  # None, this machine's own, comes first
        found = prune(dense, target_macs=0.5, round_to=asked, verify=False, threads=clock.threads)
        made.setdefault(found.reached.round_to, found.model)
    before, *after = clock.against(dense, list(made.values()))
    for number, ((step, model), times) in enumerate(zip(made.items(), after, strict=True)):
        name = "not rounded" if step == 1 else f"rounded to {step}"
        yield Timed("alignment", name, _kept(dense, model), before, times, note="" if number else "this machine's")


def ratios(clock: Clock) -> Iterator[Timed]:
    """ResNet-18 at several ratios."""
    dense = clock.nets["ResNet-18"]
    made = [prune(dense, ratio=ratio, verify=False, threads=clock.threads).model for ratio in RATIOS]
    before, *after = clock.against(dense, made)
    for ratio, model, times in zip(RATIOS, made, after, strict=True):
        yield Timed("ratios", f"ratio {ratio}", _kept(dense, model), before, times)


def budgets(clock: Clock) -> Iterator[Timed]:
    """Latency budgets, each measured anew when it is met."""
    for name, dense in clock.nets.items():
        batch, step = SMALL if name == "residual example" else (1, None)
        shapes = {info.name: (batch, *map(int, info.shape[1:])) for info in model_inputs(dense)}
        for asked in BUDGETS:
            try:
                found = prune(
                    dense, target_latency=asked, round_to=step, shapes=shapes, verify=False, provider="cpu",
                    threads=clock.threads,
                )  # fmt: skip
            except BudgetError as error:
                yield Timed("budgets", name, 1.0, (), (), asked, error.message)
                continue
            before, after = clock.against(dense, [found.model], batch)
            claimed = next(t for t in found.reached.targets if t.name == "target_latency")
            note = f"{claimed.how} while choosing: {percent(claimed.share)}"
            yield Timed("budgets", name, _kept(dense, found.model), before, after, asked, note)


@contextmanager
def nothing_remembered() -> Iterator[None]:
    """Channel steps and latencies of layers are measured anew, and forgotten afterwards."""
    before = os.environ.get("ONNXPRUNE_CACHE")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["ONNXPRUNE_CACHE"] = folder
        try:
            yield
        finally:
            del os.environ["ONNXPRUNE_CACHE"]
            if before is not None:
                os.environ["ONNXPRUNE_CACHE"] = before


def _kept(dense: Model, pruned: Model) -> float:
    before, after = (cost(model, count_nonzero=False).macs for model in (dense, pruned))
    return after / before


def cells(timed: Timed) -> list[str]:
    """A row of the part's table."""
    result = "" if not timed.wanted else "pass" if timed.passed else "FAIL"
    note = "; ".join(word for word in (result, timed.note) if word)
    if not timed.dense:
        return [timed.name, percent(timed.asked), *["-"] * 6, timed.wanted, note]
    spread = f"{timed.speed_ups[0]:.2f} - {timed.speed_ups[-1]:.2f}"
    times = [percent(timed.macs), f"{median(timed.dense):.2f}", f"{median(timed.pruned):.2f}"]
    if timed.part == "budgets":
        shares = sorted(1 / s for s in timed.speed_ups)
        spread = f"{100 * shares[0]:.0f} - {100 * shares[-1]:.0f}%"
        reached = [percent(1 / timed.speed_up), spread, f"{100 * timed.off:+.0f}%"]
        return [timed.name, percent(timed.asked), *times, *reached, timed.wanted, note]
    figure = [f"{timed.of_macs:.2f}"] if timed.part == "ratios" else []
    return [timed.name, *times, f"{timed.speed_up:.2f}", spread, *figure, timed.wanted, note]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table for each part; 1 if a wanted figure is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=__doc__.partition("\n")[0])
    parser.add_argument("--only", choices=PARTS, help="this part only")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="comparisons of each, 5 by default")
    parser.add_argument("--threads", type=int, metavar="N", help="by default onnxruntime's choice")
    parser.add_argument("--markdown", action="store_true", help="print Markdown")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures")
    options = parser.parse_args(arguments)
    if options.rounds < 1:
        parser.error("--rounds: at least 1")
    clock = Clock(options.rounds, options.threads)
    found: list[Timed] = []
    loads = [os.getloadavg()[0]]
    with nothing_remembered():
        for part, measured in zip(PARTS, (alignment, ratios, budgets), strict=True):
            for timed in measured(clock) if options.only in (None, part) else ():
                found.append(timed)
                loads.append(os.getloadavg()[0])
                print(*cells(timed), file=sys.stderr, flush=True)
        step = default_step(options.threads, "cpu")
    for part in dict.fromkeys(timed.part for timed in found):
        rows = [cells(timed) for timed in found if timed.part == part]
        emit(TITLES[part], COLUMNS[part], rows, as_markdown=options.markdown)
    print(
        f"Channel step of this machine: {step}. Load: {min(loads):.1f} to {max(loads):.1f} on {os.cpu_count()} cores."
    )
    records = [asdict(t) | {"speed_up": t.speed_up, "of_macs": t.of_macs, "passed": t.passed} for t in found]
    save_json(options.json, records)
    return int(not all(t.passed for t in found))


if __name__ == "__main__":
    sys.exit(main())
