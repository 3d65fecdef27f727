"""Charts of a schedule: how good the model is at each sparsity, before and after training."""

from __future__ import annotations

from onnxprune.figures import AxisSpec, Chart, Figure, Line, Series
from onnxprune.schedule.run import Scheduled

__all__ = ["schedule_charts"]


def schedule_charts(found: Scheduled) -> tuple[Figure, ...]:
    """The first metric over what is gone, and what is left of the cost; only the latter where nothing was measured."""
    rows = found.rounds
    gone = [row.reached for row in rows]
    share = AxisSpec("share that is gone", ".0%", limits=(0.0, 1.0))
    charts: list[Figure] = []
    measured = rows[0].after[0] if rows and rows[0].after else None
    if measured is not None:
        lines = {
            "trained": [_value(row.after) for row in rows],
            "before training": [_value(row.before) for row in rows],
        }
        series = tuple(Series(name, gone, values) for name, values in lines.items())
        title = f"{measured.label[:1].upper()}{measured.label[1:]} over sparsity"
        charts.append(Chart(title, share, AxisSpec.of(measured), series, lines=(Line(measured.value, "at the start"),)))
    first = rows[0] if rows else None
    if first is not None:
        left = {
            "parameters that are not zero": [row.nonzero / max(first.nonzero, 1) for row in rows],
            "MACs": [row.macs / max(first.macs, 1) for row in rows],
        }
        series = tuple(Series(name, [float(row.number) for row in rows], values) for name, values in left.items())
        charts.append(Chart("What is left", AxisSpec("round", ".0f"), AxisSpec("share of the original", ".0%"), series))
    return tuple(charts)


def _value(metrics: tuple[object, ...]) -> float:
    return float(getattr(metrics[0], "value", float("nan"))) if metrics else float("nan")
