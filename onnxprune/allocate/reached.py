"""What came out of an allocation, beside what was asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from onnxprune.allocate.quantities import Number
from onnxprune.cost import Cost

__all__ = ["Reached", "TargetReached"]


@dataclass(frozen=True)
class TargetReached:
    """One target. ``asked``: as it was given; ``limit``: that as a share of the original; ``share``: what was reached.

    ``before`` and ``after``: parameters, MACs, bytes or milliseconds, in the sizes of the analysis. ``how``:
    "counted", "estimated" or "measured".
    """

    name: str
    asked: Number
    limit: float
    share: float
    before: float
    after: float
    how: str


@dataclass(frozen=True)
class Reached:
    """What an allocation came to, beside what was asked.

    ``removed`` of ``total`` units (or of the single weights that were open to pruning); ``groups``: the same by name.
    ``before`` and ``after``: cost in the sizes of the analysis; None for single weights, whose removal keeps shapes.
    ``targets``: one entry for each that the budget sets.
    """

    asked: Mapping[str, Any]
    removed: int
    total: int
    groups: Mapping[str, tuple[int, int]]
    round_to: int = 1
    before: Cost | None = None
    after: Cost | None = None
    targets: tuple[TargetReached, ...] = ()

    @property
    def ratio(self) -> float:
        """Share removed."""
        return self.removed / self.total if self.total else 0.0

    @property
    def params(self) -> float | None:
        """Share of the parameters kept."""
        return self.after.parameters / self.before.parameters if self.before and self.after else None

    @property
    def macs(self) -> float | None:
        """Share of the MACs kept."""
        return self.after.macs / self.before.macs if self.before and self.after and self.before.macs else None

    def as_dict(self) -> dict[str, Any]:
        """Asked and reached side by side, as JSON can hold them."""
        return {
            "asked": dict(self.asked),
            "reached": {"ratio": self.ratio, "params": self.params, "macs": self.macs},
            "targets": [asdict(target) for target in self.targets],
            "removed": self.removed,
            "total": self.total,
            "round_to": self.round_to,
        }
