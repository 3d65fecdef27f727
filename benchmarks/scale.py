"""What independent tasks cost: seconds of one processor, and bytes that travel; the table of docs/scale.md.

    python -m benchmarks.scale [--only PATTERN] [--markdown] [--json FILE]

Each kind of task that `onnxprune.spread` hands to workers is done here with one thread, on a few samples, and scaled to
the samples that the table names. Bytes are those of the pickled task (with its samples, as for workers that do not see
this machine's files), of the pickled result, and of the model, which goes to a worker once. The digits CNN has its
own data; the larger nets have random weights and random inputs. Seconds are those of the processor, so that other work
on the machine lengthens them by little.
"""

from __future__ import annotations

import argparse
import pickle
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.tables import emit, save_json
from onnxprune.allocate import Budget, allocate
from onnxprune.criteria import score
from onnxprune.data import Dataset, fit, open_dataset
from onnxprune.errors import OnnxPruneError
from onnxprune.evaluate import evaluate
from onnxprune.evaluate.layout import Asked
from onnxprune.evaluate.shards import Check, length, measure, shards
from onnxprune.experiment import analyse
from onnxprune.instability.run import Desk as Runs
from onnxprune.instability.run import Training
from onnxprune.instability.run import Work as RunWork
from onnxprune.model import Model, from_proto, load
from onnxprune.runtime import model_inputs
from onnxprune.runtime.cache import clear_sessions
from onnxprune.sensitivity.desk import Desk, Job, Portion, Work
from onnxprune.sensitivity.run import in_order
from onnxprune.spread.parcel import portable_model
from onnxprune.surgery import remove
from onnxprune.train import train
from onnxprune.values import Coupling
from tests.nets import NETS, export

ROOT = Path(__file__).resolve().parents[1]
DEMO = ROOT / "onnxprune" / "demo_data"
SIZE = 64  # samples in a batch of an evaluation
EPOCHS = 3
SCANNED, TRAINED = 1024, 4096  # samples of a scan and of a plan, and of an epoch


@dataclass(frozen=True)
class Net:
    """A model, data to measure with, and how many of them a step of training takes."""

    name: str
    model: Model
    data: Dataset
    batch: int


@dataclass(frozen=True)
class Cost:
    """One kind of task for one net.

    ``seconds``: of a processor, for a task with so many ``samples``. Bytes: ``sent`` with each task, its ``result``,
    and what goes ``once`` to each worker.
    """

    net: str
    task: str
    samples: int
    seconds: float
    sent: int
    result: int
    once: int


def nets(pattern: str) -> Iterator[Net]:
    """Those whose name fits."""
    if fnmatch("digits", pattern):
        yield Net("digits", load(DEMO / "digits_cnn.onnx"), open_dataset(DEMO / "digits.npz", "test"), 64)
    for name, count, batch in (("resnet18", 8, 4), ("bert_small", 256, 32)):
        if fnmatch(name, pattern):
            model = from_proto(export(name))
            yield Net(name, model, _noise(name, model, count), batch)


def _noise(name: str, model: Model, count: int) -> Dataset:
    """Random inputs, and random classes as labels."""
    rng = np.random.default_rng(0)
    columns = {spec.name: spec.sample({"batch": count}, rng) for spec in NETS[name].inputs}
    found = evaluate(model, Dataset(columns), original=model, curves="none")
    classes = 2 if found.predictions is None else int(found.predictions.max()) + 1
    return Dataset(columns, rng.integers(0, classes, count))


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    """Of the processor, and what came of it."""
    start = time.process_time()
    found = work()
    return time.process_time() - start, found


def line(make: Callable[[Dataset], Callable[[], Any]], data: Dataset) -> tuple[float, Any]:
    """Seconds for SCANNED samples, on the line through those for half of the data and for all; and what came of it."""
    count = len(data)
    few, all_ = make(data.select(np.arange(count // 2))), make(data)
    clear_sessions()
    less, _ = seconds(few)
    clear_sessions()
    more, found = seconds(all_)
    slope = max(0.0, more - less) / (count - count // 2)
    return max(0.0, more - slope * count) + slope * SCANNED, found


def size(value: object) -> int:
    """Bytes on the way."""
    return len(pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL))


def costs(net: Net) -> Iterator[Cost]:
    """One for each kind of task."""
    model, coupling = analyse(net.model)
    data = fit(net.data, model_inputs(model))
    weight = size(portable_model(model))
    scores = score(model, coupling)
    half, _ = allocate(coupling, scores, Budget(ratio=0.5, round_to=1))
    samples = size({name: np.asarray(rows[:1]) for name, rows in data.inputs.items()})

    check = Check(model, None, Asked(), len(data), (), net.name, SIZE, "cpu", 1, dataset=data)
    (shard, *_) = shards(data, min(len(data), 512), SIZE, whole=True)
    measure(check, shard)  # makes the session
    spent, found = seconds(lambda: measure(check, shard))
    count = shard.stop - shard.start
    times = _shard_length(data) / count
    yield Cost(
        net.name, "evaluation shard", _shard_length(data), spent * times, int(size(shard) * times),
        int(size(found) * times), weight,
    )  # fmt: skip

    baseline = evaluate(model, data, curves="none", threads=1, provider="cpu").metric("accuracy")
    names = in_order(coupling)
    name = names[len(names) // 2]
    plan, _ = allocate(coupling, scores, Budget(group_ratios={name: 0.5}, round_to=1))
    portion = Portion(0, (Job(name, 0.5, plan),))

    def candidate(part: Dataset) -> Callable[[], Any]:
        desk = Desk(Work(model, coupling.options, part, baseline, size=SIZE, provider="cpu", threads=1), coupling)
        return lambda: list(desk.measure(portion))

    def planned(part: Dataset) -> Callable[[], Any]:
        return lambda: evaluate(remove(model, coupling, half), part, threads=1, provider="cpu")

    once = weight + SCANNED * samples
    spent, rows = line(candidate, data)
    yield Cost(net.name, "scan candidate", SCANNED, spent, size(portion), size(rows), once)
    spent, found = line(planned, data)
    yield Cost(net.name, "speculative plan", SCANNED, spent, size(half), size(found.metrics), once)
    yield from _trained(net, model, coupling, data, weight + TRAINED * samples)


def _trained(net: Net, model: Model, coupling: Coupling, data: Dataset, once: int) -> Iterator[Cost]:
    """An epoch of an instability run, and one of fine-tuning; steps beyond the first, which makes sessions ready."""
    try:
        steps = 2
        how = Training(batch=net.batch, steps=steps)
        desk = Runs(RunWork(model, coupling.options, data, how, provider="cpu", threads=1), coupling)
        desk.run(0)
        spent, found = seconds(lambda: desk.run(1))
        epoch = spent / (steps * net.batch) * TRAINED
        yield Cost(net.name, "instability run", TRAINED, epoch, size(1), size(found), once)
        stamps: list[float] = []
        train(
            model, data, validation=data, epochs=EPOCHS, batch=net.batch, provider="cpu", threads=1,
            progress=lambda *_: stamps.append(time.process_time()),
        )  # fmt: skip
        epoch = (stamps[-1] - stamps[0]) / (EPOCHS * len(data)) * TRAINED
        yield Cost(net.name, "seed, one epoch", TRAINED, epoch, size(1), size(portable_model(model)), once)
    except OnnxPruneError as error:
        print(f"{net.name}: {error}", file=sys.stderr)


def _shard_length(data: Dataset) -> int:
    """Samples in a shard of a large dataset of this kind."""
    return length(data, SIZE)


def _bytes(count: float) -> str:
    for unit in ("B", "KB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            break
        count /= 1000
    return f"{count:.3g} {unit}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__.partition("\n")[0])
    parser.add_argument("--only", default="*", metavar="PATTERN", help="nets whose name fits")
    parser.add_argument("--markdown", action="store_true", help="print Markdown")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures")
    options = parser.parse_args(arguments)
    found = []
    for net in nets(options.only):
        for cost in costs(net):
            found.append(cost)
            print(cost, file=sys.stderr, flush=True)
    if not found:
        parser.error(f"--only {options.only} fits no net")
    rows = [
        [c.net, c.task, str(c.samples), f"{c.seconds:.3g}", _bytes(c.sent), _bytes(c.result), _bytes(c.once)]
        for c in found
    ]
    columns = ("net", "task", "samples", "CPU seconds", "sent with the task", "result", "once per worker")
    emit("What a task costs", columns, rows, as_markdown=options.markdown)
    save_json(options.json, [asdict(cost) for cost in found])
    return 0


if __name__ == "__main__":
    sys.exit(main())
