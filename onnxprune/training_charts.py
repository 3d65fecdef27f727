"""Charts of a training: losses and metrics over the epochs, the loss step by step, the learning rate."""

from __future__ import annotations

from collections.abc import Iterator

from onnxprune.evaluate import Metric
from onnxprune.figures import AxisSpec, Chart, Figure, Line, Series
from onnxprune.train import EpochRow, History

__all__ = ["training_charts"]

STEPS = AxisSpec("step", ",.0f")
EPOCHS = AxisSpec("epoch", ".0f")


def training_charts(history: History, best_epoch: int | None = None) -> tuple[Figure, ...]:
    """What was measured after each epoch (one chart for each metric that has a direction), losses, and rates."""
    return tuple(_charts(history, best_epoch))


def _charts(history: History, best: int | None) -> Iterator[Figure]:
    chosen = tuple(Line(float(best), "best", "x") for _ in range(1) if best is not None and history.epochs)
    for metric in _measured(history):
        if metric.name != "loss":
            points = history.values(metric.name)
            series = Series(metric.label, [epoch for epoch, _ in points], [value for _, value in points])
            yield Chart(
                f"{metric.label[:1].upper()}{metric.label[1:]}", EPOCHS, AxisSpec.of(metric), (series,), lines=chosen
            )
    if history.trained:
        yield Chart("Loss of the epochs", EPOCHS, AxisSpec("loss", ".4g"), tuple(_losses(history)), lines=chosen)
    if history.steps:
        steps = [row.step for row in history.steps]
        ends = (
            tuple(Line(float(row.step), "", "x") for row in history.trained[:-1]) if len(history.trained) <= 10 else ()
        )
        yield Chart(
            "Training loss, step by step", STEPS, AxisSpec("loss", ".4g"),
            (Series("training", steps, [row.loss for row in history.steps]),), lines=ends,
        )  # fmt: skip
        yield Chart(
            "Learning rate", STEPS, AxisSpec("learning rate", ".3g"),
            (Series("rate", steps, [row.rate for row in history.steps]),),
        )  # fmt: skip


def _measured(history: History) -> tuple[Metric, ...]:
    """The metrics of the first row that has any, those only that can be better or worse."""
    row: EpochRow | None = next((row for row in history.epochs if row.metrics), None)
    return () if row is None else tuple(metric for metric in row.metrics if metric.direction)


def _losses(history: History) -> Iterator[Series]:
    rows = history.trained
    yield Series("training", [row.epoch for row in rows], [row.loss for row in rows])
    points = [(row.epoch, metric.value) for row in history.epochs if (metric := row.metric("loss")) is not None]
    if points:
        yield Series("validation", [epoch for epoch, _ in points], [value for _, value in points])
