"""Charts as values: what they hold, what they refuse, the rows they give back."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from onnxprune.errors import OptionError
from onnxprune.evaluate import Metric
from onnxprune.figures import AxisSpec, Chart, Heatmap, Line, Series
from onnxprune.figures.numbers import compact, exact, tick, tick_format

X, Y = AxisSpec("ratio", ".0%"), AxisSpec("accuracy", ".2%")


def test_an_axis_takes_label_format_and_unit_from_a_metric() -> None:
    axis = AxisSpec.of(Metric("latency", 3.2, "ms", ".3g", "lower"))
    assert (axis.title, axis.text(3.2123)) == ("latency (ms)", "3.21 ms")


def test_rows_hold_every_point_and_are_json() -> None:
    series = Series(
        "l1", np.array([0.0, 0.5]), [0.9, math.nan], low=[0.8, 0.1], high=[1.0, math.inf], labels=["a", "b"]
    )
    rows = Chart("t", X, Y, (series,)).rows()
    assert rows == [
        {"series": "l1", "x": 0.0, "y": 0.9, "low": 0.8, "high": 1.0, "label": "a"},
        {"series": "l1", "x": 0.5, "y": None, "low": 0.1, "high": None, "label": "b"},
    ]
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows


def test_rows_of_a_heatmap() -> None:
    heatmap = Heatmap("t", AxisSpec(categories=["a"]), AxisSpec(categories=["b", "c"]), [[1, math.nan]])
    assert heatmap.rows() == [
        {"row": "a", "column": "b", "value": 1.0},
        {"row": "a", "column": "c", "value": None},
    ]


def test_words_become_categories_in_their_order() -> None:
    chart = Chart("t", Y, AxisSpec("group"), (Series("s", [1, 2], ["b", "a"]), Series("r", [3], ["c"])), "bars")
    assert chart.y.categories == ("b", "a", "c")
    assert chart.flat
    assert {each.kind for each in chart.series} == {"bars"}


def test_repeated_categories_stay_apart() -> None:
    assert AxisSpec(categories=["crane", "dog", "crane"]).categories == ("crane", "dog", "crane #2")


def test_values_are_frozen() -> None:
    values = np.eye(2)
    heatmap = Heatmap("t", AxisSpec(categories="ab"), AxisSpec(categories="ab"), values)
    values[0, 0] = 7
    assert heatmap.array[0, 0] == 1
    with pytest.raises(ValueError, match="read-only"):
        heatmap.array[0, 0] = 7


@pytest.mark.parametrize(
    ("values", "limits"),
    [([[-1, 3]], (-3, 3)), ([[0, 9]], (0, 9)), ([[8, 9]], (8, 9)), ([[0, 0]], (0, 1)), ([[math.nan] * 2], (0, 1))],
)
def test_limits_of_the_colours(values: list[list[float]], limits: tuple[float, float]) -> None:
    low, high = Heatmap("t", AxisSpec(categories="a"), AxisSpec(categories="bc"), values).limits()
    assert low <= limits[0]
    assert high == limits[1]
    assert (low < 0) == (limits[0] < 0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Series("l1", [1, 2], [1]), "series 'l1': 2 values of x, 1 of y"),
        (lambda: Series("l1", [1], [1], labels=["a", "b"]), "1 values of x, 2 of labels"),
        (lambda: Series("l1", [1], [1], low=[1]), "one side of a band"),
        (lambda: Series("l1", [1], [1], "pie"), "unknown kind 'pie'.*\n.*line, points"),
        (lambda: Chart("t", X, Y, kind="pie"), "chart 't' has the unknown kind"),
        (lambda: Chart("t", X, Y, (Series("s", [1, "a"], [1, 2]),)), "numbers and words are mixed"),
        (lambda: Chart("t", AxisSpec(categories="ab"), Y, (Series("s", ["c"], [1]),)), "'c' is none of its categories"),
        (lambda: Line(1, axis="z"), "on axis 'z'"),
        (lambda: AxisSpec("a", ".2q"), "'.2q' is no number format"),
        (lambda: AxisSpec("a", log=True, limits=(0, 1)), "logarithmic axis cannot hold"),
        (lambda: Heatmap("m", AxisSpec(categories="ab"), AxisSpec(categories="a"), [[1]]), r"shape \(1, 1\).*\(2, 1\)"),
    ],
)
def test_what_does_not_fit_is_refused(make: object, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        make()  # type: ignore[operator]


@pytest.mark.parametrize(
    ("value", "spec", "text"),
    [
        (0.9, ".2%", "90%"),
        (0.985, ".2%", "98.5%"),
        (100.0, ",.0f", "100"),
        (0.5, ".4f", "0.5"),
        (3.0, "d", "3"),
        (1e-7, ".1e", "1e-07"),
        (-0.25, ".4f", "-0.25"),
    ],
)
def test_ticks_lose_zeros_only(value: float, spec: str, text: str) -> None:
    assert tick(value, tick_format(spec, abs(value))) == text
    assert float(exact(value, spec).rstrip("%").replace(",", "")) == pytest.approx(float(text.rstrip("%")))


def test_large_counts_are_scaled_on_an_axis_and_nowhere_else() -> None:
    assert tick_format(",.0f", 2e6) == "~s"
    assert tick(2.5e6, "~s") == compact(2.5e6) == "2.5M"
    assert tick_format(".2%", 2e6) == ".2~%"
    assert exact(2.5e6, ",.0f", "B") == "2,500,000 B"
    assert exact(math.nan, ",.0f", "B") == "not defined"
