from __future__ import annotations

import math
import subprocess
import sys

import pytest

from onnxprune.errors import OptionError
from onnxprune.evaluate import KINDS, Metric, better, delta, kind_of, measured


def test_a_metric_shows_itself() -> None:
    assert str(Metric("accuracy", 0.51234, "", ".2%", "higher")) == "51.23%"
    assert str(measured("loss", 0.5)) == "0.5000 nats"
    assert str(measured("file_bytes", 1234567)) == "1,234,567 B"
    assert str(measured("recall", math.nan)) == "not defined"


def test_labels_are_words_and_a_stranger_keeps_its_name() -> None:
    assert measured("mse", 1).label == "mean squared error"
    assert measured("top_3", 1).label == "top-3 accuracy"
    assert Metric("sparkle", 1).label == "sparkle"


@pytest.mark.parametrize("kind", KINDS.values(), ids=list(KINDS))
def test_every_kind_can_be_shown_compared_and_looked_up(kind: object) -> None:
    assert kind is KINDS[kind.name]  # type: ignore[attr-defined]
    low, high = measured(kind.name, 0.25), measured(kind.name, 0.5)  # type: ignore[attr-defined]
    assert {"higher": (True, False), "lower": (False, True), "": (False, False)}[low.direction] == (
        better(high, low),
        better(low, high),
    )
    assert str(low)
    assert delta(low, high).startswith("+")
    assert kind.label and kind.meaning  # type: ignore[attr-defined]  # noqa: PT018 - both are texts
    assert kind.needs in ("labels", "original", "")  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["top_0", "top_k5", "top_", "sparkle"])
def test_unknown_names(name: str) -> None:
    assert kind_of(name) is None
    with pytest.raises(OptionError, match=f"no metric '{name}'[^$]*accuracy, "):
        measured(name, 1)


class TestBetter:
    def test_what_is_defined_beats_what_is_not(self) -> None:
        known, unknown = measured("loss", 9), measured("loss", math.nan)
        assert better(known, unknown)
        assert not better(unknown, known)
        assert not better(unknown, unknown)

    def test_equal_is_not_better(self) -> None:
        assert not better(measured("accuracy", 0.5), measured("accuracy", 0.5))

    def test_two_metrics(self) -> None:
        with pytest.raises(OptionError, match="'loss' and 'accuracy' cannot be compared"):
            better(measured("loss", 1), measured("accuracy", 1))


@pytest.mark.parametrize(
    ("name", "before", "after", "text"),
    [
        ("accuracy", 0.9, 0.888, "-1.20 points"),
        ("loss", 0.5, 0.75, "+0.2500 nats"),
        ("file_bytes", 3000, 1000, "-2,000 B"),
        ("mse", 1.0, 1.0, "+0"),
        ("recall", math.nan, 1.0, "not defined"),
    ],
)
def test_delta(name: str, before: float, after: float, text: str) -> None:
    assert delta(measured(name, before), measured(name, after)) == text


def test_scikit_learn_and_the_plotting_come_only_when_they_are_needed() -> None:
    code = (
        "import sys, onnxprune.evaluate, onnxprune.charts; print(*{'sklearn', 'plotly', 'matplotlib'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
