"""How many units of each group go."""

from __future__ import annotations

import numpy as np
import pytest

from onnxprune.automatic.amount import amounts, wanted_after
from onnxprune.automatic.settings import settings_of
from onnxprune.errors import OptionError


@pytest.mark.parametrize("seed", range(20))
def test_exactly_so_many_go_and_every_group_keeps_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sizes = {f"g{k}": int(n) for k, n in enumerate(rng.integers(1, 60, rng.integers(1, 9)))}
    most = sum(n - 1 for n in sizes.values())
    for count in {0, 1, most // 3, most // 2, most, most + 5}:
        gone = amounts(sizes, count)
        assert sum(gone.values()) == min(count, most)
        assert all(0 <= gone[name] < n for name, n in sizes.items())


def test_every_group_loses_the_same_share() -> None:
    assert amounts({"a": 24, "b": 32, "c": 48, "d": 64}, 56) == {"a": 8, "b": 11, "c": 16, "d": 21}
    assert amounts({"a": 30, "b": 60}, 30) == {"a": 10, "b": 20}
    assert amounts({"a": 1, "b": 9}, 5) == {"a": 0, "b": 5}
    assert amounts({}, 3) == {}


def test_a_share_of_what_is_left_and_at_least_one() -> None:
    assert [wanted_after(1 / 3, n) for n in (168, 112, 75, 2)] == [112, 75, 50, 1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "nothing says when to stop"),
        ({"ratio": 0, "iterations": 1}, "ratio: got 0, expected a share between 0 and 1"),
        ({"ratio": "3/2", "iterations": 1}, "ratio: got 3/2"),
        ({"ratio": "1/0", "iterations": 1}, "ratio: got 1/0"),
        ({"ratio": "half", "iterations": 1}, "ratio: got half"),
        ({"strategy": "greedy", "iterations": 1}, "strategy: got 'greedy'"),
        ({"strategy": "manual", "iterations": 1}, "no counts are given"),
        ({"units": "30,20", "max_loss": 0.1}, "strategy auto: counts are given"),
        ({"strategy": "manual", "units": [20, 30]}, r"units: got \[20, 30\], expected fewer each time"),
        ({"strategy": "manual", "units": "20", "ratios": "0.5"}, "counts are given"),
        ({"strategy": "manual", "units": []}, r"units: got \[\], expected a list"),
        ({"strategy": "manual", "units": "20,x"}, "units: got 'x', expected a number"),
        ({"strategy": "bisect", "budget": {"units": 0.5}}, "nothing is required that a smaller model could fail"),
        ({"iterations": 0}, "iterations: got 0, expected a whole number of 1 or more"),
        ({"iterations": 1, "epochs": 1.5}, "epochs: got 1.5"),
        ({"iterations": 1, "prune": {"ratio": 0.5}}, "prune has no option 'ratio' here"),
        ({"iterations": 1, "prune": {"skp": ["a"]}}, r"prune has no option 'skp' here(?s:.*)Nearest: skip"),
        ({"iterations": 1, "finetune": {"epochs": 3}}, "fine-tune has no option 'epochs' here"),
        ({"iterations": 1, "require": 0.9}, "require: got 0.9, expected names and values"),
        ({"iterations": 1, "max_loss": "much"}, "max_loss: got 'much', expected a number"),
        ({"iterations": 1, "reqire": {}}, r"auto has no option 'reqire' here(?s:.*)Nearest: require"),
        ({"iterations": 1, "method": "guess"}, "method: got 'guess'"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, object], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        settings_of(options)


def test_what_decides_and_what_does_not() -> None:
    one = settings_of({"iterations": 2, "ratio": "1/4", "run": "a", "name": "x"})
    assert one.digest == settings_of({"iterations": 2, "ratio": 0.25, "run": "b", "threads": 1}).digest
    assert one.digest != settings_of({"iterations": 2, "ratio": 0.25, "seed": 1}).digest
