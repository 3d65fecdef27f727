"""What has to hold: floors, relative ones, budgets, and what makes no sense."""

from __future__ import annotations

import pytest

from onnxprune.automatic import requirement_of
from onnxprune.automatic.requirement import check_start
from onnxprune.errors import OptionError

ORIGINAL = {
    ("accuracy", ""): 0.99, ("loss", ""): 0.05, ("recall", "7"): 0.98, ("recall", "8"): 1.0,
    ("parameters", ""): 50_000.0, ("macs", ""): 1e6, ("file_bytes", ""): 200_000.0,
}  # fmt: skip


def test_all_floors_have_to_hold() -> None:
    found = requirement_of({"accuracy": 0.98, "recall:7": "0.9"}, None, {}, ORIGINAL, 168, "accuracy")
    good = {("accuracy", ""): 0.985, ("recall", "7"): 0.9}
    assert found.judge(good, 50).holds
    assert found.judge(good, 50).words == "holds"
    bad = found.judge({**good, ("recall", "7"): 0.89}, 50)
    assert not bad.holds
    assert bad.words == "recall:7 is 0.89, required 0.9"
    assert found.least == {"accuracy": 0.98, "recall:7": 0.9}
    assert not found.judge({("accuracy", ""): 0.99}, 50).holds, "what was not measured does not hold"
    assert "not known" in found.judge({("accuracy", ""): 0.99}, 50).words
    assert found.judge({**good, ("accuracy", ""): float("nan")}, 50).holds is False


def test_values_relative_to_the_original() -> None:
    found = requirement_of({"accuracy": "-0.5%", "loss": "+20%"}, 0.02, {}, ORIGINAL, 168, "accuracy")
    assert [floor.least for floor in found.floors] == pytest.approx([0.99 * 0.995, 0.06, 0.97])
    assert [floor.higher for floor in found.floors] == [True, False, True]
    loses = requirement_of({}, 0.01, {}, ORIGINAL, 168, "loss")
    assert loses.floors[0].least == pytest.approx(0.06)


def test_without_labels_the_original_is_like_itself() -> None:
    found = requirement_of({"agreement": "-1%"}, None, {}, {("parameters", ""): 5.0}, 9, None)
    assert found.floors[0].least == pytest.approx(0.99)
    assert check_start(found, {}, 9, "the original", original=True).holds


def test_the_budget_is_reached_when_all_its_parts_are() -> None:
    found = requirement_of({}, None, {"parameters": 0.1, "units": "60", "bytes": "50KB"}, ORIGINAL, 168, "accuracy")
    assert found.budget == {"parameters": pytest.approx(5000.0), "units": 60.0, "bytes": 50_000.0}
    small = {("parameters", ""): 5000.0, ("file_bytes", ""): 40_000.0}
    assert found.judge(small, 60).reached
    assert found.judge(small, 60).words == "holds, and is small enough"
    assert not found.judge(small, 61).reached
    assert not found.judge({("parameters", ""): 5000.0}, 60).reached, "bytes that nobody knows are not small"


def test_what_the_start_has_to_be() -> None:
    floor = requirement_of({"accuracy": 0.995}, None, {}, ORIGINAL, 168, "accuracy")
    with pytest.raises(
        OptionError, match=r"the original does not hold what is required: accuracy is 0.99, required 0.995"
    ):
        check_start(floor, ORIGINAL, 168, "the original", original=True)
    small = requirement_of({}, None, {"units": 200}, ORIGINAL, 168, "accuracy")
    with pytest.raises(OptionError, match=r"step 4 is within the budget already"):
        check_start(small, ORIGINAL, 168, "step 4", original=False)


@pytest.mark.parametrize(
    ("least", "message"),
    [
        ({"acuracy": 0.9}, "there is no metric 'acuracy'"),
        ({"parameters": 0.9}, "there is no metric 'parameters'"),
        ({"r2": "-1%"}, "r2 was not measured on the original"),
        ({"recall:nine": "-1%"}, r"recall of class 'nine' was not measured(?s:.*)classes 7, 8"),
        ({"accuracy": "much"}, "accuracy: got 'much', expected a number"),
        ({"accuracy": "nan"}, "accuracy: got 'nan', expected a finite number"),
    ],
)
def test_floors_that_make_no_sense(least: dict[str, float | str], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        requirement_of(least, None, {}, ORIGINAL, 168, "accuracy")


def test_budgets_and_losses_that_make_no_sense() -> None:
    with pytest.raises(OptionError, match=r"there is no budget 'latency'(?s:.*)units, parameters"):
        requirement_of({}, None, {"latency": 0.5}, ORIGINAL, 168, "accuracy")
    with pytest.raises(OptionError, match=r"got -2"):
        requirement_of({}, None, {"macs": -2}, ORIGINAL, 168, "accuracy")
    with pytest.raises(OptionError, match=r"max_loss: got -1"):
        requirement_of({}, -1.0, {}, ORIGINAL, 168, "accuracy")
    with pytest.raises(OptionError, match=r"max_loss needs a metric"):
        requirement_of({}, 0.1, {}, {}, 168, None)
    with pytest.raises(OptionError, match=r"the macs of the original are not known"):
        requirement_of({}, None, {"macs": 0.5}, {}, 168, None)
