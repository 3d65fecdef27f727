"""Charts of a training hold its numbers."""

from __future__ import annotations

import math

from onnxprune.evaluate import measured
from onnxprune.figures import Chart
from onnxprune.train import EpochRow, History, StepRow
from onnxprune.training_charts import training_charts


def history(*, metrics: bool = True) -> History:
    rows = tuple(
        EpochRow(k, 3 * k, loss, 0.1, (measured("accuracy", k / 4), measured("loss", 1 - k / 4)) if metrics else ())
        for k, loss in enumerate((math.nan, 0.9, 0.5))
        if metrics or k
    )
    return History(rows, tuple(StepRow(k, 1, 1 / k, 0.1 / k, 0.0) for k in (1, 2, 3)), "accuracy" if metrics else "")


def named(charts: tuple[object, ...]) -> dict[str, Chart]:
    assert all(isinstance(chart, Chart) for chart in charts)
    return {chart.title: chart for chart in charts if isinstance(chart, Chart)}


def test_what_was_measured_and_the_best_epoch() -> None:
    charts = named(training_charts(history(), 2))
    assert list(charts) == ["Accuracy", "Loss of the epochs", "Training loss, step by step", "Learning rate"]
    (line,) = charts["Accuracy"].series
    assert (line.x, line.y) == ((0, 1, 2), (0, 0.25, 0.5))
    assert [(mark.value, mark.label, mark.axis) for mark in charts["Accuracy"].lines] == [(2, "best", "x")]
    training, validation = charts["Loss of the epochs"].series
    assert (training.x, training.y) == ((1, 2), (0.9, 0.5))
    assert (validation.x, validation.y) == ((0, 1, 2), (1, 0.75, 0.5))


def test_step_by_step_with_the_ends_of_the_epochs() -> None:
    charts = named(training_charts(history()))
    (line,) = charts["Training loss, step by step"].series
    assert (line.x, line.y) == ((1, 2, 3), (1, 1 / 2, 1 / 3))
    assert [mark.value for mark in charts["Training loss, step by step"].lines] == [3]
    (line,) = charts["Learning rate"].series
    assert line.y == (0.1, 0.05, 0.1 / 3)


def test_without_metrics() -> None:
    charts = named(training_charts(history(metrics=False), 1))
    assert list(charts) == ["Loss of the epochs", "Training loss, step by step", "Learning rate"]
    assert [series.name for series in charts["Loss of the epochs"].series] == ["training"]


def test_nothing_happened() -> None:
    assert training_charts(History()) == ()
