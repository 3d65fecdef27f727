"""Charts of a scan hold its numbers."""

from __future__ import annotations

import math

import pytest

from onnxprune.evaluate import measured
from onnxprune.figures import Chart, Heatmap
from onnxprune.sensitivity import Failure, Row, Sensitivity
from onnxprune.sensitivity_charts import LINES, amount, sensitivity_charts


def scan(groups: int) -> Sensitivity:
    """Group k loses k points at 10% and three times as much at half."""
    rows = tuple(
        Row(f"g{k}", ratio, 1, 2, 0.9 - loss, loss, 1, 1)
        for k in range(groups)
        for ratio, loss in ((0.1, k / 100), (0.5, 3 * k / 100))
    )
    return Sensitivity("abc", "l2", measured("accuracy", 0.9), 9, rows)


def test_a_line_for_each_group_from_the_baseline_on() -> None:
    lines, bars = sensitivity_charts(scan(3), 0.01)
    assert isinstance(lines, Chart)
    assert [(s.name, s.x, s.y) for s in lines.series] == [
        (f"g{k}", (0.0, 0.1, 0.5), pytest.approx((0.9, 0.9 - k / 100, 0.9 - 3 * k / 100))) for k in range(3)
    ]
    assert [(line.value, line.label) for line in lines.lines] == [(0.9, "original")]
    assert lines.y.text(0.9) == "90.00%"
    assert isinstance(bars, Chart)
    (headroom,) = bars.series
    assert (headroom.y, headroom.x) == (("g0", "g1", "g2"), (0.5, 0.1, 0.0))
    assert bars.x.label == "largest share that costs at most 1 point"


def test_of_many_groups_those_that_lose_most_have_lines_and_all_are_in_a_heatmap() -> None:
    found = scan(LINES + 3)
    lines, heat, _ = sensitivity_charts(found, 0.01)
    assert isinstance(lines, Chart)
    assert [s.name for s in lines.series] == [f"g{k}" for k in range(3, LINES + 3)]
    assert f"The {LINES} of {LINES + 3} groups" in lines.note
    assert isinstance(heat, Heatmap)
    assert heat.array[4].tolist() == pytest.approx([0.04, 0.12])


def test_what_was_not_measured_is_a_gap() -> None:
    found = scan(LINES + 1)
    rows = tuple(row for row in found.rows if (row.group, row.ratio) != ("g1", 0.5) and row.group != "g2")
    failures = (Failure("g1", 0.5, "why"), Failure("g2", 0.1, "why"), Failure("g2", 0.5, "why"))
    broken = Sensitivity("abc", "l2", found.baseline, 9, rows, failures)
    _, heat, bars = sensitivity_charts(broken, 1.0)
    assert isinstance(heat, Heatmap)
    gaps = {(row["row"], row["column"]) for row in heat.rows() if row["value"] is None}
    assert gaps == {("g1", "50%"), ("g2", "10%"), ("g2", "50%")}
    assert isinstance(bars, Chart)
    assert dict(zip(bars.series[0].y, bars.series[0].x, strict=True))["g2"] == 0


@pytest.mark.parametrize(
    ("metric", "loss", "words"),
    [("accuracy", 0.01, "1 point"), ("accuracy", 0.025, "2.5 points"), ("loss", 0.1, "0.1 nats"), ("mse", 2.0, "2")],
)
def test_amounts(metric: str, loss: float, words: str) -> None:
    assert amount(measured(metric, math.pi), loss) == words
