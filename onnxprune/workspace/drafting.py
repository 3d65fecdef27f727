"""What the entries of a draft come to: for every unit whether it goes, and what made it go or stay.

Three things say whether a unit goes, and each has its own rule for later entries:

* *by score*: the last threshold that holds for the group takes the place of all earlier ones, so that units come back
  when it moves back; a ratio adds the lowest units of a group to what goes; a share of a group's own takes the place of
  both for that group, until it is lifted;
* *a lock* leaves a group to what is done by hand;
* *by hand* (``remove``, ``restore``) stays on top of thresholds, shares and locks, whichever came first. A ratio that
  comes after a ``restore`` takes the unit again.

In the end constraints are kept. Where blocks must lose equally many (both directions of a recurrence, the groups of a
convolution), fewer go, lowest scores first; if more than that were removed by hand, the other blocks lose as many where
they can. A group never loses its last unit: the highest score stays. What changed for such a reason is told in
``notes``.

The ``scale`` of an entry says what its number is compared with; lower than it goes, equal stays:

* "score": as the criterion gives it
* "layer": divided by the L2 norm over the group (C26 of CNNPruner's sensitivity; arXiv:1611.06440)
* "largest": divided by the largest of the group
* "rank": place in the group, (k + 1/2) / units for the k-th lowest, equal scores in the order of their units
* "model-rank": place among all units of the model, likewise

``scores`` of an entry names the kept scores that it was made with, so that a replay takes the same ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.allocate.balance import Cells, Cluster, Limit, Steps, cells_of, fit
from onnxprune.criteria import Settings, score
from onnxprune.criteria.scale import scaled
from onnxprune.errors import DataError, GroupNotFound, OptionError
from onnxprune.model import Model
from onnxprune.values import Coupling, Ints

__all__ = [
    "SCALES", "DraftState", "Scores", "Source", "between", "draft_state", "on_scale", "scored_by", "take_weights",
]  # fmt: skip

Mask = NDArray[np.bool_]
Floats = NDArray[np.float64]
Scores = Mapping[str, Floats]
Source = Callable[[Mapping[str, Any]], Scores]
"""The scores that an entry speaks of: group name -> score for each unit."""

SCALES = ("score", "layer", "largest", "rank", "model-rank")
NONE, REMOVED, RESTORED = 0, 1, 2
PIECE = 1 << 16  # weights looked at in one go, so few that they stay near the processor


@dataclass(frozen=True, eq=False)
class DraftState:
    """Masks by group, True where it holds for the unit.

    ``gone``: what goes in the end. ``automatic``: by score, with locks; ``by_hand`` and ``restored``: what a person
    said of single units. ``added``, ``kept``: changed by constraints. ``fixed``: the part of ``automatic`` that no
    threshold changes. ``locked``: groups. ``shares``: group -> share of its own. ``threshold``: the last entry that set
    one for all groups, None where there is none. ``weights``: name -> mask of its shape. ``notes``: what constraints
    changed, in words.
    """

    gone: Mapping[str, Mask]
    automatic: Mapping[str, Mask]
    by_hand: Mapping[str, Mask]
    restored: Mapping[str, Mask]
    added: Mapping[str, Mask]
    kept: Mapping[str, Mask]
    fixed: Mapping[str, Mask]
    locked: frozenset[str] = frozenset()
    shares: Mapping[str, float] = field(default_factory=dict)
    threshold: Mapping[str, Any] | None = None
    weights: Mapping[str, Mask] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def empty(self) -> bool:
        """Whether nothing was said, or nothing that counts any longer."""
        marks = (self.gone, self.restored, self.automatic)
        plain = not any(mask.any() for masks in marks for mask in masks.values())
        return plain and self.threshold is None and not (self.locked or self.shares or self.weights)

    @property
    def units(self) -> int:
        """How many go."""
        return sum(int(mask.sum()) for mask in self.gone.values())


def scored_by(model: Model, coupling: Coupling, settings: Settings | None = None) -> Source:
    """Scores computed when an entry asks for them, once for each criterion, from the data in ``settings``."""
    found: dict[str, Scores] = {}

    def source(edit: Mapping[str, Any]) -> Scores:
        name = str(edit["criterion"])
        if name not in found:
            found[name] = score(model, coupling, name, settings or Settings())
        return found[name]

    return source


def on_scale(scores: Scores, scale: str) -> dict[str, Floats]:
    """Scores as thresholds of this scale see them. Raises OptionError."""
    if scale not in SCALES:
        raise OptionError(f"scale: got {scale!r}, expected one of {', '.join(SCALES)}", "Leave it out.")
    if scale == "layer":
        return scaled(scores, "layer")
    if scale == "largest":
        return {name: _of_largest(values) for name, values in scores.items()}
    if scale == "rank":
        return {name: _places(values) for name, values in scores.items()}
    if scale == "model-rank":
        ends = np.cumsum([values.size for values in scores.values()])
        flat = _places(np.concatenate([np.zeros(0), *scores.values()]))
        return dict(zip(scores, np.split(flat, ends[:-1]), strict=True)) if scores else {}
    return {name: np.asarray(values, np.float64) for name, values in scores.items()}


def _of_largest(values: Floats) -> Floats:
    largest = float(np.max(values, initial=0.0, where=np.isfinite(values)))
    return values / largest if largest > 0 else values.copy()


def _places(values: Floats) -> Floats:
    place = np.empty(values.size)
    place[np.argsort(values, kind="stable")] = np.arange(values.size) + 0.5
    return place / max(values.size, 1)


def draft_state(
    model: Model, coupling: Coupling, edits: Sequence[Mapping[str, Any]], scores: Source | None = None,
    cells: Cells | None = None,
) -> DraftState:  # fmt: skip
    """Work the entries out, those that were undone left out by the caller.

    ``scores``: what entries with a criterion speak of, computed where it is not given. ``cells``: of the coupling, for
    those who ask often. Raises OptionError and GroupNotFound for an edit that does not fit the model.
    """
    marks = _Marks(model, coupling, scores or scored_by(model, coupling))
    for edit in edits:
        if "clear" in edit:
            marks = _Marks(model, coupling, marks.source)
        else:
            marks.take(edit)
    return marks.state(cells)


class _Marks:
    """Flat arrays over the units of all groups, one group after the other."""

    def __init__(self, model: Model, coupling: Coupling, source: Source) -> None:
        self.model, self.coupling, self.source = model, coupling, source
        sizes = np.array([group.units for group in coupling.groups], np.int64)
        self.starts = np.cumsum([0, *sizes])
        self.group = np.repeat(np.arange(sizes.size), sizes)
        total = int(self.starts[-1])
        self.below, self.lowest, self.share = (np.zeros(total, np.bool_) for _ in range(3))
        self.hand = np.zeros(total, np.int8)
        self.scores = np.zeros(total)  # of the last entry that had some: the order in which constraints take
        self.locked: set[str] = set()
        self.shares: dict[str, float] = {}
        self.threshold: Mapping[str, Any] | None = None
        self.weights: dict[str, Mask] = {}

    def span(self, name: str) -> slice:
        number = self.coupling.by_name.get(name)
        if number is None:
            known = ", ".join(self.coupling.by_name) or "none"
            raise GroupNotFound(f"there is no group {name!r}", f"Groups: {known}.")
        return slice(int(self.starts[number]), int(self.starts[number + 1]))

    def take(self, edit: Mapping[str, Any]) -> None:
        """One entry more."""
        if "weight" in edit:
            self._weight(edit)
        elif "lock" in edit:
            self.span(str(edit["group"]))
            (self.locked.add if edit["lock"] else self.locked.discard)(str(edit["group"]))
        elif "criterion" in edit or "share" in edit:
            self._by_score(edit)
        else:
            places = _places_of(edit, str(edit["group"]), self.hand[self.span(str(edit["group"]))].size)
            self.hand[self.span(str(edit["group"]))][places] = REMOVED if "remove" in edit else RESTORED

    def _weight(self, edit: Mapping[str, Any]) -> None:
        name = str(edit["weight"])
        if name not in self.model.weights:
            raise OptionError(f"the model has no weight {name!r}", f"Weights: {', '.join(self.model.weights)}.")
        weight = self.model.weights[name]
        take_weights(self.weights.setdefault(name, np.zeros(weight.shape, np.bool_)), edit, weight.array)

    def _by_score(self, edit: Mapping[str, Any]) -> None:
        one = edit.get("group")
        span = slice(0, self.group.size) if one is None else self.span(str(one))
        if edit.get("share", 0) is None:
            self.share[span] = False
            self.shares.pop(str(one), None)
            return
        values = self._values(edit)
        self.scores[span] = values[span]
        if "threshold" in edit:
            self.below[span] = values[span] < edit["threshold"]
            self.threshold = edit if one is None else self.threshold
        elif "share" in edit:
            self.shares[str(one)] = float(edit["share"])
            self.share[span] = False
            self.share[span][_lowest(values[span], edit["share"])] = True
        else:
            for name in self.coupling.by_name if one is None else (str(one),):
                part = self.span(name)
                taken = _lowest(values[part], edit["ratio"])
                self.lowest[part][taken] = True
                hand = self.hand[part]
                hand[taken[hand[taken] == RESTORED]] = NONE

    def _values(self, edit: Mapping[str, Any]) -> Floats:
        """NaN, which no threshold takes, for units that the scores say nothing of."""
        found = on_scale(self.source(edit), str(edit.get("scale", SCALES[0])))
        flat = np.full(self.group.size, np.nan)
        for name, values in found.items():
            if name not in self.coupling.by_name:
                continue
            if values.shape != flat[self.span(name)].shape:
                raise DataError(
                    f"the scores of group {name!r}: got {values.size}, expected {flat[self.span(name)].size}",
                    "Measure this model again.",
                )
            flat[self.span(name)] = values
        return flat

    def state(self, cells: Cells | None) -> DraftState:
        """What it comes to."""
        own = self._groups(self.shares)
        shut = self._groups(self.locked)
        fixed = np.where(own, self.share, self.lowest) & ~shut
        automatic = (fixed | (self.below & ~own)) & ~shut
        wanted = (self.hand == REMOVED) | (automatic & (self.hand != RESTORED))
        kept = _Constraints(self.coupling, cells, self.hand, self.scores, self.group, self.starts)
        gone, notes = kept.hold(wanted)
        masks = {
            "gone": gone, "automatic": automatic, "by_hand": self.hand == REMOVED, "restored": self.hand == RESTORED,
            "added": gone & ~wanted, "kept": wanted & ~gone, "fixed": fixed,
        }  # fmt: skip
        return DraftState(
            **{word: self._split(mask) for word, mask in masks.items()}, locked=frozenset(self.locked),
            shares=dict(self.shares), threshold=self.threshold, weights=dict(self.weights), notes=notes,
        )  # fmt: skip

    def _groups(self, names: Mapping[str, float] | set[str]) -> Mask:
        """Whether the group of each unit is one of these."""
        chosen = np.array([group.name in names for group in self.coupling.groups], np.bool_)
        return np.asarray(chosen[self.group], np.bool_)

    def _split(self, mask: Mask) -> dict[str, Mask]:
        return {group.name: mask[self.span(group.name)] for group in self.coupling.groups}


def _places_of(edit: Mapping[str, Any], name: str, size: int) -> Ints:
    places = np.asarray(edit["remove" if "remove" in edit else "restore"], np.int64)
    if places.size and places.max() >= size:
        raise OptionError(f"`{name}` has no number {places.max()}", f"Its numbers are 0 to {size - 1}.")
    return places


def take_weights(mask: Mask, edit: Mapping[str, Any], values: Callable[[], NDArray[Any]]) -> None:
    """Put an entry about single weights on top of what others took. ``mask``, of the weight's shape, is changed.

    ``values``: of the weight, asked for by magnitudes only. Raises OptionError for a place that it does not have.
    """
    flat, removes, name = mask.reshape(-1), "remove" in edit, str(edit["weight"])
    flat[_places_of(edit, name, flat.size)] = removes
    for start, stop in edit.get("ranges") or ():
        if stop > flat.size:
            raise OptionError(f"`{name}` has no number {stop - 1}", f"Its numbers are 0 to {flat.size - 1}.")
        flat[start:stop] = removes
    if edit.get("magnitude") is not None:
        for start, taken in between(values().reshape(-1), *edit["magnitude"]):
            piece = flat[start : start + PIECE]
            if removes:
                piece |= taken
            else:
                piece &= ~taken


def between(values: NDArray[Any], low: float, high: float | None) -> Iterator[tuple[int, Mask]]:
    """Where low <= |value| < high, piece by piece, so that no copy of a large weight is made."""
    for start in range(0, values.size, PIECE):
        size = np.abs(np.asarray(values[start : start + PIECE], np.float32))
        taken = size >= low
        yield start, taken if high is None else taken & (size < high)


def _lowest(values: Floats, ratio: float) -> Ints:
    return np.argsort(values, kind="stable")[: int(ratio * values.size)]


@dataclass(frozen=True, eq=False)
class _Constraints:
    """Makes a choice one that can be carried out."""

    coupling: Coupling
    given: Cells | None
    hand: NDArray[np.int8]
    scores: Floats
    group: Ints
    starts: Ints

    @cached_property
    def cells(self) -> Cells | None:
        """None where nothing ties groups together."""
        if not self.coupling.constraints:
            return None
        return self.given or cells_of(self.coupling)

    def hold(self, wanted: Mask) -> tuple[Mask, tuple[str, ...]]:
        """What goes, and in words where that is not what was wanted."""
        gone, notes = wanted.copy(), []
        for cluster in () if self.cells is None else self.cells.clusters:
            notes += self._balance(self.cells, cluster, wanted, gone)  # type: ignore[arg-type]
        for number, group in enumerate(self.coupling.groups):
            span = slice(int(self.starts[number]), int(self.starts[number + 1]))
            if gone[span].all():
                gone[span.start + self._order(span, gone)[-1]] = False
                notes.append(f"{group.name}: the last of its {group.kind} stays")
        return gone, tuple(notes)

    def _order(self, units: slice | Ints, wanted: Mask) -> Ints:
        """Who goes first: by hand, then what is wanted, then lowest scores; what was brought back goes last."""
        hand = self.hand[units]
        return np.lexsort((self.scores[units], ~wanted[units], hand != REMOVED, hand == RESTORED))

    def _balance(self, cells: Cells, cluster: Cluster, wanted: Mask, gone: Mask) -> list[str]:
        """Choose units of one cluster so that its constraints hold."""
        count = cells.size.size
        of = {name: np.bincount(cells.cell[mask], minlength=count)[cluster.cells] for name, mask in (
            ("wanted", wanted), ("asked", self.hand == REMOVED), ("held", self.hand == RESTORED),
        )}  # fmt: skip
        if not of["wanted"].any():
            return []
        numbers = _fitting(cluster, [self.coupling.groups[g].units for g in cluster.groups], **of)
        for cell, many in zip(cluster.cells.tolist(), numbers.tolist(), strict=True):
            units = np.flatnonzero(cells.cell == cell)
            gone[units] = False
            gone[units[self._order(units, wanted)[:many]]] = True
        return self._told(cluster, wanted, gone)

    def _told(self, cluster: Cluster, wanted: Mask, gone: Mask) -> list[str]:
        told = []
        for number in cluster.groups:
            group, mine = self.coupling.groups[number], self.group == number
            more, less = int((gone & ~wanted & mine).sum()), int((wanted & ~gone & mine).sum())
            words = [f"{more} more {group.kind} go" if more else "", f"{less} stay" if less else ""]
            if more or less:
                changes = " and ".join(filter(None, words))
                told.append(f"{group.name}: {changes}, so that all blocks lose equally many")
        return told


def _fitting(cluster: Cluster, sizes: Sequence[int], *, wanted: Ints, asked: Ints, held: Ints) -> Ints:
    """Units to remove per cell: up to as many as are wanted; as many more as what was asked by hand needs."""
    steps = [Steps(size, 1, 1) for size in sizes]
    stay = [Limit(np.arange(held.size) == k, int(cluster.size[k] - held[k])) for k in np.flatnonzero(held).tolist()]
    everywhere = np.ones(wanted.size, np.bool_)
    found = fit(cluster, wanted, [*stay, Limit(everywhere, int(wanted.sum()))], steps)
    if (found >= asked).all():
        return found
    level = np.minimum(np.full_like(wanted, int(asked.max())), cluster.size)
    more = fit(cluster, level, [*stay, Limit(everywhere, int(level.sum()))], steps)
    return more if (more >= asked).all() else found
