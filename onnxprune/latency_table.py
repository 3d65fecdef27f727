"""Latency as a table: milliseconds of every layer at every size that a removal may give it, measured on this machine.

Most of the time of a run goes into the nodes that multiply (those with MACs). Each of them is timed as a model of one
node, at exactly the sizes that are asked about, so that the staircase of the kernels is in the table. A removal r then
takes about::

    ms(r) = whole (m  sum over nodes t(sizes after r) / sum over nodes t(sizes before)  +  n a(r)  +  1 - m - n)

``whole``: milliseconds of the model as it is. ``m``: the share of its time that goes into such nodes, by onnxruntime's
profile. ``a(r)``: the share of the numbers in its activations that is left, which is what the other nodes work on;
``n``: their share of the time, less what each of them takes however little it has to do. A node that cannot be run
alone (inside control flow, or with attributes that a cut changes in ways not known here) is taken to follow its MACs,
at the speed of the others.

Times are kept in a file per user, by machine, onnxruntime version, devices and threads, beside the channel step (see
`alignment`). They are estimates to allocate by; ``measurer`` times whole models, which is what counts in the end.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune._atomic import replacing
from onnxprune.alignment import cache_file, machine
from onnxprune.cost import CostModel, example_graph
from onnxprune.errors import OnnxPruneError, OptionError
from onnxprune.model import Model
from onnxprune.nodes import Node
from onnxprune.ops import rule_for
from onnxprune.plan import Plan
from onnxprune.runtime import compare_latency, device_of, measure_latency, session
from onnxprune.samples import generate
from onnxprune.single import one_node
from onnxprune.surgery import remove
from onnxprune.values import Coupling, Ints

__all__ = ["LatencyTable", "known_rates", "latency_table", "measurer"]

Array = NDArray[Any]
Shapes = Mapping[str, tuple[int, ...]]
Progress = Callable[[str, int, int], None]

LAYOUT = frozenset(("ReorderInput", "ReorderOutput"))  # around a single node only, not around each in a model
WARMUP = 3  # runs
NODE, WHOLE = (12, 40.0), (40, 500.0)  # runs, fewer where they take more milliseconds; of one node, of a model
SECONDS = 0.5  # of timing each whole model
CALM, APART = 1.5, 0.1  # what tells that other processes disturb a measurement, see `measurer`
QUARTILE = 25  # of those runs is taken: other processes make a run longer, never shorter


class LatencyTable:
    """Estimated milliseconds of a model without given units: call it with group name -> unit numbers.

    ``whole``: milliseconds of the model as it is, measured. ``rates``: number of a node -> its milliseconds per MAC.
    Made by ``latency_table``.
    """

    def __init__(
        self,
        coupling: Coupling,
        model: CostModel,
        whole: float,
        shares: tuple[float, float],
        threads: int | None,
        device: str,
        progress: Progress | None = None,
    ) -> None:
        self.coupling, self.model, self.whole = coupling, model, whole
        self.multiplying, self.moving = shares
        self.threads, self.device, self.progress = threads, device, progress
        self._store = _Store(f"{machine(threads)} {device}")
        self._known: dict[tuple[Any, ...], float | None] = {}
        self._speed = 0.0  # milliseconds per MAC, for nodes that cannot be timed
        self._full = self._layers(model.table.dims)
        self._activations = self._elements(model.table.dims)

    def __call__(self, units: Mapping[str, Ints]) -> float:
        gone = np.zeros(int(self.model.starts[-1]), np.bool_)
        for name, removed in units.items():
            gone[self.model.starts[self.coupling.by_name[name]] + np.asarray(removed, np.int64)] = True
        return self._at(self.model.table.dims - self.model.matrix @ gone.astype(np.int64))

    @property
    def rates(self) -> dict[int, float]:
        """Number of a node -> milliseconds per MAC, at the sizes of the whole model."""
        table = self.model.table
        scale = self.whole * self.multiplying / max(float(self._full.sum()), 1e-12)
        return {
            node.number: scale * float(ms) / macs
            for node, ms, macs in zip(table.counted, self._full, table.macs, strict=True)
            if macs
        }

    @property
    def macs(self) -> dict[int, int]:
        """Number of a node -> its MACs, in the whole model."""
        return {node.number: macs for node, macs in zip(self.model.table.counted, self.model.table.macs, strict=True)}

    def of_group(self, name: str, kept: Iterable[int]) -> tuple[tuple[int, float], ...]:
        """(units kept, milliseconds of the whole model), the other groups left whole: the staircase of a group."""
        units = self.coupling.groups[self.coupling.by_name[name]].units
        return tuple((k, self({name: np.arange(k, units)})) for k in kept)

    def _at(self, dims: Ints) -> float:
        multiplying = float(self._layers(dims).sum() / max(float(self._full.sum()), 1e-12))
        moving = self._elements(dims) / max(self._activations, 1)
        fixed = 1 - self.multiplying - self.moving
        return self.whole * (self.multiplying * multiplying + self.moving * moving + fixed)

    def _elements(self, dims: Ints) -> int:
        """Numbers in all activations."""
        table = self.model.table
        return int(np.multiply.reduceat(dims, table.starts)[table.buffers].sum()) if dims.size else 0

    def _layers(self, dims: Ints) -> NDArray[np.float64]:
        """Milliseconds of each node with MACs."""
        table = self.model.table
        found = [self._time(node, self._shapes(node, dims)) for node in table.counted]
        self._store.save()
        macs = np.array([_macs(node, self._shapes(node, dims)) for node in table.counted], np.float64)
        timed = np.array([ms is not None for ms in found], np.bool_)
        times = np.array([ms or 0.0 for ms in found])
        self._speed = self._speed or times[timed].sum() / max(float(macs[timed].sum()), 1.0) or 1.0
        return np.where(timed, times, macs * self._speed)

    def _shapes(self, node: Node, dims: Ints) -> Shapes:
        table = self.model.table
        return {t: table.shape(t, dims) for t in (*node.inputs, *node.outputs) if t in table.number}

    def _time(self, node: Node, shapes: Shapes) -> float | None:
        """Milliseconds of one node alone; None where it cannot be run alone."""
        memo = (node.number, *shapes.items())
        if memo not in self._known:
            self._known[memo] = self._look_up(node, shapes)
        return self._known[memo]

    def _look_up(self, node: Node, shapes: Shapes) -> float | None:
        made = one_node(self.model.table.graph, node, shapes, self.coupling.options)
        if made is None:
            return None
        known = self._store.get(made.key)
        if known is None:
            if self.progress:
                self.progress("timing layers", len(self._known), 0)
            try:
                known = _alone(made.model(), made.feeds(), self.threads, self.device)
            except (OnnxPruneError, MemoryError):
                return None
            self._store.put(made.key, known)
        return known


def latency_table(
    model: Model,
    coupling: Coupling,
    *,
    threads: int | None = None,
    provider: str = "auto",
    progress: Progress | None = None,
) -> LatencyTable:
    """Measure a model for a latency budget: the whole of it, and each of its layers.

    ``model``: without local functions, as `experiment.analyse` gives it, with its coupling. A batch of 1, or the
    shapes that the groups were found with. Raises OptionError where measuring is turned off, and what running the
    model raises.
    """
    if os.environ.get("ONNXPRUNE_NO_MEASURE", "") not in ("", "0"):
        raise OptionError(
            "a latency budget needs measuring, which ONNXPRUNE_NO_MEASURE turns off", "Unset it, or give target_macs."
        )
    graph = example_graph(model, dict(coupling.options.shapes))
    feeds = generate(graph)
    if progress:
        progress("measuring latency", 0, 0)
    whole = measure_latency(model, feeds, threads=threads, provider=provider).median_ms
    shares = _shares(_kernels(model, feeds, threads, device_of(provider), WHOLE))
    return LatencyTable(coupling, CostModel(coupling, graph), whole, shares, threads, device_of(provider), progress)


def known_rates(
    coupling: Coupling, *, threads: int | None = None, provider: str = "auto"
) -> tuple[dict[int, float], dict[int, int]]:
    """Milliseconds per MAC, and MACs, by number of a node, from what earlier tables measured on this machine.

    Nothing is measured; nodes that never were are left out. Times are those of nodes run alone.
    """
    graph = example_graph(coupling.graph.model, dict(coupling.options.shapes))
    table, store = CostModel(coupling, graph).table, _Store(f"{machine(threads)} {device_of(provider)}")
    rates = {}
    for node, macs in zip(table.counted, table.macs, strict=True):
        shapes = {t: graph.shapes[t] for t in (*node.inputs, *node.outputs) if t in table.number}
        made = one_node(graph, node, shapes, coupling.options) if macs else None
        known = store.get(made.key) if made is not None else None
        if known is not None:
            rates[node.number] = known / macs
    return rates, {node.number: macs for node, macs in zip(table.counted, table.macs, strict=True)}


def measurer(
    model: Model,
    coupling: Coupling,
    *,
    threads: int | None = None,
    provider: str = "auto",
    progress: Progress | None = None,
) -> Callable[[Plan], tuple[float, float]]:
    """A function that carries out a plan and times both models in turns: milliseconds before and after.

    Before is the median; after is that times a ratio: that of the 10th percentiles, or, where other processes disturb
    these, that of the times in kernels by onnxruntime's profile, most of which are short enough to be left alone. They
    are disturbed where the 90th percentile is more than half above the 10th, or where the two ratios are further
    apart than 10% for a model that takes more than a millisecond.
    """
    graph = example_graph(model, dict(coupling.options.shapes))
    feeds, costs = generate(graph), CostModel(coupling, graph)

    def measure(plan: Plan) -> tuple[float, float]:
        small = remove(model, coupling, plan)
        gone = np.zeros(int(costs.starts[-1]), np.bool_)
        for name, units in plan.units.items():
            gone[costs.starts[coupling.by_name[name]] + units] = True
        dims = costs.table.dims - costs.matrix @ gone.astype(np.int64)
        fitting = {n: v[tuple(map(slice, costs.table.shape(n, dims)))] for n, v in feeds.items()}
        old, new = compare_latency(
            [model, small], [feeds, fitting], seconds=SECONDS, threads=threads, provider=provider, progress=progress
        )
        ratio = new.p10_ms / old.p10_ms
        if old.provider == "cpu":
            spent = [_kernels(m, f, threads, old.provider, WHOLE) for m, f in ((model, feeds), (small, fitting))]
            in_kernels = sum(ms for _, ms in spent[1]) / sum(ms for _, ms in spent[0])
            apart = old.p10_ms > 1 and abs(ratio / in_kernels - 1) > APART
            if apart or any(t.p90_ms > CALM * t.p10_ms for t in (old, new)):
                ratio = in_kernels
        return old.median_ms, old.median_ms * ratio

    return measure


def _alone(model: Model, feeds: Mapping[str, Array], threads: int | None, device: str) -> float:
    """Milliseconds of a single node: of its kernel, on a CPU; of a whole call elsewhere, where kernels run behind."""
    if device != "cpu":
        runs, enough = NODE
        return measure_latency(
            model, feeds, runs=runs, warmup=WARMUP, seconds=enough / 1000, threads=threads, provider=device
        ).median_ms
    return sum(ms for op, ms in _kernels(model, feeds, threads, device, NODE) if op not in LAYOUT)


def _shares(kernels: Sequence[tuple[str, float]]) -> tuple[float, float]:
    """Of the time: of operators with MACs, and of the others beyond what the quickest tenth of them takes."""
    layers = sum(ms for op, ms in kernels if _has_macs(op))
    others = np.array([ms for op, ms in kernels if not _has_macs(op)])
    total = layers + float(others.sum())
    least = float(np.percentile(others, 10)) if others.size else 0.0
    return (layers / total, float(np.maximum(others - least, 0.0).sum()) / total) if layers else (0.0, 1.0)


def _kernels(
    model: Model, feeds: Mapping[str, Array], threads: int | None, device: str, amount: tuple[int, float]
) -> tuple[tuple[str, float], ...]:
    """Per kernel its operator and the milliseconds in it in one run. ``amount``: runs, and milliseconds of all."""
    run = session(model, provider=device, threads=threads, profile=True)
    spent, runs = 0.0, 0
    while runs < WARMUP + 1 or (runs < WARMUP + amount[0] and spent < amount[1]):
        start = time.perf_counter()
        run.run(feeds)
        spent += 1000 * (time.perf_counter() - start)
        runs += 1
    durations: dict[tuple[str, str], list[float]] = {}
    for event in run.events():
        if event.get("cat") == "Node":
            op = event["args"].get("op_name", "")
            durations.setdefault((op, event["name"]), []).append(event["dur"] / 1000)
    found = []
    for (op, _), times in durations.items():
        calls = len(times) / runs  # more than one, in a loop
        warm = times[int(calls * min(WARMUP, runs - 1)) :]
        found.append((op, calls * float(np.percentile(warm, QUARTILE))))
    return tuple(found)


def _has_macs(op: str) -> bool:
    """Whether an operator of the optimised model multiplies; fused ones have other names."""
    rules = (rule_for(domain, op) for domain in ("", "com.microsoft"))
    return any(rule is not None and rule.macs is not None for rule in rules) or op.startswith("Fused")


def _macs(node: Node, shapes: Shapes) -> int:
    rule = rule_for(node.domain, node.op)
    if rule is None or rule.macs is None or any(0 in shape for shape in shapes.values()):
        return 0
    return rule.macs(node, shapes)


class _Store:
    """Times that were measured before, in a file beside the channel step. ``key``: machine, threads and device."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.path: Path = cache_file().with_name("latency.json")
        self.known: dict[str, float] = dict(self._read().get(key, {}))
        self.fresh: dict[str, float] = {}

    def get(self, node: str) -> float | None:
        return self.known.get(node)

    def put(self, node: str, ms: float) -> None:
        self.known[node] = self.fresh[node] = ms

    def save(self) -> None:
        """Add what is new; a folder that cannot be written to only means that it is measured again."""
        if not self.fresh:
            return
        content = self._read()
        content[self.key] = {**content.get(self.key, {}), **self.fresh}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(self.path) as file:
                file.write(json.dumps(content).encode())
        except OSError:
            return
        self.fresh = {}

    def _read(self) -> dict[str, dict[str, float]]:
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        tables = content.items() if isinstance(content, dict) else ()
        return {key: table for key, table in tables if isinstance(table, dict) and _is_numbers(table)}


def _is_numbers(table: Mapping[str, object]) -> bool:
    return all(isinstance(value, float | int) for value in table.values())
