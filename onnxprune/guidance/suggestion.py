"""What a suggestion is: what to do, why, what it is expected to do, and what that is known from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from onnxprune.evaluate import kind_of
from onnxprune.guidance.preview import Preview, units_key
from onnxprune.guidance.subject import Subject, Units
from onnxprune.values import Group, Ints

__all__ = [
    "COUNTED",
    "ESTIMATED",
    "MEASURED",
    "Action",
    "Effect",
    "Suggestion",
    "edits_of",
    "listed",
    "made",
    "named",
    "singular",
    "worse",
]

COUNTED, MEASURED, ESTIMATED = "counted", "measured", "estimated"
SHOWN = 5  # unit numbers in a text
FLOOR = 0.25  # of the worth of a suggestion that saves nothing


@dataclass(frozen=True)
class Effect:
    """A figure ``before`` and ``after``. ``basis``: "counted" (exact), "measured" or "estimated"; ``how``: in words."""

    name: str
    before: float
    after: float
    basis: str
    how: str = ""

    @property
    def change(self) -> float:
        """After less before."""
        return self.after - self.before

    @property
    def share(self) -> float | None:
        """The change as a share of before; None where that is 0."""
        return self.change / self.before if self.before else None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "change": self.change, "share": self.share}


@dataclass(frozen=True)
class Action:
    """Something to do other than editing the draft: the action ``name`` on ``step``, as a job takes it."""

    name: str
    step: int
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Suggestion:
    """One thing to do next.

    ``kind``: "dead", "constant", "twin", "unstable", "headroom", "rounding", "share", "ahead", "history" or
    "measure".
    ``units``: group -> units that go. ``edits``: entries of a draft that accept it; ``action``: what to do where it is
    no edit. ``confidence``: how sure it is that accepting it does no harm, 0 to 1. ``worth``: what suggestions are
    ranked by, confidence x (1/4 + the largest share of a cost that is saved).
    """

    kind: str
    title: str
    reason: str
    confidence: float
    units: Mapping[str, tuple[int, ...]] = field(default_factory=dict, hash=False)
    effects: tuple[Effect, ...] = ()
    edits: tuple[Mapping[str, Any], ...] = field(default=(), hash=False)
    action: Action | None = None

    @property
    def worth(self) -> float:
        """What suggestions are ranked by."""
        saved = [-(e.share or 0.0) for e in self.effects if e.name in ("parameters", "macs", "latency")]
        return self.confidence * (FLOOR + max([0.0, *saved]))

    def effect(self, name: str) -> Effect | None:
        """The effect of that name."""
        return next((effect for effect in self.effects if effect.name == name), None)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            **asdict(self),
            "effects": [effect.as_dict() for effect in self.effects],
            "worth": self.worth,
        }


def edits_of(units: Units) -> tuple[dict[str, Any], ...]:
    """Draft entries that remove these units."""
    return tuple({"group": name, "remove": [int(n) for n in gone]} for name, gone in units.items() if len(gone))


def listed(numbers: Sequence[int]) -> str:
    """``3, 7, 9 and 12 more``."""
    shown = ", ".join(str(int(n)) for n in numbers[:SHOWN])
    return shown if len(numbers) <= SHOWN else f"{shown} and {len(numbers) - SHOWN} more"


def singular(group: Group, count: int) -> str:
    """What units of a group are called: one filter, two filters."""
    return group.kind[:-1] if count == 1 and group.kind.endswith("s") else group.kind


def named(group: Group, units: Ints) -> str:
    """``Filter 3``, or ``Filters 3, 7 and 2 more``."""
    return f"{singular(group, len(units)).capitalize()} {listed(units.tolist())}"


def made(
    about: Subject,
    suggestion: Suggestion,
    wanted: Units,
    known: Mapping[str, Preview],
    *,
    loss: float,
    expected: tuple[Effect, ...] = (),
) -> Suggestion | None:
    """The suggestion with what really goes, and its effects; None where nothing can go.

    ``known``: previews by key; where this very plan was measured, that takes the place of what is ``expected``. One
    that was measured to cost more than ``loss`` is much less sure.
    """
    edits = edits_of(wanted)
    units = about.resolve(edits)
    if units is None:
        return None
    after = about.costs.after(units)
    effects = [
        Effect("parameters", about.before.parameters, after.parameters, COUNTED),
        Effect("macs", about.before.macs, after.macs, COUNTED),
    ]
    preview = known.get(units_key(units))
    reason, confidence = suggestion.reason, suggestion.confidence
    if preview is not None:
        how = f"on {preview.samples} samples, before any training"
        effects.append(Effect(preview.metric, preview.baseline, preview.value, MEASURED, how))
        expected = tuple(effect for effect in expected if effect.name != preview.metric)
        cost = worse(preview.metric, preview.value - preview.baseline)
        confidence = max(confidence, 0.9) if cost <= loss else min(confidence, 0.5 * loss / max(cost, 1e-9))
        if cost > loss:
            reason += f" But tried out, it cost {cost:.2%} of {preview.metric}: fine-tune after it, or take less."
    return replace(
        suggestion, reason=reason, confidence=confidence, edits=edits, effects=(*effects, *expected),
        units={name: tuple(int(n) for n in gone) for name, gone in units.items()},
    )  # fmt: skip


def worse(metric: str, change: float) -> float:
    """How much worse a change of a metric is (below 0: better); one without a direction counts any change."""
    kind = kind_of(metric)
    direction = "higher" if kind is None else kind.direction
    return {"higher": -change, "lower": change}.get(direction, abs(change))
