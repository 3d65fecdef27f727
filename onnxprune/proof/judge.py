"""The proof that a removal did what it says: masked and removed model agree on real runs, and the runs say something.

    error = max over outputs of max|masked - removed| / max(max|masked|, 1e-6)

It counts only if every compared output varies between inputs, and the masked model differs from the original when
units with non-zero weights went. Otherwise it is tried again with inputs x 0.1 and x 10, and after that the models
are compared at the last tensors in front of the outputs that do vary.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.cuts import Cuts, cuts_of
from onnxprune.errors import ProofError
from onnxprune.extract import reached_from
from onnxprune.graph import Graph
from onnxprune.model import Model
from onnxprune.plan import Plan
from onnxprune.proof.agreement import finite
from onnxprune.proof.chain import Chain, MaskedNotFinite, OriginalFails, OriginalNotFinite, Tally
from onnxprune.proof.corrected import correct
from onnxprune.proof.decisions import FLOATS, bypass, decisions
from onnxprune.proof.feeds import Data, Feeds, feeds_to_try, scaled
from onnxprune.proof.precision import FLOAT, float32_copy, uses_bfloat16
from onnxprune.proof.segments import Segment, split, whole
from onnxprune.proof.sense import Sense, loses_something, required
from onnxprune.proof.verdict import Proof
from onnxprune.surgery import mask
from onnxprune.values import Coupling

__all__ = ["BIG", "memory_needed", "prove"]

BIG = 1_500_000_000  # bytes of weights from which on a model is proven in pieces
SCALES = (0.1, 10.0)
TOLERANCE = {np.dtype(np.float16): 1e-2}
DEFAULT_TOLERANCE = 1e-5
COPIES = 2  # of the weights in work, while a session is made of them
FEW_FLIPS, MOST_FLIPS = 2, 0.01  # decisions that may come out differently: their number, or their share
OVERHEAD = 150_000_000  # bytes of onnxruntime itself and of activations
NO_VERIFY = "Repair them, or write the file unproven with --no-verify."


def prove(  # noqa: PLR0913 - what is compared, and how it is run
    model: Model,
    coupling: Coupling,
    plan: Plan,
    removed: Model,
    *,
    data: Data | None = None,
    seed: int = 0,
    provider: str = "auto",
    threads: int | None = None,
    big: bool | None = None,
) -> Proof:
    """Compare ``removed`` with the masked model (the corrected one where inexact groups lose units).

    ``data``: input name -> array of samples, or an iterable of feeds; else inputs are made up from ``seed``.
    ``provider``: "auto" is the CPU, which rounds in the same way at every run; on a GPU nothing is rounded to TF32.
    ``threads``: None leaves their number to onnxruntime. Models with more than 1.5 GB of weights, or with ``big``, are
    run piece by piece. A comparison that fails is a Proof that is not ``ok`` (see ``assert_proven``). Raises ProofError
    where nothing can be compared: the original gives NaN or Inf or does not run, the removed model does not run, an
    inexact group has no corrected form.
    """
    start = time.perf_counter()
    device = "cpu" if provider == "auto" else provider
    case = _Case(model, coupling, plan, removed, seed, data, device, threads, _is_big(model, big))
    try:
        proof = _judge(case)
    except MaskedNotFinite:
        softer = replace(coupling, groups=tuple(replace(g, hazard=True) for g in coupling.groups))
        note = "zeros upstream made NaN or Inf: only what reads the removed units was zeroed"
        try:
            proof = _judge(replace(case, coupling=softer, notes=(note,)))
        except MaskedNotFinite as error:
            proof = _not_finite(str(error))
    return replace(proof, seconds=time.perf_counter() - start)


def memory_needed(model: Model, coupling: Coupling, plan: Plan, *, big: bool | None = None) -> int:
    """Bytes that a proof takes at its peak, estimated: the pieces that the model falls into decide."""
    graph: Graph = coupling.graph
    if not _is_big(model, big):
        return _peak(whole(graph))
    return _peak(split(graph, _reached(graph, cuts_of(coupling, plan.units), plan), ()))


def _is_big(model: Model, big: bool | None) -> bool:
    return model.nbytes > BIG if big is None else big


def _peak(segments: tuple[Segment, ...]) -> int:
    return COPIES * max(s.nbytes for s in segments) + OVERHEAD


def _reached(graph: Graph, cuts: Cuts, plan: Plan) -> frozenset[str]:
    return reached_from(graph, {*cuts, *plan.weights})


@dataclass(frozen=True, eq=False)
class _Case:
    """What is to be proven, and on what."""

    model: Model
    coupling: Coupling
    plan: Plan
    removed: Model
    seed: int
    data: Data | None
    provider: str
    threads: int | None
    big: bool
    notes: tuple[str, ...] = ()

    @property
    def graph(self) -> Graph:
        graph: Graph = self.coupling.graph
        return graph


@dataclass(frozen=True, eq=False)
class _Findings:
    """What the runs showed. ``frontier``: the last tensors that vary, where outputs say nothing (``vacuous``)."""

    tally: Tally
    feeds: Feeds
    vacuous: bool = False
    silent: bool = False
    frontier: tuple[str, ...] = ()


def _judge(case: _Case) -> Proof:
    *free, chain = _chains(case)
    feeds, tally = _first_run(case, chain)
    sense = Sense(chain, required(chain), bool(chain.reached) and loses_something(case.coupling, case.plan))
    for factor in SCALES:
        if sense.counts(tally):
            break
        try:
            tally.join(chain.run(scaled(feeds, factor)))
        except (OriginalFails, OriginalNotFinite, MaskedNotFinite):
            continue
    findings = _Findings(tally, feeds)
    if not sense.counts(tally):
        inner = _of_everything(chain, feeds)
        frontier = sense.last_that_count(tally, inner)
        tally.join(Tally({name: inner.errors[name] for name in frontier}))
        silent = not frontier and not sense.says_something(tally)
        findings = _Findings(tally, feeds, True, silent, frontier)
    for unquantised in free:
        try:
            errors = unquantised.run(feeds).errors
        except (OriginalFails, OriginalNotFinite) as problem:
            case = replace(case, notes=(*case.notes, f"without quantisation the model does not run: {problem}"))
            continue
        for name, error in errors.items():
            tally.add(name, error)
    return _verdict(case, chain, findings)


def _of_everything(chain: Chain, feeds: Feeds) -> Tally:
    """A tally of all tensors; an empty one where onnxruntime cannot show them."""
    try:
        return chain.run(feeds[:2], everything=True)
    except OriginalFails:
        return Tally()


def _chains(case: _Case) -> list[Chain]:
    """The comparison as it is, last; in front of it, for a quantised model, the one without its Q/DQ pairs."""
    graph, plan = case.graph, case.plan
    cuts = cuts_of(case.coupling, plan.units)
    models = {"original": case.model, "plain": mask(case.model, case.coupling, plan), "removed": case.removed}
    coupling = case.coupling
    if uses_bfloat16(case.model):
        models = {role: float32_copy(m) for role, m in models.items()}
        graph = replace(graph, dtypes={t: FLOAT if d in FLOATS else d for t, d in graph.dtypes.items()})
        coupling = replace(coupling, graph=graph)
    models["reference"] = correct(models["plain"], coupling, plan)
    reached = _reached(graph, cuts, plan)
    pieces = split(graph, reached, (models["reference"], models["removed"])) if case.big else whole(graph)
    chain = Chain(
        graph=graph,
        original=models["original"],
        reference=models["reference"],
        removed=models["removed"],
        plain=None if models["reference"] is models["plain"] else models["plain"],
        segments=pieces,
        cuts=cuts,
        reached=reached,
        decisions=decisions(graph, reached),
        tolerance=_tolerance(models["original"]),
        provider=case.provider,
        threads=case.threads,
    )
    reference, gone = bypass(chain.reference)
    if not gone:
        return [chain]
    free = replace(
        chain,
        original=bypass(chain.original)[0],
        reference=reference,
        removed=bypass(chain.removed)[0],
        plain=None,
        decisions=tuple(d for d in chain.decisions if not gone.intersection(d.outputs)),
    )
    return [free, chain]


def _tolerance(model: Model) -> float:
    return max((TOLERANCE.get(w.dtype, DEFAULT_TOLERANCE) for w in model.weights.values()), default=DEFAULT_TOLERANCE)


def _first_run(case: _Case, chain: Chain) -> tuple[Feeds, Tally]:
    reason = "there are no inputs to try"
    for feeds in feeds_to_try(chain.graph, case.data, case.seed):
        try:
            return feeds, chain.run(feeds)
        except OriginalFails as error:
            reason = str(error)
        except OriginalNotFinite as error:
            bad = [name for name, w in case.model.weights.items() if not finite(w.array())]
            where = f"weights with NaN or Inf: {', '.join(bad)}" if bad else "its weights are finite"
            raise ProofError(f"the original model gives NaN or Inf at `{error}` ({where})", NO_VERIFY) from error
    what = "made-up inputs" if case.data is None else "these data"
    hint = "Give data that it takes: --data FILE.npz, or --shape NAME=1,3,224,224."
    raise ProofError(f"the original model does not run on {what}: {reason}", hint)


def _verdict(case: _Case, chain: Chain, findings: _Findings) -> Proof:
    tally = findings.tally
    worst = max(tally.errors, key=lambda n: tally.errors[n], default="")
    error = tally.errors.get(worst, 0.0)
    inside = [name for name in tally.errors if name not in case.graph.outputs]
    notes = list(case.notes)
    if findings.vacuous and not findings.silent:
        where = f": compared at {_listed(findings.frontier)}" if findings.frontier else ""
        notes.append(f"an output does not vary, or does not notice the removal{where}")
    if tally.flips:
        notes.append(f"{tally.flips} of {tally.decisions} decisions differ")
    reason = _reason(worst, error, chain.tolerance, findings)
    return Proof(
        ok=not reason,
        error=error,
        tolerance=chain.tolerance,
        outputs=tuple(o for o in case.graph.outputs if o in tally.errors),
        compared_at=tuple(dict.fromkeys((*findings.frontier, *inside))),
        worst=worst,
        batches=tuple(_batch(feed) for feed in findings.feeds),
        vacuous=findings.vacuous,
        renormalisation_effect=tally.effect if chain.plain is not None else None,
        decisions=tally.decisions,
        flips=tally.flips,
        steps=tally.steps,
        segments=len(chain.segments),
        notes=tuple(notes),
        reason=reason,
        seconds=0.0,
        provider=tally.provider,
        memory_bytes=_peak(chain.segments),
    )


def _reason(worst: str, error: float, tolerance: float, findings: _Findings) -> str:
    """Why the removal is not proven, "" if it is."""
    if error > tolerance:
        how = "NaN, Inf or another shape" if math.isinf(error) else f"an error of {error:.2g}"
        return f"{how} at `{worst}`, where {tolerance:g} is allowed"
    if findings.tally.steps > 1:
        return f"quantised numbers differ by {findings.tally.steps} steps, where 1 is allowed"
    if findings.tally.flips > max(FEW_FLIPS, MOST_FLIPS * findings.tally.decisions):
        return f"{findings.tally.flips} of {findings.tally.decisions} decisions differ, too many to be ties"
    if findings.silent:
        return "nothing that the removal reaches varies between inputs, so the comparison says nothing"
    return ""


def _not_finite(tensor: str) -> Proof:
    return Proof(
        ok=False, error=math.inf, tolerance=DEFAULT_TOLERANCE, outputs=(), compared_at=(), worst=tensor, batches=(),
        vacuous=False, renormalisation_effect=None, decisions=0, flips=0, steps=0, segments=1, notes=(),
        reason=f"the masked model gives NaN or Inf at `{tensor}`", seconds=0.0, provider="", memory_bytes=0,
    )  # fmt: skip


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{n}`" for n in names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _batch(feed: Mapping[str, NDArray[Any]]) -> int:
    return next((value.shape[0] for value in feed.values() if value.ndim), 1)
