"""Charts of sensitivity and instability: a bubble for each unit, and how far its rank spreads."""

from __future__ import annotations

from onnxprune.figures import AxisSpec, Chart, Series
from onnxprune.instability import GroupRanks, Instability

__all__ = ["instability_charts"]

SCALED = {"layer": ", over the norm of the layer", "model": ", over the norm of the model", "none": ""}


def instability_charts(found: Instability) -> tuple[Chart, ...]:
    """Bubbles as in CNNPruner: x the sensitivity, size the instability, a row and a colour for each group.

    And the spread of each unit's rank over its mean.
    """
    trained = f"{found.runs} runs of {found.steps} steps on {found.samples} samples, {found.goal}."
    bubbles = Chart(
        "Sensitivity and instability",
        AxisSpec(f"sensitivity{SCALED[found.normalise]}"),
        AxisSpec("group", categories=tuple(group.name for group in found.groups)),
        tuple(_bubbles(group) for group in found.groups),
        "points",
        note=f"The larger a bubble, the less sure is the unit's rank. {trained}",
    )
    over = "the model" if found.within == "model" else "the layer"
    spread = Chart(
        "How sure the order is",
        AxisSpec(f"mean rank within {over} (1: goes first)"),
        AxisSpec("instability", unit="ranks"),
        tuple(Series(g.name, g.mean_rank, g.instability, labels=_labels(g)) for g in found.groups),
        "points",
        note="Mean absolute deviation of a unit's rank between runs.",
    )
    return bubbles, spread


def _bubbles(group: GroupRanks) -> Series:
    rows = (group.name,) * len(group.sensitivity)
    return Series(group.name, group.sensitivity, rows, labels=_labels(group), sizes=group.instability)


def _labels(group: GroupRanks) -> list[str]:
    return [f"unit {unit}" for unit in range(len(group.sensitivity))]
