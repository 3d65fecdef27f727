"""One pruning, stage by stage, each timed and announced."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.allocate import (
    Budget,
    FloorReport,
    Reached,
    allocate,
    check_floors,
    largest_that_holds,
    require_floors,
)
from onnxprune.cost import CostModel, cost, one_example
from onnxprune.criteria import Scores, Settings, find, score, score_weights
from onnxprune.data import Dataset, Source, batches, fit
from onnxprune.errors import DataError, NothingToPrune, OnnxPruneError
from onnxprune.evaluate import Evaluation, evaluate
from onnxprune.experiment.analysis import analyse, broken_weights
from onnxprune.experiment.calibrate import Calibration, floor_values, split_data
from onnxprune.experiment.request import NO_REPAIR, Progress, Pruned, Request
from onnxprune.experiment.signing import fitting, signature_changes, signed
from onnxprune.graph import build_graph
from onnxprune.latency_table import latency_table, measurer
from onnxprune.model import Model
from onnxprune.plan import Plan, check_coupling
from onnxprune.proof import (
    Proof,
    Zeroed,
    assert_proven,
    assert_still_zero,
    assert_zeroed,
    masks_left,
    memory_needed,
    prove,
)
from onnxprune.recover import Recovered, recover
from onnxprune.runtime import Latency, compare_latency, model_inputs
from onnxprune.samples import generate
from onnxprune.surgery import mask, remove
from onnxprune.train import kept_zeros
from onnxprune.values import Coupling

__all__ = ["Work"]

MUCH = 1_500_000_000  # bytes of memory from which on it is said that the proof will take them
RUNS, WARMUP, SECONDS = 10, 2, 0.05  # of a latency measurement
PROVEN = 48  # samples of a dataset that a proof runs on at most


class Work:
    """One pruning: the model, what is wanted, and what is known so far."""

    def __init__(self, model: Model, request: Request, progress: Progress | None, *, measure: bool) -> None:
        self.model, self.request, self.progress, self.measure = model, request, progress, measure
        self.timings: dict[str, float] = {}
        self.data = Calibration()

    @contextmanager
    def stage(self, name: str, words: str) -> Iterator[None]:
        """Announce a stage, and add its seconds up."""
        if self.progress:
            self.progress(words, 0, 0)
        start = time.perf_counter()
        try:
            yield
        finally:
            self.timings[name] = self.timings.get(name, 0.0) + time.perf_counter() - start

    def run(
        self, wanted: Budget | Plan, *, verify: bool, data: Source | None, notify: Callable[[str], None] | None
    ) -> Pruned:
        """All stages."""
        with self.stage("couple", "looking for groups"):
            self.inlined, self.coupling = analyse(
                self.model, self.request.options, provider=self.request.provider, threads=self.request.threads
            )
        self.data = split_data(data, self.request.samples, self.request.seed)
        if self.data.measured is not None:  # a mismatch is found before any work is done
            fit(self.data.measured, model_inputs(self.model))
        plan, reached, floors = self.choose(wanted)
        result = self.carry_out(plan)
        if result.hash == self.inlined.hash:
            raise NothingToPrune(
                "the result would equal the input: what was chosen is zero already", "Ask for more, or remove it."
            )
        proof = self.prove(plan, result, notify) if verify and not self.request.masks else None
        zeroed = self.zeroed(plan, result) if verify and plan.weights else None
        recovered = self.repair(plan, result)
        if recovered is not None and verify and plan.weights:
            left = masks_left(self.coupling, plan, plan.weights, removed=not self.request.masks)
            assert_still_zero(self.coupling, left, recovered.model)
        final = recovered.model if recovered else result
        evaluations = self.evaluations(result, recovered)
        return self.report(plan, reached, floors, final, (proof, zeroed), recovered, evaluations)

    def choose(self, wanted: Budget | Plan) -> tuple[Plan, Reached, FloorReport | None]:
        """The plan, what it comes to, and whether the floors hold."""
        if isinstance(wanted, Plan):
            check_coupling(wanted, self.coupling)
            floors = self.floors_of(wanted) if self.request.floors else None
            return wanted, _reached_by(wanted, self.coupling), floors
        with self.stage("score", "scoring"):
            scores = self.scores(wanted)
        with self.stage("allocate", "choosing what goes"):
            plan, reached, floors = self.allocate(scores, wanted)
        recipe = {
            **plan.recipe,
            "mode": "mask" if self.request.masks else "remove",
            "seed": self.request.seed,
            **({"recover": self.method} if self.method else {}),
        }
        name = self.model.path.name if self.model.path else plan.model_name
        return replace(plan, recipe=recipe, model_name=name), reached, floors

    def scores(self, budget: Budget) -> Scores:
        """Scores of units or single weights."""
        settings = Settings(
            normalise=self.request.normalise, losses=self.request.losses,
            seed=self.request.seed, data=self.data.fitted, samples=self.request.samples,
            provider=self.request.provider, threads=self.request.threads, progress=self.progress,
            ratios=budget.ratio if budget.ratio is not None and budget.ratio < 1 else None,
        )  # fmt: skip
        function = score if self.request.granularity == "unit" else score_weights
        scores: Scores = function(self.inlined, self.coupling, self.request.criterion, settings)
        return scores

    def allocate(self, scores: Scores, budget: Budget) -> tuple[Plan, Reached, FloorReport | None]:
        """The plan within the budget; with floors the largest that holds them."""
        latency = measure = None
        if budget.target_latency is not None:
            options: dict[str, Any] = {
                "threads": self.request.threads, "provider": self.request.provider, "progress": self.progress
            }  # fmt: skip
            latency = latency_table(self.inlined, self.coupling, **options)
            measure = measurer(self.inlined, self.coupling, **options)
        if not self.request.floors:
            return *allocate(self.coupling, scores, budget, latency=latency, measure=measure), None
        require_floors(self.request.floors, floor_values(self.original_evaluation))
        plan, reached, verdict = largest_that_holds(
            self.coupling, scores, budget, self.floors_of, latency=latency, measure=measure, progress=self.progress
        )
        return plan, reached, verdict if isinstance(verdict, FloorReport) else FloorReport()

    def floors_of(self, plan: Plan) -> FloorReport:
        """Whether the floors hold once the plan is carried out and the result repaired."""
        result = self.carry_out(plan)
        recovered = self.repair(plan, result)
        found = self.evaluation(recovered.model if recovered else result)
        return check_floors(self.request.floors, floor_values(found))

    def carry_out(self, plan: Plan) -> Model:
        """The masked or removed model."""
        with self.stage("surgery", "masking" if self.request.masks else "removing"):
            return (mask if self.request.masks else remove)(self.inlined, self.coupling, plan)

    @cached_property
    def method(self) -> str:
        """The repair that is wanted, or that belongs to the criterion; "" for none."""
        if self.request.recover is not None:
            return "" if self.request.recover == NO_REPAIR else self.request.recover
        return find(self.request.criterion).recover if self.data.fitted is not None else ""

    def repair(self, plan: Plan, result: Model) -> Recovered | None:
        """The repaired model, where a repair is wanted."""
        if not self.method:
            return None
        with self.stage("recover", "repairing"):
            return recover(
                self.inlined, self.coupling, plan, result, self.data.fitted,
                method=self.method, samples=self.request.samples, seed=self.request.seed,
                provider=self.request.provider, threads=self.request.threads, progress=self.progress,
            )  # fmt: skip

    def prove(self, plan: Plan, result: Model, notify: Callable[[str], None] | None) -> Proof:
        """Raises ProofError where masked and removed do not agree."""
        needed = memory_needed(self.inlined, self.coupling, plan)
        if notify and needed > MUCH:
            notify(f"The proof takes about {needed / 1e9:.1f} GB of memory; --no-verify leaves it out.")
        with self.stage("prove", "proving that masked and removed agree"):
            rows = None if self.data.measured is None else self.proven_rows(self.data.measured)
            proof = prove(
                self.inlined, self.coupling, plan, result, data=rows,
                seed=self.request.seed, provider=self.request.provider, threads=self.request.threads,
            )  # fmt: skip
        assert_proven(proof)
        return proof

    def zeroed(self, plan: Plan, result: Model) -> Zeroed:
        """Raises ProofError where other weights than those of the plan changed, or one of them is not zero."""
        with self.stage("prove", "looking at every weight"):
            return assert_zeroed(self.inlined, self.coupling, plan, result, removed=not self.request.masks)

    def handed_down(self, plan: Plan) -> dict[str, NDArray[np.bool_]]:
        """Single weights that plans zeroed, where this plan alone does not tell which they are in its result."""
        found = kept_zeros(self.inlined)
        if plan.units and not self.request.masks:
            for name, gone in plan.weights.items():
                found[name] = found.get(name, False) | gone
        return masks_left(self.coupling, plan, found, removed=not self.request.masks)

    def proven_rows(self, dataset: Dataset) -> dict[str, Any]:
        """The samples that a proof runs on. Raises DataError for NaN in them."""
        fitted = fit(dataset, model_inputs(self.model))
        count = max(PROVEN, 2 * (fitted.fixed or 1))
        for _ in batches(fitted, limit=count):
            pass
        return fitted.head(count)

    def evaluation(self, model: Model) -> Evaluation:
        """Metrics of one model; without labels how close it is to the original. Raises DataError without data."""
        if self.data.measured is None:
            raise DataError("metrics need data, and none are given", "Give them with --data.")
        with self.stage("evaluate", "evaluating"):
            return evaluate(
                model, self.data.measured, curves="none",
                original=self.inlined if self.data.measured.labels is None else None,
                provider=self.request.provider, threads=self.request.threads, progress=self.progress,
            )  # fmt: skip

    @cached_property
    def original_evaluation(self) -> Evaluation:
        return self.evaluation(self.inlined)

    def evaluations(self, result: Model, recovered: Recovered | None) -> dict[str, Evaluation]:
        """Metrics of the original, the pruned and the repaired model, where they were asked for."""
        if not (self.request.evaluate or self.request.floors):
            return {}
        found = {"original": self.original_evaluation, "pruned": self.evaluation(result)}
        return {**found, "repaired": self.evaluation(recovered.model)} if recovered else found

    def report(
        self, plan: Plan, reached: Reached, floors: FloorReport | None, final: Model,
        checked: tuple[Proof | None, Zeroed | None], recovered: Recovered | None, evaluations: Mapping[str, Evaluation],
    ) -> Pruned:  # fmt: skip
        """Costs, latency and signature, together with what is known."""
        shapes = dict(self.request.options.shapes)
        new_shapes = fitting(shapes, self.inlined, final)
        with self.stage("cost", "counting"):
            before, after = cost(self.inlined, shapes=shapes), cost(final, shapes=new_shapes)
            warnings = broken_weights(self.inlined, self.coupling)
        latencies = None
        if self.measure and self.model.nbytes < MUCH:
            with self.stage("latency", "measuring latency"):
                latencies = _latencies((self.inlined, final), (shapes, new_shapes), self.request)
        signature = signature_changes(self.inlined, final)
        method = recovered.method if recovered else ""
        model = signed(final, self.model.hash, plan, signature, method, self.handed_down(plan))
        proof, zeroed = checked
        return Pruned(
            model, plan, self.coupling, proof, before, after, reached, signature, warnings, self.timings,
            self.request.masks, latencies, recovered, evaluations, floors, tuple(self.about_data(recovered)), zeroed,
        )  # fmt: skip

    def about_data(self, recovered: Recovered | None) -> Iterator[str]:
        """What was fitted and measured on which data."""
        if recovered is not None and recovered.generated:
            yield "Repaired on made-up inputs: give some of your own with --data, which repairs far better."
        elif self.data.fitted is not None and (recovered is not None or "data" in find(self.request.criterion).needs):
            yield f"Fitted on {self.data.fitted.name}."
            if self.data.same and self.request.evaluate:
                yield "Metrics are measured on the same data: they may look better than they are."


def _latencies(
    models: tuple[Model, Model], shapes: tuple[Mapping[str, tuple[int, ...]], ...], request: Request
) -> tuple[Latency, Latency] | None:
    """Times of one made-up example, before and after, in turns; None where the models do not take one."""
    try:
        graphs = (build_graph(m, one_example(m), fixed=s) for m, s in zip(models, shapes, strict=True))
        before, after = compare_latency(
            models, [generate(graph) for graph in graphs],
            runs=RUNS, warmup=WARMUP, seconds=SECONDS, provider=request.provider, threads=request.threads,
        )  # fmt: skip
    except OnnxPruneError:
        return None
    return before, after


def _reached_by(plan: Plan, coupling: Coupling) -> Reached:
    """What a plan comes to, in the words of an allocation."""
    table = CostModel(coupling)
    groups = {g.name: (len(plan.units.get(g.name, ())), g.units) for g in coupling.groups}
    removed, total = plan.removed_units, coupling.units
    if plan.weights and not plan.units:
        removed, total = plan.removed_weights, sum(gone.size for gone in plan.weights.values())
    return Reached(dict(plan.recipe), removed, total, groups, 1, table.before, table.after(plan.units))
