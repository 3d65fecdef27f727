"""Learning-rate schedules: pure functions of the step and of the number of steps.

With t = (step - w) / (total - w) in 0 to below 1, where w = warmup * total steps of warm-up come first, the rate is
multiplied with a factor:

============ ==========================================================================================
constant     1
linear       1 - (1 - end) t
cosine       end + (1 - end) (1 + cos(pi t)) / 2                                    (SGDR, arXiv:1608.03983)
step         drop^k, where k of the equal parts of the training are over
one-cycle    from 1/25 up to 1 in the first ``rise`` of all steps, then down to ``end``, along cosines
             (super-convergence, arXiv:1708.07120)
============ ==========================================================================================

In the warm-up the factor grows linearly from 1/(w + 1) on (arXiv:1706.02677).
"""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass, fields
from typing import Any

from onnxprune.errors import OptionError

__all__ = ["KINDS", "Schedule", "parse_schedule"]

KINDS = ("constant", "step", "cosine", "linear", "one-cycle")
START = 25.0  # a one-cycle schedule begins with the rate divided by this
TEXT = re.compile(r"([a-z-]+)(?:\((.*)\))?")


@dataclass(frozen=True)
class Schedule:
    """How the learning rate goes down, and up.

    ``warmup``: share of all steps in which the rate rises from nearly 0. ``end``: what is left of the rate in the end
    (linear, cosine, one-cycle). ``drop`` and ``parts``: of the step schedule, which multiplies the rate with ``drop``
    each time that one of ``parts`` equal parts of the training is over. ``rise``: share of the steps in which a
    one-cycle schedule goes up. Raises OptionError.
    """

    kind: str = "cosine"
    warmup: float = 0.0
    end: float = 0.0
    drop: float = 0.1
    parts: int = 3
    rise: float = 0.3

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise OptionError(f"there is no schedule {self.kind!r}", f"Schedules: {', '.join(KINDS)}.")
        for name, low, high in (("warmup", 0, 0.99), ("end", 0, 1), ("drop", 0, 1), ("rise", 0.01, 0.99)):
            value = getattr(self, name)
            if not low <= value <= high:
                raise OptionError(
                    f"schedule {self.kind}: {name} is {value}, expected {low} to {high}",
                    "For example cosine(warmup=0.1,end=0.01).",
                )
        if self.parts < 1 or self.parts != int(self.parts):
            raise OptionError(f"schedule {self.kind}: parts is {self.parts}, expected 1, 2, ...", "For example 3.")
        object.__setattr__(self, "parts", int(self.parts))

    def factor(self, step: int, total: int) -> float:
        """What the rate is multiplied with in a step; the first step is 0, the last one ``total`` - 1."""
        warm = round(self.warmup * total)
        if step < warm:
            return (step + 1) / (warm + 1)
        return self._later(min((step - warm) / max(total - warm, 1), 1.0))

    def _later(self, share: float) -> float:
        """The factor after the warm-up, when ``share`` of the rest is over."""
        if self.kind == "linear":
            return 1 - (1 - self.end) * share
        if self.kind == "cosine":
            return _cosine(1.0, self.end, share)
        if self.kind == "step":
            return self.drop ** min(int(share * self.parts), self.parts - 1)
        if self.kind == "one-cycle":
            if share < self.rise:
                return _cosine(1 / START, 1.0, share / self.rise)
            return _cosine(1.0, self.end, (share - self.rise) / (1 - self.rise))
        return 1.0

    @property
    def depends_on_total(self) -> bool:
        """Whether a longer training is another one from its first step on."""
        return self.kind != "constant" or self.warmup > 0

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def __str__(self) -> str:
        """As `parse_schedule` reads it."""
        changed = [
            f"{f.name}={getattr(self, f.name):g}"
            for f in fields(self)
            if f.name != "kind" and getattr(self, f.name) != f.default
        ]
        return f"{self.kind}({','.join(changed)})" if changed else self.kind


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


def parse_schedule(text: str) -> Schedule:
    """``cosine``, ``cosine(warmup=0.1)``, ``step(drop=0.5,parts=4)``. Raises OptionError."""
    found = TEXT.fullmatch(text.strip())
    if found is None:
        raise OptionError(f"schedule {text!r}: expected NAME or NAME(option=number,...)", f"NAME: {', '.join(KINDS)}.")
    known = {f.name for f in fields(Schedule)} - {"kind"}
    values: dict[str, Any] = {}
    for part in (found[2] or "").split(","):
        if not part.strip():
            continue
        name, _, number = (piece.strip() for piece in part.partition("="))
        try:
            values[name] = float(number)
        except ValueError:
            raise OptionError(
                f"schedule {text!r}: {part.strip()!r} is not option=number", "For example warmup=0.1."
            ) from None
        if name not in known:
            raise OptionError(
                f"schedule {text!r}: there is no option {name!r}", f"Options: {', '.join(sorted(known))}."
            )
    return Schedule(found[1], **values)
