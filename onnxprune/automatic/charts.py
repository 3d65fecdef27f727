"""Charts of the estimator and of runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from onnxprune.evaluate import kind_of
from onnxprune.figures import AxisSpec, Chart, Figure, Line, Series

__all__ = ["estimator_charts"]

UNITS = AxisSpec("units left", ",.0f")


def estimator_charts(
    rows: Sequence[Mapping[str, Any]],
    curve: Sequence[Mapping[str, Any]],
    metric: str,
    *,
    least: float | None = None,
    units: int | None = None,
) -> tuple[Figure, ...]:
    """The measured steps and the curve with its band over the units left; lines where a person asked."""
    kind = kind_of(metric.partition(":")[0])
    axis = AxisSpec(metric) if kind is None else AxisSpec(metric, kind.format, kind.unit)
    known = [row for row in rows if row.get(metric) is not None]
    measured = Series(
        "measured", [row["units"] for row in known], [row[metric] for row in known], "points",
        labels=[f"step {row['step']}" for row in known],
    )  # fmt: skip
    expected = Series(
        "expected", [row["units"] for row in curve], [row["value"] for row in curve],
        low=[row["low"] for row in curve], high=[row["high"] for row in curve],
    )  # fmt: skip
    lines = [] if least is None else [Line(least, "required")]
    lines += [] if units is None else [Line(float(units), f"{units} units", "x")]
    title = f"{metric[:1].upper()}{metric[1:]} expected by units left"
    return (Chart(title, UNITS, axis, (expected, measured), lines=tuple(lines)),)
