"""Charts of a sensitivity scan: a line for each group, every loss in one picture, and who has headroom."""

from __future__ import annotations

import math
from collections.abc import Iterator

from onnxprune.evaluate import Metric
from onnxprune.figures import AxisSpec, Chart, Figure, Heatmap, Line, Series
from onnxprune.sensitivity import Sensitivity

__all__ = ["amount", "sensitivity_charts"]

LINES = 12  # groups with a line of their own: of more those that lose most
SHARE = (0.0, 1.0)


def sensitivity_charts(found: Sensitivity, loss: float) -> tuple[Figure, ...]:
    """The metric over the ratio, the losses of all groups (of more than fit into lines), and headroom at ``loss``."""
    return tuple(_charts(found, loss))


def _charts(found: Sensitivity, loss: float) -> Iterator[Figure]:
    worst = {group: max((row.loss for row in found.of(group)), default=-math.inf) for group in found.groups}
    shown = sorted(found.groups, key=lambda group: worst[group], reverse=True)[:LINES]
    many = len(shown) < len(found.groups)
    ratio = AxisSpec("share of the units removed", ".0%")
    yield Chart(
        "One group at a time",
        ratio,
        AxisSpec.of(found.baseline),
        tuple(_line(found, group) for group in found.groups if group in shown),
        lines=(Line(found.baseline.value, "original"),),
        note=f"The {LINES} of {len(found.groups)} groups that lose most." if many else "",
    )
    if many:
        columns = AxisSpec(ratio.label, categories=[f"{each:.0%}" for each in found.ratios])
        losses = [[_loss(found, group, each) for each in found.ratios] for group in found.groups]
        label = f"loss of {found.baseline.label}"
        yield Heatmap("Every group", AxisSpec("group", categories=found.groups), columns, losses, _losses(found, label))
    headroom = found.headroom(loss)
    yield Chart(
        "Headroom",
        AxisSpec(f"largest share that costs at most {amount(found.baseline, loss)}", ".0%", limits=SHARE),
        AxisSpec("group", categories=tuple(headroom)),
        (Series("headroom", tuple(headroom.values()), tuple(headroom)),),
        "bars",
        note=f"Of the ratios {', '.join(f'{each:.0%}' for each in found.ratios)}.",
    )


def _line(found: Sensitivity, group: str) -> Series:
    rows = found.of(group)
    return Series(group, [0.0, *(r.ratio for r in rows)], [found.baseline.value, *(r.value for r in rows)])


def _loss(found: Sensitivity, group: str, ratio: float) -> float:
    return next((row.loss for row in found.of(group) if row.ratio == ratio), math.nan)


def _losses(found: Sensitivity, label: str) -> AxisSpec:
    return AxisSpec(label, found.baseline.format, found.baseline.unit)


def amount(metric: Metric, loss: float) -> str:
    """A loss in words: points of what is shown in percent, else a number with its unit."""
    if metric.format.endswith("%"):
        return f"{100 * loss:g} {'point' if math.isclose(loss, 0.01) else 'points'}"
    return f"{loss:g} {metric.unit}".rstrip()
