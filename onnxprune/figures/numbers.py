"""Numbers as text: exact in a hover or a table, short on an axis.

A format is Python's format specification, as a metric's record has it; plotly reads the same language, with two
additions that ticks use: ``~`` drops trailing zeros and ``s`` scales by thousands (12.3M).
"""

from __future__ import annotations

import math
import re

__all__ = ["UNDEFINED", "compact", "exact", "finite", "tick", "tick_format"]

UNDEFINED = "not defined"
_SCALES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_COUNTING = re.compile(r",|d$|\.0f$")
_KIND = re.compile(r"[a-zA-Z%]?$")
_ZEROS = re.compile(r"(\.\d*?)0+(?=\D*$)")


def finite(value: float) -> float | None:
    """The value, or None where there is nothing to draw (NaN and the infinities, which JSON does not have either)."""
    return value if math.isfinite(value) else None


def exact(value: float, spec: str, unit: str = "") -> str:
    """A value as tables show it: ``format(value, spec)`` and the unit."""
    if not math.isfinite(value):
        return UNDEFINED if math.isnan(value) else str(value)
    number = format(round(value), spec) if spec.endswith("d") else format(value, spec)
    return f"{number} {unit}" if unit else number


def tick_format(spec: str, largest: float) -> str:
    """The format of an axis whose values are written as ``spec`` and reach up to ``largest``.

    Counts from 10 000 on are scaled by thousands; all else only loses its trailing zeros.
    """
    if _COUNTING.search(spec) and "%" not in spec and largest >= 1e4:
        return "~s"
    kind = _KIND.search(spec)
    return spec if kind is None or spec.endswith("d") else f"{spec[: kind.start()]}~{kind.group()}"


def tick(value: float, spec: str) -> str:
    """A tick's text in a format of ``tick_format``."""
    if spec.endswith("~s"):
        return compact(value)
    text = exact(value, spec.replace("~", ""))
    if "~" not in spec:
        return text
    mantissa, exponent, power = text.partition("e")
    trimmed = _ZEROS.sub(r"\1", mantissa)
    return re.sub(r"\.(?=\D*$)", "", trimmed) + exponent + power


def compact(value: float) -> str:
    """A count scaled by thousands with up to three digits: 1.25M."""
    for scale, letter in _SCALES:
        if abs(value) >= scale:
            return f"{value / scale:.3g}{letter}"
    return f"{value:.3g}"
