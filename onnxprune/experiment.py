"""The composition of the parts: couple, score, allocate, mask or remove, prove, and say what came of it.

``prune`` is the whole way from a model to a smaller one; ``analyse`` its beginning, for those who only look.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx

from onnxprune.allocate import Budget, Reached, allocate
from onnxprune.cost import Cost, CostModel, cost, one_example
from onnxprune.coupling import couple
from onnxprune.criteria import Scores, Settings, score, score_weights
from onnxprune.criteria.slices import linear_weights, weight_of
from onnxprune.data import Dataset, Source, fit, open_dataset
from onnxprune.errors import NothingToPrune, OnnxPruneError, OptionError
from onnxprune.graph import build_graph
from onnxprune.model import Model, inline_functions
from onnxprune.plan import Plan, check_coupling, check_model
from onnxprune.proof import Proof, assert_proven, memory_needed, prove
from onnxprune.runtime import Latency, measure_latency, model_inputs
from onnxprune.samples import generate
from onnxprune.surgery import mask, remove
from onnxprune.values import Coupling, Options

__all__ = ["GRANULARITIES", "METADATA", "MODES", "Progress", "Pruned", "Request", "analyse", "broken_weights", "prune"]

MODES = ("remove", "mask")
GRANULARITIES = ("unit", "weight")
METADATA = {name: f"onnxprune.{name}" for name in ("parent", "plan", "hash", "signature")}
MUCH = 1_500_000_000  # bytes of memory from which on it is said that the proof will take them
RUNS, WARMUP = 10, 2  # of a latency measurement
CHUNK = 1 << 22  # elements looked at in one go

# Called with a stage in words, how much of it is done, and out of how many (0: unknown).
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Request:
    """What is wanted, beside how much of it (the ``Budget``).

    ``mode``: "remove", "mask", or None for the one that fits: single weights can only be masked. ``granularity``:
    whole "unit"s or single "weight"s. ``seed``: for random scores and for the inputs of the proof.
    Raises OptionError.
    """

    criterion: str = "l2"
    mode: str | None = None
    granularity: str = "unit"
    options: Options = field(default_factory=Options)
    seed: int = 0

    def __post_init__(self) -> None:
        for name, known in (("mode", (None, *MODES)), ("granularity", GRANULARITIES)):
            if getattr(self, name) not in known:
                words = " or ".join(k for k in known if k)
                raise OptionError(f"{name}: got {getattr(self, name)!r}, expected {words}", "Leave it out.")
        if self.mode == "remove" and self.granularity == "weight":
            raise OptionError("single weights cannot be removed, only masked", "Use --mode mask, or whole units.")

    @property
    def masks(self) -> bool:
        """Whether shapes stay as they are."""
        return self.mode == "mask" or self.granularity == "weight"


@dataclass(frozen=True, eq=False)
class Pruned:
    """The new model and everything that is known about how it came to be.

    ``proof``: None for masks, and where it was not wanted. ``before`` and ``after`` hold for a batch of 1, or for the
    shapes that were given. ``signature``: inputs and outputs whose shape changed, in words. ``timings``: seconds.
    ``masked``: zeros were written and shapes are as they were. ``latencies``: measured here before and after, where
    that was wanted and possible.
    """

    model: Model
    plan: Plan
    coupling: Coupling
    proof: Proof | None
    before: Cost
    after: Cost
    reached: Reached
    signature: tuple[str, ...]
    warnings: tuple[str, ...]
    timings: Mapping[str, float]
    masked: bool = False
    latencies: tuple[Latency, Latency] | None = None

    @property
    def asked(self) -> Mapping[str, Any]:
        """What the budget said."""
        return self.reached.asked


def prune(  # noqa: PLR0913 - one argument for each option of the command, so that a call reads like it
    model: Model,
    *,
    ratio: float | None = None,
    criterion: str = "l2",
    scope: str = "local",
    mode: str | None = None,
    granularity: str = "unit",
    group_ratios: Mapping[str, float] | None = None,
    skip: Sequence[str] = (),
    round_to: int | None = None,
    target_params: float | str | None = None,
    target_macs: float | str | None = None,
    include_inexact: bool = False,
    attention: str = "heads",
    norm_groups: str = "whole",
    allow_io: Sequence[str] = (),
    shapes: Mapping[str, Sequence[int]] | None = None,
    plan: Plan | None = None,
    seed: int = 0,
    verify: bool = True,
    measure: bool = False,
    data: Source | None = None,
    progress: Progress | None = None,
    notify: Callable[[str], None] | None = None,
) -> Pruned:
    """Prune a model: by a ratio or a target, or as a plan says; proven unless ``verify`` is False.

    The arguments are those of ``Budget``, ``Request`` and ``Options``. ``plan`` takes the place of a budget, and
    brings its own options. ``data``: what the proof runs on instead of made-up inputs. ``measure``: measure latency
    before and after. ``notify`` is told what a person should know beforehand.

    Raises OnnxPruneError: a bad option, nothing to prune, a budget out of reach, a cut that is impossible, a proof
    that fails.
    """
    fixed = tuple((name, tuple(int(n) for n in shape)) for name, shape in (shapes or {}).items())
    options = Options(include_inexact, attention, norm_groups, tuple(allow_io), fixed)
    request = Request(criterion, mode, granularity, options, seed)
    asked = {"ratio": ratio, "target_params": target_params, "target_macs": target_macs, "group_ratios": group_ratios}
    given = [name for name, value in asked.items() if value]
    if plan is not None:
        if given:
            raise OptionError(
                f"both a plan and {given[0]} are given: a plan says already what goes", "Give one of them."
            )
        check_model(plan, model.hash, model.path.name if model.path else "")
        request = replace(request, options=plan.options, granularity="unit" if plan.units else "weight")
    wanted = plan or Budget(ratio, scope, dict(group_ratios or {}), tuple(skip), round_to, target_params, target_macs)
    return _Work(model, request, progress, measure=measure).run(wanted, verify=verify, data=data, notify=notify)


def analyse(model: Model, options: Options | None = None) -> tuple[Model, Coupling]:
    """The model without local functions, and its groups; they carry the hash of the model as it was given."""
    inlined = inline_functions(model)
    coupling = couple(inlined, options)
    return inlined, coupling if inlined is model else replace(coupling, model_hash=model.hash)


def broken_weights(model: Model, coupling: Coupling) -> tuple[str, ...]:
    """A warning for each linear weight with NaN or Inf in it."""
    graph = coupling.graph
    found = ((name, _not_finite(weight_of(model, graph, name).array())) for name in linear_weights(graph))
    return tuple(f"weight `{name}` has {count} entries that are NaN or Inf" for name, count in found if count)


def _not_finite(array: np.ndarray[Any, np.dtype[Any]]) -> int:
    if array.dtype.kind in "iub":
        return 0
    flat = array.reshape(-1)
    pieces = (flat[start : start + CHUNK] for start in range(0, flat.size, CHUNK))
    return sum(piece.size - int(np.count_nonzero(np.isfinite(piece))) for piece in pieces)


class _Work:
    """One pruning, stage by stage, each timed and announced."""

    def __init__(self, model: Model, request: Request, progress: Progress | None, *, measure: bool) -> None:
        self.model, self.request, self.progress, self.measure = model, request, progress, measure
        self.timings: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str, words: str) -> Iterator[None]:
        if self.progress:
            self.progress(words, 0, 0)
        start = time.perf_counter()
        try:
            yield
        finally:
            self.timings[name] = time.perf_counter() - start

    def run(
        self, wanted: Budget | Plan, *, verify: bool, data: Source | None, notify: Callable[[str], None] | None
    ) -> Pruned:
        with self.stage("couple", "looking for groups"):
            inlined, coupling = analyse(self.model, self.request.options)
        dataset = None if data is None else fit(open_dataset(data), model_inputs(self.model))
        plan, reached = self.choose(inlined, coupling, wanted, dataset)
        with self.stage("surgery", "masking" if self.request.masks else "removing"):
            result = (mask if self.request.masks else remove)(inlined, coupling, plan)
        if result.hash == inlined.hash:
            raise NothingToPrune(
                "the result would equal the input: what was chosen is zero already", "Ask for more, or remove it."
            )
        proof = None
        if verify and not self.request.masks:
            proof = self.prove(inlined, coupling, plan, result, dataset, notify)
        shapes = dict(self.request.options.shapes)
        new_shapes = _fitting(shapes, inlined, result)
        with self.stage("cost", "counting"):
            before, after = cost(inlined, shapes=shapes), cost(result, shapes=new_shapes)
            warnings = broken_weights(inlined, coupling)
        latencies = None
        if self.measure and self.model.nbytes < MUCH:
            with self.stage("latency", "measuring latency"):
                old, new = (_latency(m, s) for m, s in ((inlined, shapes), (result, new_shapes)))
                latencies = (old, new) if old and new else None
        signature = signature_changes(inlined, result)
        final = _signed(result, self.model.hash, plan, signature)
        return Pruned(
            final, plan, coupling, proof, before, after, reached, signature, warnings, self.timings,
            self.request.masks, latencies,
        )  # fmt: skip

    def choose(
        self, inlined: Model, coupling: Coupling, wanted: Budget | Plan, dataset: Dataset | None
    ) -> tuple[Plan, Reached]:
        if isinstance(wanted, Plan):
            check_coupling(wanted, coupling)
            return wanted, _reached_by(wanted, coupling)
        with self.stage("score", "scoring"):
            settings = Settings(seed=self.request.seed, data=dataset)
            function = score if self.request.granularity == "unit" else score_weights
            scores: Scores = function(inlined, coupling, self.request.criterion, settings)
        with self.stage("allocate", "choosing what goes"):
            plan, reached = allocate(coupling, scores, wanted)
        recipe = {**plan.recipe, "mode": "mask" if self.request.masks else "remove", "seed": self.request.seed}
        name = self.model.path.name if self.model.path else plan.model_name
        return replace(plan, recipe=recipe, model_name=name), reached

    def prove(
        self,
        inlined: Model,
        coupling: Coupling,
        plan: Plan,
        result: Model,
        dataset: Dataset | None,
        notify: Callable[[str], None] | None,
    ) -> Proof:
        needed = memory_needed(inlined, coupling, plan)
        if notify and needed > MUCH:
            notify(f"The proof takes about {needed / 1e9:.1f} GB of memory; --no-verify leaves it out.")
        with self.stage("prove", "proving that masked and removed agree"):
            rows = None if dataset is None else dataset.inputs
            proof = prove(inlined, coupling, plan, result, data=rows, seed=self.request.seed)
        assert_proven(proof)
        return proof


def _latency(model: Model, shapes: Mapping[str, tuple[int, ...]]) -> Latency | None:
    """Time of one made-up example; None where the model does not take one."""
    try:
        graph = build_graph(model, one_example(model), fixed=shapes)
        return measure_latency(model, generate(graph), runs=RUNS, warmup=WARMUP)
    except OnnxPruneError:
        return None


def _reached_by(plan: Plan, coupling: Coupling) -> Reached:
    """What a plan comes to, in the words of an allocation."""
    table = CostModel(coupling)
    groups = {g.name: (len(plan.units.get(g.name, ())), g.units) for g in coupling.groups}
    removed, total = plan.removed_units, coupling.units
    if plan.weights and not plan.units:
        removed, total = plan.removed_weights, sum(gone.size for gone in plan.weights.values())
    return Reached(dict(plan.recipe), removed, total, groups, 1, table.before, table.after(plan.units))


def _fitting(shapes: Mapping[str, tuple[int, ...]], before: Model, after: Model) -> dict[str, tuple[int, ...]]:
    """The given input shapes for the new model: a fixed size that was cut has its new value."""
    new = {info.name: info.shape for info in model_inputs(after)}
    old = {info.name: info.shape for info in model_inputs(before)}
    return {
        name: tuple(
            after_size if isinstance(after_size, int) and after_size != before_size else size
            for size, before_size, after_size in zip(shape, old[name], new[name], strict=True)
        )
        for name, shape in shapes.items()
    }


def signature_changes(before: Model, after: Model) -> tuple[str, ...]:
    """Inputs and outputs of another shape than before, one line for each; old files list weights as inputs too."""
    result = []
    for word in ("input", "output"):
        now = {value.name: value for value in getattr(after.proto.graph, word)}
        for old in getattr(before.proto.graph, word):
            if old.name in before.weights:
                continue
            was, is_now = _dims(old), _dims(now[old.name])
            if was != is_now:
                result.append(f"{word} `{old.name}` was ({', '.join(was)}) and is ({', '.join(is_now)})")
    return tuple(result)


def _dims(value: onnx.ValueInfoProto) -> tuple[str, ...]:
    return tuple(
        dim.dim_param or (str(dim.dim_value) if dim.HasField("dim_value") else "?")
        for dim in value.type.tensor_type.shape.dim
    )


def _signed(result: Model, parent: str, plan: Plan, signature: Sequence[str]) -> Model:
    """The result with its own hash, its parent's and the plan in its metadata, none of which the hash covers."""
    editor = result.edit()
    editor.set_metadata(METADATA["parent"], parent)
    editor.set_metadata(METADATA["plan"], plan.to_json())
    editor.set_metadata(METADATA["hash"], result.hash)
    if signature:
        editor.set_metadata(METADATA["signature"], "\n".join(signature))
    return editor.build()
