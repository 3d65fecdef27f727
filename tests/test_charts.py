"""Charts hold the numbers that were measured."""

from __future__ import annotations

import math

import numpy as np
import pytest

from onnxprune.charts import comparison_charts, evaluation_charts
from onnxprune.evaluate import Evaluation, compare
from onnxprune.figures import Chart, Figure, Heatmap
from tests.evaluate.models import Array, measure, passing

RNG = np.random.default_rng(5)
BEFORE, AFTER = RNG.standard_normal((2, 90, 6))
LABELS = RNG.integers(0, 5, 90)  # nothing is of the last class
NAMES = tuple("abcdef")


def measured(logits: Array, labels: Array = LABELS) -> Evaluation:
    return measure(passing(logits.shape[1]), logits, labels, NAMES if logits.shape[1] == 6 else ())


def titled(charts: tuple[Figure, ...], title: str) -> Figure:
    return {chart.title: chart for chart in charts}[title]


def test_the_confusion_in_shares_of_the_label() -> None:
    found = measured(BEFORE)
    chart = titled(evaluation_charts(found), "Confusion")
    assert isinstance(chart, Heatmap)
    assert chart.array[:5].sum(axis=1) == pytest.approx(1)
    assert np.isnan(chart.array[5]).all()
    assert np.diag(chart.array)[:5] == pytest.approx([report.recall for report in found.per_class[:5]])
    assert chart.value.text(0.25) == "25%"


def test_curves_of_the_classes_that_occur_the_worst_first() -> None:
    found = measured(BEFORE)
    chart = titled(evaluation_charts(found), "Precision over recall")
    assert isinstance(chart, Chart)
    order = sorted(found.per_class[:5], key=lambda r: r.average_precision)
    assert [s.name for s in chart.series] == [f"{r.name} ({r.average_precision:.1%})" for r in order]
    assert chart.series[0].x[0] == 1
    assert chart.series[0].y[-1] == 1


def test_many_classes_are_not_all_drawn() -> None:
    logits, labels = RNG.standard_normal((300, 70)), np.arange(300) % 70
    charts = evaluation_charts(measured(logits, labels))
    assert [chart.title for chart in charts] == ["Confusion", "Precision over recall"]
    curves = titled(charts, "Precision over recall")
    assert isinstance(curves, Chart)
    assert len(curves.series) == 12
    assert "12 of 70 classes with the lowest" in curves.note


def test_bars_by_class() -> None:
    found = measured(BEFORE)
    chart = titled(evaluation_charts(found), "Recall and precision by class")
    assert isinstance(chart, Chart)
    assert chart.series[0].y[:5] == tuple(report.recall for report in found.per_class[:5])
    assert math.isnan(float(chart.series[0].y[5]))


def test_a_regression_has_no_chart() -> None:
    assert evaluation_charts(measured(BEFORE[:, :1], RNG.standard_normal(90))) == ()


class TestComparison:
    FOUND = compare(measured(BEFORE), measured(AFTER))

    def test_the_difference_of_the_confusions(self) -> None:
        chart = titled(comparison_charts(self.FOUND), "Confusion, B minus A")
        assert isinstance(chart, Heatmap)
        assert np.array_equal(chart.array, self.FOUND.confusion)  # type: ignore[arg-type]

    def test_degenerated_below_and_improved_above(self) -> None:
        chart = titled(comparison_charts(self.FOUND), "Instances that improved, and that degenerated (below 0)")
        assert isinstance(chart, Chart)
        up, down = (sum(float(y) for y in series.y) for series in chart.series)
        assert self.FOUND.improved is not None
        assert self.FOUND.degenerated is not None
        assert (up, -down) == (self.FOUND.improved.size, self.FOUND.degenerated.size)

    def test_recall_of_both(self) -> None:
        chart = titled(comparison_charts(self.FOUND), "Recall by class")
        assert isinstance(chart, Chart)
        for series, found in zip(chart.series, (self.FOUND.before, self.FOUND.after), strict=True):
            assert series.y[:5] == tuple(report.recall for report in found.per_class[:5])

    def test_curves_of_both_where_most_was_lost(self) -> None:
        chart = titled(comparison_charts(self.FOUND), "Precision over recall")
        assert isinstance(chart, Chart)
        lost = {cls.name: cls.change("average_precision").delta for cls in self.FOUND.per_class[:5]}
        most = sorted(lost, key=lambda name: lost[name])[:4]
        assert [s.name.split(",")[0] for s in chart.series] == [name for name in most for _ in "AB"]

    def test_what_is_left_of_the_costs(self) -> None:
        chart = comparison_charts(self.FOUND, {"MACs": 0.5, "file": 0.25})[0]
        assert isinstance(chart, Chart)
        assert (chart.series[0].x, chart.series[0].y) == (("MACs", "file"), (0.5, 0.25))
