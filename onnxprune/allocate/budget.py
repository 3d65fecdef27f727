"""What is asked for, and what came out of it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from difflib import get_close_matches
from math import floor, isfinite
from typing import Any

from onnxprune.cost import Cost
from onnxprune.errors import GroupNotFound, OptionError

__all__ = ["SCOPES", "Budget", "Reached", "check_names", "share", "target"]

SCOPES = ("local", "global")
SUFFIXES = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9}
TARGET = re.compile(r"(?P<number>\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?(?P<suffix>[KMG]?)", re.IGNORECASE)

Number = float | int | str


@dataclass(frozen=True)
class Budget:
    """How much is to go.

    ``ratio``: share of the units (or single weights) that are removed: floor(ratio * n) of each group with ``scope``
    "local", of all together, by one threshold, with "global". ``group_ratios`` overrides it by name; ``skip`` names
    what stays whole. Or ``target_params`` / ``target_macs``: what is *kept*, as a share of the original between 0
    and 1, or as an absolute number ("2.5M"); both may be given, and both then hold.

    ``round_to``: each group keeps a multiple of so many channels, rounded up; None stands for the step that suits
    this machine (`alignment.default_step`), 1 for no rounding. ``include_biases``: single weights are chosen from
    biases and norms as well.

    Raises OptionError for a value that makes no sense.
    """

    ratio: float | None = None
    scope: str = "local"
    group_ratios: Mapping[str, float] = field(default_factory=dict)
    skip: Sequence[str] = ()
    round_to: int | None = None
    target_params: Number | None = None
    target_macs: Number | None = None
    include_biases: bool = False

    def __post_init__(self) -> None:
        if self.scope not in SCOPES:
            raise OptionError(f"scope: got {self.scope!r}, expected {' or '.join(SCOPES)}", "The default is local.")
        for name, ratio in (("ratio", self.ratio), *((f"ratio of {g!r}", r) for g, r in self.group_ratios.items())):
            _check_ratio(name, ratio)
        if self.round_to is not None and (int(self.round_to) != self.round_to or self.round_to < 1):
            raise OptionError(f"round_to: got {self.round_to}, expected 1 or more", "1 means exactly the ratio asked.")
        if self.ratio is not None and self.has_target:
            raise OptionError("both a ratio and a target are given", "Give one of them.")
        if self.ratio is None and not self.has_target and not self.group_ratios:
            raise OptionError("no ratio and no target is given", "Say how much is to go, for example a ratio of 0.5.")
        for name in ("target_params", "target_macs"):
            target(name, getattr(self, name))

    @property
    def has_target(self) -> bool:
        return self.target_params is not None or self.target_macs is not None

    def ratio_of(self, name: str) -> float | None:
        """The ratio that is set for one group or weight; None where the scope or the target decides."""
        if name in self.skip:
            return 0.0
        if name in self.group_ratios:
            return self.group_ratios[name]
        if self.has_target:
            return None
        if self.ratio is None:
            return 0.0
        return self.ratio if self.scope == "local" else None

    def as_dict(self) -> dict[str, Any]:
        """What was set, for a plan's recipe."""
        values = {k: v for k, v in asdict(self).items() if v not in (None, (), [], {}, False)}
        if self.has_target or self.ratio is None:
            values.pop("scope", None)
        return values


@dataclass(frozen=True)
class Reached:
    """What an allocation came to, beside what was asked.

    ``removed`` of ``total`` units (or of the single weights that were open to pruning); ``groups``: the same by name.
    ``before`` and ``after``: cost in the sizes of the analysis; None for single weights, whose removal keeps shapes.
    """

    asked: Mapping[str, Any]
    removed: int
    total: int
    groups: Mapping[str, tuple[int, int]]
    round_to: int = 1
    before: Cost | None = None
    after: Cost | None = None

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
            "removed": self.removed,
            "total": self.total,
            "round_to": self.round_to,
        }


def share(ratio: float, count: int) -> int:
    """floor(ratio * count), forgiving what binary fractions do to 0.29 * 100."""
    return floor(ratio * count + 1e-9)


def target(name: str, value: Number | None) -> tuple[float | None, int | None]:
    """A target as (share kept, absolute number kept); one of the two, or neither, is None. Raises OptionError."""
    if value is None:
        return None, None
    found = TARGET.fullmatch(str(value).strip())
    if found is None:
        raise _bad_target(name, value)
    suffix = found["suffix"].upper()
    number = float(str(value).strip()[: -len(suffix) or None]) * SUFFIXES[suffix]
    if number >= 1 and number != 1:
        return None, int(number)
    if suffix or not 0 < number < 1:
        raise _bad_target(name, value)
    return number, None


def check_names(names: Iterable[str], known: Iterable[str], what: str = "group") -> None:
    """Raise GroupNotFound, offering the nearest names, unless all names are known."""
    known = list(known)
    for name in names:
        if name not in known:
            near = get_close_matches(name, known, cutoff=0.4)
            hint = f"Nearest: {', '.join(near)}." if near else "`onnxprune inspect` lists the groups."
            raise GroupNotFound(f"the model has no {what} {name!r}", hint)


def _bad_target(name: str, value: Number) -> OptionError:
    return OptionError(
        f"{name}: got {value}, expected a share between 0 and 1, or a number with K, M or G",
        "It says how much is kept: 0.5 keeps half, 2.5M keeps 2,500,000.",
    )


def _check_ratio(name: str, ratio: float | None) -> None:
    if ratio is not None and not (isfinite(ratio) and 0 <= ratio <= 1):
        raise OptionError(f"{name}: got {ratio}, expected a number from 0 to 1", "0.5 removes half of the units.")
