"""Amounts as people write them: a share of the original, a count, bytes of memory, milliseconds."""

from __future__ import annotations

import re
from math import floor

from onnxprune.errors import OptionError

__all__ = ["TARGETS", "Number", "check_ratio", "share", "target"]

Number = float | int | str

TARGETS = ("target_params", "target_macs", "target_bytes", "target_memory", "target_latency")
"""The targets of a budget, each of which says how much of something is kept."""

COUNTS = {"": 1.0, "K": 1e3, "M": 1e6, "G": 1e9}
BYTES = {**{f"{k}B": v for k, v in COUNTS.items()}, "KIB": 2.0**10, "MIB": 2.0**20, "GIB": 2.0**30}
MILLISECONDS = {"US": 1e-3, "MS": 1.0, "S": 1e3}

# What may stand behind the number, what is expected in words, and an example.
KINDS = {
    "target_params": (COUNTS, "a number with K, M or G", "2.5M keeps 2,500,000"),
    "target_macs": (COUNTS, "a number with K, M or G", "2.5M keeps 2,500,000"),
    "target_bytes": ({**COUNTS, **BYTES}, "bytes with KB, MB or GB", "2.5MB keeps 2,500,000 bytes"),
    "target_memory": ({**COUNTS, **BYTES}, "bytes with KB, MB or GB", "2.5MB keeps 2,500,000 bytes"),
    "target_latency": (MILLISECONDS, "a time with us, ms or s", "5ms allows 5 milliseconds"),
}
WRITTEN = re.compile(r"(?P<number>(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?)\s*(?P<unit>[a-z]*)", re.IGNORECASE)


def share(ratio: float, count: int) -> int:
    """floor(ratio * count), forgiving what binary fractions do to 0.29 * 100."""
    return floor(ratio * count + 1e-9)


def target(name: str, value: Number | None) -> tuple[float | None, float | None]:
    """A target as (share kept, absolute amount kept); one of the two, or neither, is None.

    Absolute amounts are counts, bytes or, for ``target_latency``, milliseconds. Raises OptionError.
    """
    if value is None:
        return None, None
    units, words, example = KINDS[name]
    found = WRITTEN.fullmatch(str(value).strip())
    unit = found["unit"].upper() if found else ""
    number = float(found["number"]) if found else 0.0
    if found and not unit and 0 < number < 1:
        return number, None
    amount = number * units.get(unit, 0.0)
    least = 0.0 if units is MILLISECONDS else 1.0
    if amount <= least:  # a unit that is not one of these makes it 0
        raise OptionError(
            f"{name}: got {value}, expected a share between 0 and 1, or {words}",
            f"It says how much is kept: 0.5 keeps half, {example}.",
        )
    return None, amount if units is MILLISECONDS else floor(amount)


def check_ratio(name: str, ratio: float | None) -> None:
    """Raise OptionError unless it is a number from 0 to 1."""
    if ratio is not None and not 0 <= ratio <= 1:
        raise OptionError(f"{name}: got {ratio}, expected a number from 0 to 1", "0.5 removes half of the units.")
