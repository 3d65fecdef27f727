"""Charts of what was measured: a pruning, confusion, precision and recall, two models side by side.

Pure functions from a ``Pruned``, an ``Evaluation`` or a ``Comparison`` to ``figures``; axes take label, unit and
format from the metrics' kinds.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from onnxprune.evaluate import KINDS, ClassChange, Comparison, Curve, Evaluation
from onnxprune.experiment import Pruned
from onnxprune.figures import AxisSpec, Chart, Figure, Heatmap, Line, Series

__all__ = ["comparison_charts", "evaluation_charts", "pruning_charts"]

CURVES = 12  # curves in one chart; of more classes those with the lowest average precision
PAIRS = 4  # classes with curves of both models: those whose average precision fell most
CLASSES = 60  # bars for each class up to so many
SHARE = (0.0, 1.0)


def pruning_charts(found: Pruned, files: tuple[int, int] | None = None) -> tuple[Figure, ...]:
    """What is left of each group, of each cost, and of each metric that is a share. ``files``: bytes on the disk."""
    return tuple(_pruning(found, files))


def _pruning(found: Pruned, files: tuple[int, int] | None) -> Iterator[Figure]:
    groups = {name: (units - gone) / units for name, (gone, units) in found.reached.groups.items() if units}
    kind = "weight" if found.plan.weights and not found.plan.units else "group"
    axes = AxisSpec(kind, categories=tuple(groups)), AxisSpec("left", ".0%", limits=SHARE)
    yield Chart(f"What is left of each {kind}", *axes, (Series("left", tuple(groups), tuple(groups.values())),), "bars")
    pairs: dict[str, tuple[float, float]] = {
        name: (getattr(found.before, name) or 0, getattr(found.after, name) or 0)
        for name in ("parameters", "nonzero", "macs", "activation_bytes")
    }
    if files is not None:
        pairs["file_bytes"] = files
    if found.latencies is not None:
        pairs["latency"] = (found.latencies[0].median_ms, found.latencies[1].median_ms)
    left = {
        KINDS[name].label if name in KINDS else name: after / before
        for name, (before, after) in pairs.items()
        if before
    }
    axes = AxisSpec("", categories=tuple(left)), AxisSpec("left", ".0%")
    lines = (Line(1.0, "original"),)
    yield Chart("What it costs", *axes, (Series("left", tuple(left), tuple(left.values())),), "bars", lines)
    if found.evaluations:
        yield from _metrics(found)


def _metrics(found: Pruned) -> Iterator[Figure]:
    """Metrics that are shares, of the original, the pruned and the repaired model."""
    names = [m.name for m in found.evaluations["original"] if "%" in m.format]
    labels = [found.evaluations["original"].metric(name).label for name in names]
    bars = (
        Series(stage, labels, [evaluation.value(name) for name in names])
        for stage, evaluation in found.evaluations.items()
    )
    axes = AxisSpec("", categories=labels), AxisSpec("", ".0%", limits=SHARE)
    if names:
        yield Chart("How good it is", *axes, tuple(bars), "bars")


def evaluation_charts(found: Evaluation) -> tuple[Figure, ...]:
    """The confusion matrix, precision over recall, and recall and precision of each class; what there is of it."""
    return tuple(_evaluation(found))


def _evaluation(found: Evaluation) -> Iterator[Figure]:
    if found.confusion is not None:
        total = found.confusion.sum(axis=1, keepdims=True)
        shares = np.where(total > 0, found.confusion / np.maximum(total, 1), math.nan)
        yield Heatmap(
            "Confusion",
            AxisSpec("label", categories=found.class_names),
            AxisSpec("taken for", categories=found.class_names),
            shares,
            AxisSpec("share of the label", ".0%", limits=SHARE),
        )
    known = sorted((c for c in found.curves if c.recall.size), key=lambda c: c.average_precision)
    if known:
        note = f"The {CURVES} of {len(known)} classes with the lowest." if len(known) > CURVES else ""
        shown = known[:CURVES]
        yield _curves([(curve.name, curve) for curve in shown], note)
    if 0 < len(found.per_class) <= CLASSES:
        names = [report.name for report in found.per_class]
        kinds = [KINDS[name] for name in ("recall", "precision")]
        bars = (Series(kind.label, names, [getattr(r, kind.name) for r in found.per_class]) for kind in kinds)
        axes = AxisSpec("class", categories=names), AxisSpec("", kinds[0].format, limits=SHARE)
        yield Chart("Recall and precision by class", *axes, tuple(bars), "bars")


def comparison_charts(found: Comparison, left: Mapping[str, float] | None = None) -> tuple[Figure, ...]:
    """How confusion, classes and curves changed. ``left``: what is left of each cost, 1 for all of it."""
    return tuple(_comparison(found, left or {}))


def _comparison(found: Comparison, left: Mapping[str, float]) -> Iterator[Figure]:
    if left:
        axes = AxisSpec("", categories=tuple(left)), AxisSpec("left", ".1%")
        yield Chart("What B costs, A being 100%", *axes, (Series("B", tuple(left), tuple(left.values())),), "bars")
    names = found.after.class_names
    if found.confusion is not None and len(names) == len(found.confusion):
        axes = AxisSpec("label", categories=names), AxisSpec("taken for", categories=names)
        yield Heatmap("Confusion, B minus A", *axes, found.confusion, AxisSpec("labels", "+,.0f"))
    if 0 < len(found.per_class) <= CLASSES:
        yield from _by_class(found.per_class)
    fallen = [pair for _, pair in sorted(_pairs(found), key=lambda entry: entry[0])][:PAIRS]
    if fallen:
        both = [(f"{curve.name}, {model}", curve) for pair in fallen for model, curve in zip("AB", pair, strict=True)]
        note = f"The {PAIRS} classes whose average precision fell most." if len(names) > PAIRS else ""
        yield _curves(both, note)


def _by_class(classes: Sequence[ClassChange]) -> Iterator[Chart]:
    names = [cls.name for cls in classes]
    axis, kind = AxisSpec("class", categories=names), KINDS["recall"]
    changes = [cls.change("recall") for cls in classes]
    recall = (
        Series("A", names, [change.before.value for change in changes]),
        Series("B", names, [change.after.value for change in changes]),
    )
    yield Chart("Recall by class", axis, AxisSpec(kind.label, kind.format, limits=SHARE), recall, "bars")
    if all(cls.degenerated is not None for cls in classes):
        counts = (
            Series("improved", names, [cls.improved or 0 for cls in classes]),
            Series("degenerated", names, [-(cls.degenerated or 0) for cls in classes]),
        )
        yield Chart(
            "Instances that improved, and that degenerated (below 0)",
            axis,
            AxisSpec("instances", ",.0f"),
            counts,
            "bars",
        )


def _pairs(found: Comparison) -> Iterator[tuple[float, tuple[Curve, Curve]]]:
    """Change of average precision, and the curves of both models."""
    for old, new in zip(found.before.curves, found.after.curves, strict=False):
        if old.recall.size and new.recall.size:
            yield new.average_precision - old.average_precision, (old, new)


def _curves(curves: Sequence[tuple[str, Curve]], note: str) -> Chart:
    x, y = (AxisSpec(KINDS[name].label, KINDS[name].format, limits=SHARE) for name in ("recall", "precision"))
    series = (
        Series(f"{name} ({curve.average_precision:.1%})", curve.recall.tolist(), curve.precision.tolist())
        for name, curve in curves
    )
    notes = ("In brackets: average precision.", note, "" if curves[0][1].exact else "From scores in bins.")
    return Chart("Precision over recall", x, y, tuple(series), note=" ".join(filter(None, notes)))
