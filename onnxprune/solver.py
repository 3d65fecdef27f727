"""From relations to components: connected components, frozen propagation, and which factor of a merge stays live.

A merged axis can lose elements only in whole slices of one of its factors. Factors that are frozen are out; if one is
left it is that one; otherwise a policy decides (the outermost: whole attention heads; the innermost on request; the
larger one where channels come before space). Merges are settled in rounds: all forced ones at once, then choices that
do not touch each other, and freezing is propagated after each round.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from onnxprune.ops.ties import Merge, Ties
from onnxprune.values import Ints

__all__ = ["Solution", "solve"]

Bools = NDArray[np.bool_]
MERGED = "only whole slices of one factor of a reshaped axis can go, and another factor was chosen"


@dataclass(frozen=True, eq=False)
class Solution:
    """Component per element, which components are frozen and why, and the live factor of every merge (-1: none)."""

    labels: Ints
    frozen: Bools
    reason: Ints  # index into `reasons`, -1 where not frozen
    reasons: tuple[str, ...]
    live: tuple[int, ...]


class _State:
    def __init__(self, total: int, freezes: Sequence[tuple[Ints, str]]) -> None:
        self.total = total
        self.labels = np.arange(total, dtype=np.int64)
        self.reasons: dict[str, int] = {}
        self.reason = np.full(total, -1, np.int64)  # per component
        self.pending: list[tuple[Ints, str]] = list(freezes)
        self.sources: list[Ints] = []
        self.targets: list[Ints] = []

    def tie(self, a: Ints, b: Ints) -> None:
        self.sources.append(a)
        self.targets.append(b)

    def freeze(self, ids: Ints, reason: str) -> None:
        self.pending.append((ids, reason))

    def settle(self) -> None:
        """Contract new ties, then spread new freezes over components; the first reason stays."""
        if self.sources:
            a = self.labels[np.concatenate(self.sources)]
            b = self.labels[np.concatenate(self.targets)]
            n = int(self.labels.max()) + 1 if self.total else 0
            count, joined = connected_components(
                coo_matrix((np.ones(a.size, np.bool_), (a, b)), (n, n)), directed=False
            )
            joined = joined.astype(np.int64)
            old = self.reason
            self.reason = np.full(count, np.iinfo(np.int64).max)
            known = np.flatnonzero(old[:n] >= 0)
            np.minimum.at(self.reason, joined[known], old[known])
            self.reason[self.reason == np.iinfo(np.int64).max] = -1
            self.labels = joined[self.labels]
            self.sources, self.targets = [], []
        for ids, text in self.pending:
            number = self.reasons.setdefault(text, len(self.reasons))
            found = self.labels[ids]
            self.reason[found[self.reason[found] < 0]] = number
        self.pending = []

    def all_frozen(self, ids: Ints) -> bool:
        return bool((self.reason[self.labels[ids]] >= 0).all())


def solve(t: Ties, extra: Sequence[tuple[Ints, str]] = ()) -> Solution:
    """Components of everything the rules said; ``extra`` are further freezes."""
    state = _State(t.total, [*t.frozen, *extra])
    for a, b in zip(t.sources, t.targets, strict=True):
        state.tie(a, b)
    state.settle()
    live = [-2] * len(t.merges)  # -2: undecided
    while any(choice == -2 for choice in live):
        forced = False
        for i, merge in enumerate(t.merges):
            if live[i] == -2:
                candidates = _candidates(state, merge)
                if len(candidates) <= 1:
                    live[i] = _decide(state, merge, candidates)
                    forced = True
        if forced:
            state.settle()
            continue
        _choose_apart(state, t, live)
        state.settle()
    return Solution(state.labels, state.reason >= 0, state.reason, tuple(state.reasons), tuple(live))


def _candidates(state: _State, merge: Merge) -> list[int]:
    if state.all_frozen(merge.merged):
        return []
    return [k for k, ids in enumerate(merge.factors) if not state.all_frozen(ids)]


def _decide(state: _State, merge: Merge, candidates: Sequence[int], choice: int = 0) -> int:
    live = candidates[choice] if candidates else -1
    reason = MERGED if candidates else _why_frozen(state, merge)
    for k, ids in enumerate(merge.factors):
        if k != live:
            state.freeze(ids, reason)
    if live < 0:
        state.freeze(merge.merged, reason)
    else:
        state.tie(merge.merged, merge.factors[live][factor_index(merge, live)])
    return live


def _why_frozen(state: _State, merge: Merge) -> str:
    """The reason of the merged axis, or of its largest factor: freezing travels through a Reshape with its reason."""
    ids = merge.merged if state.all_frozen(merge.merged) else max(merge.factors, key=lambda f: f.size)
    return next(islice(state.reasons, int(state.reason[state.labels[ids[0]]]), None))


def factor_index(merge: Merge, k: int) -> Ints:
    """Position on factor ``k`` for every position of the merged axis."""
    sizes = [f.size for f in merge.factors]
    inner = int(np.prod(sizes[k + 1 :], dtype=np.int64))
    return (np.arange(merge.merged.size) // inner) % sizes[k]


def _choose_apart(state: _State, t: Ties, live: list[int]) -> None:
    """Let the policy decide merges in node order, leaving for the next round those that an earlier choice touches."""
    touched = np.zeros(state.reason.size, np.bool_)
    for i, merge in enumerate(t.merges):
        if live[i] != -2:
            continue
        involved = np.unique(np.concatenate([state.labels[merge.merged], *(state.labels[f] for f in merge.factors)]))
        free = involved[state.reason[involved] < 0]
        if touched[free].any():
            touched[free] = True
            continue
        touched[free] = True
        candidates = _candidates(state, merge)
        live[i] = _decide(state, merge, candidates, _policy(t, merge, candidates))


def _policy(t: Ties, merge: Merge, candidates: Sequence[int]) -> int:
    if not merge.last:
        return int(np.argmax([merge.factors[k].size for k in candidates]))
    return len(candidates) - 1 if t.options.attention == "dims" else 0
