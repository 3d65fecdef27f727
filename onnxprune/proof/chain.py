"""Running original, reference and removed model side by side, piece by piece, and comparing what they compute.

Each piece gets the *original's* activations, so that signals stay healthy at any depth; at removed positions it gets
what the reference computed there (usually 0, but a sigmoid makes 0.5 of it), so that a leak still shows. The removed
model gets the same without the removed positions. A whole model is one piece.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune import runtime
from onnxprune.cuts import Cuts, cut_array, masks
from onnxprune.errors import DataError, ModelError, ProofError
from onnxprune.extract import extract
from onnxprune.graph import Graph
from onnxprune.model import Model
from onnxprune.proof.agreement import as_array, differs, distance, finite, flips
from onnxprune.proof.decisions import FLOATS, Decision, force
from onnxprune.proof.segments import Segment
from onnxprune.weights import type_of

__all__ = ["Chain", "MaskedNotFinite", "OriginalFails", "OriginalNotFinite", "Tally"]

Array = NDArray[Any]
Values = dict[str, Array]
VARIES = 3  # times the tolerance: a tensor that moves less between two inputs cannot show an error
CHANGES = 0.01  # times the tolerance: less than that is no difference between original and masked


class OriginalFails(Exception):
    """The original model does not run on these inputs; ``args[0]`` says why."""


class OriginalNotFinite(Exception):
    """The original gives NaN or Inf; ``args[0]`` is the tensor."""


class MaskedNotFinite(Exception):
    """The reference gives NaN or Inf where the original does not; ``args[0]`` is the tensor."""


@dataclass
class Tally:
    """What the comparison of some runs found, per compared tensor."""

    errors: dict[str, float] = field(default_factory=dict)
    varies: set[str] = field(default_factory=set)
    changed: set[str] = field(default_factory=set)
    effect: float = 0.0
    decisions: int = 0
    flips: int = 0
    steps: int = 0
    provider: str = ""

    def add(self, name: str, error: float) -> None:
        self.errors[name] = max(self.errors.get(name, 0.0), error)

    def join(self, other: Tally) -> None:
        for name, error in other.errors.items():
            self.add(name, error)
        self.varies |= other.varies
        self.changed |= other.changed
        self.effect = max(self.effect, other.effect)
        self.decisions += other.decisions
        self.flips += other.flips
        self.steps = max(self.steps, other.steps)
        self.provider = self.provider or other.provider


@dataclass(frozen=True, eq=False)
class Chain:
    """The models to compare, in the same pieces.

    ``plain``: the masked model without correction, where ``reference`` is a corrected one. ``cuts``: what the removal
    takes from every tensor. ``reached``: the tensors whose values it can change.
    """

    graph: Graph
    original: Model
    reference: Model
    removed: Model
    plain: Model | None
    segments: tuple[Segment, ...]
    cuts: Cuts
    reached: Collection[str]
    decisions: tuple[Decision, ...]
    tolerance: float
    provider: str
    threads: int | None = None

    def run(self, feeds: Sequence[Mapping[str, Array]], *, everything: bool = False) -> Tally:
        """Run all pieces on all feeds; the first two feeds have the same shapes and show what varies.

        ``everything`` compares all floating tensors that the removal reaches, not only outputs.
        """
        tally = Tally()
        state = _State(feeds)
        for number, segment in enumerate(self.segments):
            self._segment(segment, state, tally, everything=everything)
            later = {name for s in self.segments[number + 1 :] for name in s.inputs}
            state.forget(later | set(self.graph.inputs))
        return tally

    def _segment(self, segment: Segment, state: _State, tally: Tally, *, everything: bool) -> None:
        choices = [d for d in self.decisions if _made_in(segment, self._position, d.outputs[0])]
        points = self._points(segment, choices, everything=everything)
        forced = tuple(dict.fromkeys(o for d in choices for o in d.outputs))
        wanted = tuple(dict.fromkeys((*segment.outputs, *points)))
        given = [self._merged(segment, o, m) for o, m in zip(state.original, state.reference, strict=True)]
        original = self._original(segment, wanted, state)
        reference, _ = self._derived("masked", self.reference, segment, (*wanted, *forced), given)
        self._check_finite(segment, reference)
        if self.plain is not None:
            plain, _ = self._derived("masked", self.plain, segment, segment.outputs, given)
            outputs = [o for o in segment.outputs if o in self.reached and o not in forced]
            pairs = [(p[o], r[o]) for p, r in zip(plain, reference, strict=True) for o in outputs if o in p]
            tally.effect = max([tally.effect, *(distance(p, r) for p, r in pairs if finite(p))])
        removed, tally.provider = self._run_removed(segment, wanted, forced, given, reference, state)
        for name in wanted:
            if name not in forced and name in reference[0]:
                self._compare(name, [r[name] for r in reference], [r.get(name) for r in removed], tally)
        for name in set(points) & original[0].keys() & reference[0].keys():
            self._sense(name, original, reference, tally)
        for decision in choices:
            self._count(decision, reference, removed, tally)
        state.advance(original, reference, removed)

    def _original(self, segment: Segment, wanted: Sequence[str], state: _State) -> list[Values]:
        try:
            found, _ = self._run(self.original, segment, wanted, state.original)
        except ModelError as error:
            raise OriginalFails(error.message) from error
        for values in found:
            for name in segment.outputs:
                if not finite(values[name]):
                    raise OriginalNotFinite(name)
        return found

    def _check_finite(self, segment: Segment, reference: Sequence[Values]) -> None:
        for values in reference:
            for name in segment.outputs:
                if name in values and not finite(self._cut(name, values[name])):
                    raise MaskedNotFinite(name)

    def _merged(self, segment: Segment, original: Values, reference: Values) -> Values:
        """The original's values at the survivors, the reference's at the removed positions."""
        merged = {name: original[name] for name in self.graph.inputs if name in original}
        for name in segment.inputs:
            value = np.array(original[name])
            for gone in masks(value.shape, self.cuts.get(name, {})):
                where = np.broadcast_to(gone, value.shape)
                value[where] = reference[name][where]
            merged[name] = value
        return merged

    def _run_removed(
        self,
        segment: Segment,
        wanted: Sequence[str],
        forced: Sequence[str],
        given: Sequence[Values],
        reference: Sequence[Values],
        state: _State,
    ) -> tuple[list[Values], str]:
        feeds = []
        for merged, found, own in zip(given, reference, state.removed, strict=True):
            feed = {n: own[n] if n in self.graph.from_shape else self._cut(n, v) for n, v in merged.items()}
            feeds.append(feed | {n: self._cut(n, found[n]) for n in forced if n in found})
        return self._derived("removed", self.removed, segment, (*wanted, *forced), feeds, forced)

    def _derived(
        self,
        role: str,
        model: Model,
        segment: Segment,
        wanted: Sequence[str],
        feeds: Sequence[Mapping[str, Array]],
        forced: Sequence[str] = (),
    ) -> tuple[list[Values], str]:
        """Run a model that was made from the original, which does run."""
        try:
            return self._run(model, segment, wanted, feeds, forced)
        except (ModelError, DataError) as error:
            raise ProofError(
                f"the {role} model does not run: {error.message}",
                "Leave out the group that does it (--skip NAME); please report it.",
            ) from error

    def _cut(self, name: str, value: Array) -> Array:
        cuts = self.cuts.get(name)
        return cut_array(value, cuts) if cuts else value

    def _run(
        self,
        model: Model,
        segment: Segment,
        wanted: Sequence[str],
        feeds: Sequence[Mapping[str, Array]],
        forced: Sequence[str] = (),
    ) -> tuple[list[Values], str]:
        """Outputs by the original name, and the provider; what this model does not have is left out."""
        made = self._made_by(model)
        outputs = [name for name in dict.fromkeys(wanted) if name in made]
        part = model
        if len(self.segments) > 1:
            part = extract(model, segment.inputs, tuple(outputs), self.graph.dtypes)
        own: dict[str, str] = {}
        if forced:
            part, own = force(part, {n: type_of(feeds[0][n].dtype) for n in forced if n in made and n in feeds[0]})
        if not outputs:
            return [{} for _ in feeds], ""
        names = [own.get(name, name) for name in outputs]
        whole = len(self.segments) == 1  # a piece of a big model is run once, and must not take more than it has to
        session = runtime.session(
            part, outputs=names, provider=self.provider, threads=self.threads, prepack=whole, cache=whole, tf32=False
        )
        needed = {i.name for i in session.inputs}
        results = []
        for feed in feeds:
            found = session.run({name: value for name, value in feed.items() if name in needed})
            results.append({name: as_array(found[own.get(name, name)]) for name in outputs})
        return results, session.provider

    @staticmethod
    def _made_by(model: Model) -> frozenset[str]:
        return frozenset(name for node in model.proto.graph.node for name in node.output if name)

    @cached_property
    def _position(self) -> dict[str, int]:
        """Number of the node that makes each tensor of the main graph."""
        return {name: n for n, node in enumerate(self.graph.model.proto.graph.node) for name in node.output if name}

    def _points(self, segment: Segment, choices: Sequence[Decision], *, everything: bool) -> tuple[str, ...]:
        """The floating tensors to compare in a piece: its outputs, and what its decisions are made on."""
        names = [*segment.outputs, *(f for d in choices for f in d.front)]
        if everything:
            names += self._position
        return tuple(
            name
            for name in dict.fromkeys(names)
            if name in self.reached
            and self.graph.dtypes.get(name) in FLOATS
            and _made_in(segment, self._position, name)
        )

    def _compare(self, name: str, reference: Sequence[Array], removed: Sequence[Array | None], tally: Tally) -> None:
        if name in self.graph.from_shape:
            return
        for a, b in zip(reference, removed, strict=True):
            if b is not None:
                tally.add(name, distance(self._cut(name, a), b))
            elif name in self.graph.outputs:
                tally.add(name, math.inf)

    def _sense(self, name: str, original: Sequence[Values], reference: Sequence[Values], tally: Tally) -> None:
        """Note whether the tensor varies between inputs, and whether the mask changed it."""
        cut = [self._cut(name, r[name]) for r in reference[:2]]
        if len(cut) > 1 and differs(cut[0], cut[1], VARIES * self.tolerance):
            tally.varies.add(name)
        if differs(original[0][name], reference[0][name], CHANGES * self.tolerance):
            tally.changed.add(name)

    def _count(self, decision: Decision, reference: Sequence[Values], removed: Sequence[Values], tally: Tally) -> None:
        for a, b in zip(reference, removed, strict=True):
            for name in decision.outputs:
                if name in a and name in b and a[name].dtype.kind in "biuf":
                    wanted = self._cut(name, a[name])
                    count, gap = flips(wanted, b[name], self.tolerance)
                    tally.decisions += wanted.size
                    tally.flips += count
                    if decision.quantised and wanted.dtype.kind in "iu":
                        tally.steps = max(tally.steps, gap)


def _made_in(segment: Segment, position: Mapping[str, int], name: str) -> bool:
    return segment.first <= position.get(name, -1) <= segment.last


class _State:
    """Values that later pieces need, per feed, of each of the three models."""

    def __init__(self, feeds: Sequence[Mapping[str, Array]]) -> None:
        self.original: list[Values] = [dict(f) for f in feeds]
        self.reference: list[Values] = [dict(f) for f in feeds]
        self.removed: list[Values] = [dict(f) for f in feeds]

    def advance(self, original: Sequence[Values], reference: Sequence[Values], removed: Sequence[Values]) -> None:
        for kept, new in ((self.original, original), (self.reference, reference), (self.removed, removed)):
            for old, found in zip(kept, new, strict=True):
                old.update(found)

    def forget(self, needed: Collection[str]) -> None:
        for kept in (self.original, self.reference, self.removed):
            for values in kept:
                for name in [n for n in values if n not in needed]:
                    del values[name]
