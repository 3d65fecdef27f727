"""The estimator: what lies between measured steps, how sure that is, and the fewest units that hold."""

from __future__ import annotations

import numpy as np
import pytest

from onnxprune.automatic import estimate, estimate_rows, metric_columns, suggest_count
from onnxprune.automatic.curve import Curve
from onnxprune.errors import OptionError
from tests.automatic.conftest import points

PATH = points((100, 0.99), (66, 0.985), (44, 0.98), (29, 0.95), (19, 0.80))


class TestBetweenTwoSteps:
    """As CNNPruner has it: straight lines between adjacent nodes."""

    def test_the_line(self) -> None:
        found = estimate(points((34, 0.987), (23, 0.958)), 30)
        assert found.value == pytest.approx(0.958 + (0.987 - 0.958) * 7 / 11)
        assert found.costs == {"parameters": pytest.approx(23**2 + (34**2 - 23**2) * 7 / 11)}
        assert (found.method, found.between, found.units) == ("linear", (2, 1), 30)
        assert found.low < found.value < found.high

    def test_a_measured_count_is_what_was_measured(self) -> None:
        found = estimate(points((34, 0.987), (23, 0.958)), 34)
        assert found.value == pytest.approx(0.987)
        assert (found.method, found.between) == ("measured", (1, 1))

    def test_the_band_is_the_sampling_error_at_a_step_and_wider_between(self) -> None:
        rows = points((40, 0.96), (20, 0.90), samples=100)
        share = (100 * 0.96 + 1) / 102
        error = np.sqrt(share * (1 - share) / 100)
        at = estimate(rows, 40, confidence=0.95)
        assert at.high == 1.0
        assert at.value - at.low == pytest.approx(1.959964 * error, rel=1e-5)
        between = estimate(rows, 30, confidence=0.95)
        mean_error = np.mean([error, np.sqrt((91 / 102) * (11 / 102) / 100)])
        jump = 0.5 * 0.06
        assert between.value - between.low == pytest.approx(1.959964 * np.hypot(jump, mean_error), rel=1e-5)

    def test_the_fewest_that_hold_and_the_inverse(self) -> None:
        rows = points((34, 0.987), (23, 0.958))
        found = suggest_count(rows, {"accuracy": 0.98})
        assert found is not None
        assert estimate(rows, found.units).value >= 0.98 > estimate(rows, found.units - 1).value
        assert not found.measured


class TestManySteps:
    def test_a_monotone_cubic_through_the_points(self) -> None:
        curve = estimate_rows(PATH)
        values = [row["value"] for row in curve]
        assert values == sorted(values)
        assert {row["method"] for row in curve} == {"pchip", "measured"}
        for row in PATH:
            assert estimate(PATH, row["units"]).value == pytest.approx(row["accuracy"])
        assert all(row["low"] <= row["value"] <= row["high"] for row in curve)
        assert (curve[0]["units"], curve[-1]["units"]) == (19, 100)

    def test_points_that_contradict_each_other_are_pooled(self) -> None:
        rows = points((100, 0.99), (66, 0.975), (44, 0.985), (29, 0.90))
        assert estimate(rows, 66).value == estimate(rows, 44).value == pytest.approx(0.98)
        assert estimate(rows, 66, method="linear").value == pytest.approx(0.975)

    def test_lines_can_be_asked_for(self) -> None:
        assert estimate(PATH, 55, method="linear").value == pytest.approx(0.9825)
        assert estimate(PATH, 55, method="linear").method == "linear"

    def test_the_band_knows_what_the_others_would_have_said(self) -> None:
        smooth = points(*((n, 0.9 + n / 1000) for n in (10, 20, 30, 40, 50)), samples=None)
        assert estimate(smooth, 25).high - estimate(smooth, 25).low == pytest.approx(0, abs=1e-9)
        rough = points((10, 0.80), (20, 0.82), (30, 0.95), (40, 0.955), (50, 0.96), samples=None)
        assert estimate(rough, 25).high - estimate(rough, 25).low > 0.02

    def test_steps_with_the_same_count_are_averaged(self) -> None:
        rows = points((40, 0.96), (40, 0.98), (20, 0.90))
        assert estimate(rows, 40).value == pytest.approx(0.97)
        assert estimate(rows, 40).between == (2, 2)

    def test_errors_fall_where_accuracy_rises(self) -> None:
        rows = [
            {"step": n, "units": u, "loss": v} for n, (u, v) in enumerate([(10, 0.9), (20, 0.5), (30, 0.2), (40, 0.1)])
        ]
        values = [row["value"] for row in estimate_rows(rows, "loss")]
        assert values == sorted(values, reverse=True)
        found = suggest_count(rows, {"loss": 0.3})
        assert found is not None
        assert estimate(rows, found.units, "loss").value <= 0.3 < estimate(rows, found.units - 1, "loss").value

    def test_the_safe_edge_needs_more_units(self) -> None:
        middle = suggest_count(PATH, {"accuracy": 0.97})
        edge = suggest_count(PATH, {"accuracy": 0.97}, edge=True)
        assert middle is not None
        assert edge is not None
        assert edge.units > middle.units
        assert edge.estimate.low >= 0.97

    def test_the_most_demanding_metric_decides(self) -> None:
        rows = [{**row, "recall:7": row["accuracy"] - 0.02} for row in PATH]
        found = suggest_count(rows, {"accuracy": 0.95, "recall:7": 0.95})
        assert found is not None
        assert found.metric == "recall:7"
        alone = suggest_count(rows, {"accuracy": 0.95})
        assert alone is not None
        assert alone.units < found.units

    def test_none_where_nothing_is_enough_and_the_smallest_where_all_is(self) -> None:
        assert suggest_count(PATH, {"accuracy": 0.999}) is None
        found = suggest_count(PATH, {"accuracy": 0.5})
        assert found is not None
        assert (found.units, found.measured) == (19, True)


def test_coverage_of_the_band() -> None:
    """Of many measured curves, nine in ten new measurements lie within the band."""
    rng = np.random.default_rng(0)
    units = np.array([10, 16, 25, 38, 58, 88])
    inside = total = 0
    for _ in range(200):
        truth = 0.99 - 0.3 * np.exp(-units / rng.uniform(5, 15))
        seen = rng.binomial(400, truth) / 400
        rows = points(*zip(units.tolist(), seen.tolist(), strict=True))
        new = int(rng.integers(26, 88))
        scale = -units[0] / np.log((0.99 - truth[0]) / 0.3)
        drawn = rng.binomial(400, 0.99 - 0.3 * np.exp(-new / scale)) / 400
        found = estimate(rows, new)
        inside += found.low <= drawn <= found.high
        total += 1
    assert inside / total > 0.8


def test_what_cannot_be_told() -> None:
    with pytest.raises(OptionError, match=r"(?s)units: got 500, expected 19 to 100.*no two steps lie around"):
        estimate(PATH, 500)
    with pytest.raises(OptionError, match=r"no step has the metric 'f1'(?s:.*)There are: accuracy"):
        estimate(PATH, 30, "f1")
    with pytest.raises(OptionError, match=r"(?s)all steps with accuracy have 5 units.*Prune and fine-tune"):
        estimate(points((5, 0.9), (5, 0.8)), 5)
    with pytest.raises(OptionError, match=r"method: got 'spline', expected auto, linear, pchip"):
        estimate(PATH, 30, method="spline")
    with pytest.raises(OptionError, match=r"confidence: got 2"):
        estimate(PATH, 30, confidence=2)
    with pytest.raises(OptionError, match=r"nothing is required"):
        suggest_count(PATH, {})
    with pytest.raises(OptionError, match=r"no step has the metric"):
        estimate([], 3)
    assert metric_columns(PATH) == ("accuracy",)


def test_a_curve_of_two_points_is_a_line_both_ways() -> None:
    x, y = np.array([1.0, 3.0]), np.array([0.0, 1.0])
    for method in ("linear", "pchip"):
        assert Curve(x, y, np.zeros(2), method)(2.0) == pytest.approx(0.5)
