"""Learning-rate schedules against their formulas."""

from __future__ import annotations

import math

import pytest

from onnxprune.errors import OptionError
from onnxprune.train.schedules import KINDS, Schedule, parse_schedule

TOTAL = 101


def factors(text: str, total: int = TOTAL) -> list[float]:
    schedule = parse_schedule(text)
    return [schedule.factor(step, total) for step in range(total)]


def test_constant() -> None:
    assert set(factors("constant")) == {1.0}


def test_linear() -> None:
    assert factors("linear") == pytest.approx([1 - k / 101 for k in range(101)])
    assert factors("linear(end=0.5)")[-1] == pytest.approx(0.5 + 0.5 / 101)


def test_cosine() -> None:
    found = factors("cosine(end=0.1)")
    assert found == pytest.approx([0.1 + 0.9 * (1 + math.cos(math.pi * k / 101)) / 2 for k in range(101)])


def test_step() -> None:
    found = factors("step(drop=0.5,parts=4)", 100)
    assert [found.count(value) for value in (1.0, 0.5, 0.25, 0.125)] == pytest.approx([25, 25, 25, 25], abs=1)
    assert found == sorted(found, reverse=True)


def test_one_cycle() -> None:
    found = factors("one-cycle", 100)
    assert found[0] == pytest.approx(1 / 25)
    assert found[30] == pytest.approx(1.0)
    assert 0 < found[-1] < 1e-3
    assert found[:31] == sorted(found[:31])
    assert found[30:] == sorted(found[30:], reverse=True)


@pytest.mark.parametrize("kind", KINDS)
def test_warm_up_comes_before_all_of_them(kind: str) -> None:
    plain, warm = Schedule(kind), Schedule(kind, warmup=0.2)
    assert [warm.factor(k, 100) for k in range(20)] == pytest.approx([(k + 1) / 21 for k in range(20)])
    rest = [plain.factor(k, 80) for k in range(80)]
    assert [warm.factor(k, 100) for k in range(20, 100)] == pytest.approx(rest)


@pytest.mark.parametrize("kind", KINDS)
def test_short_trainings(kind: str) -> None:
    for total in (1, 2, 3):
        assert all(0 <= Schedule(kind, warmup=0.5).factor(k, total) <= 1 for k in range(total))


@pytest.mark.parametrize("text", ["cosine", "cosine(warmup=0.1)", "step(drop=0.5,parts=4)", "one-cycle(rise=0.2)"])
def test_text_and_back(text: str) -> None:
    assert str(parse_schedule(text)) == text
    assert parse_schedule(f" {text} ") == parse_schedule(text)


def test_only_a_constant_rate_does_not_depend_on_the_end() -> None:
    assert [kind for kind in KINDS if not Schedule(kind).depends_on_total] == ["constant"]
    assert Schedule("constant", warmup=0.1).depends_on_total


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("kosine", "there is no schedule 'kosine'"),
        ("", "expected NAME"),
        ("cosine(0.1)", "'0.1' is not option=number"),
        ("cosine(warmup=x)", "'warmup=x' is not option=number"),
        ("cosine(speed=1)", "there is no option 'speed'"),
        ("cosine(warmup=2)", "warmup is 2.0, expected 0 to 0.99"),
        ("step(parts=0)", "parts is 0"),
        ("step(parts=1.5)", "parts is 1.5"),
        ("linear(end=nan)", "end is nan"),
    ],
)
def test_bad_text(text: str, words: str) -> None:
    with pytest.raises(OptionError, match=words.replace("(", r"\(")):
        parse_schedule(text)
