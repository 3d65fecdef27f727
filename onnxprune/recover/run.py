"""The loop over the layers: measure the original and the pruned model side by side, fit, go on with what was fitted.

Layers are taken in the order of execution, so that each is fitted on the inputs that the layers in front of it, already
repaired, give it: what one cannot make up for, the next can still see. Layers that do not read each other's outputs
are measured in one pass. Every fifth batch is held back, to choose the penalty and to say how good the fit is.

``bias``: the mean of what the removed units contributed goes into the bias of what read them, padding included
(as in bias correction, Nagel et al., arXiv:1906.04721). ``batchnorm``: mean and variance of every BatchNormalization
behind a change are measured again. ``least-squares``: weights and bias by ridge regression on the original's outputs
(He et al., arXiv:1707.06168, layer by layer and asymmetric), under the mask where there is one (Frantar and Alistarh,
arXiv:2208.11580). Names can be joined with ``+``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune._graphs import find_node, used_names
from onnxprune._model import ModelEditor
from onnxprune.activations import Moments as Statistics
from onnxprune.data import Batch, Dataset, batches, fit
from onnxprune.errors import NothingToPrune, OptionError
from onnxprune.extract import reached_from
from onnxprune.graph import Graph, build_graph
from onnxprune.model import Model
from onnxprune.nodes import Node
from onnxprune.ops.recurrent import GATES
from onnxprune.plan import Plan
from onnxprune.recover.dual import Stored, fit_stored
from onnxprune.recover.find import find_norms, find_targets
from onnxprune.recover.inputs import made_up
from onnxprune.recover.moments import Moments
from onnxprune.recover.solve import Fit, fit_bias, fit_weights
from onnxprune.recover.targets import Target
from onnxprune.runtime import model_inputs, session
from onnxprune.samples import complete_shapes
from onnxprune.values import Coupling

__all__ = ["METHODS", "Recovered", "Repaired", "check_method", "recover"]

Array = NDArray[Any]
Floats = NDArray[np.float64]
Progress = Callable[[str, int, int], None]

METHODS = ("bias", "batchnorm", "least-squares")
SAMPLES = 1024
GENERATED = 512
MANY = 6144  # columns from which on samples are kept instead of their moments
HELD = 5  # every fifth batch judges


@dataclass(frozen=True)
class Repaired:
    """One layer: ``error`` of its outputs against the original's on samples held back, as a share of their variance.

    ``None`` where statistics were measured again.
    """

    layer: str
    method: str
    error_before: float | None
    error_after: float | None


@dataclass(frozen=True, eq=False)
class Recovered:
    """The repaired model. ``skipped``: layers left as they are, and why. ``generated``: made-up inputs were used."""

    model: Model
    method: str
    layers: tuple[Repaired, ...]
    skipped: tuple[tuple[str, str], ...]
    samples: int
    generated: bool
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "method": self.method,
            "samples": self.samples,
            "generated_inputs": self.generated,
            "seconds": self.seconds,
            "layers": [vars(layer) for layer in self.layers],
            "skipped": [{"layer": layer, "reason": reason} for layer, reason in self.skipped],
        }


def recover(  # noqa: PLR0913 - one argument for each option of the command
    original: Model,
    coupling: Coupling,
    plan: Plan,
    pruned: Model,
    dataset: Dataset | None = None,
    *,
    method: str = "least-squares",
    samples: int | None = None,
    seed: int = 0,
    size: int = 64,
    provider: str = "auto",
    threads: int | None = None,
    progress: Progress | None = None,
) -> Recovered:
    """Repair a pruned model (removed or masked) so that its layers put out what the original's do.

    ``original`` and ``coupling`` as `experiment.analyse` gives them, ``plan`` what was done. ``dataset``: inputs to fit
    on; labels are not looked at; without it inputs are made up. ``samples``: at most so many (by default 1024).

    Raises OptionError for an unknown method, DataError where the dataset does not fit, NothingToPrune where no layer
    can be repaired.
    """
    start = time.perf_counter()
    methods = check_method(method)
    data = fit(_calibration(original, dataset, samples, seed), model_inputs(original))
    shown, states = _with_states(original, coupling.graph)
    machine = _Machine(size, provider, threads, progress)
    work = _Work(shown, coupling, plan, states, data, seed, machine)
    model, layers = pruned, list[Repaired]()
    if "bias" in methods or "least-squares" in methods:
        model, done = work.fit(model, bias_only="least-squares" not in methods)
        layers += done
    if "batchnorm" in methods:
        model, done = work.measure_norms(model)
        layers += done
    if not layers:
        raise NothingToPrune(
            f"no layer can be repaired by {method}" + "".join(f"\n  {n}: {why}" for n, why in work.skipped.items()),
            _advice(coupling.graph, methods),
        )
    seconds = time.perf_counter() - start
    return Recovered(model, method, tuple(layers), tuple(work.skipped.items()), len(data), dataset is None, seconds)


def check_method(method: str) -> tuple[str, ...]:
    """The methods that are joined in it. Raises OptionError for one that does not exist."""
    names = tuple(part.strip() for part in method.split("+"))
    for name in names:
        if name not in METHODS:
            raise OptionError(
                f"recover: got {name!r}, expected {', '.join(METHODS)}, or several joined with +",
                "least-squares is the strongest; bias and batchnorm change the fewest numbers.",
            )
    return names


def _advice(graph: Graph, methods: Sequence[str]) -> str:
    norms = any(node.op == "BatchNormalization" for node in graph.nodes)
    if tuple(methods) == ("batchnorm",) and not norms:
        return "The model has no BatchNormalization (exporters fold it into the weights): use least-squares or bias."
    return "Leave the repair out."


def _calibration(model: Model, dataset: Dataset | None, samples: int | None, seed: int) -> Dataset:
    if dataset is not None:
        return dataset.subset(samples or SAMPLES, seed)
    return made_up(model, samples or GENERATED, seed)


def _with_states(model: Model, graph: Graph) -> tuple[Model, dict[str, str]]:
    """The model with a name for the states of every recurrence of the main graph, and these names."""
    editor, states, changed = model.edit(), {}, False
    for node in graph.nodes:
        if node.op not in GATES or node.domain or len(node.where) > 1:
            continue
        proto = find_node(editor.proto.graph, node.where)
        if not proto.output[0]:
            proto.output[0], changed = editor.fresh(f"{node.name}.states"), True
        states[str(node.where)] = proto.output[0]
    return (editor.build() if changed else model), states


@dataclass(eq=False)
class _Sums:
    """What one target has seen: batches to fit, and batches held back."""

    target: Target
    moments: list[Moments] = field(default_factory=list)
    stored: list[Stored] = field(default_factory=list)

    def add(self, x: Array, t: Array, *, judge: bool) -> None:
        if not (self.moments or self.stored):
            if x.shape[-1] > MANY:
                self.stored = [Stored(), Stored()]
            else:
                self.moments = [Moments.empty(len(x), x.shape[-1], t.shape[-1]) for _ in range(2)]
        (self.stored or self.moments)[judge].add(x, t)

    def solve(self, weights: Floats, bias: Floats, *, bias_only: bool) -> Fit:
        """Weights and bias. Data of a single batch are both fitted and judged by."""
        target = self.target
        if self.stored:
            fitted, held = self.stored
            alone = bias_only or target.mask is not None
            judge = held if held.count else fitted
            return fit_stored(fitted, judge, weights, bias, intercept=target.intercept, bias_only=alone)
        first, second = self.moments
        solution = fit_bias if bias_only else fit_weights
        judge_by = second if second.count else first
        return solution(first, judge_by, weights, bias, intercept=target.intercept, mask=target.mask)


@dataclass(frozen=True)
class _Machine:
    """How models are run."""

    size: int
    provider: str
    threads: int | None
    progress: Progress | None


class _Work:
    """One repair: the original, the data, and what is known about both."""

    def __init__(
        self, original: Model, coupling: Coupling, plan: Plan, states: Mapping[str, str], data: Dataset, seed: int,
        machine: _Machine,
    ) -> None:  # fmt: skip
        self.original, self.coupling, self.plan, self.states = original, coupling, plan, states
        self.data, self.machine = data, machine
        self.size = min(machine.size, max(1, len(data) // (2 * HELD)))
        self.rng = np.random.default_rng(seed)
        self.skipped: dict[str, str] = {}

    def fit(self, model: Model, *, bias_only: bool) -> tuple[Model, list[Repaired]]:
        """Fit every target, stage by stage."""
        graph = complete_shapes(build_graph(model))
        targets = find_targets(self.coupling, graph, self.plan, self.states, self.skipped.__setitem__)
        result: list[Repaired] = []
        for stage in _stages(graph, targets):
            self._say(f"repairing {stage[0].name}", len(result), len(targets))
            sums = self._measured(model, stage)
            editor = model.edit()
            result += [self._solved(model, editor, entry, bias_only=bias_only) for entry in sums]
            model = editor.build()
        return model, result

    def _solved(self, model: Model, editor: ModelEditor, sums: _Sums, *, bias_only: bool) -> Repaired:
        target = sums.target
        found = sums.solve(*target.current(model), bias_only=bias_only)
        target.write(editor, found.weights, found.bias)
        used = "bias" if found.penalty is None else "least-squares"
        return Repaired(target.name, used, found.before, found.after)

    def _measured(self, model: Model, stage: Sequence[Target]) -> list[_Sums]:
        needs = tuple(dict.fromkeys(name for target in stage for name in target.needs))
        wants = tuple(dict.fromkeys(name for target in stage for name in target.wants))
        sums = [_Sums(target) for target in stage]
        both = zip(self._values(model, needs), self._values(self.original, wants), strict=True)
        for number, (now, then) in enumerate(both):
            for entry in sums:
                x, t = entry.target.samples(now, then, len(self.data), self.rng)
                entry.add(x, t, judge=number % HELD == HELD - 1)
        return sums

    def _values(self, model: Model, names: Sequence[str]) -> Iterator[dict[str, Array]]:
        """Tensors of every batch, inputs of the graph included."""
        fed = {info.name for info in model_inputs(model)}
        inner = [name for name in names if name not in fed]
        run = (
            session(model, outputs=inner, provider=self.machine.provider, threads=self.machine.threads)
            if inner
            else None
        )
        for batch in batches(self.data, self.size):
            found = run.run(batch.feeds) if run else {}
            yield {name: _rows(batch, batch.feeds[name] if name in fed else found[name]) for name in names}

    def measure_norms(self, model: Model) -> tuple[Model, list[Repaired]]:
        """Mean and variance of every norm behind a change, in the order of execution."""
        graph = complete_shapes(build_graph(model))
        norms = find_norms(self.coupling, graph, self.plan, self.skipped.__setitem__)
        result: list[Repaired] = []
        for stage in _norm_stages(graph, norms):
            self._say(f"measuring {stage[0].name}", len(result), len(norms))
            found = {node.input(0): Statistics(1) for node in stage}
            for values in self._values(model, tuple(found)):
                for name, statistics in found.items():
                    statistics.add(values[name])
            editor = model.edit()
            for node in stage:
                statistics = found[node.input(0)]
                _set_own(editor, node, 3, statistics.mean)
                _set_own(editor, node, 4, statistics.variance)
                result.append(Repaired(node.name or node.output(0), "batchnorm", None, None))
            model = editor.build()
        return model, result

    def _say(self, stage: str, done: int, total: int) -> None:
        if self.machine.progress:
            self.machine.progress(stage, done, total)


def _rows(batch: Batch, values: Array) -> Array:
    """Without the rows that fill up a fixed batch."""
    size = len(next(iter(batch.feeds.values())))
    return values[: batch.count] if batch.count < size == len(values) else values


def _stages(graph: Graph, targets: Sequence[Target]) -> Iterator[list[Target]]:
    """Neighbouring targets that do not read each other's outputs, so that one pass measures them all."""
    return _grouped(graph, targets, lambda t: t.needs, lambda t: t.makes)


def _norm_stages(graph: Graph, norms: Sequence[Node]) -> Iterator[list[Node]]:
    return _grouped(graph, norms, lambda n: (n.input(0),), lambda n: n.outputs)


def _grouped(graph: Graph, items: Sequence[Any], needs: Any, makes: Any) -> Iterator[list[Any]]:
    stage: list[Any] = []
    behind: frozenset[str] = frozenset()
    for item in items:
        if stage and any(name in behind for name in needs(item)):
            yield stage
            stage, behind = [], frozenset()
        stage.append(item)
        behind |= reached_from(graph, makes(item))
    if stage:
        yield stage


def _set_own(editor: Any, node: Node, position: int, values: Array) -> None:
    """Write a constant of this node, into one of its own where others read it too."""
    proto = find_node(editor.proto.graph, node.where)
    name = proto.input[position]
    array = values.astype(editor.weights[name].dtype)
    if list(used_names(editor.proto.graph)).count(name) == 1:
        editor.set_weight(name, array)
    else:
        proto.input[position] = editor.add_weight(f"{name}.own", array)
