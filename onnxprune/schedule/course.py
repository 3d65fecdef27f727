"""How much goes in which round: the share that is removed of the original, round by round.

``one-shot``   s, at once
``gradual``    s_t = s + (s_0 - s) (1 - t / n)^3: much at first, little in the end (Zhu and Gupta, arXiv:1710.01878);
               s_0 = 0
``iterative``  s_t = 1 - (1 - r)^t: the same share r of what is left, in every round
``lottery``    as iterative, r = 0.2 by default, and each round begins with earlier weights
               (Frankle and Carbin, arXiv:1803.03635; rewinding: Frankle et al., arXiv:1912.05671)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from onnxprune.errors import OptionError

__all__ = ["GRANULARITIES", "KINDS", "Course"]

KINDS = ("one-shot", "gradual", "iterative", "lottery")
GRANULARITIES = ("unit", "weight")
ROUNDS = 5
TICKET = 0.2
MOST = 200  # rounds


@dataclass(frozen=True)
class Course:
    """What goes when.

    ``sparsity``: share of units, or of single weights, that is gone in the end. ``ratio``: share of what is left that
    goes in each round. Two of ``sparsity``, ``ratio`` and ``rounds`` settle an iterative course. Raises OptionError.
    """

    kind: str = "gradual"
    granularity: str = "unit"
    sparsity: float | None = None
    ratio: float | None = None
    rounds: int | None = None

    def __post_init__(self) -> None:
        for name, known in (("kind", KINDS), ("granularity", GRANULARITIES)):
            if getattr(self, name) not in known:
                raise OptionError(
                    f"{name}: got {getattr(self, name)!r}, expected one of {', '.join(known)}", "Choose one of them."
                )
        for name in ("sparsity", "ratio"):
            value = getattr(self, name)
            if value is not None and not 0 < value < 1:
                raise OptionError(f"{name}: got {value}, expected a share between 0 and 1", "For example 0.5.")
        if self.rounds is not None and not 1 <= self.rounds <= MOST:
            raise OptionError(f"rounds: got {self.rounds}, expected 1 to {MOST}", "For example 5.")
        self._check_kind()

    def _check_kind(self) -> None:
        if self.kind == "one-shot" and ((self.rounds or 1) > 1 or self.ratio is not None):
            raise OptionError("one-shot has one round, and a sparsity", "Give the sparsity alone, or choose gradual.")
        if self.kind == "gradual" and self.ratio is not None:
            raise OptionError("gradual has no ratio for each round", "Give sparsity and rounds, or choose iterative.")
        if self.kind in ("one-shot", "gradual") and self.sparsity is None:
            raise OptionError(f"{self.kind}: no sparsity is given", "Say how much is to be gone in the end.")
        given = sum(value is not None for value in (self.sparsity, self.ratio, self.rounds))
        if self.kind == "iterative" and given != 2:
            raise OptionError(
                f"iterative: two of sparsity, ratio and rounds are needed, {given} are given",
                "For example a ratio of 0.2 and 5 rounds.",
            )
        if self.kind == "lottery" and given == 3:
            raise OptionError("lottery: sparsity, ratio and rounds are given, one too many", "Leave one of them out.")

    @property
    def rewinds(self) -> bool:
        """Whether each round begins with earlier weights."""
        return self.kind == "lottery"

    def levels(self) -> tuple[float, ...]:
        """What is gone after each round, as a share of the original."""
        if self.kind == "one-shot":
            return (float(self.sparsity or 0),)
        if self.kind == "gradual":
            count, end = self.rounds or ROUNDS, float(self.sparsity or 0)
            return tuple(end - end * (1 - t / count) ** 3 for t in range(1, count + 1))
        if self.sparsity is None:
            return _falling(self.ratio or TICKET, self.rounds or ROUNDS)
        if self.rounds is not None:
            return _falling(1 - (1 - self.sparsity) ** (1 / self.rounds), self.rounds)
        ratio = self.ratio or TICKET
        count = max(1, math.ceil(round(math.log(1 - self.sparsity) / math.log(1 - ratio), 9)))
        return (*_falling(ratio, count)[:-1], self.sparsity)


def _falling(ratio: float, rounds: int) -> tuple[float, ...]:
    return tuple(1 - (1 - ratio) ** t for t in range(1, rounds + 1))
